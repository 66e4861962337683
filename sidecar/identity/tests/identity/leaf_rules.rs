//! Which leafs name a node: rows X2 and X3 of the bad input tables.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, SanType,
};
use restpipe_identity::{LeafError, NameError, Usage, inspect, peer_name};

use crate::support::{ca, der, dns_name, issue, leaf_params, lone_leaf, name, now};

/// SubjectAltName, to put bytes there that rcgen refuses to write.
const SAN: &[u64] = &[2, 5, 29, 17];

fn refusal(params: CertificateParams) -> LeafError {
    let error = peer_name(&lone_leaf(params), Usage::Client).expect_err("refused");
    let line = error.to_string();
    assert!(!line.contains(char::is_control), "one line: {line:?}");
    assert!(line.contains("`restpipe identity client"), "names the cure: {line}");
    error
}

fn raw_san(entries: &[(u8, &[u8])]) -> CertificateParams {
    let mut content = Vec::new();
    for (tag, bytes) in entries {
        content.extend([0x80 | tag, u8::try_from(bytes.len()).expect("short")]);
        content.extend(*bytes);
    }
    let mut value = vec![0x30, u8::try_from(content.len()).expect("short")];
    value.extend(content);
    let mut params = leaf_params(&[]);
    params.custom_extensions.push(CustomExtension::from_oid_content(SAN, value));
    params
}

#[test]
fn one_dns_name_and_one_role_make_a_node() {
    let leaf = lone_leaf(leaf_params(&["fileserver.example.org"]));
    assert_eq!(peer_name(&leaf, Usage::Client), Ok(name("fileserver.example.org")));
    assert_eq!(Usage::of(&leaf), Ok(Usage::Client));
}

#[test]
fn a_leaf_with_a_common_name_only_is_refused_and_says_that_it_is_never_used() {
    let error = refusal(leaf_params(&[]));
    assert!(
        matches!(&error, LeafError::NoName { common_name: Some(name), .. } if name == "common.name")
    );
    assert!(error.to_string().contains("\"common.name\" is never used"), "{error}");
}

#[test]
fn a_leaf_with_two_names_is_refused_naming_both() {
    let error = refusal(leaf_params(&["a.example", "b.example"]));
    assert!(matches!(error, LeafError::SeveralNames { .. }));
    assert!(error.to_string().contains("2 names (a.example, b.example)"), "{error}");
    assert!(matches!(refusal(leaf_params(&["a", "a"])), LeafError::SeveralNames { .. }));
}

#[test]
fn a_wildcard_is_refused() {
    let error = refusal(leaf_params(&["*.example.org"]));
    assert!(matches!(error, LeafError::Wildcard { .. }), "{error}");
}

#[test]
fn an_address_or_uri_is_refused_instead_of_and_beside_a_dns_name() {
    let address = SanType::IpAddress("10.0.0.1".parse().expect("an address"));
    let uri = SanType::URI("spiffe://a/b".try_into().expect("a URI"));
    let mail = SanType::Rfc822Name("a@b".try_into().expect("an address"));
    for (kind, shown) in [(address, "IP:10.0.0.1"), (uri, "URI:spiffe://a/b"), (mail, "email:a@b")]
    {
        for mut params in [leaf_params(&[]), leaf_params(&["a.example"])] {
            params.subject_alt_names.push(kind.clone());
            let error = refusal(params);
            assert!(
                matches!(&error, LeafError::OtherKind { found, .. } if found == shown),
                "{error}"
            );
        }
    }
}

