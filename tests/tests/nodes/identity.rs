//! Identities: made and checked by the binary, and refused by nodes with the
//! cause and the cure on both sides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use restpipe_identity::{LEAF_LIFETIME, LeafRequest, PeerName, Usage, load_ca};
use restpipe_tests::binary::{Node, SOON, Start, found_within, run};
use restpipe_tests::forged::{Fault, Forged, dial, forge, listen};
use restpipe_tests::site::{CLIENT, HUB, Site, text};
use serde_json::Value;

const FAILED: i32 = 1;

fn says_all(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_ca_and_its_nodes_are_made_with_keys_for_their_owner_only() {
    let site = Site::new();
    let (server, client) = (site.identity("server", HUB), site.identity("client", CLIENT));
    assert_eq!((mode(&site.path("ca")), mode(&server)), (0o700, 0o700));
    for key in ["ca/ca.key", "hub.site.test/tls.key", "fs/tls.key"] {
        assert_eq!(mode(&site.path(key)), 0o600, "{key}");
    }
    for (dir, role, name) in [(&server, "server", HUB), (&client, "client", CLIENT)] {
        let said = run(["identity", "verify", text(dir)]).output();
        says_all(&said, &["good as the", role, name, "until"]);
        let said = run(["identity", "show", text(dir)]).output();
        says_all(&said, &[name, "leaf for", "authority", "ECDSA P-256", "valid"]);
        let shown = run(["identity", "show", text(dir), "-o", "json"]).output();
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown[0]["names"][0], name);
        assert_eq!((&shown[0]["ca"], &shown[1]["ca"]), (&false.into(), &true.into()));
        assert!(!run(["identity", "show", text(dir)]).output().contains("PRIVATE"));
    }
    says_all(
        &run(["identity", "verify", "--as", "client", text(&server)]).refusal(FAILED),
        &["clientAuth", "identity client"],
    );
}

#[test]
fn what_is_there_is_replaced_only_when_that_is_said() {
    let site = Site::new();
    let ca = site.path("ca");
    let dir = site.identity("client", CLIENT);
    let read = |path: &Path| std::fs::read(path).expect("it is there");
    let before = (read(&ca.join("ca.crt")), read(&dir.join("tls.crt")));
    let line = run(["identity", "ca", "--dir", text(&ca)]).refusal(FAILED);
    says_all(&line, &["--force", "is there already"]);
    let again = ["identity", "client", CLIENT, "--ca", text(&ca), "--out", text(&dir)];
    says_all(&run(again).refusal(FAILED), &["--force", "is there already"]);
    assert_eq!(before, (read(&ca.join("ca.crt")), read(&dir.join("tls.crt"))));
    let _ = run(again.iter().chain(&["--force"])).output();
    assert_ne!(before.1, read(&dir.join("tls.crt")));
}

#[test]
fn what_cannot_be_issued_is_refused_with_the_cure() {
    let site = Site::new();
    let ca = site.path("ca");
    let (nowhere, out) = (site.path("nowhere"), site.path("out"));
    let issue = |ca: &Path, name: &str, more: &[&str]| {
        let args = ["identity", "client", name, "--ca", text(ca), "--out", text(&out)];
        run(args.iter().chain(more)).refusal(FAILED)
    };
    says_all(&issue(&nowhere, "a", &[]), &["nowhere", "restpipe identity ca --dir"]);
    for name in ["*.a", "a_b", "a..b", "a.", "", "\u{fc}", &"a".repeat(64)] {
        let line = issue(&ca, name, &[]);
        assert!(line.len() > 30, "{line}");
        assert!(!out.exists(), "{name}");
    }
    says_all(&issue(&ca, "a", &["--lifetime", "1ms"]), &["lifetime", "90d"]);
    site.file("mixed/ca.crt", std::fs::read(ca.join("ca.crt")).expect("a CA"));
    site.make_ca("other");
    std::fs::rename(site.path("other/ca.key"), site.path("mixed/ca.key")).expect("a key");
    says_all(&issue(&site.path("mixed"), "a", &[]), &["key does not belong"]);
    assert!(!out.exists());
    // A leaf never outlives its CA.
    let short = site.path("short");
    let _ = run(["identity", "ca", "--dir", text(&short), "--lifetime", "1h"]).output();
    let said = run(["identity", "client", "a", "--ca", text(&short), "--out", text(&out)]).output();
    says_all(&said, &["ends with its CA"]);
}

