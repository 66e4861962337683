//! Times as RFC 3339 has them, in a header of every request to the app.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// Bytes of `2026-11-30T12:00:00.000Z`.
const LEN: usize = 24;

/// Where its milliseconds stand.
const MILLIS: std::ops::Range<usize> = 20..23;

/// Writes times. Requests have deadlines of one second by the thousand, so what is the same for
/// all of those is written once.
#[derive(Debug, Default)]
pub(super) struct Stamps(Mutex<Option<Second>>);

#[derive(Clone, Copy, Debug)]
struct Second {
    /// Seconds since 1970.
    unix: u64,
    text: [u8; LEN],
}

impl Stamps {
    /// A time to the millisecond, of the years 1970 to 9999.
    pub(super) fn of(&self, at: SystemTime) -> Option<HeaderValue> {
        let since = at.duration_since(UNIX_EPOCH).ok()?;
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = match *last {
            Some(second) if second.unix == since.as_secs() => second.text,
            _ => {
                let text = humantime::format_rfc3339_millis(at).to_string().as_bytes().try_into();
                last.insert(Second { unix: since.as_secs(), text: text.ok()? }).text
            }
        };
        let mut millis = since.subsec_millis();
        for digit in text[MILLIS].iter_mut().rev() {
            *digit = b'0' + (millis % 10) as u8;
            millis /= 10;
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_written_as_the_library_writes_it_whatever_was_written_before() {
        let stamps = Stamps::default();
        let second = 1_796_040_000;
        for millis in [0, 7, 999, 1_000, 1_090, 999, 59_999, 60_000, 86_400_000, 5] {
            let at = UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(millis);
            let stamp = stamps.of(at).expect("a time of our days");
            assert_eq!(stamp, humantime::format_rfc3339_millis(at).to_string());
        }
        assert!(stamps.of(UNIX_EPOCH - Duration::from_secs(1)).is_none());
    }
}
