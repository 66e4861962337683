//! A bare pipe: two nodes that do the one job and nothing beside it.
//!
//! HTTP at both ends, and between them frames and heads of the wire protocol over one mutually
//! verified TLS connection; written as the prototype was that the research of November 2026
//! measured. There are no names, deadlines, retries, limits, metrics, streamed bodies or errors:
//! what goes wrong ends the pipe.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use anyhow::Context as _;
use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use restpipe_identity::{Credentials, PeerName, Usage};
use restpipe_proto::pb::{Header, ReplyHead, RequestHead};
use restpipe_proto::{Class, Flags, Frame, Kind, head};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::http::Http;
use super::{MAX_BUFFER, ready};

/// Less than this waits once for more before it is written, in bytes.
const STAND_BACK_BELOW: usize = 4096;

/// Arguments of the node near the caller.
#[derive(Args, Clone, Debug)]
pub(crate) struct BareNearArgs {
    /// A server's node directory.
    #[arg(long)]
    dir: PathBuf,
    /// Where to wait for the other node.
    #[arg(long)]
    listen: SocketAddr,
}

/// Arguments of the node near the app.
#[derive(Args, Clone, Debug)]
pub(crate) struct BareFarArgs {
    /// A client's node directory.
    #[arg(long)]
    dir: PathBuf,
    /// The other node, and whom its certificate names.
    #[arg(long)]
    at: SocketAddr,
    #[arg(long)]
    name: PeerName,
    #[arg(long)]
    app: SocketAddr,
}

pub(super) async fn near(args: BareNearArgs) -> anyhow::Result<()> {
    let credentials = Credentials::load(&args.dir, Usage::Server, SystemTime::now())?;
    let acceptor = TlsAcceptor::from(credentials.server_config()?);
    let pipes = TcpListener::bind(args.listen).await?;
    let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    ready(gateway.local_addr()?);
    let (stream, _) = pipes.accept().await?;
    stream.set_nodelay(true)?;
    let (calls, told) = mpsc::unbounded_channel();
    tokio::spawn(Pipe::new(acceptor.accept(stream).await?, told, None));
    loop {
        let (stream, _) = gateway.accept().await?;
        stream.set_nodelay(true)?;
        let calls = calls.clone();
        let service = service_fn(move |request| ask(request, calls.clone()));
        let connection = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        // A caller that goes away is none of its business.
        tokio::spawn(async move { connection.await.ok() });
    }
}

pub(super) async fn far(args: BareFarArgs) -> anyhow::Result<()> {
    let credentials = Credentials::load(&args.dir, Usage::Client, SystemTime::now())?;
    let connector = TlsConnector::from(credentials.client_config()?);
    let stream = TcpStream::connect(args.at).await?;
    stream.set_nodelay(true)?;
    let io = connector.connect(args.name.to_server_name()?, stream).await?;
    let (answers, told) = mpsc::unbounded_channel();
    ready(args.at);
    let app = App { at: args.app, idle: Arc::default(), answers };
    Pipe::new(io, told, Some(app)).await;
    Ok(())
}

/// Sends a request over the pipe and gives its answer.
async fn ask(
    request: Request<Incoming>,
    calls: mpsc::UnboundedSender<Told>,
) -> Result<Response<Full<Bytes>>, anyhow::Error> {
    let head = RequestHead {
        noun: request.uri().path().to_owned(),
        headers: to_wire(request.headers()),
        ..RequestHead::default()
    };
    let (settle, answer) = oneshot::channel();
    calls.send(Told::Call(head, settle))?;
    let (head, body) = answer.await?;
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = from_wire(head.headers)?;
    Ok(response)
}

/// The app, and connections to it.
#[derive(Clone)]
struct App {
    at: SocketAddr,
    idle: Arc<Mutex<Vec<Http>>>,
    answers: mpsc::UnboundedSender<Told>,
}

