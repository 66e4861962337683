//! A pod whose sidecar runs on this machine: the test is its kubelet.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::{Contents, Namespace, Process, Ran, SETTLE_TIME, Volume, eventually, node_binary, run};

/// The network of pods, which kube-run.sh makes ours.
const PODS: [u8; 2] = [10, 88];

/// An address that no other pod of this test has.
pub fn address_of_a_pod() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // From another place in each process: a socket of the last one may be in its grave still.
    let begin = u16::try_from(std::process::id() % 60_000).unwrap();
    let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)).max(1);
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(PODS[0], PODS[1], high, low)
}

/// A pod with a sidecar.
#[derive(Debug)]
pub struct Sidecar<'a> {
    space: &'a Namespace<'a>,
    /// The pod's name.
    pub name: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    container: Value,
    secret: String,
    volume: Option<Volume>,
    /// The process, while it runs.
    pub process: Option<Process>,
}

impl<'a> Sidecar<'a> {
    /// Has the API server make the pod, with annotations as the fields of a JSON object. Nothing
    /// runs yet.
    pub fn create(space: &'a Namespace<'a>, name: &str, annotations: &Value) -> Self {
        space.apply(
            &json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            })
            .to_string(),
        );
        let pod = space.get(&["pod", name]);
        let container = pod["spec"]["initContainers"][0].clone();
        assert_eq!(container["name"], "restpipe", "{name} has no sidecar: {pod:#}");
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == "restpipe-identity").unwrap();
        let secret = volume["secret"]["secretName"].as_str().unwrap().to_owned();
        let ip = address_of_a_pod();
        Self { space, name: name.to_owned(), ip, container, secret, volume: None, process: None }
    }

    /// Runs the sidecar as its container says, on the pod's own addresses, and tells the API server
    /// that the pod is ready. `change` are variables of its environment.
    pub fn run(&mut self, change: &[(&str, &str)]) {
        let (cluster, namespace) = (self.space.cluster, &self.space.name);
        let files =
            eventually(&format!("the Secret {} is there", self.secret), SETTLE_TIME, || {
                cluster.secret(namespace, &self.secret).ok_or_else(|| "it is not".to_owned())
            });
        let volume = Volume::new(&files);
        let args: Vec<&str> = self.container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        let mut environment: Vec<(String, String)> = Vec::new();
        for variable in self.container["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let value = match variable["value"].as_str() {
                Some(value) => value.to_owned(),
                None => {
                    assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
                    self.name.clone()
                }
            };
            environment.push((name.to_owned(), value));
        }
        // A pod has a network of its own; these have addresses of their own instead.
        let [_, _, high, low] = self.ip.octets();
        let own = [
            ("RESTPIPE_DIR", volume.path().display().to_string()),
            ("RESTPIPE_LISTEN", format!("{}:7072", self.ip)),
            ("RESTPIPE_ADMIN", format!("{}:7071", self.ip)),
            ("RESTPIPE_GATEWAY", format!("127.88.{high}.{low}:7070")),
        ];
        let role = args.first().copied();
        environment.extend(
            own.into_iter()
                .filter(|(name, _)| role == Some("server") || *name != "RESTPIPE_LISTEN")
                .map(|(name, value)| (name.to_owned(), value)),
        );
        environment.extend(change.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let process = Process::start(&self.name, &node_binary(), &args, &environment);
        self.volume = Some(volume);
        eventually(&format!("the sidecar of {} lives", self.name), SETTLE_TIME, || {
            run("curl", &["-sS", "-m", "2", "--fail", &self.admin("/live")], &[]).result()
        });
        self.process = Some(process);
        self.status("Running", true);
    }

    /// Brings the Secret's files to the sidecar, as they are now.
    pub fn sync(&self) {
        self.write(&self.space.cluster.secret(&self.space.name, &self.secret).unwrap());
    }

    /// Brings these files to the sidecar.
    pub fn write(&self, files: &Contents) {
        self.volume.as_ref().unwrap().write(files);
    }

    /// What kubelet would tell the API server.
    pub fn status(&self, phase: &str, ready: bool) {
        let status = json!({"status": {
            "phase": phase,
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        }});
        self.space.kubectl(&[
            "patch",
            "pod",
            &self.name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status.to_string(),
        ]);
    }

    /// Ends the sidecar and the pod.
    pub fn delete(mut self) {
        // In this order, as kubelet does it: a pod without pipe that is not about to go is a trouble.
        self.space.kubectl(&["delete", "pod", &self.name, "--grace-period=0", "--force"]);
        self.process = None;
    }

    /// A path of its admin port.
    pub fn admin(&self, path: &str) -> String {
        format!("http://{}:7071{path}", self.ip)
    }

    /// What the app of the pod gets from its gateway.
    pub fn curl(&self, path: &str) -> Ran {
        let [_, _, high, low] = self.ip.octets();
        let url = format!("http://127.88.{high}.{low}:7070{path}");
        run("curl", &["-sS", "--fail-with-body", "-m", "30", "-H", "Host: localhost", &url], &[])
    }
}