#[test]
fn an_identity_made_elsewhere_is_installed_as_the_original_s_command_did_and_only_if_it_is_good() {
    let site = Site::new();
    let made = site.identity("server", HUB);
    let [key, cert, ca] = ["tls.key", "tls.crt", "ca.crt"].map(|file| made.join(file));
    let dir = site.path("installed");
    let install = |files: &[&Path]| {
        let files = files.iter().map(|file| text(file));
        run(["identity", "install"].into_iter().chain(files).chain(["--dir", text(&dir)]))
    };
    says_all(&install(&[&key, &cert]).refusal(FAILED), &["no CA was given"]);
    says_all(&install(&[&cert, &key, &ca]).refusal(FAILED), &["nothing was installed"]);
    let other = site.identity("client", CLIENT).join("tls.key");
    says_all(&install(&[&other, &cert, &ca]).refusal(FAILED), &["does not belong"]);
    says_all(&install(&[&site.path("none"), &cert, &ca]).refusal(FAILED), &["none"]);
    assert!(!dir.exists(), "what is refused leaves nothing");

    says_all(&install(&[&key, &cert, &ca]).output(), &["installed the server", HUB]);
    assert_eq!(mode(&dir.join("tls.key")), 0o600);
    let _ = run(["identity", "verify", text(&dir)]).output();
    // The CA stays when none is given.
    says_all(&install(&[&key, &cert]).output(), &["installed"]);
    let mut node = Start::node("server", &dir).start();
    assert!(node.runs());
}

#[test]
fn show_and_verify_say_what_is_wrong_with_what_they_are_given() {
    let site = Site::new();
    let (nothing, junk) = (site.path("nothing"), site.file("junk.pem", "junk"));
    for command in ["show", "verify"] {
        let line = run(["identity", command, text(&nothing)]).refusal(FAILED);
        says_all(&line, &["cannot read", "nothing"]);
    }
    says_all(&run(["identity", "show", text(&junk)]).refusal(FAILED), &["junk.pem"]);
    let dir = site.identity("client", CLIENT);
    for (file, contents) in [("tls.crt", "junk"), ("tls.key", "junk"), ("ca.crt", "")] {
        let good = std::fs::read(dir.join(file)).expect("it is there");
        std::fs::write(dir.join(file), contents).expect("a file");
        let line = run(["identity", "verify", text(&dir)]).refusal(FAILED);
        says_all(&line, &[file]);
        std::fs::write(dir.join(file), good).expect("a file");
    }
    let _ = run(["identity", "verify", text(&dir)]).output();
}

/// What the words of each fault are, in whoever's log.
fn words(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Expired => &["ended at 20", "this machine's clock (20", "renew it"],
        Fault::NotYetValid => &["begins at 20", "this machine's clock (20", "check the clock"],
        Fault::WrongRole => &["restpipe identity"],
        Fault::BothRoles => &["clientAuth", "serverAuth", "only"],
        Fault::Wildcard => &["wildcard *.", "test", "restpipe identity"],
        Fault::SeveralNames => &["2 names", "other.test", "restpipe identity"],
        Fault::CommonNameOnly => &["common name", "never used", "restpipe identity"],
    }
}

#[test]
fn a_node_does_not_start_with_a_certificate_that_its_peers_would_refuse() {
    let site = Site::new();
    let ca = site.path("ca");
    for (role, name) in [("server", HUB), ("client", "fs.site.test")] {
        let dir = site.identity(role, name);
        for fault in Fault::ALL {
            let forged = forge(&ca, role, name, fault);
            std::fs::write(dir.join("tls.crt"), &forged.cert).expect("a file");
            std::fs::write(dir.join("tls.key"), &forged.key).expect("a file");
            let node = Start::node(role, &dir);
            let node = match role {
                "client" => node.flag("--server", "hub.site.test:1"),
                _ => node,
            };
            let line = node.refused().refusal(FAILED);
            says_all(&line, words(fault));
            says_all(
                &run(["identity", "verify", "--as", role, text(&dir)]).refusal(FAILED),
                words(fault),
            );
        }
    }
}

/// The line in which a server says whom it refused and why.
fn refused_at(server: &Node, from: usize) -> String {
    server.log().line_since(from, &["connection refused at the pipe listener"])["detail"]
        .as_str()
        .expect("a sentence")
        .to_owned()
}

