//! Asking a link's pods why it is not connected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Context, Look};
use super::world::Target;
use crate::plan::ClientPodSeen;
use crate::seen::{Key, PodSeen};

/// Pods of a link that are asked why it is not connected: the first ones say what all would.
const PODS_ASKED: usize = 3;

/// When its pods are asked again: soon at first, for who is just installing it, and once a minute
/// for what stays so.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOK_SELDOM: Duration = Duration::from_secs(60);

/// What the pods of a link have told, and when to ask them again. They are asked beside of the
/// reconcile, which does not wait: a pod that does not answer would hold up everybody else.
pub(super) fn look(
    context: &Arc<Context>,
    key: &Key,
    pods: &[PodSeen],
) -> Option<(Look, Duration)> {
    let asked: Vec<_> = pods
        .iter()
        .filter(|pod| pod.can_be_asked())
        .filter_map(|pod| Some((pod.name.clone(), pod.ip?)))
        .take(PODS_ASKED)
        .collect();
    if asked.is_empty() {
        return None;
    }
    let before = context.looks.get(key);
    let age = before.as_ref().map(|look| (look.at.elapsed(), pause(look.misses)));
    match (before, age) {
        (Some(look), Some((age, pause))) if age < pause => Some((look, pause - age)),
        (before, _) => {
            if context.looks.begin(key) {
                tokio::spawn(ask(Arc::clone(context), key.clone(), asked, before.clone()));
            }
            let nothing = Look { at: Instant::now(), told: Vec::new(), misses: 0 };
            let look = before.unwrap_or(nothing);
            let next = pause(look.misses);
            Some((look, next))
        }
    }
}

fn pause(misses: u32) -> Duration {
    LOOK_AGAIN.saturating_mul(2_u32.saturating_pow(misses)).min(LOOK_SELDOM)
}

async fn ask(
    context: Arc<Context>,
    key: Key,
    pods: Vec<(String, std::net::IpAddr)>,
    before: Option<Look>,
) {
    let mut told = Vec::new();
    for (pod, ip) in pods {
        let state = context.prober.probe(ip).await.and_then(crate::presence::ProbeSeen::state);
        told.push(ClientPodSeen { pod, state });
    }
    let misses = before.map_or(0, |look| look.misses.saturating_add(1));
    let news = context.looks.set(&key, Look { at: Instant::now(), told, misses });
    context.looks.ended(&key);
    if !context.world.has(&Target::Link(key.clone())) {
        context.looks.forget(&key);
    } else if news {
        context.links.ask(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_asked_again_soon_and_then_once_a_minute() {
        assert_eq!(pause(0), LOOK_AGAIN);
        assert_eq!(pause(1), 2 * LOOK_AGAIN);
        assert_eq!(pause(40), LOOK_SELDOM);
    }
}
