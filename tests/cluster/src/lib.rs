//! For tests against Kubernetes: `kubectl` and the like as functions that say what they ran when
//! it fails. The clusters themselves are made by the scripts beside this crate, which tell of them
//! by environment variables.
//!
//! These are helpers of tests: they panic where something is not as it has to be.

#![allow(clippy::unwrap_used, reason = "a helper of tests that fails has to fail the test")]

mod audit;
mod checked;
mod command;
mod document;
mod operator;
mod own;
mod process;
mod proxy;
mod release;
mod request;
mod sidecar;
mod traffic;
mod user;
mod volume;

pub use audit::{Audit, Mark, Request};
pub use checked::Checked;
pub use command::{Ran, run, run_with_input, sh};
pub use document::{printed_block, printed_line};
pub use operator::Operator;
pub use own::OwnApi;
pub use process::Process;
pub use proxy::Proxy;
pub use release::{Part, Release, SYSTEM, free_port};
pub use request::Answer;
pub use sidecar::{Sidecar, address_of_a_pod};
pub use traffic::{Sum, Traffic};
pub use volume::{Contents, Volume, contents, x509};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often something is looked at that says nothing by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A pod is scheduled, its images are there and its containers run within this time, on a machine
/// that does ten other things.
pub const POD_TIME: Duration = Duration::from_secs(120);

/// The operator has seen a change and everything has followed within this time.
pub const SETTLE_TIME: Duration = Duration::from_secs(60);

/// An environment variable that the scripts set.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("there is no {name}: run `tests/run kube` or `tests/run cluster`")
    })
}

/// Lines of a log that are shown of each when a test fails.
const LINES_TOLD: usize = 60;

/// The top of the source tree.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Looks until `look` finds something, and fails with its last complaint if it never does.
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(why) if Instant::now() >= deadline => {
                panic!("{what}: not within {within:?}: {why}")
            }
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// One cluster, as somebody who may do everything sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubeconfig: String,
    /// What `ctl.sh` calls it.
    pub name: String,
    /// Address of its NodePorts.
    pub node: String,
    /// Address of this machine, as its pods see it.
    pub host: String,
    /// Whether it has controllers, above all the one that collects garbage.
    collects: bool,
}

impl Cluster {
    /// `A` or `B` of `tests/cluster/run.sh`.
    pub fn real(which: &str) -> Self {
        let of = |what: &str| variable(&format!("RESTPIPE_CLUSTER_{which}{what}"));
        Self {
            kubeconfig: of(""),
            name: of("_NAME"),
            node: of("_NODE"),
            host: of("_HOST"),
            collects: true,
        }
    }

    /// The API without nodes of `tests/cluster/kube-run.sh`.
    pub fn api_only() -> Self {
        let (node, host) = (String::new(), String::new());
        Self {
            kubeconfig: variable("KUBECONFIG"),
            name: variable("RESTPIPE_KUBE_NAME"),
            node,
            host,
            collects: false,
        }
    }

    /// Where its files are: `kubeconfig`, `pki`, `audit.log`.
    fn directory(&self) -> &Path {
        Path::new(&self.kubeconfig).parent().unwrap()
    }

    /// Where its kubeconfig is.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// `kubectl ARGS…`; its output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).ok()
    }

    /// `kubectl ARGS…`, which may fail.
    pub fn try_kubectl(&self, args: &[&str]) -> Ran {
        run(&variable("KUBECTL"), args, &self.environment())
    }

    /// `helm ARGS…`; its output.
    pub fn helm(&self, args: &[&str]) -> String {
        run(&variable("HELM"), args, &self.environment()).ok()
    }

    /// What a command needs to mean this cluster.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![("KUBECONFIG".into(), self.kubeconfig.clone())]
    }

    /// Creates or changes objects.
    pub fn apply(&self, yaml: &str) -> String {
        self.try_apply(yaml).ok()
    }

    /// Creates or changes objects, if the cluster takes them.
    pub fn try_apply(&self, yaml: &str) -> Ran {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        run_with_input(&variable("KUBECTL"), &args, &self.environment(), yaml)
    }

    /// One object or a list, as JSON.
    pub fn get(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], args].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// One object, if it is there.
    pub fn find(&self, args: &[&str]) -> Option<Value> {
        let text = self.kubectl(&[&["get", "-o", "json", "--ignore-not-found"], args].concat());
        (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
    }

    /// A namespace of the test's own, gone with the returned value.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        self.kubectl(&["create", "namespace", name]);
        Namespace { cluster: self, name: name.to_owned() }
    }

    /// `ctl.sh` about this cluster: stops and starts its parts.
    pub fn control(&self, args: &[&str]) -> String {
        let (name, state) = (self.name.clone(), variable("RESTPIPE_STATE_DIR"));
        let all = [&[name.as_str(), state.as_str()], args].concat();
        run(&variable("RESTPIPE_CLUSTER_CTL"), &all, &[]).ok()
    }
}

/// The operator's binary, as the suite has built it.
pub fn operator_binary() -> String {
    binary("restpipe-operator")
}

/// The node's binary, as the suite has built it.
pub fn node_binary() -> String {
    binary("restpipe")
}

fn binary(name: &str) -> String {
    let beside = std::env::current_exe().unwrap();
    let built = beside.ancestors().nth(2).unwrap().join(name);
    assert!(built.exists(), "{} is not there: `tests/run build` makes it", built.display());
    built.display().to_string()
}

