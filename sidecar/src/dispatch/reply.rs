//! A reply on its way to the caller, in one frame or by and by.

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use restpipe_pipe::pb::{CancelReason, ReplyHead};
use restpipe_pipe::{HeadTooLarge, Responder};

use crate::event::{INLINE_BODY, Reply, ReplyBody, StreamError, Verb};
use crate::headers;

/// The body of a reply, whoever makes it.
type AnyBody = UnsyncBoxBody<Bytes, StreamError>;

/// Sends a reply; short bodies in one frame with the head.
pub(crate) async fn send(
    verb: Verb,
    reply: Reply,
    responder: Responder,
) -> Result<(), StreamError> {
    let Reply { code, status, mime, headers, body, body_len } = reply;
    let exact = match &body {
        ReplyBody::Whole(bytes) => Some(bytes.len() as u64),
        ReplyBody::Stream(stream) => stream.size_hint().exact(),
    };
    let head = ReplyHead {
        code,
        status: status.as_u16().into(),
        mime,
        headers: headers::to_wire(&headers),
        // A HEAD's reply says how long the body would be.
        body_len: if verb == Verb::Head { body_len.or(exact) } else { exact },
    };
    let mut stream = match body {
        ReplyBody::Whole(bytes) if bytes.len() <= INLINE_BODY => {
            return responder.reply(head, bytes).map_err(too_large);
        }
        ReplyBody::Whole(bytes) => {
            http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
        }
        ReplyBody::Stream(stream) => stream,
    };
    let first = match exact {
        // Worth waiting for: it is one frame instead of two.
        Some(len) if len <= INLINE_BODY as u64 => match collect(&mut stream).await {
            Ok(whole) => return responder.reply(head, whole).map_err(too_large),
            Err(error) => {
                responder.cancel(CancelReason::HandlerLost, error.to_string());
                return Err(error);
            }
        },
        _ => Bytes::new(),
    };
    // In a box: it is rare beside the short ones, and each event's task would
    // have room for it.
    Box::pin(send_streamed(head, first, stream, responder)).await
}

/// Sends a reply whose body comes by and by, after its first bytes.
async fn send_streamed(
    head: ReplyHead,
    first: Bytes,
    mut stream: AnyBody,
    responder: Responder,
) -> Result<(), StreamError> {
    let mut out = responder.reply_streamed(head, first).map_err(too_large)?;
    while let Some(frame) = stream.frame().await {
        let chunk = match frame {
            // Trailers do not cross the pipe.
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                out.fail(CancelReason::HandlerLost, error.to_string());
                return Err(error);
            }
        };
        if out.send(chunk).await.is_err() {
            // Nobody wants more of it: the caller left, or the pipe ended.
            return Ok(());
        }
    }
    out.end();
    Ok(())
}

fn too_large(error: HeadTooLarge) -> StreamError {
    StreamError(error.to_string())
}

async fn collect(stream: &mut AnyBody) -> Result<Bytes, StreamError> {
    let mut whole = Bytes::new();
    while let Some(frame) = stream.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            whole = if whole.is_empty() { chunk } else { [whole, chunk].concat().into() };
        }
    }
    Ok(whole)
}
