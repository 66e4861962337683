//! What is told of a server where something of its plan was not written.

use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, READY};
use restpipe_api::{Endpoint, RestPipeServer, ServiceType, names};

use super::conditions::not_ready;
use super::{ServerPlan, ServerSeen};
use crate::plan::conditions::{Conditions, Failure, Status};
use crate::plan::leaf::{events_without, identity_there};
use crate::plan::service::endpoints;

/// What of a server's plan was not written, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// The Secret `<server>-restpipe-server`.
    pub secret: Option<Failure>,
    /// The Service `<server>-restpipe`.
    pub service: Option<Failure>,
    /// The Service `<server>-restpipe-replicas`.
    pub replicas_service: Option<Failure>,
}

impl ServerPlan {
    /// The plan as it is told where something of it was not written: of that, what is there.
    #[must_use]
    pub fn without(mut self, seen: &ServerSeen<'_>, what: &Unwritten, now: SystemTime) -> Self {
        let services = what.service.iter().chain(&what.replicas_service);
        let secret = what.secret.iter().map(|failure| (IDENTITY_ISSUED, failure));
        let mut failed: Vec<(&'static str, &Failure)> =
            services.map(|failure| (ACCEPTED, failure)).chain(secret).collect();
        if failed.is_empty() {
            return self;
        }
        // Of two Services the one whose trouble does not pass is told of.
        failed.sort_by_key(|(_, failure)| matches!(failure, Failure::Passing));

        let server = seen.server;
        let view = Arc::make_mut(&mut self.view);
        if what.secret.is_some() {
            let name = names::server_secret(&server.name_any());
            self.status.identity = identity_there(seen.secret, &view.uid, &name, false);
        }
        if what.service.is_some() {
            let there = seen.service.and_then(|service| reached(server, service));
            let (port, endpoints) = there.unwrap_or((view.port, Vec::new()));
            view.port = port;
            view.endpoints.clone_from(&endpoints);
            self.status.endpoints = endpoints;
        }
        let before = server.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
        let mut conditions = Conditions::new(before, server.metadata.generation, now);
        conditions.take(&self.status.conditions, &failed);
        self.status.conditions = conditions.finish();
        let ready = self.status.conditions.iter().find(|one| one.type_ == READY);
        if let Some(ready) = ready.filter(|ready| ready.status == Status::False.word()) {
            view.not_ready = Some(not_ready(server, &ready.reason, &ready.message));
        }
        self.events = events_without(self.events, before, &self.status.conditions, &failed);
        self
    }
}

/// Where the server is reached by the Service that is there, whatever its spec says.
fn reached(server: &RestPipeServer, service: &Service) -> Option<(i32, Vec<Endpoint>)> {
    let spec = service.spec.as_ref()?;
    let port = spec.ports.as_ref()?.first()?.port;
    let mut there = server.clone();
    there.spec.service.type_ = match spec.type_.as_deref() {
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        _ => ServiceType::ClusterIP,
    };
    there.spec.service.port = port;
    // Which one it is says the Service.
    there.spec.service.node_port = None;
    Some((port, endpoints(&there, Some(service))))
}
