//! `rescind journal export`: the audit trail as lines of JSON, from a running server or from its files.

use std::path::{Path, PathBuf};

use clap::Args;

use super::lines::History;
use super::offline::failure;
use crate::authority::backup::MANIFEST;
use crate::cli::connection::Servers;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{note, say};
use crate::journal::{Checksum, JournalFile, Linked, RECORD_BYTES_MAX, Record, link};
use crate::revocation::ports::{AuditHead, OperateError};
use crate::revocation::{Ancestor, Epoch, Revision};
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::export_journal_response::Part;
use crate::wire::{self, pb};

/// The largest part that is read, in bytes: one long record, or some short ones.
const PART_BYTES_MAX: usize = RECORD_BYTES_MAX + (1 << 20);
/// How much of a file is read at a time, in bytes and in records.
const READ_BYTES: usize = 1 << 20;
const READ_RECORDS: usize = 4096;

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// The first revision; from the oldest that is kept without this.
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Read the files in this data directory or backup, whether or not a server runs there, instead of asking a server.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    servers: Servers,
}

impl Export {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let from = Revision(self.from.unwrap_or(0));
        let head = match &self.data_dir {
            Some(dir) => from_files(dir, from)?,
            None => from_server(&self.servers, from).await?,
        };
        if let Some(head) = head {
            note(&format!("exported through {head}"));
        }
        Ok(Exit::Done)
    }
}

/// Says the last record.
fn from_files(dir: &Path, from: Revision) -> Result<Option<AuditHead>, Failure> {
    let file = JournalFile::open(dir, dir.join(MANIFEST).is_file()).map_err(|error| failure(&error))?;
    let history = History { epoch: file.identity().epoch, ancestors: file.identity().ancestors.clone() };
    let reader = file.into_reader();
    let (head, oldest) =
        reader.head().and_then(|head| Ok((head, reader.oldest()?))).map_err(|error| failure(&error))?;
    let mut next = if from == Revision(0) { oldest } else { from };
    if next > head.next() {
        return Err(failure(&OperateError::PastEnd { head }));
    }
    let mut last = None;
    while next <= head {
        let some = reader.linked(next, READ_BYTES, READ_RECORDS).map_err(|error| failure(&error))?;
        for linked in some.iter().take_while(|linked| linked.record.revision <= head) {
            last = Some(tell(&history, linked));
        }
        next = Revision(next.0 + some.len().max(1) as u64);
    }
    Ok(last)
}

async fn from_server(servers: &Servers, from: Revision) -> Result<Option<AuditHead>, Failure> {
    let mut client = AdminServiceClient::new(servers.connect().await?).max_decoding_message_size(PART_BYTES_MAX);
    let request = pb::ExportJournalRequest { from_revision: from.0 };
    let mut parts = client.export_journal(request).await?.into_inner();
    let mut incoming = Incoming::default();
    while let Some(message) = parts.message().await? {
        for linked in incoming.take(message)? {
            let history = incoming.history()?;
            tell(history, &linked);
        }
    }
    incoming.finish()
}

fn tell(history: &History, linked: &Linked) -> AuditHead {
    history.lines(linked).iter().for_each(say);
    AuditHead { revision: linked.record.revision, checksum: linked.checksum }
}

/// An export on its way: every record must follow from the one before.
#[derive(Debug, Default)]
struct Incoming {
    begun: Option<(History, Revision)>,
    last: Option<AuditHead>,
}

impl Incoming {
    fn history(&self) -> Result<&History, Failure> {
        self.begun.as_ref().map(|(history, _)| history).ok_or_else(unexpected)
    }

    fn take(&mut self, message: pb::ExportJournalResponse) -> Result<Vec<Linked>, Failure> {
        match (message.part.ok_or_else(unexpected)?, &self.begun) {
            (Part::Begin(begin), None) => {
                self.begun = Some(begun(&begin).ok_or_else(unexpected)?);
                Ok(Vec::new())
            }
            (Part::Records(records), Some(_)) => records.records.into_iter().map(|one| self.record(&one)).collect(),
            _ => Err(unexpected()),
        }
    }

