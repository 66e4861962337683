//! CAs that may sign certain names only: row X7 of the bad input tables.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, GeneralSubtree, IsCa,
    KeyPair, NameConstraints, SanType,
};
use restpipe_identity::{
    CertificateAuthority, ChainError, Credentials, CredentialsError, PathFault, Roots, Usage,
    verify,
};
use rustls::pki_types::CertificateDer;

use crate::support::{ca_params, foreign_ca, issue, leaf_params, now, taken};

/// The extension NameConstraints (RFC 5280 section 4.2.1.10).
const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];

/// What a CA may sign.
fn limits(permitted: &[&str], excluded: &[&str]) -> NameConstraints {
    let subtrees = |names: &[&str]| {
        names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect()
    };
    NameConstraints {
        permitted_subtrees: subtrees(permitted),
        excluded_subtrees: subtrees(excluded),
    }
}

fn any_ca(subject: &str) -> CertificateParams {
    ca_params(subject, IsCa::Ca(BasicConstraints::Unconstrained))
}

/// A CA that permits URIs of this host only; rcgen has no such subtree.
fn uris_only(mut params: CertificateParams, host: &str) -> CertificateParams {
    let wrap = |tag: u8, content: &[u8]| {
        [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
    };
    // SEQUENCE { [0] permittedSubtrees { SEQUENCE { [6] URI } } }
    let value = wrap(0x30, &wrap(0xa0, &wrap(0x30, &wrap(0x86, host.as_bytes()))));
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, value);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    params
}

fn root(params: CertificateParams) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// What a node says of a leaf below `issuer`, with `root` in its bundle.
fn said(
    leaf: CertificateParams,
    issuer: &CertifiedIssuer<'static, KeyPair>,
    root: &CertifiedIssuer<'static, KeyPair>,
) -> Result<(), ChainError> {
    let leaf = leaf.signed_by(&KeyPair::generate().expect("a key"), issuer).expect("a leaf");
    let mut chain: Vec<CertificateDer<'_>> = vec![leaf.der().clone()];
    if issuer.der() != root.der() {
        chain.push(issuer.der().clone());
    }
    let roots = Roots::from_pem(root.pem().as_bytes()).expect("a bundle");
    verify(&chain, &roots, Usage::Client, now())
}

fn forbidden(result: &Result<(), ChainError>) {
    assert!(
        matches!(result, Err(ChainError::Path { fault: PathFault::NameForbidden, .. })),
        "{result:?}"
    );
}

#[test]
fn a_name_within_what_a_ca_may_sign_is_taken_and_one_outside_is_refused_whoever_is_limited() {
    for (permitted, excluded, name, good) in [
        (&["restpipe"][..], &[][..], "a.clients.hub.shop.restpipe", true),
        (&["restpipe"], &[], "a.example", false),
        (&["other.example", "restpipe"], &[], "a.restpipe", true),
        (&[], &["restpipe"], "a.restpipe", false),
        (&[], &["evil.restpipe"], "a.restpipe", true),
        (&["restpipe"], &["evil.restpipe"], "a.evil.restpipe", false),
        // A label is whole or not there (the wildcard fault of RUSTSEC-2026-0099 was beside it).
        (&["pipe"], &[], "a.restpipe", false),
    ] {
        let mut params = any_ca("limited");
        params.name_constraints = Some(limits(permitted, excluded));
        let limited_root = root(params.clone());
        let free_root = foreign_ca("root", IsCa::Ca(BasicConstraints::Unconstrained));
        let key = KeyPair::generate().expect("a key");
        let middle = CertifiedIssuer::signed_by(params, key, &free_root).expect("an intermediate");
        for (issuer, root) in [(&limited_root, &limited_root), (&middle, &free_root)] {
            let result = said(leaf_params(&[name]), issuer, root);
            if good {
                assert_eq!(result, Ok(()), "{name} below {permitted:?} {excluded:?}");
            } else {
                forbidden(&result);
            }
        }
    }
}

#[test]
fn a_uri_below_a_ca_that_limits_uris_is_refused_whatever_it_is() {
    // RUSTSEC-2026-0098: these limits were passed over once.
    let limited = root(uris_only(any_ca("uris"), "good.example"));
    for uri in ["https://good.example/x", "https://evil.example/x"] {
        let mut leaf = leaf_params(&["a.example"]);
        leaf.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI")));
        forbidden(&said(leaf, &limited, &limited));
    }
    // It says nothing of DNS names, which are all that a node has.
    assert_eq!(said(leaf_params(&["a.example"]), &limited, &limited), Ok(()));
}

#[test]
fn a_node_does_not_take_an_identity_with_a_name_that_its_ca_may_not_sign_and_says_why() {
    let mut params = any_ca("limited");
    params.name_constraints = Some(limits(&["restpipe"], &[]));
    let limited = root(params);
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf_params(&["a.example"]).signed_by(&key, &limited).expect("a leaf");
    let error = Credentials::from_pem(
        leaf.pem().as_bytes(),
        key.serialize_pem().as_bytes(),
        limited.pem().as_bytes(),
        Usage::Client,
        now(),
    )
    .expect_err("forbidden");
    assert!(matches!(error, CredentialsError::Chain(ChainError::Path { .. })), "{error:?}");
    assert_eq!(error.reason(), "bad_cert");
    assert_eq!(
        error.to_string(),
        "the certificate of a.example is refused: a CA above it may not sign this name (name \
         constraints): issue it with a CA that may"
    );
}

#[test]
fn a_ca_that_limits_uris_is_told_from_others() {
    let of = |params: CertificateParams| {
        let root = root(params);
        let key = root.key().serialize_pem();
        CertificateAuthority::from_pem(root.pem().as_bytes(), key.as_bytes()).expect("a CA")
    };
    assert!(of(uris_only(any_ca("uris"), "good.example")).limits_uris());
    assert!(!of(any_ca("free")).limits_uris());
    let mut dns = any_ca("names");
    dns.name_constraints = Some(limits(&["restpipe"], &["evil.restpipe"]));
    let dns = of(dns);
    assert!(!dns.limits_uris());
    // And what it signs within its limits is good.
    let leaf = issue(&dns, "a.restpipe", Usage::Server);
    assert!(taken(&leaf, dns.cert_pem(), Usage::Server, now()).is_ok());
}
