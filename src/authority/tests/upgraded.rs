//! What the program wrote before it knew of credentials is taken over as it is.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::durable::{START, Server, fixture, item};
use crate::authority::audit::verify;
use crate::journal::CredentialAction;
use crate::journal::contract::sample::credential;
use crate::revocation::{Claims, Policy, Revision, UnixSeconds};

/// Five records of format 1, written by the program of that time.
const FORMAT_1: &str = include_str!("format_1.sql");

fn format_1(dir: &Path) {
    Connection::open(dir.join("journal.sqlite")).unwrap().execute_batch(FORMAT_1).unwrap();
}

fn revokes(server: &Server, pairs: &[(&str, &str)]) -> bool {
    let mut claims = Claims::new();
    pairs.iter().for_each(|(name, value)| claims.push(name, value, false));
    claims.iat = Some(UnixSeconds(START.0 / 1000 - 100));
    server.set.check(&claims, START.seconds()).hit.is_some()
}

#[test]
fn a_data_directory_of_format_1_opens_and_goes_on() {
    let (data, time) = fixture();
    format_1(data.path());
    let before = verify(data.path(), None).unwrap().journal;
    assert_eq!((before.format, before.head.revision), (1, Revision(5)), "looking at it upgrades nothing");
    assert_eq!(verify(data.path(), None).unwrap().journal, before);
    let server = Server::start(data.path(), &time, Policy::default());
    assert!(revokes(&server, &[("sub", "alice"), ("iss", "https://idp.example")]));
    assert!(revokes(&server, &[("sub", "bob")]) && !revokes(&server, &[("sub", "bob"), ("sid", "s1")]));
    assert!(!revokes(&server, &[("jti", "t-1"), ("iss", "https://idp.example")]));
    server.change_credentials(CredentialAction::Create(Box::new(credential(Revision(1), 1)))).unwrap();
    drop(server);
    let after = verify(data.path(), Some(before.head)).unwrap().journal;
    assert_eq!(after.format, 3);
    assert!(after.head.revision > before.head.revision, "the same records, and more");
    assert_eq!(Server::start(data.path(), &time, Policy::default()).credentials.list().len(), 1);
}

#[test]
fn snapshots_of_earlier_formats_hold_neither_credentials_nor_policies_and_are_read() {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    for n in 0.. {
        assert!(n < 200, "no snapshot was cut");
        if !server.published.images.lock().is_empty() {
            break;
        }
        server.revoke((0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
    }
    let digest = server.set.digest();
    drop(server);
    let folder = data.path().join("snapshots");
    let path = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&path).unwrap();
    // Magic ‖ format ‖ … ‖ empty blocks that end the credentials and the policies ‖ footer: four counts and the hash.
    let (body, footer) = bytes.split_at(bytes.len() - 64);
    assert_eq!((&body[body.len() - 16..], &footer[16..32]), (&[0; 16][..], &[0; 16][..]), "neither");
    for format in [1u32, 2] {
        let lacks = 3 - format as usize;
        let mut old = body[..body.len() - 8 * lacks].to_vec();
        old[16..20].copy_from_slice(&format.to_le_bytes());
        let hash = Sha256::digest(&old);
        old.extend_from_slice(&footer[..32 - 8 * lacks]);
        old.extend_from_slice(&hash);
        fs::write(&path, old).unwrap();
        assert_eq!(verify(data.path(), None).unwrap().snapshots.len(), 1, "format {format}");
        let server = Server::start(data.path(), &time, Policy::default());
        assert_eq!(server.set.digest(), digest, "format {format}");
    }
}
