//! What holds for every pod: nothing of it is lost, the sidecar is first, and a second run changes
//! nothing.

use json_patch::PatchOperation;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use restpipe_operator::inject::inject;
use serde_json::{Map, Value, json};

use crate::admission_review::{kept, sidecar_first};
use crate::{Known, options};

/// A field that may be there, be null, or be missing.
fn field(
    name: &'static str,
    value: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Map<String, Value>> {
    let one = move |value| Map::from_iter([(name.to_owned(), value)]);
    prop_oneof![
        1 => Just(Map::new()),
        1 => Just(one(Value::Null)),
        3 => value.prop_map(one),
    ]
    .boxed()
}

fn object(fields: Vec<BoxedStrategy<Map<String, Value>>>) -> impl Strategy<Value = Value> {
    fields.prop_map(|maps| Value::Object(maps.into_iter().flatten().collect()))
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({ "a": [1, null, { "b/~c": "d" }] })),
        Just(json!(null)),
        "[a-z]{0,5}".prop_map(Value::from),
    ]
}

fn env() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("RESTPIPE_URL".to_owned()), "[A-Z]{1,8}"];
    vec((name, "[a-z$()]{0,8}"), 0..4).prop_map(|variables| {
        variables.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    })
}

fn containers(least: usize) -> impl Strategy<Value = Value> {
    let container = object(vec![
        "[a-z]{1,7}".prop_map(|name| Map::from_iter([("name".to_owned(), name.into())])).boxed(),
        field("env", env()),
        field(
            "ports",
            Just(json!([{ "containerPort": 8080 }, { "containerPort": 7070, "protocol": "UDP" }])),
        ),
        field("volumeMounts", Just(json!([{ "name": "data", "mountPath": "/data" }]))),
        field("future", anything()),
    ]);
    vec(container, least..4).prop_map(Value::from)
}

fn strings() -> impl Strategy<Value = Value> {
    btree_map("[a-z./~]{1,12}", "[ -~]{0,12}", 0..4).prop_map(|map| json!(map))
}

fn annotations() -> impl Strategy<Value = Value> {
    let role = prop_oneof![Just("restpipe.io/link"), Just("restpipe.io/server")];
    let known = prop_oneof![
        Just(("restpipe.io/app-port", "8080")),
        Just(("restpipe.io/gateway-port", "9000")),
        Just(("restpipe.io/memory-limit", "256Mi")),
        Just(("restpipe.io/injected", "0.1.0")),
        Just(("restpipe.io/unknown~/x", "y")),
    ];
    (role, "[a-z][a-z0-9]{0,20}", vec(known, 0..4), strings()).prop_map(
        |(role, name, known, mut others)| {
            others[role] = name.into();
            for (key, value) in known {
                others[key] = value.into();
            }
            others
        },
    )
}

fn pods() -> impl Strategy<Value = Value> {
    let metadata = (annotations(), field("labels", strings()), option::of(anything())).prop_map(
        |(annotations, mut rest, future)| {
            rest.insert("annotations".to_owned(), annotations);
            rest.extend(future.map(|value| ("future".to_owned(), value)));
            Value::Object(rest)
        },
    );
    let spec = object(vec![
        containers(1).prop_map(|list| Map::from_iter([("containers".to_owned(), list)])).boxed(),
        field("initContainers", containers(0)),
        field("volumes", Just(json!([{ "name": "data", "emptyDir": {} }]))),
        field("future", anything()),
    ]);
    (metadata, spec).prop_map(|(metadata, spec)| json!({ "metadata": metadata, "spec": spec }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn nothing_of_a_pod_is_lost_and_a_second_injection_adds_nothing(pod in pods()) {
        let first = inject(&pod, "shop", &Known, &options()).expect("injected");
        prop_assert!(first.patch.0.iter().all(|op| matches!(op, PatchOperation::Add(_))));
        let mut once = pod.clone();
        json_patch::patch(&mut once, &first.patch).expect("the patch fits");
        prop_assert!(kept(&pod, &once), "{pod:#}\n{once:#}");

        prop_assert_eq!(&once["spec"]["initContainers"][0]["name"], "restpipe");
        for list in ["containers", "initContainers"] {
            for container in once["spec"][list].as_array().into_iter().flatten() {
                let env = container["env"].as_array().expect("env");
                let urls = env.iter().filter(|variable| variable["name"] == "RESTPIPE_URL").count();
                prop_assert!(urls >= 1 || container["name"] == "restpipe", "{once:#}");
            }
        }

        let second = inject(&once, "shop", &Known, &options()).expect("injected again");
        prop_assert!(second.patch.0.is_empty(), "{:?}", second.patch);
        prop_assert_eq!(second.warnings, first.warnings);

        // Another webhook has put everything into another order meanwhile.
        let mut moved = once;
        for list in ["containers", "initContainers", "volumes"] {
            if let Some(all) = moved["spec"].get_mut(list).and_then(Value::as_array_mut) {
                all.reverse();
            }
        }
        let third = inject(&moved, "shop", &Known, &options()).expect("injected again");
        let one_move = matches!(third.patch.0[..], [] | [PatchOperation::Move(_)]);
        prop_assert!(one_move, "{:?}", third.patch);
        let mut again = moved.clone();
        json_patch::patch(&mut again, &third.patch).expect("the patch fits");
        prop_assert_eq!(&again["spec"]["initContainers"][0]["name"], "restpipe");
        let expected = sidecar_first(&moved);
        prop_assert_eq!(&again, &expected);
        let fourth = inject(&again, "shop", &Known, &options()).expect("injected again");
        prop_assert!(fourth.patch.0.is_empty(), "{:?}", fourth.patch);
    }
}
