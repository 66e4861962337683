//! Quantities as Kubernetes writes them: `10m`, `64Mi`, `0.5G`, `1e8`.

use std::fmt;
use std::str::FromStr;

/// Bytes of a quantity. The longest that anybody needs has a dozen; this bounds the arithmetic.
const MAX_LENGTH: usize = 32;

/// Billionths in one: Kubernetes counts no finer.
const NANOS: u32 = 9;

/// Why a text is no quantity, or none that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadQuantity {
    /// Not of the form.
    #[error("give a quantity such as 10m, 64Mi or 0.5Gi")]
    Form,
    /// More than any machine has, or longer than any quantity is.
    #[error("that is more than can be: give a quantity such as 10m, 64Mi or 0.5Gi")]
    TooBig,
    /// Less than makes sense.
    #[error("give at least {least}")]
    TooSmall {
        /// The least.
        least: &'static str,
    },
    /// A fraction that Kubernetes would not take.
    #[error("give a multiple of {step}")]
    TooFine {
        /// The finest step.
        step: &'static str,
    },
}

/// An amount, as written and as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    nanos: u128,
}

impl Quantity {
    /// In billionths.
    pub(super) fn nanos(&self) -> u128 {
        self.nanos
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        if text.len() > MAX_LENGTH {
            return Err(BadQuantity::TooBig);
        }
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(BadQuantity::Form);
        }
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| BadQuantity::TooBig)?;
        let (binary, decimal) = scale(suffix)?;
        let decimal = decimal + NANOS as i32 - fraction.len() as i32;
        let nanos = multiply(digits, binary, decimal).ok_or(BadQuantity::TooBig)?;
        Ok(Self { text: text.to_owned(), nanos })
    }
}

/// The powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Result<(u32, i32), BadQuantity> {
    Ok(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let power = suffix.strip_prefix(['e', 'E']).ok_or(BadQuantity::Form)?;
            // i8 is far more than fits into the result.
            (0, i32::from(power.parse::<i8>().map_err(|_| BadQuantity::Form)?))
        }
    })
}

/// Rounds up, as Kubernetes does.
fn multiply(digits: u128, binary: u32, decimal: i32) -> Option<u128> {
    let wide = digits.checked_mul(1 << binary)?;
    match u32::try_from(decimal) {
        Ok(power) => wide.checked_mul(10_u128.checked_pow(power)?),
        // What is divided by more than there is rounds up to one, or stays nothing.
        Err(_) => Some(match 10_u128.checked_pow(decimal.unsigned_abs()) {
            Some(divisor) => wide.div_ceil(divisor),
            None => wide.min(1),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> Result<u128, BadQuantity> {
        text.parse::<Quantity>().map(|quantity| quantity.nanos())
    }

    #[test]
    fn what_kubernetes_writes_is_understood() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("+1.", 1_000_000_000),
            (".5", 500_000_000),
            ("10m", 10_000_000),
            ("100u", 100_000),
            ("7n", 7),
            ("0.1n", 1),
            ("2k", 2_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("1E3", 1_000_000_000_000),
            ("5e-3", 5_000_000),
            ("1e-128", 1),
            ("1Ki", 1_024_000_000_000),
            ("0.5Mi", 524_288_000_000_000),
            ("8Ei", 9_223_372_036_854_775_808_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_kubernetes_would_not_take_is_refused() {
        for text in [
            "", ".", "-1", "1..2", "1.2.3", "1 Mi", "Mi", "1MB", "1mi", "0x10", "1e", "1e+", "١",
            "1e999", "NaN", "64Mi ",
        ] {
            assert_eq!(nanos(text), Err(BadQuantity::Form), "{text}");
        }
        for text in ["1e100", "99999999999999999999999999999999", "1000000000000000000000000Ei"] {
            assert_eq!(nanos(text), Err(BadQuantity::TooBig), "{text}");
        }
        assert_eq!(nanos(&"0".repeat(33)), Err(BadQuantity::TooBig));
    }
}
