//! The node's identity, and its renewal while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_config::IdentitySettings;
use restpipe_identity::{Credentials, CredentialsError, NodeFiles, Stamp, Usage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::presence::{Change, Presence, PresenceEvent};
use crate::telemetry::Recorder;

/// How often the files' marks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the files are read even if their marks are unchanged: a missed
/// change must not outlive a certificate (linkerd/linkerd2#15109).
const READ_EVERY: Duration = Duration::from_secs(60);

/// The newest identity, for whoever makes a connection.
#[derive(Clone)]
pub struct Creds {
    current: watch::Receiver<InUse>,
}

/// The identity in use, and whether there should be a newer one.
#[derive(Clone)]
pub(crate) struct InUse {
    pub(crate) credentials: Arc<Credentials>,
    /// Why the files that are there now are not taken.
    pub(crate) reload_failed: Option<ReloadFailed>,
}

/// Files that are no identity have come in the place of a good one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadFailed {
    /// A fixed word, which a client's server is told too.
    pub reason: String,
    /// A sentence with the cause and the cure.
    pub detail: String,
}

impl std::fmt::Debug for Creds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Creds").field(self.current.borrow().credentials.name()).finish()
    }
}

impl Creds {
    /// The newest.
    pub fn current(&self) -> Arc<Credentials> {
        self.current.borrow().credentials.clone()
    }

    /// The newest, and why it is not a newer one.
    pub(crate) fn in_use(&self) -> InUse {
        self.current.borrow().clone()
    }

    /// Follows renewals, and those that fail.
    pub(crate) fn changes(&self) -> watch::Receiver<InUse> {
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
    publish: watch::Sender<InUse>,
    presence: Presence,
    recorder: Recorder,
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
        presence: Presence,
        recorder: Recorder,
    ) -> Result<Self, CredentialsError> {
        let source = Source::new(settings);
        // The mark before the bytes: a change in between is seen next time.
        let stamp = source.stamp();
        let credentials = source.load(usage)?;
        let mut store = Self::fixed(credentials, presence, recorder);
        store.source = Some(source);
        store.stamp = Some(stamp);
        Ok(store)
    }

    /// An identity from memory, which nobody renews.
    pub fn fixed(credentials: Credentials, presence: Presence, recorder: Recorder) -> Self {
        let usage = credentials.usage();
        let in_use = InUse { credentials: Arc::new(credentials), reload_failed: None };
        let publish = watch::Sender::new(in_use);
        let store = Self { usage, source: None, stamp: None, publish, presence, recorder };
        store.note_expiry();
        store
    }

    /// The newest identity, now and later.
    pub fn creds(&self) -> Creds {
        Creds { current: self.publish.subscribe() }
    }

    fn note_expiry(&self) {
        let not_after = self.publish.borrow().credentials.leaf().not_after;
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
        let failed = self.publish.borrow().reload_failed.is_some();
        if !read_anyway && !failed && self.stamp.as_ref() == Some(&stamp) {
            return;
        }
        let result = source.load(self.usage);
        self.stamp = Some(stamp);
        match result {
            Ok(same) if same.content_hash() == self.credentials().content_hash() => {
                if failed {
                    info!("the identity in use is in its files again");
                    self.publish.send_modify(|in_use| in_use.reload_failed = None);
                    self.tell(Change::CertReload, None);
                }
            }
            Ok(new) => self.take(new),
            Err(error) => self.refuse(&error),
        }
    }

    fn credentials(&self) -> Arc<Credentials> {
        self.publish.borrow().credentials.clone()
    }

    fn take(&self, new: Credentials) {
        info!(name = %new.name(), serial = %new.leaf().serial,
            not_after = %restpipe_identity::rfc3339(new.leaf().not_after), "identity renewed");
        self.recorder.metrics().certificate_reloads.with_label_values(&["ok"]).inc();
        self.publish.send_replace(InUse { credentials: Arc::new(new), reload_failed: None });
        self.note_expiry();
        self.tell(Change::CertReload, None);
    }

    fn refuse(&self, error: &CredentialsError) {
        let failed = ReloadFailed { reason: error.reason().to_owned(), detail: error.to_string() };
        if self.publish.borrow().reload_failed.as_ref() == Some(&failed) {
            return;
        }
        self.recorder.metrics().certificate_reloads.with_label_values(&[error.reason()]).inc();
        warn!(error = %failed.detail, "new identity files are not taken, the old identity stays");
        self.publish.send_modify(|in_use| in_use.reload_failed = Some(failed));
        self.tell(Change::CertReloadFailed, Some(error.reason()));
    }

    fn tell(&self, change: Change, reason: Option<&str>) {
        let reason = reason.map(str::to_owned);
        let event = PresenceEvent::new(change, self.credentials().name().as_str());
        self.presence.tell(PresenceEvent { reason, ..event });
    }
}
