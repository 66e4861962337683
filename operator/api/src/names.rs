//! Names that operator, webhook, chart and nodes share.

/// The port of a server's pipes.
pub const PIPE_PORT: i32 = 7072;

/// The node's admin port: probes, metrics, status.
pub const ADMIN_PORT: u16 = 7071;

/// Who owns the fields that the operator writes.
pub const FIELD_MANAGER: &str = "restpipe-operator";

/// The one name in the operator's own certificates.
pub const OPERATOR_NAME: &str = "operator.restpipe";

/// Label: made by the operator.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "restpipe-operator");

/// Label: belongs to RestPipe.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "restpipe");

/// Longest name of a RestPipeServer.
pub const MAX_SERVER_NAME: usize = 40;

/// Annotation of a server, a link or the webhook's CA Secret: a value that was not there before
/// has the certificate renewed now.
pub const RENEW: &str = "restpipe.io/renew";

/// Annotation of a server: a value that was not there before starts a rotation of its CA.
pub const ROTATE_CA: &str = "restpipe.io/rotate-ca";

/// Annotation of a server: a value that was not there before has the rotation that is under way go
/// on without clients outside of the cluster.
pub const ROTATE_CA_GO_ON: &str = "restpipe.io/rotate-ca-go-on";

/// The Secret of a server.
pub fn server_secret(server: &str) -> String {
    format!("{server}-restpipe-server")
}

/// The Secret of a link.
pub fn link_secret(link: &str) -> String {
    format!("{link}-restpipe-link")
}

/// The Service of a server.
pub fn service(server: &str) -> String {
    format!("{server}-restpipe")
}

/// The headless Service of a server's pods.
pub fn replicas_service(server: &str) -> String {
    format!("{server}-restpipe-replicas")
}

/// The Secret in the operator's namespace that holds a server's CA.
pub fn ca_secret(server_uid: &str) -> String {
    format!("restpipe-ca-{server_uid}")
}

/// The one name in a server's certificate, which its clients demand.
pub fn server_identity(server: &str, namespace: &str) -> String {
    format!("{server}.{namespace}.servers.restpipe")
}

/// What names of a server's clients end in.
pub fn client_suffix(server: &str, namespace: &str) -> String {
    format!("clients.{server}.{namespace}.restpipe")
}

/// The one name in a client's certificate.
pub fn client_identity(hostname: &str, server: &str, namespace: &str) -> String {
    format!("{hostname}.{}", client_suffix(server, namespace))
}

/// Where clients in the same cluster dial a server.
pub fn service_host(server: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", service(server))
}
