//! A small authority for tests, and the files it makes.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// An authority with a folder for what it signs.
pub(crate) struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub(crate) struct TestIdentity {
    pub(crate) certificate: PathBuf,
    pub(crate) private_key: PathBuf,
}

impl TestAuthority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into its folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.write("ca.pem", self.issuer.pem())
    }

    /// A certificate for these names, valid now.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> TestIdentity {
        self.issue_with(file, names, |_| {})
    }

    /// The same, with something special about it.
    pub(crate) fn issue_with(
        &self,
        file: &str,
        names: &[&str],
        special: impl FnOnce(&mut CertificateParams),
    ) -> TestIdentity {
        let (certificate, key) = self.sign(names, special);
        let private_key = self.write(&format!("{file}.key"), key.serialize_pem());
        std::fs::set_permissions(&private_key, Permissions::from_mode(0o600)).unwrap();
        TestIdentity { certificate: self.write(&format!("{file}.pem"), certificate.pem()), private_key }
    }

    fn sign(&self, names: &[&str], special: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())));
        special(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A list that takes these serial numbers back, good until the end of `year`.
    pub(crate) fn revoke(&self, serials: &[u64], year: i32) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("crl.pem", params.signed_by(&self.issuer).unwrap().pem().unwrap())
    }
}

/// Gives a certificate this serial number.
pub(crate) fn numbered(serial: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from(serial))
}

/// Lets a certificate hold in these years only.
pub(crate) fn between(first: i32, last: i32) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        params.not_before = date_time_ymd(first, 1, 1);
        params.not_after = date_time_ymd(last, 12, 31);
    }
}

/// A path that is no file.
pub(crate) fn nowhere() -> &'static Path {
    Path::new("/nowhere/at/all")
}
