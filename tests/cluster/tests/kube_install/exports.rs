//! `export`, where it cannot be.

use restpipe_cluster_tests::Cluster;

fn link(cluster: &Cluster, name: &str, spec: &str) {
    cluster.apply(&format!(
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    ));
}

pub(crate) fn without_an_operator_an_export_ends_and_says_so(cluster: &Cluster) {
    link(cluster, "plant-7", "{server: {name: hub}}");
    let place = tempfile::tempdir().expect("a directory");
    let to = place.path().join("plant-7");
    let args = ["export", "link/plant-7", "-n", "default", "--timeout", "1s", "--dir"];
    let ran = cluster.operator(&[&args[..], &[&to.display().to_string()]].concat());
    assert_eq!(ran.status, Some(1));
    assert_eq!(
        ran.errors.trim(),
        "error: default/plant-7 has no exported identity after 1s: the operator has not looked at \
         it: does it run? (restpipe-operator check)"
    );
    assert!(!to.exists(), "nothing is left half done");
    // The wish stays, for an operator that comes.
    assert!(cluster.get(&["rpl/plant-7", "-n", "default"])["spec"]["export"].is_object());
}

pub(crate) fn what_cannot_be_exported_is_refused_at_once(cluster: &Cluster) {
    let external = "{server: {external: {address: 'h:1', serverName: h, secretName: s}}}";
    link(cluster, "imported", external);
    let refused = |args: &[&str], reason: &str| {
        let all = [&["export", "-n", "default", "--manifest", "-"], args].concat();
        let said = cluster.operator(&all).refused();
        assert!(
            said.contains(reason),
            "{args:?}\nwas to be refused with: {reason}\nand said: {said}"
        );
    };
    refused(&["link/nobody"], "there is no RestPipeLink nobody in the namespace default");
    refused(&["server/hub"], "give link/NAME");
    refused(&["hub"], "is neither link/NAME nor server/NAME");
    refused(&["link/imported"], "default/imported is itself an imported client");
    let duration = |text: &str, reason: &str| {
        refused(&["link/plant-7", "--duration", text], reason);
    };
    duration("soon", r#"--duration "soon" is none: give one such as 2160h"#);
    duration("1m", "duration must be 1h to 8760h");
    duration("10000h", "duration must be 1h to 8760h");
    refused(&["link/plant-7", "--address", "nowhere"], "spec.export.address");
    refused(&["link/plant-7", "--timeout", "never"], "--timeout");
    let both = ["export", "link/plant-7", "--manifest", "-", "--dir", "x"];
    assert_eq!(cluster.operator(&both).status, Some(2));
    assert_eq!(cluster.operator(&["export", "link/plant-7"]).status, Some(2), "where to?");
}
