//! Two TLS connections joined in memory, and a clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use crate::support::name;

/// The name that every client here asks for.
pub(crate) const SERVER: &str = "hub.shop.servers.restpipe";

/// Time that only moves by hand.
#[derive(Debug)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn at(now: SystemTime) -> Arc<Self> {
        let clock = Arc::new(Self(AtomicU64::new(0)));
        clock.set(now);
        clock
    }

    pub(crate) fn set(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        self.0.store(since.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(since))
    }
}

pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// Who found the fault first, and what the other side then heard.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) client: Option<Error>,
    pub(crate) server: Option<Error>,
}

impl Pair {
    pub(crate) fn connect(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> Result<Self, Box<Failed>> {
        let pinned = name(SERVER).to_server_name().expect("a server's name");
        let mut pair = Self {
            client: ClientConnection::new(client.clone(), pinned).expect("a client"),
            server: ServerConnection::new(server.clone()).expect("a server"),
        };
        let mut failed = Failed { client: None, server: None };
        // TLS 1.3 takes two flights; the rest lets alerts and tickets, if any, arrive.
        for _ in 0..4 {
            let bytes = flight(|out| pair.client.write_tls(out));
            if let Err(error) = feed_server(&mut pair.server, &bytes) {
                failed.server.get_or_insert(error);
            }
            let bytes = flight(|out| pair.server.write_tls(out));
            if let Err(error) = feed_client(&mut pair.client, &bytes) {
                failed.client.get_or_insert(error);
            }
        }
        if failed.client.is_some() || failed.server.is_some() {
            return Err(failed.into());
        }
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        Ok(pair)
    }
}

fn flight(mut write: impl FnMut(&mut Vec<u8>) -> std::io::Result<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while write(&mut bytes).expect("memory") > 0 {}
    bytes
}

pub(crate) fn feed_server(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).expect("memory");
        server.process_new_packets()?;
    }
    Ok(())
}

fn feed_client(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}