    fn record(&mut self, exported: &pb::ExportedRecord) -> Result<Linked, Failure> {
        let record = Record::decode(&exported.bytes).map_err(|error| failure(&error))?;
        let checksum: Checksum = exported.checksum[..].try_into().map_err(|_| unexpected())?;
        if let Some(last) = self.last {
            let follows = record.revision == last.revision.next()
                && link(&last.checksum, record.revision, &exported.bytes) == checksum;
            if !follows {
                let what = format!("revision {} does not follow from the one before", record.revision);
                return Err(Failure::cannot(format!("the export cannot be trusted: {what}")));
            }
        }
        self.last = Some(AuditHead { revision: record.revision, checksum });
        Ok(Linked { checksum, record })
    }

    fn finish(self) -> Result<Option<AuditHead>, Failure> {
        let (_, head) = self.begun.ok_or_else(|| Failure::unreachable("the export ended before it began"))?;
        match self.last {
            Some(last) if last.revision != head => {
                let what = format!("the export ended at revision {}, not at {head}", last.revision);
                Err(Failure::unreachable(format!("{what}; go on with --from {}", last.revision.next())))
            }
            last => Ok(last),
        }
    }
}

fn begun(begin: &pb::ExportBegin) -> Option<(History, Revision)> {
    let head = wire::position(begin.head.as_ref()?).ok()?;
    let ancestor = |message: &pb::ExportAncestor| {
        let epoch = Epoch { generation: message.generation, id: message.epoch[..].try_into().ok()? };
        Some(Ancestor { epoch, last: Revision(message.last_revision) })
    };
    let ancestors = begin.ancestors.iter().map(ancestor).collect::<Option<_>>()?;
    let epoch = Epoch { generation: begin.generation, id: head.epoch };
    Some((History { epoch, ancestors }, head.revision))
}

fn unexpected() -> Failure {
    Failure::cannot("the server sent an export that this program does not understand")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::sample;
    use crate::revocation::Position;
    use crate::revocation::ports::{ExportPart, ExportedRecord};

    fn parts() -> Vec<ExportPart> {
        let head = Position { epoch: [1; 16], revision: Revision(12) };
        let mut before = [9; 32];
        let records: Vec<ExportedRecord> = sample::one_of_each()
            .iter()
            .map(|record| {
                let bytes = record.encode().unwrap();
                before = link(&before, record.revision, &bytes);
                ExportedRecord { checksum: before, bytes }
            })
            .collect();
        let (first, rest) = records.split_at(4);
        let begin = ExportPart::Begin { head, generation: 1, ancestors: Vec::new() };
        vec![begin, ExportPart::Records(first.to_vec()), ExportPart::Records(rest.to_vec())]
    }

    fn receive(parts: Vec<ExportPart>) -> Result<(usize, Option<AuditHead>), Failure> {
        let mut incoming = Incoming::default();
        let mut count = 0;
        for part in parts {
            count += incoming.take(wire::export_part(part))?.len();
        }
        Ok((count, incoming.finish()?))
    }

    #[test]
    fn an_export_is_whole_or_says_so() {
        let (count, head) = receive(parts()).unwrap();
        assert_eq!((count, head.unwrap().revision), (12, Revision(12)));
        let short = receive(parts()[..2].to_vec()).unwrap_err();
        assert_eq!(short.exit, Exit::Unreachable);
        assert!(short.message.ends_with("go on with --from 5"), "{}", short.message);
        assert!(receive(parts()[1..].to_vec()).is_err() && receive(Vec::new()).is_err());
    }

    #[test]
    fn a_record_that_was_changed_on_the_way_is_not_told() {
        let changed = |change: fn(&mut Vec<ExportedRecord>)| {
            let mut all = parts();
            if let ExportPart::Records(records) = &mut all[2] {
                change(records);
            }
            receive(all).unwrap_err().message
        };
        assert!(changed(|records| records[1].checksum[0] ^= 1).contains("revision 6 does not follow"));
        assert!(changed(|records| drop(records.remove(2))).contains("revision 8 does not follow"));
        assert!(changed(|records| records.swap(0, 1)).contains("revision 6 does not follow"));
        assert!(changed(|records| records[2].bytes[20] ^= 1).contains("revision 7 does not follow"));
    }
}
