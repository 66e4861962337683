//! A peer that wants to use up memory or handlers.

use std::collections::HashMap;

use restpipe_pipe::Role;
use restpipe_pipe::pb::{CancelReason, RequestHead};
use restpipe_pipe::session::{Command, Output};
use restpipe_proto::{INITIAL_CREDIT, Kind, MAX_PAYLOAD, head};

use crate::harness::zeros;
use crate::raw::{Raw, cancel, request};

const BOUND: usize = 12 * 1024 * 1024;

/// Handlers that read nothing, stay when stopped, and hold what came.
#[derive(Default)]
struct Hoard {
    held: HashMap<u64, usize>,
    aborted: Vec<u64>,
}

impl Hoard {
    fn take(&mut self, raw: &mut Raw) {
        for output in raw.outputs() {
            match output {
                Output::Request { stream, body, .. } => drop(self.held.insert(stream, body.len())),
                Output::Data { stream, chunk, .. } => {
                    *self.held.get_mut(&stream).expect("it was started") += chunk.len();
                }
                Output::Abort { stream } => self.aborted.push(stream),
                _ => {}
            }
        }
    }

    fn bytes(&self) -> usize {
        self.held.values().sum()
    }
}

fn granted(raw: &mut Raw, credit: &mut HashMap<u64, usize>) {
    for frame in raw.sent() {
        if frame.kind == Kind::Credit {
            *credit.entry(frame.stream).or_default() +=
                head::credit(frame.payload).expect("own") as usize;
        }
    }
}

/// Fills every window there is, cancels, and begins anew on the same slots.
#[test]
fn a_hostile_peer_never_makes_this_side_hold_over_12_mib() {
    let mut raw = Raw::opened(Role::Acceptor);
    let mut hoard = Hoard::default();
    let mut stream = 1;
    for _round in 0..3 {
        let first = stream;
        let mut credit = HashMap::new();
        for _ in 0..300 {
            let head = RequestHead::default();
            let body = vec![0; MAX_PAYLOAD - head::framed_len(&head)];
            raw.feed(Kind::Req, stream, false, request(&head, &body)).expect("taken or refused");
            credit.insert(stream, INITIAL_CREDIT as usize);
            granted(&mut raw, &mut credit);
            stream += 2;
        }
        hoard.take(&mut raw);
        let open: Vec<_> = hoard.held.keys().copied().filter(|open| *open >= first).collect();
        let promised: usize = open.iter().map(|open| credit[open]).sum();
        assert!(hoard.bytes() + promised <= BOUND, "{} and {promised}", hoard.bytes());
        for open in open {
            while credit[&open] > 0 {
                let len = credit[&open].min(MAX_PAYLOAD);
                *credit.get_mut(&open).expect("known") -= len;
                raw.feed(Kind::Data, open, false, zeros(len)).expect("granted");
                hoard.take(&mut raw);
                granted(&mut raw, &mut credit);
                assert!(hoard.bytes() <= BOUND, "{}", hoard.bytes());
            }
            raw.feed(Kind::Cancel, open, false, cancel(CancelReason::CallerGone)).expect("fine");
        }
        hoard.take(&mut raw);
        // Every second handler is gone at last.
        for gone in hoard.aborted.split_off(hoard.aborted.len() / 2) {
            hoard.held.remove(&gone);
            raw.session.on_command(raw.now, Command::HandlerDone { stream: gone });
        }
        assert!(raw.session.held() <= BOUND);
    }
}

#[test]
fn a_flood_of_opened_and_cancelled_streams_starts_no_more_handlers_than_slots() {
    let mut raw = Raw::opened(Role::Acceptor);
    let (mut running, mut most, mut refused) = (0_usize, 0, 0);
    let mut aborted = Vec::new();
    for at in 0..20_000_u64 {
        let stream = 2 * at + 1;
        raw.feed(Kind::Req, stream, true, request(&RequestHead::default(), b"")).expect("fine");
        raw.feed(Kind::Cancel, stream, false, cancel(CancelReason::CallerGone)).expect("fine");
        for output in raw.outputs() {
            match output {
                Output::Request { .. } => running += 1,
                Output::Abort { stream } => aborted.push(stream),
                _ => {}
            }
        }
        most = most.max(running);
        refused += Raw::cancels(&raw.sent()).len();
        // Now and then a stopped handler comes to its end.
        if at % 50 == 0
            && let Some(stream) = aborted.pop()
        {
            running -= 1;
            raw.session.on_command(raw.now, Command::HandlerDone { stream });
        }
    }
    assert_eq!(most, 256);
    assert!(refused > 19_000, "{refused} refused");
    for stream in aborted {
        raw.session.on_command(raw.now, Command::HandlerDone { stream });
    }
    assert!(raw.session.is_idle());
}

#[test]
fn a_peer_with_endless_credit_that_reads_nothing_cannot_queue_over_12_mib_of_replies() {
    let mut raw = Raw::opened(Role::Acceptor);
    let head = RequestHead { reply_credit: u32::MAX, ..RequestHead::default() };
    for at in 0..256_u64 {
        let stream = 2 * at + 1;
        raw.feed(Kind::Req, stream, true, request(&head, b"")).expect("an event");
        let command =
            Command::Reply { stream, head: Default::default(), body: zeros(0), end: false };
        raw.session.on_command(raw.now, command);
    }
    // The heads leave, then the socket takes no more.
    raw.sent();
    let room: usize = raw
        .outputs()
        .iter()
        .map(|output| if let Output::Room { bytes, .. } = output { *bytes } else { 0 })
        .sum();
    assert!(room >= 256 * MAX_PAYLOAD / 2, "every stream goes on: {room}");
    assert!(room <= BOUND, "{room}");
}
