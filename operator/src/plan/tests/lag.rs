//! Rotations with a kubelet that takes its time, and clients that come and go.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use restpipe_api::CaPhase;
use restpipe_api::names::ROTATE_CA;

use super::world::World;

/// How long the world runs between two looks.
const STEP: Duration = Duration::from_secs(20);

/// kubelet brings a change of a Secret within 60 s and the lifetime of its cache.
const MAX_LAG: u64 = 110;

/// Steps until a rotation must be over: two times two minutes and four times the lag.
const MAX_STEPS: usize = 60;

/// A node that reads its Secret some time after it has changed; what is written meanwhile does not
/// make it later, it is read along.
struct Kubelet {
    lag: Duration,
    read: Vec<u8>,
    due: Option<SystemTime>,
}

impl Kubelet {
    /// Whether the node is to read its Secret now.
    fn is_due(&mut self, bytes: Vec<u8>, now: SystemTime) -> bool {
        if bytes == self.read {
            return false;
        }
        let due = *self.due.get_or_insert(now + self.lag);
        if due > now {
            return false;
        }
        (self.read, self.due) = (bytes, None);
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// At every moment each client could make its pipe anew, connected or not, and the rotation ends.
    #[test]
    fn no_client_is_cut_off_however_late_kubelet_is(
        lags in proptest::collection::vec(0..=MAX_LAG, 4),
        // When which client is away, in steps.
        absences in proptest::collection::vec((0_usize..30, 0_usize..20), 3),
    ) {
        let names = ["a", "b", "c"];
        let mut world = World::with_clients(&names);
        let mut kubelets: BTreeMap<&str, Kubelet> = ["hub"].iter().chain(&names).zip(&lags)
            .map(|(name, lag)| (*name, Kubelet { lag: Duration::from_secs(*lag), read: Vec::new(), due: None }))
            .collect();
        world.server.metadata.annotations = Some([(ROTATE_CA.to_owned(), "1".to_owned())].into());
        let mut steps = 0;
        loop {
            world.settle();
            let (now, bytes) = (world.now, |data: &BTreeMap<String, Vec<u8>>| {
                [&*data["tls.crt"], &data["ca.crt"]].concat()
            });
            let own = bytes(&world.secret.as_ref().unwrap().data);
            if kubelets.get_mut("hub").unwrap().is_due(own, now) {
                world.sync_server();
            }
            for (name, (from, length)) in names.iter().zip(&absences) {
                if kubelets.get_mut(name).unwrap().is_due(bytes(&world.secret_of(name).data), now) {
                    world.sync(name);
                }
                let away = (*from..from + length).contains(&steps);
                world.clients.get_mut(*name).unwrap().connected = !away;
                prop_assert_eq!(world.can_connect(name), Ok(()), "{} after {} steps", name, steps);
            }
            let phase = world.server.status.as_ref().unwrap().ca.as_ref().unwrap().phase;
            if steps > 0 && phase == CaPhase::Stable {
                break;
            }
            steps += 1;
            prop_assert!(steps < MAX_STEPS, "{:?}", world.server.status);
            world.pass(STEP);
        }
    }
}
