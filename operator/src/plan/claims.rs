//! Which links a server takes.

use std::collections::BTreeMap;

use restpipe_api::{RestPipeLink, RestPipeServer};

use crate::seen::{Key, Names};

/// What became of every link that names a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// By the link.
    pub links: BTreeMap<Key, Verdict>,
}

/// What became of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// UID of the link.
    pub uid: String,
    /// The hostname it claims.
    pub hostname: String,
    /// `spec.suspend`
    pub suspended: bool,
    /// Whether it has `spec.export`.
    pub exported: bool,
    /// Why it is refused; nothing if it is accepted.
    pub refused: Option<Refusal>,
}

/// Why a link is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`restpipe_api::condition::reason`].
    pub reason: &'static str,
    /// A sentence with the cure.
    pub message: String,
}

/// The server that a link names, if it is one of this cluster.
#[must_use]
pub fn server_of(link: &RestPipeLink) -> Option<Key> {
    let _ = link;
    todo!("the body follows")
}

/// The hostname that a link claims.
#[must_use]
pub fn hostname_of(link: &RestPipeLink) -> String {
    let _ = link;
    todo!("the body follows")
}

/// Whether links of the namespace may name the server; `labels` are the namespace's, if the
/// operator may read them.
///
/// # Errors
/// A sentence with the cure, if not.
pub fn permits(
    server: &RestPipeServer,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<(), String> {
    let _ = (server, namespace, labels);
    todo!("the body follows")
}

/// Judges all links that name the server.
pub fn claims<'a>(
    server: &RestPipeServer,
    links: impl IntoIterator<Item = &'a RestPipeLink>,
    namespaces: Option<&BTreeMap<String, BTreeMap<String, String>>>,
) -> Claims {
    let _ = (server, links.into_iter().count(), namespaces);
    todo!("the body follows")
}

/// Who may connect: the version is one more than `previous` if the lists differ.
#[must_use]
pub fn names(previous: &Names, claims: &Claims) -> Names {
    let _ = (previous, claims);
    todo!("the body follows")
}
