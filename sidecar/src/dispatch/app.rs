//! The app: events become HTTP requests to it.
//!
//! A connection is driven by the task of the request that uses it, not by one
//! of its own: that saves two wake-ups a call.

mod ahead;
mod idle;
mod stamp;

use std::borrow::Cow;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use restpipe_config::AppAddress;
use restpipe_pipe::clock::now;
use restpipe_pipe::pb::CancelReason;
use tokio::net::{TcpStream, UnixStream};

use self::ahead::{AppIo, Waiting, WaitingReply};
use self::idle::Idle;
use self::stamp::Stamps;
use super::Answer;
use crate::event::{CODE_OK, Event, EventBody, Reply, ReplyBody, StreamError};
use crate::headers;
use crate::io::Io;

/// Bytes that a connection to the app may buffer; hyper's default is 400 KiB.
const MAX_BUFFER: usize = 64 * 1024;

/// The app takes a connection within this time; it is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What stays as it is in a path segment (RFC 3986, "unreserved").
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same for a noun, which is segments and the slashes between them.
const NOUN_SET: &AsciiSet = &SEGMENT.remove(b'/');

const NOUN: HeaderName = HeaderName::from_static("restpipe-noun");
const FROM: HeaderName = HeaderName::from_static("restpipe-from");
const DEADLINE: HeaderName = HeaderName::from_static("restpipe-deadline");

/// The app of this node, and connections to it.
#[derive(Debug)]
pub struct AppClient {
    address: AppAddress,
    host: HeaderValue,
    idle: Arc<AppConnections>,
    waiting: Waiting,
    stamps: Stamps,
}

/// Those that wait for the next event.
type AppConnections = Idle<Box<AppConnection>>;

/// A connection, driven by whoever polls it. It is a kilobyte and goes from
/// hand to hand, so it is kept in a box.
#[derive(Debug)]
struct AppConnection {
    sender: SendRequest<EventBody>,
    driver: Connection<TokioIo<AppIo>, EventBody>,
    ended: bool,
    /// The app has said that its last answer was the last one.
    last: bool,
}

impl AppConnection {
    /// Runs `future` and, beside it, the connection.
    async fn drive<F: Future>(&mut self, mut future: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|cx| {
            // What the connection has just read or written may be what the
            // future waits for.
            self.poll_driver(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) {
        if !self.ended && Pin::new(&mut self.driver).poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Leaves it to the next event.
    fn give_back(self: Box<Self>, idle: &Arc<AppConnections>) {
        // The app closes it, which the next event would find out.
        if !self.last {
            idle.keep(self);
        }
    }

    /// Whether the app has not closed it meanwhile.
    async fn is_alive(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            self.poll_driver(cx);
            Poll::Ready(())
        })
        .await;
        !self.ended && !self.sender.is_closed()
    }
}

impl AppClient {
    /// The app at `address`; nothing is connected yet.
    pub fn new(address: AppAddress) -> Self {
        let host = match &address {
            AppAddress::Http { .. } => address.to_string().trim_start_matches("http://").to_owned(),
            AppAddress::Unix(_) => "localhost".to_owned(),
        };
        // Every host that the settings take is a header value.
        let host = HeaderValue::from_str(&host).unwrap_or(HeaderValue::from_static("localhost"));
        Self {
            address,
            host,
            idle: Arc::default(),
            waiting: Waiting::default(),
            stamps: Stamps::default(),
        }
    }

    pub(super) async fn answer(&self, event: Box<Event>) -> Answer {
        let mut request = match self.to_request(event) {
            Ok(request) => request,
            Err(error) => return Answer::Cancel(CancelReason::RefusedInvalid, error.to_string()),
        };
        loop {
            let mut connection = match self.connection().await {
                Ok(connection) => connection,
                Err(error) => return Answer::Cancel(CancelReason::RefusedByApp, error),
            };
            let sent = pin!(connection.sender.try_send_request(request));
            match connection.drive(sent).await {
                Ok(response) => return self.to_reply(response, connection),
                Err(mut error) => match error.take_message() {
                    // The app closed a kept connection before a byte of the
                    // request was written: the next one is as good as new.
                    Some(unsent) => request = unsent,
                    None => {
                        return Answer::Cancel(CancelReason::HandlerLost, broken(error.error()));
                    }
                },
            }
        }
    }

    async fn connection(&self) -> Result<Box<AppConnection>, String> {
        while let Some(mut connection) = self.idle.take() {
            if connection.is_alive().await {
                return Ok(connection);
            }
        }
        // In a box, as it is rare: what each event's task holds, and moves, is as large as the
        // largest thing that it ever waits for.
        Box::pin(self.new_connection()).await
    }

