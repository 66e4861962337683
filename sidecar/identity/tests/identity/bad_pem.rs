//! Files that are not as they should be: rows X4 to X6 of the bad input tables.

use std::fs;
use std::process::Command;

use rcgen::{BasicConstraints, IsCa, KeyPair};
use restpipe_identity::{
    BundleError, CertificateAuthority, Credentials, CredentialsError, FilesError, IssuedLeaf,
    MAX_BUNDLE_BYTES, MAX_CERT_BYTES, MAX_CHAIN, MAX_ROOTS, Part, PemError, Roots, Usage,
};

use crate::support::{DAY, ca, foreign_ca, issue, leaf_params, now, pem, taken};

struct Node {
    ca: CertificateAuthority,
    leaf: IssuedLeaf,
}

impl Node {
    fn new() -> Self {
        let ca = ca();
        let leaf = issue(&ca, "a.example", Usage::Client);
        Self { ca, leaf }
    }

    fn key(&self) -> &str {
        self.leaf.key_pem.expose()
    }

    fn take(&self, cert: &str, key: &str, ca: &str) -> Result<Credentials, CredentialsError> {
        let taken = Credentials::from_pem(
            cert.as_bytes(),
            key.as_bytes(),
            ca.as_bytes(),
            Usage::Client,
            now(),
        );
        if let Err(error) = &taken {
            let line = error.to_string();
            assert!(!line.contains(char::is_control), "one line: {line:?}");
        }
        taken
    }

