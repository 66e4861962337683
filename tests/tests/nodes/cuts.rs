//! A real node over real TLS whose pipe is cut at every byte of one call, in
//! both directions of calls. (The protocol alone, over more kinds of calls:
//! `cut` among the pipe's own tests.)

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use restpipe_identity::{Credentials, PeerName, Usage};
use restpipe_pipe::dial::dial;
use restpipe_pipe::pb::{Header, Hello, ReplyHead, RequestHead, Verb};
use restpipe_pipe::{Incoming, Outcome, PipeConfig, PipeHandle, Service};
use restpipe_tests::binary::SOON;
use restpipe_tests::history::{History, Id, Run};
use restpipe_tests::http::{Ask, At};
use restpipe_tests::site::{HUB, Site};
use restpipe_tests::stage::Stage;
use restpipe_tests::traffic::{RUN, of_answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Calls that are cut at the same time, each with a client of its own.
const WORKERS: usize = 4;

/// The bytes of a body in each direction.
const BODY: usize = 20;

/// The sides of a link: what the client sends, and what the server sends.
const SIDES: [usize; 2] = [0, 1];

/// A TCP connection that can be cut.
struct Link {
    carried: [AtomicUsize; 2],
    /// It is cut when a side has sent so many more bytes.
    left: [AtomicUsize; 2],
}

impl Link {
    fn new() -> Arc<Self> {
        let whole = || AtomicUsize::new(usize::MAX);
        Arc::new(Self { carried: Default::default(), left: [whole(), whole()] })
    }

    fn carried(&self) -> [usize; 2] {
        self.carried.each_ref().map(|side| side.load(Ordering::SeqCst))
    }

    async fn carry(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("an option");
        }
        let (from_client, mut to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        tokio::select! {
            () = self.pump(0, from_client, &mut to_server) => {}
            () = self.pump(1, from_server, &mut to_client) => {}
        }
    }

    async fn pump(&self, side: usize, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let left = self.left[side].load(Ordering::SeqCst);
            let pass = read.min(left);
            if to.write_all(&buffer[..pass]).await.is_err() {
                return;
            }
            self.carried[side].fetch_add(pass, Ordering::SeqCst);
            if left != usize::MAX {
                self.left[side].store(left - pass, Ordering::SeqCst);
                if pass == left {
                    return;
                }
            }
        }
    }
}

/// The client's own handler.
struct Noting(History);

impl Service for Noting {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let id = event.head.args.first().and_then(|id| id.parse().ok()).expect("an id");
        let run = self.0.started(id);
        self.0.ended(run);
        let header = Header { name: RUN.to_owned(), value: run.to_string().into() };
        let head = ReplyHead { status: 200, headers: vec![header], ..ReplyHead::default() };
        // Who is gone is not answered.
        let _ = event.responder.reply(head, vec![b'x'; BODY].into());
        Box::pin(std::future::ready(()))
    }
}

/// Which of the two asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Client,
    Server,
}

/// One client that dials through a relay of its own, again and again.
struct Worker {
    asker: Asker,
    name: String,
    credentials: Credentials,
    relay: TcpListener,
    server: SocketAddr,
    gateway: At,
    history: History,
    ids: Arc<AtomicU64>,
}

impl Worker {
    async fn new(stage: &Stage, asker: Asker, index: usize, ids: &Arc<AtomicU64>) -> Self {
        let name = format!("c{index}");
        Self {
            asker,
            credentials: identity(&stage.site, &name),
            name,
            relay: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            server: stage.server().pipe(),
            gateway: stage.routes()[1].at.clone(),
            history: stage.history.clone(),
            ids: ids.clone(),
        }
    }

    async fn connected(&self) -> (PipeHandle, Arc<Link>) {
        let number = self.ids.fetch_add(1, Ordering::SeqCst);
        let hello = Hello {
            instance: format!("{}-{number}", self.name),
            boot_id: number.to_be_bytes().repeat(2).into(),
            ..Hello::default()
        };
        let (config, name) =
            (PipeConfig { hello, ..PipeConfig::default() }, PeerName::parse(HUB).expect("a name"));
        let service = Arc::new(Noting(self.history.clone()));
        let relay = self.relay.local_addr().expect("bound");
        let accept = async {
            let (client, _) = self.relay.accept().await.expect("a connection");
            let server = TcpStream::connect(self.server).await.expect("the server listens");
            let link = Link::new();
            tokio::spawn(link.clone().carry(client, server));
            link
        };
        let (dialled, link) =
            tokio::join!(dial(relay, &name, &self.credentials, config, service), accept);
        (dialled.expect("a pipe").pipe, link)
    }

