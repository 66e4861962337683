//! The sidecar's container.

use restpipe_api::{names, pods};
use serde_json::{Value, json};

use super::annotations::{GATEWAY_PORT, PIPE_PORT, Wanted};
use super::pod::Container;
use super::{InjectOptions, Role};

/// User and group of the sidecar: "nonroot" in images without a system.
const USER: u32 = 65532;

/// Where Kubernetes mounts a pod's token. Its admission plugin ServiceAccount runs again after a
/// webhook changed a pod and gives every container the token, unless something is mounted at this
/// path. A sidecar asks Kubernetes for nothing and talks to other machines, so it should not
/// hold what its app may do. Its own identity is mounted here a second time: an emptyDir would
/// need one volume more, and pods with one are left alone by `kubectl drain` and autoscalers.
const TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The container that makes a pod a node.
pub(super) fn sidecar(wanted: &Wanted, options: &InjectOptions) -> Value {
    let role = wanted.node.role;
    let mut container = json!({
        "name": pods::CONTAINER,
        "image": options.image,
        "args": [role.word()],
        // A native sidecar: it starts before the other containers, ends after them, and does not
        // keep a Job from ending.
        "restartPolicy": "Always",
        "env": env(wanted),
        "ports": ports(role),
        "resources": {
            // No limit of CPU: a sidecar that is held back delays its app without a word.
            "requests": {
                "cpu": wanted.cpu_request.as_str(),
                "memory": wanted.memory_request.as_str(),
            },
            "limits": { "memory": wanted.memory_limit.as_str() },
        },
        "securityContext": security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            { "name": pods::VOLUME, "mountPath": pods::NODE_DIRECTORY, "readOnly": true },
            { "name": pods::VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": true },
        ],
        // The gateway listens. It waits for no pipe and no app: either would keep the pod from
        // starting while the other side is away.
        "startupProbe": probe("/live", json!({
            "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 60,
        })),
        // A minute of silence: restarting a sidecar costs all its calls.
        "livenessProbe": probe("/live", json!({
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        })),
    });
    if let Some(policy) = options.pull_policy {
        container["imagePullPolicy"] = policy.to_string().into();
    }
    if role == Role::Server {
        // Takes a server out of its Service. A client has none, and must not take its app out of
        // the app's because the server is away.
        container["readinessProbe"] = probe(
            "/ready",
            json!({
                "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 2,
            }),
        );
    }
    container
}

/// Everything that Pod Security "restricted" asks of a container, whatever the pod says.
fn security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// Whether a sidecar that is there already has what the annotations ask for: a pod that was copied
/// from another, with other annotations, comes with that one's.
pub(super) fn is_set_as(there: Container<'_>, wanted: &Wanted) -> bool {
    let variables = env(wanted);
    let wanted = |name: &str| variables.as_array()?.iter().find(|one| one["name"] == name);
    [GATEWAY, APP, LOG].iter().all(|name| {
        there.env(name).map(|one| &one["value"]) == wanted(name).map(|one| &one["value"])
    })
}

/// Variables of the sidecar that annotations set.
const GATEWAY: &str = "RESTPIPE_GATEWAY";
const APP: &str = "RESTPIPE_APP";
const LOG: &str = "RESTPIPE_LOG";

fn env(wanted: &Wanted) -> Value {
    let gateway = wanted.gateway_port;
    let mut variables = vec![
        json!({
            "name": "RESTPIPE_INSTANCE",
            "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } },
        }),
        // Every address of the pod, of whichever family its cluster has.
        json!({ "name": "RESTPIPE_ADMIN", "value": format!("[::]:{}", names::ADMIN_PORT) }),
        json!({ "name": "RESTPIPE_LOG_FORMAT", "value": "json" }),
        json!({ "name": "RESTPIPE_STATSD", "value": "off" }),
    ];
    if wanted.node.role == Role::Server {
        variables.push(json!({ "name": "RESTPIPE_LISTEN", "value": format!("[::]:{PIPE_PORT}") }));
    }
    if gateway != GATEWAY_PORT {
        let addresses = format!("127.0.0.1:{gateway},[::1]:{gateway}");
        variables.push(json!({ "name": GATEWAY, "value": addresses }));
    }
    if let Some(port) = wanted.app_port {
        let app = format!("http://127.0.0.1:{port}");
        variables.push(json!({ "name": APP, "value": app }));
    }
    if let Some(level) = &wanted.log_level {
        variables.push(json!({ "name": LOG, "value": level }));
    }
    Value::Array(variables)
}

/// Named with our prefix: Services that select a port by name take the first container with it.
fn ports(role: Role) -> Value {
    let mut ports = vec![json!({
        "name": "restpipe-admin", "containerPort": names::ADMIN_PORT, "protocol": "TCP",
    })];
    if role == Role::Server {
        ports.push(json!({
            "name": "restpipe-pipe", "containerPort": PIPE_PORT, "protocol": "TCP",
        }));
    }
    Value::Array(ports)
}

fn probe(path: &str, mut times: Value) -> Value {
    times["httpGet"] = json!({ "path": path, "port": names::ADMIN_PORT });
    times
}
