//! A peer that sends anything, as a property; for proptest and for the fuzz
//! target `hello`.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use restpipe_pipe::session::{Batch, Session};
use restpipe_pipe::{PipeConfig, Role};
use restpipe_proto::pb::{Hello, Limits};
use restpipe_proto::{Class, Flags, Frame, Kind, VERSION, head};

/// What one peer can have this side hold, in bytes.
const MOST_HELD: usize = 12 * 1024 * 1024;

/// Feeds `bytes` to a session as the peer's first ones, or as those behind a
/// good HELLO. It takes them or ends; it never panics and never holds more
/// than a peer may have it hold.
pub(crate) fn any_peer(bytes: &[u8], behind_hello: bool, part: usize) {
    let now = Instant::now();
    let mut session = Session::new(Role::Acceptor, PipeConfig::default(), now);
    let mut buf = BytesMut::new();
    if behind_hello {
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            limits: Some(Limits { max_streams: 256 }),
            ..Hello::default()
        };
        let (kind, flags, class) = (Kind::Hello, Flags::NONE, Class::Control);
        Frame { kind, flags, class, stream: 0, payload: head::to_bytes(&hello) }.encode(&mut buf);
    }
    let mut batch = Batch::default();
    for part in bytes.chunks(part.max(1)) {
        buf.extend_from_slice(part);
        loop {
            let frame = match Frame::decode(&mut buf) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    session.on_bytes(now, part.len(), buf.len());
                    break;
                }
                Err(_) => return,
            };
            if session.on_frame(now, frame).is_err() {
                return;
            }
            while session.next_output().is_some() {}
            session.fill(&mut batch);
            batch.segments().clear();
            assert!(session.held() <= MOST_HELD, "{} bytes are held", session.held());
        }
    }
    // Whatever came, the session knows when it is to be looked at next.
    let _ = session.on_timeout(now + Duration::from_secs(3600));
}
