//! Handlers written in Rust, for those who embed a node.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::event::{Event, Exception, Reply, Verb};

/// What a handler gives back: a reply, or the exception that the caller gets
/// as return code 251.
pub type HandlerResult = Result<Reply, Exception>;

/// The future of a handler.
pub type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// Answers events. A panic in it is return code 251 for its caller and
/// nothing to anybody else. It is dropped when the caller leaves or the
/// deadline passes.
pub trait Handler: Send + Sync + 'static {
    /// Answers one event.
    fn handle(&self, event: Event) -> HandlerFuture;
}

impl<F, R> Handler for F
where
    F: Fn(Event) -> R + Send + Sync + 'static,
    R: Future<Output = HandlerResult> + Send + 'static,
{
    fn handle(&self, event: Event) -> HandlerFuture {
        Box::pin(self(event))
    }
}

/// Handlers by verb and noun.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: HashMap<(Verb, String), Arc<dyn Handler>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Registry {
    /// No handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `verb` on `noun` (`time/utc`, say) by `handler`; the last one
    /// given counts.
    #[must_use]
    pub fn on(mut self, verb: Verb, noun: &str, handler: impl Handler) -> Self {
        self.handlers.insert((verb, noun.to_owned()), Arc::new(handler));
        self
    }

    pub(crate) fn find(&self, verb: Verb, noun: &str) -> Option<&Arc<dyn Handler>> {
        // The key is owned, so the look-up needs one; the map is empty for
        // all but those who embed.
        if self.handlers.is_empty() {
            return None;
        }
        self.handlers.get(&(verb, noun.to_owned()))
    }
}
