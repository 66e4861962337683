//! Any bytes as the files of a node, as they are read again while it runs.
//!
//! Good files are made anew each time: there are no keys in git, and they would be out of
//! their time soon.

#[path = "../../sidecar/identity/tests/properties/reload.rs"]
mod reload;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use restpipe_identity::{CertificateAuthority, LeafRequest, PeerName, Usage};

const DAY: Duration = Duration::from_secs(86_400);

/// A server's tls.crt, tls.key and ca.crt, with a zero byte between each.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let now = SystemTime::now();
    let ca = CertificateAuthority::create("fuzz ca", DAY, now).expect("a CA");
    let name = PeerName::parse("hub.shop.servers.restpipe").expect("a name");
    let leaf =
        ca.issue(LeafRequest { name, usage: Usage::Server, lifetime: DAY, now }).expect("a leaf");
    [&leaf.cert_pem, leaf.key_pem.expose(), ca.cert_pem()].join("\0").into_bytes()
});

/// The good files with one byte in each group of three of `edits` put where the other two say.
fn edited(edits: &[u8]) -> Vec<u8> {
    let mut bytes = GOOD.clone();
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[place] = edit[2];
    }
    bytes
}

/// The files with a zero byte between each, or an `e` and edits of good ones.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = match bytes.split_first() {
        Some((b'e', edits)) => edited(edits),
        _ => bytes.to_vec(),
    };
    let mut files = bytes.splitn(3, |byte| *byte == 0);
    let mut next = || files.next().unwrap_or_default();
    let (cert, key, ca) = (next(), next(), next());
    reload::reload(cert, key, ca, SystemTime::now());
}
