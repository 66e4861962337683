//! On two real clusters, with the images that the Dockerfile makes. `tests/run cluster` makes
//! them; cluster A gets RestPipe by the lines of the README, cluster B by the first test that
//! needs it.

mod away;
mod life;
mod outside;
mod pods;
mod readme;
mod release;
mod rotation;

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use restpipe_cluster_tests::{Cluster, Ran, top, variable};

/// The release's namespace.
const SYSTEM: &str = "restpipe-system";

/// Tests that take away what others need (operator, webhook, API server) have a cluster for
/// themselves.
static ALONE: RwLock<()> = RwLock::new(());

/// For tests that leave cluster A's own parts alone.
struct Shared {
    cluster: Cluster,
    _guard: RwLockReadGuard<'static, ()>,
}

/// For tests that do not.
struct Exclusive {
    cluster: Cluster,
    _guard: RwLockWriteGuard<'static, ()>,
}

fn shared() -> Shared {
    let cluster = cluster_a();
    Shared { cluster, _guard: ALONE.read().unwrap_or_else(PoisonError::into_inner) }
}

fn alone() -> Exclusive {
    let cluster = cluster_a();
    Exclusive { cluster, _guard: ALONE.write().unwrap_or_else(PoisonError::into_inner) }
}

/// Cluster A, with RestPipe as the README installs it.
fn cluster_a() -> Cluster {
    static INSTALLED: OnceLock<Result<String, String>> = OnceLock::new();
    let cluster = Cluster::real("A");
    let installed = INSTALLED.get_or_init(|| readme::follow(&cluster).result());
    if let Err(why) = installed {
        panic!("the README's lines failed: {why}");
    }
    cluster
}

/// Cluster B, with RestPipe from the chart.
fn cluster_b() -> Cluster {
    static INSTALLED: OnceLock<String> = OnceLock::new();
    let cluster = Cluster::real("B");
    INSTALLED.get_or_init(|| install(&cluster).ok());
    cluster
}

fn install(cluster: &Cluster) -> Ran {
    let line = "helm install restpipe charts/restpipe --namespace restpipe-system --create-namespace --wait --timeout 3m";
    lines(cluster, line)
}

/// Lines of a shell at the top of the tree, in which `kubectl` and `helm` mean this cluster.
fn lines(cluster: &Cluster, script: &str) -> Ran {
    cluster.lines(&top(), script)
}

/// A server, a link to it, and a Deployment for each whose app container has curl and python3.
/// `more` are further annotations, such as `restpipe.io/app-port: "8080"`.
fn pair(more: &str) -> String {
    format!(
        "{}---\n{}---\n{}---\n{}",
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeServer\nmetadata: {name: hub}\n",
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: files}\nspec: {server: {name: hub}}\n",
        deployment("hub", "server", "hub", more),
        deployment("files", "link", "files", more),
    )
}

/// As [`pair`], with an app in each that says what it was asked and by whom.
fn pair_with_app() -> String {
    let app = r#"import http.server
class App(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  def do_GET(self):
    self.rfile.read(int(self.headers.get("Content-Length", 0)))
    said = (self.path + " " + str(self.headers.get("RestPipe-From"))).encode()
    self.send_response(200)
    self.send_header("Content-Length", str(len(said)))
    self.end_headers()
    self.wfile.write(said)
  do_POST = do_GET
  def log_message(self, *what): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), App).serve_forever()"#;
    let command = serde_json::to_string(&["python3", "-c", app]).expect("it is JSON");
    pair(r#", restpipe.io/app-port: "8080""#)
        .replace(r#"[sh, -c, "trap exit TERM; sleep infinity & wait"]"#, &command)
}

/// A Deployment that is a server or a link.
fn deployment(name: &str, kind: &str, object: &str, more: &str) -> String {
    let image = variable("RESTPIPE_APP_IMAGE");
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{restpipe.io/{kind}: {object}{more}}}
    spec:
      terminationGracePeriodSeconds: 20
      securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: app
        image: {image}
        command: [sh, -c, "trap exit TERM; sleep infinity & wait"]
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"#
    )
}
