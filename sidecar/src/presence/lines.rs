//! Changes as server-sent events (HTML, section 9.2).

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Presence, PresenceEvent};
use crate::router::Router;

/// A line that means nothing goes out this often, so that proxies and clients
/// see that the stream of events is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One reader's stream. A reader that is slow misses changes and is told how
/// many; nothing is kept for it beyond the backlog that all readers share.
pub(crate) struct EventLines {
    changes: broadcast::Receiver<PresenceEvent>,
    /// The pipes that are up come first, so that a reader knows where it
    /// begins.
    present: Option<Bytes>,
}

impl EventLines {
    pub(crate) fn begin(router: &Router, presence: &Presence) -> Self {
        // Before the pipes are looked at, or a change in between were missed.
        let changes = presence.listen();
        let present: String = router.peers().iter().map(|peer| line(&peer.as_event())).collect();
        let present = format!(": what is, then what changes\n\n{present}");
        Self { changes, present: Some(present.into()) }
    }

    /// The next lines; `None` when the node has ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(present) = self.present.take() {
            return Some(present);
        }
        tokio::select! {
            change = self.changes.recv() => match change {
                Ok(change) => Some(line(&change).into()),
                Err(RecvError::Lagged(missed)) => {
                    Some(format!(": {missed} changes were missed\n\n").into())
                }
                Err(RecvError::Closed) => None,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b": alive\n\n")),
        }
    }
}

fn line(change: &PresenceEvent) -> String {
    let data = serde_json::to_string(change).unwrap_or_default();
    format!("event: {}\ndata: {data}\n\n", change.event.word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::{BACKLOG, Change};

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_misses_changes_and_is_told_how_many() {
        let presence = Presence::default();
        let mut lines = EventLines::begin(&Router::default(), &presence);
        assert_eq!(lines.next().await.expect("a line"), ": what is, then what changes\n\n");
        for number in 0..BACKLOG + 3 {
            presence.tell(PresenceEvent::new(Change::Connect, &format!("c{number}")));
        }
        assert_eq!(lines.next().await.expect("a line"), ": 3 changes were missed\n\n");
        let next = String::from_utf8_lossy(&lines.next().await.expect("a line")).into_owned();
        assert!(next.starts_with("event: connect\ndata: {") && next.contains("\"c3\""), "{next}");
        while !lines.changes.is_empty() {
            let _ = lines.next().await;
        }
        assert_eq!(lines.next().await.expect("a line"), ": alive\n\n");
    }
}
