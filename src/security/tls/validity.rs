//! From when until when a certificate holds.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::revocation::UnixSeconds;

/// Later than any time that a certificate can name: years have four digits there.
const END_OF_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1 << 38));
const BEGIN_OF_TIME: UnixTime = UnixTime::since_unix_epoch(Duration::ZERO);

/// The time after which a certificate no longer holds; `None` if it cannot be parsed.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixSeconds> {
    match judged_at(certificate, END_OF_TIME)? {
        Error::CertExpired { not_after, .. } => Some(UnixSeconds(not_after.as_secs())),
        _ => None,
    }
}

/// The time before which a certificate does not hold yet; `None` if it cannot be parsed.
pub(super) fn not_before(certificate: &CertificateDer<'_>) -> Option<UnixSeconds> {
    match judged_at(certificate, BEGIN_OF_TIME)? {
        Error::CertNotValidYet { not_before, .. } => Some(UnixSeconds(not_before.as_secs())),
        Error::BadDer | Error::BadDerTime | Error::InvalidCertValidity => None,
        // It has held for as long as time is counted.
        _ => Some(UnixSeconds(0)),
    }
}

/// What the verifier has against a certificate at a time. It looks at the validity before anything else, and without
/// authorities it always refuses.
fn judged_at(certificate: &CertificateDer<'_>, time: UnixTime) -> Option<Error> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
}
