//! statsd, with the original's names.
//!
//! Ticks are counted here and sent as sums once a second: statsd adds them up
//! anyway, and a busy node would send a packet for every third call. Of the
//! timings of one name a second's first few are sent.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use cadence::prelude::*;
use cadence::{BufferedUdpMetricSink, StatsdClient};
use restpipe_config::StatsdAddress;

use crate::event::Verb;

/// How often what was counted is sent.
pub const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Timings of one name that are sent for each flush.
const TIMINGS_PER_FLUSH: u32 = 64;

/// Names of handlers that are told apart; later ones are counted as `other`.
/// Nouns come from callers, so their number is not ours to trust.
const MAX_HANDLERS: usize = 100;

/// Bytes of the longest handler name.
const MAX_NAME: usize = 64;

/// Bytes of one packet: one Ethernet frame.
const PACKET: usize = 1432;

/// What was counted since the last flush.
#[derive(Debug, Default)]
struct Tally {
    ticks: HashMap<String, i64>,
    timings: HashMap<String, (u32, Vec<Duration>)>,
    handlers: std::collections::HashSet<String>,
}

/// The statsd side of the recorder.
#[derive(Debug)]
pub struct Statsd {
    client: StatsdClient,
    counted: Mutex<Tally>,
}

impl Statsd {
    /// Sends to `address`, which is looked up once.
    ///
    /// # Errors
    /// If there is no such host, or no socket.
    pub fn new(address: &StatsdAddress) -> anyhow::Result<Self> {
        let name = address.to_string();
        let target: SocketAddr = name
            .to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .with_context(|| format!("--statsd {name} cannot be looked up: name another host, or turn it off with --statsd off"))?;
        let local = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).context("no socket for statsd")?;
        // A full socket buffer loses a packet; the node never waits for it.
        socket.set_nonblocking(true).context("no socket for statsd")?;
        let sink = BufferedUdpMetricSink::builder().with_capacity(PACKET).build(target, socket)?;
        let client = StatsdClient::builder("", sink).with_error_handler(|_| {}).build();
        Ok(Self { client, counted: Mutex::default() })
    }

    fn counted(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts one.
    pub fn tick(&self, name: &str) {
        self.counted(|counted| counted.tick(name));
    }

    /// Notes a duration.
    pub fn timing(&self, name: &str, took: Duration) {
        self.counted(|counted| counted.timing(name, took));
    }

    /// Counts and times one event of a handler.
    pub fn handler(&self, verb: Verb, noun: &str, took: Duration) {
        self.counted(|counted| {
            let name = counted.handler_name(verb, noun);
            counted.tick(&format!("message.received.handle.{name}.tick"));
            counted.timing(&format!("message.received.handle.{name}.timing"), took);
        });
    }

    /// Sends what was counted; to be called every [`FLUSH_EVERY`].
    pub fn flush(&self) {
        let (ticks, timings) = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::take(&mut counted.ticks), std::mem::take(&mut counted.timings))
        };
        for (name, count) in ticks {
            self.client.count_with_tags(&name, count).send();
        }
        for (name, (_, timings)) in timings {
            for took in timings {
                self.client.time_with_tags(&name, took).send();
            }
        }
        // What cannot be sent is lost, as statsd has it.
        let _ = self.client.flush();
    }
}

impl Tally {
    fn tick(&mut self, name: &str) {
        match self.ticks.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.ticks.insert(name.to_owned(), 1)),
        }
    }

    fn timing(&mut self, name: &str, took: Duration) {
        if !self.timings.contains_key(name) {
            self.timings.insert(name.to_owned(), (0, Vec::new()));
        }
        if let Some((seen, timings)) = self.timings.get_mut(name) {
            *seen += 1;
            if *seen <= TIMINGS_PER_FLUSH {
                timings.push(took);
            }
        }
    }

    fn handler_name(&mut self, verb: Verb, noun: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let mut name: String =
            verb.lower().chars().chain(['_']).chain(noun.chars()).map(plain).collect();
        name.truncate(MAX_NAME);
        if !self.handlers.contains(&name) {
            if self.handlers.len() >= MAX_HANDLERS {
                return "other".to_owned();
            }
            self.handlers.insert(name.clone());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_handlers_are_sanitised_and_bounded_in_number() {
        let mut counted = Tally::default();
        assert_eq!(counted.handler_name(Verb::Get, "time/utc"), "get_time_utc");
        assert_eq!(counted.handler_name(Verb::Put, "a.b:c|d\né"), "put_a_b_c_d__");
        for n in 0..200 {
            counted.handler_name(Verb::Get, &n.to_string());
        }
        assert_eq!(counted.handler_name(Verb::Get, "new"), "other");
        assert_eq!(counted.handler_name(Verb::Get, "time/utc"), "get_time_utc");
    }

    #[test]
    fn what_was_counted_goes_out_in_the_original_s_words() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = server.local_addr().expect("bound").to_string();
        let statsd = Statsd::new(&address.parse().expect("an address")).expect("a client");
        statsd.tick("message.send.tick");
        statsd.tick("message.send.tick");
        statsd.timing("message.send.timing", Duration::from_millis(12));
        statsd.flush();
        let mut packet = [0; PACKET];
        let len = server.recv(&mut packet).expect("a packet");
        let text = String::from_utf8_lossy(&packet[..len]).into_owned();
        assert!(text.contains("message.send.tick:2|c"), "{text}");
        assert!(text.contains("message.send.timing:12|ms"), "{text}");
    }
}
