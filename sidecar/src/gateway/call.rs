//! One event over a pipe: wait for the peer, send, try again where that is
//! safe, and always give one answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use http::{Request, Response};
use restpipe_pipe::clock::{fraction, now};
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::{Call, CallError, NotSent, Outcome, Reply, StartedCall};
use tracing::{Instrument, debug, debug_span};

use super::body::GatewayBody;
use super::path::{EventPath, Target};
use super::problem::{Problem, ProblemCode};
use super::request::Asked;
use super::source::{RequestBody, Source};
use super::upload::Upload;
use super::{Gateway, answer};
use crate::event::Verb;
use crate::headers;
use crate::router::{Absent, Peer};
use crate::telemetry::code_word;

/// How often an event is sent again after it was refused, or lost and safe.
const MAX_RESENDS: u32 = 2;

/// How often a pipe may turn out to be gone between being picked and used.
const MAX_PICKS: u32 = 16;

/// The longest pause before an event is sent again: who refused it is busy.
const RESEND_PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Sends an event and gives its answer, whatever happens.
    pub(super) async fn event(
        &self,
        target: Target,
        path: EventPath,
        request: &mut Request<Upload>,
    ) -> Response<GatewayBody> {
        let started = now();
        let trace = headers::trace_of(request.headers());
        let span = debug_span!("call", target = %Name(&target), verb = %request.method(), noun = %path.noun, traceparent = %trace.escape_ascii());
        async {
            let verb = Verb::from_method(request.method());
            let result = self.exchange(&target, path, request, trace).await;
            let (outcome, word) = match &result {
                Ok((_, code)) => (Outcome::Executed, code_word(*code)),
                Err(problem) => (problem.outcome, problem.code.word()),
            };
            debug!(outcome = outcome.word(), code = word, took = ?(now() - started), "event ended");
            if let Some(verb) = verb {
                self.recorder.called(verb, outcome, word, now() - started);
            }
            match result {
                Ok((response, _)) => response,
                Err(problem) => problem.into_response(),
            }
        }
        .instrument(span)
        .await
    }

    async fn exchange(
        &self,
        target: &Target,
        path: EventPath,
        request: &mut Request<Upload>,
        trace: Bytes,
    ) -> Result<(Response<GatewayBody>, u32), Problem> {
        let asked = Asked::of(request, path, trace, &self.limits, now())?;
        let verb = asked.verb;
        let body = std::mem::take(request.body_mut());
        let reply = match RequestBody::begin(body, self.limits.body).await? {
            RequestBody::Whole(body) => self.send_whole(target, asked, body).await?,
            RequestBody::Streamed(first, rest) => {
                self.send_streamed(target, asked, first, rest).await?
            }
        };
        answer::of_reply(verb, reply)
    }

    /// Sends an event that can be sent again.
    async fn send_whole(
        &self,
        target: &Target,
        asked: Asked,
        body: Bytes,
    ) -> Result<Reply, Problem> {
        let Asked { verb, head, deadline, wait_until } = asked;
        let mut tries = Tries::default();
        loop {
            let peer = match self.peer_of(target, wait_until).await {
                Ok(peer) => peer,
                Err(problem) => return Err(tries.problem(verb, problem)),
            };
            let call =
                Call { head: head.clone(), body: body.clone(), end: true, deadline, wait_until };
            let error = match send(&peer, call).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let again = tries.again(verb, &error);
            if !goes_on(again, &error, deadline).await {
                return Err(tries.problem(verb, Problem::of_call(verb, &error)));
            }
        }
    }

    /// Sends an event whose body is read while it is sent. It can be sent
    /// again for as long as the little that was read of it is still here. What
    /// goes wrong with the caller's own body counts before what the peer says.
    async fn send_streamed(
        &self,
        target: &Target,
        asked: Asked,
        first: Bytes,
        mut rest: Source,
    ) -> Result<Reply, Problem> {
        let Asked { verb, head, deadline, wait_until } = asked;
        let mut tries = Tries::default();
        loop {
            let peer = match self.peer_of(target, wait_until).await {
                Ok(peer) => peer,
                Err(problem) => return Err(tries.problem(verb, problem)),
            };
            let (head, body) = (head.clone(), first.clone());
            let call = Call { head, body, end: false, deadline, wait_until };
            let (error, left) = match peer.pipe.start(call).await {
                Ok(StartedCall { body: sender, reply }) => {
                    let pump = sender.map(|sender| tokio::spawn(rest.pump(sender)));
                    let error = match noted(&peer, reply.wait().await) {
                        Ok(reply) => return Ok(reply),
                        Err(error) => error,
                    };
                    // It ends soon: nobody wants more for a call that has failed.
                    match OptionFuture::from(pump).await {
                        Some(Ok(left)) => (error, left?),
                        _ => (error, None),
                    }
                }
                Err(error) => (error, Some(rest)),
            };
            let again = tries.again(verb, &error);
            match left {
                Some(left) if goes_on(again, &error, deadline).await => rest = left,
                _ => return Err(tries.problem(verb, Problem::of_call(verb, &error))),
            }
        }
    }

    /// Who answers for `target` by a usable pipe, waited for if need be.
    async fn peer_of(&self, target: &Target, wait_until: Instant) -> Result<Arc<Peer>, Problem> {
        if let Some(peer) = self.router.pick(target) {
            return Ok(peer);
        }
        let absent = self.router.absence(target);
        let pointless = absent == Absent::Suspended
            || (absent == Absent::Unknown && self.router.knows_all_names());
        if !pointless {
            let wait = self.router.pick_when_there(target);
            tokio::select! {
                biased;
                // No pipe is made any more.
                () = self.stop.cancelled() => {
                    return Err(Problem::new(ProblemCode::Draining, "this node is stopping"));
                }
                waited = tokio::time::timeout_at(wait_until.into(), wait) => {
                    if let Ok(peer) = waited {
                        return Ok(peer);
                    }
                }
            }
        }
        Err(absent_problem(target, self.router.absence(target)))
    }
}

