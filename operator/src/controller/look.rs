//! Asking a link's pods why it is not connected, and where nobody else can tell, whether it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use restpipe_api::MAX_NAMES_LISTED;

use super::context::{Context, Look};
use super::world::Target;
use crate::plan::ClientPodSeen;
use crate::presence::{ProbeSeen, Prober};
use crate::seen::{Key, PodSeen};

/// Pods of a link that are asked why it is not connected: the first ones say what all would.
const PODS_ASKED: usize = 3;

/// Pods of one link that are asked at the same time: a quarter of what the prober asks, so that a
/// link whose pods are silent does not keep others from being asked.
const ASKED_AT_ONCE: usize = 4;

/// When its pods are asked again: soon at first, for who is just installing it, and once a minute
/// for what stays so.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOK_SELDOM: Duration = Duration::from_secs(60);

/// A pod that is asked: its name and its address.
type Asked = (String, IpAddr);

/// What the pods of a link have told, and when to ask them again. They are asked beside of the
/// reconcile, which does not wait: a pod that does not answer would hold up everybody else.
pub(super) fn look(
    context: &Arc<Context>,
    key: &Key,
    pods: &[PodSeen],
) -> Option<(Look, Duration)> {
    let asked = first(pods, most(context, key));
    if asked.is_empty() {
        return None;
    }
    let (look, is_of_these) = match context.looks.get(key) {
        Some(look) if is_of(&look, &asked) => (look, true),
        Some(look) => (outdated(look), false),
        None => (Look { at: Instant::now(), told: Vec::new(), misses: 0 }, false),
    };
    let (age, pause) = (look.at.elapsed(), pause(look.misses));
    if is_of_these && age < pause {
        return Some((look, pause - age));
    }
    if context.looks.begin(key) {
        tokio::spawn(ask(Arc::clone(context), key.clone(), asked, look.misses));
    }
    Some((look, pause))
}

/// How many pods of a link are asked. What those of an external server's link say is all that is
/// known of its pipes: as many are asked as a status lists.
fn most(context: &Context, key: &Key) -> usize {
    let link = context.world.link(key);
    let is_external = link.is_some_and(|link| link.spec.server.external.is_some());
    if is_external { MAX_NAMES_LISTED } else { PODS_ASKED }
}

fn first(pods: &[PodSeen], most: usize) -> Vec<Asked> {
    pods.iter()
        .filter(|pod| pod.can_be_asked())
        .filter_map(|pod| Some((pod.name.clone(), pod.ip?)))
        .take(most)
        .collect()
}

/// Whether it was a look at these pods, and at no others.
fn is_of(look: &Look, asked: &[Asked]) -> bool {
    look.told.iter().map(|told| &told.pod).eq(asked.iter().map(|(name, _)| name))
}

/// What is left of a look when pods have come or gone. Their pipes may have gone with them. Why
/// there were none stands until those that are there now have told, a moment later: else each
/// step of a rollout would change the reason twice.
fn outdated(look: Look) -> Look {
    let told = if any_is_up(&look.told) { Vec::new() } else { look.told };
    Look { told, misses: 0, ..look }
}

fn any_is_up(told: &[ClientPodSeen]) -> bool {
    told.iter().any(|pod| pod.state.is_ok())
}

/// How often in a row nothing was connected, by one more look.
fn misses(before: u32, told: &[ClientPodSeen]) -> u32 {
    if any_is_up(told) { 0 } else { before.saturating_add(1) }
}

fn pause(misses: u32) -> Duration {
    let doublings = misses.saturating_sub(1);
    LOOK_AGAIN.saturating_mul(2_u32.saturating_pow(doublings)).min(LOOK_SELDOM)
}

async fn ask(context: Arc<Context>, key: Key, pods: Vec<Asked>, misses_before: u32) {
    let answers: Vec<_> =
        pods.into_iter().map(|(pod, ip)| answer(context.prober.clone(), pod, ip)).collect();
    let told: Vec<ClientPodSeen> = stream::iter(answers).buffered(ASKED_AT_ONCE).collect().await;
    let misses = misses(misses_before, &told);
    let look = Look { at: Instant::now(), told, misses };
    let target = Target::Link(key.clone());
    // Who came meanwhile was not asked, and may be waited for.
    let now = first(&context.world.pods(&target), most(&context, &key));
    let others = !is_of(&look, &now);
    let news = context.looks.set(&key, look);
    context.looks.ended(&key);
    if !context.world.has(&target) {
        context.looks.forget(&key);
    } else if news || others {
        context.links.ask(&key);
    }
}

