//! An API server that one test has for itself, for what cannot be tried where others work.

use std::ops::Deref;

use crate::{Cluster, run, variable};

/// etcd and kube-apiserver of `kube.sh`; they end with the value, or with the run.
#[derive(Debug)]
pub struct OwnApi(Cluster);

impl OwnApi {
    /// Starts one, which is empty and ready when this returns.
    pub fn start(name: &str) -> Self {
        let state = variable("RESTPIPE_STATE_DIR");
        let directory = run(&variable("RESTPIPE_KUBE"), &["up", name, &state], &[]).ok();
        Self(Cluster {
            kubeconfig: format!("{}/kubeconfig", directory.trim()),
            name: name.to_owned(),
            node: String::new(),
            host: String::new(),
            collects: false,
        })
    }
}

impl Deref for OwnApi {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for OwnApi {
    fn drop(&mut self) {
        let state = variable("RESTPIPE_STATE_DIR");
        let ran = run(&variable("RESTPIPE_KUBE"), &["down", &self.0.name, &state], &[]);
        if !ran.good {
            // The run's own end does it once more.
            eprintln!("{}{}", ran.errors, ran.output);
        }
    }
}
