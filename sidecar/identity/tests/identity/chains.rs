//! Chains and clocks: row X1, the chains of X2, and the rotation of a CA.
//!
//! What a CA may sign (X7) is in `constraints`, chains without an end (X4) in `oversized`.

use std::time::Duration;

use rcgen::{BasicConstraints, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, ChainError, CredentialsError, LeafRequest, PathFault, Roots,
    Usage, root_of, verify,
};

use crate::support::{
    DAY, MINUTE, ca, ca_params, der, foreign_ca, issue, issue_at, leaf_params, name, now, taken,
};

fn roots(pem: &str) -> Roots {
    Roots::from_pem(pem.as_bytes()).expect("a bundle")
}

#[test]
fn a_leaf_is_valid_from_five_minutes_before_its_issue_to_its_last_second() {
    let ca = ca();
    let leaf = issue(&ca, "a", Usage::Client);
    let (chain, roots) = ([der(&leaf.cert_pem)], roots(ca.cert_pem()));
    let at = |now| verify(&chain, &roots, Usage::Client, now);
    let second = Duration::from_secs(1);
    assert_eq!(at(now() - 5 * MINUTE), Ok(()));
    assert_eq!(at(now() + DAY - second), Ok(()));
    assert_eq!(at(now() + DAY), Ok(()));
    let not_after = now() + DAY;
    assert!(
        matches!(at(now() + DAY + second), Err(ChainError::Expired { not_after: end, .. }) if end == not_after)
    );
}

#[test]
fn an_expired_leaf_is_refused_showing_both_clocks_and_the_gap() {
    let ca = ca();
    let leaf = issue(&ca, "a.example", Usage::Server);
    let later = now() + 4 * DAY + 60 * MINUTE;
    let error = taken(&leaf, ca.cert_pem(), Usage::Server, later).expect_err("expired");
    assert_eq!(error.reason(), "expired");
    assert_eq!(
        error.to_string(),
        "the certificate of a.example ended at 2026-11-23T16:35:00Z, 3 days 1 h before this \
         machine's clock (2026-11-26T17:35:00Z): renew it, or check the clock of this machine"
    );
}

#[test]
fn a_clock_that_is_behind_shows_as_a_certificate_that_has_not_begun() {
    let ca = CertificateAuthority::create("ca", CA_LIFETIME, now() - 9 * DAY).expect("a CA");
    let leaf = issue(&ca, "a.example", Usage::Client);
    let behind = now() - 65 * MINUTE;
    let error = taken(&leaf, ca.cert_pem(), Usage::Client, behind).expect_err("not yet valid");
    assert_eq!(error.reason(), "not_yet_valid");
    assert_eq!(
        error.to_string(),
        "the certificate of a.example begins at 2026-11-22T16:30:00Z, 1 h 0 min after this \
         machine's clock (2026-11-22T15:30:00Z): check the clock of this machine and of the one \
         that issued it"
    );
}

#[test]
fn a_ca_that_ended_is_named_even_if_the_leaf_has_not() {
    let root = foreign_ca("short root", IsCa::Ca(BasicConstraints::Unconstrained));
    let mut params = leaf_params(&["a"]);
    params.not_after += time::Duration::days(30);
    let key = KeyPair::generate().expect("a key");
    let leaf = params.signed_by(&key, &root).expect("a leaf");
    let check = |bundle: &str| {
        verify(&[leaf.der().clone()], &roots(bundle), Usage::Client, now() + 2 * DAY)
    };
    let ended = |result: Result<(), ChainError>| match result {
        Err(ChainError::Expired { of, .. }) => assert_eq!(of, "the CA CN=short root"),
        other => panic!("{other:?}"),
    };
    ended(check(&root.pem()));
    ended(check(&format!("{}{}", root.pem(), ca().cert_pem())));
}

#[test]
fn a_foreign_ca_is_refused_naming_it_and_the_trusted_ones() {
    let (ours, foreign) =
        (ca(), CertificateAuthority::create("foreign", DAY, now()).expect("a CA"));
    let leaf = issue(&foreign, "a.example", Usage::Client);
    let error = taken(&leaf, ours.cert_pem(), Usage::Client, now()).expect_err("foreign");
    assert!(
        matches!(&error, CredentialsError::Chain(ChainError::UnknownCa { issuer, .. }) if issuer == "CN=foreign")
    );
    let line = error.to_string();
    assert!(line.contains("CN=restpipe test ca ") && !line.contains('\n'), "{line}");
    assert!(line.contains(&ours.info().fingerprint[..16]), "{line}");
}

#[test]
fn a_foreign_ca_of_the_same_name_is_still_foreign() {
    let (ours, foreign) = (ca(), ca());
    for usage in [Usage::Client, Usage::Server] {
        let leaf = issue(&foreign, "a", usage);
        let error = taken(&leaf, ours.cert_pem(), usage, now()).expect_err("foreign");
        assert_eq!(error.reason(), "unknown_ca", "{error}");
        assert!(
            error.to_string().contains("another CN=restpipe test ca of the same name"),
            "{error}"
        );
    }
}

#[test]
fn the_wrong_usage_is_refused_both_ways() {
    let ca = ca();
    for (has, wanted) in [(Usage::Client, Usage::Server), (Usage::Server, Usage::Client)] {
        let chain = [der(&issue(&ca, "a", has).cert_pem)];
        let refused = verify(&chain, &roots(ca.cert_pem()), wanted, now());
        assert!(
            matches!(refused, Err(ChainError::WrongUsage { usage, .. }) if usage == wanted),
            "{refused:?}"
        );
    }
}