async fn answer(prober: Prober, pod: String, ip: IpAddr) -> ClientPodSeen {
    let state = prober.probe(ip).await.and_then(ProbeSeen::state);
    ClientPodSeen { pod, state }
}

#[cfg(test)]
mod tests {
    use restpipe_api::condition::reason;

    use super::*;
    use crate::plan::PeerSeen;
    use crate::seen::Trouble;

    fn pod(name: &str) -> PodSeen {
        PodSeen {
            name: name.into(),
            uid: format!("uid of {name}"),
            ip: Some(IpAddr::from([10, 0, 0, 1])),
            phase: "Running".into(),
            ready: true,
            ending: false,
            waiting: None,
            sidecar_runs: true,
        }
    }

    fn up(pod: &str) -> ClientPodSeen {
        let pipe = PeerSeen {
            instance: "hub-0".into(),
            address: "10.0.0.9:7072".into(),
            since: "2026-11-22T08:00:00Z".into(),
        };
        ClientPodSeen { pod: pod.into(), state: Ok(vec![pipe]) }
    }

    fn down(pod: &str) -> ClientPodSeen {
        let trouble = Trouble { reason: reason::UNKNOWN_CA, detail: "another CA".into() };
        ClientPodSeen { pod: pod.into(), state: Err(trouble) }
    }

    fn seen(told: Vec<ClientPodSeen>) -> Look {
        Look { at: Instant::now(), told, misses: 4 }
    }

    #[test]
    fn pods_are_asked_again_soon_and_then_once_a_minute() {
        assert_eq!(pause(0), LOOK_AGAIN);
        assert_eq!(pause(1), LOOK_AGAIN);
        assert_eq!(pause(2), 2 * LOOK_AGAIN);
        assert_eq!(pause(40), LOOK_SELDOM);
    }

    #[test]
    fn while_a_pod_is_connected_the_next_look_is_soon() {
        assert_eq!(misses(0, &[down("a")]), 1);
        assert_eq!(misses(7, &[down("a"), down("b")]), 8);
        assert_eq!(misses(7, &[down("a"), up("b")]), 0);
        assert_eq!(misses(u32::MAX, &[down("a")]), u32::MAX);
    }

    #[test]
    fn a_look_is_good_for_the_pods_that_it_was_at() {
        let look = seen(vec![up("a"), down("b")]);
        let asked = |names: &[&str]| {
            let pods: Vec<PodSeen> = names.iter().map(|name| pod(name)).collect();
            first(&pods, MAX_NAMES_LISTED)
        };
        assert!(is_of(&look, &asked(&["a", "b"])));
        for others in [&["a"][..], &["b"], &["a", "c"], &["a", "b", "c"], &[]] {
            assert!(!is_of(&look, &asked(others)), "{others:?}");
        }
    }

    #[test]
    fn pipes_of_pods_that_have_gone_are_forgotten_and_reasons_stand_until_there_are_others() {
        let left = outdated(seen(vec![up("a"), down("b")]));
        assert_eq!((left.told, left.misses), (Vec::new(), 0));
        let left = outdated(seen(vec![down("a"), down("b")]));
        assert_eq!((left.told, left.misses), (vec![down("a"), down("b")], 0));
    }

    #[test]
    fn pods_are_asked_that_can_be_and_no_more_than_wanted() {
        let mut pods: Vec<PodSeen> = (10..40).map(|number| pod(&format!("fs-{number}"))).collect();
        pods[0].ending = true;
        pods[1].ip = None;
        pods[2].phase = "Pending".into();
        let asked = first(&pods, MAX_NAMES_LISTED);
        assert_eq!((asked.len(), asked[0].0.as_str()), (MAX_NAMES_LISTED, "fs-13"));
        assert_eq!(first(&pods, PODS_ASKED).len(), PODS_ASKED);
        assert!(first(&pods[..3], PODS_ASKED).is_empty());
    }
}
