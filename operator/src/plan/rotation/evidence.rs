//! What is known of who trusts what, and of whose certificates live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use restpipe_identity::{
    CertificateInfo, LeafRequest, MAX_CHAIN, Part, PeerName, Roots, Usage, certificates, inspect,
    verify,
};

use crate::plan::authority::{CaState, Retired};
use crate::seen::{PodSeen, ServerPodSeen};

/// How many are named in an Event.
const MAX_LISTED: usize = 10;

/// A leaf Secret of ours.
pub(in crate::plan) struct LeafFact<'a> {
    /// The client's hostname; none for the server's own.
    pub(in crate::plan) hostname: Option<&'a str>,
    /// Whether copies of it are outside of the cluster.
    pub(in crate::plan) exported: bool,
    /// If so, names of the pods in the cluster that use it too.
    pub(in crate::plan) pods: Option<&'a BTreeSet<String>>,
    /// `tls.crt`
    pub(in crate::plan) cert: &'a [u8],
    /// `ca.crt`
    pub(in crate::plan) bundle: &'a [u8],
    /// Fingerprints of the roots that were in its bundle when it was issued.
    pub(in crate::plan) issued_with: BTreeSet<&'a str>,
}

impl LeafFact<'_> {
    fn usage(&self) -> Usage {
        if self.hostname.is_some() { Usage::Client } else { Usage::Server }
    }

    /// How a person finds it.
    fn shown(&self) -> String {
        self.hostname.unwrap_or("the server's own Secret").to_owned()
    }

    fn info(&self) -> Option<CertificateInfo> {
        let chain = certificates(self.cert, Part::Certificate, MAX_CHAIN).ok()?;
        inspect(&chain[0]).ok()
    }

    /// Whether what calls itself so is no pod of the cluster.
    fn is_outside(&self, instance: &str) -> bool {
        self.pods.is_none_or(|pods| !pods.contains(instance))
    }

    /// A copy outside may still be in use.
    fn lives_outside(&self, now: SystemTime) -> bool {
        self.exported && self.info().is_some_and(|info| info.not_after >= now)
    }
}

/// What a rotation goes by.
pub(in crate::plan) struct Evidence<'a> {
    /// Injected pods of the server.
    pub(in crate::plan) pods: &'a [PodSeen],
    /// What those have told that were asked.
    pub(in crate::plan) told: &'a [ServerPodSeen],
    /// Leaf Secrets of ours that are there: the server's and those of accepted links.
    pub(in crate::plan) leafs: Vec<LeafFact<'a>>,
    /// Hostnames of accepted links whose Secret was not looked at yet, as after a restart of the
    /// operator: what is not known is waited for.
    pub(in crate::plan) unknown: Vec<&'a str>,
    /// Whether the user has said that it goes on without exported identities.
    pub(in crate::plan) without_exported: bool,
}

