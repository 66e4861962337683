//! A server's CA as it is stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use restpipe_identity::CertificateAuthority;

/// How long a new root is spread before anything is signed by it, beside of what the nodes report:
/// pods that are just starting may have mounted their Secret before, and kubelet brings changes
/// within 60 s and the lifetime of its cache.
pub const SPREAD_TIME: Duration = Duration::from_secs(120);

/// A server's CA: the root that signs, perhaps the one that will, perhaps those that did.
#[derive(Clone)]
pub struct CaState {
    pub(super) current: Arc<CertificateAuthority>,
}

impl CaState {
    /// The root that signs, for the operator's own leaf too.
    #[must_use]
    pub fn signer(&self) -> &CertificateAuthority {
        &self.current
    }

    /// All roots to trust now: every `ca.crt`.
    #[must_use]
    pub fn bundle(&self) -> String {
        todo!("the body follows")
    }
}

impl fmt::Debug for CaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaState").field("current", &self.current).finish_non_exhaustive()
    }
}
