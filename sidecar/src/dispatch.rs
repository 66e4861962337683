//! Events of a peer to the handler that has them, and its answer back.
//!
//! The first that has an event answers it: handlers registered in Rust, the
//! app, the directory of executables, the built-in ones.

mod app;
mod builtin;
mod directory;
mod reply;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use http::HeaderValue;
use restpipe_config::{HandlerSettings, Role};
use restpipe_pipe::clock::now;
use restpipe_pipe::pb::CancelReason;
use restpipe_pipe::{Incoming, Responder, Service};
use tracing::{Instrument, debug, debug_span, warn};

pub use app::AppClient;
pub use directory::Directory;
pub(crate) use reply::send;

use crate::event::{CODE_NO_HANDLER, Event, EventBody, Exception, Reply, Verb};
use crate::gateway::path;
use crate::handler::Registry;
use crate::headers;
use crate::presence::{Change, Presence, PresenceEvent};
use crate::telemetry::{Recorder, Served};

/// Bytes of a traceback or of a failed executable's stderr that are passed on.
const MAX_TRACEBACK: usize = 16 * 1024;

/// Headers that an event gets on its way to the app.
const MORE_HEADERS: usize = 5;

/// How an event ended on this side.
pub(crate) enum Answer {
    /// A handler answered.
    Reply(Reply),
    /// A handler failed.
    Exception(Exception),
    /// Nothing here has such a handler.
    NoHandler,
    /// No answer can be given; the caller is told why.
    Cancel(CancelReason, String),
}

/// Finds and runs handlers; one for the whole node.
#[derive(Debug)]
pub struct Dispatcher {
    role: Role,
    registry: Registry,
    app: Option<AppClient>,
    directory: Option<Directory>,
    builtin: bool,
    tracebacks: bool,
    recorder: Recorder,
}

impl Dispatcher {
    /// A dispatcher over what the settings name.
    pub fn new(
        role: Role,
        settings: &HandlerSettings,
        registry: Registry,
        recorder: Recorder,
    ) -> Self {
        let HandlerSettings { app, directory, builtin, tracebacks } = settings.clone();
        Self {
            role,
            registry,
            app: app.map(AppClient::new),
            directory: directory.map(Directory::new),
            builtin,
            tracebacks,
            recorder,
        }
    }

    /// The event is in a box, as it goes through many hands.
    async fn answer(&self, event: Box<Event>) -> Answer {
        let result = if let Some(handler) = self.registry.find(event.verb, &event.noun) {
            handler.handle(*event).await
        } else if let Some(app) = &self.app {
            return app.answer(event).await;
        } else if let Some(found) = self.directory.as_ref().and_then(|dir| dir.find(&event)) {
            // In a box, so that events of the app need not have room for it.
            Box::pin(found.run(*event)).await
        } else if self.builtin {
            return builtin::answer(self.role, &event);
        } else {
            return Answer::NoHandler;
        };
        result.map_or_else(Answer::Exception, Answer::Reply)
    }

    async fn serve(self: Arc<Self>, peer: Arc<str>, incoming: Incoming) {
        let started = now();
        let Incoming { head, body, deadline, responder } = incoming;
        let event = match to_event(peer, head, body, deadline) {
            Ok(event) => Box::new(event),
            Err(detail) => {
                self.recorder.invalid(now() - started);
                return responder.cancel(CancelReason::RefusedInvalid, detail);
            }
        };
        let about = About::of(&event);
        let span = debug_span!("event", peer = %about.peer, verb = %about.verb, noun = %about.noun, traceparent = about.traceparent());
        async {
            let answer = AssertUnwindSafe(self.answer(event)).catch_unwind().await;
            let answer = answer.unwrap_or_else(|panic| Answer::Exception(panicked(panic.as_ref())));
            let served = match self.to_reply(&about, answer) {
                Ok(reply) => about.reply(reply, responder).await,
                Err((reason, detail)) => about.cancel(reason, detail, responder),
            };
            debug!(code = served.code, took = ?(now() - started), "event handled");
            self.recorder.served(about.verb, &about.noun, served, now() - started);
        }
        .instrument(span)
        .await;
    }

    /// The reply that is an answer, or why there is none.
    fn to_reply(&self, about: &About, answer: Answer) -> Result<Reply, (CancelReason, String)> {
        match answer {
            Answer::Reply(reply) => Ok(reply),
            Answer::Exception(exception) => {
                about.warn("handler failed", &exception.class, &exception.message);
                Ok(Reply::exception(&self.to_send(exception)))
            }
            Answer::NoHandler => Ok(no_handler()),
            Answer::Cancel(reason, detail) => Err((reason, detail)),
        }
    }

