//! The task of one pod: dial, watch, and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use restpipe_pipe::backoff::{Backoff, HEALTHY};
use restpipe_pipe::dial::{DialError, Dialled, dial};
use restpipe_pipe::pb::Hello;
use restpipe_pipe::tls::trusted_roots;
use restpipe_pipe::{NoEvents, PipeConfig};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Context;
use super::board::Board;
use super::identity::{Config, Identity, Issuer};
use super::watch::{Ended, Live};
use super::words;
use crate::seen::{Key, Trouble};

/// A pipe that lived this long and is to be replaced is replaced at once; others wait their turn,
/// or a pod could have us dial without end.
const SETTLED: Duration = Duration::from_secs(5);

/// A pod that asks to be left alone is, but no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Streams that a server may open on the operator's pipe. It has nothing to ask.
const MAX_STREAMS: u32 = 1;

/// One pod of a server.
pub(super) struct Pod {
    pub(super) context: Arc<Context>,
    pub(super) key: Key,
    pub(super) address: SocketAddr,
    pub(super) board: Arc<Board>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) stop: CancellationToken,
}

impl Pod {
    /// Keeps a pipe up until it is stopped.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        while !self.stop.is_cancelled() {
            let config = self.config.borrow().clone();
            let started = Instant::now();
            let ended = self.once(&config).await;
            let lived = started.elapsed();
            if lived >= HEALTHY {
                backoff.reset();
            }
            let pause = match ended {
                Ended::Stopped => return,
                Ended::Replace(rest) if lived >= SETTLED => rest,
                Ended::Replace(rest) | Ended::Lost(rest) => backoff.pause().max(rest),
            };
            // What another identity can do is not put off.
            let mut configs = self.config.clone();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause.min(LONGEST_REST)) => {}
                () = identity_changes(&mut configs, &config) => {}
            }
        }
    }

    /// One pipe, from its dial to its end.
    async fn once(&self, config: &Arc<Config>) -> Ended {
        let identity = match self.issuer.identity(config, Instant::now()) {
            Ok(identity) => identity,
            Err(trouble) => {
                self.fails("own-identity", trouble);
                return Ended::Lost(Duration::ZERO);
            }
        };
        let dialled = tokio::select! {
            () = self.stop.cancelled() => return Ended::Stopped,
            dialled = self.dial(&identity) => dialled,
        };
        match dialled {
            Ok(Dialled { pipe, verified, .. }) => {
                let root = verified.root.unwrap_or_default();
                let live = Live { pod: self, pipe, serial: verified.leaf.serial, root };
                live.watch(config, identity.renew_at).await
            }
            Err(error) => {
                let detail =
                    format!("the server's pod {} was not reached: {error}", self.board.pod());
                self.fails(error.reason(), words::trouble(error.reason(), &detail));
                Ended::Lost(error.retry_after())
            }
        }
    }

    async fn dial(&self, identity: &Identity) -> Result<Dialled, DialError> {
        let Identity { credentials, server_name, .. } = identity;
        let hello = Hello {
            instance: self.context.instance.clone(),
            boot_id: self.context.boot_id.to_vec().into(),
            epoch: self.context.epochs.fetch_add(1, Ordering::Relaxed) + 1,
            trusted_roots: trusted_roots(credentials),
            software: concat!("restpipe-operator/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Hello::default()
        };
        let budget = self.context.budget.clone();
        let config = PipeConfig { hello, max_streams: MAX_STREAMS, budget, ..Default::default() };
        dial(self.address, server_name, credentials, config, Arc::new(NoEvents)).await
    }

    /// Puts on the board that the pod was not reached.
    pub(super) fn fails(&self, word: &'static str, trouble: Trouble) {
        let (server, pod, address) = (&self.key, self.board.pod(), self.address);
        debug!(%server, pod, %address, reason = word, detail = %trouble.detail, "server's pod not reached");
        self.context.metrics.dial_failed(word);
        self.board.fails(trouble);
    }

    /// Says that a pipe that was up has ended.
    pub(super) fn ended(&self, word: &str, detail: &str) {
        let (server, pod, address) = (&self.key, self.board.pod(), self.address);
        info!(%server, pod, %address, reason = word, detail, "pipe to a server's pod has ended");
    }
}

/// Waits until pipes are to be made in another way than by `config`.
pub(super) async fn identity_changes(
    configs: &mut watch::Receiver<Arc<Config>>,
    config: &Arc<Config>,
) {
    // Who changes it drops the pod's task with it.
    if configs.wait_for(|now| !now.same_identity(config)).await.is_err() {
        std::future::pending().await
    }
}
