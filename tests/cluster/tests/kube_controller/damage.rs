//! What befalls a Secret while a pipe is up: calls go on over that pipe.

use restpipe_cluster_tests::{Contents, Namespace, SETTLE_TIME, Sidecar, eventually, run};
use serde_json::Value;

use crate::pipes::{at, client, hub};
use crate::pki::Pki;
use crate::{event, issued, link, pair, secret, server, shared};

const SECRETS: [&str; 2] = ["hub-restpipe-server", "files-restpipe-link"];

/// A server's pod and a client's with a pipe.
struct Pipe<'a> {
    web: Sidecar<'a>,
    files: Sidecar<'a>,
    since: Value,
}

impl<'a> Pipe<'a> {
    fn up(space: &'a Namespace<'a>) -> Self {
        let web = hub(space, "web-1");
        let files = client(space, "files-1", "files", &at(&web));
        space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
        let since = since(&files);
        Self { web, files, since }
    }

    /// Calls go both ways, over the pipe of the beginning.
    fn carries(&self, after: &str) {
        let said = self.files.curl("/server/time").ok();
        assert!(said.contains("time_from_server"), "{after}: {said}");
        let said = self.web.curl("/client/files/time").ok();
        assert!(said.contains("time_from_client"), "{after}: {said}");
        assert_eq!(since(&self.files), self.since, "{after}: this is another pipe");
    }
}

/// Since when the one pipe of a client is up.
fn since(pod: &Sidecar<'_>) -> Value {
    let said = run("curl", &["-sS", "-m", "5", &pod.admin("/status")], &[]).ok();
    let status: Value = serde_json::from_str(&said).expect("JSON");
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    assert_eq!(peers.len(), 1, "{status:#}");
    assert_eq!(peers[0]["state"], "open", "{status:#}");
    assert!(peers[0]["since"].is_string(), "{status:#}");
    peers[0]["since"].clone()
}

