//! A node's words for what went wrong, as reasons of conditions.

use restpipe_api::condition::reason;

use super::conditions::shortened;
use crate::seen::Trouble;

/// Characters of a node's sentence in a status. Nodes may say anything.
const MAX_DETAIL: usize = 1024;

/// What a node's `last_failure` (its `reason` and `detail`), or a failed dial of the operator's own,
/// means.
///
/// What changes with every try, such as the node's clock, is left out of the detail: else the
/// status would be written at every look.
#[must_use]
pub fn trouble_of(word: &str, detail: &str) -> Trouble {
    let reason = reason_of(word);
    let detail = steady(detail);
    let detail = match cure_of(reason) {
        Some(cure) => format!("{detail}; {cure}"),
        None => detail,
    };
    Trouble { reason, detail: shortened(&detail, MAX_DETAIL) }
}

/// The words are those of the node's dialler, of `restpipe_identity::explain`, and of
/// `restpipe_pipe`'s goodbyes.
fn reason_of(word: &str) -> &'static str {
    match word {
        "dns" => reason::DNS_FAILED,
        "refused" => reason::CONNECTION_REFUSED,
        "timeout" | "connect" | "silent" | "write-stalled" | "no-hello" => reason::SERVER_SILENT,
        "expired" | "refused_expired" => reason::CERTIFICATE_EXPIRED,
        "not_yet_valid" => reason::CLOCK_SKEW,
        "unknown_ca" | "refused_unknown_ca" => reason::UNKNOWN_CA,
        "wrong_name" | "refused_name" => reason::NAME_MISMATCH,
        "bad_cert" | "bad_eku" | "cert_required" | "refused_no_cert" | "refused_cert"
        | "identity" => reason::CERTIFICATE_REFUSED,
        "suspended" => reason::SUSPENDED,
        _ => reason::NOT_CONNECTED,
    }
}

/// What to do in a cluster, where the node's own sentence speaks of a plain host.
fn cure_of(reason: &str) -> Option<&'static str> {
    match reason {
        reason::DNS_FAILED => {
            Some("look whether the server's Service is there and DNS works in this namespace")
        }
        reason::CONNECTION_REFUSED => {
            Some("look whether the server's pod is ready: its Service leads to ready pods only")
        }
        reason::SERVER_SILENT => {
            Some("look whether a NetworkPolicy or a firewall is between client and server")
        }
        reason::UNKNOWN_CA => Some(
            "a pod's Secret lags up to two minutes behind a new CA; if it stays so, restart the pod",
        ),
        _ => None,
    }
}

/// The sentence without what is different at every try.
fn steady(detail: &str) -> String {
    let mut text: String =
        detail.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    // "…, 5 min 10 s before this machine's clock (2026-11-22T10:00:00Z)"
    if let Some(clock) = text.find(" this machine's clock (")
        && let Some(begin) = text[..clock].rfind(", ")
        && let Some(length) = text[clock..].find(')')
    {
        text.replace_range(begin..=clock + length, "");
    }
    // " (our clock: 2026-11-22T10:00:00Z)"
    if let Some(begin) = text.find(" (our clock: ")
        && let Some(length) = text[begin..].find(')')
    {
        text.replace_range(begin..=begin + length, "");
    }
    // "; the clock here says 2026-11-22T10:00:00Z: compare …"
    if let Some(begin) = text.find("; the clock here says ")
        && let Some(length) = text[begin..].find(": ")
    {
        text.replace_range(begin..begin + length, "");
    }
    text
}
