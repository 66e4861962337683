//! RestPipe as its chart installs it, where no pod can run: the operator's processes are started
//! here, as the chart's own ServiceAccounts.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Cluster, Process, operator_binary, run, run_with_input, top, variable};

/// The release's namespace, as the docs call it.
pub const SYSTEM: &str = "restpipe-system";

/// How long a token of a ServiceAccount lives; longer than any run.
const TOKEN_LIFE: &str = "6h";

/// What the operator's processes say, for whoever looks at a test that failed.
const LOG: &str = "info,restpipe_operator=debug";

/// A process of the operator.
#[derive(Debug)]
pub struct Part {
    /// The process.
    pub process: Process,
    /// Where its admin port is.
    pub admin: String,
}

impl Part {
    /// What its admin port answers with 200, or why it does not.
    ///
    /// # Errors
    /// If it is not there, or answers something else.
    pub fn ask(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.admin);
        run("curl", &["-sS", "-m", "5", "--fail-with-body", &url], &[]).result()
    }
}

/// A port on which nobody listens at this moment, for what has to be told one.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A release of the chart.
#[derive(Debug)]
pub struct Release {
    /// Where it is.
    pub cluster: Cluster,
    /// What it is called; what it makes is called so too.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    directory: TempDir,
}

impl Release {
    /// Installs the chart anew; `values` are of the form `KEY=JSON`.
    pub fn install(cluster: &Cluster, name: &str, namespace: &str, values: &[&str]) -> Self {
        // What a test has changed in it, helm would not change back.
        cluster.helm(&["uninstall", name, "--namespace", namespace, "--ignore-not-found"]);
        let chart = top().join("charts/restpipe").display().to_string();
        let mut args = vec!["install", name, &chart, "--namespace", namespace];
        args.extend(["--create-namespace", "--no-hooks"]);
        for value in values {
            args.extend(["--set-json", value]);
        }
        cluster.helm(&args);
        Self {
            cluster: cluster.clone(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The name of the `controller` or the `webhook`: of its Deployment and its account.
    pub fn part(&self, component: &str) -> String {
        format!("{}-{component}", self.name)
    }

    /// Who the `controller` or the `webhook` is to the API server.
    pub fn user(&self, component: &str) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.part(component))
    }

    /// A kubeconfig of the ServiceAccount of the `controller` or the `webhook`.
    pub fn kubeconfig(&self, component: &str) -> String {
        let path = self.directory.path().join(component);
        if !path.exists() {
            let text = self.cluster.kubectl(&["config", "view", "--raw", "-o", "json"]);
            let mut config: Value = serde_json::from_str(&text).unwrap();
            let account = self.part(component);
            let token = self.cluster.kubectl(&[
                "-n",
                &self.namespace,
                "create",
                "token",
                &account,
                "--duration",
                TOKEN_LIFE,
            ]);
            config["users"][0]["user"] = json!({ "token": token.trim() });
            std::fs::write(&path, config.to_string()).unwrap();
        }
        path.display().to_string()
    }

    /// Starts `restpipe-operator controller`, as the pod of that name would be.
    pub fn controller(&self, pod: &str) -> Part {
        self.controller_with(pod, &[])
    }

    /// As [`Self::controller`], with further arguments.
    pub fn controller_with(&self, pod: &str, more: &[&str]) -> Part {
        self.start("controller", pod, &[], more)
    }

    /// Starts `restpipe-operator webhook` at this address, with the files of `tls`.
    pub fn webhook(&self, pod: &str, listen: &str, tls: &Path) -> Part {
        let tls = tls.display().to_string();
        self.start("webhook", pod, &[("--listen", listen), ("--tls-dir", &tls)], &[])
    }

    /// Starts a part with the arguments and variables that the chart gives it, but for those of
    /// `change`, and with `more` arguments.
    fn start(&self, component: &str, pod: &str, change: &[(&str, &str)], more: &[&str]) -> Part {
        let admin = format!("127.0.0.1:{}", free_port());
        let mut all = vec![("--admin", admin.as_str()), ("--log-format", "text"), ("--log", LOG)];
        all.extend(change);
        let name = self.part(component);
        let deployment = self.cluster.get(&["-n", &self.namespace, "deploy", &name]);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let args: Vec<String> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| changed(arg.as_str().unwrap(), &all))
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut environment = vec![
            of("KUBECONFIG", &self.kubeconfig(component)),
            of("POD_NAMESPACE", &self.namespace),
            of("POD_NAME", pod),
        ];
        for variable in container["env"].as_array().unwrap() {
            if let Some(value) = variable["value"].as_str() {
                environment.push(of(variable["name"].as_str().unwrap(), value));
            }
        }
        let process = Process::start(pod, &operator_binary(), &args, &environment);
        Part { process, admin }
    }

    /// `kubectl ARGS…` as the `controller` or the `webhook`, with an object for its stdin.
    pub fn kubectl_as(&self, component: &str, args: &[&str], input: &str) -> crate::Ran {
        let environment = [("KUBECONFIG".to_owned(), self.kubeconfig(component))];
        run_with_input(&variable("KUBECTL"), args, &environment, input)
    }
}

/// An argument `--FLAG=VALUE`, with the value that `change` has for the flag.
fn changed(arg: &str, change: &[(&str, &str)]) -> String {
    let found = change
        .iter()
        .find(|(flag, _)| arg.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')));
    found.map_or_else(|| arg.to_owned(), |(flag, value)| format!("{flag}={value}"))
}
