//! The CEL rules of the kinds, without an API server: what each of them refuses, and what is close to
//! that and let in. That a real one says the same show the tests `kube_kinds`.

use std::collections::BTreeSet;

use kube_cel::{ValidationErrors, Validator};
use serde_json::{Value, json};

/// The schema of a kind, as API servers get it.
fn schema(kind: &str) -> Value {
    let crds = restpipe_api::crds().into_iter().map(|crd| serde_json::to_value(crd).expect("JSON"));
    let crd = crds.into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind);
    crd.expect("a definition")["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// The messages of all rules below a place of a schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let message = rule["message"].as_str().expect("each rule has a message");
                found.insert(message.to_owned());
            }
            fields.values().for_each(|value| messages(value, found));
        }
        Value::Array(all) => all.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

/// One kind, and what its rules have said so far.
struct Kind {
    name: &'static str,
    schema: Value,
    said: BTreeSet<String>,
}

impl Kind {
    fn of(name: &'static str) -> Self {
        Self { name, schema: schema(name), said: BTreeSet::new() }
    }

    /// A status with a time after which nothing can be read.
    fn refuses_late_times(&mut self, status: impl Fn(&str) -> Value) {
        let object = |time: &str| {
            let mut object = Self::object("x", &json!({"server": {"name": "hub"}}));
            object["status"] = status(time);
            object
        };
        assert_eq!(self.says(&object("9999-12-30T22:00:00Z"), None), [""; 0]);
        let said = self.says(&object("9999-12-30T22:00:01Z"), None);
        assert!(said.len() == 1 && said[0].contains("the last time that can be read"), "{said:?}");
        self.said.extend(said);
    }

    fn object(name: &str, spec: &Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    }

    fn says(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let result = Validator::new().validate(&self.schema, new, old);
        result
            .err()
            .into_iter()
            .flat_map(ValidationErrors::into_vec)
            .map(|error| error.message)
            .collect()
    }

    /// Of these objects all are refused for the same reason.
    fn refuses(&mut self, why: &str, objects: &[(&str, Value)]) {
        for (name, spec) in objects {
            let said = self.says(&Self::object(name, spec), None);
            assert_eq!(said.len(), 1, "{} {name} {spec}: {said:?}", self.name);
            assert!(said[0].contains(why), "{} {name} {spec}: {said:?}", self.name);
            self.said.extend(said);
        }
    }

    /// All of these changes are refused for the same reason.
    fn refuses_changes(&mut self, why: &str, changes: &[(Value, Value)]) {
        for (from, to) in changes {
            let said = self.says(&Self::object("x", to), Some(&Self::object("x", from)));
            assert!(
                !said.is_empty() && said.iter().all(|said| said.contains(why)),
                "{} {from} -> {to}: {said:?}",
                self.name
            );
            self.said.extend(said);
        }
    }

    fn takes(&self, objects: &[(&str, Value)]) {
        for (name, spec) in objects {
            let object = Self::object(name, spec);
            assert_eq!(self.says(&object, None), [""; 0], "{} {name} {spec}", self.name);
            // Nor does an update refuse what stays as it is.
            assert_eq!(self.says(&object, Some(&object)), [""; 0], "{} {name} {spec}", self.name);
        }
    }

    /// No rule is left that has not been seen to refuse something.
    fn has_said_all(self) {
        let mut all = BTreeSet::new();
        messages(&self.schema, &mut all);
        assert_eq!(self.said, all, "{}", self.name);
    }
}

#[test]
fn every_rule_of_a_server_refuses_what_it_is_for_and_nothing_beside() {
    let mut server = Kind::of("RestPipeServer");
    let long = "a".repeat(40);
    server.takes(&[
        ("hub", json!({})),
        (&long, json!({})),
        ("h1", json!({"service": {"type": "NodePort", "nodePort": 30072}})),
        ("x", json!({"service": {"type": "LoadBalancer", "nodePort": 30072}})),
        ("x", json!({"identity": {"duration": "10m"}})),
        ("x", json!({"identity": {"duration": "2160h"}})),
        ("x", json!({"clients": {"namespaces": {"from": "All"}}})),
        ("x", json!({"clients": {"namespaces": {"from": "Selector", "selector": {}}}})),
    ]);
    let longer = format!("{long}a");
    server.refuses(
        "at most 40 characters, without dots",
        &[(&longer, json!({})), ("hub.shop", json!({}))],
    );
    server.refuses("begin this one with a letter", &[("1hub", json!({})), ("7", json!({}))]);
    server.refuses("no RestPipeServer can have that name", &[("disabled", json!({}))]);
    server.refuses(
        "nodePort needs type NodePort or LoadBalancer",
        &[
            ("x", json!({"service": {"nodePort": 30072}})),
            ("x", json!({"service": {"type": "ClusterIP", "nodePort": 30072}})),
        ],
    );
    server.refuses(
        "selector goes with from: Selector",
        &[
            ("x", json!({"clients": {"namespaces": {"from": "Selector"}}})),
            ("x", json!({"clients": {"namespaces": {"from": "All", "selector": {}}}})),
        ],
    );
    let lives = ["", "9m59s", "2160h1s", "8760h", "1s"];
    let lives = lives.map(|life| ("x", json!({"identity": {"duration": life}})));
    server.refuses("duration must be 10m to 2160h", &lives);
    server.refuses_late_times(|time| json!({"ca": {"notAfter": time}}));
    server.has_said_all();
}

