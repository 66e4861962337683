//! The whole operator, where no pod can run: controller and webhook as processes, with what
//! kubelet and kube-proxy would do for them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Cluster, Part, Proxy, Release, Volume, eventually, free_port};

/// A process of the operator is ready within this time.
const START_TIME: Duration = Duration::from_secs(60);

/// Controller and webhook that run.
#[derive(Debug)]
pub struct Operator {
    /// What they are of.
    pub release: Release,
    /// The controller, if it is there.
    pub controller: Option<Part>,
    /// The webhook's pods.
    pub webhooks: Vec<(Part, SocketAddr)>,
    /// The webhook's Service.
    pub proxy: Proxy,
    /// The webhook's Secret.
    pub volume: Volume,
    started: u32,
}

impl Operator {
    /// Installs the chart and starts both; everything is ready when this returns.
    pub fn start(cluster: &Cluster, name: &str, namespace: &str, values: &[&str]) -> Self {
        let release = Release::install(cluster, name, namespace, values);
        let controller = release.controller(&format!("{}-0", release.part("controller")));
        let tls = format!("{}-tls", release.part("webhook"));
        eventually("the controller makes the webhook's certificate", START_TIME, || {
            cluster.secret(namespace, &tls).map(drop).ok_or_else(|| controller.process.log())
        });
        let configuration = release.part("webhook");
        eventually("the controller tells the API server of it", START_TIME, || {
            let found = cluster.get(&["mutatingwebhookconfiguration", &configuration]);
            let bundle = &found["webhooks"][0]["clientConfig"]["caBundle"];
            if bundle.is_null() { Err(controller.process.log()) } else { Ok(()) }
        });
        let volume = Volume::follow(cluster, namespace, &tls);
        let service = cluster.get(&["-n", namespace, "service", &release.part("webhook")]);
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        let proxy = Proxy::listen(&format!("{address}:443"));
        let controller = Some(controller);
        let mut operator =
            Self { release, controller, webhooks: Vec::new(), proxy, volume, started: 0 };
        operator.add_webhook();
        operator
    }

    /// Starts one more pod of the webhook, and leads to it once it is ready.
    pub fn add_webhook(&mut self) {
        self.started += 1;
        let pod = format!("{}-{}", self.release.part("webhook"), self.started);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let part = self.release.webhook(&pod, &address.to_string(), self.volume.path());
        eventually("the webhook is ready", START_TIME, || part.ask("/ready"));
        self.webhooks.push((part, address));
        self.lead();
    }

    /// Takes the oldest pod of the webhook out of the Service and asks it to end. It serves on for a
    /// while, as long as the value lives.
    pub fn retire_webhook(&mut self) -> Part {
        let (part, _) = self.webhooks.remove(0);
        // In this order and the other way round: nobody promises either.
        part.process.signal("TERM");
        self.lead();
        part
    }

    /// Kills all pods of the webhook.
    pub fn kill_webhooks(&mut self) {
        self.webhooks.clear();
        self.lead();
    }

    fn lead(&self) {
        let addresses: Vec<_> = self.webhooks.iter().map(|(_, address)| *address).collect();
        self.proxy.set(&addresses);
    }

    /// Asks the controller to end, and waits until it has: its lease is free then.
    pub fn stop_controller(&mut self) {
        if let Some(mut part) = self.controller.take() {
            part.process.signal("TERM");
            part.process.ends(START_TIME);
        }
    }

    /// Starts the controller under this name of a pod, and waits until it leads.
    pub fn start_controller(&mut self, pod: &str) {
        self.start_controller_with(pod, &[]);
    }

    /// As [`Self::start_controller`], with further arguments.
    pub fn start_controller_with(&mut self, pod: &str, more: &[&str]) {
        let part = self.release.controller_with(pod, more);
        eventually("the controller is ready", START_TIME, || part.ask("/ready"));
        self.controller = Some(part);
    }
}
