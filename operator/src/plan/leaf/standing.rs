//! Whose a Secret is, and whether it must be written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use restpipe_api::condition::reason;

use crate::plan::objects::{self, Owner, SECRET_TYPE};
use crate::seen::{SecretSeen, Trouble};

/// Whose a Secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Missing,
    /// This object's.
    Ours,
    /// Of a former object of the same name: nothing in it is used, and it is written anew.
    Former,
    /// Somebody else's: never touched.
    Foreign,
    /// Ours, but of a type that cannot hold a certificate, and types cannot be changed.
    WrongType,
}

/// Whose the Secret is, for the object with that UID.
#[must_use]
pub fn standing(secret: Option<&SecretSeen>, uid: &str) -> Standing {
    let Some(secret) = secret else { return Standing::Missing };
    let standing = match &secret.owner {
        Some(owner) if owner == uid => Standing::Ours,
        // A restored backup has our label, and lost its owner.
        _ if secret.ours => Standing::Former,
        _ => return Standing::Foreign,
    };
    if secret.type_ == SECRET_TYPE { standing } else { Standing::WrongType }
}

/// Why the Secret cannot be written, if so.
pub(in crate::plan) fn untouchable_secret(
    standing: Standing,
    name: &str,
    namespace: &str,
) -> Option<Trouble> {
    match standing {
        Standing::Foreign => Some(Trouble {
            reason: reason::SECRET_CONFLICT,
            detail: format!(
                "the Secret {namespace}/{name} is there and was not made for this object, so it is left alone: look what it is for (kubectl describe secret -n {namespace} {name}), and delete or rename it"
            ),
        }),
        Standing::WrongType => Some(Trouble {
            reason: reason::SECRET_INVALID,
            detail: format!(
                "the Secret {namespace}/{name} is not of the type {SECRET_TYPE}, which cannot be changed: delete it, and it is made anew (kubectl delete secret -n {namespace} {name})"
            ),
        }),
        Standing::Missing | Standing::Ours | Standing::Former => None,
    }
}

/// What is compared with where there is no Secret.
pub(in crate::plan) static EMPTY: SecretSeen = SecretSeen {
    owner: None,
    ours: false,
    type_: String::new(),
    annotations: BTreeMap::new(),
    data: BTreeMap::new(),
};

/// The Secret to apply, unless `seen` holds all of it already.
pub(in crate::plan) fn applied(
    seen: &SecretSeen,
    owner: &Owner,
    name: &str,
    annotations: BTreeMap<String, String>,
    data: BTreeMap<String, Vec<u8>>,
) -> Option<Secret> {
    let there = seen.ours
        && seen.owner.as_deref() == Some(&*owner.uid)
        && data.iter().all(|(key, bytes)| seen.data.get(key) == Some(bytes))
        && annotations.iter().all(|(key, value)| seen.annotations.get(key) == Some(value));
    if there {
        return None;
    }
    Some(objects::secret(owner.meta(name.to_owned(), annotations), SECRET_TYPE, data))
}
