//! What a node needs before it runs, or a sentence about what cannot be had.

use std::net::Ipv6Addr;

use anyhow::{Context, anyhow, bail};
use restpipe_config::{BindAddress, End, Role, Settings};
use restpipe_identity::{Credentials, PeerName, Usage};
use tokio::net::TcpListener;
use tracing::info;

use super::Link;
use crate::accept::{self, is_absent};
use crate::creds::CredsStore;
use crate::gateway::{self, BoundGateway, GatewayLimits};
use crate::link::{Admission, Dialer, ListenLimits, Listener, PipeParts};
use crate::names::Names;
use crate::presence::Presence;
use crate::telemetry::Recorder;

pub(super) fn store(
    settings: &Settings,
    credentials: Option<Credentials>,
    presence: &Presence,
    recorder: &Recorder,
) -> anyhow::Result<CredsStore> {
    let (presence, recorder) = (presence.clone(), recorder.clone());
    if let Some(credentials) = credentials {
        return Ok(CredsStore::fixed(credentials, presence, recorder));
    }
    let usage = match settings.role() {
        Role::Server => Usage::Server,
        Role::Client => Usage::Client,
    };
    CredsStore::load(&settings.identity, usage, presence, recorder).with_context(|| {
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
    let addresses = &settings.gateway.addresses;
    let (mut bound, mut absent) = (Vec::new(), Vec::new());
    for address in addresses {
        match gateway::bind(address).await {
            Ok(gateway) => bound.push((gateway, address)),
            Err(error) if is_absent(&error) => absent.push((address, error)),
            Err(error) => return Err(not_bound(address, &error)),
        }
    }
    for (address, error) in absent {
        if !bound.iter().any(|(_, other)| stands_in(other, address)) {
            return Err(not_bound(address, &error));
        }
        info!(%address, "this machine has no IPv6, and the gateway goes without this address: {error}");
    }
    if bound.is_empty() {
        bail!("the gateway has no address: name one by --gateway");
    }
    Ok(bound.into_iter().map(|(gateway, _)| gateway).collect())
}

fn not_bound(address: &BindAddress, error: &std::io::Error) -> anyhow::Error {
    anyhow!(
        "the gateway cannot listen on {address}: {error}: free the address, or name another by --gateway"
    )
}

/// Whether callers of `absent` find the gateway at `other`: many pods have no
/// IPv6, and those who render settings for all of them name both addresses of
/// localhost.
fn stands_in(other: &BindAddress, absent: &BindAddress) -> bool {
    let (BindAddress::Tcp(other), BindAddress::Tcp(absent)) = (other, absent) else { return false };
    absent.ip() == Ipv6Addr::LOCALHOST
        && other.port() == absent.port()
        && (other.ip().to_canonical().is_loopback() || other.ip().is_unspecified())
}

pub(super) fn bind_admin(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = settings.gateway.admin else { return Ok(None) };
    let listener = accept::listen(address).with_context(|| {
        format!("the admin port cannot listen on {address}: name another by --admin, or turn it off with --admin off")
    })?;
    Ok(Some(listener))
}

pub(super) fn gateway_limits(settings: &Settings) -> GatewayLimits {
    let restpipe_config::PipeSettings { wait, timeout, max_timeout, .. } = settings.pipe;
    let (requests, body) = (settings.limits.max_requests, settings.limits.max_body);
    GatewayLimits { wait, timeout, max_timeout, requests, body }
}

pub(super) fn link(settings: &Settings, parts: PipeParts, names: Names) -> anyhow::Result<Link> {
    match &settings.pipe.end {
        End::Dial { server, server_name } => {
            Ok(Link::Dial(Dialer::new(server.clone(), server_name, parts)?))
        }
        End::Listen { listen, client_suffix, operator_name, .. } => {
            let limits = ListenLimits {
                pipes: settings.limits.max_pipes,
                handshakes: settings.limits.max_handshakes,
                handshakes_per_source: settings.limits.max_handshakes_per_source,
            };
            let operator_name =
                operator_name.as_ref().map(|name| PeerName::parse(name.as_str())).transpose();
            let admission = Admission {
                client_suffix: client_suffix.clone(),
                operator_name: operator_name
                    .context("--operator-name cannot be in a certificate")?,
            };
            let listener = Listener::bind(*listen, admission, limits, parts, names).with_context(|| {
                format!("the pipe listener cannot listen on {listen}: free the address, or name another by --listen")
            })?;
            Ok(Link::Listen(listener))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ipv6_loopback_is_no_loss_where_another_loopback_has_its_port() {
        let address = |text: &str| text.parse::<BindAddress>().expect("an address");
        let absent = address("[::1]:7070");
        for other in ["127.0.0.1:7070", "127.0.0.2:7070", "0.0.0.0:7070"] {
            assert!(stands_in(&address(other), &absent), "{other}");
        }
        for other in ["127.0.0.1:7071", "10.0.0.1:7070", "unix:/run/gateway.sock"] {
            assert!(!stands_in(&address(other), &absent), "{other}");
        }
        for absent in ["[fd00::1]:7070", "127.0.0.9:7070", "10.0.0.9:7070"] {
            assert!(!stands_in(&address("127.0.0.1:7070"), &address(absent)), "{absent}");
        }
    }
}
