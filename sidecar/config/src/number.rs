//! Sizes in bytes, and counts with their bounds.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::address::MayBeOff;
use crate::text::{self, Invalid, invalid, via_text};

/// Units of a size: the text in lower case without its `b`, and the bytes.
const UNITS: [(&str, &str, u64); 8] = [
    ("ti", "TiB", 1 << 40),
    ("gi", "GiB", 1 << 30),
    ("mi", "MiB", 1 << 20),
    ("ki", "KiB", 1 << 10),
    ("t", "TB", 1_000_000_000_000),
    ("g", "GB", 1_000_000_000),
    ("m", "MB", 1_000_000),
    ("k", "kB", 1_000),
];

/// A number of bytes, at least `MIN`: `64MiB`, `10MB` or `1048576`. The `B` may be left out, as
/// in a Kubernetes quantity, and upper and lower case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize<const MIN: u64 = 0>(u64);

impl<const MIN: u64> ByteSize<MIN> {
    /// The number of bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64> TryFrom<u64> for ByteSize<MIN> {
    type Error = Invalid;

    fn try_from(bytes: u64) -> Result<Self, Invalid> {
        if bytes < MIN {
            return invalid(format!("give at least {}", in_words(MIN)));
        }
        Ok(Self(bytes))
    }
}

impl<const MIN: u64> FromStr for ByteSize<MIN> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid("give a size in bytes, for example 64MiB, 10MB or 1048576".into());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim_start().to_ascii_lowercase();
        let unit = unit.strip_suffix('b').unwrap_or(&unit);
        let bytes = match UNITS.iter().find(|(short, ..)| *short == unit) {
            Some((.., bytes)) => *bytes,
            None if unit.is_empty() => 1,
            None => return Err(wrong()),
        };
        number.checked_mul(bytes).ok_or_else(wrong)?.try_into()
    }
}

impl<const MIN: u64> Display for ByteSize<MIN> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_words(self.0))
    }
}

/// The number in the largest unit that holds it exactly.
pub(crate) fn in_words(bytes: u64) -> String {
    let fits = |unit: &u64| bytes >= *unit && bytes.is_multiple_of(*unit);
    match UNITS.iter().find(|(.., unit)| fits(unit)) {
        Some((_, name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

via_text!({const MIN: u64} ByteSize<MIN>);

impl<const MIN: u64> MayBeOff for ByteSize<MIN> {}

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MAX: u32 = 1_000_000>(u32);

impl<const MAX: u32> Count<MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number, for things that live in memory.
    #[must_use]
    pub fn size(self) -> usize {
        self.0 as usize
    }
}

impl<const MAX: u32> TryFrom<u32> for Count<MAX> {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        if (1..=MAX).contains(&number) {
            return Ok(Self(number));
        }
        invalid(format!("give a whole number from 1 to {MAX}"))
    }
}

impl<const MAX: u32> FromStr for Count<MAX> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // 0 is outside every range, so what is no number gets the same answer.
        text.parse().unwrap_or(0).try_into()
    }
}

impl<const MAX: u32> Display for Count<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// As a number, not as text: `max-streams = 256` is what people write.
impl<const MAX: u32> serde::Serialize for Count<MAX> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(self.0)
    }
}

impl<'de, const MAX: u32> serde::Deserialize<'de> for Count<MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text::deserialize(from)
    }
}

/// A number that only rises: of two lists the one with the higher version counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Version {
    type Error = Invalid;

    fn try_from(number: u64) -> Result<Self, Invalid> {
        // TOML has no larger ones: a list that could not be written down would count for ever.
        if i64::try_from(number).is_ok() {
            return Ok(Self(number));
        }
        invalid(format!("give a whole number from 0 to {}", i64::MAX))
    }
}

impl FromStr for Version {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // What is no number gets the same answer as one that is too large.
        text.parse().unwrap_or(u64::MAX).try_into()
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text::deserialize(from)
    }
}
