//! What waits to be sent, and in which order.
//!
//! Control frames go first, then heads in the order they came, then at least
//! one chunk of bulk: each stream with body to send gets one chunk of up to
//! [`MAX_PAYLOAD`] bytes per round, so large bodies neither slow small calls
//! nor starve each other.

use std::collections::VecDeque;

use bytes::Bytes;
use foldhash::HashMap;
use restpipe_proto::pb::ReplyHead;
use restpipe_proto::{Class, Flags, Frame, Kind, MAX_PAYLOAD, head};

use super::batch::Batch;
use super::command::Request;
use crate::limits::{
    PIPE_SEND_QUEUE, SEND_QUEUE, STAND_BACK_BELOW, STAND_BACK_BELOW_HEADS, WRITE_BATCH,
};

/// A head that waits, with the part of the body that fits its frame.
#[derive(Debug)]
enum Head {
    Request(Box<Request>),
    Reply(Box<ReplyHead>),
}

#[derive(Debug)]
struct Opening {
    stream: u64,
    head: Head,
    /// Bytes of the head with its length before it.
    head_len: usize,
    body: Bytes,
    end: bool,
}

/// The sending end of one body.
#[derive(Debug)]
struct Body {
    /// Bytes that the peer takes now.
    credit: u64,
    /// Bytes that it takes and has taken, in all.
    granted: u64,
    queued: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Bytes that the body's source was told it may queue, and has not.
    offered: usize,
    /// The last chunk is queued.
    ended: bool,
    /// The head of the stream has not left, so nothing may.
    behind_head: bool,
    in_ring: bool,
}

impl Body {
    fn is_ready(&self) -> bool {
        !self.behind_head && if self.queued.is_empty() { self.ended } else { self.credit > 0 }
    }

    /// Bytes that the source may be offered on top of what it was, of which
    /// it may hold `share` in all.
    fn room(&self, share: usize) -> usize {
        if self.ended {
            return 0;
        }
        let taken = self.queued_bytes + self.offered;
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let room = credit.min(share).saturating_sub(taken);
        // Small offers would make small frames; a source that holds none waits.
        if room >= MAX_PAYLOAD || self.offered == 0 { room } else { 0 }
    }
}

/// What filling a batch did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// This stream's request is on its way: the handler may run from now on.
    Request(u64),
    /// This side of the stream has ended.
    End(u64),
    /// The stream's source may queue so many bytes more.
    Room(u64, usize),
}

