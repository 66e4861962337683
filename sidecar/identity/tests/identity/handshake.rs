//! Real TLS between two configurations, in memory.

use std::sync::Arc;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use restpipe_identity::{
    ALPN, CertificateAuthority, Credentials, CredentialsError, Usage, explain, peer_name, provider,
};
use rustls::crypto::SupportedKxGroup;
use rustls::{
    CipherSuite, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection,
};

use crate::pair::{Clock, Pair, SERVER, feed_server};
use crate::support::{DAY, ca, foreign_ca, issue, leaf_params, name, now, taken};

const CLIENT: &str = "fileserver.clients.hub.shop.restpipe";

fn credentials(ca: &CertificateAuthority, bundle: &str, host: &str, usage: Usage) -> Credentials {
    taken(&issue(ca, host, usage), bundle, usage, now()).expect(host).with_clock(Clock::at(now()))
}

fn both(ca: &CertificateAuthority) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let client = credentials(ca, ca.cert_pem(), CLIENT, Usage::Client);
    let server = credentials(ca, ca.cert_pem(), SERVER, Usage::Server);
    (client.client_config().expect("a client"), server.server_config().expect("a server"))
}

#[test]
fn issued_leafs_connect_and_each_side_learns_the_others_name() {
    let (client, server) = both(&ca());
    let pair = Pair::connect(&client, &server).expect("connected");
    let seen = pair.server.peer_certificates().expect("the client's chain");
    assert_eq!(peer_name(&seen[0], Usage::Client), Ok(name(CLIENT)));
    let seen = pair.client.peer_certificates().expect("the server's chain");
    assert_eq!(peer_name(&seen[0], Usage::Server), Ok(name(SERVER)));
    for (alpn, version, suite, group) in [
        (
            pair.client.alpn_protocol(),
            pair.client.protocol_version(),
            pair.client.negotiated_cipher_suite(),
            pair.client.negotiated_key_exchange_group().map(SupportedKxGroup::name),
        ),
        (
            pair.server.alpn_protocol(),
            pair.server.protocol_version(),
            pair.server.negotiated_cipher_suite(),
            pair.server.negotiated_key_exchange_group().map(SupportedKxGroup::name),
        ),
    ] {
        assert_eq!(alpn, Some(ALPN));
        assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(suite.map(|suite| suite.suite()), Some(CipherSuite::TLS13_AES_128_GCM_SHA256));
        assert_eq!(group, Some(NamedGroup::X25519));
    }
}

