//! What is written, and when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use restpipe_api::condition::{CONNECTED, READY, reason};

use super::world::{HOUR, MINUTE, World};
use crate::plan::conditions::{Conditions, Finding, shortened};
use crate::plan::event::{Event, news};
use crate::plan::time::{parse, system, time};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn set(before: &[Condition], finding: &Finding, now: SystemTime) -> Vec<Condition> {
    let mut conditions = Conditions::new(before, Some(3), now);
    conditions.set(finding);
    conditions.finish()
}

#[test]
fn the_time_of_a_condition_is_that_of_the_last_change_of_its_status() {
    let up = Finding::good(CONNECTED, reason::CONNECTED, "up");
    let first = set(&[], &up, at(100));
    assert_eq!(first[0].last_transition_time, time(at(100)));
    let later = set(&first, &up, at(200));
    assert_eq!(later, first);
    let other = Finding::good(CONNECTED, "Else", "2 pipes are up");
    let reworded = set(&first, &other, at(300));
    assert_eq!(reworded[0].last_transition_time, time(at(100)));
    assert_eq!(reworded[0].message, "2 pipes are up");
    let down = set(&reworded, &Finding::bad(CONNECTED, reason::NO_PODS, "gone"), at(400));
    assert_eq!(down[0].last_transition_time, time(at(400)));
}

#[test]
fn ready_is_as_the_first_that_does_not_hold() {
    let good = Finding::good("A", "Fine", "");
    let bad = Finding::bad("B", "Wrong", "because");
    let worse = Finding::bad("C", "Worse", "");
    let ready = Finding::ready(&[&good, &bad, &worse], "all is well");
    assert_eq!((ready.type_, ready.reason, &*ready.message), (READY, "Wrong", "because"));
    assert!(Finding::ready(&[&good], "all is well").holds());
}

#[test]
fn news_is_told_once() {
    let down = Finding::bad(CONNECTED, reason::DNS_FAILED, "no such host");
    let up = Finding::good(CONNECTED, reason::CONNECTED, "1 pipe is up");
    assert_eq!(news(&[], &[&down]), []);
    let reasons = |events: Vec<Event>| events.iter().map(|one| one.reason).collect::<Vec<_>>();
    let was_down = set(&[], &down, at(1));
    assert_eq!(reasons(news(&was_down, &[&up])), ["Connected"]);
    let was_up = set(&[], &up, at(2));
    assert_eq!(news(&was_up, &[&up]), []);
    assert_eq!(reasons(news(&was_up, &[&down])), ["Disconnected"]);
}

#[test]
fn notes_and_messages_fit_where_they_go() {
    let long = "ü".repeat(40_000);
    assert!(Event::warning("A", "B", &*long).note.len() <= 1024);
    assert_eq!(shortened(&long, 64).chars().count(), 64);
    assert_eq!(shortened("short", 64), "short");
    let written = set(&[], &Finding::bad("A", "B", long), at(1));
    assert_eq!(written[0].message.chars().count(), 32_768);
}

#[test]
fn times_are_whole_seconds_and_survive_the_way_there_and_back() {
    let fine = at(1_800_000_000) + Duration::from_nanos(123_456_789);
    assert_eq!(system(&time(fine)), at(1_800_000_000));
    assert_eq!(system(&time(UNIX_EPOCH - HOUR)), UNIX_EPOCH - HOUR);
    assert_eq!(parse("2027-01-15T08:00:00Z"), Some(at(1_800_000_000)));
    assert_eq!(parse("yesterday"), None);
    let text = serde_json::to_string(&time(fine)).unwrap();
    assert_eq!(text, "\"2027-01-15T08:00:00Z\"");
    // The very far future is no panic.
    let _ = time(UNIX_EPOCH + Duration::from_secs(u64::MAX / 2));
}

#[test]
fn a_second_look_at_the_same_things_writes_nothing_whatever_the_clock_says() {
    let mut world = World::with_clients(&["a", "b"]);
    for _ in 0..30 {
        world.pass(MINUTE);
        assert_eq!(world.reconcile(), 0);
    }
    assert!(world.plan_server().again_in.is_some());
}

proptest! {
    /// Setting what is there already changes nothing.
    #[test]
    fn setting_twice_is_setting_once(
        steps in proptest::collection::vec((any::<bool>(), 0_usize..3, 1_u64..1_000_000), 1..20),
    ) {
        let mut before = Vec::new();
        for (holds, word, seconds) in steps {
            let word = ["A", "B", "C"][word];
            let finding =
                if holds { Finding::good(READY, word, word) } else { Finding::bad(READY, word, word) };
            let once = set(&before, &finding, at(seconds));
            prop_assert_eq!(&set(&once, &finding, at(seconds + 77)), &once);
            before = once;
        }
    }
}
