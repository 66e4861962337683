//! Why a pod is not let in. Each says what to change.

use restpipe_api::pods;

use super::quantity::BadQuantity;

/// Bytes of a user's text that a message repeats.
const MAX_SHOWN: usize = 80;

/// A user's text as it stands in messages: quoted, without control characters, and short.
pub(crate) fn shown(text: &str) -> String {
    let (start, more) = start(text);
    format!("{start:?}{more}")
}

/// The same without quotes, for logs.
pub(crate) fn plain(text: &str) -> String {
    let (start, more) = start(text);
    format!("{}{more}", start.escape_debug())
}

fn start(text: &str) -> (&str, &'static str) {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}

/// Why a pod can't become a node. Whoever creates the pod has to change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Client and server at once.
    #[error(
        "a pod is either a client ({link}) or a server ({server}): remove one of the two annotations",
        link = pods::LINK, server = pods::SERVER
    )]
    BothRoles,
    /// A name that no object can have.
    #[error("annotation {annotation} is {value}: {expected}")]
    BadName {
        /// Which annotation.
        annotation: &'static str,
        /// What it says, quoted.
        value: String,
        /// What it should say.
        expected: String,
    },
    /// Not a port, or one that can't be used.
    #[error("annotation {annotation} is {value}: {expected}")]
    BadPort {
        /// Which annotation.
        annotation: &'static str,
        /// What it says, quoted.
        value: String,
        /// What it should say.
        expected: String,
    },
    /// No log level.
    #[error("annotation {annotation} is {value}: give error, warn, info, debug or trace", annotation = pods::LOG_LEVEL)]
    BadLevel {
        /// What it says, quoted.
        value: String,
    },
    /// No quantity.
    #[error("annotation {annotation} is {value}: {cause}")]
    BadQuantity {
        /// Which annotation.
        annotation: &'static str,
        /// What it says, quoted.
        value: String,
        /// Why it is refused.
        cause: BadQuantity,
    },
    /// More memory requested than allowed.
    #[error(
        "the sidecar requests {request} of memory and may use {limit} only: lower {} or raise {}",
        pods::MEMORY_REQUEST,
        pods::MEMORY_LIMIT
    )]
    RequestOverLimit {
        /// The request.
        request: String,
        /// The limit.
        limit: String,
    },
    /// The app has a port that the sidecar needs.
    #[error("container {container} declares port {port}, which is {what}: {cure}")]
    PortTaken {
        /// Whose port, quoted.
        container: String,
        /// Which.
        port: u16,
        /// What the sidecar needs it for.
        what: &'static str,
        /// What to do.
        cure: String,
    },
    /// Something of ours is there, and is not ours.
    #[error("the pod has {what} of its own: RestPipe needs that name, take another for yours")]
    NameCollision {
        /// What.
        what: String,
    },
    /// A label of ours has another value.
    #[error(
        "label {label} is {value}: RestPipe writes it, from the annotations; remove it from the pod"
    )]
    LabelTaken {
        /// Which label.
        label: &'static str,
        /// What it says, quoted.
        value: String,
    },
    /// The gateway would be open to the whole node.
    #[error(
        "the pod has hostNetwork: every process of its node could use the pipe as this pod; remove hostNetwork, or run a node on that host instead"
    )]
    HostNetwork,
    /// There is no sidecar for Windows.
    #[error(
        "the pod is for Windows: the sidecar runs on Linux only, remove the annotation {annotation}"
    )]
    Windows {
        /// Which annotation.
        annotation: &'static str,
    },
    /// Nobody to use the gateway.
    #[error("the pod has no containers: give it one")]
    NoContainers,
    /// More than any pod has: what is added to each of them would be an answer without bounds.
    #[error("the pod has more than {most} containers: give it fewer")]
    TooManyContainers {
        /// How many it may have.
        most: usize,
    },
    /// Not a pod as API servers send them.
    #[error("{field} is not what it is in a pod: it should be {expected}")]
    Malformed {
        /// Where.
        field: String,
        /// What should be there.
        expected: &'static str,
    },
}

impl Refusal {
    /// A fixed word for metrics and logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BothRoles => "both_roles",
            Self::BadName { .. } => "bad_name",
            Self::BadPort { .. } => "bad_port",
            Self::BadLevel { .. } => "bad_level",
            Self::BadQuantity { .. } | Self::RequestOverLimit { .. } => "bad_quantity",
            Self::PortTaken { .. } => "port_taken",
            Self::NameCollision { .. } => "name_collision",
            Self::LabelTaken { .. } => "label_taken",
            Self::HostNetwork => "host_network",
            Self::Windows { .. } => "windows",
            Self::NoContainers => "no_containers",
            Self::TooManyContainers { .. } => "too_many_containers",
            Self::Malformed { .. } => "malformed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_is_shown_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(plain("a\nb"), r"a\nb");
        let long = shown(&"ü".repeat(1000));
        assert_eq!(long.chars().count(), MAX_SHOWN + 3);
    }
}
