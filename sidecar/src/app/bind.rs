//! What a node needs before it runs, or a sentence about what cannot be had.

use anyhow::{Context, bail};
use restpipe_config::{End, Role, Settings};
use restpipe_identity::{Credentials, Usage};
use tokio::net::TcpListener;
use tracing::info;

use super::Link;
use crate::creds::CredsStore;
use crate::gateway::{self, BoundGateway, GatewayLimits};
use crate::link::{Dialer, ListenLimits, Listener, PipeParts};
use crate::telemetry::Recorder;

pub(super) fn store(
    settings: &Settings,
    credentials: Option<Credentials>,
    recorder: &Recorder,
) -> anyhow::Result<CredsStore> {
    if let Some(credentials) = credentials {
        return Ok(CredsStore::fixed(credentials, recorder.clone()));
    }
    let usage = match settings.role() {
        Role::Server => Usage::Server,
        Role::Client => Usage::Client,
    };
    CredsStore::load(&settings.identity, usage, recorder.clone()).with_context(|| {
        format!(
            "this node has no identity it can use in {}: make one with `restpipe identity {usage}`, or name its directory by --dir",
            settings.identity.dir.display()
        )
    })
}

/// A handler or a hook that is not there would be noticed only by its event.
pub(super) fn check_paths(settings: &Settings) -> anyhow::Result<()> {
    if let Some(dir) = settings.handlers.directory.as_ref().filter(|dir| !dir.is_dir()) {
        bail!("--handlers {} is no directory: make it, or name another", dir.display());
    }
    let hooks = &settings.hooks;
    for (flag, hook) in [
        ("--on-connect", &hooks.on_connect),
        ("--on-connect-fail", &hooks.on_connect_fail),
        ("--on-disconnect", &hooks.on_disconnect),
        ("--on-idle", &hooks.on_idle),
    ] {
        if let Some(path) = hook.as_ref().filter(|path| !path.is_file()) {
            bail!(
                "{flag} {} is no file: put the executable there, or name another",
                path.display()
            );
        }
    }
    Ok(())
}

pub(super) async fn bind_gateways(settings: &Settings) -> anyhow::Result<Vec<BoundGateway>> {
    let mut bound = Vec::new();
    for address in &settings.gateway.addresses {
        match gateway::bind(address).await {
            Ok(gateway) => bound.push(gateway),
            // Many containers have no IPv6, and nobody asked for this address.
            Err(error) if settings.gateway.by_default && !bound.is_empty() && is_absent(&error) => {
                info!(%address, "the gateway goes without this address: {error}");
            }
            Err(error) => {
                bail!(
                    "the gateway cannot listen on {address}: {error}: free the address, or name another by --gateway"
                );
            }
        }
    }
    if bound.is_empty() {
        bail!("the gateway has no address: name one by --gateway");
    }
    Ok(bound)
}

pub(super) fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, Unsupported};
    // EAFNOSUPPORT has no kind of its own.
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == Some(97)
}

pub(super) async fn bind_admin(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = settings.gateway.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("the admin port cannot listen on {address}: name another by --admin, or turn it off with --admin off")
    })?;
    Ok(Some(listener))
}

pub(super) fn gateway_limits(settings: &Settings) -> GatewayLimits {
    let restpipe_config::PipeSettings { wait, timeout, max_timeout, .. } = settings.pipe;
    let (requests, body) = (settings.limits.max_requests, settings.limits.max_body);
    GatewayLimits { wait, timeout, max_timeout, requests, body }
}

pub(super) fn link(settings: &Settings, parts: PipeParts) -> anyhow::Result<Link> {
    match &settings.pipe.end {
        End::Dial { server, server_name } => {
            Ok(Link::Dial(Dialer::new(server.clone(), server_name, parts)?))
        }
        End::Listen { listen, client_suffix, .. } => {
            let limits = ListenLimits {
                pipes: settings.limits.max_pipes,
                handshakes: settings.limits.max_handshakes,
                handshakes_per_source: settings.limits.max_handshakes_per_source,
            };
            let listener = Listener::bind(*listen, client_suffix.clone(), limits, parts).with_context(|| {
                format!("the pipe listener cannot listen on {listen}: free the address, or name another by --listen")
            })?;
            Ok(Link::Listen(listener))
        }
    }
}
