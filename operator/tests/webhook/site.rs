//! A webhook in this process, with a certificate made for the test, and a client that sends it
//! whatever bytes it is given.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::{Registry, TextEncoder};
use restpipe_identity::{
    CertificateAuthority, IssuedLeaf, LeafRequest, PeerName, Roots, Usage, provider,
};
use restpipe_operator::inject::{InjectOptions, Links, Role, Standing};
use restpipe_operator::webhook::{Certificate, CertificateStore, Metrics, Server};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// As the controller names it.
pub(crate) const NAME: &str = "restpipe-webhook.restpipe-system.svc";

struct Good;

impl Links for Good {
    fn standing(&self, _role: Role, _namespace: &str, name: &str) -> Standing {
        assert!(name != "panic", "the test asked for it");
        Standing::Good
    }
}

pub(crate) fn ca() -> CertificateAuthority {
    CertificateAuthority::create("webhook ca", Duration::from_secs(86_400), SystemTime::now())
        .expect("a CA")
}

pub(crate) fn leaf(ca: &CertificateAuthority, lifetime: Duration) -> IssuedLeaf {
    let name = PeerName::parse(NAME).expect("a name");
    let now = SystemTime::now();
    ca.issue(LeafRequest { name, usage: Usage::Server, lifetime, now }).expect("a leaf")
}

/// A directory as kubelet keeps it: versions, and a link to the one that counts.
pub(crate) struct Files {
    pub(crate) dir: TempDir,
    versions: u32,
}

impl Files {
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), versions: 0 }
    }

    pub(crate) fn put(&mut self, leaf: &IssuedLeaf, ca_pem: &str) {
        self.put_bytes(
            leaf.cert_pem.as_bytes(),
            leaf.key_pem.expose().as_bytes(),
            ca_pem.as_bytes(),
        );
    }

    pub(crate) fn put_bytes(&mut self, cert: &[u8], key: &[u8], ca: &[u8]) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let dir = self.dir.path().join(&version);
        fs::create_dir(&dir).expect("a version");
        for (name, bytes) in [("tls.crt", cert), ("tls.key", key), ("ca.crt", ca)] {
            fs::write(dir.join(name), bytes).expect("a file");
        }
        let next = self.dir.path().join("..data_tmp");
        symlink(&version, &next).expect("a link");
        fs::rename(&next, self.dir.path().join("..data")).expect("renamed");
    }
}

pub(crate) struct Site {
    pub(crate) files: Files,
    pub(crate) ca: CertificateAuthority,
    pub(crate) store: CertificateStore,
    pub(crate) certificate: Certificate,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    registry: Registry,
}

impl Site {
    /// A webhook whose certificate is of `site.ca`.
    pub(crate) async fn start() -> Self {
        let (mut files, ca) = (Files::empty(), ca());
        files.put(&leaf(&ca, Duration::from_secs(3600)), ca.cert_pem());
        Self::with(files, ca).await
    }

    pub(crate) async fn with(files: Files, ca: CertificateAuthority) -> Self {
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
        let store = CertificateStore::new(files.dir.path().to_owned(), metrics.clone());
        let certificate = store.certificate();
        let options =
            InjectOptions::new("restpipe:1", None, ["10m", "32Mi", "128Mi"]).expect("good options");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let server = Server::new(options, Arc::new(Good), metrics, certificate.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(listener, stop.clone()));
        Self { files, ca, store, certificate, address, stop, running, registry }
    }

    pub(crate) fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("text")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address, self.ca.cert_pem())
    }
}

/// Trusts what an API server would by its `caBundle`.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, bundle: &str) -> Self {
        let roots = Roots::from_pem(bundle.as_bytes()).expect("roots").valid_at(SystemTime::now());
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    pub(crate) async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        self.tls.connect(ServerName::try_from(NAME).expect("a name"), stream).await
    }

    /// The status and body that `bytes` are answered with; status 0 if they are not.
    pub(crate) async fn send(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await.expect("TLS");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        // The end without a word is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(status == 0 || head.contains("connection: close"), "{head}");
        (status, body.to_owned())
    }

    /// The same for a whole request with this body.
    pub(crate) async fn post(&self, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /inject?timeout=5s HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat()).await
    }
}
