//! What a request asks for beyond its path: headers, deadline, wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use restpipe_pipe::pb::RequestHead;

use super::GatewayLimits;
use super::path::EventPath;
use super::problem::{Problem, ProblemCode};
use crate::event::Verb;
use crate::headers;

const TIMEOUT: HeaderName = HeaderName::from_static("restpipe-timeout");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// An event, ready to be sent.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    pub(super) head: Arc<RequestHead>,
    /// When the answer is due.
    pub(super) deadline: Instant,
    /// Until when an absent peer is waited for.
    pub(super) wait_until: Instant,
}

impl Asked {
    /// Takes a request's head apart; it is in that trace.
    pub(super) fn of<B>(
        request: &Request<B>,
        path: EventPath,
        trace: Bytes,
        limits: &GatewayLimits,
        now: Instant,
    ) -> Result<Self, Problem> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let Some(verb) = Verb::from_method(method) else {
            let detail = format!("{method} is no verb of the pipe");
            return Err(Problem::new(ProblemCode::MethodNotAllowed, detail));
        };
        let timeout = timeout(headers, limits)?;
        let wait = wait(headers, limits.wait)?.min(timeout);
        let body_len = body_len(headers, limits)?;
        let mime = match headers.get(CONTENT_TYPE) {
            Some(mime) => mime
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Problem::new(ProblemCode::BadRequest, "Content-Type is not ASCII"))?,
            None => String::new(),
        };
        let mut crossing = headers::to_wire(headers);
        headers::put_trace(&mut crossing, trace);
        let head = RequestHead {
            verb: verb.to_wire().into(),
            noun: path.noun,
            args: path.args,
            query: uri.query().unwrap_or_default().to_owned(),
            mime,
            headers: crossing,
            body_len,
            ..RequestHead::default()
        };
        let head = Arc::new(head);
        Ok(Self { verb, head, deadline: now + timeout, wait_until: now + wait })
    }
}

fn body_len(headers: &HeaderMap, limits: &GatewayLimits) -> Result<Option<u64>, Problem> {
    let Some(len) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    // hyper has refused what is no number.
    let len = len.to_str().ok().and_then(|len| len.parse().ok());
    match (len, limits.body) {
        (Some(len), Some(limit)) if len > limit => Err(too_large(limit)),
        _ => Ok(len),
    }
}

pub(super) fn too_large(limit: u64) -> Problem {
    let detail = format!("the body is larger than the {limit} bytes that --max-body allows");
    Problem::new(ProblemCode::TooLarge, detail)
}

/// `RestPipe-Timeout: 5s`, or seconds as a bare number.
fn timeout(headers: &HeaderMap, limits: &GatewayLimits) -> Result<Duration, Problem> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(limits.timeout) };
    let text = value.to_str().unwrap_or_default().trim();
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(timeout) if !timeout.is_zero() => Ok(timeout.min(limits.max_timeout)),
        _ => {
            let detail = format!("RestPipe-Timeout: {text:?} is no time: write 5s, 500ms or 1m30s");
            Err(Problem::new(ProblemCode::BadRequest, detail))
        }
    }
}

/// `Prefer: wait=N` in seconds (RFC 7240, section 4.3).
fn wait(headers: &HeaderMap, default: Duration) -> Result<Duration, Problem> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    for preference in preferences.flat_map(|value| value.split([',', ';'])) {
        let Some((name, value)) = preference.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("wait") {
            continue;
        }
        let seconds = value.trim().trim_matches('"').parse();
        return seconds.map(Duration::from_secs).map_err(|_| {
            Problem::new(
                ProblemCode::BadRequest,
                format!("Prefer: wait={value} is no number of seconds"),
            )
        });
    }
    Ok(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GatewayLimits = GatewayLimits {
        wait: Duration::from_secs(20),
        timeout: Duration::from_secs(60),
        max_timeout: Duration::from_secs(3600),
        requests: 1,
        body: Some(10),
    };

    fn asked(headers: &[(&str, &str)]) -> Result<(u64, u64), u16> {
        let mut request = http::Request::get("/server/time");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let path = EventPath { noun: "time".into(), args: Vec::new() };
        let now = Instant::now();
        let asked = Asked::of(&request, path, Bytes::from_static(b"-"), &LIMITS, now)
            .map_err(|problem| problem.code.status().as_u16())?;
        Ok(((asked.deadline - now).as_millis() as u64, (asked.wait_until - now).as_millis() as u64))
    }

    #[test]
    fn a_request_s_own_times_count_within_the_node_s_limits() {
        assert_eq!(asked(&[]), Ok((60_000, 20_000)));
        assert_eq!(asked(&[("restpipe-timeout", "500ms")]), Ok((500, 500)));
        assert_eq!(asked(&[("restpipe-timeout", "2.5")]), Ok((2_500, 2_500)));
        assert_eq!(asked(&[("restpipe-timeout", "9h")]), Ok((3_600_000, 20_000)));
        assert_eq!(asked(&[("prefer", "respond-async, wait=3")]), Ok((60_000, 3_000)));
        assert_eq!(asked(&[("prefer", "wait=90")]), Ok((60_000, 60_000)));
    }

    #[test]
    fn times_that_are_none_and_bodies_over_the_limit_are_refused() {
        assert_eq!(asked(&[("restpipe-timeout", "soon")]), Err(400));
        assert_eq!(asked(&[("restpipe-timeout", "0s")]), Err(400));
        assert_eq!(asked(&[("restpipe-timeout", "-1")]), Err(400));
        assert_eq!(asked(&[("prefer", "wait=x")]), Err(400));
        assert_eq!(asked(&[("content-length", "11")]), Err(413));
    }
}
