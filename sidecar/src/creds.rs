//! The node's identity, and its renewal while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_config::IdentitySettings;
use restpipe_identity::{Credentials, CredentialsError, NodeFiles, Stamp, Usage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::Recorder;

/// How often the files' marks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the files are read even if their marks are unchanged: a missed
/// change must not outlive a certificate (linkerd/linkerd2#15109).
const READ_EVERY: Duration = Duration::from_secs(60);

/// The newest identity, for whoever makes a connection.
#[derive(Clone)]
pub struct Creds {
    current: watch::Receiver<Arc<Credentials>>,
}

impl std::fmt::Debug for Creds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Creds").field(self.current.borrow().name()).finish()
    }
}

impl Creds {
    /// The newest.
    pub fn current(&self) -> Arc<Credentials> {
        self.current.borrow().clone()
    }

    /// Follows renewals.
    pub fn changes(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.clone()
    }
}

/// Where an identity comes from.
#[derive(Clone, Debug)]
enum Source {
    Dir(PathBuf),
    Files { cert: PathBuf, key: PathBuf, ca: PathBuf },
}

impl Source {
    fn new(settings: &IdentitySettings) -> Self {
        let IdentitySettings { dir, cert, key, ca } = settings.clone();
        let in_dir = cert == dir.join(restpipe_identity::TLS_CERT)
            && key == dir.join(restpipe_identity::TLS_KEY)
            && ca == dir.join(restpipe_identity::CA_CERT);
        if in_dir { Self::Dir(dir) } else { Self::Files { cert, key, ca } }
    }

    fn load(&self, usage: Usage) -> Result<Credentials, CredentialsError> {
        let now = SystemTime::now();
        match self {
            Self::Dir(dir) => Credentials::load(dir, usage, now),
            Self::Files { cert, key, ca } => {
                let NodeFiles { cert, key, ca } = NodeFiles::read_each(cert, key, ca)?;
                Credentials::from_pem(&cert, &key, &ca, usage, now)
            }
        }
    }

    fn stamp(&self) -> Stamp {
        match self {
            Self::Dir(dir) => Stamp::of(dir),
            Self::Files { cert, key, ca } => Stamp::of_each(cert, key, ca),
        }
    }
}

/// Keeps the newest identity published.
pub struct CredsStore {
    usage: Usage,
    source: Option<Source>,
    stamp: Option<Stamp>,
    publish: watch::Sender<Arc<Credentials>>,
    recorder: Recorder,
    last_error: Option<String>,
}

impl std::fmt::Debug for CredsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredsStore").field("source", &self.source).finish_non_exhaustive()
    }
}

impl CredsStore {
    /// Loads the identity that the settings name.
    ///
    /// # Errors
    /// If it is none that a node may have; the error says why.
    pub fn load(
        settings: &IdentitySettings,
        usage: Usage,
        recorder: Recorder,
    ) -> Result<Self, CredentialsError> {
        let source = Source::new(settings);
        // The mark before the bytes: a change in between is seen next time.
        let stamp = source.stamp();
        let credentials = source.load(usage)?;
        let mut store = Self::fixed(credentials, recorder);
        store.source = Some(source);
        store.stamp = Some(stamp);
        Ok(store)
    }

    /// An identity from memory, which nobody renews.
    pub fn fixed(credentials: Credentials, recorder: Recorder) -> Self {
        let usage = credentials.usage();
        let publish = watch::Sender::new(Arc::new(credentials));
        let store = Self { usage, source: None, stamp: None, publish, recorder, last_error: None };
        store.note_expiry();
        store
    }

    /// The newest identity, now and later.
    pub fn creds(&self) -> Creds {
        Creds { current: self.publish.subscribe() }
    }

    fn note_expiry(&self) {
        let not_after = self.publish.borrow().leaf().not_after;
        let seconds = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.recorder.metrics().certificate_not_after.set(seconds.as_secs_f64());
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.source.is_none() {
            return stop.cancelled().await;
        }
        let mut looks: u32 = 0;
        let reads_every = (READ_EVERY.as_secs() / LOOK_EVERY.as_secs()) as u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            looks += 1;
            self.look(looks.is_multiple_of(reads_every));
        }
    }

    /// Takes new files if there are any and they are good. What is bad is
    /// said once, and the old identity stays.
    pub fn look(&mut self, read_anyway: bool) {
        let Some(source) = &self.source else { return };
        let stamp = source.stamp();
        if !read_anyway && self.last_error.is_none() && self.stamp.as_ref() == Some(&stamp) {
            return;
        }
        let result = source.load(self.usage);
        self.stamp = Some(stamp);
        let reloads = &self.recorder.metrics().certificate_reloads;
        match result {
            Ok(new) if new.content_hash() == self.publish.borrow().content_hash() => {
                self.last_error = None
            }
            Ok(new) => {
                info!(name = %new.name(), serial = %new.leaf().serial,
                    not_after = %restpipe_identity::rfc3339(new.leaf().not_after), "identity renewed");
                reloads.with_label_values(&["ok"]).inc();
                self.last_error = None;
                self.publish.send_replace(Arc::new(new));
                self.note_expiry();
            }
            Err(error) => {
                let text = error.to_string();
                if self.last_error.as_ref() != Some(&text) {
                    reloads.with_label_values(&[error.reason()]).inc();
                    warn!(error = %text, "new identity files are not taken, the old identity stays");
                }
                self.last_error = Some(text);
            }
        }
    }
}
