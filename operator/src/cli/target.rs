//! Naming an object on the command line, and finding it.

use std::time::Duration;

use anyhow::Context;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;

/// How long one answer of the cluster may take, and each other step of a request. A busy API server
/// answers within a second; beyond ten it is gone.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// KIND/NAME; the kind by any of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Link,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is neither link/NAME nor server/NAME");
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "link" | "rpl" | "restpipelink" | "restpipelinks" => Kind::Link,
            "server" | "rps" | "restpipeserver" | "restpipeservers" => Kind::Server,
            _ => return Err(wrong()),
        };
        if name.is_empty() || name.contains('/') {
            return Err(wrong());
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl Target {
    /// Its name, if it is of that kind.
    pub(super) fn name(&self, kind: Kind, usage: &str) -> anyhow::Result<&str> {
        anyhow::ensure!(self.kind == kind, "this is about another kind of object: give {usage}");
        Ok(&self.name)
    }
}

/// A client of the API server, by the user's kubeconfig or as a pod. It is for requests that are
/// answered at once: a watch would not outlive [`TIMEOUT`].
pub(super) async fn client() -> anyhow::Result<Client> {
    // Its sentence has all causes in it already.
    let config = Config::infer().await.map_err(|error| {
        anyhow::anyhow!(
            "no way to the API server is known: give a kubeconfig in KUBECONFIG, or in ~/.kube/config ({error})"
        )
    })?;
    Ok(client_of(config, TIMEOUT)?)
}

fn client_of(mut config: Config, timeout: Duration) -> Result<Client, kube::Error> {
    // Somebody waits for the answer: nothing is tried again for minutes.
    config.default_retry = false;
    config.connect_timeout = Some(timeout);
    config.read_timeout = Some(timeout);
    config.write_timeout = Some(timeout);
    // Else the next answer would have to come within what is left after a pause.
    config.reset_reader_on_write = true;
    Client::try_from(config)
}

/// The object, or what to do if there is none.
pub(super) async fn get<K>(api: &Api<K>, name: &str, namespace: &str) -> anyhow::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::kind(&());
    let found = api.get_opt(name).await;
    let found = found.with_context(|| format!("cannot read the {kind} {namespace}/{name}"))?;
    found.with_context(|| {
        let plural = K::plural(&());
        format!(
            "there is no {kind} {name} in the namespace {namespace}: give its namespace with -n \
             (kubectl get {plural} -A shows all)"
        )
    })
}

/// A value for an annotation that was not there before.
pub(super) fn fresh_value() -> String {
    restpipe_identity::rfc3339(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_api_server_that_says_nothing_is_given_up() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Nobody takes the connection; the kernel opens it all the same.
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", silent.local_addr().expect("an address"));
        let mut config = Config::new(url.parse().expect("a URL"));
        // No TLS here: whom this machine trusts does not matter.
        config.root_cert = Some(Vec::new());
        let client = client_of(config, Duration::from_millis(200)).expect("a client");
        let asked = tokio::time::timeout(TIMEOUT, client.apiserver_version()).await;
        asked.expect("it is given up").expect_err("nobody has answered");
    }

    #[test]
    fn a_kind_has_several_names() {
        for text in ["link/a", "rpl/a", "RestPipeLink/a"] {
            let target: Target = text.parse().expect("a link");
            assert_eq!(target.name(Kind::Link, "").expect("a link"), "a");
            assert!(target.name(Kind::Server, "server/NAME").is_err());
        }
        for text in ["a", "pod/a", "link/", "link/a/b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
