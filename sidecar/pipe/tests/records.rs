//! TLS over a link on which one record takes longer than a pipe may be silent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, Credentials, LEAF_LIFETIME, LeafRequest, PeerName, Usage,
};
use restpipe_pipe::pb::{ReplyHead, RequestHead};
use restpipe_pipe::{Heard, Incoming, NoEvents, PipeConfig, Role, Service, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A record takes 13 s, and a pipe is silent for 10 s at most.
const BYTES_PER_SECOND: usize = 1200;

/// What is read at the other end's pace, not ours.
const IN_THE_LINK: usize = 4096;

const BODY: usize = 64 * 1024;

const SERVER: &str = "hub.records.test";

/// Answers everything with a long body.
struct Long;

impl Service for Long {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let begun = event.responder.reply_streamed(ReplyHead::default(), Bytes::new());
            let mut body = begun.expect("a small head");
            body.send(vec![7; BODY].into()).await.expect("it is wanted");
            body.end();
        })
    }
}

async fn slow_link(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let mut piece = [0; BYTES_PER_SECOND];
    while let Ok(got @ 1..) = from.read(&mut piece).await {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if to.write_all(&piece[..got]).await.is_err() {
            return;
        }
    }
}

fn identities() -> [Credentials; 2] {
    let now = SystemTime::now();
    let ca = CertificateAuthority::create("records", CA_LIFETIME, now).expect("a CA");
    [(SERVER, Usage::Server), ("fs.records.test", Usage::Client)].map(|(name, usage)| {
        let name = PeerName::parse(name).expect("a name");
        let leaf = LeafRequest { name, usage, lifetime: LEAF_LIFETIME, now };
        let leaf = ca.issue(leaf).expect("a leaf");
        let (cert, key) = (leaf.cert_pem.as_bytes(), leaf.key_pem.expose().as_bytes());
        Credentials::from_pem(cert, key, ca.cert_pem().as_bytes(), usage, now).expect("its own")
    })
}

#[tokio::test(start_paused = true)]
async fn what_has_come_of_a_record_is_a_sign_of_life_before_all_of_it_has() {
    let [server, client] = identities();
    let (near, near_end) = tokio::io::duplex(IN_THE_LINK);
    let (far, far_end) = tokio::io::duplex(IN_THE_LINK);
    let (from_near, to_near) = tokio::io::split(near_end);
    let (from_far, to_far) = tokio::io::split(far_end);
    tokio::spawn(slow_link(from_far, to_near));
    tokio::spawn(slow_link(from_near, to_far));

    let accept = TlsAcceptor::from(server.server_config().expect("a configuration"));
    let connect = TlsConnector::from(client.client_config().expect("a configuration"));
    let name = PeerName::parse(SERVER).and_then(|name| name.to_server_name()).expect("a name");
    let connected = connect.connect(name, Heard::new(near));
    let (near, far) = tokio::join!(connected, accept.accept(Heard::new(far)));
    let (near, far) = (near.expect("TLS"), far.expect("TLS"));
    let (near, driver) = open(near, Role::Dialer, PipeConfig::default(), Arc::new(NoEvents));
    tokio::spawn(driver);
    let (_far, driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(Long));
    tokio::spawn(driver);

    near.opened().await.expect("opens");
    let deadline = (tokio::time::Instant::now() + Duration::from_secs(600)).into_std();
    let mut reply =
        near.ask(RequestHead::default(), Bytes::new(), deadline).await.expect("answers");
    assert_eq!(reply.body.read(BODY).await.map(|body| body.len()).ok(), Some(BODY));
}
