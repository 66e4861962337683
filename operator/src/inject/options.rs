//! What an installation sets for all sidecars.

use std::fmt;
use std::str::FromStr;

use super::quantity::{BadQuantity, Quantity};

/// CPU finer than this is refused by Kubernetes.
const CPU_STEP_NANOS: u128 = 1_000_000;

/// Requests below one MiB are slips, such as `32m`, which is a fraction of a byte.
const LEAST_REQUEST: (u128, &str) = ((1 << 20) * 1_000_000_000, "1Mi");

/// An idle node takes 10 MiB and a hostile peer up to 12 more; below this it does not even start.
const LEAST_LIMIT: (u128, &str) = ((16 << 20) * 1_000_000_000, "16Mi");

/// A CPU request that Kubernetes takes.
pub(super) fn cpu_request(text: &str) -> Result<Quantity, BadQuantity> {
    let quantity: Quantity = text.parse()?;
    if quantity.nanos() == 0 {
        return Err(BadQuantity::TooSmall { least: "1m" });
    }
    if !quantity.nanos().is_multiple_of(CPU_STEP_NANOS) {
        return Err(BadQuantity::TooFine { step: "1m" });
    }
    Ok(quantity)
}

/// A memory request that makes sense.
pub(super) fn memory_request(text: &str) -> Result<Quantity, BadQuantity> {
    at_least(text, LEAST_REQUEST)
}

/// A memory limit with which a node starts.
pub(super) fn memory_limit(text: &str) -> Result<Quantity, BadQuantity> {
    at_least(text, LEAST_LIMIT)
}

fn at_least(text: &str, (least, word): (u128, &'static str)) -> Result<Quantity, BadQuantity> {
    let quantity: Quantity = text.parse()?;
    if quantity.nanos() < least {
        return Err(BadQuantity::TooSmall { least: word });
    }
    Ok(quantity)
}

/// When kubelet pulls the sidecar's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// If the node has it not.
    IfNotPresent,
    /// Never.
    Never,
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        })
    }
}

impl FromStr for PullPolicy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Always" => Ok(Self::Always),
            "IfNotPresent" => Ok(Self::IfNotPresent),
            "Never" => Ok(Self::Never),
            _ => Err("give Always, IfNotPresent or Never"),
        }
    }
}

/// An installation's settings make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOptions {
    /// No image.
    #[error("--sidecar-image is empty: give the image of the sidecar")]
    NoImage,
    /// No quantity.
    #[error("{flag} is {value:?}: {cause}")]
    Quantity {
        /// Which flag.
        flag: &'static str,
        /// What it says.
        value: String,
        /// Why it is refused.
        cause: BadQuantity,
    },
    /// More requested than allowed.
    #[error("--memory-request is more than --memory-limit: lower one or raise the other")]
    RequestOverLimit,
}

/// What an installation sets for all sidecars. Annotations of pods may change the resources;
/// nobody but the installation chooses the image.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectOptions {
    /// The sidecar's image.
    pub(super) image: String,
    /// When it is pulled; by Kubernetes' own rule unless given.
    pub(super) pull_policy: Option<PullPolicy>,
    pub(super) cpu_request: Quantity,
    pub(super) memory_request: Quantity,
    pub(super) memory_limit: Quantity,
    /// The version that pods are marked with.
    pub(super) version: String,
}

impl InjectOptions {
    /// CPU and memory are quantities: request of CPU, request of memory, limit of memory.
    ///
    /// # Errors
    /// If a setting makes no sense; the error names the flag.
    pub fn new(
        image: &str,
        pull_policy: Option<PullPolicy>,
        [cpu, memory, limit]: [&str; 3],
    ) -> Result<Self, BadOptions> {
        if image.trim().is_empty() {
            return Err(BadOptions::NoImage);
        }
        let bad = |flag, value: &str| {
            let value = value.to_owned();
            move |cause| BadOptions::Quantity { flag, value, cause }
        };
        let options = Self {
            image: image.to_owned(),
            pull_policy,
            cpu_request: cpu_request(cpu).map_err(bad("--cpu-request", cpu))?,
            memory_request: memory_request(memory).map_err(bad("--memory-request", memory))?,
            memory_limit: memory_limit(limit).map_err(bad("--memory-limit", limit))?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if options.memory_request.nanos() > options.memory_limit.nanos() {
            return Err(BadOptions::RequestOverLimit);
        }
        Ok(options)
    }

    /// Marks pods with `version` in place of this program's own.
    #[must_use]
    pub fn with_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_refused_by_their_flag() {
        let error = |quantities| {
            InjectOptions::new("image", None, quantities).expect_err("refused").to_string()
        };
        for (quantities, expected) in [
            (["x", "32Mi", "128Mi"], "--cpu-request is \"x\": give a quantity"),
            (["0", "32Mi", "128Mi"], "--cpu-request is \"0\": give at least 1m"),
            (["0.1m", "32Mi", "128Mi"], "--cpu-request is \"0.1m\": give a multiple of 1m"),
            (["1m", "32m", "128Mi"], "--memory-request is \"32m\": give at least 1Mi"),
            (["1m", "1Mi", "8Mi"], "--memory-limit is \"8Mi\": give at least 16Mi"),
            (["1m", "129Mi", "128Mi"], "--memory-request is more than --memory-limit"),
        ] {
            let error = error(quantities);
            assert!(error.starts_with(expected), "{error}");
        }
        let error = InjectOptions::new(" ", None, ["1m", "1Mi", "16Mi"]).expect_err("no image");
        assert_eq!(error, BadOptions::NoImage);
    }
}
