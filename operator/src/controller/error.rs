//! Why a reconcile ended early.

use super::lease::Closed;

/// Why a reconcile ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API server refused, or did not answer.
    #[error("{doing}: {source}")]
    Api {
        /// What was tried.
        doing: String,
        /// Its answer.
        source: kube::Error,
    },
    /// This replica may not write.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// What the plan gave cannot be written: a mistake in this program.
    #[error("what was to be written makes no sense: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    pub(super) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        |source| Self::Api { doing, source }
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source: kube::Error::Api(status), .. } => Some(status),
            _ => None,
        }
    }

    /// Whether the namespace is about to go: nothing is made there any more, and nothing is wrong.
    pub(super) fn namespace_ends(&self) -> bool {
        let Some(status) = self.status().filter(|status| status.code == 403) else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
            || status.message.contains("because it is being terminated")
    }

    /// Whether nobody answered: that concerns everything, and the watches say it once.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Api { source, .. } if !matches!(source, kube::Error::Api(_)))
    }

    /// Whether the object has changed or is gone, so that everything begins anew.
    pub(super) fn is_outdated(&self) -> bool {
        self.status().is_some_and(|status| matches!(status.code, 404 | 409))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_ends_is_told_from_a_missing_right() {
        let refused = |message: &str| Error::Api {
            doing: "x".into(),
            source: kube::Error::Api(Box::new(
                kube::core::Status::failure(message, "Forbidden").with_code(403),
            )),
        };
        let ends = "unable to create new content in namespace a because it is being terminated";
        assert!(refused(ends).namespace_ends());
        assert!(!refused("secrets is forbidden: User x cannot create").namespace_ends());
    }
}
