//! Clients outside the cluster: another cluster, and a plain host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use restpipe_cluster_tests::{POD_TIME, SETTLE_TIME, eventually, node_binary, run};

/// A node on this machine, which is no node of a cluster.
struct PlainHost(Child);

impl Drop for PlainHost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_plain_host_and_a_second_cluster_come_in_through_a_node_port() {
    let shared = crate::shared();
    let (a, b) = (&shared.cluster, crate::cluster_b());
    let space = a.namespace("outside");
    space.apply(&format!(
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeServer\nmetadata: {{name: hub}}\nspec: {{service: {{type: NodePort}}, hostnames: [\"{}\"]}}\n---\n{}---\n{}---\n{}",
        a.node,
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: plant}\nspec: {server: {name: hub}}\n",
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: branch}\nspec: {server: {name: hub}}\n",
        crate::deployment("hub", "server", "hub", ""),
    ));
    space.condition("rps/hub", "Ready", "True", POD_TIME);

    // A plain host.
    let host = tempfile::tempdir().expect("a directory");
    let directory = host.path().join("plant");
    let directory = directory.to_str().expect("a path in UTF-8");
    a.operator(&["export", "link/plant", "-n", "outside", "--dir", directory]).ok();
    let mut node = PlainHost(
        Command::new(node_binary())
            .args([
                "client",
                "--dir",
                directory,
                "--gateway",
                "127.0.0.1:0",
                "--admin",
                "off",
                "--statsd",
                "off",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts"),
    );
    let said = BufReader::new(node.0.stderr.take().expect("it is piped"));
    let gateway = said
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            let (_, rest) = line.split_once("127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            (line.contains("gateway") && port != "0").then_some(port)
        })
        .expect("it says where its gateway is");
    space.condition("rpl/plant", "Connected", "True", SETTLE_TIME);
    let url = format!("http://127.0.0.1:{gateway}/server/time");
    let answer = run("curl", &["-sS", "--fail-with-body", "-m", "30", &url], &[]).ok();
    assert!(answer.contains("time_from_server"), "{answer}");
    let answer = space.curl("deploy/hub", "/client/plant/time").ok();
    assert!(answer.contains("time_from_client"), "{answer}");
    space.condition("rpl/plant", "Ready", "True", SETTLE_TIME);

    // Another cluster.
    let manifest = a.operator(&["export", "link/branch", "-n", "outside", "--manifest", "-"]).ok();
    let site = b.namespace("site");
    site.apply(&manifest);
    site.apply(&crate::deployment("branch", "link", "branch", ""));
    site.condition("rpl/branch", "Connected", "True", POD_TIME);
    site.condition("rpl/branch", "Ready", "True", SETTLE_TIME);
    space.condition("rpl/branch", "Connected", "True", SETTLE_TIME);
    let answer = site.curl("deploy/branch", "/server/time").ok();
    assert!(answer.contains("time_from_server"), "{answer}");
    let answer = space.curl("deploy/hub", "/client/branch/time").ok();
    assert!(answer.contains("time_from_client"), "{answer}");

    // One that is cut off knows why, without asking the other cluster.
    space.kubectl(&[
        "patch",
        "rpl",
        "branch",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ]);
    site.condition("rpl/branch", "Connected", "False/Suspended", SETTLE_TIME);
    eventually("the plain host is untouched", SETTLE_TIME, || {
        space.curl("deploy/hub", "/client/plant/time").result()
    });
}
