//! What a running node is given at reload, and shown in handshakes, that is not as it should be:
//! the pipes that are up go on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use restpipe_tests::binary::{Node, eventually, run};
use restpipe_tests::forged::{Forged, dial, many_certificates, signed, with_intermediates};
use restpipe_tests::http::get;
use restpipe_tests::rotation::{peer_since, replace, serial};
use restpipe_tests::site::{CLIENT, HUB, Site};
use serde_json::{Value, json};

use crate::gateway::{event_stream, next_event};

/// As many as no way leads over: 6 are followed.
const INTERMEDIATES: usize = 100;

/// As many as take more than the 64 KiB that TLS has for them.
const OVER_64_KIB: usize = 300;

fn read(site: &Site, name: &str) -> String {
    fs::read_to_string(site.path(name)).expect("it is there")
}

/// Makes something at a path.
type Make = Box<dyn FnOnce(&Path)>;

/// The server's file, to be broken and mended.
struct File<'a> {
    site: &'a Site,
    name: &'static str,
    good: String,
}

impl<'a> File<'a> {
    fn of(site: &'a Site, name: &'static str) -> Self {
        Self { site, name, good: read(site, &format!("{HUB}/{name}")) }
    }

    fn path(&self) -> String {
        format!("{HUB}/{}", self.name)
    }

    /// Puts something into its place that is there at once, as `make` makes it.
    fn becomes(&self, make: impl FnOnce(&Path)) {
        let (draft, path) = (self.site.path("draft"), self.site.path(&self.path()));
        make(&draft);
        if draft.is_dir() {
            fs::remove_file(&path).expect("it was there");
        }
        fs::rename(draft, path).expect("it takes its place");
    }

    /// Puts it back.
    fn mend(&self) {
        let path = self.site.path(&self.path());
        if path.is_dir() {
            fs::remove_dir(&path).expect("an empty directory");
        }
        replace(self.site, &self.path(), &self.good);
    }
}