async fn send(peer: &Peer, call: Call) -> Result<Reply, CallError> {
    noted(peer, peer.pipe.start(call).await?.reply.wait().await)
}

/// Whether an event that ended with `error` is sent again; waits before that
/// for as long as it should.
async fn goes_on(again: Again, error: &CallError, deadline: Instant) -> bool {
    if again == Again::No || now() >= deadline {
        return false;
    }
    debug!(%error, "event is sent again");
    if again == Again::AfterAPause {
        let pause = RESEND_PAUSE.mul_f64(fraction());
        tokio::time::sleep_until((now() + pause).min(deadline).into()).await;
    }
    true
}

/// Notes whether the peer's app takes calls, for the choice of later ones.
fn noted(peer: &Peer, result: Result<Reply, CallError>) -> Result<Reply, CallError> {
    match &result {
        Ok(_) => peer.refusals.answered(),
        Err(CallError::Refused { reason: CancelReason::RefusedByApp, .. }) => {
            peer.refusals.refused(now());
        }
        Err(_) => {}
    }
    result
}

/// What was tried for one event, and what is known of its handler from that.
#[derive(Default)]
struct Tries {
    picks: u32,
    resends: u32,
    /// The first try after which the handler may have run: whatever a later
    /// one says, it may have.
    unknown: Option<CallError>,
}

#[derive(Debug, PartialEq, Eq)]
enum Again {
    No,
    /// On another pipe, which may be there already.
    AtOnce,
    AfterAPause,
}

impl Tries {
    /// Whether an event that ended with `error` is sent once more.
    fn again(&mut self, verb: Verb, error: &CallError) -> Again {
        self.picks += 1;
        if error.outcome() == Outcome::Unknown {
            self.unknown.get_or_insert_with(|| error.clone());
        }
        if is_gone(error) {
            return if self.picks < MAX_PICKS { Again::AtOnce } else { Again::No };
        }
        let may_run_again = match error.outcome() {
            Outcome::Refused => !is_final(error),
            Outcome::Unknown => verb.is_safe() && *error != CallError::Deadline,
            Outcome::NotSent | Outcome::Executed => false,
        };
        if !may_run_again || self.resends >= MAX_RESENDS {
            return Again::No;
        }
        self.resends += 1;
        Again::AfterAPause
    }

    /// What the caller is told where the last try ended in `last`.
    fn problem(self, verb: Verb, last: Problem) -> Problem {
        match self.unknown {
            Some(unknown) if last.outcome != Outcome::Unknown => Problem::of_call(verb, &unknown),
            _ => last,
        }
    }
}

/// Nothing of it ran, and another pipe may be there already, or soon.
fn is_gone(error: &CallError) -> bool {
    matches!(
        error,
        CallError::NotSent(NotSent::Ended | NotSent::Draining)
            | CallError::Refused { reason: CancelReason::RefusedGoingAway, .. }
    )
}

/// The peer would refuse it again.
fn is_final(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Refused {
            reason: CancelReason::RefusedInvalid | CancelReason::RefusedDeadline,
            ..
        }
    )
}

fn absent_problem(target: &Target, absent: Absent) -> Problem {
    let name = Name(target);
    match absent {
        Absent::Away => Problem::new(
            ProblemCode::PeerAway,
            format!("{name} is not connected; /-/peers lists who is"),
        ),
        Absent::Unknown => Problem::new(
            ProblemCode::UnknownPeer,
            format!(
                "no client called {name} has connected since this server started; /-/peers lists who is there"
            ),
        ),
        Absent::Suspended => {
            Problem::new(ProblemCode::Suspended, format!("{name} is suspended at this server"))
        }
    }
}

/// A target in messages.
struct Name<'a>(&'a Target);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Target::Server => f.write_str("the server"),
            Target::Client(name) => f.write_str(name),
            Target::Address(address) => write!(f, "a client at {address}"),
        }
    }
}
