//! Which headers cross the pipe.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use restpipe_pipe::pb;

/// W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Return code of an executed event.
pub(crate) const RETURN_CODE: HeaderName = HeaderName::from_static("x-event-return-code");

/// What is known of the handler.
pub(crate) const OUTCOME: HeaderName = HeaderName::from_static("x-event-outcome");

/// Whether the same request may be sent again.
pub(crate) const RETRIABLE: HeaderName = HeaderName::from_static("x-event-retriable");

/// Header fields of one hop (RFC 9110, section 7.6.1), and those that the
/// next hop writes itself.
const NOT_END_TO_END: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes off `headers` all that does not cross the pipe: one hop's own, what
/// `Connection` names, and everything that only the pipe itself may say.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let mut go: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Most requests have few headers, and of those that go only one or two.
    let goes = |name: &&HeaderName| NOT_END_TO_END.contains(name) || is_hop_or_ours(name);
    go.extend(headers.keys().filter(goes).cloned());
    for name in go {
        headers.remove(name);
    }
}

/// Names that an app could take for the pipe's own count as them: CGI and
/// WSGI fold `_` and `-` into one.
fn is_hop_or_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is = |prefix: &str| {
        name.len() >= prefix.len()
            && name.bytes().zip(prefix.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    is("x-event-") || is("restpipe-") || is("proxy-") || is("keep-alive")
}

/// Headers as the pipe carries them.
pub(crate) fn to_wire(headers: &HeaderMap) -> Vec<pb::Header> {
    let header = |(name, value): (&HeaderName, &HeaderValue)| pb::Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.iter().map(header).collect()
}

/// Headers that a peer sent, less what it may not say.
///
/// # Errors
/// If one is no header.
pub(crate) fn from_wire(wire: Vec<pb::Header>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(wire.len());
    for pb::Header { name, value } in wire {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let name = parsed.map_err(|_| "a header's name is none that HTTP allows".to_owned())?;
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| format!("the value of {name} is none that HTTP allows"))?;
        headers.append(name, value);
    }
    strip(&mut headers);
    Ok(headers)
}

/// Gives a request that is in no trace one of its own, not sampled, so that
/// the logs of both nodes can be put together.
pub(crate) fn trace(headers: &mut HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    // Neither id may be zero (W3C Trace Context, section 3.2.2).
    let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    put_hex(&mut text[3..35], &trace.to_be_bytes());
    put_hex(&mut text[36..52], &span.to_be_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&text) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Two digits for each byte; `format!` takes ten times as long, and every call
/// comes by here.
fn put_hex(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
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
        strip(&mut headers);
        let mut kept: Vec<_> = headers.keys().map(ToString::to_string).collect();
        kept.sort();
        kept
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
        let made = || {
            let mut headers = HeaderMap::new();
            trace(&mut headers);
            headers[TRACEPARENT].to_str().expect("text").to_owned()
        };
        let (first, second) = (made(), made());
        assert_ne!(first, second);
        let parts: Vec<&str> = first.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
        assert!(
            first.bytes().all(|b| b == b'-' || (b.is_ascii_hexdigit() && !b.is_ascii_uppercase()))
        );

        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static("theirs"));
        trace(&mut headers);
        assert_eq!(headers[TRACEPARENT], "theirs");
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
        assert!(from_wire(wire).is_err());
    }
}
