//! The pipe's own errors, as RFC 9457 problems. What status a code has is
//! decided here and nowhere else.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::{CallError, NotSent, Outcome};
use serde_json::json;

use super::body::GatewayBody;
use super::path::PathError;
use crate::event::Verb;
use crate::headers::{OUTCOME, RETRIABLE};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Seconds after which a caller may try again: about what a client needs to
/// be back after its server was restarted.
const RETRY_AFTER_SECONDS: &str = "1";

/// Fixed words for what went wrong; also metric labels and log fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemCode {
    /// The path is none of the gateway's.
    BadPath,
    /// A header makes no sense.
    BadRequest,
    /// A web page of another site, or its like.
    Forbidden,
    /// Only servers, or only clients, are asked this way.
    WrongDirection,
    /// No such endpoint under `/-/`.
    NoEndpoint,
    /// Nobody of that name.
    UnknownPeer,
    /// It was cut off.
    Suspended,
    /// Not a verb of the pipe.
    MethodNotAllowed,
    /// The body came too slowly.
    BodyTimeout,
    /// The body is too large.
    TooLarge,
    /// A Host that is not this gateway's.
    BadHost,
    /// Too much at once.
    Busy,
    /// The headers do not fit.
    HeadersTooLarge,
    /// The pipe broke.
    PeerLost,
    /// The peer's handler answered what is no answer.
    BadReply,
    /// The peer's handler broke off.
    HandlerLost,
    /// The app beside the peer takes no connections.
    AppRefused,
    /// The peer is not connected.
    PeerAway,
    /// The peer has too much to do.
    PeerBusy,
    /// The peer is stopping.
    GoingAway,
    /// This node is stopping.
    Draining,
    /// The deadline passed.
    PeerTimeout,
}

impl ProblemCode {
    /// The word.
    pub const fn word(self) -> &'static str {
        self.parts().0
    }

    /// The status.
    pub const fn status(self) -> StatusCode {
        self.parts().1
    }

    /// Word, status, title, and RFC 9209's name for the error.
    const fn parts(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadPath => ("bad-path", S::BAD_REQUEST, "Bad path", "http_request_error"),
            Self::BadRequest => {
                ("bad-request", S::BAD_REQUEST, "Bad request", "http_request_error")
            }
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "Forbidden", "http_request_denied"),
            Self::WrongDirection => {
                ("wrong-direction", S::NOT_FOUND, "Wrong direction", "http_request_error")
            }
            Self::NoEndpoint => {
                ("no-endpoint", S::NOT_FOUND, "No such endpoint", "http_request_error")
            }
            Self::UnknownPeer => {
                ("unknown-peer", S::NOT_FOUND, "Unknown peer", "destination_not_found")
            }
            Self::Suspended => {
                ("suspended", S::FORBIDDEN, "Peer is suspended", "destination_ip_prohibited")
            }
            Self::MethodNotAllowed => (
                "method-not-allowed",
                S::METHOD_NOT_ALLOWED,
                "Verb not allowed",
                "http_request_error",
            ),
            Self::BodyTimeout => {
                ("body-timeout", S::REQUEST_TIMEOUT, "Body came too slowly", "http_request_error")
            }
            Self::TooLarge => {
                ("too-large", S::PAYLOAD_TOO_LARGE, "Body too large", "http_request_error")
            }
            Self::BadHost => (
                "bad-host",
                S::MISDIRECTED_REQUEST,
                "Not this gateway's Host",
                "http_request_denied",
            ),
            Self::Busy => {
                ("busy", S::TOO_MANY_REQUESTS, "Too many requests", "connection_limit_reached")
            }
            Self::HeadersTooLarge => (
                "headers-too-large",
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Headers too large",
                "http_request_error",
            ),
            Self::PeerLost => {
                ("peer-lost", S::BAD_GATEWAY, "The pipe broke", "connection_terminated")
            }
            Self::BadReply => {
                ("bad-reply", S::BAD_GATEWAY, "The peer's answer is none", "http_protocol_error")
            }
            Self::HandlerLost => (
                "handler-lost",
                S::BAD_GATEWAY,
                "The peer's handler broke off",
                "http_response_incomplete",
            ),
            Self::AppRefused => (
                "app-refused",
                S::SERVICE_UNAVAILABLE,
                "The peer's app takes no connections",
                "connection_refused",
            ),
            Self::PeerAway => (
                "peer-away",
                S::SERVICE_UNAVAILABLE,
                "Peer is not connected",
                "destination_unavailable",
            ),
            Self::PeerBusy => {
                ("peer-busy", S::SERVICE_UNAVAILABLE, "Peer is busy", "connection_limit_reached")
            }
            Self::GoingAway => (
                "going-away",
                S::SERVICE_UNAVAILABLE,
                "Peer is stopping",
                "destination_unavailable",
            ),
            Self::Draining => (
                "draining",
                S::SERVICE_UNAVAILABLE,
                "This node is stopping",
                "proxy_internal_response",
            ),
            Self::PeerTimeout => {
                ("peer-timeout", S::GATEWAY_TIMEOUT, "No answer in time", "http_response_timeout")
            }
        }
    }
}

