//! An export of the journal as messages.

use super::pb;
use super::value::position_message;
use crate::revocation::Ancestor;
use crate::revocation::ports::{ExportPart, ExportedRecord};

/// One part of an export.
#[must_use]
pub fn export_part(part: ExportPart) -> pb::ExportJournalResponse {
    use pb::export_journal_response::Part;
    let part = match part {
        ExportPart::Begin { head, generation, ancestors } => Part::Begin(pb::ExportBegin {
            head: Some(position_message(head)),
            generation,
            ancestors: ancestors.iter().map(ancestor).collect(),
        }),
        ExportPart::Records(records) => {
            Part::Records(pb::ExportedRecords { records: records.into_iter().map(record).collect() })
        }
    };
    pb::ExportJournalResponse { part: Some(part) }
}

fn ancestor(ancestor: &Ancestor) -> pb::ExportAncestor {
    let Ancestor { epoch, last } = ancestor;
    pb::ExportAncestor { epoch: epoch.id.to_vec(), generation: epoch.generation, last_revision: last.0 }
}

fn record(ExportedRecord { checksum, bytes }: ExportedRecord) -> pb::ExportedRecord {
    pb::ExportedRecord { checksum: checksum.to_vec(), bytes }
}
