//! Lists: separated by commas on the command line and in the environment, arrays in TOML.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::Invalid;

/// Any number of values. An empty text is the empty list, so that a flag can undo a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct List<T>(pub Vec<T>);

// By hand: a derived one would ask for `T: Default`.
impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: FromStr<Err = Invalid>> FromStr for List<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let item = |item: &str| {
            let item = item.trim();
            item.parse().map_err(|Invalid(why)| Invalid(format!("item '{item}': {why}")))
        };
        text.split(',').map(item).collect::<Result<_, _>>().map(Self)
    }
}

impl<T: Display> Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(T::to_string).collect();
        f.write_str(&items.join(","))
    }
}
