//! Writing an exported identity: as a node directory, or as a manifest for another cluster.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use restpipe_api::names::PART_OF;
use restpipe_identity::{CA_CERT, Credentials, Overwrite, TLS_CERT, TLS_KEY, Usage, write_node};
use serde_json::json;

use crate::cli::stdout;
use crate::plan::node::NODE_TOML;

/// Where to write.
#[derive(clap::Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["dir", "manifest"])))]
pub(super) struct Destination {
    /// Write a node directory, for a plain host.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Write a Secret and a RestPipeLink, for another cluster; - is stdout.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// What was issued.
pub(super) struct Identity {
    link: String,
    hostname: String,
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
    node_toml: Vec<u8>,
    address: String,
    server_name: String,
}

impl Identity {
    /// Reads the Secret of a link, and checks it as the node will.
    pub(super) fn of(link: &str, hostname: String, secret: Secret) -> anyhow::Result<Self> {
        let mut data = secret.data.unwrap_or_default();
        let name = secret.metadata.name.unwrap_or_default();
        let mut take = |key: &str| {
            let value = data.remove(key).map(|value| value.0);
            value.with_context(|| {
                format!("the Secret {name} has no {key}: delete it, and the operator makes it anew")
            })
        };
        let (cert, key, ca) = (take(TLS_CERT)?, take(TLS_KEY)?, take(CA_CERT)?);
        let node_toml = take(NODE_TOML)?;
        Credentials::from_pem(&cert, &key, &ca, Usage::Client, SystemTime::now())
            .with_context(|| format!("the Secret {name} is damaged"))?;
        let settings: toml::Table = std::str::from_utf8(&node_toml)
            .ok()
            .and_then(|text| toml::from_str(text).ok())
            .with_context(|| format!("{NODE_TOML} in the Secret {name} is damaged"))?;
        let text = |key: &str| {
            let value = settings.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            value.with_context(|| format!("{NODE_TOML} in the Secret {name} has no {key}"))
        };
        let (address, server_name) = (text("server")?, text("server-name")?);
        let link = link.to_owned();
        Ok(Self { link, hostname, cert, key, ca, node_toml, address, server_name })
    }

    /// Says what it is, on stderr: stdout may be the manifest.
    pub(super) fn say(&self, end: &str) {
        eprintln!(
            "The client {} dials {} as {} until {end}; then it has to be exported again. Whoever \
             has the key is this client: keep it secret.",
            self.hostname, self.address, self.server_name
        );
        if is_of_this_cluster(&self.address) {
            eprintln!(
                "Warning: {} is an address of this cluster only. Give the one from outside with \
                 --address HOST:PORT, or in spec.hostnames of the server.",
                self.address
            );
        }
    }

    fn manifest(&self) -> anyhow::Result<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let secret_name = format!("{}-imported", self.link);
        let labels = json!({PART_OF.0: PART_OF.1});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": secret_name, "labels": labels},
            "stringData": {
                TLS_CERT: text(&self.cert), TLS_KEY: text(&self.key), CA_CERT: text(&self.ca),
            },
        });
        let link = json!({
            "apiVersion": "restpipe.io/v1alpha1", "kind": "RestPipeLink",
            "metadata": {"name": self.link, "labels": labels},
            "spec": {
                "hostname": self.hostname,
                "server": {"external": {
                    "address": self.address,
                    "serverName": self.server_name,
                    "secretName": secret_name,
                }},
            },
        });
        Ok(format!(
            "---\n{}---\n{}",
            serde_saphyr::to_string(&secret)?,
            serde_saphyr::to_string(&link)?
        ))
    }
}

fn is_of_this_cluster(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.ends_with(".svc") || host.ends_with(".cluster.local")
}

impl Destination {
    /// Looks first whether anything is in the way: nothing is issued in vain then.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let files: Vec<PathBuf> = match (&self.dir, &self.manifest) {
            (Some(dir), _) => {
                [TLS_CERT, TLS_KEY, CA_CERT, NODE_TOML].iter().map(|name| dir.join(name)).collect()
            }
            (None, Some(file)) if !is_stdout(file) => vec![file.clone()],
            _ => Vec::new(),
        };
        let there = files.iter().find(|file| file.symlink_metadata().is_ok());
        match there.filter(|_| !self.force) {
            Some(file) => anyhow::bail!(
                "{} is there already: choose another place, or replace it with --force",
                file.display()
            ),
            None => Ok(()),
        }
    }

    /// Writes it there.
    pub(super) fn write(&self, identity: &Identity) -> anyhow::Result<()> {
        if let Some(dir) = &self.dir {
            let overwrite = if self.force { Overwrite::Replace } else { Overwrite::Refuse };
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
            // Before the certificate: a node that waits for the directory finds its settings.
            self.file(&dir.join(NODE_TOML), &identity.node_toml)?;
            write_node(dir, &identity.cert, &identity.key, &identity.ca, overwrite)?;
            return Ok(());
        }
        let manifest = identity.manifest()?;
        match &self.manifest {
            Some(file) if !is_stdout(file) => self.file(file, manifest.as_bytes()),
            _ => stdout::write(&manifest),
        }
    }

    fn file(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", path.display());
        if self.force && path.symlink_metadata().is_ok() {
            // Anew, so that the mode is right, and nothing is written through a link.
            std::fs::remove_file(path).with_context(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(bytes)).with_context(failed)
    }

    /// Says what to do next, on stderr.
    pub(super) fn say(&self, identity: &Identity) {
        if let Some(dir) = &self.dir {
            let dir = dir.display();
            eprintln!(
                "Copy {dir} to the host, readable only for the user of the node, and start there:\n\n  \
                 restpipe client --dir {dir} --config {dir}/{NODE_TOML} --app http://127.0.0.1:8080"
            );
            return;
        }
        let file =
            self.manifest.as_deref().map_or_else(|| "-".into(), |file| file.display().to_string());
        eprintln!(
            "Apply it in the other cluster, in the namespace of the client's pods, and annotate them \
             with restpipe.io/link: {}\n\n  \
             kubectl --context OTHER --namespace NAMESPACE apply --server-side -f {file}",
            identity.link
        );
    }
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

#[cfg(test)]
mod tests;
