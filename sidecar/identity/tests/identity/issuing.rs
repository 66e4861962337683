//! The authority: what it writes, and what it refuses to.

use std::time::Duration;

use restpipe_identity::{
    BACKDATE, CA_LIFETIME, CertificateAuthority, IssueError, LEAF_LIFETIME, LeafRequest, Usage,
    inspect,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::parse_x509_certificate;

use crate::support::{DAY, ca, der, issue, name, now, taken};

fn request(host: &str, usage: Usage) -> LeafRequest {
    LeafRequest { name: name(host), usage, lifetime: LEAF_LIFETIME, now: now() }
}

#[test]
fn a_root_may_sign_leafs_only() {
    let ca = ca();
    let der = der(ca.cert_pem());
    let (_, root) = parse_x509_certificate(&der).expect("readable");
    let limits = root.basic_constraints().expect("one").expect("there").value;
    assert!(limits.ca && limits.path_len_constraint == Some(0));
    let usage = root.key_usage().expect("one").expect("there").value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    // Verifiers differ in what they make of them (RUSTSEC-2026-0098).
    assert!(root.name_constraints().expect("one").is_none());
    assert_eq!(ca.info().not_before, now() - BACKDATE);
    assert_eq!(ca.info().not_after, now() + CA_LIFETIME);
}

#[test]
fn a_leaf_has_its_issuers_key_mark_one_usage_and_a_random_positive_serial() {
    let ca = ca();
    let root_der = der(ca.cert_pem());
    let (_, root) = parse_x509_certificate(&root_der).expect("readable");
    let subject_mark = root.iter_extensions().find_map(|ext| match ext.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(mark) => Some(mark.0),
        _ => None,
    });
    let leaf = der(&issue(&ca, "a.example", Usage::Client).cert_pem);
    let (_, leaf) = parse_x509_certificate(&leaf).expect("readable");
    let issuer_mark = leaf.iter_extensions().find_map(|ext| match ext.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(mark) => {
            mark.key_identifier.as_ref().map(|mark| mark.0)
        }
        _ => None,
    });
    assert!(subject_mark.is_some() && subject_mark == issuer_mark);
    let usage = leaf.key_usage().expect("one").expect("there").value;
    assert_eq!(usage.flags, 1, "digitalSignature alone");
    assert_eq!(leaf.raw_serial().len(), 16);
    assert!((0x40..0x80).contains(&leaf.raw_serial()[0]));
    let again = inspect(&der(&issue(&ca, "a.example", Usage::Client).cert_pem)).expect("readable");
    assert_ne!(
        again.serial,
        leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
}

#[test]
fn a_leaf_never_outlives_its_ca_and_the_result_says_so() {
    let ca = CertificateAuthority::create("short", DAY / 2, now()).expect("a CA");
    for lifetime in [DAY, Duration::MAX] {
        let leaf =
            ca.issue(LeafRequest { lifetime, ..request("a", Usage::Client) }).expect("a leaf");
        assert!(leaf.capped);
        assert_eq!(leaf.not_after, ca.info().not_after);
        assert_eq!(inspect(&der(&leaf.cert_pem)).expect("readable").not_after, leaf.not_after);
    }
    let short = LeafRequest { lifetime: DAY / 4, ..request("a", Usage::Client) };
    let leaf = ca.issue(short).expect("a leaf");
    assert!(!leaf.capped);
    assert_eq!(leaf.not_after, now() + DAY / 4);
}

#[test]
fn an_expired_or_future_ca_issues_nothing() {
    let ca = ca();
    let late = LeafRequest { now: now() + CA_LIFETIME + DAY, ..request("a", Usage::Client) };
    let error = ca.issue(late).expect_err("expired");
    assert!(matches!(error, IssueError::CaExpired { .. }), "{error}");
    assert!(error.to_string().contains("ended at 2027-11-22T16:35:00Z, 1 day 0 h ago"), "{error}");
    let early = LeafRequest { now: now() - DAY, ..request("a", Usage::Client) };
    assert!(matches!(ca.issue(early), Err(IssueError::CaNotYetValid { .. })));
}

#[test]
fn senseless_requests_are_refused() {
    let ca = ca();
    let none = LeafRequest { lifetime: Duration::ZERO, ..request("a", Usage::Client) };
    assert_eq!(ca.issue(none).map(drop), Err(IssueError::Lifetime));
    assert!(matches!(ca.issue(request("1001", Usage::Server)), Err(IssueError::Name(_))));
    assert!(ca.issue(request("1001", Usage::Client)).is_ok());
    for wrong in ["", "  ", "a\nb", &"x".repeat(65)] {
        let error = CertificateAuthority::create(wrong, DAY, now()).map(drop);
        assert!(matches!(error, Err(IssueError::CaName(_))), "{wrong:?}");
    }
    for lifetime in [Duration::ZERO, Duration::from_secs(300_000_000_000), Duration::MAX] {
        let error = CertificateAuthority::create("ca", lifetime, now()).map(drop);
        assert_eq!(error, Err(IssueError::Lifetime));
    }
}

#[test]
fn the_longest_name_is_issued_without_a_common_name_and_taken() {
    let ca = ca();
    let long = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
    let leaf = issue(&ca, &long, Usage::Server);
    assert_eq!(inspect(&der(&leaf.cert_pem)).expect("readable").common_name, None);
    let taken = taken(&leaf, ca.cert_pem(), Usage::Server, now()).expect("taken");
    assert_eq!(taken.name().as_str(), long);
}

#[test]
fn a_ca_read_back_issues_the_same_trusted_leafs() {
    let ca = ca();
    let dos = ca.cert_pem().replace('\n', "\r\n");
    let back = CertificateAuthority::from_pem(dos.as_bytes(), ca.key_pem().expose().as_bytes())
        .expect("read back");
    assert_eq!((back.info(), back.cert_pem()), (ca.info(), ca.cert_pem()));
    let leaf = issue(&back, "a", Usage::Client);
    assert!(taken(&leaf, ca.cert_pem(), Usage::Client, now()).is_ok());
    assert!(!format!("{back:?} {:?}", back.key_pem()).contains("PRIVATE"));
}

#[test]
fn a_ca_with_another_cas_key_or_a_leaf_as_a_ca_is_refused() {
    let (ca, other) = (ca(), ca());
    let read = |cert: &str, key: &str| {
        CertificateAuthority::from_pem(cert.as_bytes(), key.as_bytes()).expect_err("refused")
    };
    let error = read(ca.cert_pem(), other.key_pem().expose());
    assert!(matches!(error, IssueError::CaKeyMismatch(_)), "{error}");
    let leaf = issue(&ca, "a", Usage::Client);
    assert!(matches!(read(&leaf.cert_pem, leaf.key_pem.expose()), IssueError::NotCa(_)));
    let two = format!("{}{}", ca.cert_pem(), other.cert_pem());
    assert!(matches!(read(&two, ca.key_pem().expose()), IssueError::Pem(_)));
}
