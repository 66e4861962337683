//! Secrets as files, in the way in which kubelet brings them to a pod.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Cluster, sh};

/// How often a followed Secret is looked at; kubelet takes a minute or two.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Name of the link that is turned when all files of a version are there.
const DATA: &str = "..data";

/// The contents of a Secret.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// A directory with the files of a Secret.
#[derive(Debug)]
pub struct Volume {
    directory: TempDir,
    stop: Arc<AtomicBool>,
    follower: Option<JoinHandle<()>>,
}

impl Volume {
    /// With these files, as long as [`Self::write`] brings no others.
    pub fn new(files: &Contents) -> Self {
        let volume =
            Self { directory: tempfile::tempdir().unwrap(), stop: Arc::default(), follower: None };
        volume.write(files);
        volume
    }

    /// Follows a Secret, which has to be there.
    pub fn follow(cluster: &Cluster, namespace: &str, secret: &str) -> Self {
        let mut known = cluster.secret(namespace, secret).unwrap();
        let mut volume = Self::new(&known);
        let (cluster, namespace, secret) =
            (cluster.clone(), namespace.to_owned(), secret.to_owned());
        let (stop, path) = (Arc::clone(&volume.stop), volume.path().to_owned());
        volume.follower = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK_EVERY);
                // While the API server is away, what is there stays.
                match cluster.secret(&namespace, &secret) {
                    Some(found) if found != known => {
                        put(&path, &found);
                        known = found;
                    }
                    _ => {}
                }
            }
        }));
        volume
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces all files at once.
    pub fn write(&self, files: &Contents) {
        put(self.path(), files);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}

fn put(directory: &Path, files: &Contents) {
    let version = (0..).map(|n| format!("..{n}")).find(|name| !directory.join(name).exists());
    let version = version.unwrap();
    fs::create_dir(directory.join(&version)).unwrap();
    for (name, bytes) in files {
        fs::write(directory.join(&version).join(name), bytes).unwrap();
        let link = directory.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from(DATA).join(name), link).unwrap();
        }
    }
    symlink(&version, directory.join("..new")).unwrap();
    fs::rename(directory.join("..new"), directory.join(DATA)).unwrap();
}

impl Cluster {
    /// The contents of a Secret, if it is there and anybody answers.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<Contents> {
        let answer =
            self.request("GET", &format!("/api/v1/namespaces/{namespace}/secrets/{name}"), "");
        (answer.code == 200).then(|| contents(&answer.body))
    }
}

/// The contents of a Secret that was read.
pub fn contents(secret: &Value) -> Contents {
    let data = secret["data"].as_object().cloned().unwrap_or_default();
    let decoded = |value: Value| decode(value.as_str().unwrap());
    data.into_iter().map(|(key, value)| (key, decoded(value))).collect()
}

/// Base64 as Kubernetes writes it.
fn decode(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|one| *one == letter).unwrap();
        held = held << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).unwrap());
        }
    }
    bytes
}

/// What `openssl x509` says of the first certificate in a PEM text, such as with `-serial`.
pub fn x509(pem: &[u8], args: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crt");
    fs::write(&path, pem).unwrap();
    sh(&format!("openssl x509 -noout -in {} {args}", path.display()), &[]).ok()
}
