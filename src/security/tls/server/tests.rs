//! What files make, what they do not make, and whom they let in.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::clock::ManualTime;
use crate::revocation::UnixMillis;
use crate::security::testing::{TestAuthority, TestIdentity, between, nowhere, numbered};
use crate::security::tls::{ClientFiles, ClientIdentity, ClientTls};

fn files(identity: &TestIdentity, clients: Option<ClientAuthority>) -> ServerFiles {
    ServerFiles { certificate: identity.certificate.clone(), private_key: identity.private_key.clone(), clients }
}

fn load(files: ServerFiles) -> Result<ServerTls, TlsError> {
    ServerTls::load(files, Clock::system())
}

fn asking(ca: &TestAuthority, is_required: bool) -> Option<ClientAuthority> {
    Some(ClientAuthority { authorities: ca.ca(), revoked: None, is_required })
}

fn client(ca: &TestAuthority, identity: Option<&TestIdentity>) -> ClientTls {
    let identity = identity.map(|identity| ClientIdentity {
        certificate: identity.certificate.clone(),
        private_key: identity.private_key.clone(),
    });
    ClientTls::of(ClientFiles { authorities: Some(ca.ca()), identity })
}

/// A handshake and a byte each way; what went wrong at either end.
async fn meet(server: Arc<ServerConfig>, client: &ClientTls) -> Result<Option<usize>, [String; 2]> {
    let (near, far) = duplex(64 << 10);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(client.current().unwrap());
    let serve = async move {
        let mut stream = TlsAcceptor::from(server).accept(near).await?;
        let certificates = stream.get_ref().1.peer_certificates().map(<[_]>::len);
        stream.write_all(&[7]).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        std::io::Result::Ok(certificates)
    };
    let call = async move {
        let mut stream = connector.connect(name, far).await?;
        stream.read_u8().await?;
        stream.write_all(&[7]).await?;
        stream.flush().await
    };
    match tokio::join!(serve, call) {
        (Ok(certificates), Ok(())) => Ok(certificates),
        (served, called) => {
            Err([served.map(drop), called].map(|end| end.err().map_or_else(String::new, |e| e.to_string())))
        }
    }
}

async fn check_refused(server: Arc<ServerConfig>, client: &ClientTls, expected: &str) {
    let refused = meet(server, client).await.unwrap_err();
    assert!(refused.iter().any(|end| end.contains(expected)), "{expected:?} is missing in {refused:?}");
}

#[tokio::test]
async fn an_authority_that_is_trusted_is_enough() {
    let ca = TestAuthority::new("ca");
    let server = load(files(&ca.issue("server", &["localhost"]), None)).unwrap();
    assert_eq!(meet(server.callers(), &client(&ca, None)).await, Ok(None));
    let foreign = TestAuthority::new("other");
    check_refused(server.callers(), &client(&foreign, None), "UnknownIssuer").await;
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_or_is_anothers_is_refused_by_the_client() {
    let ca = TestAuthority::new("ca");
    for (identity, expected) in [
        (ca.issue_with("expired", &["localhost"], between(2000, 2001)), "expired"),
        (ca.issue_with("early", &["localhost"], between(2100, 2101)), "not valid yet"),
        (ca.issue("named", &["elsewhere.example"]), "elsewhere.example"),
    ] {
        let server = load(files(&identity, None)).unwrap();
        check_refused(server.callers(), &client(&ca, None), expected).await;
    }
}

#[tokio::test]
async fn client_certificates_are_required_optional_or_foreign() {
    let (ca, foreign) = (TestAuthority::new("ca"), TestAuthority::new("foreign"));
    let server = ca.issue("server", &["localhost"]);
    let known = ca.issue("client", &["spiffe://example/client"]);
    let unknown = foreign.issue("client", &["spiffe://example/client"]);
    let required = load(files(&server, asking(&ca, true))).unwrap();
    let optional = load(files(&server, asking(&ca, false))).unwrap();
    assert_eq!(meet(required.callers(), &client(&ca, Some(&known))).await, Ok(Some(1)));
    check_refused(required.callers(), &client(&ca, None), "CertificateRequired").await;
    assert_eq!(meet(optional.callers(), &client(&ca, Some(&known))).await, Ok(Some(1)));
    assert_eq!(meet(optional.callers(), &client(&ca, None)).await, Ok(None));
    for server in [&required, &optional] {
        check_refused(server.callers(), &client(&ca, Some(&unknown)), "UnknownIssuer").await;
        assert_eq!(meet(server.operators(), &client(&ca, None)).await, Ok(None), "operators are asked for none");
    }
    let expired = ca.issue_with("expired", &["spiffe://example/client"], between(2000, 2001));
    check_refused(optional.callers(), &client(&ca, Some(&expired)), "expired").await;
}

#[tokio::test]
async fn a_revoked_certificate_and_an_old_list_let_nobody_in() {
    let ca = TestAuthority::new("ca");
    let server = ca.issue("server", &["localhost"]);
    let (good, bad) = (ca.issue_with("good", &["a"], numbered(1)), ca.issue_with("bad", &["b"], numbered(2)));
    let clients = ClientAuthority { authorities: ca.ca(), revoked: Some(ca.revoke(&[2], 2100)), is_required: true };
    let tls = load(files(&server, Some(clients))).unwrap();
    assert_eq!(meet(tls.callers(), &client(&ca, Some(&good))).await, Ok(Some(1)));
    check_refused(tls.callers(), &client(&ca, Some(&bad)), "Revoked").await;
    ca.revoke(&[2], 2021);
    tls.reload().unwrap();
    check_refused(tls.callers(), &client(&ca, Some(&good)), "revocation list expired").await;
}

#[tokio::test]
async fn nothing_below_tls_1_2_is_spoken() {
    // A ClientHello that offers TLS 1.1 at most: version, random, no session, one suite, no compression, signatures.
    let mut hello = vec![0x01, 0, 0, 51, 0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut record = vec![0x16, 0x03, 0x01, 0, hello.len() as u8];
    record.extend(&hello);
    let ca = TestAuthority::new("ca");
    let server = load(files(&ca.issue("server", &["localhost"]), None)).unwrap();
    let (near, mut far) = duplex(1024);
    far.write_all(&record).await.unwrap();
    let error = TlsAcceptor::from(server.callers()).accept(near).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("Tls12NotOffered"), "{error}");
}

#[tokio::test]
async fn what_was_replaced_is_seen_by_the_next_handshake_and_a_bad_file_by_none() {
    let (ca, next) = (TestAuthority::new("ca"), TestAuthority::new("next"));
    let identity = ca.issue("server", &["localhost"]);
    let tls = load(files(&identity, None)).unwrap();
    let other = next.issue("server", &["localhost"]);
    std::fs::copy(&other.certificate, &identity.certificate).unwrap();
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("does not belong"), "{error}");
    assert_eq!(meet(tls.callers(), &client(&ca, None)).await, Ok(None), "what was in force stays");
    std::fs::copy(&other.private_key, &identity.private_key).unwrap();
    tls.reload().unwrap();
    assert_eq!(meet(tls.callers(), &client(&next, None)).await, Ok(None));
    check_refused(tls.callers(), &client(&ca, None), "UnknownIssuer").await;
}

