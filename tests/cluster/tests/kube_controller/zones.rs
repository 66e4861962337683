//! A client of one server at another one that trusts the same CA: the name decides, and it names the
//! server.

use restpipe_cluster_tests::{Process, SETTLE_TIME, Volume, eventually, free_port, node_binary};

use crate::pipes::{at, client, hub};
use crate::pki::Pki;
use crate::{issued, link, secret, server, shared};

#[test]
fn a_client_of_another_server_under_the_same_ca_is_refused_by_its_name() {
    let operator = shared();
    let space = operator.release.cluster.namespace("zones");
    let pki = Pki::new();
    pki.ca("corp");
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    let own = "{identity: {caSecretName: corp-ca}}";
    // The hostname is the same at both, so that nothing but the server's name tells them apart.
    space.apply(
        &(server("hub", own)
            + &server("other", own)
            + &link("files", "{server: {name: hub}}")
            + &link("stranger", "{server: {name: other}, hostname: files}")),
    );
    let (hub_files, _) = issued(&space);
    space.condition("rpl/stranger", "IdentityIssued", "True", SETTLE_TIME);
    let strange = secret(&space, "stranger-restpipe-link", |_| true);
    assert!(strange["ca.crt"] == hub_files["ca.crt"], "one CA for all");
    assert_eq!(crate::name_in(&strange["tls.crt"]), "DNS:files.clients.other.zones.restpipe");
    let web = hub(&space, "web-1");
    let files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);

    // It knows the other server's name as well as that one's own clients do.
    let volume = Volume::new(&strange);
    let environment = [
        ("RESTPIPE_DIR", volume.path().display().to_string()),
        ("RESTPIPE_SERVER", at(&web)),
        ("RESTPIPE_SERVER_NAME", "hub.zones.servers.restpipe".to_owned()),
        ("RESTPIPE_GATEWAY", format!("127.89.0.2:{}", free_port())),
        ("RESTPIPE_ADMIN", "off".to_owned()),
        ("RESTPIPE_STATSD", "off".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let stranger = Process::start("stranger", &node_binary(), &["client"], &environment);
    let why = "files.clients.other.zones.restpipe is not below clients.hub.zones.restpipe: it belongs to another server's clients";
    // Both sides say so, the client with the word that its own user looks up.
    eventually("the client is told", SETTLE_TIME, || {
        let log = stranger.log();
        let told = log.lines().any(|line| line.contains(why) && line.contains("identity"));
        if told { Ok(()) } else { Err(log) }
    });
    let process = web.process.as_ref().expect("it runs");
    eventually("the server says so", SETTLE_TIME, || {
        let log = process.log();
        if log.contains(why) { Ok(()) } else { Err(log) }
    });
    let metrics =
        restpipe_cluster_tests::run("curl", &["-sS", "-m", "5", &web.admin("/metrics")], &[]).ok();
    assert!(
        metrics.lines().any(|line| line.contains(r#"reason="identity""#) && !line.ends_with(" 0")),
        "{metrics}"
    );
    // Nobody calls it, and whose name it is goes on.
    let said = web.curl("/client/files/time").ok();
    assert!(said.contains("time_from_client"), "{said}");
    let record = space.get(&["rpl/files"])["status"]["connections"].clone();
    assert_eq!(record.as_array().map(Vec::len), Some(1), "{record:#}");
    assert_eq!(record[0]["instance"], "files-1");
    assert!(files.curl("/server/time").ok().contains("time_from_server"));
}
