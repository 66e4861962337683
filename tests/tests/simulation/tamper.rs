//! Bugs planted on the wire: what a pipe with that bug would send. The judge
//! has to notice each of them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use restpipe_proto::{Frame, Kind};

/// Stream ids of doubled requests lie far above those of any run.
const FAR: u64 = 1 << 40;

/// Which bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bug {
    #[default]
    None,
    /// Each request is sent twice.
    DoubledSend,
    /// Replies do not arrive.
    LostReply,
    /// The first reply of a pipe has what the last one of the pipe before had.
    OldReply,
}

/// Changes the frames of one direction of a connection.
#[derive(Clone, Default)]
pub(crate) struct Tamper {
    bug: Bug,
    partial: BytesMut,
    /// The last reply that passed on any pipe.
    last: Arc<Mutex<Option<Bytes>>>,
    /// That of the pipes before this one, until it was put to use.
    old: Option<Bytes>,
}

impl Tamper {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, ..Self::default() }
    }

    pub(crate) fn on_a_new_pipe(&self) -> Self {
        let old = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { old, partial: BytesMut::new(), ..self.clone() }
    }

    /// What arrives of `bytes`, and of what was held back before.
    pub(crate) fn carry(&mut self, bytes: &[u8]) -> Bytes {
        if self.bug == Bug::None {
            return Bytes::copy_from_slice(bytes);
        }
        self.partial.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some(frame) = Frame::decode(&mut self.partial).expect("a node's own frames") {
            self.pass(frame, &mut out);
        }
        out.freeze()
    }

    fn pass(&mut self, mut frame: Frame, out: &mut BytesMut) {
        match (self.bug, frame.kind) {
            (Bug::LostReply, Kind::Rep) => return,
            (Bug::DoubledSend, Kind::Req) => {
                put(&frame, out);
                frame.stream += FAR;
            }
            (Bug::OldReply, Kind::Rep) if frame.flags.is_end() => {
                let last = frame.payload.clone();
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
                if let Some(old) = self.old.take() {
                    frame.payload = old;
                }
            }
            _ => {}
        }
        put(&frame, out);
    }
}

fn put(frame: &Frame, out: &mut BytesMut) {
    let Frame { kind, flags, class, stream, payload } = frame;
    Frame::put_header(out, *kind, *flags, *class, *stream, payload.len());
    out.extend_from_slice(payload);
}
