//! `restpipe-operator export`, with an operator that issues.

use std::path::Path;

use restpipe_cluster_tests::{Ran, SETTLE_TIME, eventually, printed_block, x509};
use serde_json::Value;

use crate::{issued, link, pair, server, shared};

/// The certificate in a node directory.
fn certificate(directory: &str) -> Vec<u8> {
    std::fs::read(Path::new(directory).join("tls.crt")).expect("a certificate")
}

/// Whether it ends within so many hours from now.
fn ends_within(pem: &[u8], hours: u64) -> bool {
    let said = x509(pem, &format!("-checkend {} || true", hours * 3600));
    said.contains("will expire")
}

#[test]
fn an_export_lives_as_long_as_was_asked_for_and_replaces_nothing_unforced() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("durations");
    space.apply(&(pair() + &link("plant-7", "{server: {name: hub}}")));
    issued(&space);
    let place = tempfile::tempdir().expect("a directory");
    let to = place.path().join("plant-7").display().to_string();
    let export = |more: &[&str]| -> Ran {
        let args = ["export", "link/plant-7", "-n", "durations", "--dir", &to];
        cluster.operator(&[&args[..], &["--address", "pipe.example:7072"], more].concat())
    };
    // For 90 days unless told otherwise.
    export(&[]).ok();
    let first = certificate(&to);
    assert!(!ends_within(&first, 89 * 24) && ends_within(&first, 91 * 24));

    let said = export(&["--duration", "240h"]).refused();
    assert!(said.contains("is there already") && said.contains("--force"), "{said}");
    assert!(certificate(&to) == first, "nothing was replaced");
    let spec = space.get(&["rpl/plant-7"])["spec"]["export"].clone();
    assert_eq!(spec["duration"], Value::Null, "nor was anything asked of the operator");

    export(&["--duration", "240h", "--force"]).ok();
    let second = certificate(&to);
    assert!(!ends_within(&second, 239) && ends_within(&second, 241));
    assert_eq!(space.get(&["rpl/plant-7"])["spec"]["export"]["duration"], "240h");
    // What is fresh is not issued anew, and what is asked for is what stays.
    export(&["--force"]).ok();
    assert!(certificate(&to) == second);
    export(&["--duration", "1440h", "--force"]).ok();
    let third = certificate(&to);
    assert!(!ends_within(&third, 1439) && ends_within(&third, 1441));

    // As a manifest, to a file of its own and to stdout.
    let file = place.path().join("plant-7.yaml").display().to_string();
    let manifest = |more: &[&str]| {
        let args = ["export", "link/plant-7", "-n", "durations", "--manifest"];
        cluster.operator(&[&args[..], more].concat())
    };
    manifest(&[&file]).ok();
    let said = manifest(&[&file]).refused();
    assert!(said.contains("is there already"), "{said}");
    let written = std::fs::read_to_string(&file).expect("a manifest");
    assert_eq!(manifest(&["-"]).ok(), written);
    assert!(written.contains("pipe.example:7072"), "the address stays");
}

#[test]
fn an_export_of_a_link_that_is_not_accepted_says_why() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("no-export");
    space.apply(&pair());
    issued(&space);
    space.apply(&link("younger", "{server: {name: hub}, hostname: files}"));
    space.condition("rpl/younger", "Accepted", "False/HostnameTaken", SETTLE_TIME);
    let args = ["export", "link/younger", "-n", "no-export", "--manifest", "-", "--timeout", "2s"];
    // It may take the operator more than that to see the new generation.
    eventually("the reason is told", SETTLE_TIME, || {
        let ran = cluster.operator(&args);
        assert_eq!((ran.status, ran.output.as_str()), (Some(1), ""));
        let said = ran.errors;
        let good = said.contains("no-export/younger has no exported identity after 2s: the older link no-export/files has the hostname files")
            && said.trim().ends_with("(HostnameTaken)");
        if good { Ok(()) } else { Err(said) }
    });
}

/// The lines of docs/kubernetes.md for who has `kubectl` only: those that write a node directory, and
/// those that make a manifest of it.
fn by_kubectl() -> [String; 2] {
    [
        "\nWithout the command line:\n",
        "\nand, if it is for another cluster, the manifest from that directory:\n",
    ]
    .map(|after| printed_block("docs/kubernetes.md", after).join("\n"))
}

#[test]
fn the_documented_lines_of_kubectl_write_what_the_command_line_writes() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("by-kubectl");
    space.apply(
        &(server("hub", "{hostnames: [pipe.example]}") + &link("plant-7", "{server: {name: hub}}")),
    );
    let place = tempfile::tempdir().expect("a directory");
    let lines =
        |script: &str| cluster.lines(place.path(), &script.replace("-n shop", "-n by-kubectl"));
    let [directory, manifest] = by_kubectl();
    lines(&directory).ok();
    let said = lines("restpipe identity verify plant-7").ok();
    assert!(said.contains("plant-7.clients.hub.by-kubectl.restpipe"), "{said}");
    lines("restpipe-operator export link/plant-7 -n shop --dir other").ok();
    for file in ["tls.crt", "tls.key", "ca.crt", "node.toml"] {
        let of = |directory: &str| {
            std::fs::read(place.path().join(directory).join(file)).expect("it was written")
        };
        assert!(of("plant-7") == of("other"), "{file} differs");
    }
    lines(&manifest).ok();
    lines("restpipe-operator export link/plant-7 -n shop --manifest other.yaml").ok();
    let [ours, other] = ["plant-7", "other"].map(|file| {
        let there = cluster.namespace(&format!("by-kubectl-{file}"));
        lines(&format!("kubectl apply --server-side -n {} -f {file}.yaml", there.name)).ok();
        there.condition("rpl/plant-7", "IdentityIssued", "True", SETTLE_TIME);
        (there.get(&["secret/plant-7-imported"]), there.get(&["rpl/plant-7"])["spec"].clone())
    });
    assert!(ours.0["data"].is_object() && ours.0["data"] == other.0["data"]);
    assert_eq!(ours.0["type"], other.0["type"]);
    assert_eq!(ours.1, other.1);
    let modes = lines("stat -c %a plant-7 plant-7/tls.key plant-7.yaml").ok();
    assert_eq!(modes.split_whitespace().collect::<Vec<_>>(), ["700", "600", "600"]);
}
