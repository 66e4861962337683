//! What a user types: our own command line, and lines of a shell.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::{Cluster, Ran, node_binary, operator_binary, run, sh, variable};

impl Cluster {
    /// `restpipe-operator ARGS…`, as a user with this cluster's kubeconfig runs it.
    pub fn operator(&self, args: &[&str]) -> Ran {
        run(&operator_binary(), args, &self.environment())
    }

    /// As [`Self::operator`], of a user who has no rights but those that `rules` give: YAML of a
    /// ClusterRole's `rules`.
    pub fn operator_as(&self, user: &str, rules: &str, args: &[&str]) -> Ran {
        self.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\n\
             metadata: {{name: {user}}}\nrules: {rules}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
             metadata: {{name: {user}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {user}}}\n\
             subjects: [{{kind: User, name: {user}}}]\n"
        ));
        let text = self.kubectl(&["config", "view", "--raw", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"]["as"] = Value::from(user);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        let environment = [("KUBECONFIG".to_owned(), file.path().display().to_string())];
        run(&operator_binary(), args, &environment)
    }

    /// Lines of a shell in `directory`, in which `kubectl`, `helm` and our own programs mean this
    /// cluster and this build.
    pub fn lines(&self, directory: &Path, script: &str) -> Ran {
        let bin = tempfile::tempdir().unwrap();
        for (name, place) in [
            ("kubectl", variable("KUBECTL")),
            ("helm", variable("HELM")),
            ("restpipe", node_binary()),
            ("restpipe-operator", operator_binary()),
        ] {
            symlink(place, bin.path().join(name)).unwrap();
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let mut environment = self.environment();
        environment.push(("PATH".into(), format!("{}:{path}", bin.path().display())));
        sh(&format!("cd {}\n{script}", directory.display()), &environment)
    }
}
