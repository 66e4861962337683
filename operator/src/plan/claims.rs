//! Which links a server takes.
//!
//! As with the Gateway API: the oldest claim to a hostname wins, then the order of namespace and
//! name decides, so that every look at the same objects ends the same.

mod namespaces;

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use restpipe_api::condition::reason;
use restpipe_api::{RestPipeLink, RestPipeServer, names};
use restpipe_config::{Hostname, ServerAddress};
use restpipe_identity::{NameError, PeerName};

use super::authority::SPREAD_TIME;
use crate::seen::{Key, Names};

pub use namespaces::permits;

/// Bytes of the lists of names in a server's node.toml. All of a Secret may have 1 MiB, the
/// certificates included, and a node reads a node.toml of [`MAX_FILE`](restpipe_config::MAX_FILE).
const NAMES_ROOM: usize = 768 * 1024;
const _: () = assert!(NAMES_ROOM as u64 + 16 * 1024 <= restpipe_config::MAX_FILE);

/// Bytes around a name in node.toml: two quotes, a comma and a space.
const NAME_FRAME: usize = 4;

/// Hostnames that are on no list for now, and since when: whose they were may still have pipes.
pub type Freed = BTreeMap<String, SystemTime>;

/// What became of every link that names a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// By the link.
    pub links: BTreeMap<Key, Verdict>,
}

impl Claims {
    /// The links that may connect.
    pub fn accepted(&self) -> impl Iterator<Item = (&Key, &Verdict)> {
        self.links.iter().filter(|(_, verdict)| verdict.refused.is_none())
    }
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

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The server that a link names, if it is one of this cluster.
#[must_use]
pub fn server_of(link: &RestPipeLink) -> Option<Key> {
    let server = &link.spec.server;
    let name = server.name.clone()?;
    let namespace = server.namespace.clone().or_else(|| link.namespace()).unwrap_or_default();
    Some(Key { namespace, name })
}

/// The hostname that a link claims.
#[must_use]
pub fn hostname_of(link: &RestPipeLink) -> String {
    link.spec.hostname.clone().unwrap_or_else(|| link.name_any()).to_ascii_lowercase()
}

/// Namespace and name of an object.
pub(super) fn key_of(object: &impl ResourceExt) -> Key {
    Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

/// Judges all links that name the server.
pub fn claims<'a>(
    server: &RestPipeServer,
    links: impl IntoIterator<Item = &'a RestPipeLink>,
    namespaces: Option<&BTreeMap<String, BTreeMap<String, String>>>,
) -> Claims {
    let own = key_of(server);
    let of_ours = links.into_iter().filter(|link| server_of(link).as_ref() == Some(&own));
    let mut links: Vec<_> = of_ours.map(|link| (age(link), key_of(link), link)).collect();
    links.sort_by(|(age, key, _), (other_age, other_key, _)| {
        age.cmp(other_age).then_with(|| key.cmp(other_key))
    });
    let mut holders: BTreeMap<String, Key> = BTreeMap::new();
    let mut room = NAMES_ROOM;
    let mut verdicts = BTreeMap::new();
    for (_, key, link) in links {
        let hostname = hostname_of(link);
        let judged = fit_by_itself(server, link, &key, &hostname, namespaces)
            .and_then(|()| free(&holders, &hostname, &own))
            .and_then(|()| take_room(&mut room, &hostname, &own));
        if judged.is_ok() {
            holders.insert(hostname.clone(), key.clone());
        }
        let verdict = Verdict {
            uid: link.uid().unwrap_or_default(),
            hostname,
            suspended: link.spec.suspend,
            exported: link.spec.export.is_some(),
            refused: judged.err(),
        };
        verdicts.insert(key, verdict);
    }
    Claims { links: verdicts }
}

/// Sorted last if it has no time, which happens to no object of a cluster.
fn age(link: &RestPipeLink) -> (bool, Option<Time>) {
    let created = link.creation_timestamp();
    (created.is_none(), created)
}

/// Whether the link could be taken if it were the only one.
fn fit_by_itself(
    server: &RestPipeServer,
    link: &RestPipeLink,
    key: &Key,
    hostname: &str,
    namespaces: Option<&BTreeMap<String, BTreeMap<String, String>>>,
) -> Result<(), Refusal> {
    if link.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::new(
            reason::BEING_DELETED,
            "the link is being deleted and its hostname is free for others: remove what holds it in metadata.finalizers",
        ));
    }
    let nothing = BTreeMap::new();
    let labels = namespaces.map(|known| known.get(&key.namespace).unwrap_or(&nothing));
    permits(server, &key.namespace, labels)
        .map_err(|message| Refusal::new(reason::REF_NOT_PERMITTED, message))?;
    let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
    match PeerName::parse(&names::client_identity(hostname, &name, &namespace)) {
        Ok(_) => {}
        Err(error @ (NameError::TooLong(_) | NameError::LongLabel { .. })) => {
            return Err(Refusal::new(
                reason::NAME_TOO_LONG,
                format!(
                    "no certificate can carry the hostname {hostname}: {error}; make a link with a shorter spec.hostname"
                ),
            ));
        }
        Err(error) => return Err(invalid(hostname, &error.to_string())),
    }
    let outside = link.spec.export.as_ref().and_then(|export| export.address.as_ref());
    if let Some(address) = outside
        && let Err(error) = address.parse::<ServerAddress>()
    {
        let message = format!("spec.export.address {address:?} cannot be dialled: {error}");
        return Err(Refusal::new(reason::ADDRESS_INVALID, message));
    }
    // As the server's node reads it: one bad name would have it refuse all of its settings.
    match hostname.parse::<Hostname>() {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(hostname, &error.to_string())),
    }
}

