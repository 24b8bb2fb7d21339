//! A server that knows whom it lets in: principals by credentials, who come and go while it runs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rescind::security::credential::{Minted, mint};
use rescind::security::{BearerSource, ClientSecurity};
use rescind::wire::upstream::GrpcUpstream;
use tempfile::TempDir;

use super::server::{Server, command};

/// Who may do everything, in every file.
const ADMIN: &str = "ops";

/// The server, and the credentials of those it knows or knew.
pub(crate) struct House {
    pub(crate) server: Server,
    minted: BTreeMap<String, Minted>,
    dir: TempDir,
}

impl House {
    /// Knows an administrator, and those named with their role.
    pub(crate) fn open(principals: &[(&str, &str)]) -> Self {
        Self::open_with(principals, "", &[])
    }

    /// The same with more lines of configuration, and something in its environment.
    pub(crate) fn open_with(principals: &[(&str, &str)], lines: &str, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("rescind.toml");
        let file = dir.path().join("principals.toml");
        std::fs::write(&config, format!("[authentication]\nprincipals = '{}'\n{lines}", file.display())).unwrap();
        let mut server = Server::prepare(None, &["--config", config.to_str().unwrap()]);
        let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        server.set_environment(pairs.collect());
        let mut house = Self { server, minted: BTreeMap::new(), dir };
        house.list(principals);
        house.server.restart();
        house
    }

    /// The principals from now on: at once, unless they are only to be found.
    pub(crate) fn let_in(&mut self, principals: &[(&str, &str)], is_told: bool) {
        self.list(principals);
        if is_told {
            let pid = self.server.pid().to_string();
            assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        }
    }

    fn list(&mut self, principals: &[(&str, &str)]) {
        let mut text = String::new();
        for (name, role) in [(ADMIN, "admin")].iter().chain(principals) {
            let hashed = self.minted(name).hashed();
            text.push_str(&format!("[[principal]]\nname = '{name}'\ncredential = '{hashed}'\nroles = ['{role}']\n"));
        }
        let part = self.path("principals.part");
        std::fs::write(&part, text).unwrap();
        std::fs::rename(part, self.path("principals.toml")).unwrap();
    }

    /// The credential of a principal of the file; the same however often he comes and goes.
    pub(crate) fn minted(&mut self, name: &str) -> &Minted {
        self.minted.entry(name.to_owned()).or_insert_with(|| mint().unwrap())
    }

    /// The same in a file.
    pub(crate) fn credential(&mut self, name: &str) -> PathBuf {
        let text = self.minted(name).text.to_string();
        self.keep(&format!("{name}.credential"), &text)
    }

    /// Writes a secret into a file of its owner.
    pub(crate) fn keep(&self, file: &str, text: &str) -> PathBuf {
        let (part, path) = (self.path("secret.part"), self.path(file));
        std::fs::write(&part, text).unwrap();
        std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(part, &path).unwrap();
        path
    }

    /// A path in a folder of its own.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Runs the command line as the administrator.
    pub(crate) fn admin(&mut self, arguments: &[&str]) -> Output {
        self.as_principal(ADMIN, arguments)
    }

    /// Runs the command line as this principal.
    pub(crate) fn as_principal(&mut self, name: &str, arguments: &[&str]) -> Output {
        let credential = self.credential(name);
        let mut command = command(arguments);
        command.args(["--server", &self.server.url(), "--credential-file"]).arg(credential);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Makes a credential of the journal, in a file.
    pub(crate) fn create(&mut self, name: &str, flags: &[&str]) -> PathBuf {
        let path = self.path(&format!("{name}.created"));
        let _ = std::fs::remove_file(&path);
        let create = ["credential", "create", "--name", name, "--out", path.to_str().unwrap()];
        check_done(&self.admin(&[&create, flags].concat()));
        path
    }

    /// The server, for a subscription that shows what is in this file.
    pub(crate) fn upstream(&self, credential: &Path) -> GrpcUpstream {
        let security = ClientSecurity::of(Default::default(), Some(BearerSource::File(credential.to_owned())));
        GrpcUpstream::secured(&self.server.url().parse().unwrap(), Arc::new(security)).unwrap()
    }
}

/// Asserts that a command did what it was told.
pub(crate) fn check_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
