//! Nothing is written when nothing has changed.

use std::time::{Duration, Instant};

use restpipe_cluster_tests::{Mark, Namespace, Operator, Request, SETTLE_TIME, eventually};

use crate::{audit, issued, link, pair, shared};

/// How many reconciles of servers and of links there were.
fn reconciles(operator: &Operator) -> Result<[u64; 2], String> {
    let controller = operator.controller.as_ref().ok_or("there is no controller")?;
    let metrics = controller.ask("/metrics")?;
    Ok(["server", "link"].map(|kind| {
        metrics
            .lines()
            .filter(|line| {
                line.starts_with("restpipe_operator_reconciles_total{")
                    && line.contains(&format!("\"{kind}\""))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .map(|count| count as u64)
            .sum()
    }))
}

/// What the controller has written since then into a namespace. Its Events tell of what it did, and
/// come when it has done it.
fn written(operator: &Operator, space: &Namespace<'_>, since: Mark) -> Vec<Request> {
    let mut writes = audit().writes_since(since, &operator.release.user("controller"));
    writes.retain(|one| one.object.starts_with(&format!("{}/", space.name)));
    writes
}

/// Waits until the controller writes nothing into the namespace for some time.
pub(crate) fn settled(operator: &Operator, space: &Namespace<'_>) {
    const QUIET: Duration = Duration::from_secs(3);
    let (mut mark, mut since) = (audit().mark(), Instant::now());
    eventually(&format!("{} settles", space.name), SETTLE_TIME, || {
        let writes = written(operator, space, mark);
        if let Some(last) = writes.last() {
            (mark, since) = (audit().mark(), Instant::now());
            return Err(format!("{last:?}"));
        }
        if since.elapsed() >= QUIET { Ok(()) } else { Err("it is quiet for a moment only".into()) }
    });
}

/// Has every server and link of the namespace looked at once more, and waits until it is done.
pub(crate) fn reconciled(operator: &Operator, space: &Namespace<'_>) {
    let before = reconciles(operator).expect("metrics");
    let names = space.kubectl(&["get", "rps,rpl", "-o", "name"]);
    let count = |kind: &str| names.lines().filter(|name| name.starts_with(kind)).count() as u64;
    let wanted = [count("restpipeserver"), count("restpipelink")];
    // An annotation that means nothing to it.
    let stamp = format!("example.com/look=at-{}", before[0] + before[1]);
    space.kubectl(&["annotate", "rps,rpl", "--all", "--overwrite", &stamp]);
    eventually("everything is looked at once more", SETTLE_TIME, || {
        let now = reconciles(operator)?;
        let done = (0..2).all(|kind| now[kind] >= before[kind] + wanted[kind]);
        if done { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
    });
}

#[test]
fn a_look_at_what_is_as_it_should_be_writes_nothing() {
    let operator = shared();
    let space = operator.release.cluster.namespace("quiet");
    let user = operator.release.user("controller");
    space.apply(
        &(pair()
            + &link("taken", "{server: {name: hub}, hostname: files}")
            + &link("lost", "{server: {name: nowhere}}")),
    );
    issued(&space);
    settled(&operator, &space);
    let mark = audit().mark();
    for _ in 0..3 {
        reconciled(&operator, &space);
    }
    settled(&operator, &space);
    let requests = audit().since(mark, &user);
    assert!(
        requests.iter().any(|one| one.verb == "get" && one.object.starts_with("quiet/")),
        "the looks were none: {requests:#?}"
    );
    let writes: Vec<_> =
        requests.iter().filter(|one| one.writes() && one.object.starts_with("quiet/")).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

#[test]
fn the_controller_asks_for_nothing_that_it_may_not_do() {
    let operator = shared();
    let space = operator.release.cluster.namespace("modest");
    let user = operator.release.user("controller");
    let mark = audit().mark();
    space.apply(&pair());
    issued(&space);
    space.kubectl(&["delete", "rpl/files", "rps/hub"]);
    space.apply(&pair());
    issued(&space);
    settled(&operator, &space);
    let requests = audit().since(mark, &user);
    assert!(requests.iter().any(|one| one.writes() && one.object.starts_with("modest/")));
    let refused: Vec<_> = requests.iter().filter(|one| one.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // Neither may it write to anything but the status of what users have made.
    let specs: Vec<_> = requests
        .iter()
        .filter(|one| {
            one.writes() && ["restpipeservers", "restpipelinks"].contains(&one.resource.as_str())
        })
        .collect();
    assert!(specs.is_empty(), "{specs:#?}");
}