fn invalid(hostname: &str, why: &str) -> Refusal {
    let message = format!(
        "{hostname} cannot be a hostname ({why}): make a link with another spec.hostname, such as fileserver"
    );
    Refusal::new(reason::HOSTNAME_INVALID, message)
}

fn free(holders: &BTreeMap<String, Key>, hostname: &str, server: &Key) -> Result<(), Refusal> {
    match holders.get(hostname) {
        None => Ok(()),
        Some(holder) => Err(Refusal::new(
            reason::HOSTNAME_TAKEN,
            format!(
                "the older link {holder} has the hostname {hostname} at the server {server}: delete one of the two, or make this one anew with another spec.hostname"
            ),
        )),
    }
}

/// Counted as if it were suspended too, so that suspending one never pushes out another.
fn take_room(room: &mut usize, hostname: &str, server: &Key) -> Result<(), Refusal> {
    match room.checked_sub(2 * (hostname.len() + NAME_FRAME)) {
        Some(left) => {
            *room = left;
            Ok(())
        }
        None => Err(Refusal::new(
            reason::TOO_MANY_LINKS,
            format!(
                "the server {server} has as many links as its settings can name, and this one is younger: make another RestPipeServer for some of them"
            ),
        )),
    }
}

/// The hostnames that are to be on no list, so that servers close the pipes of who had them: of
/// lists before and after that both have the name, they would not know that it is somebody else's.
///
/// `before` are the claims of the plan before, `freed` is what it found; `taken` tells whether all
/// pods have its list. Those that cannot be told get it by kubelet, which takes [`SPREAD_TIME`].
#[must_use]
pub fn freed(
    before: &Claims,
    freed: &Freed,
    claims: &Claims,
    taken: bool,
    now: SystemTime,
) -> Freed {
    // A time to come is of another clock.
    let waits = |since: &SystemTime| {
        !taken && now.duration_since(*since).is_ok_and(|waited| waited < SPREAD_TIME)
    };
    let waiting = freed.iter().filter(|(_, since)| waits(since));
    let holders: BTreeMap<&str, &str> =
        claims.accepted().map(|(_, verdict)| (&*verdict.hostname, &*verdict.uid)).collect();
    let lost = before
        .accepted()
        .filter(|(_, verdict)| holders.get(&*verdict.hostname) != Some(&&*verdict.uid))
        .map(|(_, verdict)| (verdict.hostname.clone(), now));
    waiting.map(|(hostname, since)| (hostname.clone(), *since)).chain(lost).collect()
}

/// Who may connect: the version is one more than `previous` if the lists differ. Suspended names
/// are in both lists, those that were just `freed` in none.
#[must_use]
pub fn names(previous: &Names, claims: &Claims, freed: &Freed) -> Names {
    let accepted = claims.accepted().map(|(_, verdict)| verdict);
    let listed: Vec<&Verdict> =
        accepted.filter(|verdict| !freed.contains_key(&verdict.hostname)).collect();
    let clients = listed.iter().map(|verdict| verdict.hostname.clone()).collect();
    let suspended = listed.iter().filter(|verdict| verdict.suspended);
    let suspended = suspended.map(|verdict| verdict.hostname.clone()).collect();
    let same = previous.clients == clients && previous.suspended == suspended;
    let version = if same { previous.version } else { previous.version.saturating_add(1) };
    Names { version, clients, suspended }
}