/// What has been counted under this result of a reload.
fn counted(node: &Node, result: &str) -> u64 {
    let metrics = get(&node.admin(), "/metrics").text();
    let start = format!("restpipe_certificate_reloads_total{{result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |count| count.parse().expect("a number"))
}

/// The pipe of this address works in both directions.
fn works(server: &Node, client: &Node, pipe: &str) {
    assert_eq!(get(client.gateway(), "/server/time").status, 200);
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
    assert_eq!(peer_since(server), pipe, "the same pipe as before");
}

#[test]
fn broken_identity_files_leave_the_old_identity_and_its_pipes_and_are_told() {
    let site = Site::new();
    let (server, client) = site.pair();
    let (before, pipe) = (serial(&server), peer_since(&server));
    site.make_ca("foreign");
    let foreign = site.path("foreign-leaf");
    site.issue("foreign", "server", HUB, &foreign, &[]);
    let foreign = fs::read_to_string(foreign.join("tls.crt")).expect("a certificate");
    let (cert, key) = (File::of(&site, "tls.crt"), File::of(&site, "tls.key"));
    let encrypted = key.good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let of_openssl = key.good.replace("PRIVATE KEY", "EC PRIVATE KEY").replacen(
        '\n',
        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        1,
    );
    let directory = |draft: &Path| fs::create_dir(draft).expect("a directory");
    let endless = |draft: &Path| symlink("/dev/zero", draft).expect("a link");
    let fifo = |draft: &Path| {
        let made = Command::new("mkfifo").arg(draft).status();
        assert!(made.expect("mkfifo runs").success());
    };
    let text = |text: String| {
        Box::new(move |draft: &Path| fs::write(draft, text).expect("a file")) as Make
    };
    // Of two in a row the sentences differ: what is said already is not said again.
    let cases: [(&File<'_>, Make, &str, &str); 10] = [
        (&cert, text(String::new()), "bad_pem", "tls.crt"),
        (&cert, text("-----BEGIN CERTIFICATE-----\nnonsense\n".into()), "bad_pem", "tls.crt"),
        (&cert, text(foreign), "key_mismatch", "does not belong"),
        (&key, text(encrypted), "bad_pem", "openssl pkey"),
        (&key, text(cert.good.clone()), "bad_pem", "two files mixed up"),
        (&key, text(of_openssl), "bad_pem", "is encrypted"),
        (&key, Box::new(directory), "unreadable", "tls.key is not a regular file"),
        (&cert, Box::new(fifo), "unreadable", "tls.crt is not a regular file"),
        (&key, Box::new(fifo), "unreadable", "tls.key is not a regular file"),
        (&cert, Box::new(endless), "unreadable", "tls.crt is not a regular file"),
    ];
    for (file, make, result, words) in cases {
        let (said, count) = (server.log().len(), counted(&server, result));
        file.becomes(make);
        let line = server.log().line_since(said, &["not taken, the old identity stays", words]);
        assert_eq!(line["level"], "WARN");
        assert!(counted(&server, result) > count, "{words}");
        let failed = server.status()["identity"]["reload_failed"].clone();
        assert_eq!(failed["reason"], result);
        assert!(failed["detail"].as_str().is_some_and(|text| text.contains(words)), "{failed}");
        assert_eq!(serial(&server), before);
        works(&server, &client, &pipe);
        file.mend();
    }
    // One that is away.
    fs::remove_file(site.path(HUB).join("tls.crt")).expect("it was there");
    server.log().line(&["cannot read", "tls.crt"]);
    works(&server, &client, &pipe);
    // A new pipe is made with what is there as well.
    let second = site.client(CLIENT, &server).flag("--instance", "second").start();
    second.connected();
    cert.mend();
    assert_eq!(serial(&server), before);
}

/// Why the one client does not take its newest files, as the server's table has it.
fn told_by_client(server: &Node) -> Value {
    server.status()["peers"][0]["reload_failed"].clone()
}

#[test]
fn a_client_tells_its_server_that_its_new_files_are_bad_and_when_they_are_good_again() {
    let site = Site::new();
    let (server, client) = site.pair();
    let pipe = peer_since(&server);
    let mut events = event_stream(server.gateway());
    let mut event = |word: &str| loop {
        let (said, data) = next_event(&mut events);
        if said == word {
            return data;
        }
    };
    assert_eq!(told_by_client(&server), Value::Null);

    let key = format!("{CLIENT}/tls.key");
    let good = read(&site, &key);
    replace(&site, &key, "-----BEGIN PRIVATE KEY-----\nnonsense\n");
    let told = event("cert-reload-failed");
    assert_eq!((&told["peer"], &told["reason"]), (&json!("fs"), &json!("bad_pem")));
    assert_eq!(told_by_client(&server), "bad_pem");
    assert_eq!(client.status()["identity"]["reload_failed"]["reason"], "bad_pem");
    let admin = client.admin().url();
    let status = run(["status", "--url", &admin]).output();
    assert!(status.contains("not taken, the one above stays: "), "{status}");
    works(&server, &client, &pipe);

    // Another pipe is told of it too.
    let fresh = signed(&site.path("ca"), "server", HUB, &rcgen::PKCS_ECDSA_P256_SHA256);
    replace(&site, &format!("{HUB}/tls.key"), &fresh.key);
    replace(&site, &format!("{HUB}/tls.crt"), &fresh.cert);
    eventually("there is another pipe, and it tells the same", || {
        peer_since(&server) != pipe && told_by_client(&server) == "bad_pem"
    });

    replace(&site, &key, &good);
    assert_eq!(event("cert-reload")["peer"], HUB, "that was the server's own");
    assert_eq!(event("cert-reload")["peer"], "fs");
    assert_eq!(told_by_client(&server), Value::Null);
    assert_eq!(client.status()["identity"]["reload_failed"], Value::Null);
}

#[test]
fn a_key_on_the_largest_curve_is_taken_at_reload_and_pipes_are_made_with_it() {
    let site = Site::new();
    let (server, client) = site.pair();
    let before = serial(&server);
    let fresh = signed(&site.path("ca"), "server", HUB, &rcgen::PKCS_ECDSA_P521_SHA512);
    // Between the two files key and certificate do not belong together, and that is all.
    replace(&site, &format!("{HUB}/tls.key"), &fresh.key);
    replace(&site, &format!("{HUB}/tls.crt"), &fresh.cert);
    server.log().line(&["identity renewed"]);
    assert_ne!(serial(&server), before);
    assert_eq!(get(client.gateway(), "/server/time").status, 200);
    let second = site.client(CLIENT, &server).flag("--instance", "second").start();
    second.connected();
    assert_eq!(get(second.gateway(), "/server/time").status, 200);
}

#[test]
fn chains_without_an_end_are_refused_with_the_cause_and_a_good_client_goes_on() {
    let site = Site::new();
    let (server, client) = site.pair();
    let pipe = peer_since(&server);
    let ca = site.path("ca");
    let long = with_intermediates(&ca, "other", INTERMEDIATES);
    let large = with_intermediates(&ca, "other", OVER_64_KIB);
    // TLS finds its way without them, and does not look at them.
    let padded = many_certificates(&Forged::read(&site.identity("client", "other")), INTERMEDIATES);
    for (shown, at_server, at_client) in [
        // TLS says so in an alert, which a reset may overtake: not all of it was read.
        (long, &["bad_cert", "too many certificates lie between"][..], ""),
        (large, &["bad_cert", "more than 64 KiB"], ""),
        (padded, &["identity", "the client showed 101 certificates, at most 8"], "at most 8"),
    ] {
        let from = server.log().len();
        let said = dial(server.pipe(), &ca, &shown);
        assert!(said.contains(at_client), "{at_client}: {said}");
        let words = [&["connection refused at the pipe listener"], at_server].concat();
        server.log().line_since(from, &words);
        works(&server, &client, &pipe);
        assert_eq!(server.status()["peers"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn a_client_of_another_server_of_the_same_ca_is_refused_by_its_zone() {
    let site = Site::new();
    let ca = site.path("ca");
    let server = site.server().flag("--client-suffix", "clients.hub.shop.restpipe").start();
    let own = site.client("fs.clients.hub.shop.restpipe", &server).start();
    own.connected();
    for name in [
        "fs.clients.vault.shop.restpipe",
        "fs.clients.hub.storage.restpipe",
        // Only whole labels are cut off, and something has to be left.
        "fs.xclients.hub.shop.restpipe",
        "clients.hub.shop.restpipe",
        "fs",
    ] {
        let from = server.log().len();
        let shown = signed(&ca, "client", name, &rcgen::PKCS_ECDSA_P256_SHA256);
        let said = dial(server.pipe(), &ca, &shown);
        assert!(said.contains("is not below clients.hub.shop.restpipe"), "{name}: {said}");
        server.log().line_since(from, &["refused at the pipe listener", "\"identity\"", name]);
    }
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
    assert_eq!(server.status()["peers"].as_array().map(Vec::len), Some(1));
}
