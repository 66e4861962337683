//! What a node tells of itself while its pipe is up: NOTICE.

use std::sync::PoisonError;

use crate::handle::{PipeHandle, Shared};
use crate::session::Command;

/// Bytes of a word in a notice; the longest of ours has 13.
const MAX_WORD: usize = 32;

impl PipeHandle {
    /// Tells the peer why this node does not take the newest files of its
    /// identity, in a word of small letters and `_`; empty: all is well.
    pub fn tell_reload_failed(&self, word: &str) {
        self.commands.send(Command::Notice { reload_failed: word.to_owned() });
    }

    /// What the peer has told last by [`Self::tell_reload_failed`].
    pub fn reload_failed(&self) -> Option<String> {
        let word = self.shared().reload_failed.lock().unwrap_or_else(PoisonError::into_inner);
        word.as_deref().map(str::to_owned)
    }
}

impl Shared {
    /// Keeps a word of the peer. What is none is as good as silence. Whether
    /// it is news.
    pub(crate) fn hear_reload_failed(&self, word: &str) -> bool {
        let letter = |c: u8| c.is_ascii_lowercase() || c == b'_';
        let is_word = (1..=MAX_WORD).contains(&word.len()) && word.bytes().all(letter);
        let word = is_word.then(|| Box::from(word));
        let mut known = self.reload_failed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, word.clone()) != word
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::Role;

    #[test]
    fn a_notice_is_a_word_or_nothing_and_news_once() {
        let handle = PipeHandle::new(Role::Acceptor, mpsc::unbounded_channel().0);
        let hear = |word: &str| handle.shared().hear_reload_failed(word);
        assert!(hear("key_mismatch"));
        assert!(!hear("key_mismatch"));
        assert_eq!(handle.reload_failed().as_deref(), Some("key_mismatch"));
        let long = "x".repeat(MAX_WORD + 1);
        for none in ["", "a b", "Bad", "bad\n", "schlüssel", &long] {
            hear("bad_pem");
            assert!(hear(none), "{none}");
            assert_eq!(handle.reload_failed(), None, "{none}");
        }
    }
}