    fn refused_cert(&self, cert: &str) -> PemError {
        match self.take(cert, self.key(), self.ca.cert_pem()) {
            Err(CredentialsError::Pem(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    fn refused_key(&self, key: &str) -> CredentialsError {
        self.take(&self.leaf.cert_pem, key, self.ca.cert_pem()).expect_err("refused")
    }

    fn refused_bundle(&self, bundle: &str) -> BundleError {
        match self.take(&self.leaf.cert_pem, self.key(), bundle) {
            Err(CredentialsError::Bundle(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn line_ends_blank_lines_and_a_byte_order_mark_are_harmless() {
    let node = Node::new();
    let cert = &node.leaf.cert_pem;
    for form in [
        cert.clone(),
        cert.trim_end().to_owned(),
        cert.replace('\n', "\r\n"),
        format!("\n\n  \r\n{cert}\n\n"),
        format!("\u{feff}{cert}"),
    ] {
        let key = node.key().replace('\n', "\r\n");
        let bundle = node.ca.cert_pem().trim_end();
        assert!(node.take(&form, &key, bundle).is_ok(), "{form:?}");
    }
}

#[test]
fn text_outside_a_block_is_refused_with_its_line() {
    let node = Node::new();
    let (cert, part) = (&node.leaf.cert_pem, Part::Certificate);
    assert_eq!(node.refused_cert(&format!("# mine\n{cert}")), PemError::Junk { part, line: 1 });
    let after = cert.lines().count() + 1;
    let junk = format!("{cert}-----BEGIN CERTIFICATE----\n");
    assert_eq!(node.refused_cert(&junk), PemError::Junk { part, line: after });
}

#[test]
fn cut_or_spoilt_blocks_are_refused() {
    let node = Node::new();
    let (cert, part) = (&node.leaf.cert_pem, Part::Certificate);
    assert_eq!(node.refused_cert(""), PemError::Empty(part));
    assert_eq!(node.refused_cert(" \n\r\n"), PemError::Empty(part));
    let cut = &cert[..cert.len() / 2];
    assert_eq!(node.refused_cert(cut), PemError::Unterminated { part, line: 1 });
    let twice = format!("{cut}\n{cert}");
    assert_eq!(node.refused_cert(&twice), PemError::Unterminated { part, line: 1 });
    let other_end = cert.replace("-----END CERTIFICATE", "-----END X509 CRL");
    assert_eq!(node.refused_cert(&other_end), PemError::Unterminated { part, line: 1 });
    let spoilt = cert.replacen("MII", "M!I", 1);
    assert_eq!(node.refused_cert(&spoilt), PemError::NotBase64 { part, line: 1 });
    let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    let taken = node.take(empty, node.key(), node.ca.cert_pem());
    assert!(matches!(taken, Err(CredentialsError::Leaf(_))), "{taken:?}");
}

#[test]
fn a_key_in_the_certificate_file_and_the_reverse_are_told_apart() {
    let node = Node::new();
    let both = format!("{}{}", node.leaf.cert_pem, node.key());
    let error = node.refused_cert(&both);
    assert!(
        matches!(&error, PemError::WrongBlock { label, .. } if label == "PRIVATE KEY"),
        "{error}"
    );
    let swapped = node.refused_key(&node.leaf.cert_pem);
    assert!(
        swapped.to_string().contains("key file (tls.key) holds a CERTIFICATE block"),
        "{swapped}"
    );
    let unknown = node.leaf.cert_pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    assert!(matches!(node.refused_cert(&unknown), PemError::WrongBlock { .. }));
}

#[test]
fn sizes_and_counts_are_capped() {
    let node = Node::new();
    let big = "\n".repeat(MAX_CERT_BYTES + 1);
    assert_eq!(node.refused_cert(&big), PemError::TooLarge { part: Part::Certificate });
    let cert = node.leaf.cert_pem.repeat(MAX_CHAIN + 1);
    let (part, found, most) = (Part::Certificate, MAX_CHAIN + 1, MAX_CHAIN);
    assert_eq!(node.refused_cert(&cert), PemError::TooMany { part, found, most });
    assert!(matches!(
        node.refused_bundle(&"\n".repeat(MAX_BUNDLE_BYTES + 1)),
        BundleError::Pem(PemError::TooLarge { part: Part::Bundle })
    ));
    let roots: String = (0..=MAX_ROOTS).map(|_| ca().cert_pem().to_owned()).collect();
    assert!(matches!(
        node.refused_bundle(&roots),
        BundleError::Pem(PemError::TooMany { part: Part::Bundle, found: 21, most: 20 })
    ));
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let node = Node::new();
    let key = node.key();
    let other = KeyPair::generate().expect("a key").serialize_pem();
    let mismatch = node.refused_key(&other);
    assert!(matches!(mismatch, CredentialsError::KeyMismatch(_)), "{mismatch}");
    assert!(mismatch.to_string().contains("of a.example"), "{mismatch}");

    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old_style = key.replace("PRIVATE KEY", "EC PRIVATE KEY").replacen(
        '\n',
        "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
        1,
    );
    for form in [encrypted, old_style] {
        let error = node.refused_key(&form);
        assert!(matches!(error, CredentialsError::Pem(PemError::Encrypted(Part::Key))), "{error}");
    }
    assert!(matches!(
        node.refused_key(&format!("{key}{other}")),
        CredentialsError::Pem(PemError::SeveralKeys(_))
    ));
}

#[test]
fn a_key_on_a_curve_that_tls_does_not_use_is_refused_clearly() {
    let node = Node::new();
    // prime256v1 is 1.2.840.10045.3.1.7; the arc 4 beside it is prime239v1.
    let mut der = KeyPair::generate().expect("a key").serialize_der();
    let prime = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let at = der.windows(8).position(|part| part == prime).expect("the curve's name");
    der[at + 7] = 4;
    let key = pem("PRIVATE KEY", &der);
    let error = node.refused_key(&key);
    assert!(matches!(error, CredentialsError::Key(_)), "{error}");
    assert!(error.to_string().contains("make a P-256 key"), "{error}");
}

#[test]
fn sec1_keys_of_openssl_with_their_parameters_in_front_are_taken() {
    let node = Node::new();
    // Inside PKCS#8 lies the SEC1 key, here without its curve: openssl writes that in front.
    let pkcs8 = key_der(&rcgen::PKCS_ECDSA_P256_SHA256);
    let sec1 = inner_key(&pkcs8);
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let key = format!("{parameters}{}", pem("EC PRIVATE KEY", sec1));
    // It is another node's key, so it must get as far as the comparison.
    assert!(matches!(node.refused_key(&key), CredentialsError::KeyMismatch(_)));
}

#[test]
fn pkcs1_keys_are_taken() {
    let pkcs8 = key_der(&rcgen::PKCS_RSA_SHA256);
    let key = pem("RSA PRIVATE KEY", inner_key(&pkcs8));
    let error = Node::new().refused_key(&key);
    assert!(matches!(error, CredentialsError::KeyMismatch(_)), "{error}");
}

fn key_der(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
    KeyPair::generate_for(algorithm).expect("a key").serialize_der()
}

/// The last field of PKCS#8 (RFC 5208 section 5): version, algorithm, then this OCTET STRING.
fn inner_key(pkcs8: &[u8]) -> &[u8] {
    let header = |at: usize| match pkcs8[at + 1] {
        0x81 => 3,
        0x82 => 4,
        short => {
            assert!(short < 0x80);
            2
        }
    };
    let version = header(0);
    let algorithm = version + 3;
    let octets = algorithm + 2 + usize::from(pkcs8[algorithm + 1]);
    assert_eq!((pkcs8[algorithm], pkcs8[octets]), (0x30, 0x04));
    &pkcs8[octets + header(octets)..]
}

#[test]
fn an_empty_bundle_and_one_with_a_leaf_in_it_are_refused() {
    let node = Node::new();
    assert!(matches!(node.refused_bundle("\n"), BundleError::Pem(PemError::Empty(Part::Bundle))));
    let with_leaf = format!("{}{}", node.ca.cert_pem(), node.leaf.cert_pem);
    let error = node.refused_bundle(&with_leaf);
    assert!(matches!(error, BundleError::NotCa { .. }), "{error}");
}

#[test]
fn an_expired_root_beside_a_good_one_does_no_harm_and_is_not_trusted() {
    let node = Node::new();
    let old = CertificateAuthority::create("old", DAY, now() - 2 * DAY).expect("a CA");
    let bundle = format!("{}{}", old.cert_pem(), node.ca.cert_pem());
    let taken = taken(&node.leaf, &bundle, Usage::Client, now()).expect("the good one is used");
    assert_eq!(taken.roots().iter().count(), 2);
    assert_eq!(taken.roots().valid_at(now()).len(), 1);
    assert_eq!(taken.roots().fingerprints()[1], node.ca.info().fingerprint);
}

#[test]
fn a_root_given_twice_counts_once() {
    let pem = ca().cert_pem().repeat(2);
    assert_eq!(Roots::from_pem(pem.as_bytes()).expect("a bundle").fingerprints().len(), 1);
}

#[test]
fn a_directory_a_pipe_and_a_huge_file_are_refused_without_blocking() {
    let node = Node::new();
    let dir = tempfile::tempdir().expect("a directory");
    let at = |file: &str| dir.path().join(file);
    fs::write(at("tls.crt"), &node.leaf.cert_pem).expect("written");
    fs::write(at("ca.crt"), node.ca.cert_pem()).expect("written");
    let load = || Credentials::load(dir.path(), Usage::Client, now());
    let error = load().expect_err("no key").to_string();
    assert!(error.contains("tls.key"), "{error}");
    fs::create_dir(at("tls.key")).expect("a directory");
    assert!(matches!(load(), Err(CredentialsError::Files(FilesError::NotAFile { .. }))));
    fs::remove_dir(at("tls.key")).expect("removed");
    let made = Command::new("mkfifo").arg(at("tls.key")).status().expect("mkfifo of coreutils");
    assert!(made.success());
    assert!(matches!(load(), Err(CredentialsError::Files(FilesError::NotAFile { .. }))));
    fs::remove_file(at("tls.key")).expect("removed");
    fs::write(at("tls.key"), vec![b'\n'; 1 << 20]).expect("written");
    assert!(matches!(load(), Err(CredentialsError::Files(FilesError::TooLarge { .. }))));
    fs::write(at("tls.key"), node.key()).expect("written");
    let taken = load().expect("whole at last");
    assert_eq!(taken.name().as_str(), "a.example");
    assert!(!format!("{taken:?}{:?}", node.leaf).contains("PRIVATE"));
}

#[test]
fn a_leaf_signed_by_an_unconstrained_foreign_root_is_taken_too() {
    let root = foreign_ca("corporate root", IsCa::Ca(BasicConstraints::Unconstrained));
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf_params(&["a.example"]).signed_by(&key, &root).expect("a leaf");
    let node = Node::new();
    assert!(node.take(&leaf.pem(), &key.serialize_pem(), &root.pem()).is_ok());
}
