//! CAs of the users' own: what they may sign, and one for two servers.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use restpipe_api::condition::ACCEPTED;
use restpipe_api::names;
use restpipe_identity::Usage;

use super::rotation::user_ca;
use super::world::{DAY, World, foreign, link};

/// The extension NameConstraints (RFC 5280 section 4.2.1.10).
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

/// A CA that is made as `change` says.
fn corp(world: &World, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "corp");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = ((world.now - DAY).into(), (world.now + DAY).into());
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn give(world: &mut World, (cert, key): &(String, String)) {
    world.server.spec.identity.ca_secret_name = Some("corp-ca".into());
    let data = [("tls.crt", cert.as_bytes()), ("tls.key", key.as_bytes())];
    world.user_ca = Some(foreign("kubernetes.io/tls", &data));
}

fn names_of(permitted: &[&str], excluded: &[&str]) -> impl FnOnce(&mut CertificateParams) {
    let subtrees =
        |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).into())).collect();
    let limits = NameConstraints {
        permitted_subtrees: subtrees(permitted),
        excluded_subtrees: subtrees(excluded),
    };
    |params| params.name_constraints = Some(limits)
}

/// Limited to, or with `tag` 0xa1 kept from, URIs of example.org: rcgen has no such subtree.
fn uris(tag: u8) -> impl FnOnce(&mut CertificateParams) {
    let host = b"example.org";
    // SEQUENCE { [0] or [1] { SEQUENCE { [6] URI } } }
    let mut value = vec![0x30, 17, tag, 15, 0x30, 13, 0x86, 11];
    value.extend(host);
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, value);
    extension.set_criticality(true);
    move |params| params.custom_extensions.push(extension)
}

#[test]
fn a_ca_that_may_not_sign_the_names_of_nodes_is_refused_with_the_cause() {
    let world = World::new();
    for (ca, cause) in [
        (
            corp(&world, names_of(&["corp.example"], &[])),
            "may not sign this name (name constraints)",
        ),
        (corp(&world, names_of(&[], &["restpipe"])), "may not sign this name (name constraints)"),
        // The clients' names are good, and the server's is not.
        (
            corp(&world, names_of(&["clients.hub.shop.restpipe"], &[])),
            "hub.shop.servers.restpipe is refused: a CA above it may not sign this name",
        ),
        (corp(&world, uris(0xa0)), "its name constraints are about URIs"),
        (corp(&world, uris(0xa1)), "its name constraints are about URIs"),
    ] {
        let mut world = World::new();
        give(&mut world, &ca);
        world.settle();
        world.refuses_the_users_ca(cause);
    }
}

#[test]
fn a_ca_that_may_sign_the_names_of_nodes_and_others_not_is_taken() {
    for (permitted, excluded) in [(&["restpipe"][..], &[][..]), (&["restpipe"], &["evil.restpipe"])]
    {
        let mut world = World::new();
        let ca = corp(&world, names_of(permitted, excluded));
        give(&mut world, &ca);
        world.add(link("shop", "a"));
        world.settle();
        world.sync_all();
        world.settle();
        assert_eq!(world.server_condition(ACCEPTED).0, "True");
        assert_eq!(world.can_connect("a"), Ok(()));
    }
}

#[test]
fn of_two_servers_with_one_ca_neither_lets_the_others_clients_in() {
    let mut hub = World::new();
    user_ca(&mut hub);
    let mut vault = World::new();
    vault.server.metadata.name = Some("vault".into());
    vault.server.metadata.uid = Some("uid-of-vault".into());
    vault.server.spec.identity = hub.server.spec.identity.clone();
    vault.user_ca = hub.user_ca.clone();
    for (world, server) in [(&mut hub, "hub"), (&mut vault, "vault")] {
        let mut link = link("shop", "files");
        link.spec.server.name = Some(server.into());
        world.add(link);
        world.settle();
        world.sync_all();
    }
    let client = |world: &World| world.clients["files"].credentials(Usage::Client, world.now);
    let server = |world: &World| {
        let node = world.server_node.as_ref().unwrap();
        node.credentials(Usage::Server, world.now).unwrap()
    };
    for (own, name, other, other_name) in
        [(&hub, "hub", &vault, "vault"), (&vault, "vault", &hub, "hub")]
    {
        let client = client(own).unwrap();
        // The CA says nothing against it,
        let there = server(other);
        assert_eq!(there.still_trusts(client.chain(), Usage::Client, own.now), Ok(()));
        assert_eq!(client.still_trusts(there.chain(), Usage::Server, own.now), Ok(()));
        // the names do, on both sides.
        let setting = |key: &str, secret: &crate::seen::SecretSeen| {
            let text = String::from_utf8(secret.data["node.toml"].clone()).unwrap();
            let settings: toml::Table = toml::from_str(&text).unwrap();
            settings[key].as_str().unwrap().to_owned()
        };
        let suffix = |world: &World| setting("client-suffix", world.secret.as_ref().unwrap());
        assert_eq!(suffix(other), names::client_suffix(other_name, "shop"));
        assert_eq!(client.name().strip_suffix(&suffix(own)).unwrap().as_str(), "files");
        assert!(client.name().strip_suffix(&suffix(other)).is_err(), "{}", client.name());
        let pinned = setting("server-name", own.secret_of("files"));
        assert_eq!(pinned, names::server_identity(name, "shop"));
        assert_ne!(pinned, there.name().as_str());
    }
}
