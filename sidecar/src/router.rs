//! Who is connected, and which pipe a call takes.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use restpipe_pipe::pb::{GoAwayReason, Hello};
use restpipe_pipe::{PipeHandle, PipeState, Role};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::sync::watch;

use crate::gateway::path::Target;
use crate::presence::{Change, PresenceEvent};

/// The name under which a client keeps the pipe to its server.
pub const SERVER: &str = "server";

/// Names of peers that were here once and are remembered to tell "away" from
/// "unknown".
const MAX_REMEMBERED: usize = 65_536;

/// One pipe, and whose it is.
#[derive(Debug)]
pub struct Peer {
    /// Under what it is called: a client's hostname, or [`SERVER`].
    pub key: Arc<str>,
    /// The verified hostname.
    pub hostname: Arc<str>,
    /// The pipe.
    pub pipe: PipeHandle,
    /// What the peer said of itself.
    pub hello: Arc<Hello>,
    /// Where it is, as this side sees it.
    pub address: SocketAddr,
    /// The chain it showed, to be looked at again when the roots change.
    pub chain: Vec<CertificateDer<'static>>,
    /// When its certificate ends.
    pub not_after: SystemTime,
    /// When it came.
    pub since: SystemTime,
    /// Which of its dialler's pipes this is.
    pub epoch: u64,
}

/// What the tables show of a peer.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct PeerView {
    /// The verified hostname.
    pub hostname: String,
    /// What it calls itself.
    pub instance: String,
    /// Where it is.
    pub address: String,
    /// `open`, `replacing` or `draining`.
    pub state: String,
    /// When it came, in RFC 3339.
    pub since: String,
    /// Calls to it that wait for an answer.
    pub in_flight: usize,
    /// Events of it that are being handled.
    pub serving: usize,
    /// When its certificate ends, in RFC 3339.
    pub certificate_not_after: String,
    /// Its software.
    pub software: String,
}

/// Why there is no pipe for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It was here, or may come any moment.
    Away,
    /// Nobody of that name is known here.
    Unknown,
    /// It is suspended.
    Suspended,
}

/// Which names may connect and be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowed {
    /// All names there are; empty: whoever has a certificate.
    pub known: HashSet<String>,
    /// Names that are cut off.
    pub suspended: HashSet<String>,
}

/// All pipes of a node; clones share them.
#[derive(Clone, Debug)]
pub struct Router {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: RwLock<Table>,
    changed: watch::Sender<u64>,
    epochs: AtomicU64,
    started: Instant,
}

#[derive(Debug, Default)]
struct Table {
    peers: BTreeMap<Arc<str>, Vec<Arc<Peer>>>,
    seen: HashSet<Arc<str>>,
    allowed: Allowed,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                table: RwLock::default(),
                changed: watch::Sender::new(0),
                epochs: AtomicU64::new(0),
                started: Instant::now(),
            }),
        }
    }
}

impl Router {
    /// Clients of a server that was just started come back within this time:
    /// the longest pause between two dials, a few times.
    const RETURN_WINDOW: Duration = Duration::from_secs(20);

    fn read<R>(&self, look: impl FnOnce(&Table) -> R) -> R {
        look(&self.shared.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let result = change(&mut self.shared.table.write().unwrap_or_else(PoisonError::into_inner));
        self.shared.changed.send_modify(|version| *version += 1);
        result
    }

    /// Follows additions and removals.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// The pipe for `target` with the least in flight.
    pub fn pick(&self, target: &Target) -> Option<PipeHandle> {
        self.read(|table| {
            let usable = |peer: &&Arc<Peer>| peer.pipe.is_usable();
            let least = |peer: &&Arc<Peer>| (is_replacing(&peer.pipe), peer.pipe.in_flight());
            let pipe = match target {
                Target::Server => table.peers.get(SERVER)?.iter().filter(usable).min_by_key(least),
                Target::Client(name) => {
                    table.peers.get(name)?.iter().filter(usable).min_by_key(least)
                }
                Target::Address(address) => table
                    .peers
                    .values()
                    .flatten()
                    .filter(|peer| same_address(peer.address.ip(), *address))
                    .filter(usable)
                    .min_by_key(least),
            };
            pipe.map(|peer| peer.pipe.clone())
        })
    }

    /// Whether it makes sense to wait for `target`.
    pub fn absence(&self, target: &Target) -> Absent {
        let Target::Client(name) = target else { return Absent::Away };
        self.read(|table| {
            let Table { seen, allowed, .. } = table;
            if allowed.suspended.contains(name.as_ref()) {
                return Absent::Suspended;
            }
            if !allowed.known.is_empty() {
                let known = allowed.known.contains(name.as_ref());
                return if known { Absent::Away } else { Absent::Unknown };
            }
            let may_return = self.shared.started.elapsed() < Self::RETURN_WINDOW;
            if seen.contains(name) || may_return { Absent::Away } else { Absent::Unknown }
        })
    }

    /// Whether the names that may connect are listed, so that an unknown one
    /// is known to be unknown.
    pub fn knows_all_names(&self) -> bool {
        self.read(|table| !table.allowed.known.is_empty())
    }

    /// Whether a peer of that name may connect.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, name: &str) -> Result<(), Absent> {
        self.read(|table| {
            let Allowed { known, suspended } = &table.allowed;
            if suspended.contains(name) {
                Err(Absent::Suspended)
            } else if known.is_empty() || known.contains(name) {
                Ok(())
            } else {
                Err(Absent::Unknown)
            }
        })
    }

