//! A peer that speaks the wire protocol by hand: real TLS with a valid
//! certificate, and then whatever frames and bytes a test wants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use restpipe_identity::{Credentials, Usage};
use restpipe_pipe::pb::{
    Cancel, CancelReason, GoAway, GoAwayReason, Hello, Limits, ReplyHead, RequestHead, Verb,
};
use restpipe_proto::{Class, Flags, Frame, Kind, head};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::forged::{self, Forged};
use crate::site::{HUB, Site};

/// Who dials, whom and with what.
#[derive(Clone, Debug)]
pub struct Wire {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The kernel says that it is over, TLS does not.
    Fin,
    /// The kernel says that it never was.
    Rst,
}

impl Cut {
    /// One and the other in turn.
    pub const fn of(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Fin } else { Self::Rst }
    }

    /// Ends a connection.
    pub fn end(self, stream: TcpStream) {
        self.prepare(&stream);
    }

    fn prepare(self, stream: &TcpStream) {
        if self == Self::Rst {
            // Whom the other side has reset already cannot be reset again.
            let _ = stream.set_zero_linger();
        }
    }
}

impl Wire {
    /// The client `name` of a site, and the server at `server`.
    pub fn new(site: &Site, name: &str, server: SocketAddr) -> Self {
        let dir = site.identity("client", name);
        let own = Credentials::load(&dir, Usage::Client, SystemTime::now()).expect("an identity");
        Self { server, tls: own.client_config().expect("a client's") }
    }

    /// Whoever shows `shown`, if anything, and offers these protocols, to a
    /// server at `server` that is of the CA in `ca`.
    pub fn showing(
        ca: &Path,
        server: SocketAddr,
        shown: Option<&Forged>,
        protocols: &[&[u8]],
    ) -> Self {
        let mut tls = forged::client(ca, shown);
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self { server, tls: Arc::new(tls) }
    }

    /// Connects from an address of its own, without TLS.
    ///
    /// # Errors
    /// If the kernel cannot.
    pub async fn connect(&self, from: IpAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Makes TLS of a connection.
    ///
    /// # Errors
    /// If the server does not want it.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(HUB).expect("a name");
        Ok(TlsConnector::from(self.tls.clone()).connect(name, stream).await?.into())
    }

    /// A whole pipe, both HELLOs said.
    ///
    /// # Errors
    /// If the server does not want it.
    pub async fn open(&self, from: IpAddr, instance: &str) -> io::Result<WirePeer> {
        self.open_as(from, &hello_of(instance)).await
    }

    /// A whole pipe with a HELLO of the test's own, both HELLOs said.
    ///
    /// # Errors
    /// If the server does not want it.
    pub async fn open_as(&self, from: IpAddr, hello: &Hello) -> io::Result<WirePeer> {
        let stream = self.secure(self.connect(from).await?).await?;
        WirePeer::greet(stream, hello).await
    }

    /// The first bytes that a TLS client says.
    pub fn client_hello(&self) -> Vec<u8> {
        let name = ServerName::try_from(HUB).expect("a name");
        let session = rustls::ClientConnection::new(self.tls.clone(), name);
        let (mut session, mut bytes) = (session.expect("a session"), Vec::new());
        session.write_tls(&mut bytes).expect("a Vec takes all");
        bytes
    }
}

/// The other end: who waits for a client node to dial.
#[derive(Debug)]
pub struct WireServer {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

impl WireServer {
    /// The server of a site.
    pub async fn new(site: &Site) -> Self {
        let dir = site.identity("server", HUB);
        let own = Credentials::load(&dir, Usage::Server, SystemTime::now()).expect("an identity");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener, tls: own.server_config().expect("a server's") }
    }

    /// Where it waits.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// The next pipe, both HELLOs said.
    ///
    /// # Errors
    /// If whoever dialled does not want it.
    pub async fn accept(&self) -> io::Result<WirePeer> {
        let stream = self.listener.accept().await?.0;
        stream.set_nodelay(true)?;
        let stream = TlsAcceptor::from(self.tls.clone()).accept(stream).await?;
        WirePeer::greet(stream.into(), &hello_of("hub")).await
    }
}

/// One pipe.
#[derive(Debug)]
pub struct WirePeer {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    read: BytesMut,
}

impl From<TlsStream<TcpStream>> for WirePeer {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, read: BytesMut::new() }
    }
}

impl WirePeer {
    /// Says HELLO and hears it.
    ///
    /// # Errors
    /// If the other side does not want it.
    pub async fn greet(stream: TlsStream<TcpStream>, said: &Hello) -> io::Result<Self> {
        let mut peer = Self::from(stream);
        peer.send(&frame(Kind::Hello, Flags::NONE, 0, head::to_bytes(said))).await?;
        match peer.next().await? {
            Some(Frame { kind: Kind::Hello, .. }) => Ok(peer),
            other => Err(io::Error::other(format!("no HELLO but {other:?}"))),
        }
    }

