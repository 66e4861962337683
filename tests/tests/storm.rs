//! Two thousand clients come back to a server that was restarted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use restpipe_identity::{Credentials, PeerName, Usage};
use restpipe_pipe::backoff::Backoff;
use restpipe_pipe::dial::dial;
use restpipe_pipe::pb::Hello;
use restpipe_pipe::{NoEvents, PipeConfig};
use restpipe_tests::binary::{Node, Start};
use restpipe_tests::site::{CLIENT, HUB, Site};
use restpipe_tests::stage::own_loopback;
use tokio::sync::{Semaphore, mpsc};

const CLIENTS: usize = 2000;

/// All of them are back this soon after the server is: 15 s, or twice as long
/// as they took at first where a machine is busy with their handshakes alone.
const BACK: Duration = Duration::from_secs(15);
const SLOWER: u32 = 2;

/// The server is away so long: what a process or a pod needs to start again.
const AWAY: Duration = Duration::from_secs(3);

/// Dials are counted in spans of this length.
const BUCKET: Duration = Duration::from_millis(100);

/// The most of all dials that may fall into one span. Clients in step would
/// all be in one; evenly spread, a twentieth is in one, and on a busy machine
/// some more.
const SHARE: f64 = 0.25;

/// At first the clients come so many at a time, as over days.
const AT_FIRST: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Dials,
    Up,
}

/// One client, as a node is one: it dials for ever.
struct Client {
    server: SocketAddr,
    number: usize,
    credentials: Arc<Credentials>,
    first: Arc<Semaphore>,
    up: Arc<AtomicUsize>,
    tell: mpsc::UnboundedSender<(Instant, What)>,
}

impl Client {
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut first = Some(self.first.clone().acquire_owned().await.expect("it is not closed"));
        for epoch in 1.. {
            let _ = self.tell.send((Instant::now(), What::Dials));
            let pause = match self.dial(epoch).await {
                Ok(pipe) => {
                    drop(first.take());
                    self.up.fetch_add(1, Ordering::SeqCst);
                    let _ = self.tell.send((Instant::now(), What::Up));
                    pipe.ended().await;
                    self.up.fetch_sub(1, Ordering::SeqCst);
                    // It had been up for long.
                    backoff.reset();
                    backoff.pause()
                }
                Err(retry_after) => backoff.pause().max(retry_after),
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn dial(&self, epoch: u64) -> Result<restpipe_pipe::PipeHandle, Duration> {
        let hello = Hello {
            instance: format!("i{}", self.number),
            boot_id: (self.number as u128).to_be_bytes().to_vec().into(),
            epoch,
            ..Hello::default()
        };
        let config = PipeConfig { hello, ..PipeConfig::default() };
        let name = PeerName::parse(HUB).expect("a name");
        let dialled = dial(self.server, &name, &self.credentials, config, Arc::new(NoEvents)).await;
        dialled.map(|dialled| dialled.pipe).map_err(|error| error.retry_after())
    }
}

fn server(site: &Site, listen: &str) -> Node {
    let start: Start = site.server().flag("--listen", listen);
    // All come from one address here, which they would not elsewhere.
    start.flag("--max-handshakes-per-source", "64").start()
}

async fn all_up(up: &AtomicUsize, within: Duration) -> Duration {
    let began = Instant::now();
    while up.load(Ordering::SeqCst) < CLIENTS {
        let here = up.load(Ordering::SeqCst);
        assert!(began.elapsed() < within, "{here} clients are there after {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_are_back_within_15_seconds_of_a_restart_and_not_in_step() {
    let site = Site::new();
    let listen = format!("{}:7072", own_loopback());
    let node = server(&site, &listen);
    let address = node.pipe();
    let dir = site.identity("client", CLIENT);
    let credentials = Credentials::load(&dir, Usage::Client, SystemTime::now());
    let credentials = Arc::new(credentials.expect("an identity"));
    let (tell, mut told) = mpsc::unbounded_channel();
    let (up, first) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(AT_FIRST)));
    for number in 0..CLIENTS {
        let (credentials, first) = (credentials.clone(), first.clone());
        let (up, tell) = (up.clone(), tell.clone());
        let client = Client { server: address, number, credentials, first, up, tell };
        tokio::spawn(client.run());
    }
    let at_first = all_up(&up, Duration::from_secs(120)).await;
    node.kill();
    tokio::time::sleep(AWAY).await;
    let node = server(&site, &listen);
    let began = Instant::now();
    let took = all_up(&up, BACK.max(SLOWER * at_first)).await;
    assert_eq!(node.status()["peers"].as_array().map(Vec::len), Some(CLIENTS));
    let mut buckets = [vec![], vec![]].map(|_: Vec<usize>| vec![0_usize; 200]);
    while let Ok((at, what)) = told.try_recv() {
        let Some(since) = at.checked_duration_since(began) else { continue };
        let bucket = (since.as_millis() / BUCKET.as_millis()) as usize;
        buckets[usize::from(what == What::Up)][bucket.min(199)] += 1;
    }
    for (what, counts) in [(What::Dials, &buckets[0]), (What::Up, &buckets[1])] {
        let (all, most) = (counts.iter().sum::<usize>(), counts.iter().max().copied());
        let most = most.unwrap_or_default();
        println!("{what:?}: {all} in {took:?}, at most {most} in {BUCKET:?}");
        assert!(most as f64 <= SHARE * all.max(CLIENTS) as f64, "{what:?}: {counts:?}");
    }
}
