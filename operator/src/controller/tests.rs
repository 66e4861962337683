//! Reconciles as they run, against an API server in memory.

mod api;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use prometheus::Registry;
use restpipe_api::{RestPipeLink, RestPipeServer};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::clients::Clients;
use super::context::{Context, Looks, Pipes};
use super::error::Error;
use super::lease::Gate;
use super::metrics::Metrics;
use super::mirror::Change;
use super::scope::Scope;
use super::triggers::Triggers;
use super::world::World;
use super::written::{Statuses, Versions};
use super::{changes, controllers, events, link, server};
use crate::presence::{Presence, Prober};
use crate::seen::Key;
use api::Api;

const SERVER: &str = "/apis/restpipe.io/v1alpha1/namespaces/shop/restpipeservers/hub";
const LINK: &str = "/apis/restpipe.io/v1alpha1/namespaces/shop/restpipelinks/files";

fn key(name: &str) -> Key {
    Key { namespace: "shop".into(), name: name.into() }
}

/// The server shop/hub and its link shop/files, which nobody has looked at yet.
fn site() -> Api {
    let api = Api::default();
    let mut server = RestPipeServer::new("hub", Default::default());
    server.metadata.namespace = Some("shop".into());
    server.metadata.generation = Some(1);
    api.put(SERVER, &server);
    let mut link = RestPipeLink::new("files", Default::default());
    link.metadata.namespace = Some("shop".into());
    link.metadata.generation = Some(1);
    link.spec.server.name = Some("hub".into());
    api.put(LINK, &link);
    api
}

/// A controller that has just listed everything, and does not lead.
struct Replica {
    context: Arc<Context>,
    registry: Registry,
}

impl Replica {
    fn new(api: &Api) -> Self {
        let (client, registry) = (api.client(), Registry::new());
        let metrics = Metrics::new(&registry).expect("no name twice");
        let (servers, _) = Triggers::new(&[None]);
        let (links, _) = Triggers::new(&[None]);
        let (events, _) = events::queue(client.clone(), "operator-0");
        let context = Context {
            clients: Clients { watching: client.clone(), working: client.clone(), lease: client },
            gate: Arc::new(Gate::new()),
            metrics: Arc::new(metrics),
            events,
            scope: Scope::Cluster,
            namespace: "system".into(),
            ca_spread_time: Duration::ZERO,
            world: World::default(),
            servers,
            links,
            server_backoff: Backoff::default(),
            link_backoff: Backoff::default(),
            server_statuses: Statuses::default(),
            link_statuses: Statuses::default(),
            secret_versions: Versions::default(),
            service_versions: Versions::default(),
            presence: Presence::new(|_| {}, "operator-0".into()),
            prober: Prober::default(),
            looks: Looks::default(),
            pipes: Pipes::default(),
            leftovers: Notify::new(),
            own_secrets: Notify::new(),
        };
        let server: RestPipeServer = api.get(SERVER);
        context.world.set_server(&key("hub"), Some(Arc::new(server)));
        let link: RestPipeLink = api.get(LINK);
        context.world.set_link(&key("files"), Some(Arc::new(link)));
        Self { context: Arc::new(context), registry }
    }

    fn leads(&self) {
        self.context.gate.open_until(Instant::now() + Duration::from_secs(3600));
    }

    async fn looks_at_the_server(&self) -> Result<Action, Error> {
        let server = self.context.world.server(&key("hub")).expect("it is there");
        server::reconcile(server, Arc::clone(&self.context)).await
    }

    async fn looks_at_the_link(&self) -> Result<Action, Error> {
        let link = self.context.world.link(&key("files")).expect("it is there");
        link::reconcile(link, Arc::clone(&self.context)).await
    }

    /// How many links are counted, and whether an end of a client's certificate is shown.
    fn counted(&self) -> (f64, bool) {
        let families = self.registry.gather();
        let samples = |name: &str| {
            let family = families.iter().find(|family| family.name() == name);
            family.map(|family| family.get_metric()).unwrap_or_default()
        };
        let links = samples("restpipe_operator_links");
        let ends = samples("restpipe_operator_certificate_not_after_seconds");
        let of_a_client = ends
            .iter()
            .any(|sample| sample.get_label().iter().any(|label| label.value() == "client"));
        (links.iter().map(|sample| sample.get_gauge().get_value()).sum(), of_a_client)
    }
}

/// The link goes, and the watch shows it.
fn goes(api: &Api, context: &Context) {
    api.remove(LINK);
    let old = context.world.link(&key("files"));
    changes::link_changed(context, Change { key: key("files"), old, new: None });
}

