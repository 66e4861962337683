//! Keys and chains that are larger than anybody's: row X4 of the bad input tables, and the
//! bundle of X6.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertifiedIssuer, IsCa, Issuer, KeyPair, SubjectPublicKeyInfo,
};
use restpipe_identity::{
    ALPN, BundleError, CertificateAuthority, ChainError, Credentials, CredentialsError, IssueError,
    MAX_CERT_BYTES, MAX_CHAIN, MAX_KEY_BYTES, MAX_ROOTS, Part, PathFault, PemError, Roots, Usage,
    explain, inspect, provider, verify,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SignatureAlgorithm, SignatureScheme};

use crate::pair::{Clock, Pair, SERVER};
use crate::support::{ca, ca_params, foreign_ca, issue, leaf_params, now, pem, taken};

/// Bits of an RSA key that nobody should have to reckon with: the largest taken are 8192.
const HUGE: usize = 16_384;

/// Certificates between leaf and root, where 6 are followed.
const INTERMEDIATES: usize = 100;

/// An INTEGER in DER that is the sum of `digit * 2^shift`: numbers of which nearly all bits are 0.
fn integer(sum: &[(u32, usize)]) -> Vec<u8> {
    let mut bytes = vec![0_u8; HUGE / 8 + 8];
    for (digit, shift) in sum {
        let mut carry = u64::from(*digit) << (shift % 8);
        for byte in bytes.iter_mut().skip(shift / 8) {
            carry += u64::from(*byte);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
    }
    while bytes.len() > 1 && bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.last().is_some_and(|top| *top >= 0x80) {
        bytes.push(0);
    }
    bytes.reverse();
    tagged(0x02, &bytes)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let header = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [header, content.to_vec()].concat()
}

/// An RSA key of `bits` bits that passes for one as long as nothing is signed with it: its numbers
/// belong together, and its factors p = 3(2^k + 1) and q = p + 2 are no primes. To make a real one
/// of 16384 bits takes minutes.
///
/// With e = 3, which divides p, is d = p²/3, since 3d = p² = 1 + (p - 1)(p + 1), and p + 1 = q - 1.
fn toy_rsa(bits: usize) -> (Vec<u8>, Vec<u8>) {
    let k = bits / 2 - 2;
    let n = integer(&[(9, 2 * k), (24, k), (15, 0)]);
    let e = integer(&[(3, 0)]);
    let private = [
        integer(&[(0, 0)]),
        n.clone(),
        e.clone(),
        integer(&[(3, 2 * k), (6, k), (3, 0)]),
        integer(&[(3, k), (3, 0)]),
        integer(&[(3, k), (5, 0)]),
        // d modulo p - 1 and q - 1, and the inverse of q = p + 2 modulo p, which is (p + 1) / 2.
        integer(&[(1, k), (1, 0)]),
        integer(&[(1, k + 1), (3, 0)]),
        integer(&[(3, k - 1), (2, 0)]),
    ];
    (tagged(0x30, &private.concat()), tagged(0x30, &[n, e].concat()))
}

/// rsaEncryption without parameters to speak of (RFC 8017 appendix A.1).
fn rsa_encryption() -> Vec<u8> {
    let oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    tagged(0x30, &[&oid[..], &[0x05, 0x00]].concat())
}

fn pkcs8(bits: usize) -> String {
    let (private, _) = toy_rsa(bits);
    let parts = [integer(&[(0, 0)]), rsa_encryption(), tagged(0x04, &private)];
    pem("PRIVATE KEY", &tagged(0x30, &parts.concat()))
}

fn public_key(bits: usize) -> SubjectPublicKeyInfo {
    let (_, public) = toy_rsa(bits);
    let bits = [&[0][..], &public].concat();
    let spki = tagged(0x30, &[rsa_encryption(), tagged(0x03, &bits)].concat());
    SubjectPublicKeyInfo::from_der(&spki).expect("a public key")
}

#[test]
fn rsa_keys_over_8192_bits_are_refused_and_smaller_ones_of_the_same_make_are_not() {
    let ca = ca();
    let leaf = issue(&ca, "a.example", Usage::Client);
    let with = |key: &str| {
        let (cert, bundle) = (leaf.cert_pem.as_bytes(), ca.cert_pem().as_bytes());
        Credentials::from_pem(cert, key.as_bytes(), bundle, Usage::Client, now())
    };
    for bits in [2048, 4096, 8192] {
        // It is another node's, so it must get as far as the comparison.
        let error = with(&pkcs8(bits)).expect_err("another key");
        assert!(matches!(error, CredentialsError::KeyMismatch(_)), "{bits}: {error}");
    }
    let huge = pkcs8(HUGE);
    assert!(huge.len() < MAX_KEY_BYTES, "it is not for its bytes that it is refused");
    let error = with(&huge).expect_err("too large");
    assert!(matches!(error, CredentialsError::Key(_)), "{error}");
    assert!(error.to_string().contains("or RSA of 2048 to 8192 bits"), "{error}");
}

#[test]
fn a_ca_with_a_huge_rsa_key_signs_nothing_and_nothing_by_it_is_believed() {
    let good = foreign_ca("good", IsCa::Ca(BasicConstraints::Unconstrained));
    // Its name and key, under another's signature: rcgen could not sign with it.
    let params = ca_params("huge", IsCa::Ca(BasicConstraints::Unconstrained));
    let huge: Certificate = params.signed_by(&public_key(HUGE), &good).expect("a certificate");
    let said = inspect(huge.der()).expect("readable");
    assert_eq!(said.key_algorithm, "RSA 16384");

    let read = CertificateAuthority::from_pem(huge.pem().as_bytes(), pkcs8(HUGE).as_bytes());
    assert!(matches!(read, Err(IssueError::Library(_))), "{read:?}");

    // Leafs that an RSA key has signed: whoever verifies them takes that one, and refuses the huge
    // one that they say it was, instead of reckoning with it.
    let key = || KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let smaller = CertifiedIssuer::self_signed(params.clone(), key()).expect("a CA");
    let pretended = Issuer::from_params(&params, key());
    let leaf = |issuer: &Issuer<'_, KeyPair>| {
        let key = KeyPair::generate().expect("a key");
        leaf_params(&["a.example"]).signed_by(&key, issuer).expect("a leaf")
    };
    let said = |leaf: Certificate, ca: &str| {
        let roots = Roots::from_pem(ca.as_bytes()).expect("a bundle");
        verify(&[leaf.der().clone(), huge.der().clone()], &roots, Usage::Client, now())
    };
    assert_eq!(said(leaf(&smaller), &smaller.pem()), Ok(()));
    // As a root, and as an intermediate below a good one.
    for ca in [huge.pem(), good.pem()] {
        let refused = said(leaf(&pretended), &ca);
        assert!(matches!(refused, Err(ChainError::UnknownCa { .. })), "{refused:?}");
    }
}

