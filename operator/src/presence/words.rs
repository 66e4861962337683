//! What nodes say, as reasons of conditions and as text that may stand in a status.

use std::net::SocketAddr;

use restpipe_api::condition::reason;

use crate::seen::Trouble;

/// Bytes of a sentence in a condition's message.
pub(super) const MAX_DETAIL: usize = 1024;

/// The reason of a condition for a fixed word of a node: of a failed dial, a refused handshake or
/// an ended pipe.
fn condition_reason(word: &str) -> &'static str {
    match word {
        "dns" => reason::DNS_FAILED,
        "refused" => reason::CONNECTION_REFUSED,
        "timeout" | "connect" | "silent" | "no-hello" | "write-stalled" => reason::SERVER_SILENT,
        "expired" | "refused_expired" => reason::CERTIFICATE_EXPIRED,
        "not_yet_valid" => reason::CLOCK_SKEW,
        "unknown_ca" | "refused_unknown_ca" => reason::UNKNOWN_CA,
        "wrong_name" | "refused_name" => reason::NAME_MISMATCH,
        "bad_eku" | "bad_cert" | "cert_required" | "refused_cert" | "refused_no_cert"
        | "identity" => reason::CERTIFICATE_REFUSED,
        "suspended" => reason::SUSPENDED,
        "full" | "draining" => reason::SERVER_NOT_READY,
        _ => reason::NOT_CONNECTED,
    }
}

/// A node's word and sentence, as a reason and a message.
pub(super) fn trouble(word: &str, detail: &str) -> Trouble {
    Trouble { reason: condition_reason(word), detail: plain(detail, MAX_DETAIL) }
}

/// Trouble with a pod's answer over a pipe that is up.
pub(super) fn bad_answer(address: SocketAddr, noun: &str, what: &str) -> Trouble {
    let detail = format!(
        "the server's pod at {address} does not answer {noun} as a RestPipe node does: {what}: does its sidecar have the operator's version?"
    );
    trouble("answer", &detail)
}

/// A pod's own words: with what could bend a terminal or a line escaped, and cut to `max` bytes.
pub(super) fn plain(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for letter in text.chars() {
        let before = line.len();
        if bends(letter) {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
        if line.len() > max {
            line.truncate(before);
            break;
        }
    }
    line
}

/// Control characters, and those that are not seen or turn the direction of what follows.
fn bends(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_nodes_are_reasons_of_conditions() {
        for (word, expected) in [
            ("dns", "DnsFailed"),
            ("refused", "ConnectionRefused"),
            ("timeout", "ServerSilent"),
            ("expired", "CertificateExpired"),
            ("refused_expired", "CertificateExpired"),
            ("not_yet_valid", "ClockSkew"),
            ("refused_unknown_ca", "UnknownCa"),
            ("wrong_name", "NameMismatch"),
            ("identity", "CertificateRefused"),
            ("suspended", "Suspended"),
            ("full", "ServerNotReady"),
            ("a word of a later version", "NotConnected"),
        ] {
            assert_eq!(condition_reason(word), expected, "{word}");
        }
    }

    #[test]
    fn a_pods_words_cannot_bend_a_terminal_and_have_an_end() {
        assert_eq!(plain("a\nb\u{1b}[2Jc\u{202e}d é", 100), "a\\nb\\u{1b}[2Jc\\u{202e}d é");
        assert_eq!(plain(&"é".repeat(600), 7), "ééé");
        assert_eq!(plain("abc\n", 4), "abc", "no half of an escape");
        assert!(trouble("eof", &"x".repeat(5000)).detail.len() <= MAX_DETAIL);
    }
}
