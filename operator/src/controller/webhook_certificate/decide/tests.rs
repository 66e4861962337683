use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// The default.
const OLD_CA_STAYS: Duration = Duration::from_secs(600);

/// A cluster that does what it is told, with a clock that is moved by hand.
struct World {
    facts: Facts,
    now: SystemTime,
    /// What was done since the last look, by its name.
    done: Vec<&'static str>,
}

impl World {
    fn new() -> Self {
        let facts = Facts {
            name: "restpipe-webhook.restpipe-system.svc".into(),
            bundle: Some(Vec::new()),
            ..Facts::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self { facts, now, done: Vec::new() }
    }

    /// Works until there is nothing to do; checks after each step that whoever serves with the
    /// leaf of now is trusted by the bundle of now.
    fn settle(&mut self) -> Duration {
        self.done.clear();
        loop {
            match next(&self.facts, OLD_CA_STAYS, self.now).expect("a step") {
                Step::StoreCa { data, renewed, .. } => {
                    self.done.push("store");
                    self.facts.ca = Some(data);
                    self.facts.renewed = renewed;
                }
                Step::Publish(bundle) => {
                    self.done.push("publish");
                    self.facts.bundle = Some(bundle);
                }
                Step::Serve(data) => {
                    self.done.push("serve");
                    self.facts.tls = Some(data);
                }
                Step::Wait { again_in, not_after } => {
                    assert!(not_after > self.now);
                    return again_in;
                }
            }
            assert!(self.done.len() < 10, "it never ends: {:?}", self.done);
            if self.done.contains(&"publish") {
                assert!(self.is_trusted(), "after {:?}", self.done);
            }
        }
    }

    fn is_trusted(&self) -> bool {
        let Some(tls) = &self.facts.tls else { return true };
        // One by one: an API server takes more roots than a node does.
        self.bundle().iter().any(|root| {
            let (cert, key) = (&tls[TLS_CERT], &tls[TLS_KEY]);
            Credentials::from_pem(cert, key, root.as_bytes(), Usage::Server, self.now).is_ok()
        })
    }

    fn bundle(&self) -> Vec<String> {
        live_roots(self.facts.bundle.as_deref().unwrap_or_default(), self.now)
    }

    fn roots(&self) -> usize {
        self.bundle().len()
    }
}

fn settled() -> World {
    let mut world = World::new();
    world.settle();
    world
}

#[test]
fn at_first_the_bundle_is_there_before_the_leaf() {
    let mut world = World::new();
    assert_eq!(world.settle(), LOOK_AGAIN);
    assert_eq!(world.done, ["store", "publish", "serve"]);
    assert_eq!(world.roots(), 1);
    world.settle();
    assert!(world.done.is_empty(), "settled means that nothing is written");
}

#[test]
fn without_a_configuration_there_is_a_leaf_all_the_same() {
    let mut world = World::new();
    world.facts.bundle = None;
    world.settle();
    assert_eq!(world.done, ["store", "serve"]);
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_by_the_same_ca() {
    let mut world = settled();
    world.now += 19 * DAY;
    world.settle();
    assert!(world.done.is_empty());
    world.now += 2 * DAY;
    world.settle();
    assert_eq!(world.done, ["serve"]);
}

#[test]
fn a_ca_is_rotated_at_two_thirds_and_the_old_one_leaves_after_ten_minutes() {
    let mut world = settled();
    let old_leaf = world.facts.tls.clone();
    for _ in 0..244 {
        world.now += DAY;
        world.settle();
        if world.done.contains(&"store") {
            break;
        }
    }
    assert_eq!(world.done, ["store", "publish", "serve"]);
    assert_ne!(world.facts.tls, old_leaf);
    assert_eq!(world.roots(), 2);
    world.now += OLD_CA_STAYS - Duration::from_secs(5);
    let wait = world.settle();
    assert!(world.done.is_empty() && wait <= Duration::from_secs(5), "{wait:?}");
    world.now += wait;
    world.settle();
    assert_eq!(world.done, ["store", "publish"]);
    assert_eq!(world.roots(), 1);
    world.settle();
    assert!(world.done.is_empty());
}

#[test]
fn the_annotation_rotates_once_for_each_value() {
    let mut world = settled();
    world.facts.renew = Some("1".into());
    world.settle();
    assert_eq!(world.done, ["store", "publish", "serve"]);
    world.settle();
    assert!(world.done.is_empty());
    world.facts.renew = Some("2".into());
    world.settle();
    assert_eq!(world.done, ["store", "publish", "serve"]);
    assert_eq!(world.roots(), 3);
}

#[test]
fn more_rotations_than_the_bundle_has_room_for_wait() {
    let mut world = settled();
    let first = world.facts.bundle.clone().expect("a bundle");
    let turns = MAX_PREVIOUS + 5;
    for turn in 0..turns {
        world.facts.renew = Some(turn.to_string());
        world.settle();
        let bundle = world.facts.bundle.clone().expect("a bundle");
        assert!(String::from_utf8_lossy(&bundle).contains(&*String::from_utf8_lossy(&first)));
    }
    assert_eq!(world.roots(), 1 + MAX_PREVIOUS);
    world.now += OLD_CA_STAYS;
    world.settle();
    assert_eq!(world.facts.renewed, Some((turns - 1).to_string()));
    assert_eq!(world.roots(), 2);
}

#[test]
fn a_bundle_that_is_wiped_is_restored() {
    let mut world = settled();
    let bundle = world.facts.bundle.clone();
    for damage in [&b""[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        world.facts.bundle = Some(damage.to_vec());
        world.settle();
        assert_eq!(world.done, ["publish"]);
        assert_eq!(world.facts.bundle, bundle);
    }
}

#[test]
fn a_deleted_or_damaged_leaf_is_made_anew() {
    let mut world = settled();
    world.facts.tls = None;
    world.settle();
    assert_eq!(world.done, ["serve"]);
    for key in [TLS_CERT, TLS_KEY, CA_CERT] {
        let mut data = world.facts.tls.clone().expect("a leaf");
        data.insert(key.to_owned(), b"nonsense".to_vec());
        world.facts.tls = Some(data);
        world.settle();
        assert_eq!(world.done, ["serve"], "{key}");
    }
}

#[test]
fn a_leaf_for_another_name_is_replaced() {
    let mut world = settled();
    world.facts.name = "other.restpipe-system.svc".into();
    world.settle();
    assert_eq!(world.done, ["serve"]);
}

#[test]
fn a_deleted_or_damaged_ca_leaves_the_one_of_the_leaf_in_the_bundle() {
    for damage in [None, Some(Data::from([(CA_CERT.to_owned(), b"nonsense".to_vec())]))] {
        let mut world = settled();
        world.facts.ca = damage;
        // The webhook goes on with the leaf of the lost CA until kubelet brings the new one.
        world.settle();
        assert_eq!(world.done, ["store", "publish", "serve"]);
        assert_eq!(world.roots(), 2);
        world.now += OLD_CA_STAYS;
        world.settle();
        assert_eq!(world.roots(), 1);
    }
}

#[test]
fn when_everything_is_lost_what_the_api_server_trusts_stays_trusted() {
    let mut world = settled();
    (world.facts.ca, world.facts.tls) = (None, None);
    world.settle();
    assert_eq!(world.done, ["store", "publish", "serve"]);
    assert_eq!(world.roots(), 2);
}
