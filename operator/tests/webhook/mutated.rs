//! What almost is an AdmissionReview. The fuzz target of the same aim goes further, but not in
//! every run of the tests.

use proptest::prelude::*;
use proptest::sample::Index;
use restpipe_operator::inject::{InjectOptions, Links, Role, Standing};
use restpipe_operator::webhook::review::{Decision, review};
use serde_json::{Value, json};

use crate::reviews::question;

struct Good;

impl Links for Good {
    fn standing(&self, _role: Role, _namespace: &str, _name: &str) -> Standing {
        Standing::Good
    }
}

/// Every value within `value`, itself included.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            map.iter()
                .for_each(|(key, value)| pointers(value, &format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), found)),
        _ => {}
    }
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{ "name": "restpipe" }, null])),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn options() -> InjectOptions {
    InjectOptions::new("restpipe:1", None, ["10m", "32Mi", "128Mi"]).expect("good")
}

#[test]
fn the_review_that_is_edited_is_one_of_a_pod_that_is_injected() {
    let body = question("till").to_string();
    let answer = review(body.as_bytes(), &Good, &options()).expect("an answer");
    assert!(matches!(answer.decision, Decision::Injected(_)), "{:?}", answer.decision);
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    assert!(answer["response"]["patch"].is_string(), "{answer}");
}

fn check(body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(answer) = review(body, &Good, &options()) else { return Ok(()) };
    // Parts that nobody looks at are passed over, and may hold texts that are none.
    let Ok(sent) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let response = &answer["response"];
    prop_assert_eq!(&response["uid"], &sent["request"]["uid"]);
    prop_assert_eq!(response["allowed"] == json!(false), response["status"]["message"].is_string());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn reviews_with_other_values_in_some_places_are_answered_or_refused(
        edits in prop::collection::vec((any::<Index>(), values()), 1..4),
    ) {
        let mut review = question("till");
        for (place, value) in edits {
            let mut places = Vec::new();
            pointers(&review, "", &mut places);
            if let Some(found) = review.pointer_mut(place.get(&places[..]).as_str()) {
                *found = value;
            }
        }
        check(review.to_string().as_bytes())?;
    }

    #[test]
    fn reviews_with_other_bytes_in_some_places_are_answered_or_refused(
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        end in any::<Index>(),
    ) {
        let mut bytes = question("till").to_string().into_bytes();
        for (place, byte) in edits {
            *place.get_mut(&mut bytes) = byte;
        }
        check(&bytes)?;
        check(&bytes[..end.index(bytes.len())])?;
    }
}
