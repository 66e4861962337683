//! What nodes say, as text that may stand in a status.

use std::net::SocketAddr;

use crate::plan::trouble_of;
use crate::seen::Trouble;

/// Bytes of a sentence in a condition's message.
pub(super) const MAX_DETAIL: usize = 1024;

/// A node's word and sentence, as a reason and a message.
pub(super) fn trouble(word: &str, detail: &str) -> Trouble {
    trouble_of(word, &plain(detail, MAX_DETAIL))
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
    fn a_pods_words_cannot_bend_a_terminal_and_have_an_end() {
        assert_eq!(plain("a\nb\u{1b}[2Jc\u{202e}d é", 100), "a\\nb\\u{1b}[2Jc\\u{202e}d é");
        assert_eq!(plain(&"é".repeat(600), 7), "ééé");
        assert_eq!(plain("abc\n", 4), "abc", "no half of an escape");
        assert!(trouble("eof", &"é\n".repeat(5000)).detail.chars().count() <= MAX_DETAIL);
    }
}
