//! Whose turn it is on a connection: the caller's, to send a head, or the
//! gateway's, to answer.
//!
//! hyper can measure how long a head takes, but reads once more after each
//! answer to begin with that, and tells tokio of each wait and calls it off
//! again: a twentieth of what the node near the caller does for a call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http::Response;
use http_body::{Body, Frame, SizeHint};
use restpipe_pipe::clock::now;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep_until};

use super::body::{BrokenOff, GatewayBody};
use super::serve::HEAD_TIMEOUT;

/// Requests of one connection so far. One task at a time changes them.
#[derive(Debug, Default)]
pub(super) struct Turns {
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Turns {
    /// A head has come.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        add_one(&self.begun);
        Turn(self.clone())
    }
}

/// Cheaper than to add at once, which no other task needs.
fn add_one(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// A request, until its answer has been given or never will be.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turn {
    /// The answer; the turn ends with its body.
    pub(super) fn answer(self, response: Response<GatewayBody>) -> Response<Answer> {
        response.map(|body| Answer { body, _turn: self })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        add_one(&self.0.answered);
    }
}

/// The body of an answer, with the turn that it ends.
pub(super) struct Answer {
    body: GatewayBody,
    _turn: Turn,
}

impl Body for Answer {
    type Data = <GatewayBody as Body>::Data;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BrokenOff>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a connection waits for its next head.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Requests that had begun when it was last looked at.
    begun: u64,
    /// When the head that is waited for is due.
    due: Option<Instant>,
    /// It is left where it was set until it goes off: most heads come long before they are due.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// To be called whenever the connection has been polled; `moved` if by another task than
    /// before. It is ready when a head has not come in time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, moved: bool, turns: &Turns) -> Poll<()> {
        let begun = turns.begun.load(Ordering::Relaxed);
        if begun != std::mem::replace(&mut self.begun, begun) {
            self.due = None;
        }
        if begun != turns.answered.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let due = *self.due.get_or_insert_with(|| now() + HEAD_TIMEOUT);
        let alarm = match &mut self.alarm {
            Some(alarm) if !alarm.is_elapsed() && !moved => return Poll::Pending,
            Some(alarm) => alarm,
            None => self.alarm.insert(Box::pin(sleep_until(due.into()))),
        };
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= due.into() {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(due.into());
        }
        Poll::Pending
    }
}

/// Tells the connections of a listener that it ends.
#[derive(Debug, Default)]
pub(super) struct Ending {
    begun: AtomicBool,
    told: Notify,
}

impl Ending {
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Whether it has begun. Who is told no wakes the task when it does; `moved` if that is
    /// another one than before.
    pub(super) fn waiter(&self) -> impl FnMut(&mut Context<'_>, bool) -> bool {
        let mut told = Box::pin(self.told.notified());
        move |cx, moved| {
            // Each look would take two locks, and there are two looks a call.
            if moved {
                let _ = told.as_mut().poll(cx);
            }
            self.begun.load(Ordering::Acquire)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How long a connection is waited for on which `requests` come.
    async fn waits<F: Future>(turns: &Arc<Turns>, requests: F) -> Duration {
        let (start, mut patience) = (now(), Patience::default());
        let mut requests = std::pin::pin!(requests);
        let mut over = false;
        std::future::poll_fn(|cx| {
            over = over || requests.as_mut().poll(cx).is_ready();
            patience.poll(cx, false, turns)
        })
        .await;
        now() - start
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_the_end_of_the_last_answer() {
        let turns = Arc::new(Turns::default());
        let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert_eq!(waits(&turns, async {}).await, HEAD_TIMEOUT);
        let requests = async {
            for _ in 0..3 {
                pause(9).await;
                let turn = turns.begin();
                pause(100).await;
                drop(turn);
            }
        };
        assert_eq!(waits(&turns, requests).await, Duration::from_secs(3 * 109) + HEAD_TIMEOUT);
        // Answered before anybody has looked again.
        let at_once = async {
            for _ in 0..5 {
                pause(6).await;
                drop(turns.begin());
            }
        };
        assert_eq!(waits(&turns, at_once).await, Duration::from_secs(30) + HEAD_TIMEOUT);
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_the_end_once_it_begins() {
        let ending = Ending::default();
        let mut early = ending.waiter();
        let mut polls = 0;
        let waits = std::future::poll_fn(|cx| {
            polls += 1;
            if early(cx, polls == 1) { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::join!(waits, async { ending.begin() });
        let mut late = ending.waiter();
        std::future::poll_fn(|cx| if late(cx, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }
}
