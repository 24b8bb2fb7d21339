//! TLS for both ends: what is read from files, and the configurations that are made of it.
//!
//! Opens no connection, and never asks for the time but to warn: whether a certificate holds is decided in each handshake.
//!
//! # Invariants
//! - T1. Nothing below TLS 1.2 is spoken, by either end.
//! - T2. What is in force is replaced as a whole, or not at all: a file that cannot be used changes nothing.
//! - T3. Only new handshakes see what was replaced. Open connections go on as they were agreed; [`ServerTls::taken_back`]
//!   tells of those whose client's certificate is not accepted any more.
//! - T4. No session is resumed past a verification: a server that asks for client certificates resumes none, what it
//!   resumes without them ends with every replacement, and a client verifies the server each time.
//! - T5. No key is part of an error or a `Debug` form.

mod client;
mod error;
mod pem;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod validity;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{RootCertStore, SupportedProtocolVersion};

pub use client::{ClientFiles, ClientIdentity, ClientTls};
pub use error::TlsError;
pub use pem::{CRL_BYTES_MAX, PEM_BYTES_MAX, PemError, Wanted};
#[cfg(feature = "server")]
pub use server::{ClientAuthority, ServerFiles, ServerTls, Shown};

/// What is spoken (T1).
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
/// HTTP/2 by its name in the handshake (RFC 9113 §3.2).
const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1 by its name in the handshake (RFC 7301 §6).
#[cfg(feature = "server")]
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The algorithms of both ends.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The authorities in a file.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in pem::certificates(path)?.into_iter().enumerate() {
        store.add(certificate).map_err(|source| TlsError::Certificate {
            path: path.to_owned(),
            block: index + 1,
            source,
        })?;
    }
    Ok(store)
}

/// A chain, and the key of its first certificate.
fn identity(
    certificate: &Path,
    private_key: &Path,
) -> Result<(Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>), TlsError> {
    Ok((pem::certificates(certificate)?, pem::private_key(private_key)?))
}
