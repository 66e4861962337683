//! Who may be a client.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use proptest::prelude::*;
use restpipe_api::condition::reason;
use restpipe_api::{From, RestPipeLink, RestPipeServer};

use super::world::{DAY, MINUTE, World, link};
use crate::plan::claims::{Claims, Freed, claims, freed, names, permits};
use crate::plan::time::time;
use crate::seen::{Key, Names};

fn hub() -> RestPipeServer {
    World::new().server
}

fn aged(namespace: &str, name: &str, hostname: &str, age_days: u32) -> RestPipeLink {
    let mut link = link(namespace, name);
    link.spec.hostname = Some(hostname.into());
    link.metadata.creation_timestamp = Some(time(World::new().now - age_days * DAY));
    link
}

fn open_hub() -> RestPipeServer {
    let mut server = hub();
    server.spec.clients.namespaces.from = From::All;
    server
}

fn listed(previous: &Names, claims: &Claims) -> Names {
    names(previous, claims, &Freed::new())
}

fn refusal(claims: &Claims, namespace: &str, name: &str) -> Option<&'static str> {
    let key = Key { namespace: namespace.into(), name: name.into() };
    claims.links[&key].refused.as_ref().map(|refusal| refusal.reason)
}

#[test]
fn the_oldest_link_has_the_hostname_and_the_younger_one_is_told_which() {
    let links = [aged("a", "young", "files", 1), aged("z", "old", "files", 2)];
    let found = claims(&open_hub(), &links, None);
    assert_eq!(refusal(&found, "z", "old"), None);
    assert_eq!(refusal(&found, "a", "young"), Some(reason::HOSTNAME_TAKEN));
    let key = Key { namespace: "a".into(), name: "young".into() };
    let text = &found.links[&key].refused.as_ref().unwrap().message;
    assert!(text.contains("z/old") && text.contains("files"), "{text}");
}

#[test]
fn a_link_that_is_being_deleted_or_not_permitted_claims_nothing() {
    let mut old = aged("shop", "old", "files", 9);
    old.metadata.deletion_timestamp = Some(time(World::new().now));
    let stranger = aged("elsewhere", "older", "files", 99);
    let found = claims(&hub(), &[old, stranger, aged("shop", "young", "files", 1)], None);
    assert_eq!(refusal(&found, "shop", "old"), Some(reason::BEING_DELETED));
    assert_eq!(refusal(&found, "elsewhere", "older"), Some(reason::REF_NOT_PERMITTED));
    assert_eq!(refusal(&found, "shop", "young"), None);
}

#[test]
fn a_suspended_link_keeps_its_hostname() {
    let mut old = aged("shop", "old", "files", 9);
    old.spec.suspend = true;
    let found = claims(&hub(), &[old, aged("shop", "young", "files", 1)], None);
    assert_eq!(refusal(&found, "shop", "young"), Some(reason::HOSTNAME_TAKEN));
    let names = listed(&Names::default(), &found);
    assert!(names.clients.contains("files") && names.suspended.contains("files"));
}

#[test]
fn hostnames_that_no_node_could_have_are_refused_before_they_spoil_the_servers_settings() {
    let long = "a".repeat(64);
    for (hostname, word) in [
        ("10.0.0.7", reason::HOSTNAME_INVALID),
        ("under_score", reason::HOSTNAME_INVALID),
        ("*", reason::HOSTNAME_INVALID),
        ("", reason::HOSTNAME_INVALID),
        ("a..b", reason::HOSTNAME_INVALID),
        (&long, reason::NAME_TOO_LONG),
        (&["abcdefgh"; 30].join("."), reason::NAME_TOO_LONG),
    ] {
        let found = claims(&hub(), &[aged("shop", "one", hostname, 1)], None);
        assert_eq!(refusal(&found, "shop", "one"), Some(word), "{hostname}");
        assert!(listed(&Names::default(), &found).clients.is_empty());
    }
}

#[test]
fn links_of_other_servers_and_external_ones_are_none_of_ours() {
    let mut other = link("shop", "other");
    other.spec.server.name = Some("another".into());
    let mut elsewhere = link("shop", "elsewhere");
    elsewhere.spec.server.namespace = Some("b".into());
    let mut external = link("shop", "external");
    external.spec.server = Default::default();
    // Without a namespace it is the link's own.
    let mut near = link("shop", "near");
    near.spec.server.namespace = None;
    let found = claims(&hub(), &[other, elsewhere, external, near], None);
    assert_eq!(found.links.len(), 1);
    assert_eq!(refusal(&found, "shop", "near"), None);
}

#[test]
fn a_server_takes_no_more_links_than_its_settings_can_name() {
    let links: Vec<_> = (0..9000_u32)
        .map(|number| {
            let mut link = aged("shop", &format!("l{number}"), &format!("{number:0>60}.a"), 1);
            link.metadata.creation_timestamp =
                Some(time(World::new().now + std::time::Duration::from_secs(number.into())));
            link.spec.suspend = true;
            link
        })
        .collect();
    let found = claims(&hub(), &links, None);
    assert_eq!(refusal(&found, "shop", "l0"), None);
    assert_eq!(refusal(&found, "shop", "l8999"), Some(reason::TOO_MANY_LINKS));
    let key = Key { namespace: "shop".into(), name: "hub".into() };
    let text = crate::plan::node::server_toml(&key, &listed(&Names::default(), &found)).unwrap();
    assert!(text.len() as u64 <= restpipe_config::MAX_FILE, "{}", text.len());
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn selecting(key: &str, operator: &str, values: &[&str]) -> RestPipeServer {
    let mut server = hub();
    server.spec.clients.namespaces.from = From::Selector;
    server.spec.clients.namespaces.selector = Some(LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }]),
        match_labels: None,
    });
    server
}