#[test]
fn a_second_connection_of_the_same_configurations_is_a_full_handshake() {
    let (client, server) = both(&ca());
    for _ in 0..3 {
        let pair = Pair::connect(&client, &server).expect("connected");
        assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_client_that_would_resume_gets_no_ticket_from_our_server() {
    let (client, server) = both(&ca());
    let mut eager = ClientConfig::clone(&client);
    eager.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let eager = Arc::new(eager);
    for _ in 0..2 {
        let pair = Pair::connect(&eager, &server).expect("connected");
        assert_eq!(pair.client.tls13_tickets_received(), 0);
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn our_client_does_not_resume_with_a_server_that_hands_out_tickets() {
    let (client, server) = both(&ca());
    let mut generous = ServerConfig::clone(&server);
    generous.send_tls13_tickets = 2;
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    let generous = Arc::new(generous);
    for _ in 0..2 {
        let pair = Pair::connect(&client, &generous).expect("connected");
        assert!(pair.client.tls13_tickets_received() > 0, "else this shows nothing");
        assert_eq!(pair.server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_and_both_sides_say_so() {
    let ca = ca();
    let (_, server) = both(&ca);
    let mut roots = RootCertStore::empty();
    roots.add(crate::support::der(ca.cert_pem())).expect("a root");
    let mut bare = ClientConfig::builder_with_details(provider(), Clock::at(now()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    bare.alpn_protocols = vec![ALPN.to_vec()];
    let failed = Pair::connect(&Arc::new(bare), &server).map(drop).expect_err("refused");
    assert_eq!(explain(&failed.server.expect("found"), now()).reason, "cert_required");
    assert_eq!(explain(&failed.client.expect("told"), now()).reason, "refused_no_cert");
}

#[test]
fn a_foreign_client_is_refused_and_both_sides_say_so() {
    let (ours, foreign) = (ca(), ca());
    let (_, server) = both(&ours);
    // It trusts us, we do not trust it.
    let bundle = format!("{}{}", foreign.cert_pem(), ours.cert_pem());
    let client = credentials(&foreign, &bundle, CLIENT, Usage::Client);
    let client = client.client_config().expect("a client");
    let failed = Pair::connect(&client, &server).map(drop).expect_err("refused");
    let (found, told) = (failed.server.expect("found"), failed.client.expect("told"));
    assert_eq!(explain(&found, now()).reason, "unknown_ca", "{found}");
    assert_eq!(explain(&told, now()).reason, "refused_unknown_ca", "{told}");
}

#[test]
fn a_server_of_another_name_is_refused_naming_both_names() {
    let ca = ca();
    let (client, _) = both(&ca);
    let other = credentials(&ca, ca.cert_pem(), "other.shop.servers.restpipe", Usage::Server);
    let failed = Pair::connect(&client, &other.server_config().expect("a server"))
        .map(drop)
        .expect_err("refused");
    let why = explain(&failed.client.expect("found"), now());
    assert_eq!(why.reason, "wrong_name");
    assert!(why.text.contains(SERVER) && why.text.contains("other.shop"), "{why}");
}

#[test]
fn when_the_clock_passes_the_leafs_end_the_very_same_configurations_refuse() {
    let ca = ca();
    let clock = Clock::at(now());
    let client = taken(&issue(&ca, CLIENT, Usage::Client), ca.cert_pem(), Usage::Client, now());
    let client = client.expect("taken").with_clock(clock.clone()).client_config().expect("config");
    let (_, server) = both(&ca);
    assert!(Pair::connect(&client, &server).is_ok());
    let later = now() + 2 * DAY;
    clock.set(later);
    let failed = Pair::connect(&client, &server).map(drop).expect_err("expired");
    let why = explain(&failed.client.expect("found"), later);
    assert_eq!(why.reason, "expired");
    assert!(why.text.contains("2026-11-23T16:35:00Z, 1 day 0 h before"), "{why}");
    let told = explain(&failed.server.expect("told"), now());
    assert_eq!(told.reason, "refused_expired");
}

#[test]
fn a_server_whose_clock_passes_the_clients_end_refuses_it() {
    let ca = ca();
    let clock = Clock::at(now());
    let server = taken(&issue(&ca, SERVER, Usage::Server), ca.cert_pem(), Usage::Server, now());
    let server = server.expect("taken").with_clock(clock.clone()).server_config().expect("config");
    let (client, _) = both(&ca);
    assert!(Pair::connect(&client, &server).is_ok());
    let later = now() + 2 * DAY;
    clock.set(later);
    let failed = Pair::connect(&client, &server).map(drop).expect_err("expired");
    assert_eq!(explain(&failed.server.expect("found"), later).reason, "expired");
    assert_eq!(explain(&failed.client.expect("told"), now()).reason, "refused_expired");
}

#[test]
fn the_roles_cannot_be_swapped() {
    let ca = ca();
    let client = credentials(&ca, ca.cert_pem(), CLIENT, Usage::Client);
    let server = credentials(&ca, ca.cert_pem(), SERVER, Usage::Server);
    assert!(matches!(client.server_config(), Err(CredentialsError::Role { .. })));
    assert!(matches!(server.client_config(), Err(CredentialsError::Role { .. })));
}

#[test]
fn another_application_protocol_is_refused() {
    let (client, server) = both(&ca());
    let mut old = ClientConfig::clone(&client);
    old.alpn_protocols = vec![b"restpipe/1".to_vec()];
    let failed = Pair::connect(&Arc::new(old), &server).map(drop).expect_err("refused");
    assert_eq!(explain(&failed.server.expect("found"), now()).reason, "alpn");
    assert_eq!(explain(&failed.client.expect("told"), now()).reason, "refused_alpn");
}

#[test]
fn plain_http_at_the_pipes_port_is_called_that() {
    let (_, server) = both(&ca());
    let mut server = ServerConnection::new(server).expect("a server");
    let error = feed_server(&mut server, b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n").expect_err("HTTP");
    assert_eq!(explain(&error, now()).reason, "not_tls");
}

#[test]
fn no_post_quantum_hybrid_and_no_tls_1_2_is_offered() {
    let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519, NamedGroup::secp256r1]);
    assert!(provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
}

/// A ClientHello without the extension that offers TLS 1.3 (RFC 5246 section 7.4.1.2).
fn tls_1_2_hello() -> Vec<u8> {
    let extensions = [
        // supported_groups: x25519; signature_algorithms: ecdsa_secp256r1_sha256
        &[0, 10, 0, 4, 0, 2, 0, 29][..],
        &[0, 13, 0, 4, 0, 2, 4, 3],
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, one suite, no compression.
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend([0, u8::try_from(extensions.len()).expect("short")]);
    body.extend(extensions);
    let len = u8::try_from(body.len()).expect("short");
    [&[22, 3, 1, 0, len + 4, 1, 0, 0, len][..], &body].concat()
}

#[test]
fn a_tls_1_2_client_is_called_that() {
    let (_, server) = both(&ca());
    let mut server = ServerConnection::new(server).expect("a server");
    let error = feed_server(&mut server, &tls_1_2_hello()).expect_err("TLS 1.2");
    assert_eq!(explain(&error, now()).reason, "version", "{error}");
}

#[test]
fn keys_of_other_common_kinds_are_taken_and_connect_on_both_sides() {
    let root = foreign_ca("corporate root", IsCa::Ca(BasicConstraints::Unconstrained));
    let with = |algorithm, name: &str, usage| {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = leaf_params(&[name]);
        params.extended_key_usages = vec![match usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let leaf = params.signed_by(&key, &root).expect("a leaf");
        let (cert, key, bundle) = (leaf.pem(), key.serialize_pem(), root.pem());
        let taken =
            Credentials::from_pem(cert.as_bytes(), key.as_bytes(), bundle.as_bytes(), usage, now());
        taken.expect("taken").with_clock(Clock::at(now()))
    };
    // P-521 among them: docs/security.md says why.
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
        (&rcgen::PKCS_RSA_SHA256, "RSA 2048"),
    ] {
        let client = with(algorithm, CLIENT, Usage::Client);
        let server = with(algorithm, SERVER, Usage::Server);
        assert_eq!((&*client.leaf().key_algorithm, &*server.leaf().key_algorithm), (kind, kind));
        let client = client.client_config().expect("a client");
        let server = server.server_config().expect("a server");
        assert!(Pair::connect(&client, &server).is_ok(), "{kind}");
    }
}
