//! Events: told by one task, so that nobody waits for them and nothing fails because of them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::plan;

/// Events that wait at most: those of a thousand new links, and some.
const QUEUE: usize = 4096;

/// Who tells them.
const CONTROLLER: &str = "restpipe.io/operator";

/// Where reconciles leave their Events.
#[derive(Clone, Debug)]
pub(super) struct Events(Sender<(Event, ObjectReference)>);

/// The other end.
pub(super) struct Teller {
    recorder: Recorder,
    queue: Receiver<(Event, ObjectReference)>,
}

/// A queue for Events of this process.
pub(super) fn queue(client: Client, pod: &str) -> (Events, Teller) {
    let reporter = Reporter { controller: CONTROLLER.into(), instance: Some(pod.to_owned()) };
    let (sender, queue) = channel(QUEUE);
    (Events(sender), Teller { recorder: Recorder::new(client, reporter), queue })
}

impl Events {
    /// Tells an Event of a plan. It is lost if too many wait.
    pub(super) fn tell(&self, event: plan::Event, about: &ObjectReference) {
        let event = Event {
            type_: match event.type_ {
                plan::EventType::Normal => EventType::Normal,
                plan::EventType::Warning => EventType::Warning,
            },
            reason: event.reason.to_owned(),
            note: Some(event.note),
            action: event.action.to_owned(),
            secondary: None,
        };
        if self.0.try_send((event, about.clone())).is_err() {
            tracing::debug!("an Event is not told: too many wait");
        }
    }
}

impl Teller {
    /// Tells them one by one.
    pub(super) async fn run(mut self) {
        while let Some((event, about)) = self.queue.recv().await {
            if let Err(error) = self.recorder.publish(&event, &about).await {
                tracing::debug!(%error, reason = event.reason, "an Event is not told");
            }
        }
    }
}
