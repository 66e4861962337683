//! Which headers cross the pipe.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use restpipe_pipe::pb;

/// W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Return code of an executed event.
pub(crate) const RETURN_CODE: HeaderName = HeaderName::from_static("x-event-return-code");

/// What is known of the handler.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("x-event-outcome");

/// Whether the same request may be sent again.
pub(crate) const RETRIABLE: HeaderName = HeaderName::from_static("x-event-retriable");

/// Whether a header field crosses the pipe, unless `Connection` names it:
/// it is none of one hop (RFC 9110, section 7.6.1), none that the next hop
/// writes itself, and none that only the pipe itself may say.
fn crosses(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "content-type"
            | "expect"
            | "host"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) && !is_hop_or_ours(name.as_str().as_bytes())
}

/// Names that an app could take for the pipe's own count as them: CGI and
/// WSGI fold `_` and `-` into one.
fn is_hop_or_ours(name: &[u8]) -> bool {
    let is = |prefix: &[u8]| {
        name.len() >= prefix.len()
            && name.iter().zip(prefix).all(|(a, b)| a == b || (*a == b'_' && *b == b'-'))
    };
    is(b"x-event-") || is(b"restpipe-") || is(b"proxy-") || is(b"keep-alive")
}

/// What `Connection` names.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

/// What of `headers` crosses the pipe, as the pipe carries it.
pub(crate) fn to_wire(headers: &HeaderMap) -> Vec<pb::Header> {
    let named = named_by_connection(headers);
    // One more for a trace.
    let mut wire = Vec::with_capacity(headers.len() + 1);
    let crossing = headers.iter().filter(|(name, _)| crosses(name) && !named.contains(name));
    wire.extend(crossing.map(|(name, value)| header(name, value)));
    wire
}

fn header(name: &HeaderName, value: &HeaderValue) -> pb::Header {
    pb::Header { name: name.as_str().to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

/// Headers that a peer sent, less what it may not say, with room for `more`.
///
/// # Errors
/// If one is no header.
pub(crate) fn from_wire(wire: Vec<pb::Header>, more: usize) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(wire.len() + more);
    let mut connection = HeaderMap::new();
    for pb::Header { name, value } in wire {
        let name = name_of(&name)?;
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| format!("the value of {name} is none that HTTP allows"))?;
        if crosses(&name) {
            headers.append(name, value);
        } else if name == CONNECTION {
            connection.append(name, value);
        }
    }
    if !connection.is_empty() {
        for name in named_by_connection(&connection) {
            headers.remove(name);
        }
    }
    Ok(headers)
}

fn name_of(text: &str) -> Result<HeaderName, String> {
    // Every request has it, and what is known need be neither checked nor copied.
    if text == TRACEPARENT.as_str() {
        return Ok(TRACEPARENT);
    }
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "a header's name is none that HTTP allows".to_owned())
}

/// The trace that a request is in; one that is in none gets its own, not
/// sampled, so that the logs of both nodes can be put together.
pub(crate) fn trace_of(headers: &HeaderMap) -> Bytes {
    let given = headers.get(TRACEPARENT).map(|trace| Bytes::copy_from_slice(trace.as_bytes()));
    given.unwrap_or_else(new_trace)
}

fn new_trace() -> Bytes {
    // Neither id may be zero (W3C Trace Context, section 3.2.2).
    let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    put_hex(&mut text[3..35], &trace.to_be_bytes());
    put_hex(&mut text[36..52], &span.to_be_bytes());
    Bytes::copy_from_slice(&text)
}

/// Sees to it that headers say in which trace they are: their `Connection` may
/// have named even that.
pub(crate) fn put_trace(wire: &mut Vec<pb::Header>, trace: Bytes) {
    if !wire.iter().any(|header| header.name == TRACEPARENT.as_str()) {
        wire.push(pb::Header { name: TRACEPARENT.as_str().to_owned(), value: trace });
    }
}

/// The two digits of each byte.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut all = [[0; 2]; 256];
    let mut byte = 0;
    while byte < all.len() {
        all[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    all
};

/// `format!` takes ten times as long, and every call comes by here.
fn put_hex(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = HEX[usize::from(*byte)];
    }
}

/// A header's value for logs; nothing where there is none.
pub(crate) fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let mut kept: Vec<_> = to_wire(&headers).into_iter().map(|header| header.name).collect();
        kept.sort();
        let mut taken: Vec<_> = from_wire(all_of(&headers), 0)
            .expect("headers")
            .keys()
            .map(ToString::to_string)
            .collect();
        taken.sort();
        assert_eq!(kept, taken, "what is not sent is not taken either");
        kept
    }

    fn all_of(headers: &HeaderMap) -> Vec<pb::Header> {
        headers.iter().map(|(name, value)| header(name, value)).collect()
    }

    #[test]
    fn headers_of_one_hop_and_those_that_connection_names_stay_behind() {
        let kept = stripped(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("proxy-authorization", "x"),
            ("host", "localhost"),
            ("accept", "*/*"),
            ("authorization", "Bearer x"),
        ]);
        assert_eq!(kept, ["accept", "authorization"]);
    }

    #[test]
    fn a_request_in_no_trace_gets_one_that_is_well_formed_and_its_own() {
        let made = || String::from_utf8(trace_of(&HeaderMap::new()).into()).expect("text");
        let (first, second) = (made(), made());
        assert_ne!(first, second);
        let parts: Vec<&str> = first.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert!(
            first.bytes().all(|b| b == b'-' || (b.is_ascii_hexdigit() && !b.is_ascii_uppercase()))
        );

        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("theirs"));
        assert_eq!(trace_of(&headers), "theirs");
    }

    #[test]
    fn a_trace_crosses_once_even_where_connection_names_it() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("theirs"));
        let crossing = |headers: &HeaderMap| {
            let mut wire = to_wire(headers);
            put_trace(&mut wire, trace_of(headers));
            wire
        };
        let once = [header(&TRACEPARENT, &HeaderValue::from_static("theirs"))];
        assert_eq!(crossing(&headers), once);
        headers.insert(CONNECTION, HeaderValue::from_static("traceparent"));
        assert_eq!(crossing(&headers), once);
    }

    #[test]
    fn nobody_but_the_pipe_speaks_for_the_pipe() {
        let forged = [
            ("x-event-outcome", "executed"),
            ("x_event_outcome", "x"),
            ("restpipe-from", "root"),
            ("restpipe_from", "root"),
        ];
        assert!(stripped(&forged).is_empty());
    }

    #[test]
    fn a_header_value_with_a_line_break_is_refused() {
        let wire = vec![pb::Header { name: "a".into(), value: Bytes::from_static(b"x\r\nb: y") }];
        assert!(from_wire(wire, 0).is_err());
    }
}