#[test]
fn every_rule_of_a_link_refuses_what_it_is_for_and_nothing_beside() {
    let mut link = Kind::of("RestPipeLink");
    let here = json!({"server": {"name": "hub"}});
    let external = |address: &str| json!({"external": {"address": address, "serverName": "h", "secretName": "s"}});
    let there = json!({"server": external("h:7072")});
    let with = |base: &Value, more: Value| {
        let mut spec = base.clone();
        json_patch::merge(&mut spec, &more);
        spec
    };
    let (named, other) =
        (with(&here, json!({"hostname": "fs"})), with(&here, json!({"hostname": "ax"})));
    let long = "a".repeat(63);
    link.takes(&[
        (&long, here.clone()),
        ("x", there.clone()),
        ("x", named.clone()),
        ("x", with(&here, json!({"server": {"namespace": "shop"}}))),
        ("x", with(&here, json!({"suspend": true}))),
        ("x", with(&here, json!({"export": {"address": "h:65535", "duration": "8760h"}}))),
        ("x", with(&here, json!({"export": {"address": "[::1]:1", "duration": "1h"}}))),
    ]);
    link.refuses("at most 63 characters", &[(&format!("{long}a"), here.clone())]);
    link.refuses("no RestPipeLink can have that name", &[("disabled", here.clone())]);
    link.refuses(
        "give either name, of a RestPipeServer of this cluster, or external",
        &[("x", json!({"server": {}})), ("x", with(&there, json!({"server": {"name": "hub"}})))],
    );
    link.refuses(
        "namespace goes with name",
        &[("x", with(&there, json!({"server": {"namespace": "shop"}})))],
    );
    link.refuses(
        "suspend it where the server is",
        &[("x", with(&there, json!({"suspend": true})))],
    );
    for address in ["h:0", "h:65536", "h:99999", "[::1]:0"] {
        let why = "the port must be 1 to 65535";
        link.refuses(
            why,
            &[
                ("x", json!({"server": external(address)})),
                ("x", with(&here, json!({"export": {"address": address}}))),
            ],
        );
    }
    let lives = ["", "59m59s", "8760h1s"];
    let lives = lives.map(|life| ("x", with(&here, json!({"export": {"duration": life}}))));
    link.refuses("duration must be 1h to 8760h", &lives);

    link.refuses_changes(
        "hostname can't be added or removed",
        &[(here.clone(), named.clone()), (named.clone(), here.clone())],
    );
    link.refuses_changes("hostname can't be changed", &[(named, other)]);
    let elsewhere = with(&here, json!({"server": {"namespace": "shop"}}));
    link.refuses_changes(
        "server can't be changed",
        &[
            (here.clone(), json!({"server": {"name": "other"}})),
            (here.clone(), there.clone()),
            (there.clone(), here.clone()),
            (here.clone(), elsewhere.clone()),
            (elsewhere.clone(), with(&here, json!({"server": {"namespace": "other"}}))),
        ],
    );
    // What does not make it another identity may be changed.
    for to in [with(&here, json!({"suspend": true})), with(&here, json!({"export": {}}))] {
        let said = link.says(&Kind::object("x", &to), Some(&Kind::object("x", &here)));
        assert_eq!(said, [""; 0], "{to}");
    }
    let moved = json!({"server": external("elsewhere:7073")});
    let said = link.says(&Kind::object("x", &moved), Some(&Kind::object("x", &there)));
    assert_eq!(said, [""; 0], "an external server may move");
    link.refuses_late_times(|time| json!({"connections": [{"since": time}]}));
    link.has_said_all();
}
