//! What holds for any bytes as the files of a node that reads them again while it runs. The fuzz
//! target `pem_reload` asks the same.

use std::time::SystemTime;

use restpipe_identity::{Credentials, Usage, peer_name};

/// What may be wrong with files that were read: the words that the metric knows.
const REASONS: [&str; 11] = [
    "bad_pem",
    "bad_bundle",
    "bad_key",
    "key_mismatch",
    "bad_leaf",
    "expired",
    "not_yet_valid",
    "unknown_ca",
    "bad_eku",
    "bad_cert",
    "wrong_role",
];

/// Bytes of an error: it becomes a line of the log. One may name 20 roots at 200 characters.
const MAX_LINE: usize = 20_000;

/// Either role takes the files as an identity that is good now, or says in one line why not.
/// Whether one did.
///
/// # Panics
/// If that does not hold.
pub(crate) fn reload(cert: &[u8], key: &[u8], ca: &[u8], now: SystemTime) -> bool {
    let mut any = false;
    for usage in [Usage::Server, Usage::Client] {
        match Credentials::from_pem(cert, key, ca, usage, now) {
            Ok(taken) => {
                any = true;
                assert!(taken.leaf().is_valid_at(now));
                assert_eq!(taken.usage(), usage);
                assert_eq!(peer_name(&taken.chain()[0], usage).as_ref(), Ok(taken.name()));
                assert_eq!(taken.still_trusts(taken.chain(), usage, now), Ok(()));
                let built = match usage {
                    Usage::Server => taken.server_config().map(drop),
                    Usage::Client => taken.client_config().map(drop),
                };
                built.expect("what was taken can be used");
            }
            Err(error) => {
                assert!(REASONS.contains(&error.reason()), "{}: {error}", error.reason());
                let line = error.to_string();
                assert!(line.len() < MAX_LINE, "{} bytes", line.len());
                assert!(!line.contains(char::is_control), "not one line: {line:?}");
            }
        }
    }
    any
}
