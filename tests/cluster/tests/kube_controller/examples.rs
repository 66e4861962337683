//! `manifests/examples/`, by the lines in their headers: what somebody tries first. No pod can run
//! here, so that lines which need one are left out; the README's are tried on a real cluster.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use restpipe_cluster_tests::{
    Namespace, Process, SETTLE_TIME, eventually, free_port, node_binary, operator_binary, top,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{secret, shared};

/// What the lines of a header begin with.
const PROGRAMS: [&str; 4] = ["kubectl", "openssl", "restpipe", "restpipe-operator"];

/// What needs a pod that runs.
const OF_PODS: [&str; 3] = ["kubectl wait", "kubectl exec", "kubectl logs"];

/// A directory with all examples, in which lines are run.
struct Examples<'a> {
    space: ManuallyDrop<Namespace<'a>>,
    directory: TempDir,
}

impl<'a> Examples<'a> {
    fn new(cluster: &'a restpipe_cluster_tests::Cluster) -> Self {
        // The examples' own; all that is in it is not for this test to delete.
        let space = ManuallyDrop::new(Namespace { cluster, name: "default".to_owned() });
        let directory = tempfile::tempdir().expect("a directory");
        for file in files() {
            let name = file.file_name().expect("a name");
            std::fs::copy(&file, directory.path().join(name)).expect("a copy");
        }
        Self { space, directory }
    }

    fn run(&self, lines: &[String]) -> String {
        self.space.cluster.lines(self.directory.path(), &lines.join("\n")).ok()
    }

    fn delete(&self, file: &str) {
        let secrets =
            "kubectl delete secret -n default -l app.kubernetes.io/managed-by=restpipe-operator";
        self.run(&[format!("kubectl delete -f {file}"), secrets.to_owned()]);
    }
}

fn files() -> Vec<PathBuf> {
    let directory = top().join("manifests/examples");
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// The commands of a file's header, each with its continuation, and without the word in
/// parentheses that says in which cluster it is run.
fn commands(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(top().join("manifests/examples").join(file));
    let text = text.expect("an example");
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        let Some(line) = line.strip_prefix("   ") else { continue };
        let program = line.split(' ').next().unwrap_or_default();
        if continues {
            let last = commands.last_mut().expect("what it continues");
            *last = format!("{last}\n{line}");
        } else if PROGRAMS.contains(&program) {
            commands.push(line.to_owned());
        } else {
            continue;
        }
        continues = line.ends_with('\\') || line.ends_with('|');
    }
    commands.retain(|line| !OF_PODS.iter().any(|begin| line.starts_with(begin)));
    assert!(!commands.is_empty(), "{file} says how it is used");
    commands
}