    /// Changes who may connect, and ends the pipes of those who may not.
    pub fn allow(&self, allowed: Allowed) {
        let gone: Vec<_> = self.write(|table| {
            table.allowed = allowed;
            let Table { peers, allowed: Allowed { known, suspended }, .. } = table;
            let barred = |name: &str| {
                name != SERVER
                    && (suspended.contains(name) || !(known.is_empty() || known.contains(name)))
            };
            peers
                .iter()
                .filter(|(name, _)| barred(name))
                .flat_map(|(_, pipes)| pipes.clone())
                .collect()
        });
        for peer in gone {
            let detail = "this hostname is suspended or was removed at the server";
            peer.pipe.go_away(GoAwayReason::Suspended, detail, Duration::ZERO);
        }
    }

    /// A number for a pipe that is about to be dialled; never the same twice.
    pub fn next_epoch(&self) -> u64 {
        self.shared.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a pipe; what it takes the place of is ended or left to drain.
    pub fn register(&self, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        let replaced = self.write(|table| {
            if table.seen.len() < MAX_REMEMBERED {
                table.seen.insert(peer.key.clone());
            }
            let pipes = table.peers.entry(peer.key.clone()).or_default();
            // Only who accepts pipes has to find out which are left: a dialler
            // drains its own.
            let same = |old: &&Arc<Peer>| {
                old.pipe.role() == Role::Acceptor && old.hello.instance == peer.hello.instance
            };
            let replaced: Vec<_> = pipes.iter().filter(same).cloned().collect();
            pipes.push(peer.clone());
            replaced
        });
        for old in replaced {
            replace(&old, &peer);
        }
        peer
    }

    /// Takes a pipe out.
    pub fn unregister(&self, peer: &Arc<Peer>) {
        self.write(|table| {
            if let Some(pipes) = table.peers.get_mut(&peer.key) {
                pipes.retain(|other| !Arc::ptr_eq(other, peer));
                if pipes.is_empty() {
                    table.peers.remove(&peer.key);
                }
            }
        });
    }

    /// All pipes.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.read(|table| table.peers.values().flatten().cloned().collect())
    }

    /// How many pipes there are.
    pub fn len(&self) -> usize {
        self.read(|table| table.peers.values().map(Vec::len).sum())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every peer to open no more streams.
    pub fn drain(&self, detail: &str) {
        for peer in self.peers() {
            peer.pipe.go_away(GoAwayReason::Draining, detail, Duration::ZERO);
        }
    }
}

/// What becomes of an older pipe of the same instance.
fn replace(old: &Arc<Peer>, new: &Arc<Peer>) {
    let same_process = old.hello.boot_id == new.hello.boot_id;
    if same_process && new.hello.live_epochs.contains(&old.epoch) {
        // Its dialler has made a second pipe before it drains the first.
        return;
    }
    if same_process {
        old.pipe.close("the peer has dialled anew");
    } else {
        // Its process has ended and does not know it here, or two live nodes
        // call themselves the same.
        let detail = "another process with this instance name has connected";
        old.pipe.go_away(GoAwayReason::Replaced, detail, Duration::ZERO);
        old.pipe.close("another process of the instance has connected");
    }
}

fn is_replacing(pipe: &PipeHandle) -> bool {
    matches!(&*pipe.state().borrow(), PipeState::Replacing(_))
}

fn same_address(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

impl Peer {
    /// That it is connected, since when it is.
    pub fn as_event(&self) -> PresenceEvent {
        let mut event = PresenceEvent::new(Change::Connect, &self.hostname);
        event.at = humantime::format_rfc3339_millis(self.since).to_string();
        event.instance = Some(self.hello.instance.clone());
        event.address = Some(self.address.to_string());
        event
    }

    /// What the tables show.
    pub fn view(&self) -> PeerView {
        let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
        let state = match &*self.pipe.state().borrow() {
            PipeState::Opening => "opening",
            PipeState::Open => "open",
            PipeState::Replacing(_) => "replacing",
            PipeState::Draining(_) => "draining",
            PipeState::Ended(_) => "ended",
        };
        PeerView {
            hostname: self.hostname.to_string(),
            instance: self.hello.instance.clone(),
            address: self.address.to_string(),
            state: state.to_owned(),
            since: time(self.since),
            in_flight: self.pipe.in_flight(),
            serving: self.pipe.serving(),
            certificate_not_after: time(self.not_after),
            software: self.hello.software.clone(),
        }
    }
}
