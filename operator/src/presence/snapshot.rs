//! What a server's pod answers to `-/peers`. The pod is somebody else's: every field has a bound,
//! and nothing of it is shown as it came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use restpipe_identity::MAX_ROOTS;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::words::plain;
use crate::seen::PipeSeen;

/// Bytes of one answer: 16,384 pipes, as many as a server holds unless it is told otherwise, take
/// 11 MiB, and twice that while all of them are being replaced.
pub(super) const MAX_BYTES: usize = 24 * 1024 * 1024;

/// Pipes in one answer: as many as a server holds, each with the one that replaces it.
const MAX_PIPES: usize = 2 * 16_384;

/// Bytes of a name: as many as DNS and Kubernetes allow.
pub(super) const MAX_NAME: usize = 253;

/// Bytes of an address with its port, of a serial number or a fingerprint in hex, of a time.
pub(super) const MAX_WORD: usize = 64;

#[derive(Deserialize)]
pub(super) struct Snapshot {
    #[serde(default)]
    pub(super) names_version: u64,
    identity: Identity,
    #[serde(default, deserialize_with = "pipes")]
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Identity {
    serial: String,
    #[serde(default, deserialize_with = "roots")]
    trusts: Vec<String>,
    #[serde(default)]
    reload_failed: Option<String>,
}

#[derive(Deserialize)]
struct Peer {
    hostname: String,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    state: String,
    since: String,
    certificate_not_after: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    root: Option<String>,
    #[serde(default, deserialize_with = "roots")]
    trusted_roots: Vec<String>,
    #[serde(default)]
    reload_failed: Option<String>,
}

impl Snapshot {
    /// # Errors
    /// A sentence about what is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| plain(&error.to_string(), MAX_NAME))
    }

    /// Serial number of the certificate that the pod shows to new pipes.
    pub(super) fn serial(&self) -> &str {
        &self.identity.serial
    }

    /// Fingerprints of the roots that the pod trusts.
    pub(super) fn trusts(&self) -> BTreeSet<String> {
        words(&self.identity.trusts)
    }

    /// Why the pod does not take the newest files of its identity, in a word.
    pub(super) fn reload_failed(&self) -> Option<String> {
        self.identity.reload_failed.as_deref().map(|word| plain(word, MAX_WORD))
    }

    /// The pipes: of each instance the newest that is not being drained, since a pipe that is
    /// replaced is seen twice for a moment.
    pub(super) fn pipes(self, server_pod: &str) -> Vec<PipeSeen> {
        let mut found: BTreeMap<(String, String), (bool, PipeSeen)> = BTreeMap::new();
        for peer in self.peers {
            let lasting = match peer.state.as_str() {
                "open" | "replacing" => true,
                "draining" => false,
                _ => continue,
            };
            let Some(pipe) = peer.seen(server_pod) else { continue };
            let key = (pipe.hostname.clone(), pipe.instance.clone());
            let known = found.get(&key);
            let older =
                |(had, old): &(bool, PipeSeen)| (had, &old.since) <= (&lasting, &pipe.since);
            if known.is_none_or(older) {
                found.insert(key, (lasting, pipe));
            }
        }
        found.into_values().map(|(_, pipe)| pipe).collect()
    }
}

impl Peer {
    /// `None` if it lacks what every node tells.
    fn seen(self, server_pod: &str) -> Option<PipeSeen> {
        time(&self.since)?;
        Some(PipeSeen {
            hostname: plain(&self.hostname, MAX_NAME),
            instance: plain(&self.instance, MAX_NAME),
            server_pod: server_pod.to_owned(),
            address: plain(&self.address, MAX_WORD),
            since: plain(&self.since, MAX_WORD),
            serial: plain(&self.serial, MAX_WORD),
            not_after: time(&self.certificate_not_after)?,
            root: plain(self.root.as_deref().unwrap_or_default(), MAX_WORD),
            trusts: words(&self.trusted_roots),
            reload_failed: self.reload_failed.as_deref().map(|word| plain(word, MAX_WORD)),
        })
    }
}

