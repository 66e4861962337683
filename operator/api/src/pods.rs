//! Annotations and labels of pods.

/// Annotation: the pod is a client, by this link of its namespace.
pub const LINK: &str = "restpipe.io/link";

/// Annotation: the pod is this server of its namespace.
pub const SERVER: &str = "restpipe.io/server";

/// Value of the annotations [`LINK`] and [`SERVER`] that names nothing: as if the annotation were
/// not there. No link and no server can have this name.
pub const DISABLED: &str = "disabled";

/// The link or server that `value`, of the annotation [`LINK`] or [`SERVER`], names.
pub fn named(value: &str) -> Option<&str> {
    (value != DISABLED).then_some(value)
}

/// Annotation: the port on which the pod's app answers events.
pub const APP_PORT: &str = "restpipe.io/app-port";

/// Annotation: the gateway's port, if it is not 7070.
pub const GATEWAY_PORT: &str = "restpipe.io/gateway-port";

/// Annotation: the sidecar's log level.
pub const LOG_LEVEL: &str = "restpipe.io/log-level";

/// Annotation: CPU that the sidecar requests.
pub const CPU_REQUEST: &str = "restpipe.io/cpu-request";

/// Annotation: memory that the sidecar requests.
pub const MEMORY_REQUEST: &str = "restpipe.io/memory-request";

/// Annotation: memory that the sidecar may use.
pub const MEMORY_LIMIT: &str = "restpipe.io/memory-limit";

/// Kubernetes' annotation of pods that kubelet shows for what it runs from files: nothing can be
/// added to them.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Annotation that injection writes: the version that injected.
pub const INJECTED: &str = "restpipe.io/injected";

/// Label that injection writes: `server` or `client`. [`LINK`] and [`SERVER`] are labels too then.
pub const ROLE: &str = "restpipe.io/role";

/// Value of [`ROLE`].
pub const ROLE_SERVER: &str = "server";

/// Value of [`ROLE`].
pub const ROLE_CLIENT: &str = "client";

/// The sidecar's container.
pub const CONTAINER: &str = "restpipe";

/// The volume with the node directory.
pub const VOLUME: &str = "restpipe-identity";

/// Where the volume is mounted.
pub const NODE_DIRECTORY: &str = "/etc/restpipe";

/// Environment of app containers: where the gateway is.
pub const URL_VARIABLE: &str = "RESTPIPE_URL";
