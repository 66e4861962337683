//! A CA changed with overlap, by hand, as on plain hosts.

use std::time::Duration;

use serde_json::Value;

use crate::binary::{Node, eventually, found_within};
use crate::site::{CLIENT, HUB, Site, text};

/// Files are looked at every 2 s, and a renewed pipe comes within 5 s more.
pub const RENEWED: Duration = Duration::from_secs(15);

/// The serial number of the certificate that a node has.
pub fn serial(node: &Node) -> String {
    node.status()["identity"]["serial"].as_str().expect("a serial number").to_owned()
}

/// The address of a node's first peer: another one is another pipe.
pub fn peer_since(node: &Node) -> String {
    node.status()["peers"][0]["address"].as_str().unwrap_or_default().to_owned()
}

/// Puts a file into the place of another in one step.
pub fn replace(site: &Site, name: &str, contents: &str) {
    let draft = site.file(&format!("{name}.draft"), contents);
    std::fs::rename(draft, site.path(name)).expect("it takes its place");
}

/// Replaces the certificates of both nodes and their CA while they run. At the
/// end their pipe is one of the new CA, and the old one is not trusted.
///
/// # Panics
/// If a step does not come about.
pub fn change_ca(site: &Site, server: &Node, client: &Node) {
    let read = |path: &str| std::fs::read_to_string(site.path(path)).expect("a CA");
    site.make_ca("new-ca");
    let both = read("ca/ca.crt") + &read("new-ca/ca.crt");
    // First everybody trusts both,
    for dir in [HUB, CLIENT] {
        replace(site, &format!("{dir}/ca.crt"), &both);
    }
    for node in [server, client] {
        eventually("both roots are trusted", || {
            node.status()["identity"]["trusts"].as_array().map(Vec::len) == Some(2)
        });
    }
    // then the new one signs, the server's first: its clients do not see that
    // it has another, and dial anew when they have one themselves.
    for (role, name, node) in [("server", HUB, server), ("client", CLIENT, client)] {
        let (before, fresh) = (serial(node), site.path(&format!("{name}.fresh")));
        // Another lifetime tells the new ones from the old ones.
        site.issue("new-ca", role, name, &fresh, &["--lifetime", "30d"]);
        let fresh = |file: &str| read(text(&fresh.join(file)));
        replace(site, &format!("{name}/tls.key"), &fresh("tls.key"));
        replace(site, &format!("{name}/tls.crt"), &fresh("tls.crt"));
        eventually("the new leaf is taken", || serial(node) != before);
    }
    found_within(2 * RENEWED, "one pipe is left, and both show their new leafs on it", || {
        let (server, client) = (server.status(), client.status());
        let shows = |at: &Value, own: &Value| {
            let peers = at["peers"].as_array().expect("a list");
            peers.len() == 1 && peers[0]["certificate_not_after"] == own["identity"]["not_after"]
        };
        (shows(&server, &client) && shows(&client, &server)).then_some(())
    });
    // Once no leaf of the old one is in use it may go.
    let old = peer_since(server);
    for dir in [HUB, CLIENT] {
        replace(site, &format!("{dir}/ca.crt"), &read("new-ca/ca.crt"));
    }
    found_within(RENEWED, "a pipe of the new CA is up", || {
        (![old.as_str(), ""].contains(&peer_since(server).as_str())).then_some(())
    });
}