impl Evidence<'_> {
    /// Whether copies of the identity with this hostname are outside of the cluster.
    pub(super) fn is_exported(&self, hostname: &str) -> bool {
        self.leafs.iter().any(|leaf| leaf.exported && leaf.hostname == Some(hostname))
    }

    /// Whether a client's report counts.
    fn counts(&self, hostname: &str) -> bool {
        !(self.without_exported && self.is_exported(hostname))
    }

    /// The roots that the server's own Secret holds.
    pub(super) fn trusted_before(&self) -> Option<Retired> {
        let own = self.leafs.iter().find(|leaf| leaf.hostname.is_none())?;
        Retired::read(own.bundle)
    }

    /// Whose Secret lacks the root.
    pub(super) fn secrets_without(&self, root: &str) -> Vec<String> {
        let lacks = |leaf: &&LeafFact<'_>| {
            !Roots::from_pem(leaf.bundle)
                .is_ok_and(|roots| roots.fingerprints().iter().any(|one| one == root))
        };
        self.leafs.iter().filter(lacks).map(LeafFact::shown).chain(self.not_looked_at()).collect()
    }

    fn not_looked_at(&self) -> impl Iterator<Item = String> {
        self.unknown.iter().map(|hostname| (*hostname).to_owned())
    }

    /// Who is up and has not said that it trusts the root.
    pub(super) fn who_does_not_trust(&self, root: &str, now: SystemTime) -> Vec<String> {
        let pods = self.running().filter_map(|pod| match self.told_by(pod) {
            Some(ServerPodSeen { state: Ok(state), .. }) if state.trusts.contains(root) => None,
            _ => Some(format!("pod/{}", pod.name)),
        });
        let pipes =
            self.pipes().filter(|pipe| !pipe.trusts.contains(root) && self.counts(&pipe.hostname));
        let mut connected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pipe in self.pipes() {
            connected.entry(&pipe.hostname).or_default().push(&pipe.instance);
        }
        let outside = self.leafs.iter().filter(|leaf| {
            let knows = leaf.issued_with.contains(root);
            // A pod here has the same name, and what kubelet brings it; a copy outside has not.
            let instances = leaf.hostname.and_then(|hostname| connected.get(hostname));
            let tells = instances.into_iter().flatten().any(|instance| leaf.is_outside(instance));
            !self.without_exported && leaf.lives_outside(now) && !knows && !tells
        });
        let pipes = pipes.map(|pipe| pipe.hostname.clone());
        pods.chain(pipes).chain(outside.map(LeafFact::shown)).collect()
    }

    /// Whose Secret holds a leaf that the root which signs has not signed. Not the exported ones:
    /// nobody replaces those but the user.
    pub(super) fn secrets_not_of(&self, state: &CaState, now: SystemTime) -> Vec<String> {
        let other =
            |leaf: &&LeafFact<'_>| !leaf.exported && !state.signed(leaf.cert, leaf.usage(), now);
        self.leafs.iter().filter(other).map(LeafFact::shown).chain(self.not_looked_at()).collect()
    }

    /// Who is up, or outside, with a certificate of a former root.
    pub(super) fn who_shows_another(&self, state: &CaState, now: SystemTime) -> Vec<String> {
        let outside = self.leafs.iter().filter(|leaf| {
            !self.without_exported
                && leaf.lives_outside(now)
                && !state.signed(leaf.cert, leaf.usage(), now)
        });
        let outside = outside.map(LeafFact::shown);
        if same_key(state, now) {
            return outside.collect();
        }
        let current = state.fingerprint();
        let pipes = self.pipes().filter(|pipe| pipe.root != current && self.counts(&pipe.hostname));
        let pipes = pipes.map(|pipe| pipe.hostname.clone());
        self.pods_of_another(state).into_iter().chain(pipes).chain(outside).collect()
    }

    /// Server pods that do not show a certificate of the root which signs.
    fn pods_of_another(&self, state: &CaState) -> Vec<String> {
        let current = state.fingerprint();
        let other = self.running().filter(|pod| {
            !matches!(self.told_by(pod), Some(ServerPodSeen { state: Ok(told), .. }) if told.root == current)
        });
        other.map(|pod| format!("pod/{}", pod.name)).collect()
    }

    /// Whether the server's leaf of a former root may be replaced: everybody who is connected
    /// trusts the root which signs. After a spread they do; after a loss of the CA's key not yet.
    pub(in crate::plan) fn server_may_switch(&self, state: &CaState, now: SystemTime) -> bool {
        !is_overlapping(state, now) || self.who_does_not_trust(state.fingerprint(), now).is_empty()
    }

    /// Whether clients' leafs of a former root may be replaced: each server pod shows a
    /// certificate of the root which signs, so it trusts that root.
    pub(in crate::plan) fn clients_may_switch(&self, state: &CaState, now: SystemTime) -> bool {
        !is_overlapping(state, now)
            || same_key(state, now)
            || self.pods_of_another(state).is_empty()
    }

    /// Pods whose sidecar runs, as it tells itself or as kubelet says: what another container waits
    /// for ends no pipe. One that is just starting reads what is mounted by then.
    fn running(&self) -> impl Iterator<Item = &PodSeen> {
        let runs = move |pod: &&PodSeen| {
            let tells = || self.told_by(pod).is_some_and(|told| told.state.is_ok());
            let may_run = pod.sidecar_runs || pod.waiting.is_none();
            pod.phase == "Running" && !pod.ending && (may_run || tells())
        };
        self.pods.iter().filter(runs)
    }

    fn told_by(&self, pod: &PodSeen) -> Option<&ServerPodSeen> {
        self.told.iter().find(|told| told.pod == pod.name)
    }

    fn pipes(&self) -> impl Iterator<Item = &crate::seen::PipeSeen> {
        let states = self.told.iter().filter_map(|told| told.state.as_ref().ok());
        states.flat_map(|state| &state.pipes)
    }
}

/// Whether certificates of a former root still count.
fn is_overlapping(state: &CaState, now: SystemTime) -> bool {
    state.previous.as_ref().is_some_and(|previous| previous.live(now))
}

/// Whether a former root has the name and key of the one that signs, as when a certificate of a CA
/// is renewed: nobody can tell then which of the two has verified a chain.
fn same_key(state: &CaState, now: SystemTime) -> bool {
    let Some(previous) = &state.previous else { return false };
    let Ok(name) = PeerName::parse("trial.restpipe") else { return false };
    let lifetime = std::time::Duration::from_secs(60);
    let request = LeafRequest { name, usage: Usage::Client, lifetime, now };
    let Ok(leaf) = state.signer().issue(request) else { return false };
    certificates(leaf.cert_pem.as_bytes(), Part::Certificate, 1)
        .is_ok_and(|chain| verify(&chain, &previous.roots, Usage::Client, now).is_ok())
}

/// Some of them, for a sentence.
pub(in crate::plan) fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(MAX_LISTED);
    names.truncate(MAX_LISTED);
    let text = names.join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}
