//! Spans of time as people write them.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use crate::text::{Invalid, invalid, via_text};

/// 365 days. Longer spans are typing errors, and some of them overflow when added to a clock.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// A span of time such as `5s`, `1m30s` or `250ms`, from `MIN_MS` to `MAX_MS` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanDuration<const MIN_MS: u64 = 0, const MAX_MS: u64 = YEAR_MS>(Duration);

impl<const MIN_MS: u64, const MAX_MS: u64> HumanDuration<MIN_MS, MAX_MS> {
    const MIN: Duration = Duration::from_millis(MIN_MS);
    const MAX: Duration = Duration::from_millis(MAX_MS);

    /// The span as the standard library wants it.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> TryFrom<Duration> for HumanDuration<MIN_MS, MAX_MS> {
    type Error = Invalid;

    fn try_from(span: Duration) -> Result<Self, Invalid> {
        if (Self::MIN..=Self::MAX).contains(&span) {
            return Ok(Self(span));
        }
        let (min, max) = (in_words(Self::MIN), in_words(Self::MAX));
        invalid(match MAX_MS {
            YEAR_MS => format!("give a duration from {min} to 365days, for example 1m30s"),
            _ => format!("give a duration from {min} to {max}"),
        })
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> FromStr for HumanDuration<MIN_MS, MAX_MS> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match humantime::parse_duration(text) {
            Ok(span) => span.try_into(),
            Err(_) => invalid("give a duration with its unit, for example 5s, 1m30s or 250ms"),
        }
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> Display for HumanDuration<MIN_MS, MAX_MS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(self.0))
    }
}

/// The shortest exact text for a span: `1m30s`.
pub(crate) fn in_words(span: Duration) -> String {
    humantime::format_duration(span).to_string().replace(' ', "")
}

via_text!({const MIN_MS: u64, const MAX_MS: u64} HumanDuration<MIN_MS, MAX_MS>);
