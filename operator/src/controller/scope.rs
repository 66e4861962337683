//! Which namespaces are watched.

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Where objects are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In all namespaces.
    Cluster,
    /// In these only: the operator has rights nowhere else.
    Namespaces(Vec<String>),
}

impl Scope {
    /// All namespaces if none is given.
    pub(super) fn of(namespaces: &[String]) -> Self {
        let mut names: Vec<String> = namespaces
            .iter()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() { Self::Cluster } else { Self::Namespaces(names) }
    }

    /// Whether objects of that namespace are seen.
    pub(super) fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespaces(names) => names.iter().any(|name| name == namespace),
        }
    }

    /// The parts that are watched one by one: `None` is the whole cluster.
    pub(super) fn parts(&self) -> Vec<Option<String>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// The API of one part of a scope.
pub(super) fn api<K>(client: &Client, part: Option<&String>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match part {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespaces_mean_all_and_each_is_taken_once() {
        assert_eq!(Scope::of(&[]), Scope::Cluster);
        assert_eq!(Scope::of(&[" ".to_owned()]), Scope::Cluster);
        let two = Scope::of(&["b".to_owned(), "a ".to_owned(), "b".to_owned()]);
        assert_eq!(two.parts(), [Some("a".to_owned()), Some("b".to_owned())]);
        assert!(two.covers("a") && !two.covers("c"));
        assert!(Scope::Cluster.covers("c"));
    }
}