    /// One call over a fresh pipe that is cut when a side has sent so many
    /// bytes of it; says how many bytes each side sent.
    async fn run(&self, cut: Option<(usize, usize)>) -> [usize; 2] {
        let (pipe, link) = self.connected().await;
        // Behind a whole call nothing of the beginning is under way any more.
        assert_eq!(self.call(&pipe).await, Outcome::Executed);
        let before = link.carried();
        if let Some((side, after)) = cut {
            link.left[side].store(after, Ordering::SeqCst);
        }
        let outcome = self.call(&pipe).await;
        let after = link.carried();
        pipe.close("the test is done with it");
        pipe.ended().await;
        if cut.is_none() {
            assert_eq!(outcome, Outcome::Executed);
        }
        SIDES.map(|side| after[side] - before[side])
    }

    async fn call(&self, pipe: &PipeHandle) -> Outcome {
        let id = self.ids.fetch_add(1, Ordering::SeqCst);
        self.history.asked(id, false);
        let (outcome, run) = match self.asker {
            Asker::Client => ask_over(pipe, id).await,
            Asker::Server => {
                let path = format!("/client/{}/run//{id}", self.name);
                let ask = Ask::new("POST", &path).header("Prefer", "wait=2");
                let (ask, gateway) = (ask.body(vec![b'x'; BODY]), self.gateway.clone());
                let asked = tokio::task::spawn_blocking(move || ask.send(&gateway));
                of_answer(id, &asked.await.expect("an answer"))
            }
        };
        self.history.answered(id, outcome, run);
        outcome
    }
}

async fn ask_over(pipe: &PipeHandle, id: Id) -> (Outcome, Option<Run>) {
    let head = RequestHead {
        verb: Verb::Post.into(),
        noun: "run".to_owned(),
        args: vec![id.to_string()],
        ..RequestHead::default()
    };
    match pipe.ask(head, vec![b'x'; BODY].into(), Instant::now() + SOON).await {
        Ok(reply) => {
            let header = reply.head.headers.iter().find(|header| header.name == RUN);
            let run = header.and_then(|header| std::str::from_utf8(&header.value).ok());
            (Outcome::Executed, run.and_then(Run::parse))
        }
        Err(error) => (error.outcome(), None),
    }
}

fn identity(site: &Site, name: &str) -> Credentials {
    let dir = site.identity("client", name);
    Credentials::load(&dir, Usage::Client, SystemTime::now()).expect("an identity")
}

async fn cut_everywhere(asker: Asker) {
    let mut stage = Stage::idle(&[]);
    stage.start_server();
    let ids = Arc::<AtomicU64>::default();
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        workers.push(Worker::new(&stage, asker, index, &ids).await);
    }
    let carried = workers[0].run(None).await;
    assert!(carried.iter().all(|bytes| *bytes > BODY), "{carried:?}");
    let cuts = SIDES.into_iter().flat_map(|side| (0..=carried[side]).map(move |at| (side, at)));
    let cuts: Vec<_> = cuts.collect();
    let work = workers.iter().enumerate().map(|(index, worker)| {
        let mine = cuts.iter().skip(index).step_by(WORKERS);
        async move {
            for cut in mine {
                let run = tokio::time::timeout(3 * SOON, worker.run(Some(*cut)));
                run.await.unwrap_or_else(|_| panic!("{asker:?} asks, cut {cut:?}: it hangs"));
            }
        }
    });
    futures_util::future::join_all(work).await;
    let summary = stage.history.check().unwrap_or_else(|faults| panic!("{faults:#?}"));
    // All but the last bytes of an answer leave its caller in doubt.
    assert!(summary.unknown >= cuts.len() / 2, "{cuts:?} {summary:?}");
    assert!(summary.executed > cuts.len(), "{summary:?}");
}

#[tokio::test]
async fn a_call_of_a_client_cut_at_every_byte_has_the_promised_outcome() {
    cut_everywhere(Asker::Client).await;
}

#[tokio::test]
async fn a_call_of_the_server_cut_at_every_byte_has_the_promised_outcome() {
    cut_everywhere(Asker::Server).await;
}
