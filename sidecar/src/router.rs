//! Who is connected, and which pipe a call takes.

mod allowed;
mod arrivals;
mod refusals;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use restpipe_pipe::clock::now;
use restpipe_pipe::pb::{GoAwayReason, Hello};
use restpipe_pipe::{PipeHandle, Role};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

pub use allowed::{Absent, Allowed};
pub use refusals::Refusals;
pub use view::PeerView;
pub(crate) use view::hex;

use self::arrivals::Arrivals;
use crate::gateway::path::Target;

/// The name under which a client keeps the pipe to its server.
pub const SERVER: &str = "server";

/// Names of peers that were here once and are remembered to tell "away" from
/// "unknown".
const MAX_REMEMBERED: usize = 65_536;

/// One pipe, and whose it is.
#[derive(Debug)]
pub struct Peer {
    /// Under what it is called: a client's hostname, [`SERVER`], or nothing
    /// for an operator, which nobody calls and no table shows.
    pub key: Option<Arc<str>>,
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
    /// Serial number of its certificate, in hex.
    pub serial: String,
    /// SHA-256 fingerprint, in hex, of the root that its chain leads to.
    pub root: Option<String>,
    /// When it came.
    pub since: SystemTime,
    /// Which of its dialler's pipes this is.
    pub epoch: u64,
    /// What its app would not take.
    pub refusals: Refusals,
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
    arrivals: Arrivals,
    epochs: AtomicU64,
    started: Instant,
}

#[derive(Debug, Default)]
struct Table {
    peers: BTreeMap<Arc<str>, Vec<Arc<Peer>>>,
    /// The same pipes by where their peers are, so that a call to an address
    /// does not look at all of them.
    addresses: HashMap<IpAddr, Vec<Arc<Peer>>>,
    /// How many pipes that is.
    pipes: usize,
    operators: Vec<Arc<Peer>>,
    /// What pipes are told that come while the node stops.
    draining: Option<String>,
    seen: HashSet<Arc<str>>,
    allowed: Allowed,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                table: RwLock::default(),
                changed: watch::Sender::new(0),
                arrivals: Arrivals::default(),
                epochs: AtomicU64::new(0),
                started: now(),
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

    /// The pipe for `target` with the least in flight, and one whose app has
    /// just taken no connection only where there is no other.
    pub fn pick(&self, target: &Target) -> Option<Arc<Peer>> {
        self.read(|table| {
            let usable = |peer: &&Arc<Peer>| peer.pipe.is_usable();
            let least = |peer: &&Arc<Peer>| {
                let pausing = peer.refusals.is_pausing(now);
                (pausing, peer.pipe.is_replacing(), peer.pipe.in_flight())
            };
            let pipes = match target {
                Target::Server => table.peers.get(SERVER),
                Target::Client(name) => table.peers.get(name),
                Target::Address(address) => table.addresses.get(&address.to_canonical()),
            };
            let mut usable = pipes?.iter().filter(usable);
            let first = usable.next()?;
            // Mostly there is one, and nothing to be compared.
            let Some(second) = usable.next() else { return Some(first.clone()) };
            [first, second].into_iter().chain(usable).min_by_key(least).cloned()
        })
    }

    /// [`Self::pick`], as soon as there is one.
    pub async fn pick_when_there(&self, target: &Target) -> Arc<Peer> {
        let target = match target {
            Target::Address(address) => &Target::Address(address.to_canonical()),
            named => named,
        };
        self.shared.arrivals.wait(target, || self.pick(target)).await
    }

    /// Whether it makes sense to wait for `target`.
    pub fn absence(&self, target: &Target) -> Absent {
        let Target::Client(name) = target else { return Absent::Away };
        self.read(|table| {
            let Table { seen, allowed, .. } = table;
            if let Err(absent) = allowed.check(name) {
                return absent;
            }
            if allowed.known.is_some() {
                return Absent::Away;
            }
            let may_return = now() - self.shared.started < Self::RETURN_WINDOW;
            if seen.contains(name) || may_return { Absent::Away } else { Absent::Unknown }
        })
    }

    /// Whether the names that may connect are listed, so that an unknown one
    /// is known to be unknown.
    pub fn knows_all_names(&self) -> bool {
        self.read(|table| table.allowed.known.is_some())
    }

