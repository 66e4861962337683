//! Frames of the peer.

use std::time::{Duration, Instant};

use restpipe_proto::pb::{Cancel, GoAway, GoAwayReason, Hello, Limits, Notice};
use restpipe_proto::{Frame, Kind, VERSION, head};

use super::{Output, Session};
use crate::error::Why;
use crate::limits::{MAX_CONTROL_QUEUE, MAX_STRAYS};

impl Session {
    /// Takes one frame of the peer.
    ///
    /// # Errors
    /// If the pipe cannot go on.
    pub fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        self.heartbeat.on_bytes(now);
        if self.hello_due.is_some() && !matches!(frame.kind, Kind::Hello | Kind::GoAway) {
            return Err(Why::Protocol(format!("{:?} came before HELLO", frame.kind)));
        }
        match frame.kind {
            Kind::Hello => self.on_hello(head::whole(frame.payload)?)?,
            Kind::Req => self.on_request(now, frame)?,
            Kind::Rep => self.on_reply(now, frame)?,
            Kind::Data => self.on_data(now, frame)?,
            Kind::Credit => self.on_credit(frame.stream, head::credit(frame.payload)?),
            Kind::Cancel => self.on_cancel(frame.stream, head::whole(frame.payload)?),
            Kind::Ping => self.on_ping(now, head::ping(frame.payload)?)?,
            Kind::Pong => {
                if let Some(rtt) = self.heartbeat.on_pong(now, head::ping(frame.payload)?) {
                    self.outputs.push_back(Output::HeartbeatRtt(rtt));
                }
            }
            Kind::GoAway => self.on_go_away(head::whole(frame.payload)?)?,
            Kind::Limits => {
                let limits: Limits = head::whole(frame.payload)?;
                self.outputs.push_back(Output::Limit(limits.max_streams));
            }
            Kind::Notice => {
                let notice: Notice = head::whole(frame.payload)?;
                self.outputs.push_back(Output::Notice(notice));
            }
        }
        if self.queue.control_len() > MAX_CONTROL_QUEUE {
            return Err(Why::Protocol("the peer asks for answers that it does not read".into()));
        }
        Ok(())
    }

    fn on_credit(&mut self, stream: u64, bytes: u32) {
        if let Some(bytes) = self.queue.credit(stream, bytes) {
            self.outputs.push_back(Output::Room { stream, bytes });
        }
    }

    fn on_ping(&mut self, now: Instant, token: u64) -> Result<(), Why> {
        if !self.heartbeat.may_be_pinged(now) {
            return Err(Why::Protocol("too many pings in a second".into()));
        }
        self.queue.control(Kind::Pong, 0, head::ping_payload(token));
        Ok(())
    }

    fn on_hello(&mut self, hello: Hello) -> Result<(), Why> {
        if self.hello_due.take().is_none() {
            return Err(Why::Protocol("a second HELLO".into()));
        }
        if !(hello.min_version..=hello.max_version).contains(&VERSION) {
            let detail = format!(
                "the peer ({}) speaks versions {} to {} of the protocol, this node {VERSION}: update the older of the two",
                hello.software, hello.min_version, hello.max_version
            );
            return Err(Why::Version(detail));
        }
        self.heartbeat.on_hello(Duration::from_millis(hello.heartbeat_ms.into()));
        self.outputs.push_back(Output::Opened(Box::new(hello)));
        Ok(())
    }

    fn on_go_away(&mut self, away: GoAway) -> Result<(), Why> {
        let reason = away.reason();
        if reason != GoAwayReason::Replace {
            self.heard_last = true;
            // Also where the pipe ends here: what is above never ran.
            self.refuse_streams_above(away.last_stream);
        }
        match reason {
            GoAwayReason::Draining | GoAwayReason::Replace | GoAwayReason::Replaced => {}
            _ => {
                let retry_after = Duration::from_millis(away.retry_after_ms.into());
                return Err(Why::PeerSaid { reason, detail: away.detail, retry_after });
            }
        }
        self.outputs.push_back(Output::GoingAway(away));
        Ok(())
    }

    /// Judges a frame for a stream that is not open.
    pub(super) fn on_stray(&mut self, now: Instant, stream: u64, kind: Kind) -> Result<(), Why> {
        let ever_open = if self.role.owns(stream) {
            stream < self.next_own
        } else {
            stream != 0 && stream <= self.last_peer
        };
        if !ever_open {
            return Err(Why::Protocol(format!(
                "{kind:?} for stream {stream}, which was never opened"
            )));
        }
        if !self.remembered.contains(&stream) && !self.strays.take(now) {
            return Err(Why::Protocol(format!(
                "over {MAX_STRAYS} frames for streams that had ended"
            )));
        }
        Ok(())
    }

    fn on_data(&mut self, now: Instant, frame: Frame) -> Result<(), Why> {
        if self.role.owns(frame.stream) {
            self.on_reply_data(now, frame)
        } else {
            self.on_request_data(now, frame)
        }
    }

    fn on_cancel(&mut self, stream: u64, cancel: Cancel) {
        if self.role.owns(stream) {
            self.on_call_cancelled(stream, cancel);
        } else {
            self.on_caller_cancel(stream);
        }
    }
}
