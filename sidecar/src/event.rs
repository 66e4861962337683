//! Events and replies as handlers see them.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
pub use restpipe_pipe::{BodyTooLarge, ReadError};
use restpipe_pipe::{CallError, RecvBody, pb};

/// Return code of the original: the handler answered.
pub const CODE_OK: u32 = 0;
/// Return code of the original: the handler failed.
pub const CODE_EXCEPTION: u32 = 251;
/// Return code of the original: there is no such handler.
pub const CODE_NO_HANDLER: u32 = 255;

/// Bytes of body that travel in one frame with their head, which leaves a head
/// 2 KiB and more; longer bodies are streamed. A request's body of this size
/// is read before it is sent, and can be sent again.
pub(crate) const INLINE_BODY: usize = 14 * 1024;

/// What is to be done with a noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads; may be run again.
    Get,
    /// Reads without a body; may be run again.
    Head,
    /// Anything.
    Post,
    /// Stores; the same twice is the same once.
    Put,
    /// Removes; the same twice is the same once.
    Delete,
    /// Changes.
    Patch,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Delete, Self::Patch];

    /// The verb of an HTTP method, if it is one of these.
    pub fn from_method(method: &http::Method) -> Option<Self> {
        Some(match *method {
            http::Method::GET => Self::Get,
            http::Method::HEAD => Self::Head,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::DELETE => Self::Delete,
            http::Method::PATCH => Self::Patch,
            _ => return None,
        })
    }

    /// As HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
        }
    }

    /// As handlers are named: `get` in `get_time`.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Patch => "patch",
        }
    }

    /// The HTTP method.
    pub fn method(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Delete => http::Method::DELETE,
            Self::Patch => http::Method::PATCH,
        }
    }

    /// Whether the pipe may run it again by itself (RFC 9110, section 9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }

    /// Whether a caller may send it again without harm (RFC 9110, 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete)
    }

    pub(crate) const fn to_wire(self) -> pb::Verb {
        match self {
            Self::Get => pb::Verb::Get,
            Self::Head => pb::Verb::Head,
            Self::Post => pb::Verb::Post,
            Self::Put => pb::Verb::Put,
            Self::Delete => pb::Verb::Delete,
            Self::Patch => pb::Verb::Patch,
        }
    }

    pub(crate) const fn from_wire(verb: pb::Verb) -> Option<Self> {
        Some(match verb {
            pb::Verb::Get => Self::Get,
            pb::Verb::Head => Self::Head,
            pb::Verb::Post => Self::Post,
            pb::Verb::Put => Self::Put,
            pb::Verb::Delete => Self::Delete,
            pb::Verb::Patch => Self::Patch,
            pb::Verb::Unspecified => return None,
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a peer asks of this node.
#[derive(Debug)]
pub struct Event {
    /// The verified hostname of the node that asks.
    pub peer: std::sync::Arc<str>,
    /// What is to be done.
    pub verb: Verb,
    /// With what: decoded segments joined by `/`.
    pub noun: String,
    /// Decoded arguments.
    pub args: Vec<String>,
    /// The query as it was sent, without `?`.
    pub query: String,
    /// Content type of the body; empty where there is none.
    pub mime: String,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: EventBody,
    /// Bytes of the whole body, where known.
    pub body_len: Option<u64>,
    /// When the caller stops waiting; the handler is stopped then.
    pub deadline: Option<Instant>,
}

/// The body of an event, as it comes over the pipe.
#[derive(Debug)]
pub struct EventBody {
    body: RecvBody,
    len: Option<u64>,
    lends: bool,
}

impl EventBody {
    pub(crate) fn new(body: RecvBody, len: Option<u64>) -> Self {
        let len = body.as_whole().map_or(len, |whole| Some(whole.len() as u64));
        Self { body, len, lends: false }
    }

    /// Bytes count as taken once they are dropped; see [`RecvBody::poll_lent`].
    pub(crate) fn lending(self) -> Self {
        Self { lends: true, ..self }
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, CallError>> {
        self.body.chunk().await
    }

    /// The whole body, if it is no larger than `limit` bytes.
    ///
    /// # Errors
    /// If it breaks off or is larger.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        self.body.read(limit).await
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let chunk = if self.lends { self.body.poll_lent(cx) } else { self.body.poll_chunk(cx) };
        let chunk = std::task::ready!(chunk);
        if let (Some(Ok(chunk)), Some(len)) = (&chunk, &mut self.len) {
            *len = len.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(chunk.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.len.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Why a streamed reply broke off; its text is logged and told to the caller.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StreamError(pub String);

/// The body of a reply.
#[derive(Debug)]
pub enum ReplyBody {
    /// All of it.
    Whole(Bytes),
    /// Made while it is sent; its error breaks the reply off.
    Stream(UnsyncBoxBody<Bytes, StreamError>),
}

/// What a handler answers.
#[derive(Debug)]
pub struct Reply {
    /// Return code: 0 is success.
    pub code: u32,
    /// HTTP status.
    pub status: StatusCode,
    /// Content type; empty for none.
    pub mime: String,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: ReplyBody,
    /// Bytes of the whole body, where known and not shown by the body.
    pub body_len: Option<u64>,
}

impl Reply {
    /// A success with a body.
    pub fn ok(mime: &str, body: impl Into<Bytes>) -> Self {
        Self {
            code: CODE_OK,
            status: StatusCode::OK,
            mime: mime.to_owned(),
            headers: HeaderMap::new(),
            body: ReplyBody::Whole(body.into()),
            body_len: None,
        }
    }

    /// A success with a JSON body.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::ok("application/json", value.to_string())
    }

    /// A success whose body is streamed.
    pub fn stream<B>(mime: &str, body: B) -> Self
    where
        B: Body<Data = Bytes, Error = StreamError> + Send + 'static,
    {
        let mut reply = Self::ok(mime, Bytes::new());
        reply.body = ReplyBody::Stream(body.boxed_unsync());
        reply
    }

    /// The answer to an uncaught exception: return code 251, status 500, and
    /// the body that the original's `raise_for_exception` reads.
    pub fn exception(exception: &Exception) -> Self {
        let mut reply = Self::json(&serde_json::json!({ "exception": exception }));
        reply.code = CODE_EXCEPTION;
        reply.status = StatusCode::INTERNAL_SERVER_ERROR;
        reply
    }
}

/// What went wrong in a handler, in the original's words.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exception {
    /// The error's text.
    pub message: String,
    /// Where it happened; empty unless the handler's node sends tracebacks.
    pub traceback: String,
    /// The error's class.
    pub class: String,
}

impl Exception {
    /// An exception without a traceback.
    pub fn new(class: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), traceback: String::new(), class: class.to_owned() }
    }
}