#[test]
fn namespaces_are_permitted_as_kubernetes_selects() {
    let red = labels(&[("team", "red")]);
    let none = labels(&[]);
    for (operator, values, of_red, of_none) in [
        ("In", &["red", "blue"][..], true, false),
        ("In", &["blue"], false, false),
        ("NotIn", &["red"], false, true),
        ("NotIn", &["blue"], true, true),
        ("Exists", &[], true, false),
        ("DoesNotExist", &[], false, true),
        ("SomethingNew", &["red"], false, false),
    ] {
        let server = selecting("team", operator, values);
        assert_eq!(permits(&server, "x", Some(&red)).is_ok(), of_red, "{operator} {values:?}");
        assert_eq!(permits(&server, "x", Some(&none)).is_ok(), of_none, "{operator} {values:?}");
        // What is not known is never taken for absent.
        assert!(permits(&server, "x", None).is_err(), "{operator} {values:?}");
    }
    let mut server = selecting("team", "Exists", &[]);
    let selector = server.spec.clients.namespaces.selector.as_mut().unwrap();
    selector.match_labels = Some(labels(&[("env", "prod")]));
    assert!(permits(&server, "x", Some(&red)).is_err());
    assert!(permits(&server, "x", Some(&labels(&[("team", "red"), ("env", "prod")]))).is_ok());

    assert!(permits(&hub(), "shop", None).is_ok());
    assert!(permits(&hub(), "storage", None).unwrap_err().contains("from to All"));
    assert!(permits(&open_hub(), "storage", None).is_ok());
    let by_name = selecting("kubernetes.io/metadata.name", "In", &["storage"]);
    assert!(permits(&by_name, "storage", None).is_ok());
    assert!(permits(&by_name, "other", None).is_err());
}

#[test]
fn names_get_a_new_version_exactly_when_they_change() {
    let one = claims(&hub(), &[aged("shop", "a", "a", 1)], None);
    let first = listed(&Names::default(), &one);
    assert_eq!(first.version, 1);
    assert_eq!(listed(&first, &one), first);
    let two = claims(&hub(), &[aged("shop", "a", "a", 1), aged("shop", "b", "b", 1)], None);
    assert_eq!(listed(&first, &two).version, 2);
    assert_eq!(listed(&listed(&first, &two), &one).version, 3);
}

#[test]
fn a_hostname_that_its_link_has_lost_is_on_no_list_until_the_pods_have_that_list() {
    let now = World::new().now;
    let of = |uid: &str| {
        let mut link = aged("shop", uid, "files", 1);
        link.metadata.uid = Some(uid.into());
        claims(&hub(), &[link], None)
    };
    let (old, new, nobody) = (of("old"), of("new"), claims(&hub(), &[] as &[RestPipeLink], None));
    let none = Freed::new();
    assert_eq!(freed(&old, &none, &old, true, now), none);
    for next in [&new, &nobody] {
        let lost = freed(&old, &none, next, true, now);
        assert_eq!(lost, Freed::from([("files".to_owned(), now)]));
        assert!(names(&listed(&Names::default(), &old), next, &lost).clients.is_empty());
        // Whoever has it by then: it waits for the pods, and not for ever.
        assert_eq!(freed(next, &lost, &new, true, now), none);
        assert_eq!(freed(next, &lost, &new, false, now + MINUTE), lost);
        assert_eq!(freed(&new, &lost, &new, false, now + 2 * MINUTE), none);
        assert_eq!(freed(&new, &lost, &new, false, now - MINUTE), none, "a clock was wrong");
    }
    // It changes hands once more meanwhile.
    let lost = freed(&old, &none, &new, false, now);
    assert_eq!(freed(&new, &lost, &old, false, now + MINUTE)["files"], now + MINUTE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a watch shuffles them, and whoever else comes later, the winner is the same.
    #[test]
    fn the_winner_does_not_depend_on_the_order(
        ages in proptest::collection::vec((0_u32..5, 0_u8..3), 2..12),
        seed in any::<u64>(),
    ) {
        let links: Vec<_> = ages.iter().enumerate().map(|(index, (age, hostname))| {
            aged("shop", &format!("l{index}"), &format!("h{hostname}"), *age)
        }).collect();
        let expected = claims(&hub(), &links, None);
        let mut shuffled: Vec<_> = links.iter().collect();
        let mut state = seed;
        for index in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(index, (state >> 33) as usize % (index + 1));
        }
        prop_assert_eq!(&claims(&hub(), shuffled, None), &expected);

        let mut more = links.clone();
        let mut late = aged("shop", "a-late-one", "h0", 0);
        late.metadata.creation_timestamp = Some(time(World::new().now + DAY));
        more.push(late);
        let with_more = claims(&hub(), &more, None);
        for (key, verdict) in &expected.links {
            prop_assert_eq!(&with_more.links[key], verdict);
        }
        // One holder per name.
        let mut held: Vec<_> = expected.accepted().map(|(_, one)| &one.hostname).collect();
        let all = held.len();
        held.sort();
        held.dedup();
        prop_assert_eq!(held.len(), all);
    }
}
