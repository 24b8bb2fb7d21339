//! What is found in PEM files, and what is said where nothing is.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use super::*;
use crate::security::testing::{TestAuthority, nowhere};

/// A key as `openssl ecparam -genkey` writes it: SEC 1, behind its parameters.
const SEC1_KEY: &str = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n\
    -----BEGIN EC PRIVATE KEY-----\n\
    MHcCAQEEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8goAoGCCqGSM49\nAwEHoUQDQgAE\
    UVx3e8ckTZIT+4kr01vNlUuTV9YEkZjMqfHkzyYgPg0A\n-----END EC PRIVATE KEY-----\n";

fn check_error<T>(read: Result<T, PemError>, parts: &[&str]) {
    let message = read.map(drop).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn keys_of_each_form_are_found_beside_other_blocks() {
    let ca = TestAuthority::new("ca");
    let pkcs8 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    let certificate = std::fs::read_to_string(ca.ca()).unwrap();
    for (text, form) in [(pkcs8.as_str(), "Pkcs8"), (SEC1_KEY, "Sec1"), (pkcs1, "Pkcs1")] {
        let path = ca.write("key.pem", format!("{certificate}{text}"));
        let key = private_key(&path).unwrap();
        let found = match key {
            PrivateKeyDer::Pkcs8(_) => "Pkcs8",
            PrivateKeyDer::Sec1(_) => "Sec1",
            PrivateKeyDer::Pkcs1(_) => "Pkcs1",
            _ => "another",
        };
        assert_eq!(found, form);
        assert_eq!(certificates(&path).unwrap().len(), 1);
    }
}

#[test]
fn a_file_without_what_is_wanted_says_what_it_holds() {
    let ca = TestAuthority::new("ca");
    let certificate = ca.ca();
    check_error(private_key(&certificate), &["ca.pem", "no private key", "EC PRIVATE KEY", "it holds CERTIFICATE"]);
    let key = ca.issue("server", &["localhost"]).private_key;
    check_error(certificates(&key), &["server.key", "no certificate", "it holds PRIVATE KEY"]);
    check_error(revocation_lists(&key), &["server.key", "no revocation list (X509 CRL)"]);
    let text = ca.write("notes", "no block at all");
    check_error(certificates(&text), &["notes", "it holds no PEM block"]);
}

#[test]
fn an_encrypted_key_is_named_as_such() {
    let ca = TestAuthority::new("ca");
    let label = "ENCRYPTED PRIVATE KEY";
    let path = ca.write("key.pem", format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n"));
    check_error(private_key(&path), &["key.pem", "is encrypted", "must not be"]);
}

#[test]
fn a_damaged_block_is_named_by_its_number_and_not_repeated() {
    let ca = TestAuthority::new("ca");
    let certificate = std::fs::read_to_string(ca.ca()).unwrap();
    let damaged = certificate.replace("MII", "!!!");
    let path = ca.write("chain.pem", format!("{certificate}{damaged}"));
    check_error(certificates(&path), &["PEM block number 2", "chain.pem", "not base64"]);
    let cut = ca.write("cut.key", &SEC1_KEY[..SEC1_KEY.len() - 30]);
    check_error(private_key(&cut), &["PEM block number 1", "cut.key", "END line is missing"]);
    let odd = ca.write("odd.key", "-----BEGIN PRIVATE KEY sEcReT\nsEcReT\n");
    check_error(private_key(&odd), &["PEM block number 1", "BEGIN line"]);
    let message = format!("{:?}", private_key(&odd).unwrap_err());
    assert!(!message.contains("sEcReT"), "{message}");
}

#[test]
fn what_cannot_be_read_is_named() {
    check_error(certificates(nowhere()), &["cannot read /nowhere/at/all"]);
    let ca = TestAuthority::new("ca");
    let path = ca.path("large.pem");
    std::fs::File::create(&path).unwrap().set_len(PEM_BYTES_MAX + 1).unwrap();
    check_error(certificates(&path), &["large.pem is too large", "1048576 bytes"]);
    std::fs::File::create(&path).unwrap().set_len(CRL_BYTES_MAX + 1).unwrap();
    check_error(revocation_lists(&path), &["large.pem is too large", "16777216 bytes"]);
}