#[test]
fn each_unusable_file_is_named_with_what_is_wrong() {
    let ca = TestAuthority::new("ca");
    let (one, other) = (ca.issue("one", &["localhost"]), ca.issue("other", &["localhost"]));
    let junk = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let junk_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let junk_crl = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    let good = std::fs::read_to_string(&one.certificate).unwrap();
    let with = |certificate: PathBuf, private_key: PathBuf| ServerFiles { certificate, private_key, clients: None };
    let asking = |authorities: PathBuf, revoked: Option<PathBuf>| {
        files(&one, Some(ClientAuthority { authorities, revoked, is_required: true }))
    };
    for (files, parts) in [
        (with(nowhere().into(), one.private_key.clone()), &["cannot read", "/nowhere/at/all"][..]),
        (with(one.certificate.clone(), other.private_key.clone()), &["other.key", "does not belong", "one.pem"]),
        (with(ca.write("2.pem", format!("{good}{junk}")), one.private_key.clone()), &["number 2", "2.pem"]),
        (with(one.certificate.clone(), ca.write("junk.key", junk_key)), &["private key", "junk.key", "cannot be used"]),
        (asking(ca.write("empty.pem", ""), None), &["empty.pem", "no certificate", "no PEM block"]),
        (asking(ca.write("junk.pem", junk), None), &["number 1", "junk.pem"]),
        (asking(ca.ca(), Some(ca.write("junk.crl", junk_crl))), &["revocation lists", "junk.crl"]),
        (asking(ca.ca(), Some(ca.ca())), &["ca.pem", "no revocation list"]),
    ] {
        let error = load(files).map(drop).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }
}

#[test]
fn the_first_end_of_the_chain_counts() {
    let ca = TestAuthority::new("ca");
    let (leaf, link) =
        (ca.issue_with("leaf", &["a"], between(2020, 2040)), ca.issue_with("link", &["b"], between(2020, 2030)));
    let chain = [&leaf.certificate, &link.certificate].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let certificate = ca.write("chain.pem", chain);
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(1_767_225_600_000)));
    let files = ServerFiles { certificate, private_key: leaf.private_key, clients: None };
    let tls = ServerTls::load(files, clock).unwrap();
    // 2030-12-31T00:00:00Z, and how far that is from 2026-01-01T00:00:00Z.
    assert_eq!(tls.not_after(), UnixSeconds(1_924_905_600));
    assert_eq!(tls.remaining_seconds(), 157_680_000);
}

#[test]
fn a_debug_form_shows_where_keys_are_and_no_key() {
    let ca = TestAuthority::new("ca");
    let tls = load(files(&ca.issue("server", &["localhost"]), None)).unwrap();
    let text = format!("{tls:?}");
    assert!(text.contains("server.key") && text.len() < 500, "{text}");
}
