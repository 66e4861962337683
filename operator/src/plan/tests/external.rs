//! Links to servers elsewhere, by an identity that came from there.

use std::sync::Arc;

use restpipe_api::condition::{ACCEPTED, CONNECTED, IDENTITY_ISSUED, READY};
use restpipe_api::{ExternalServer, RestPipeLink};
use restpipe_identity::{CertificateAuthority, LONG_LEAF_LIFETIME, LeafRequest, PeerName, Usage};

use super::links::{probe, word};
use super::world::{DAY, World, foreign};
use crate::plan::link::PeerSeen;
use crate::plan::trouble_of;
use crate::seen::Key;

fn external() -> (World, Key, CertificateAuthority) {
    let mut world = World::new();
    let mut link = RestPipeLink::new("a", Default::default());
    link.metadata.namespace = Some("shop".into());
    link.metadata.uid = Some("uid-of-a".into());
    link.spec.server.external = Some(ExternalServer {
        address: "hub.example:30072".into(),
        server_name: "hub.shop.servers.restpipe".into(),
        secret_name: "imported".into(),
    });
    let key = world.add(link);
    let ca = CertificateAuthority::create("far", 365 * DAY, world.now).unwrap();
    (world, key, ca)
}

fn import(world: &mut World, ca: &CertificateAuthority, name: &str) {
    let request = LeafRequest {
        name: PeerName::parse(name).unwrap(),
        usage: Usage::Client,
        lifetime: LONG_LEAF_LIFETIME,
        now: world.now,
    };
    let leaf = ca.issue(request).unwrap();
    world.imported = Some(foreign(
        "kubernetes.io/tls",
        &[
            ("tls.crt", leaf.cert_pem.as_bytes()),
            ("tls.key", leaf.key_pem.expose().as_bytes()),
            ("ca.crt", ca.cert_pem().as_bytes()),
        ],
    ));
    world.settle();
}

#[test]
fn an_imported_identity_is_checked_copied_and_warned_of_before_its_end() {
    let (mut world, key, ca) = external();
    world.settle();
    assert_eq!(word(&world, IDENTITY_ISSUED), "False SecretNotFound");
    import(&mut world, &ca, "files.clients.hub.shop.restpipe");
    assert_eq!(word(&world, IDENTITY_ISSUED), "True Issued");
    let status = world.link("a").status.clone().unwrap();
    assert_eq!(status.hostname.as_deref(), Some("files"));
    assert_eq!(status.server.as_deref(), Some("hub.example:30072"));
    let ours = world.link_secrets[&key].clone();
    assert_eq!(ours.data["tls.crt"], world.imported.as_ref().unwrap().data["tls.crt"]);
    let settings = String::from_utf8(ours.data["node.toml"].clone()).unwrap();
    assert!(settings.contains("server = \"hub.example:30072\""), "{settings}");
    // Only its own pods can tell whether it is connected.
    assert_eq!(word(&world, CONNECTED), "Unknown NotConnected");
    probe(&mut world, Err(trouble_of("refused", "no connection to 10.0.0.1:30072")));
    assert_eq!(word(&world, READY), "False ConnectionRefused");
    let peer = PeerSeen {
        instance: "hub-0".into(),
        address: "10.0.0.1:30072".into(),
        since: "2027-01-01T00:00:00Z".into(),
    };
    probe(&mut world, Ok(vec![peer]));
    assert_eq!(word(&world, READY), "True Ready");
    assert_eq!(world.reconcile(), 0);

    world.pass(80 * DAY);
    world.settle();
    assert_eq!(word(&world, IDENTITY_ISSUED), "True ExportExpiring");
    world.pass(11 * DAY);
    world.settle();
    assert_eq!(word(&world, IDENTITY_ISSUED), "False CertificateExpired");
    // What pods have is not taken away.
    assert!(world.link_secrets[&key] == ours);
}

#[test]
fn what_cannot_be_used_is_not_imported_and_does_not_replace_what_could() {
    let (mut world, key, ca) = external();
    import(&mut world, &ca, "files.clients.hub.shop.restpipe");
    let good = world.link_secrets[&key].clone();
    let imported = world.imported.clone().unwrap();
    for (part, bytes, cause) in [
        ("tls.key", b"".to_vec(), "has no tls.key"),
        ("tls.key", b"junk".to_vec(), "key"),
        ("tls.crt", vec![b'A'; 1 << 20], "more than"),
        ("ca.crt", imported.data["tls.crt"].clone(), "not a CA"),
    ] {
        let mut broken = imported.clone();
        broken.data.insert(part.into(), bytes);
        world.imported = Some(broken);
        world.settle();
        assert_eq!(word(&world, IDENTITY_ISSUED), "False SecretInvalid");
        assert!(world.condition("a", IDENTITY_ISSUED).2.contains(cause), "{cause}");
        assert!(world.link_secrets[&key] == good);
    }
    world.change("a", |link| link.spec.hostname = Some("printer".into()));
    world.imported = Some(imported);
    world.settle();
    assert_eq!(word(&world, IDENTITY_ISSUED), "False NameMismatch");
}

#[test]
fn an_external_address_or_name_that_no_node_takes_is_refused() {
    for (address, name) in [("10.0.0.256:7072", "hub.example"), ("hub.example:7072", "10.0.0.1")] {
        let (mut world, _, ca) = external();
        world.change("a", |link| {
            let external = link.spec.server.external.as_mut().unwrap();
            (external.address, external.server_name) = (address.into(), name.into());
        });
        import(&mut world, &ca, "files");
        assert_eq!(word(&world, ACCEPTED), "False AddressInvalid");
        assert!(world.link_secrets.is_empty());
    }
}

#[test]
fn an_external_link_never_writes_over_a_secret_of_somebody_else() {
    let (mut world, key, ca) = external();
    let theirs = foreign("kubernetes.io/tls", &[("tls.crt", b"theirs")]);
    world.link_secrets.insert(key.clone(), Arc::new(theirs.clone()));
    import(&mut world, &ca, "files.example");
    assert_eq!(word(&world, ACCEPTED), "False SecretConflict");
    assert!(*world.link_secrets[&key] == theirs);
}