impl App {
    async fn answer(self, stream: u64, asked: RequestHead) -> anyhow::Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut http = match idle {
            Some(http) => http,
            None => Http::connect(self.at).await?,
        };
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = asked.noun.try_into()?;
        *request.headers_mut() = from_wire(asked.headers)?;
        let mut response = http.send(request).await?;
        let head =
            ReplyHead { headers: to_wire(response.headers()), status: 200, ..ReplyHead::default() };
        let mut body = BytesMut::new();
        http.body(response.body_mut(), |bytes| body.extend_from_slice(bytes)).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(http);
        self.answers.send(Told::Answer(stream, head, body.freeze()))?;
        Ok(())
    }
}

fn to_wire(headers: &HeaderMap) -> Vec<Header> {
    let crossing = headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH);
    let wire = crossing.map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    wire.collect()
}

fn from_wire(wire: Vec<Header>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(wire.len());
    for Header { name, value } in wire {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_maybe_shared(value)?);
    }
    Ok(headers)
}

/// What a pipe is to send.
enum Told {
    Call(RequestHead, oneshot::Sender<(ReplyHead, Bytes)>),
    Answer(u64, ReplyHead, Bytes),
}

/// One end of the pipe, as one task.
struct Pipe<T> {
    io: T,
    told: mpsc::UnboundedReceiver<Told>,
    /// For those who call from here.
    calls: HashMap<u64, oneshot::Sender<(ReplyHead, Bytes)>>,
    next: u64,
    /// For those who call from the other end.
    app: Option<App>,
    read: BytesMut,
    write: BytesMut,
    stood_back: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Pipe<T> {
    fn new(io: T, told: mpsc::UnboundedReceiver<Told>, app: Option<App>) -> Self {
        let (read, write) = (BytesMut::new(), BytesMut::new());
        Self { io, told, calls: HashMap::new(), next: 1, app, read, write, stood_back: false }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> anyhow::Result<()> {
        while let Poll::Ready(read) = pin!(self.io.read_buf(&mut self.read)).poll(cx) {
            anyhow::ensure!(read? > 0, "the other end has closed the pipe");
            while let Some(frame) = Frame::decode(&mut self.read)? {
                self.take(frame)?;
            }
        }
        while let Poll::Ready(told) = self.told.poll_recv(cx) {
            self.put(told.context("nobody has anything more to send")?)?;
        }
        // Others may be about to add to it.
        let more = !self.write.is_empty() && self.write.len() < STAND_BACK_BELOW;
        if more && self.calls.len() != 1 && !std::mem::replace(&mut self.stood_back, true) {
            cx.waker().wake_by_ref();
            return Ok(());
        }
        self.stood_back = false;
        while !self.write.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut self.io).poll_write(cx, &self.write) else {
                break;
            };
            self.write.advance(written?);
        }
        if let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx) {
            flushed?;
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        if let Some(app) = &self.app {
            let (head, _) = head::split(frame.payload)?;
            tokio::spawn(app.clone().answer(frame.stream, head));
        } else if let Some(settle) = self.calls.remove(&frame.stream) {
            // Who has gone away does not want it.
            let _ = settle.send(head::split(frame.payload)?);
        }
        Ok(())
    }

    fn put(&mut self, told: Told) -> anyhow::Result<()> {
        let mut payload = BytesMut::new();
        let (kind, stream) = match told {
            Told::Call(asked, settle) => {
                self.next += 2;
                self.calls.insert(self.next, settle);
                head::put(&mut payload, &asked)?;
                (Kind::Req, self.next)
            }
            Told::Answer(stream, reply, body) => {
                head::put(&mut payload, &reply)?;
                payload.extend_from_slice(&body);
                (Kind::Rep, stream)
            }
        };
        let (flags, class) = (Flags::END, Class::Interactive);
        Frame { kind, flags, class, stream, payload: payload.freeze() }.encode(&mut self.write);
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Pipe<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => {
                eprintln!("the bare pipe has ended: {error:#}");
                Poll::Ready(())
            }
        }
    }
}
