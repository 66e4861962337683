//! A client node inside a program of your own, with handlers in Rust.
//!
//! Make identities and start a server first:
//!
//!     restpipe identity ca
//!     restpipe identity server hub
//!     restpipe identity client thermometer
//!     restpipe server --dir hub
//!
//! Then run this, and ask it from the server:
//!
//!     cargo run --example embed -- --dir thermometer --server localhost --server-name hub --gateway 127.0.0.1:7080 --admin off
//!     curl http://localhost:7070/client/thermometer/temperature//kitchen

use clap::Parser;
use restpipe::telemetry::init_log;
use restpipe::{Event, Exception, Extras, HandlerResult, Node, Registry, Reply, Verb};
use restpipe_config::{NodeFlags, Role, load};

/// The same flags and variables as `restpipe client` has.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    node: NodeFlags,
}

async fn temperature(event: Event) -> HandlerResult {
    let room = event
        .args
        .first()
        .ok_or_else(|| Exception::new("NoRoom", "name a room: temperature//ROOM"))?;
    Ok(Reply::json(
        &serde_json::json!({ "room": room, "celsius": 21.5, "asked_by": event.peer.as_ref() }),
    ))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = load(Role::Client, &Cli::parse().node, &|name| std::env::var(name).ok())?;
    init_log(&settings.telemetry)?;
    let registry = Registry::new().on(Verb::Get, "temperature", temperature);
    let node = Node::bind(settings, Extras { registry, ..Extras::default() }).await?;
    node.run(async {
        // Without a signal handler there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    })
    .await
}