    fn to_send(&self, mut exception: Exception) -> Exception {
        if self.tracebacks {
            let mut cut = exception.traceback.len().min(MAX_TRACEBACK);
            while !exception.traceback.is_char_boundary(cut) {
                cut -= 1;
            }
            exception.traceback.truncate(cut);
        } else {
            exception.traceback.clear();
        }
        exception
    }
}

/// What is left of an event once a handler has it: for its answer, and for
/// logs.
struct About {
    peer: Arc<str>,
    verb: Verb,
    noun: String,
    traceparent: Option<HeaderValue>,
}

impl About {
    fn of(event: &Event) -> Self {
        Self {
            peer: event.peer.clone(),
            verb: event.verb,
            noun: event.noun.clone(),
            traceparent: event.headers.get(headers::TRACEPARENT).cloned(),
        }
    }

    fn traceparent(&self) -> &str {
        headers::text(self.traceparent.as_ref())
    }

    fn cancel(&self, reason: CancelReason, detail: String, responder: Responder) -> Served {
        self.warn("event not answered", restpipe_pipe::error::cancel_word(reason), &detail);
        responder.cancel(reason, detail);
        Served::cancelled(reason)
    }

    async fn reply(&self, reply: Reply, responder: Responder) -> Served {
        let code = reply.code;
        match send(self.verb, reply, responder).await {
            Ok(()) => Served::answered(code),
            Err(error) => {
                let reason = CancelReason::BadReply;
                let word = restpipe_pipe::error::cancel_word(reason);
                self.warn("reply broken off", word, &error.to_string());
                Served::cancelled(reason)
            }
        }
    }

    /// Says what went wrong with all that finds the event again. An event's
    /// span would say the same, and is made at level debug only: it costs a
    /// quarter of what the node does for a call.
    fn warn(&self, message: &'static str, reason: &str, detail: &str) {
        warn!(peer = %self.peer, verb = %self.verb, noun = %self.noun, traceparent = self.traceparent(), reason, detail, "{message}");
    }
}

/// The service of one pipe: the dispatcher, and who is at the other end.
#[derive(Debug)]
pub struct PeerService {
    dispatcher: Arc<Dispatcher>,
    peer: Arc<str>,
    presence: Presence,
}

impl PeerService {
    /// Serves the events of `peer`, and tells its news.
    pub fn new(dispatcher: Arc<Dispatcher>, peer: Arc<str>, presence: Presence) -> Self {
        Self { dispatcher, peer, presence }
    }
}

impl Service for PeerService {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.dispatcher.clone().serve(self.peer.clone(), event))
    }

    fn on_refused(&self, reason: CancelReason) {
        self.dispatcher.recorder.not_taken(reason);
    }

    fn on_heartbeat(&self, rtt: Duration) {
        self.dispatcher.recorder.heartbeat(rtt);
    }

    fn on_reload_failed(&self, word: Option<&str>) {
        let change = word.map_or(Change::CertReload, |_| Change::CertReloadFailed);
        let reason = word.map(str::to_owned);
        self.presence.tell(PresenceEvent { reason, ..PresenceEvent::new(change, &self.peer) });
    }
}

/// Checks what a peer sent before anything acts on it: its gateway has, but
/// the peer is not trusted to.
fn to_event(
    peer: Arc<str>,
    head: restpipe_pipe::pb::RequestHead,
    body: restpipe_pipe::RecvBody,
    deadline: Option<Instant>,
) -> Result<Event, String> {
    let verb = Verb::from_wire(head.verb()).ok_or("the verb is none that this node knows")?;
    path::check_noun(&head.noun).map_err(|error| error.to_string())?;
    head.args
        .iter()
        .try_for_each(|arg| path::check_segment(arg))
        .map_err(|error| error.to_string())?;
    let headers = headers::from_wire(head.headers, MORE_HEADERS)?;
    if !head.mime.is_empty() && http::HeaderValue::from_str(&head.mime).is_err() {
        return Err("the content type is no header value".to_owned());
    }
    let (noun, args, query, mime) = (head.noun, head.args, head.query, head.mime);
    let body_len = head.body_len;
    let body = EventBody::new(body, body_len);
    Ok(Event { peer, verb, noun, args, query, mime, headers, body, body_len, deadline })
}

/// The answer where nobody has the noun.
pub(crate) fn no_handler() -> Reply {
    let mut reply = Reply::exception(&Exception::new(
        "NoHandler",
        "no handler of this node has that verb and noun",
    ));
    reply.code = CODE_NO_HANDLER;
    reply.status = http::StatusCode::NOT_FOUND;
    reply
}

fn panicked(panic: &(dyn Any + Send)) -> Exception {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Exception::new("Panic", message.unwrap_or_else(|| "the handler panicked".to_owned()))
}
