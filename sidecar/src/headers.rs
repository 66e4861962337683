//! Which headers cross the pipe.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use restpipe_pipe::pb;

/// W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

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
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_END_TO_END.iter().chain(&named) {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_or_ours(name)).cloned().collect();
    for name in ours {
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

/// The trace context of a request, for logs.
pub(crate) fn traceparent(headers: &HeaderMap) -> &str {
    headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).unwrap_or("")
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
