//! What the door judges principals' tokens by: keys of its own, apart from those that the verification policy brings, so that
//! neither can bring the other to trust somebody.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::revocation::ports::Checks;
use crate::security::IssuerDocuments;
use crate::security::access::Tokens;
use crate::security::tls::ClientFiles;
use crate::token::keys::KeyRing;

/// Checked by this node, with keys that are fetched over TLS that trusts `issuer_ca`; `None`: whom the system trusts.
pub(super) fn tokens(checks: Arc<dyn Checks>, issuer_ca: Option<PathBuf>) -> Tokens {
    let files = ClientFiles { authorities: issuer_ca, ..ClientFiles::default() };
    Tokens { checks, keys: KeyRing::new(Arc::new(IssuerDocuments::trusting(files)), Handle::current()) }
}