/// Those with this word in parentheses, without it.
fn of_place(commands: &[String], place: &str) -> Vec<String> {
    let lines = commands.iter().filter_map(|line| line.strip_suffix(place));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// Has the API server make a pod of each template in a file, as a controller would; whether there
/// was one, and all of them have a sidecar.
fn templates_get_a_sidecar(examples: &Examples<'_>, file: &str) -> usize {
    let said = examples.run(&[format!("kubectl get -o json -f {file}")]);
    let found: Value = serde_json::from_str(&said).expect("JSON");
    let items = found["items"].as_array().cloned().unwrap_or_else(|| vec![found.clone()]);
    let templates = items.iter().filter(|item| item["spec"]["template"].is_object());
    let mut count = 0;
    for item in templates {
        let mut pod = item["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["generateName"] = json!("example-");
        let path = "/api/v1/namespaces/default/pods?dryRun=All";
        let answer = examples.space.cluster.request("POST", path, &pod.to_string());
        assert_eq!(answer.code, 201, "{file}: {}", answer.message());
        let first = &answer.body["spec"]["initContainers"][0]["name"];
        assert_eq!(*first, "restpipe", "{file}: {:#}", answer.body);
        count += 1;
    }
    count
}

#[test]
fn every_example_does_what_its_header_says() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let examples = Examples::new(cluster);
    two_namespaces(&examples);
    // All of them, in the way that finds a field which is none.
    for file in files() {
        let file = file.display().to_string();
        let dry = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", &file];
        cluster.kubectl(&dry);
    }
    hello_and_job(&examples);
    own_ca(&examples);
    from_one_cluster_to_another(&examples);
}

fn two_namespaces(examples: &Examples<'_>) {
    let said = examples.run(&commands("two-namespaces.yaml"));
    assert!(said.contains("restpipelink.restpipe.io/fileserver"), "{said}");
    let cluster = examples.space.cluster;
    for (link, name) in [
        ("fileserver", "storage-files.clients.hub.shop"),
        ("visitor", "visitor.clients.lobby.shop"),
    ] {
        let storage = ManuallyDrop::new(Namespace { cluster, name: "storage".to_owned() });
        storage.condition(&format!("rpl/{link}"), "IdentityIssued", "True", SETTLE_TIME);
        let files = secret(&storage, &format!("{link}-restpipe-link"), |_| true);
        assert_eq!(crate::name_in(&files["tls.crt"]), format!("DNS:{name}.restpipe"));
    }
}

fn hello_and_job(examples: &Examples<'_>) {
    examples.run(&commands("hello.yaml"));
    examples.run(&commands("job.yaml"));
    let space = &examples.space;
    space.condition("rps/hub", "IdentityIssued", "True", SETTLE_TIME);
    for link in ["rpl/fileserver", "rpl/report"] {
        space.condition(link, "IdentityIssued", "True", SETTLE_TIME);
    }
    assert_eq!(templates_get_a_sidecar(examples, "hello.yaml"), 2);
    assert_eq!(templates_get_a_sidecar(examples, "job.yaml"), 1);
    examples.delete("hello.yaml -f job.yaml");
}

fn own_ca(examples: &Examples<'_>) {
    let lines = commands("own-ca.yaml");
    assert!(lines.iter().any(|line| line.starts_with("openssl req -x509")), "{lines:?}");
    examples.run(&lines);
    let space = &examples.space;
    space.condition("rps/vault", "Accepted", "True", SETTLE_TIME);
    space.condition("rps/vault", "IdentityIssued", "True/Issued", SETTLE_TIME);
    let files = secret(space, "vault-restpipe-server", |_| true);
    std::fs::write(examples.directory.path().join("vault.crt"), &files["tls.crt"]).expect("a file");
    examples.run(&["openssl verify -CAfile ca.crt vault.crt".to_owned()]);
    // Renewed at two thirds of what the example says.
    let identity = space.get(&["rps/vault"])["status"]["identity"].clone();
    assert!(identity["renewalTime"].is_string(), "{identity}");
    examples.delete("own-ca.yaml");
    examples.run(&["kubectl delete secret corp-ca".to_owned()]);
}

fn from_one_cluster_to_another(examples: &Examples<'_>) {
    let space = &examples.space;
    let mut there = commands("nodeport.yaml");
    let client = there.iter().position(|line| line.starts_with("restpipe client"));
    let client = there.remove(client.expect("how a client is started"));
    let apply = there.remove(0);
    examples.run(&[apply]);
    space.condition("rps/gate", "IdentityIssued", "True", SETTLE_TIME);
    space.condition("rpl/plant-7", "IdentityIssued", "True", SETTLE_TIME);
    let said = examples.run(&there);
    assert!(said.contains("pipe.shop.example"), "{said}");
    assert_eq!(templates_get_a_sidecar(examples, "nodeport.yaml"), 1);
    starts(examples.directory.path(), &client);

    // The same link's client in another cluster; here it is the same one, from which the server
    // has gone.
    let both = commands("external.yaml");
    examples.run(&of_place(&both, "(there)"));
    examples.delete("nodeport.yaml");
    let here = of_place(&both, "(here)");
    assert!(!here.is_empty(), "{both:?}");
    examples.run(&here);
    space.condition("rpl/plant-7", "IdentityIssued", "True", SETTLE_TIME);
    let link = space.get(&["rpl/plant-7"]);
    assert_eq!(link["status"]["server"], "pipe.shop.example:30072", "{link:#}");
    let files = secret(space, "plant-7-restpipe-link", |_| true);
    assert_eq!(crate::name_in(&files["tls.crt"]), "DNS:plant-7.clients.gate.default.restpipe");
    assert_eq!(templates_get_a_sidecar(examples, "external.yaml"), 1);
    examples.delete("external.yaml --ignore-not-found");
    examples.run(&["kubectl delete rpl plant-7 --ignore-not-found".to_owned()]);
}

/// A plain host's line, of which only the name of its server is nobody's here.
fn starts(directory: &Path, line: &str) {
    let bin = Path::new(&node_binary()).parent().expect("a directory").display().to_string();
    assert_eq!(Path::new(&operator_binary()).parent(), Some(Path::new(&bin)));
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let environment = [
        ("PATH", path),
        ("RESTPIPE_GATEWAY", format!("127.89.0.3:{}", free_port())),
        ("RESTPIPE_ADMIN", "off".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let script = format!("cd {} && exec {line}", directory.display());
    let mut client = Process::start("plain-client", "sh", &["-c", &script], &environment);
    eventually("it dials what the example says", SETTLE_TIME, || {
        let log = client.log();
        if log.contains("pipe.shop.example:30072") { Ok(()) } else { Err(log) }
    });
    assert!(client.runs());
}