#[test]
fn a_ca_is_no_leaf() {
    let mut params = leaf_params(&["a.example"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(matches!(refusal(params), LeafError::IsCa { .. }));
}

#[test]
fn a_leaf_carries_the_usage_of_its_role_and_no_other() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
    let with = |usages: &[ExtendedKeyUsagePurpose]| {
        let mut params = leaf_params(&["a.example"]);
        params.extended_key_usages = usages.to_vec();
        refusal(params)
    };
    for missing in [&[][..], &[ServerAuth], &[Any], &[CodeSigning]] {
        assert!(matches!(with(missing), LeafError::UsageMissing { .. }), "{missing:?}");
    }
    for wide in [[ClientAuth, ServerAuth], [ClientAuth, Any], [ClientAuth, CodeSigning]] {
        assert!(matches!(with(&wide), LeafError::UsageTooWide { .. }), "{wide:?}");
    }
    let error = with(&[ClientAuth, ServerAuth]).to_string();
    assert!(
        error.contains("clientAuth and serverAuth, a client's is for clientAuth only"),
        "{error}"
    );
}

#[test]
fn a_server_leaf_is_not_a_clients_and_the_other_way_round() {
    let ca = ca();
    let (client, server) = (issue(&ca, "a", Usage::Client), issue(&ca, "b", Usage::Server));
    assert!(peer_name(&der(&client.cert_pem), Usage::Client).is_ok());
    assert!(peer_name(&der(&server.cert_pem), Usage::Server).is_ok());
    assert!(peer_name(&der(&client.cert_pem), Usage::Server).is_err());
    assert!(peer_name(&der(&server.cert_pem), Usage::Client).is_err());
}

#[test]
fn another_spelling_of_a_name_is_refused() {
    assert!(matches!(refusal(leaf_params(&["A.example"])), LeafError::Capitals { .. }));
    for (text, cause) in [
        ("a.example.", NameError::TrailingDot("a.example.".into())),
        ("a_b", NameError::BadCharacter { name: "a_b".into(), found: '_' }),
        ("10.0.0.1", NameError::Address("10.0.0.1".into())),
        ("", NameError::Empty),
    ] {
        let error = refusal(leaf_params(&[text]));
        assert!(matches!(&error, LeafError::BadName { reason, .. } if *reason == cause), "{error}");
    }
}

#[test]
fn nul_and_look_alike_letters_in_the_raw_bytes_are_refused() {
    const DNS: u8 = 2;
    let nul = refusal(raw_san(&[(DNS, b"good.example\0.evil.example")]));
    assert!(matches!(
        &nul,
        LeafError::BadName { reason: NameError::BadCharacter { found: '\0', .. }, .. }
    ));
    let cyrillic = refusal(raw_san(&[(DNS, "p\u{430}ypal".as_bytes())]));
    assert!(matches!(&cyrillic, LeafError::BadName { reason: NameError::NotAscii { .. }, .. }));
    let not_text = refusal(raw_san(&[(DNS, b"\xff\xfe")]));
    assert!(matches!(not_text, LeafError::OtherKind { .. }));
    assert!(matches!(refusal(raw_san(&[])), LeafError::NoName { .. }));
}

#[test]
fn a_second_names_extension_does_not_hide_behind_the_first() {
    let mut params = raw_san(&[(2, b"b")]);
    params.subject_alt_names = vec![dns_name("a")];
    assert!(matches!(peer_name(&lone_leaf(params), Usage::Client), Err(LeafError::Unreadable(_))));
}

#[test]
fn bytes_that_are_no_certificate_are_refused_wherever_they_are_cut() {
    let whole = lone_leaf(leaf_params(&["a.example"]));
    for len in 0..whole.len() {
        let cut = peer_name(&whole[..len], Usage::Client);
        assert!(matches!(cut, Err(LeafError::Unreadable(_))), "cut at {len}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(matches!(peer_name(&longer, Usage::Client), Err(LeafError::Unreadable(_))));
}

#[test]
fn the_role_of_a_leaf_is_its_single_usage() {
    let mut params = leaf_params(&["a"]);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    assert!(matches!(Usage::of(&lone_leaf(params)), Err(LeafError::NoRole { .. })));
}

#[test]
fn inspecting_shows_all_that_a_person_asks_for() {
    let ca = ca();
    let leaf = issue(&ca, "fileserver.example.org", Usage::Server);
    let info = inspect(&der(&leaf.cert_pem)).expect("readable");
    assert_eq!(info.names, ["fileserver.example.org"]);
    assert_eq!(info.common_name.as_deref(), Some("fileserver.example.org"));
    assert_eq!(info.usages, ["serverAuth"]);
    assert_eq!(info.issuer, "CN=restpipe test ca");
    assert_eq!(info.key_algorithm, "ECDSA P-256");
    assert!(!info.is_ca && ca.info().is_ca);
    assert!(info.is_valid_at(now()));
    assert_eq!((info.serial.len(), info.fingerprint.len()), (32, 64));
}
