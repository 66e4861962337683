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

/// What was counted since the last flush. Nothing is allocated for what has been counted before: it
/// is done for every call.
#[derive(Debug, Default)]
struct Tally {
    ticks: HashMap<&'static str, i64>,
    timings: HashMap<&'static str, Timings>,
    handlers: Handlers,
}

/// Durations of one name.
#[derive(Debug, Default)]
struct Timings {
    seen: u32,
    first: Vec<Duration>,
}

/// Events of handlers, by verb and noun; those of too many as one.
#[derive(Debug, Default)]
struct Handlers {
    by_verb: HashMap<Verb, HashMap<String, Handled>>,
    count: usize,
    other: Handled,
}

/// Events of one handler.
#[derive(Debug, Default)]
struct Handled {
    ticks: i64,
    timings: Timings,
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
    pub fn tick(&self, name: &'static str) {
        self.counted(|counted| *counted.ticks.entry(name).or_default() += 1);
    }

    /// Notes a duration.
    pub fn timing(&self, name: &'static str, took: Duration) {
        self.counted(|counted| counted.timings.entry(name).or_default().note(took));
    }

    /// Counts and times one event of a handler.
    pub fn handler(&self, verb: Verb, noun: &str, took: Duration) {
        self.counted(|counted| {
            let handled = counted.handlers.of(verb, noun);
            handled.ticks += 1;
            handled.timings.note(took);
        });
    }

    /// Sends what was counted; to be called every [`FLUSH_EVERY`].
    pub fn flush(&self) {
        let (ticks, timings, handlers) = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let ticks: Vec<_> = counted.ticks.drain().collect();
            let timings: Vec<_> = counted.timings.drain().collect();
            (ticks, timings, counted.handlers.take())
        };
        for (name, count) in ticks {
            self.send_ticks(name, count);
        }
        for (name, timings) in timings {
            self.send_timings(name, timings);
        }
        for (name, handled) in handlers {
            self.send_ticks(&format!("message.received.handle.{name}.tick"), handled.ticks);
            self.send_timings(&format!("message.received.handle.{name}.timing"), handled.timings);
        }
        // What cannot be sent is lost, as statsd has it.
        let _ = self.client.flush();
    }

    fn send_ticks(&self, name: &str, count: i64) {
        self.client.count_with_tags(name, count).send();
    }

    fn send_timings(&self, name: &str, timings: Timings) {
        for took in timings.first {
            self.client.time_with_tags(name, took).send();
        }
    }
}

impl Timings {
    fn note(&mut self, took: Duration) {
        self.seen = self.seen.saturating_add(1);
        if self.seen <= TIMINGS_PER_FLUSH {
            self.first.push(took);
        }
    }
}

impl Handlers {
    /// Where the events of a handler are counted.
    fn of(&mut self, verb: Verb, noun: &str) -> &mut Handled {
        // What a name cannot show tells nothing apart, and would be kept for ever.
        let noun = &noun[..noun.floor_char_boundary(MAX_NAME)];
        let by_noun = self.by_verb.entry(verb).or_default();
        if !by_noun.contains_key(noun) {
            if self.count >= MAX_HANDLERS {
                return &mut self.other;
            }
            self.count += 1;
            by_noun.insert(noun.to_owned(), Handled::default());
        }
        by_noun.get_mut(noun).unwrap_or(&mut self.other)
    }

    /// What was counted, with the handler's name; which handlers there are stays known.
    fn take(&mut self) -> Vec<(String, Handled)> {
        let named = self.by_verb.iter_mut().flat_map(|(verb, by_noun)| {
            by_noun.iter_mut().map(|(noun, handled)| (handler_name(*verb, noun), handled))
        });
        named
            .chain([("other".to_owned(), &mut self.other)])
            .filter(|(_, handled)| handled.ticks > 0)
            .map(|(name, handled)| (name, std::mem::take(handled)))
            .collect()
    }
}

/// The name of a handler, as far as statsd can have it.
fn handler_name(verb: Verb, noun: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    verb.lower().chars().chain(['_']).chain(noun.chars()).map(plain).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_handlers_are_sanitised_and_bounded_in_length() {
        assert_eq!(handler_name(Verb::Get, "time/utc"), "get_time_utc");
        assert_eq!(handler_name(Verb::Put, "a.b:c|d\né"), "put_a_b_c_d__");
        assert_eq!(handler_name(Verb::Get, &"x".repeat(100)).len(), MAX_NAME);
    }

    #[test]
    fn handlers_are_told_apart_up_to_a_number_and_known_for_ever() {
        let mut handlers = Handlers::default();
        handlers.of(Verb::Get, "time/utc").ticks += 1;
        for n in 0..200 {
            handlers.of(Verb::Get, &n.to_string()).ticks += 1;
        }
        handlers.of(Verb::Get, "time/utc").ticks += 1;
        let ticks: HashMap<_, _> =
            handlers.take().into_iter().map(|(name, handled)| (name, handled.ticks)).collect();
        assert_eq!((ticks.len(), ticks["get_time_utc"], ticks["other"]), (101, 2, 101));
        assert!(handlers.take().is_empty(), "it was taken");
        handlers.of(Verb::Get, "new").ticks += 1;
        assert_eq!(handlers.take()[0].0, "other");
        // Two whose names differ where they are cut off, in the middle of a letter, are one.
        let mut handlers = Handlers::default();
        let long = "é".repeat(MAX_NAME);
        handlers.of(Verb::Get, &format!("x{long}1")).ticks += 1;
        handlers.of(Verb::Get, &format!("x{long}2")).ticks += 1;
        assert_eq!(handlers.take().len(), 1);
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
        statsd.handler(Verb::Get, "time", Duration::from_millis(7));
        statsd.flush();
        let len = server.recv(&mut packet).expect("a packet");
        let text = String::from_utf8_lossy(&packet[..len]).into_owned();
        assert!(text.contains("message.received.handle.get_time.tick:1|c"), "{text}");
        assert!(text.contains("message.received.handle.get_time.timing:7|ms"), "{text}");
        assert!(!text.contains("message.send"), "it was sent before: {text}");
    }
}
