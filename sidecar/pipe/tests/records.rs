//! TLS over a link on which one record takes longer than a pipe may be silent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, Credentials, LEAF_LIFETIME, LeafRequest, PeerName, Usage,
};
use restpipe_pipe::pb::{Hello, ReplyHead, RequestHead};
use restpipe_pipe::{Heard, Incoming, NoEvents, PipeConfig, Role, Service, open};
use restpipe_proto::{Class, Flags, Frame, Kind, MAX_PAYLOAD, VERSION, head};
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

#[tokio::test(start_paused = true)]
async fn what_tls_adds_to_a_slow_frame_does_not_make_it_faster() {
    let [server, client] = identities();
    let (near, far) = tokio::io::duplex(IN_THE_LINK);
    let accept = TlsAcceptor::from(server.server_config().expect("a configuration"));
    let connect = TlsConnector::from(client.client_config().expect("a configuration"));
    let name = PeerName::parse(SERVER).and_then(|name| name.to_server_name()).expect("a name");
    let (near, far) = tokio::join!(connect.connect(name, near), accept.accept(Heard::new(far)));
    let (mut near, far) = (near.expect("TLS"), far.expect("TLS"));
    let (far, driver) = open(far, Role::Acceptor, PipeConfig::default(), Arc::new(NoEvents));
    tokio::spawn(driver);

    let hello = Hello { min_version: VERSION, max_version: VERSION, ..Hello::default() };
    let payload = head::to_bytes(&hello);
    let (kind, flags, class) = (Kind::Hello, Flags::NONE, Class::Control);
    let mut bytes = BytesMut::new();
    Frame { kind, flags, class, stream: 0, payload }.encode(&mut bytes);
    near.write_all(&bytes).await.expect("it is open");
    bytes.clear();
    Frame::put_header(&mut bytes, Kind::Req, Flags::NONE, Class::Interactive, 1, MAX_PAYLOAD);
    near.write_all(&bytes).await.expect("it is open");
    // 50 bytes a second, and with what TLS adds more than 1 KiB.
    for _ in 0..60 * 50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if near.write_all(&[0]).await.is_err() || near.flush().await.is_err() {
            break;
        }
    }
    let ended = tokio::time::timeout(Duration::ZERO, far.ended()).await;
    assert_eq!(ended.map(|why| why.reason()).ok(), Some("too-slow"));
}
