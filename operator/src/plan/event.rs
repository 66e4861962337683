//! Events, as values.

/// How an Event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// News.
    Normal,
    /// Something to act on.
    Warning,
}

/// An Event to tell, about the object that was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How it is shown.
    pub type_: EventType,
    /// One word, as in conditions.
    pub reason: &'static str,
    /// What the operator did or tried, one word.
    pub action: &'static str,
    /// A sentence, of at most 1024 bytes.
    pub note: String,
}
