//! The body of a request to the gateway.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::{Problem, ProblemCode};

/// The caller sends the next part of a body within this time.
const BODY_IDLE: Duration = Duration::from_secs(30);

/// What a caller still sends after its answer was given is read and thrown
/// away for so long and up to so many bytes. A connection that is closed with
/// unread bytes is reset, and the caller would lose the answer.
const LINGER: Duration = Duration::from_secs(5);
const MAX_LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A body that is read to its end, or else left in good order.
#[derive(Debug, Default)]
pub(super) struct Upload {
    body: Option<Incoming>,
    /// The caller holds the body back until it is asked for.
    held_back: bool,
}

impl Upload {
    /// Takes charge of a request's body.
    pub(super) fn within(request: Request<Incoming>) -> Request<Self> {
        let held_back = request.headers().contains_key(EXPECT);
        request.map(|body| Self { body: Some(body), held_back })
    }

    /// Whether nothing is left.
    pub(super) fn is_end(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Bytes that are left, where that is known.
    pub(super) fn len(&self) -> Option<u64> {
        self.body.as_ref().map_or(Some(0), |body| body.size_hint().exact())
    }

    /// The next part; `None` at the end.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, Problem> {
        // From here on the caller has been asked for it.
        self.held_back = false;
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let frame = timeout(BODY_IDLE, body.frame()).await.map_err(|_| {
                let detail = format!("no part of the body came for {BODY_IDLE:?}");
                Problem::new(ProblemCode::BodyTimeout, detail)
            })?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers do not cross the pipe.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    let detail = format!("the body broke off: {error}");
                    return Err(Problem::new(ProblemCode::BadRequest, detail));
                }
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
            && !self.held_back
        {
            tokio::spawn(throw_away(body));
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let until = Instant::now() + LINGER;
    let mut left = MAX_LINGER_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}