/// A time as nodes write it.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// Fingerprints of roots.
pub(super) fn words(list: &[String]) -> BTreeSet<String> {
    list.iter().map(|word| plain(word, MAX_WORD)).collect()
}

/// As many roots as a node can have.
pub(super) fn roots<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    at_most::<MAX_ROOTS, _, _>(from)
}

fn pipes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Peer>, D::Error> {
    at_most::<MAX_PIPES, _, _>(from)
}

/// A list of at most `MAX`: what is small in JSON can be large in memory.
pub(super) fn at_most<'de, const MAX: usize, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct AtMost<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MAX {
                    return Err(A::Error::custom(format_args!("a list of more than {MAX}")));
                }
                all.push(one);
            }
            Ok(all)
        }
    }

    from.deserialize_seq(AtMost::<MAX, T>(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const EARLY: &str = "2026-11-22T08:00:00Z";
    const LATE: &str = "2026-11-22T09:00:00Z";

    fn peer(hostname: &str, instance: &str, state: &str, since: &str) -> Value {
        json!({
            "hostname": hostname, "instance": instance, "address": "10.0.0.9:4711", "state": state,
            "since": since, "certificate_not_after": "2026-11-23T08:00:00Z", "serial": "0a",
            "root": "ab", "trusted_roots": ["ab", "cd"], "in_flight": 3, "software": "restpipe/1",
        })
    }

    fn snapshot(peers: &[Value]) -> Result<Snapshot, String> {
        let json = json!({"instance": "hub-0", "boot_id": "00", "names_version": 7,
            "identity": {"serial": "0f", "not_after": LATE, "trusts": ["ab"]}, "peers": peers});
        Snapshot::parse(json.to_string().as_bytes())
    }

    #[test]
    fn a_pipe_that_is_being_replaced_is_seen_once() {
        let told = snapshot(&[
            peer("fs", "fs-a", "open", LATE),
            peer("fs", "fs-a", "draining", EARLY),
            peer("fs", "fs-b", "draining", LATE),
            peer("fs", "fs-b", "replacing", EARLY),
            peer("fs", "fs-c", "draining", EARLY),
            peer("fs", "fs-d", "ended", EARLY),
        ]);
        let pipes = told.expect("a snapshot").pipes("hub-0");
        let shown: Vec<_> =
            pipes.iter().map(|pipe| (pipe.instance.as_str(), pipe.since.as_str())).collect();
        assert_eq!(shown, [("fs-a", LATE), ("fs-b", EARLY), ("fs-c", EARLY)]);
        assert_eq!((pipes[0].serial.as_str(), pipes[0].root.as_str()), ("0a", "ab"));
        assert_eq!((pipes[0].trusts.len(), pipes[0].server_pod.as_str()), (2, "hub-0"));
    }

    #[test]
    fn what_a_pod_says_has_bounds() {
        let long = format!("{}\u{1b}", "x".repeat(5000));
        let told = snapshot(&[peer("fs", &long, "open", EARLY), peer("ax", "a", "open", "today")]);
        let told = told.expect("a snapshot");
        assert_eq!((told.serial(), told.names_version), ("0f", 7));
        assert_eq!(told.trusts().len(), 1);
        let pipes = told.pipes("hub-0");
        assert_eq!(pipes.len(), 1, "a pipe without a time is none");
        assert_eq!(pipes[0].instance.len(), MAX_NAME);

        let mut greedy = peer("fs", "fs", "open", EARLY);
        greedy["trusted_roots"] = vec![""; MAX_ROOTS + 1].into();
        let error = snapshot(&[greedy]).err().expect("an error");
        assert!(error.contains("a list of more than 20"), "{error}");
        let many = vec![peer("fs", "fs", "open", EARLY); MAX_PIPES + 1];
        let error = snapshot(&many).err().expect("an error");
        assert!(error.contains("a list of more than 32768"), "{error}");
    }
}
