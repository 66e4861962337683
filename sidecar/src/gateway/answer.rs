//! A reply of the peer as an HTTP response.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::{CallError, Outcome, Reply};

use super::body::{GatewayBody, PipeBody};
use super::problem::Problem;
use crate::event::{CODE_OK, Verb};
use crate::headers::{self, OUTCOME, RETURN_CODE};

/// Headers that an answer has beside those of the reply.
const OWN_HEADERS: usize = 4;

/// The response, and the return code in it.
///
/// # Errors
/// If the peer's reply is no HTTP answer.
pub(super) fn of_reply(verb: Verb, reply: Reply) -> Result<(Response<GatewayBody>, u32), Problem> {
    let bad = |detail: String| {
        Problem::of_call(verb, &CallError::Failed { reason: CancelReason::BadReply, detail })
    };
    let Reply { head, body } = reply;
    let status =
        u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    // 1xx ends no exchange, and nothing here could go on with it.
    let status = status
        .filter(|status| !status.is_informational() && status.as_u16() < 600)
        .ok_or_else(|| bad(format!("{} is no final HTTP status", head.status)))?;
    let mut headers = headers::from_wire(head.headers, OWN_HEADERS).map_err(bad)?;
    if !head.mime.is_empty() {
        let mime = HeaderValue::try_from(head.mime)
            .map_err(|_| bad("the content type is no header value".to_owned()))?;
        headers.insert(CONTENT_TYPE, mime);
    }
    let code = match head.code {
        CODE_OK => HeaderValue::from_static("0"),
        code => code.into(),
    };
    headers.insert(RETURN_CODE, code);
    headers.insert(OUTCOME, HeaderValue::from_static(Outcome::Executed.word()));
    // What a handler calls text is not to be guessed into a web page.
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if let (Verb::Head, Some(len)) = (verb, head.body_len) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    let body = match body.as_whole() {
        Some(whole) => GatewayBody::whole(whole.clone()),
        None => {
            let begun = PipeBody::begin(body, head.body_len);
            GatewayBody::Pipe(Box::new(begun.map_err(|error| Problem::of_call(verb, &error))?))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok((response, head.code))
}
