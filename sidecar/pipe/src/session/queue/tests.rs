//! What waits is sent in its order, and within its bounds.

use bytes::BytesMut;

use super::*;

/// A request whose body is all there.
fn asked(stream: u64, body: impl Into<Bytes>) -> Box<Request> {
    let (head, tail, body) = (Default::default(), Default::default(), body.into());
    Box::new(Request { stream, head, tail, body, end: true, deadline: crate::clock::now() })
}

fn frames(queue: &mut Queue, sent: &mut Vec<Sent>) -> Vec<(Kind, u64, usize)> {
    let (mut batch, mut wire, mut out) = (Batch::default(), BytesMut::new(), Vec::new());
    queue.fill(&mut batch, sent);
    batch.seal();
    batch.segments().iter().for_each(|segment| wire.extend_from_slice(segment));
    while let Some(frame) = Frame::decode(&mut wire).expect("own frames") {
        out.push((frame.kind, frame.stream, frame.payload.len()));
    }
    out
}

/// Streams whose heads have left, with so many bytes queued each.
fn with_bulk(queue: &mut Queue, streams: &[u64], bytes: usize) {
    for stream in streams {
        queue.reply(*stream, Box::default(), Bytes::new(), false, bytes as u64);
    }
    frames(queue, &mut Vec::new());
    for stream in streams {
        assert!(queue.data(*stream, vec![0; bytes].into(), true));
    }
}

#[test]
fn control_goes_before_heads_and_heads_before_bulk() {
    let mut queue = Queue::default();
    with_bulk(&mut queue, &[2], 100_000);
    queue.request(asked(1, Bytes::new()), 0);
    queue.control(Kind::Ping, 0, head::ping_payload(1));
    let order: Vec<_> = frames(&mut queue, &mut Vec::new()).iter().map(|f| f.0).collect();
    assert_eq!(order[..3], [Kind::Ping, Kind::Req, Kind::Data]);
}

#[test]
fn bulk_streams_take_turns_chunk_by_chunk() {
    let mut queue = Queue::default();
    with_bulk(&mut queue, &[2, 4], 30_000);
    let order: Vec<_> = frames(&mut queue, &mut Vec::new()).iter().map(|f| f.1).collect();
    assert_eq!(order, [2, 4, 2, 4]);
}

#[test]
fn heads_that_fill_a_batch_leave_room_for_one_chunk_of_bulk() {
    let mut queue = Queue::default();
    with_bulk(&mut queue, &[2], 40_000);
    for stream in 0..9 {
        queue.request(asked(2 * stream + 1, vec![0; 16_000]), 0);
    }
    let kinds: Vec<_> = frames(&mut queue, &mut Vec::new()).iter().map(|f| f.0).collect();
    assert_eq!(kinds, [Kind::Req, Kind::Req, Kind::Req, Kind::Req, Kind::Req, Kind::Data]);
}

#[test]
fn nothing_is_sent_without_credit_and_the_rest_follows_with_it() {
    let mut queue = Queue::default();
    queue.reply(2, Box::default(), Bytes::new(), false, 10);
    let mut sent = Vec::new();
    frames(&mut queue, &mut sent);
    assert_eq!(sent, [Sent::Room(2, 10)]);
    queue.data(2, vec![0; 10].into(), false);
    assert_eq!(frames(&mut queue, &mut sent), [(Kind::Data, 2, 10)]);
    assert!(queue.is_empty());
    assert_eq!(queue.credit(2, 5), Some(5));
}

#[test]
fn a_body_never_overtakes_its_head() {
    let mut queue = Queue::default();
    for stream in 0..5 {
        queue.reply(2 * stream + 2, Box::default(), vec![0; 16_000].into(), true, 0);
    }
    queue.reply(100, Box::default(), Bytes::new(), false, 1_000);
    queue.data(100, vec![0; 10].into(), true);
    let first = frames(&mut queue, &mut Vec::new());
    assert!(first.iter().all(|f| f.1 != 100));
    let second = frames(&mut queue, &mut Vec::new());
    assert_eq!(second.iter().map(|f| f.0).collect::<Vec<_>>(), [Kind::Rep, Kind::Data]);
}

#[test]
fn a_body_too_large_for_its_head_s_frame_goes_on_behind_it() {
    let mut queue = Queue::default();
    queue.request(asked(1, vec![0; 20_000]), 16 * 1024);
    let sent = frames(&mut queue, &mut Vec::new());
    assert_eq!(sent.iter().map(|f| f.0).collect::<Vec<_>>(), [Kind::Req, Kind::Data]);
    // One byte of length stands before the empty head.
    assert_eq!(sent.iter().map(|f| f.2).sum::<usize>(), 20_000 + 1);
}

#[test]
fn a_forgotten_request_that_waited_is_known_never_to_have_left() {
    let mut queue = Queue::default();
    queue.request(asked(1, Bytes::new()), 0);
    assert!(queue.forget(1));
    queue.request(asked(3, Bytes::new()), 0);
    frames(&mut queue, &mut Vec::new());
    assert!(!queue.forget(3));
}