/// A namespace that a test made.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// Where it is.
    pub cluster: &'a Cluster,
    /// What it is called.
    pub name: String,
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a failed test leaves is what tells why.
            self.tell();
        }
        if self.cluster.collects {
            let args = ["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"];
            let _ = self.cluster.try_kubectl(&args);
        } else {
            // A namespace would never be gone, and what is in it would be looked after for ever.
            let kinds = "rps,rpl,pods,secrets,services";
            let _ = self.try_kubectl(&["delete", kinds, "--all", "--wait=false"]);
        }
    }
}

impl Namespace<'_> {
    /// `kubectl -n NAMESPACE ARGS…`.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).ok()
    }

    /// `kubectl -n NAMESPACE ARGS…`, which may fail.
    pub fn try_kubectl(&self, args: &[&str]) -> Ran {
        self.cluster.try_kubectl(&[&["-n", &self.name], args].concat())
    }

    /// Creates or changes objects.
    pub fn apply(&self, yaml: &str) -> String {
        self.try_apply(yaml).ok()
    }

    /// Creates or changes objects, if the cluster takes them.
    pub fn try_apply(&self, yaml: &str) -> Ran {
        let args = ["-n", &self.name, "apply", "--server-side", "--force-conflicts", "-f", "-"];
        run_with_input(&variable("KUBECTL"), &args, &self.cluster.environment(), yaml)
    }

    /// One object or a list, as JSON.
    pub fn get(&self, args: &[&str]) -> Value {
        self.cluster.get(&[&["-n", &self.name], args].concat())
    }

    /// One object, if it is there.
    pub fn find(&self, args: &[&str]) -> Option<Value> {
        self.cluster.find(&[&["-n", &self.name], args].concat())
    }

    /// Waits for a condition, as `STATUS/REASON`; its sentence.
    pub fn condition(
        &self,
        object: &str,
        condition: &str,
        wanted: &str,
        within: Duration,
    ) -> String {
        eventually(&format!("{object} {condition}={wanted}"), within, || {
            let object = self.find(&[object]).ok_or("it is not there")?;
            let (seen, message) = condition_of(&object, condition);
            let matches = seen == wanted || seen.split('/').next() == Some(wanted);
            if matches { Ok(message) } else { Err(format!("{seen}: {message}")) }
        })
    }

    /// Runs a command in the app container of a Deployment's pod, or of the pod itself.
    pub fn exec(&self, target: &str, command: &[&str]) -> Ran {
        self.try_kubectl(&[&["exec", target, "-c", "app", "--"], command].concat())
    }

    /// What the app of `target` gets from the gateway on its localhost.
    pub fn curl(&self, target: &str, path: &str) -> Ran {
        let url = format!("http://localhost:7070{path}");
        self.exec(target, &["curl", "-sS", "--fail-with-body", "-m", "60", &url])
    }

    /// Says what is in the namespace, for somebody who looks why a test failed.
    fn tell(&self) {
        for args in [
            &["get", "rps,rpl,pods,secrets,services", "-o", "wide"][..],
            &["describe", "rps,rpl"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "-l", "restpipe.io/role", "-c", "restpipe", "--tail=15", "--prefix"],
        ] {
            let ran = self.try_kubectl(args);
            eprintln!(
                "--- {}: kubectl {}\n{}{}",
                self.name,
                args.join(" "),
                ran.output,
                ran.errors
            );
        }
        if let Ok(directory) = std::env::var("RESTPIPE_KUBE_DIR") {
            tell_of_operators(Path::new(&directory), &self.name);
        }
    }
}

/// What controllers said of a namespace, and what others than the tests asked the API server: of
/// that namespace, and of all, which shows whether they did anything at all. It runs while a test
/// panics, so whatever is missing or cannot be read (unlike for [`Audit`]) is left out.
fn tell_of_operators(directory: &Path, namespace: &str) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let tell = |title: &str, lines: Vec<String>| {
        let last = &lines[lines.len().saturating_sub(LINES_TOLD)..];
        eprintln!("--- {title}\n{}", last.join("\n"));
    };
    for file in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.starts_with("said-") && name.contains("controller") {
            let of = format!("{namespace}/");
            let log = read(&file.path());
            tell(&name, log.lines().filter(|line| line.contains(&of)).map(str::to_owned).collect());
        }
    }
    let audit = read(&directory.join("audit.log"));
    let events: Vec<Value> =
        audit.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_operators = events.iter().filter(|event| {
        event["user"]["username"] != "admin" && event["objectRef"]["resource"] != "leases"
    });
    let line = |event: &Value| {
        ["requestReceivedTimestamp", "stageTimestamp", "verb", "requestURI"]
            .map(|field| event[field].as_str().unwrap_or_default())
            .join(" ")
    };
    let here = of_operators.clone().filter(|event| event["objectRef"]["namespace"] == namespace);
    tell("asked about this namespace", here.map(line).collect());
    tell("asked about all", of_operators.map(line).collect());
}

/// A condition as `STATUS/REASON`, and its sentence.
pub fn condition_of(object: &Value, condition: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == condition);
    let text = |field: &str| found.and_then(|one| one[field].as_str()).unwrap_or("-").to_owned();
    (format!("{}/{}", text("status"), text("reason")), text("message"))
}
