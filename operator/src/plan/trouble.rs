//! A node's words for what went wrong, as reasons of conditions.

use crate::seen::Trouble;

/// What a node's `last_failure` (its `reason` and `detail`), or a failed dial of the operator's own,
/// means.
#[must_use]
pub fn trouble_of(reason: &str, detail: &str) -> Trouble {
    let _ = (reason, detail);
    todo!("the body follows")
}
