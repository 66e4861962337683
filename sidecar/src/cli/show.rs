//! `restpipe peers` and `restpipe status`.

use std::time::SystemTime;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Deserialize;

use super::node::runtime;
use super::{Output, PeersArgs, StatusArgs, ask, say};
use crate::admin::Status;
use crate::router::PeerView;

#[derive(Deserialize)]
struct Peers {
    peers: Vec<PeerView>,
}

pub(super) fn peers(args: &PeersArgs) -> anyhow::Result<()> {
    let path = match &args.hostname {
        Some(hostname) => format!("/-/peers/{hostname}"),
        None => "/-/peers".to_owned(),
    };
    let answer = runtime()?.block_on(ask::get(&args.url, &path))?;
    if args.output == Output::Json {
        return say(String::from_utf8_lossy(&answer).trim_end());
    }
    let Peers { peers } = serde_json::from_slice(&answer)?;
    if peers.is_empty() { say("nobody is connected") } else { say(peers_table(&peers)) }
}

pub(super) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    let answer = runtime()?.block_on(ask::get(&args.url, "/status"))?;
    if args.output == Output::Json {
        return say(String::from_utf8_lossy(&answer));
    }
    let status: Status = serde_json::from_slice(&answer)?;
    let ready = match &status.not_ready {
        None => "yes".to_owned(),
        Some(why) => format!("no: {why}"),
    };
    let mut table = plain();
    table.add_row(["role", &status.role]);
    table.add_row(["version", &status.version]);
    table.add_row(["instance", &status.instance]);
    table.add_row(["ready", &ready]);
    if let (Some(server), Some(name)) = (&status.server, &status.server_name) {
        table.add_row(["server", &format!("{server} ({name})")]);
    }
    table.add_row(["identity", &status.identity.name]);
    table.add_row([
        "certificate",
        &format!("until {}, from {}", status.identity.not_after, status.identity.issuer),
    ]);
    if let Some(failed) = &status.identity.reload_failed {
        let text = format!("not taken, the one above stays: {}", failed.detail);
        table.add_row(["new files", &text]);
    }
    if let Some(failure) = &status.last_failure {
        table.add_row([
            "last failure",
            &format!("{} ({}, {} ago)", failure.detail, failure.reason, age(&failure.at)),
        ]);
    }
    if status.peers.is_empty() {
        return say(table);
    }
    say(format!("{table}\n\n{}", peers_table(&status.peers)))
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn peers_table(peers: &[PeerView]) -> Table {
    let mut table = plain();
    table.set_header([
        "HOSTNAME",
        "INSTANCE",
        "ADDRESS",
        "STATE",
        "IN-FLIGHT",
        "SERVING",
        "CERT-EXPIRES",
        "AGE",
    ]);
    for peer in peers {
        table.add_row([
            peer.hostname.clone(),
            peer.instance.clone(),
            peer.address.clone(),
            peer.state.clone(),
            peer.in_flight.to_string(),
            peer.serving.to_string(),
            peer.certificate_not_after.clone(),
            age(&peer.since),
        ]);
    }
    table
}

/// How long ago an RFC 3339 time was, roughly.
fn age(at: &str) -> String {
    let Ok(at) = humantime::parse_rfc3339(at) else { return at.to_owned() };
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