    async fn new_connection(&self) -> Result<Box<AppConnection>, String> {
        let refused = |error: std::io::Error| {
            format!("the app at {} does not accept connections: {error}", self.address)
        };
        let io = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(refused)?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(AppIo::new(io, self.waiting.clone())))
            .await
            .map_err(|error| refused(std::io::Error::other(error)))?;
        Ok(Box::new(AppConnection { sender, driver, ended: false, last: false }))
    }

    async fn connect(&self) -> std::io::Result<Io> {
        match &self.address {
            AppAddress::Http { host, port } => {
                let stream =
                    TcpStream::connect((host.to_string().trim_matches(['[', ']']), *port)).await?;
                // A last segment that is not full would wait for an
                // acknowledgement, 40 ms, otherwise.
                stream.set_nodelay(true)?;
                Ok(Io::Tcp(stream))
            }
            AppAddress::Unix(path) => Ok(Io::Unix(UnixStream::connect(path).await?)),
        }
    }

    fn to_request(&self, event: Box<Event>) -> Result<Request<EventBody>, http::Error> {
        let noun = encode_noun(&event.noun);
        let mut path = String::with_capacity(1 + noun.len());
        path.push('/');
        path.push_str(&noun);
        for arg in &event.args {
            path.push('/');
            path.extend(utf8_percent_encode(arg, SEGMENT));
        }
        if !event.query.is_empty() {
            path.push('?');
            path.push_str(&event.query);
        }
        // What the app does not read stays in the pipe's window.
        let mut request = Request::new(event.body.lending());
        *request.method_mut() = event.verb.method();
        *request.uri_mut() = Uri::try_from(path)?;
        let headers = request.headers_mut();
        *headers = event.headers;
        headers.insert(HOST, self.host.clone());
        headers.insert(NOUN, HeaderValue::from_str(&noun)?);
        headers.insert(FROM, HeaderValue::try_from(event.peer.as_ref())?);
        if !event.mime.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::try_from(event.mime)?);
        }
        if let Some(left) = event.deadline.and_then(|at| at.checked_duration_since(now()))
            && let Some(stamp) = self.stamps.of(SystemTime::now() + left)
        {
            headers.insert(DEADLINE, stamp);
        }
        Ok(request)
    }

    fn to_reply(&self, response: Response<Incoming>, mut connection: Box<AppConnection>) -> Answer {
        let (parts, body) = response.into_parts();
        connection.last = parts.version < Version::HTTP_11
            || headers::text(parts.headers.get(CONNECTION)).eq_ignore_ascii_case("close");
        let mime = headers::text(parts.headers.get(CONTENT_TYPE)).to_owned();
        let declared =
            parts.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        let own_code = parts
            .headers
            .get(headers::RETURN_CODE)
            .and_then(|code| code.to_str().ok()?.parse().ok());
        let status = parts.status;
        let code =
            own_code.unwrap_or(if status.is_success() { CODE_OK } else { status.as_u16().into() });
        let body = if body.is_end_stream() {
            connection.give_back(&self.idle);
            ReplyBody::Whole(Bytes::new())
        } else {
            let body = AppBody {
                body,
                connection: Some(connection),
                idle: self.idle.clone(),
                waiting: self.waiting.clone(),
                holds: None,
            };
            ReplyBody::Stream(body.boxed_unsync())
        };
        Answer::Reply(Reply {
            code,
            status,
            mime,
            headers: parts.headers,
            body,
            body_len: declared,
        })
    }
}

/// A noun as it stands in the path: each segment encoded, slashes kept.
fn encode_noun(noun: &str) -> Cow<'_, str> {
    utf8_percent_encode(noun, NOUN_SET).into()
}

fn broken(error: &hyper::Error) -> String {
    format!("the app broke off: {error}")
}

/// The body of an app's reply; polling it drives the connection, and its end
/// gives the connection back.
struct AppBody {
    body: Incoming,
    connection: Option<Box<AppConnection>>,
    idle: Arc<AppConnections>,
    waiting: Waiting,
    /// What was given is with the pipe until more is asked for.
    holds: Option<WaitingReply>,
}

impl Body for AppBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = self.get_mut();
        this.holds = None;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut this.connection
        {
            connection.poll_driver(cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        let ended = match &polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
            _ => false,
        };
        if ended && let Some(connection) = this.connection.take() {
            connection.give_back(&this.idle);
        }
        if let Poll::Ready(Some(Ok(_))) = &polled {
            this.holds = Some(this.waiting.one_more());
        }
        polled.map_err(|error| StreamError(broken(&error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