/// How often a node has not taken what was in its files.
fn refused_reloads(pod: &Sidecar<'_>) -> u64 {
    let metrics = run("curl", &["-sS", "-m", "5", &pod.admin("/metrics")], &[]).ok();
    let lines = metrics.lines().filter(|line| {
        line.starts_with("restpipe_certificate_reloads_total{") && !line.contains(r#""ok""#)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The reason of `IdentityIssued`, which holds all the while.
fn issued_because(space: &Namespace<'_>, object: &str, reason: &str) -> String {
    space.condition(object, "IdentityIssued", &format!("True/{reason}"), SETTLE_TIME)
}

#[test]
fn a_sidecar_that_does_not_take_its_new_files_is_an_event_and_a_reason() {
    let operator = shared();
    let space = operator.release.cluster.namespace("not-taken");
    space.apply(&pair());
    let (hub_files, client_files) = issued(&space);
    let pipe = Pipe::up(&space);
    // As a disk or a tool would have it: what the operator wrote is good.
    for (object, kind, name, pod, good) in [
        ("rpl/files", "RestPipeLink", "files", &pipe.files, &client_files),
        ("rps/hub", "RestPipeServer", "hub", &pipe.web, &hub_files),
    ] {
        let mut bad: Contents = good.clone();
        bad.insert("tls.key".into(), b"hello".to_vec());
        pod.write(&bad);
        let said = issued_because(&space, object, "CertReloadFailed");
        let wanted =
            format!("the pod {} does not take the files that it has now (bad_pem)", pod.name);
        assert!(said.contains(&wanted), "{said}");
        event(&space, kind, name, "Warning CertReloadFailed: ");
        space.condition(object, "Ready", "True", SETTLE_TIME);
        pipe.carries(&format!("{object} has bad files"));
        pod.write(good);
        issued_because(&space, object, "Issued");
    }
    pipe.carries("all files are good again");
}

#[test]
fn a_secret_is_damaged_and_its_pipe_goes_on() {
    let operator = shared();
    let space = operator.release.cluster.namespace("under-way");
    space.apply(&pair());
    let (hub_files, client_files) = issued(&space);
    let pipe = Pipe::up(&space);
    for (name, good, pod) in
        [(SECRETS[0], &hub_files, &pipe.web), (SECRETS[1], &client_files, &pipe.files)]
    {
        let mut last = good.clone();
        for (what, bad) in [("tls.crt", "hello"), ("ca.crt", "hello"), ("all", "")] {
            let mut damaged: Contents = good.clone();
            for (key, bytes) in &mut damaged {
                if what == key || what == "all" {
                    *bytes = bad.as_bytes().to_vec();
                }
            }
            let after = format!("{what} of {name} is {bad:?}");
            let refused = refused_reloads(pod);
            put(&space, name, &damaged);
            // As kubelet brings it to the pod, should it be faster than the operator.
            pod.write(&damaged);
            eventually(&format!("{after}, which the node does not take"), SETTLE_TIME, || {
                let now = refused_reloads(pod);
                if now > refused { Ok(()) } else { Err(format!("{now}")) }
            });
            pipe.carries(&after);
            last = secret(&space, name, |now| is_mended(now, good));
            pipe.carries(&format!("{after}, and mended"));
            space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
            // Back to what the pipe is of, so that it is the next damage that is looked at.
            pod.write(good);
        }
        space.kubectl(&["delete", "secret", name]);
        pipe.carries(&format!("{name} is deleted"));
        secret(&space, name, |now| is_mended(now, good) && now["tls.key"] != last["tls.key"]);
        pipe.carries(&format!("{name} is made anew"));
    }
    for object in ["rps/hub", "rpl/files"] {
        space.condition(object, "IdentityIssued", "True/Issued", SETTLE_TIME);
    }
    // With what was issued instead there is a pipe again, and no call is lost on the way to it.
    pipe.web.sync();
    pipe.files.sync();
    eventually("the pipe is of the new certificate", SETTLE_TIME, || {
        pipe.files.curl("/server/time").ok();
        let peers = pipe.web.curl("/-/peers").result()?;
        let serial = space.get(&["rpl/files"])["status"]["identity"]["serial"].clone();
        if peers.contains(serial.as_str().unwrap_or("-")) { Ok(()) } else { Err(peers) }
    });
}

/// Replaces what is in a Secret.
fn put(space: &Namespace<'_>, name: &str, files: &Contents) {
    let mut object = space.get(&["secret", name]);
    object["data"] = Value::Null;
    object["stringData"] = files
        .iter()
        .map(|(key, bytes)| (key.clone(), Value::from(String::from_utf8_lossy(bytes))))
        .collect();
    let path = format!("/api/v1/namespaces/{}/secrets/{name}", space.name);
    object["metadata"]["resourceVersion"] = Value::Null;
    let answer = space.cluster.request("PUT", &path, &object.to_string());
    assert_eq!(answer.code, 200, "{}", answer.message());
}

/// Whether it holds an identity of the same CA again.
fn is_mended(now: &Contents, good: &Contents) -> bool {
    let has = |key: &str| now.get(key).is_some_and(|bytes| bytes.starts_with(b"-----BEGIN"));
    has("tls.crt") && has("tls.key") && now.get("ca.crt") == good.get("ca.crt")
}

#[test]
fn a_users_ca_goes_bad_and_is_deleted_while_a_pipe_is_up() {
    let operator = shared();
    let space = operator.release.cluster.namespace("ca-goes");
    let pki = Pki::new();
    pki.ca("corp");
    pki.sh("echo hello >garbage");
    let good = [("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")];
    pki.secret(&space, "corp-ca", &good);
    let own = "{identity: {caSecretName: corp-ca}}";
    space.apply(&(server("hub", own) + &link("files", "{server: {name: hub}}")));
    let (hub_files, client_files) = issued(&space);
    let pipe = Pipe::up(&space);
    pki.secret(&space, "corp-ca", &[("tls.crt", "garbage"), ("tls.key", "garbage")]);
    space.condition("rps/hub", "Accepted", "False/SecretInvalid", SETTLE_TIME);
    pipe.carries("the CA's Secret is garbage");
    space.kubectl(&["delete", "secret", "corp-ca"]);
    space.condition("rps/hub", "Accepted", "False/SecretNotFound", SETTLE_TIME);
    pipe.carries("the CA's Secret is gone");
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    pki.secret(&space, "corp-ca", &good);
    space.condition("rps/hub", "Accepted", "True", SETTLE_TIME);
    pipe.carries("the CA's Secret is back");
    // Nothing was issued in vain meanwhile.
    assert!(secret(&space, SECRETS[0], |_| true) == hub_files);
    assert!(secret(&space, SECRETS[1], |_| true) == client_files);
}
