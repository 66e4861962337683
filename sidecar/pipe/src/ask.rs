//! Calls whose body is all there.

use std::time::Instant;

use bytes::Bytes;
use restpipe_proto::pb::RequestHead;

use crate::call::{Call, Reply, StartedCall};
use crate::error::CallError;
use crate::handle::PipeHandle;

/// Bytes of body that go out in one frame with their head, which leaves a head
/// 2 KiB and more.
const FIRST: usize = 14 * 1024;

impl PipeHandle {
    /// Makes a call and hands its answer over as it comes. The deadline is for
    /// the answer's head; its body may go on for as long as it is read.
    ///
    /// # Errors
    /// If there is no answer; the error says what is known of the handler.
    pub async fn ask(
        &self,
        mut head: RequestHead,
        mut body: Bytes,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        head.body_len.get_or_insert(body.len() as u64);
        let first = body.split_to(body.len().min(FIRST));
        let end = body.is_empty();
        let call = Call { head: head.into(), body: first, end, deadline, wait_until: deadline };
        let StartedCall { body: sender, reply } = self.start(call).await?;
        if let Some(mut sender) = sender
            // Who has answered before it had all of it wants no more.
            && sender.send(body).await.is_ok()
        {
            sender.end();
        }
        reply.wait().await
    }
}