/// Says that it signs, and writes bytes of the right number.
#[derive(Debug)]
struct Pretender;

impl SigningKey for Pretender {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for Pretender {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![1; HUGE / 8])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

fn client_with(
    chain: Vec<CertificateDer<'static>>,
    ca: &CertificateAuthority,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(crate::support::der(ca.cert_pem())).expect("a root");
    let mut config = ClientConfig::builder_with_details(provider(), Clock::at(now()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain,
            Arc::new(Pretender),
        ))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.into()
}

#[test]
fn a_peer_with_a_huge_rsa_key_is_refused_for_its_certificate_in_the_handshake() {
    let ca = ca();
    let server = taken(&issue(&ca, SERVER, Usage::Server), ca.cert_pem(), Usage::Server, now());
    let server = server.expect("taken").with_clock(Clock::at(now())).server_config();
    let server = server.expect("a server");
    let issuer = ca.key_pem();
    let issuer = KeyPair::from_pem(issuer.expose()).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(ca.cert_pem(), issuer).expect("the CA");
    let leaf = leaf_params(&["a"]).signed_by(&public_key(HUGE), &issuer).expect("a leaf");
    let roots = Roots::from_pem(ca.cert_pem().as_bytes()).expect("a bundle");
    let chain = vec![leaf.der().clone()];
    assert_eq!(verify(&chain, &roots, Usage::Client, now()), Ok(()), "the chain is a good one");
    let failed = Pair::connect(&client_with(chain, &ca), &server).map(drop).expect_err("refused");
    let why = explain(&failed.server.expect("found"), now());
    assert_eq!(why.reason, "unknown_ca", "{why}");
}

/// A root, a leaf, and the CAs between them from the lowest up.
fn long_chain() -> (CertifiedIssuer<'static, KeyPair>, Vec<CertificateDer<'static>>, KeyPair) {
    let key = || KeyPair::generate().expect("a key");
    let root = foreign_ca("root", IsCa::Ca(BasicConstraints::Unconstrained));
    let mut above = Vec::new();
    let mut issuer: Option<CertifiedIssuer<'static, KeyPair>> = None;
    for number in 0..INTERMEDIATES {
        let params =
            ca_params(&format!("number {number}"), IsCa::Ca(BasicConstraints::Unconstrained));
        let next = CertifiedIssuer::signed_by(params, key(), issuer.as_ref().unwrap_or(&root));
        let next = next.expect("an intermediate");
        above.push(next.der().clone());
        issuer = Some(next);
    }
    let leaf_key = key();
    let issuer = issuer.expect("there are some");
    let leaf = leaf_params(&["a"]).signed_by(&leaf_key, &issuer).expect("a leaf");
    above.push(leaf.der().clone());
    above.reverse();
    (root, above, leaf_key)
}

#[test]
fn a_chain_of_a_hundred_intermediates_is_refused_as_a_file_and_as_a_peers() {
    let (root, chain, key) = long_chain();
    let roots = Roots::from_pem(root.pem().as_bytes()).expect("a bundle");
    let error = verify(&chain, &roots, Usage::Client, now()).expect_err("too long");
    assert!(matches!(error, ChainError::Path { fault: PathFault::TooLong, .. }), "{error}");
    assert!(error.to_string().contains("send only those of the way"), "{error}");
    let take = |certificates: &[CertificateDer<'static>]| {
        let cert: String = certificates.iter().map(|der| pem("CERTIFICATE", der)).collect();
        let key = key.serialize_pem();
        Credentials::from_pem(
            cert.as_bytes(),
            key.as_bytes(),
            root.pem().as_bytes(),
            Usage::Client,
            now(),
        )
    };
    let error = take(&chain).expect_err("too large");
    let part = Part::Certificate;
    assert!(
        matches!(error, CredentialsError::Pem(PemError::TooLarge { part: found }) if found == part),
        "{error}"
    );
    assert!(error.to_string().contains(&MAX_CERT_BYTES.to_string()), "{error}");
    // As many as there is room for are still too many.
    let fitting = &chain[..MAX_CHAIN + 2];
    let error = take(fitting).expect_err("too many");
    let (found, most) = (fitting.len(), MAX_CHAIN);
    assert!(
        matches!(&error, CredentialsError::Pem(error) if *error == PemError::TooMany { part, found, most }),
        "{error}"
    );
}

#[test]
fn a_bundle_of_five_hundred_cas_is_refused_by_their_number() {
    let one = ca();
    let many: String = (0..500).map(|_| ca().cert_pem().to_owned()).collect();
    let leaf = issue(&one, "a.example", Usage::Client);
    let error = taken(&leaf, &(many + one.cert_pem()), Usage::Client, now()).expect_err("too many");
    assert_eq!(error.reason(), "bad_bundle");
    match &error {
        CredentialsError::Bundle(BundleError::Pem(error)) => assert_eq!(
            *error,
            PemError::TooMany { part: Part::Bundle, found: 501, most: MAX_ROOTS }
        ),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("501 certificates, at most 20"), "{error}");
}

#[test]
fn what_is_written_by_hand_here_is_read_as_it_was_meant() {
    let der = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x07]);
    let read = CertificateDer::from_pem_slice(pem("CERTIFICATE", &der).as_bytes());
    assert_eq!(read.expect("PEM"), der);
    assert_eq!(integer(&[(1, 8), (3, 0)]), [0x02, 2, 1, 3]);
    assert_eq!(integer(&[(1, 7)]), [0x02, 2, 0, 0x80]);
}