    /// The next frame of a kind; others are passed over.
    ///
    /// # Errors
    /// If the connection ends before.
    pub async fn next_of(&mut self, kind: Kind) -> io::Result<Frame> {
        loop {
            match self.next().await? {
                Some(frame) if frame.kind == kind => return Ok(frame),
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Sends frames as they are.
    ///
    /// # Errors
    /// If the server has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.read).map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether the connection ends here; an end without TLS's goodbye is one.
    ///
    /// # Panics
    /// If another frame comes.
    pub async fn has_ended(&mut self) -> bool {
        match self.next().await {
            Ok(Some(frame)) => panic!("{frame:?} where an end was due"),
            Ok(None) | Err(_) => true,
        }
    }

    /// Cuts the connection without a word of TLS or of the protocol.
    pub fn cut(self, how: Cut) {
        how.prepare(self.stream.get_ref().0);
    }
}

/// A frame as bytes.
pub fn frame(kind: Kind, flags: Flags, stream: u64, payload: impl Into<Bytes>) -> BytesMut {
    let class = if kind == Kind::Data { Class::Bulk } else { Class::Control };
    let mut out = BytesMut::new();
    Frame { kind, flags, class, stream, payload: payload.into() }.encode(&mut out);
    out
}

/// A frame's header with anything in it; the real ones have a length of 24
/// bits and two reserved bytes that are zero.
pub fn header(len: u32, kind: u8, flags: u8, class: u8, reserved: u16, stream: u64) -> Vec<u8> {
    let len = len.to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags, class];
    out.extend(reserved.to_be_bytes());
    out.extend(stream.to_be_bytes());
    out
}

/// A HELLO that lets the server open 256 streams.
pub fn hello_of(instance: &str) -> Hello {
    Hello {
        min_version: restpipe_proto::VERSION,
        max_version: restpipe_proto::VERSION,
        instance: instance.to_owned(),
        boot_id: vec![7; 16].into(),
        epoch: 1,
        limits: Some(Limits { max_streams: restpipe_proto::DEFAULT_MAX_STREAMS }),
        heartbeat_ms: 60_000,
        ..Hello::default()
    }
}

/// A request with the first bytes of its body.
pub fn request(
    stream: u64,
    verb: Verb,
    noun: &str,
    reply_credit: u32,
    body: &[u8],
    end: bool,
) -> BytesMut {
    let request = RequestHead {
        verb: verb.into(),
        noun: noun.to_owned(),
        reply_credit,
        ..Default::default()
    };
    let mut payload = BytesMut::new();
    head::put(&mut payload, &request).expect("a small head");
    payload.extend_from_slice(body);
    frame(Kind::Req, Flags::end_if(end), stream, payload.freeze())
}

/// A whole answer.
pub fn reply(stream: u64, body: &[u8]) -> BytesMut {
    reply_part(stream, body, true)
}

/// An answer with the first bytes of its body.
pub fn reply_part(stream: u64, body: &[u8], end: bool) -> BytesMut {
    let mut payload = BytesMut::new();
    head::put(&mut payload, &ReplyHead { status: 200, ..ReplyHead::default() }).expect("fits");
    payload.extend_from_slice(body);
    frame(Kind::Rep, Flags::end_if(end), stream, payload.freeze())
}

/// Asks for a sign of life.
pub fn ping(token: u64) -> BytesMut {
    frame(Kind::Ping, Flags::NONE, 0, head::ping_payload(token))
}

/// The sender takes no stream above `last`.
pub fn go_away(reason: GoAwayReason, last: u64) -> BytesMut {
    let away = GoAway { last_stream: last, reason: reason.into(), ..GoAway::default() };
    frame(Kind::GoAway, Flags::NONE, 0, head::to_bytes(&away))
}

/// The caller is gone.
pub fn cancel(stream: u64) -> BytesMut {
    cancel_for(stream, CancelReason::CallerGone)
}

/// The stream has ended, and why.
pub fn cancel_for(stream: u64, reason: CancelReason) -> BytesMut {
    let cancel = Cancel { reason: reason.into(), detail: String::new() };
    frame(Kind::Cancel, Flags::NONE, stream, head::to_bytes(&cancel))
}

/// A fresh pipe is wanted.
pub fn replace() -> BytesMut {
    go_away(GoAwayReason::Replace, u64::MAX)
}

/// An address of this machine; there are some 16 million.
pub fn local(number: usize) -> IpAddr {
    let [_, a, b, c] = u32::try_from(number).unwrap_or(0).to_be_bytes();
    [127, a, b, c.max(1)].into()
}