    /// Whether a peer of that name may connect.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, name: &str) -> Result<(), Absent> {
        self.read(|table| table.allowed.check(name))
    }

    /// Changes who may connect, and ends the pipes of those who may not.
    pub fn allow(&self, allowed: Allowed) {
        let gone: Vec<_> = self.write(|table| {
            table.allowed = allowed;
            let Table { peers, allowed, .. } = table;
            let barred = |name: &str| allowed.check(name).err().filter(|_| name != SERVER);
            peers.iter().filter_map(|(name, pipes)| Some((barred(name)?, pipes.clone()))).collect()
        });
        for (why, pipes) in gone {
            pipes.iter().for_each(|peer| peer.turn_away(why));
        }
    }

    /// A number for a pipe that is about to be dialled; never the same twice.
    pub fn next_epoch(&self) -> u64 {
        self.shared.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a pipe; what it takes the place of is ended or left to drain.
    pub fn register(&self, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        let (replaced, draining) = self.write(|table| {
            let pipes = match &peer.key {
                None => &mut table.operators,
                Some(key) => {
                    if table.seen.len() < MAX_REMEMBERED {
                        table.seen.insert(key.clone());
                    }
                    table.pipes += 1;
                    let address = peer.address.ip().to_canonical();
                    table.addresses.entry(address).or_default().push(peer.clone());
                    table.peers.entry(key.clone()).or_default()
                }
            };
            // Only who accepts pipes has to find out which are left: a dialler
            // drains its own.
            let same = |old: &&Arc<Peer>| {
                old.pipe.role() == Role::Acceptor && old.hello.instance == peer.hello.instance
            };
            let replaced: Vec<_> = pipes.iter().filter(same).cloned().collect();
            pipes.push(peer.clone());
            (replaced, table.draining.clone())
        });
        if let Some(key) = &peer.key {
            let by_name =
                if **key == *SERVER { Target::Server } else { Target::Client(key.clone()) };
            self.shared.arrivals.tell(&by_name);
            self.shared.arrivals.tell(&Target::Address(peer.address.ip().to_canonical()));
        }
        for old in replaced {
            replace(&old, &peer);
        }
        if let Some(detail) = draining {
            peer.pipe.go_away(GoAwayReason::Draining, &detail, Duration::ZERO);
        }
        peer
    }

    /// Takes a pipe out.
    pub fn unregister(&self, peer: &Arc<Peer>) {
        self.write(|table| match &peer.key {
            None => table.operators.retain(|other| !Arc::ptr_eq(other, peer)),
            Some(key) => {
                let address = peer.address.ip().to_canonical();
                remove(&mut table.addresses, &address, peer);
                let peers = &mut table.peers;
                let Some(pipes) = peers.get_mut(key) else { return };
                let before = pipes.len();
                pipes.retain(|other| !Arc::ptr_eq(other, peer));
                table.pipes -= before - pipes.len();
                if pipes.is_empty() {
                    peers.remove(key);
                }
            }
        });
    }

    /// All pipes, those of operators apart.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.read(|table| table.peers.values().flatten().cloned().collect())
    }

    /// The pipes of operators.
    pub fn operators(&self) -> Vec<Arc<Peer>> {
        self.read(|table| table.operators.clone())
    }

    /// How many pipes there are, those of operators apart.
    pub fn len(&self) -> usize {
        self.read(|table| table.pipes)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every peer to open no more streams, also those that are only
    /// about to be there.
    pub fn drain(&self, detail: &str) {
        self.write(|table| table.draining = Some(detail.to_owned()));
        for peer in self.peers().into_iter().chain(self.operators()) {
            peer.pipe.go_away(GoAwayReason::Draining, detail, Duration::ZERO);
        }
    }

    /// Ends every pipe at once.
    pub fn close(&self, why: &str) {
        for peer in self.peers().into_iter().chain(self.operators()) {
            peer.pipe.close(why);
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

fn remove(addresses: &mut HashMap<IpAddr, Vec<Arc<Peer>>>, address: &IpAddr, peer: &Arc<Peer>) {
    let Some(pipes) = addresses.get_mut(address) else { return };
    pipes.retain(|other| !Arc::ptr_eq(other, peer));
    if pipes.is_empty() {
        addresses.remove(address);
    }
}
