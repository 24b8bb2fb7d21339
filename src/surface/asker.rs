//! Who asks: as the door let him in, and from where.

use std::sync::Arc;

use http::Extensions;

use super::ask::Refusal;
use super::door::Door;
use super::peer::Peer;
use crate::revocation::ports::Caller;
use crate::security::access::{Denial, DenialReason, Identity};
use crate::security::call::Call;

/// What a caller showed of himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShownBy {
    /// Nothing: nobody was asked.
    Nothing,
    /// A certificate.
    Certificate,
    /// A credential, in `Authorization`.
    Credential,
}

/// Whoever sent a request. Cheap to clone: what it takes to be a [`Caller`] is put together for those calls that need one.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    who: Who,
    peer: Peer,
}

#[derive(Clone, Debug)]
enum Who {
    /// This server asks nobody who he is.
    Anybody,
    /// Let in.
    Known(Arc<Identity>, Door),
}

impl Asker {
    /// Of a server that asks nobody.
    pub(crate) fn anybody(peer: Peer) -> Self {
        Self { who: Who::Anybody, peer }
    }

    pub(super) fn known(identity: Arc<Identity>, door: Door, peer: Peer) -> Self {
        Self { who: Who::Known(identity, door), peer }
    }

    /// Who the door noted on a request.
    ///
    /// # Errors
    /// When it came in some other way.
    pub(crate) fn of(extensions: &Extensions) -> Result<Self, Refusal> {
        extensions.get().cloned().ok_or_else(|| Refusal::Denied(Box::new(Denial::unseen(DenialReason::Missing))))
    }

    /// As the audit trail is to know him.
    pub(super) fn caller(&self) -> Caller {
        match &self.who {
            Who::Anybody => self.peer.anonymous(),
            Who::Known(identity, _) => Caller {
                principal: identity.name().to_owned(),
                peer: self.peer.to_string(),
                grant: Arc::clone(identity.grant()),
            },
        }
    }

    /// Counts writes against his grant.
    ///
    /// # Errors
    /// When that is more than it allows in a minute.
    pub(super) fn count_writes(&self, count: usize, call: Call) -> Result<(), Refusal> {
        match &self.who {
            Who::Anybody => Ok(()),
            Who::Known(identity, door) => door.count_writes(identity, count, call, self.peer),
        }
    }

    /// Notes that his grant does not reach what he was to write.
    pub(super) fn note_out_of_scope(&self, call: Call) {
        if let Who::Known(identity, door) = &self.who {
            door.note(&Denial::scope(identity).of(call), self.peer);
        }
    }

    /// By what he proved to be who he is.
    pub(super) fn shown_by(&self) -> ShownBy {
        match &self.who {
            Who::Anybody => ShownBy::Nothing,
            Who::Known(identity, _) if identity.is_by_certificate() => ShownBy::Certificate,
            Who::Known(..) => ShownBy::Credential,
        }
    }

    /// From where.
    pub(crate) fn peer(&self) -> Peer {
        self.peer
    }

    /// Who he proved to be, and the door that still knows him; `None` when nobody was asked.
    pub(crate) fn identity(&self) -> Option<(&Arc<Identity>, &Door)> {
        match &self.who {
            Who::Anybody => None,
            Who::Known(identity, door) => Some((identity, door)),
        }
    }
}
