//! `restpipe dev`: a server and a client in one process, over real mutual TLS
//! on loopback, with a CA that lives as long as the process.

use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use anyhow::Context;
use clap::Args;
use restpipe_config::{
    AppAddress, BindAddress, List, LogFormat, NodeArgs, OrOff, Role, Settings, TcpAddress,
};
use restpipe_identity::{CA_LIFETIME, CertificateAuthority, Usage};
use tokio_util::sync::CancellationToken;

use super::node::{runtime, stop_signal};
use crate::app::{Extras, Node, throwaway_credentials};
use crate::telemetry::init_log;

/// What the client is called, as in the original's walk-through.
const CLIENT: &str = "localhost";

/// What the server's certificate says.
const SERVER: &str = "server.localhost";

/// Arguments of `restpipe dev`.
#[derive(Args, Debug)]
pub struct DevArgs {
    /// Where the server's gateway listens; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070")]
    server_gateway: SocketAddr,
    /// Where the client's gateway listens; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7080")]
    client_gateway: SocketAddr,
    /// Where the server waits for the pipe; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7072")]
    listen: SocketAddr,
    /// An app that answers the client's requests, for example http://127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    server_app: Option<AppAddress>,
    /// An app that answers the server's requests, for example http://127.0.0.1:8081.
    #[arg(long, value_name = "ADDRESS")]
    client_app: Option<AppAddress>,
    /// What is logged: a level, or a filter such as info,restpipe=debug.
    #[arg(long, env = "RESTPIPE_LOG", value_name = "FILTER", default_value = "warn")]
    log: String,
}

pub(super) fn run(args: DevArgs) -> anyhow::Result<()> {
    runtime()?.block_on(serve(args))
}

async fn serve(args: DevArgs) -> anyhow::Result<()> {
    let ca = CertificateAuthority::create("restpipe dev", CA_LIFETIME, SystemTime::now())?;
    let server = settings(
        Role::Server,
        NodeArgs {
            listen: Some(TcpAddress(args.listen)),
            gateway: Some(List(vec![BindAddress::Tcp(args.server_gateway)])),
            app: args.server_app.clone(),
            ..common(&args)
        },
    )?;
    init_log(&server.telemetry)?;
    let server = bind(server, &ca, SERVER, Usage::Server).await?;
    let pipe = server.pipe_listener().context("a server has a pipe listener")?;

    let client = settings(
        Role::Client,
        NodeArgs {
            server: Some(pipe.to_string().parse()?),
            server_name: Some(SERVER.parse()?),
            gateway: Some(List(vec![BindAddress::Tcp(args.client_gateway)])),
            app: args.client_app.clone(),
            ..common(&args)
        },
    )?;
    let client = bind(client, &ca, CLIENT, Usage::Client).await?;

    let stop = CancellationToken::new();
    let mut changes = server.router().changes();
    let routers = (server.router().clone(), client.router().clone());
    let lines = curl_lines(&server, &client);
    let (mut server, mut client) = (
        tokio::spawn(server.run(stop.clone().cancelled_owned())),
        tokio::spawn(client.run(stop.clone().cancelled_owned())),
    );
    let signal = stop_signal()?;
    tokio::pin!(signal);
    let mut told = false;
    loop {
        if !told && !routers.0.is_empty() && !routers.1.is_empty() {
            told = true;
            println!("{lines}");
        }
        tokio::select! {
            () = &mut signal => break,
            _ = changes.changed(), if !told => tokio::task::yield_now().await,
            () = tokio::time::sleep(std::time::Duration::from_millis(50)), if !told => {}
            ended = &mut server => return ended?,
            ended = &mut client => return ended?,
        }
    }
    // Whoever reads may be gone, as with `| head`.
    let _ = writeln!(
        std::io::stdout(),
        "stopping: running calls are finished first (Ctrl-C again to end at once)"
    );
    stop.cancel();
    client.await??;
    server.await?
}

fn common(args: &DevArgs) -> NodeArgs {
    NodeArgs {
        admin: Some(OrOff::Off),
        log: Some(args.log.clone()),
        log_format: Some(LogFormat::Text),
        ..NodeArgs::default()
    }
}

fn settings(role: Role, args: NodeArgs) -> anyhow::Result<Settings> {
    // Nothing of the environment: this is a demonstration, not a node.
    Ok(Settings::resolve(role, &args, None, &|_| None)?)
}

async fn bind(
    settings: Settings,
    ca: &CertificateAuthority,
    name: &str,
    usage: Usage,
) -> anyhow::Result<Node> {
    let credentials = Some(throwaway_credentials(ca, name, usage)?);
    let role = settings.role();
    Node::bind(settings, Extras { credentials, ..Extras::default() }).await.with_context(|| {
        format!("the {role} of `restpipe dev` cannot start; --server-gateway, --client-gateway and --listen take other ports, such as 127.0.0.1:0")
    })
}

fn curl_lines(server: &Node, client: &Node) -> String {
    let gateway = |node: &Node| node.gateways().next().map(ToString::to_string).unwrap_or_default();
    let (server_gateway, client_gateway) = (gateway(server), gateway(client));
    let pipe = server.pipe_listener().map(|address| address.to_string()).unwrap_or_default();
    format!(
        "
The pipe is up (mutual TLS on {pipe}, throwaway CA).

  the client's gateway   http://{client_gateway}   asks the server
  the server's gateway   http://{server_gateway}   asks the client, which is called {CLIENT}

Try, in another terminal:

  curl http://{client_gateway}/server/time && echo
  curl http://{server_gateway}/client/{CLIENT}/time && echo
  curl http://{client_gateway}/server/cat//hello%20/world && echo
  curl http://{server_gateway}/client/{CLIENT}/cat//hello%20/world && echo
  curl -i http://{client_gateway}/server/nothing
  curl http://{server_gateway}/-/peers

Ctrl-C ends both."
    )
}
