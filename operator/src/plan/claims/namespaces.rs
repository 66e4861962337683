//! In which namespaces the links of a server may be.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use restpipe_api::{From, RestPipeServer};

use super::key_of;

/// Label that Kubernetes itself gives to every namespace: its name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

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
    let own = key_of(server);
    let allowed = &server.spec.clients.namespaces;
    let permitted = match (allowed.from, &allowed.selector, labels) {
        (From::All, ..) => true,
        (From::Same, ..) => own.namespace == namespace,
        (From::Selector, None, _) => false,
        (From::Selector, Some(selector), Some(labels)) => selects(selector, labels),
        // Without a look at namespaces only this label is known, and all others could be anything.
        (From::Selector, Some(selector), None) => {
            let known = [(NAMESPACE_LABEL.to_owned(), namespace.to_owned())].into();
            only_by_name(selector) && selects(selector, &known)
        }
    };
    if permitted {
        return Ok(());
    }
    Err(match allowed.from {
        From::Selector if labels.is_none() => format!(
            "the server {own} does not take links of the namespace {namespace}; the operator may not read labels of namespaces here, so spec.clients.namespaces.selector of the server can use {NAMESPACE_LABEL} only"
        ),
        From::Selector => format!(
            "the server {own} does not take links of the namespace {namespace}: give the namespace the labels of the server's spec.clients.namespaces.selector, or widen that"
        ),
        From::Same | From::All => format!(
            "the server {own} takes links of its own namespace only, not of {namespace}: its owner can set spec.clients.namespaces.from to All or Selector"
        ),
    })
}

fn only_by_name(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.iter().flatten().map(|(key, _)| key);
    let expressions = selector.match_expressions.iter().flatten().map(|one| &one.key);
    labels.chain(expressions).all(|key| key == NAMESPACE_LABEL)
}

/// Kubernetes' rule: all must match, and nothing at all matches everything.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut wanted = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|one| holds(one, labels))
}

fn holds(one: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&one.key);
    let listed = value.is_some_and(|value| one.values.iter().flatten().any(|one| one == value));
    match &*one.operator {
        "In" => listed,
        // As in Kubernetes: also if the label is not there at all.
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // An operator of the future: nobody comes in by a rule that is not understood.
        _ => false,
    }
}
