//! What users of RestPipe in Kubernetes write, and what they read: the kinds
//! [`RestPipeServer`] and [`RestPipeLink`], the annotations of pods, and the
//! names that operator, webhook, chart and tests share.
//!
//! The doc comments of the kinds are what `kubectl explain` shows.

pub mod condition;
mod crds;
pub mod link;
pub mod names;
pub mod pods;
pub mod server;
mod shared;

pub use crds::crds;
pub use link::{
    Connection, Export, ExternalServer, LinkIdentity, RestPipeLink, RestPipeLinkSpec,
    RestPipeLinkStatus, ServerRef,
};
pub use server::{
    CaPhase, CaStatus, ClientCounts, Clients, Endpoint, From, Identity, Namespaces, RestPipeServer,
    RestPipeServerSpec, RestPipeServerStatus, Service, ServiceType,
};
pub use shared::{IdentityStatus, MAX_NAMES_LISTED};

/// The API group of the kinds, and the prefix of labels and annotations.
pub const GROUP: &str = "restpipe.io";

/// The version of the kinds.
pub const VERSION: &str = "v1alpha1";
