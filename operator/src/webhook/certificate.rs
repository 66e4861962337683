//! The serving certificate: a Secret that the controller renews and kubelet keeps in a directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_identity::{
    BundleError, ChainError, FilesError, MAX_CHAIN, NodeFiles, Part, PemError, Roots, Stamp,
    Unreadable, Usage, certificates, inspect, provider, rfc3339, verify,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Metrics;

/// How often the files' marks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Every so many looks the files are read even if their marks are unchanged, once a minute: a
/// missed change must not outlive a certificate (linkerd2#15109).
const READ_EVERY: u32 = 30;

/// Why files are not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A file is not PEM as it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// `ca.crt` is not usable.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The certificate is none.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It is not in its time, not for a server, or not of the CA in `ca.crt`.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There is no key that TLS can use, or it is another certificate's.
    #[error("the key (tls.key) does not go with the certificate (tls.crt): {0}")]
    Key(String),
}

/// A certificate that passed all checks.
struct Loaded {
    config: Arc<ServerConfig>,
    serial: String,
    not_after: SystemTime,
    hash: String,
}

impl Loaded {
    fn from_files(files: &NodeFiles, now: SystemTime) -> Result<Self, CertificateError> {
        let chain = certificates(&files.cert, Part::Certificate, MAX_CHAIN)?;
        let roots = Roots::from_pem(&files.ca)?;
        verify(&chain, &roots, Usage::Server, now)?;
        let leaf = inspect(&chain[0])?;
        let bad_key = |error: String| CertificateError::Key(error);
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|e| bad_key(e.to_string()))?;
        let config =
            server_config(provider(), chain, key).map_err(|error| bad_key(error.to_string()))?;
        let (serial, not_after) = (leaf.serial, leaf.not_after);
        Ok(Self { config: Arc::new(config), serial, not_after, hash: files.content_hash() })
    }
}

/// TLS 1.3 only, as every API server speaks it; each connection with a handshake of its own, so
/// that none outlives a certificate.
fn server_config(
    provider: Arc<CryptoProvider>,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    // Fails if the key is not the certificate's.
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The newest certificate, for whoever makes a connection.
#[derive(Clone)]
pub struct Certificate(watch::Receiver<Option<Arc<Loaded>>>);

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let serial = self.0.borrow().as_ref().map(|loaded| loaded.serial.clone());
        f.debug_tuple("Certificate").field(&serial).finish()
    }
}

impl Certificate {
    /// For the next connection.
    pub(super) fn config(&self) -> Option<Arc<ServerConfig>> {
        self.0.borrow().as_ref().map(|loaded| loaded.config.clone())
    }

    /// Whether an API server could be answered now, or a sentence why not.
    ///
    /// # Errors
    /// If there is no certificate, or it has ended.
    pub fn check_ready(&self) -> Result<(), String> {
        match &*self.0.borrow() {
            None => Err("there is no certificate yet: the controller makes it".to_owned()),
            Some(loaded) if loaded.not_after < SystemTime::now() => Err(format!(
                "the certificate has ended at {}: the controller should have renewed it",
                rfc3339(loaded.not_after)
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Follows the files and keeps the newest good certificate.
pub struct CertificateStore {
    dir: PathBuf,
    stamp: Option<Stamp>,
    last_error: Option<String>,
    publish: watch::Sender<Option<Arc<Loaded>>>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl CertificateStore {
    /// Looks into `dir` at once. It may be empty: the controller may come later.
    #[must_use]
    pub fn new(dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        let publish = watch::Sender::new(None);
        let mut store = Self { dir, stamp: None, last_error: None, publish, metrics };
        store.look(true);
        store
    }

    /// The newest certificate, now and later.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        Certificate(self.publish.subscribe())
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks: u32 = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            looks = looks.wrapping_add(1);
            self.look(looks.is_multiple_of(READ_EVERY));
        }
    }

    /// Takes new files if there are any and they are good. What is bad is said once, and the old
    /// certificate stays.
    pub fn look(&mut self, read_anyway: bool) {
        // The mark before the bytes: a change in between is seen next time.
        let stamp = Stamp::of(&self.dir);
        let same = self.stamp.as_ref() == Some(&stamp);
        // Bad files are tried again, because time alone can make them good.
        if same && !read_anyway && self.last_error.is_none() {
            return;
        }
        self.stamp = Some(stamp);
        match self.load() {
            Ok(None) => self.last_error = None,
            Ok(Some(new)) => {
                info!(serial = %new.serial, not_after = %rfc3339(new.not_after), "serving certificate taken");
                let end = new.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.metrics.certificate_not_after.set(end.as_secs_f64());
                self.metrics.reload(true, 1);
                self.last_error = None;
                self.publish.send_replace(Some(Arc::new(new)));
            }
            Err(error) => self.failed(&error.to_string()),
        }
    }

    /// None if the files are those that are served already.
    fn load(&self) -> Result<Option<Loaded>, CertificateError> {
        let files = NodeFiles::read(&self.dir)?;
        let hash = files.content_hash();
        if self.publish.borrow().as_ref().is_some_and(|current| current.hash == hash) {
            return Ok(None);
        }
        Loaded::from_files(&files, SystemTime::now()).map(Some)
    }

    fn failed(&mut self, error: &str) {
        if self.last_error.as_deref() == Some(error) {
            return;
        }
        self.metrics.reload(false, 1);
        let dir = self.dir.display();
        if self.publish.borrow().is_some() {
            warn!(%dir, error, "new certificate files are not taken, the old certificate stays");
        } else {
            warn!(%dir, error, "there is no certificate to serve with yet");
        }
        self.last_error = Some(error.to_owned());
    }
}