/// An error of the pipe itself, on its way to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What went wrong.
    pub code: ProblemCode,
    /// A sentence with the cause and the cure.
    pub detail: String,
    /// What is known of the handler.
    pub outcome: Outcome,
    /// Whether the same request may be sent again.
    pub retriable: bool,
}

impl Problem {
    /// An error before anything was sent.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        // A caller's own mistake stays one; what is full or away may pass.
        let retriable = code.status().is_server_error() || code == ProblemCode::Busy;
        Self { code, detail: detail.into(), outcome: Outcome::NotSent, retriable }
    }

    /// What a failed call means to its caller.
    pub fn of_call(verb: Verb, error: &CallError) -> Self {
        let outcome = error.outcome();
        let retriable = match outcome {
            Outcome::Unknown => verb.is_idempotent(),
            _ => !matches!(error, CallError::NotSent(NotSent::TooLarge)) && !is_invalid(error),
        };
        Self { code: code_of(error), detail: error.to_string(), outcome, retriable }
    }

    /// The answer.
    pub fn into_response(self) -> Response<GatewayBody> {
        let Self { code, detail, outcome, retriable } = self;
        let (word, status, title, proxy_error) = code.parts();
        let body = json!({
            "type": format!("urn:restpipe:error:{word}"),
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
            "code": word,
            "outcome": outcome.word(),
            "retriable": retriable,
            // What clients of the original look for.
            "exception": { "message": detail, "traceback": "", "class": class_name(word) },
        });
        let mut response = Response::new(GatewayBody::whole(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(OUTCOME, HeaderValue::from_static(outcome.word()));
        headers
            .insert(RETRIABLE, HeaderValue::from_static(if retriable { "true" } else { "false" }));
        if let Ok(value) = HeaderValue::try_from(format!("restpipe; error={proxy_error}")) {
            headers.insert(PROXY_STATUS, value);
        }
        if retriable
            && matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
        {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if code == ProblemCode::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH"));
        }
        response
    }
}

impl From<PathError> for Problem {
    fn from(error: PathError) -> Self {
        let code = match error {
            PathError::UnknownStart => ProblemCode::NoEndpoint,
            _ => ProblemCode::BadPath,
        };
        Self::new(code, error.to_string())
    }
}

fn is_invalid(error: &CallError) -> bool {
    matches!(error, CallError::Refused { reason: CancelReason::RefusedInvalid, .. })
}

fn code_of(error: &CallError) -> ProblemCode {
    match error {
        CallError::NotSent(NotSent::TooLarge) => ProblemCode::HeadersTooLarge,
        CallError::NotSent(NotSent::Busy | NotSent::Deadline) => ProblemCode::PeerBusy,
        CallError::NotSent(NotSent::Ended) => ProblemCode::PeerAway,
        CallError::NotSent(NotSent::Draining) => ProblemCode::GoingAway,
        CallError::Refused { reason, .. } => match reason {
            CancelReason::RefusedByApp => ProblemCode::AppRefused,
            CancelReason::RefusedGoingAway => ProblemCode::GoingAway,
            CancelReason::RefusedInvalid => ProblemCode::BadRequest,
            _ => ProblemCode::PeerBusy,
        },
        CallError::Lost(_) => ProblemCode::PeerLost,
        CallError::Deadline => ProblemCode::PeerTimeout,
        CallError::Failed { reason: CancelReason::BadReply, .. } => ProblemCode::BadReply,
        CallError::Failed { .. } => ProblemCode::HandlerLost,
    }
}

/// `peer-away` as a class: `PeerAway`.
fn class_name(word: &str) -> String {
    let capitalised = |part: &str| {
        let mut chars = part.chars();
        chars
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(chars)
            .collect::<String>()
    };
    word.split('-').map(capitalised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_verbs_may_be_sent_again_after_an_unknown_outcome() {
        let lost = CallError::Lost(restpipe_pipe::Why::Eof);
        let retriable = |verb| Problem::of_call(verb, &lost).retriable;
        assert_eq!(
            Verb::ALL.map(retriable),
            [true, true, false, true, true, false],
            "GET HEAD POST PUT DELETE PATCH"
        );
    }

    #[test]
    fn what_was_not_sent_or_was_refused_may_be_sent_again_whatever_the_verb() {
        let refused =
            CallError::Refused { reason: CancelReason::RefusedBusy, detail: String::new() };
        for error in [NotSent::Ended.into(), refused] {
            assert!(Problem::of_call(Verb::Post, &error).retriable);
        }
    }

    #[test]
    fn classes_are_named_as_code_names_them() {
        assert_eq!(class_name("peer-away"), "PeerAway");
    }
}