/// All queues of one pipe.
#[derive(Debug, Default)]
pub(super) struct Queue {
    control: VecDeque<Frame>,
    heads: VecDeque<Opening>,
    bodies: HashMap<u64, Body>,
    ring: VecDeque<u64>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.heads.is_empty() && self.ring.is_empty()
    }

    /// Whether nothing is kept for any stream.
    pub(super) fn holds_no_stream(&self) -> bool {
        self.heads.is_empty() && self.bodies.is_empty() && self.ring.is_empty()
    }

    /// Bytes that each body may have queued.
    fn share(&self) -> usize {
        (PIPE_SEND_QUEUE / self.bodies.len().max(1)).clamp(MAX_PAYLOAD / 2, SEND_QUEUE)
    }

    /// Drops what waits for streams; what is said about the pipe stays.
    pub(super) fn drop_streams(&mut self) {
        self.heads = VecDeque::new();
        self.bodies = HashMap::default();
        self.ring = VecDeque::new();
    }

    /// Frees what an idle pipe need not hold.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.control = VecDeque::new();
            self.heads = VecDeque::new();
            self.ring = VecDeque::new();
        }
        if self.bodies.is_empty() {
            self.bodies = HashMap::default();
        }
    }

    /// Control frames that wait.
    pub(super) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Requests and replies that wait, if they are so few that standing back
    /// may gather more.
    pub(super) fn few_heads(&self) -> Option<usize> {
        /// About what a head takes on the wire, in bytes.
        const HEAD: usize = 128;
        if !self.ring.is_empty() || self.heads.len() >= STAND_BACK_BELOW_HEADS {
            return None;
        }
        let bytes = self.heads.iter().map(|opening| HEAD + opening.body.len()).sum::<usize>();
        (bytes < STAND_BACK_BELOW).then_some(self.heads.len())
    }

    pub(super) fn control(&mut self, kind: Kind, stream: u64, payload: Bytes) {
        let (flags, class) = (Flags::NONE, Class::Control);
        self.control.push_back(Frame { kind, flags, class, stream, payload });
    }

    /// Queues a request; `credit` is what of its body may follow at once.
    pub(super) fn request(&mut self, mut request: Box<Request>, credit: u64) {
        let head_len = head::framed_len_joined(&*request.head, &request.tail);
        let (stream, end) = (request.stream, request.end);
        let body = std::mem::take(&mut request.body);
        self.open(stream, Head::Request(request), head_len, body, end, credit);
    }

    /// Queues a reply.
    pub(super) fn reply(
        &mut self,
        stream: u64,
        head: Box<ReplyHead>,
        body: Bytes,
        end: bool,
        credit: u64,
    ) {
        let head_len = head::framed_len(head.as_ref());
        self.open(stream, Head::Reply(head), head_len, body, end, credit);
    }

    fn open(
        &mut self,
        stream: u64,
        head: Head,
        head_len: usize,
        mut body: Bytes,
        end: bool,
        credit: u64,
    ) {
        let inline = body.split_to(body.len().min(MAX_PAYLOAD.saturating_sub(head_len)));
        let whole = end && body.is_empty();
        if !whole {
            let mut rest = Body {
                credit,
                granted: credit,
                queued_bytes: body.len(),
                queued: VecDeque::new(),
                offered: 0,
                ended: end,
                behind_head: true,
                in_ring: false,
            };
            if !body.is_empty() {
                rest.queued.push_back(body);
            }
            self.bodies.insert(stream, rest);
        }
        self.heads.push_back(Opening { stream, head, head_len, body: inline, end: whole });
    }

    /// Queues more of a body. `false` if nobody wants it any more.
    pub(super) fn data(&mut self, stream: u64, chunk: Bytes, end: bool) -> bool {
        let Some(body) = self.bodies.get_mut(&stream) else { return false };
        body.offered = body.offered.saturating_sub(chunk.len());
        body.queued_bytes += chunk.len();
        if !chunk.is_empty() {
            body.queued.push_back(chunk);
        }
        body.ended |= end;
        self.ring_if_ready(stream);
        true
    }

    /// The peer takes `bytes` more of a body. Returns what its source may
    /// queue now.
    pub(super) fn credit(&mut self, stream: u64, bytes: u32) -> Option<usize> {
        let share = self.share();
        let body = self.bodies.get_mut(&stream)?;
        body.credit = body.credit.saturating_add(u64::from(bytes));
        body.granted = body.granted.saturating_add(u64::from(bytes));
        let room = body.room(share);
        body.offered += room;
        self.ring_if_ready(stream);
        (room > 0).then_some(room)
    }

    /// All credit that a body has had, if it is used up.
    pub(super) fn starved(&self, stream: u64) -> Option<u64> {
        self.bodies.get(&stream).filter(|body| body.credit == 0).map(|body| body.granted)
    }

    /// Forgets all that waits for a stream. Returns whether its head was
    /// still here, so that nothing of it was ever sent.
    pub(super) fn forget(&mut self, stream: u64) -> bool {
        self.bodies.remove(&stream);
        self.ring.retain(|ringed| *ringed != stream);
        let heads = self.heads.len();
        self.heads.retain(|opening| opening.stream != stream);
        heads != self.heads.len()
    }

    /// Forgets the rest of a body, not its head.
    pub(super) fn forget_body(&mut self, stream: u64) -> bool {
        self.ring.retain(|ringed| *ringed != stream);
        self.bodies.remove(&stream).is_some()
    }

    fn ring_if_ready(&mut self, stream: u64) {
        if let Some(body) = self.bodies.get_mut(&stream)
            && !body.in_ring
            && body.is_ready()
        {
            body.in_ring = true;
            self.ring.push_back(stream);
        }
    }

    /// Moves up to about [`WRITE_BATCH`] bytes into `batch`.
    pub(super) fn fill(&mut self, batch: &mut Batch, sent: &mut Vec<Sent>) {
        while let Some(frame) = self.control.pop_front() {
            batch.put(&frame);
        }
        while batch.len() < WRITE_BATCH {
            let Some(opening) = self.heads.pop_front() else { break };
            self.send_head(opening, batch, sent);
        }
        while let Some(stream) = self.ring.pop_front() {
            self.send_chunk(stream, batch, sent);
            if batch.len() >= WRITE_BATCH {
                break;
            }
        }
    }

    fn send_head(&mut self, opening: Opening, batch: &mut Batch, sent: &mut Vec<Sent>) {
        let Opening { stream, head, head_len, body, end } = opening;
        let start = batch.flat.len();
        let kind = match &head {
            Head::Request(_) => Kind::Req,
            Head::Reply(_) => Kind::Rep,
        };
        let len = head_len + body.len();
        Frame::put_header(
            &mut batch.flat,
            kind,
            Flags::end_if(end),
            Class::Interactive,
            stream,
            len,
        );
        let put = match &head {
            Head::Request(request) => {
                head::put_joined(&mut batch.flat, &*request.head, &request.tail)
            }
            Head::Reply(head) => head::put(&mut batch.flat, head.as_ref()),
        };
        put.expect("who queues a head has checked that it fits a frame");
        batch.len += batch.flat.len() - start;
        batch.put_bytes(body);

        let share = self.share();
        if kind == Kind::Req {
            sent.push(Sent::Request(stream));
        }
        if end {
            sent.push(Sent::End(stream));
        } else if let Some(body) = self.bodies.get_mut(&stream) {
            body.behind_head = false;
            let room = body.room(share);
            if room > 0 {
                body.offered += room;
                sent.push(Sent::Room(stream, room));
            }
            self.ring_if_ready(stream);
        }
    }

    fn send_chunk(&mut self, stream: u64, batch: &mut Batch, sent: &mut Vec<Sent>) {
        let share = self.share();
        let Some(body) = self.bodies.get_mut(&stream) else { return };
        body.in_ring = false;
        let chunk = match body.queued.front_mut() {
            Some(front) => {
                let credit = usize::try_from(body.credit).unwrap_or(usize::MAX);
                let chunk = front.split_to(front.len().min(MAX_PAYLOAD).min(credit));
                if front.is_empty() {
                    body.queued.pop_front();
                }
                chunk
            }
            None => Bytes::new(),
        };
        body.queued_bytes -= chunk.len();
        body.credit -= chunk.len() as u64;
        let end = body.ended && body.queued.is_empty();
        let flags = Flags::end_if(end);
        batch.put(&Frame { kind: Kind::Data, flags, class: Class::Bulk, stream, payload: chunk });
        if end {
            self.bodies.remove(&stream);
            sent.push(Sent::End(stream));
            return;
        }
        let room = body.room(share);
        if room > 0 {
            body.offered += room;
            sent.push(Sent::Room(stream, room));
        }
        self.ring_if_ready(stream);
    }
}

#[cfg(test)]
mod tests;
