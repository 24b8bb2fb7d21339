//! Files that change, and files that cannot be used.

use super::*;
use crate::security::testing::{TestAuthority, nowhere};

#[test]
fn the_same_files_make_one_configuration_and_changed_ones_another() {
    let ca = TestAuthority::new("ca");
    let tls = ClientTls::of(ClientFiles { authorities: Some(ca.ca()), identity: None });
    let first = tls.current().unwrap();
    assert!(Arc::ptr_eq(&first, &tls.current().unwrap()));
    let next = std::fs::read(TestAuthority::new("next").ca()).unwrap();
    let path = ca.write("ca.pem", &next);
    let second = tls.current().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    std::fs::write(&path, "nothing").unwrap();
    assert!(Arc::ptr_eq(&second, &tls.current().unwrap()), "what was in force stays");
    std::fs::remove_file(&path).unwrap();
    assert!(Arc::ptr_eq(&second, &tls.current().unwrap()));
    std::fs::write(&path, next).unwrap();
    assert!(!Arc::ptr_eq(&second, &tls.current().unwrap()));
}

#[test]
fn what_never_could_be_used_is_an_error() {
    let ca = TestAuthority::new("ca");
    let missing = ClientTls::of(ClientFiles { authorities: Some(nowhere().into()), identity: None });
    assert!(matches!(missing.current(), Err(TlsError::Pem(_))));
    let [one, other] = ["one", "other"].map(|name| ca.issue(name, &["a"]));
    let identity = ClientIdentity { certificate: one.certificate, private_key: other.private_key };
    let mismatched = ClientTls::of(ClientFiles { authorities: Some(ca.ca()), identity: Some(identity) });
    assert!(matches!(mismatched.current(), Err(TlsError::KeyMismatch { .. })));
}