#[test]
fn a_client_with_a_bad_certificate_gets_no_pipe_and_the_server_says_why() {
    let site = Site::new();
    let ca = site.path("ca");
    let server = site.server().start();
    for fault in Fault::ALL {
        let from = server.log().len();
        let said = dial(server.pipe(), &ca, &forge(&ca, "client", "fs.site.test", fault));
        says_all(&refused_at(&server, from), words(fault));
        match fault {
            // TLS itself refuses, in its own words.
            Fault::Expired | Fault::NotYetValid | Fault::WrongRole => {
                says_all(&said, &["alert"]);
            }
            // The rest is said over the pipe, so that the client can log it.
            _ => says_all(&said, words(fault)),
        }
    }
    site.make_ca("foreign");
    let stranger = site.path("stranger");
    site.issue("foreign", "client", CLIENT, &stranger, &[]);
    let from = server.log().len();
    says_all(&dial(server.pipe(), &ca, &Forged::read(&stranger)), &["alert"]);
    says_all(&refused_at(&server, from), &["CA", "not in our ca.crt", "add that CA"]);
    assert_eq!(server.status()["peers"].as_array().map(Vec::len), Some(0));
    let metrics = restpipe_tests::http::get(&server.admin(), "/metrics").text();
    for reason in ["expired", "not_yet_valid", "bad_eku", "unknown_ca", "identity"] {
        let line = format!("restpipe_handshakes_failed_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

/// The line in which a client says why it has no pipe.
fn not_reached(client: &Node) -> String {
    client.log().line(&["server not reached"])["detail"].as_str().expect("a sentence").to_owned()
}

#[test]
fn a_server_with_a_bad_certificate_gets_no_pipe_and_the_client_says_why() {
    let site = Site::new();
    let ca = site.path("ca");
    for fault in Fault::ALL {
        let at = listen(&forge(&ca, "server", HUB, fault)).to_string();
        let client = site.client_of(CLIENT, &at).start();
        let line = not_reached(&client);
        says_all(&line, &[&at]);
        says_all(&line, words(fault));
        let status = client.status();
        assert_eq!(status["last_failure"]["detail"], line.as_str(), "{fault:?}");
        assert_eq!(status["peers"].as_array().map(Vec::len), Some(0));
    }
    site.make_ca("foreign");
    let stranger = site.path("stranger");
    site.issue("foreign", "server", HUB, &stranger, &[]);
    let client = site.client_of(CLIENT, &listen(&Forged::read(&stranger)).to_string()).start();
    says_all(&not_reached(&client), &["CA", "not in our ca.crt", "add that CA"]);
}

#[test]
fn a_foreign_ca_is_named_in_the_logs_of_both_nodes() {
    let site = Site::new();
    let server = site.server().start();
    site.make_ca("foreign");
    let dir = site.path(CLIENT);
    site.issue("foreign", "client", CLIENT, &dir, &[]);
    let own = std::fs::read_to_string(dir.join("ca.crt")).expect("a CA");
    let hub = std::fs::read_to_string(site.path("ca/ca.crt")).expect("a CA");
    std::fs::write(dir.join("ca.crt"), own + &hub).expect("a file");
    let client = site.client(CLIENT, &server).start();
    says_all(&refused_at(&server, 0), &["CA", "not in our ca.crt"]);
    says_all(
        &not_reached(&client),
        &["refused this node's certificate", CLIENT, "RestPipe CA", "server's log", "ca.crt"],
    );
}

#[test]
fn a_server_that_answers_to_another_name_is_not_taken_and_both_names_are_said() {
    let site = Site::new();
    let other = site.identity("server", "other.test");
    let server = Start::node("server", &other).start();
    let client = site.client(CLIENT, &server).start();
    says_all(&not_reached(&client), &["other.test", HUB]);
    assert!(!refused_at(&server, 0).is_empty());
}

#[test]
fn a_certificate_that_ends_while_its_node_runs_ends_the_pipe_and_both_sides_show_both_clocks() {
    let site = Site::new();
    let server = site.server().start();
    let dir = site.path(CLIENT);
    site.issue("ca", "client", CLIENT, &dir, &["--lifetime", "3s"]);
    let client = site.client(CLIENT, &server).start();
    client.connected();
    let expired = |node: &Node, words: &[&str]| {
        found_within(SOON + Duration::from_secs(5), "the refusal is logged", || {
            let lines = node.log().lines();
            lines.into_iter().find(|line| words.iter().all(|word| line.contains(word)))
        })
    };
    let at_server = expired(&server, &["connection refused at the pipe listener", "\"expired\""]);
    says_all(&at_server, words(Fault::Expired));
    let at_client = expired(&client, &["server not reached", "refused this node's certificate"]);
    says_all(&at_client, &["valid from 20", "to 20", "the clock here says 20"]);
    assert_eq!(client.status()["not_ready"], "there is no pipe to the server");
    // A new one is taken and the pipe comes back by itself.
    site.issue("ca", "client", CLIENT, &dir, &[]);
    client.log().line(&["identity renewed"]);
    found_within(2 * SOON, "the pipe is back", || (client.status()["ready"] == true).then_some(()));
}

#[test]
fn a_leaf_that_begins_in_an_hour_is_not_taken_before_and_the_old_one_stays() {
    let site = Site::new();
    let server = site.server().start();
    let client = site.client(CLIENT, &server).start();
    client.connected();
    let before = client.status()["identity"]["serial"].clone();
    let ca = load_ca(&site.path("ca")).expect("the CA");
    let leaf = ca.issue(LeafRequest {
        name: PeerName::parse(CLIENT).expect("a name"),
        usage: Usage::Client,
        lifetime: LEAF_LIFETIME,
        // As on a machine whose clock is an hour ahead of this one's.
        now: SystemTime::now() + Duration::from_secs(3600),
    });
    let leaf = leaf.expect("a leaf");
    let dir = site.path(CLIENT);
    std::fs::write(dir.join("tls.key"), leaf.key_pem.expose()).expect("a file");
    std::fs::write(dir.join("tls.crt"), &leaf.cert_pem).expect("a file");
    let line = client.log().line(&["the old identity stays", "begins at 20"]);
    let error = line["error"].as_str().expect("a sentence");
    says_all(error, &["54 min", "this machine's clock (20", "check the clock"]);
    let status = client.status();
    assert_eq!((&status["ready"], &status["identity"]["serial"]), (&true.into(), &before));
    let refused = Start::node("client", &dir).flag("--server", "hub.site.test:1").refused();
    says_all(&refused.refusal(FAILED), &["begins at 20", "54 min"]);
}
