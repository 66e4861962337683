//! Types and reasons of conditions. Reasons are part of the API: docs/kubernetes.md says the cure
//! of each.

/// The spec can be followed.
pub const ACCEPTED: &str = "Accepted";

/// The Secret with the identity is there and good.
pub const IDENTITY_ISSUED: &str = "IdentityIssued";

/// Pods with the sidecar are there.
pub const INJECTED: &str = "Injected";

/// At least one pipe is up (links only).
pub const CONNECTED: &str = "Connected";

/// Exactly one pod is the server (servers only).
pub const SINGLE_REPLICA: &str = "SingleReplica";

/// Everything is as it should be.
pub const READY: &str = "Ready";

/// Reasons, by the words that `kubectl` shows.
pub mod reason {
    /// All is well.
    pub const ACCEPTED: &str = "Accepted";
    /// All is well.
    pub const ISSUED: &str = "Issued";
    /// All is well.
    pub const INJECTED: &str = "Injected";
    /// All is well.
    pub const CONNECTED: &str = "Connected";
    /// All is well.
    pub const READY: &str = "Ready";
    /// The API server refuses what the operator makes.
    pub const WRITE_FAILED: &str = "WriteFailed";
    /// All is well.
    pub const SINGLE_REPLICA: &str = "SingleReplica";
    /// The client runs outside this cluster.
    pub const EXPORTED: &str = "Exported";

    /// There is no such server.
    pub const SERVER_NOT_FOUND: &str = "ServerNotFound";
    /// The server does not take links of this namespace.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// An older link has the hostname.
    pub const HOSTNAME_TAKEN: &str = "HostnameTaken";
    /// The whole name of the certificate would be longer than DNS allows.
    pub const NAME_TOO_LONG: &str = "NameTooLong";
    /// The hostname is none that a node can have, such as an IP address.
    pub const HOSTNAME_INVALID: &str = "HostnameInvalid";
    /// The address or name of the external server is none that a node can dial.
    pub const ADDRESS_INVALID: &str = "AddressInvalid";
    /// The server has as many links as its settings can name.
    pub const TOO_MANY_LINKS: &str = "TooManyLinks";
    /// The object is being deleted.
    pub const BEING_DELETED: &str = "BeingDeleted";
    /// A Secret or Service of that name is there and not ours.
    pub const SECRET_CONFLICT: &str = "SecretConflict";
    /// As [`SECRET_CONFLICT`], of a Service.
    pub const SERVICE_CONFLICT: &str = "ServiceConflict";
    /// The named Secret is not there.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The named Secret holds nothing that can be used.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// The CA is not there yet or has ended.
    pub const CA_UNAVAILABLE: &str = "CaUnavailable";
    /// The client outside this cluster has no pipe.
    pub const EXPORT_NOT_CONNECTED: &str = "ExportNotConnected";
    /// A rotation of the CA waits for clients outside this cluster.
    pub const ROTATION_WAITS: &str = "RotationWaits";
    /// A node does not take the newest files of its identity, and goes on with older ones.
    pub const CERT_RELOAD_FAILED: &str = "CertReloadFailed";
    /// The exported certificate ends soon.
    pub const EXPORT_EXPIRING: &str = "ExportExpiring";

    /// No pod carries the annotation.
    pub const NO_PODS: &str = "NoPods";
    /// Pods carry the annotation and have no sidecar.
    pub const NOT_INJECTED: &str = "NotInjected";
    /// More than one pod is the server.
    pub const TOO_MANY_PODS: &str = "TooManyPods";

    /// The link is suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The pods are not running.
    pub const PODS_NOT_RUNNING: &str = "PodsNotRunning";
    /// The server's name cannot be looked up.
    pub const DNS_FAILED: &str = "DnsFailed";
    /// Nobody listens at the server's address.
    pub const CONNECTION_REFUSED: &str = "ConnectionRefused";
    /// The server's address does not answer.
    pub const SERVER_SILENT: &str = "ServerSilent";
    /// A certificate has ended.
    pub const CERTIFICATE_EXPIRED: &str = "CertificateExpired";
    /// A certificate is not valid yet: a clock is wrong.
    pub const CLOCK_SKEW: &str = "ClockSkew";
    /// A certificate is of a CA that the other side does not trust.
    pub const UNKNOWN_CA: &str = "UnknownCa";
    /// The server's certificate is for another name.
    pub const NAME_MISMATCH: &str = "NameMismatch";
    /// The certificate was refused for another cause.
    pub const CERTIFICATE_REFUSED: &str = "CertificateRefused";
    /// The server has no pod that answers.
    pub const SERVER_NOT_READY: &str = "ServerNotReady";
    /// The client's status cannot be asked for.
    pub const CLIENT_SILENT: &str = "ClientSilent";
    /// It has not connected, and nobody says why.
    pub const NOT_CONNECTED: &str = "NotConnected";
}