#[test]
fn a_leaf_cannot_sign_another_and_that_is_said_to_be_the_cause() {
    let root = foreign_ca("root", IsCa::Ca(BasicConstraints::Constrained(0)));
    for (usage, purpose) in [
        (Usage::Client, ExtendedKeyUsagePurpose::ClientAuth),
        (Usage::Server, ExtendedKeyUsagePurpose::ServerAuth),
    ] {
        let key = || KeyPair::generate().expect("a key");
        let params = |name: &str| {
            let mut params = leaf_params(&[name]);
            params.extended_key_usages = vec![purpose.clone()];
            params
        };
        let signer = CertifiedIssuer::signed_by(params("a"), key(), &root).expect("a leaf");
        let forged = params("b").signed_by(&key(), &signer).expect("a forged leaf");
        let chain = [forged.der().clone(), signer.der().clone()];
        let error = verify(&chain, &roots(&root.pem()), usage, now()).expect_err("forged");
        let of = "the certificate of b".to_owned();
        assert_eq!(error, ChainError::Path { of, fault: PathFault::NotCa });
        assert!(
            error.to_string().contains("signed by a certificate that is not a CA's"),
            "{error}"
        );
        assert_eq!(verify(&chain[1..], &roots(&root.pem()), usage, now()), Ok(()), "it is a leaf");
    }
}

#[test]
fn an_intermediate_of_path_length_nought_has_no_intermediate_below_it() {
    let below = |limits| {
        let root = foreign_ca("root", IsCa::Ca(BasicConstraints::Unconstrained));
        let key = || KeyPair::generate().expect("a key");
        let upper = CertifiedIssuer::signed_by(ca_params("upper", limits), key(), &root);
        let upper = upper.expect("an intermediate");
        let lower = ca_params("lower", IsCa::Ca(BasicConstraints::Unconstrained));
        let lower = CertifiedIssuer::signed_by(lower, key(), &upper).expect("an intermediate");
        let leaf = leaf_params(&["a"]).signed_by(&key(), &lower).expect("a leaf");
        let chain = [leaf.der().clone(), lower.der().clone(), upper.der().clone()];
        verify(&chain, &roots(&root.pem()), Usage::Client, now())
    };
    assert_eq!(below(IsCa::Ca(BasicConstraints::Constrained(1))), Ok(()));
    let error = below(IsCa::Ca(BasicConstraints::Constrained(0)));
    assert!(
        matches!(error, Err(ChainError::Path { fault: PathFault::PathLength, .. })),
        "{error:?}"
    );
}

#[test]
fn no_chain_at_all_is_an_error_and_no_panic() {
    let roots = roots(ca().cert_pem());
    assert_eq!(verify(&[], &roots, Usage::Client, now()), Err(ChainError::Empty));
    let junk = [vec![0x30, 0x00].into()];
    assert!(matches!(verify(&junk, &roots, Usage::Server, now()), Err(ChainError::Unreadable(_))));
}

#[test]
fn while_two_cas_overlap_leafs_of_both_are_trusted_and_then_only_the_new_ones() {
    // Same name, as the operator's successive roots have.
    let (old, new) = (ca(), ca());
    let both = format!("{}{}", old.cert_pem(), new.cert_pem());
    let (before, after) = (issue(&old, "a", Usage::Client), issue(&new, "a", Usage::Client));
    for leaf in [&before, &after] {
        for order in [both.clone(), format!("{}{}", new.cert_pem(), old.cert_pem())] {
            assert!(taken(leaf, &order, Usage::Client, now()).is_ok());
        }
    }
    let server = issue(&new, "hub.restpipe", Usage::Server);
    let overlapping = taken(&server, &both, Usage::Server, now()).expect("taken");
    let dropped = taken(&server, new.cert_pem(), Usage::Server, now()).expect("taken");
    let (old_peer, new_peer) = ([der(&before.cert_pem)], [der(&after.cert_pem)]);
    assert_eq!(overlapping.still_trusts(&old_peer, Usage::Client, now()), Ok(()));
    assert!(matches!(
        dropped.still_trusts(&old_peer, Usage::Client, now()),
        Err(ChainError::UnknownCa { .. })
    ));
    assert_eq!(dropped.still_trusts(&new_peer, Usage::Client, now()), Ok(()));
    for (peer, ca) in [(&old_peer, &old), (&new_peer, &new)] {
        let root = root_of(peer, overlapping.roots(), Usage::Client, now()).expect("a root");
        assert_eq!(root.info(), ca.info());
    }
}

#[test]
fn an_intermediate_that_ended_is_named() {
    let root = foreign_ca("root", IsCa::Ca(BasicConstraints::Unconstrained));
    let mut params = ca_params("middle", IsCa::Ca(BasicConstraints::Constrained(0)));
    params.not_before -= time::Duration::days(3);
    params.not_after -= time::Duration::days(2);
    let middle = CertifiedIssuer::signed_by(params, KeyPair::generate().expect("a key"), &root)
        .expect("an intermediate");
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf_params(&["a"]).signed_by(&key, &middle).expect("a leaf");
    let chain = [leaf.der().clone(), middle.der().clone()];
    match verify(&chain, &roots(&root.pem()), Usage::Client, now()) {
        Err(ChainError::Expired { of, .. }) => assert_eq!(of, "the certificate of CN=middle"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_one_second_left_a_leaf_is_still_taken() {
    let ca = ca();
    let request = LeafRequest {
        name: name("a"),
        usage: Usage::Client,
        lifetime: Duration::from_secs(1),
        now: now(),
    };
    let leaf = ca.issue(request).expect("a leaf");
    assert!(taken(&leaf, ca.cert_pem(), Usage::Client, now()).is_ok());
    assert!(
        taken(&issue_at(&ca, "a", Usage::Client, now()), ca.cert_pem(), Usage::Client, now())
            .is_ok()
    );
}