#[tokio::test]
async fn a_controller_that_has_lost_its_lease_tells_no_server_who_may_connect() {
    let api = site();
    let leader = Replica::new(&api);
    leader.leads();
    leader.looks_at_the_server().await.expect("all is written");
    assert_eq!(leader.context.presence.followed(), 1);
    assert!(api.writes().iter().any(|path| path.contains("/secrets")));

    // Of all that is written every write asks for itself: here there is nothing left to write.
    let frozen = Replica::new(&api);
    let error = frozen.looks_at_the_server().await.expect_err("it does not lead");
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(frozen.context.presence.followed(), 0);
    assert!(frozen.context.world.view(&key("hub")).is_none(), "nor are its links told");
    assert_eq!(api.writes(), [""; 0]);

    // Nothing else has kept it from that.
    frozen.leads();
    frozen.looks_at_the_server().await.expect("it leads again");
    assert_eq!(frozen.context.presence.followed(), 1);
    let written = api.writes();
    assert!(!written.iter().any(|path| path.contains("/secrets")), "{written:?}");
}

#[tokio::test]
async fn a_link_that_is_gone_is_counted_no_more_nor_is_its_certificate() {
    let api = site();
    let replica = Replica::new(&api);
    replica.leads();
    replica.looks_at_the_server().await.expect("all is written");
    assert_eq!(replica.counted(), (0.0, false));
    replica.looks_at_the_link().await.expect("all is written");
    assert_eq!(replica.counted(), (1.0, true));
    goes(&api, &replica.context);
    assert_eq!(replica.counted(), (0.0, false));
}

#[tokio::test]
async fn what_changes_between_a_turn_and_its_first_look_is_seen_by_that_look() {
    let api = site();
    let replica = Replica::new(&api);
    replica.leads();
    let context = &replica.context;

    let given = context.world.server(&key("hub"));
    let mut server: RestPipeServer = api.get(SERVER);
    server.metadata.generation = Some(2);
    let new = Some(Arc::new(server));
    let change = Change { key: key("hub"), old: given.clone(), new };
    changes::server_changed(context, change);
    let given = given.expect("it is there");
    server::reconcile(given, Arc::clone(context)).await.expect("all is written");
    let server: RestPipeServer = api.get(SERVER);
    let conditions = server.status.map(|status| status.conditions).unwrap_or_default();
    assert!(!conditions.is_empty());
    assert!(conditions.iter().all(|one| one.observed_generation == Some(2)), "{conditions:#?}");

    let given = context.world.link(&key("files"));
    let mut link: RestPipeLink = api.get(LINK);
    link.metadata.generation = Some(2);
    link.spec.suspend = true;
    let new = Some(Arc::new(link));
    let change = Change { key: key("files"), old: given.clone(), new };
    changes::link_changed(context, change);
    let given = given.expect("it is there");
    link::reconcile(given, Arc::clone(context)).await.expect("all is written");
    let link: RestPipeLink = api.get(LINK);
    let conditions = link.status.map(|status| status.conditions).unwrap_or_default();
    assert!(conditions.iter().any(|one| one.reason == "Suspended"), "{conditions:#?}");
}

#[tokio::test]
async fn of_a_link_that_goes_while_somebody_is_at_work_on_it_nothing_stays() {
    for write in ["/secrets/files-restpipe-link", "/restpipelinks/files/status"] {
        let api = site();
        let replica = Replica::new(&api);
        replica.leads();
        replica.looks_at_the_server().await.expect("all is written");
        let (at, context) = (api.clone(), Arc::clone(&replica.context));
        api.at_write(write, move || goes(&at, &context));
        // Its status may have nobody to be written to.
        let _ = replica.looks_at_the_link().await;
        let context = &replica.context;
        assert!(context.world.link(&key("files")).is_none(), "{write}: it has gone meanwhile");
        assert_eq!(replica.counted(), (0.0, false), "{write}");
        assert_eq!(context.link_statuses.wait(&key("files")), None, "{write}");
        assert!(context.world.link_secrets_of(&key("hub")).is_empty(), "{write}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_looks_at_nobody_any_more_though_some_wait_is_told_so() {
    let replica = Replica::new(&site());
    let context = &replica.context;
    let hour = Duration::from_secs(3600);
    let said = tokio::time::timeout(hour, controllers::stand_still(context)).await;
    assert!(said.is_err(), "nobody waits: {said:?}");

    context.links.ask(&key("files"));
    let asked = tokio::time::Instant::now();
    let goes_on = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            context.links.taken(&key("others"));
        }
    };
    let said = tokio::select! {
        biased;
        said = controllers::stand_still(context) => Some(said),
        () = goes_on => None,
    };
    assert_eq!(said, None, "others are looked at");
    assert!(asked.elapsed() >= hour);

    let asked = tokio::time::Instant::now();
    let said = controllers::stand_still(context).await;
    assert!(said.starts_with("no reconcile of a link has begun for"), "{said}");
    assert!((300..=360).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
}
