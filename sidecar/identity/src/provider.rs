//! The one crypto provider, and the little of it that is used directly.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed};

/// The provider of every pipe: aws-lc-rs, TLS 1.3, AES-128-GCM first.
///
/// AES-128 before AES-256 since it is the cheaper of the two and as safe against today's
/// machines. Key exchange is X25519, then P-256: the post-quantum hybrid of rustls' defaults is
/// left out on purpose, for it makes each handshake dearer by 2.3 kB on the wire and a lattice
/// operation on both sides, which a server feels when all its clients return at once.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// SHA-256 of `parts`, each preceded by its length so that no two splits look alike, in hex.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut context = sha256().start();
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex(context.finish().as_ref())
}

/// SHA-256 of a certificate's DER in lower-case hex, as `openssl x509 -fingerprint -sha256`
/// prints it without the colons.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    hex(sha256().hash(der).as_ref())
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes no one can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], GetRandomFailed> {
    let mut bytes = [0; N];
    provider().secure_random.fill(&mut bytes)?;
    Ok(bytes)
}

fn sha256() -> &'static dyn rustls::crypto::hash::Hash {
    // rustls has no free-standing hash; the suite's own one saves a direct dependency.
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite");
    suite.common.hash_provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_plain_sha_256() {
        assert_eq!(
            fingerprint(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_digest_depends_on_where_the_parts_are_cut() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"ab", b"c"]), digest(&[b"ab", b"c"]));
    }
}
