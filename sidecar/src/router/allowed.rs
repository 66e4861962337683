//! Who may connect and be called.

use std::collections::HashSet;

/// Why there is no pipe for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It was here, or may come any moment.
    Away,
    /// Nobody of that name is known here.
    Unknown,
    /// It is suspended.
    Suspended,
}

/// Which names may connect and be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowed {
    /// All names there are; `None`: whoever has a certificate.
    pub known: Option<HashSet<String>>,
    /// Names that are cut off.
    pub suspended: HashSet<String>,
}

impl Allowed {
    /// Whether a client of that name may connect, and if not why.
    pub(super) fn check(&self, name: &str) -> Result<(), Absent> {
        if self.suspended.contains(name) {
            return Err(Absent::Suspended);
        }
        let known = self.known.as_ref().is_none_or(|known| known.contains(name));
        if known { Ok(()) } else { Err(Absent::Unknown) }
    }
}
