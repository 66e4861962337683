//! What an executable's output becomes.

use http_body_util::BodyExt;

use super::*;
use crate::event::ReplyBody;

#[test]
fn nouns_that_differ_name_files_that_differ() {
    assert_eq!(file_name("get", "time/utc").as_deref(), Some("get_time_utc"));
    assert_eq!(file_name("get", "time_utc").as_deref(), Some("get_time__utc"));
    assert_eq!(file_name("get", "time utc"), None);
}

#[test]
fn a_content_type_line_is_taken_off_the_body() {
    let part = Bytes::from_static(b"Content-Type: text/plain\n\nhello\n");
    let reply = to_reply([part].into());
    assert_eq!(reply.mime, "text/plain");
    let ReplyBody::Whole(body) = reply.body else { panic!("whole") };
    assert_eq!(&body[..], b"hello\n");
}

/// What `peer` gets of an executable that writes `output`.
async fn read(rooms: &Rooms, peer: &str, output: impl AsyncRead + Unpin) -> io::Result<Reply> {
    let turns = Turns::default();
    let mut turn = turns.take().await;
    let room = Growing::new(rooms.of(&peer.into()));
    Ok(to_reply(read_stdout(Some(output), room, &mut turn).await?))
}

async fn body_of(reply: Reply) -> Bytes {
    match reply.body {
        ReplyBody::Whole(body) => body,
        ReplyBody::Stream(body) => body.collect().await.expect("it never fails").to_bytes(),
    }
}

#[tokio::test]
async fn a_long_answer_comes_in_parts_and_says_how_long_it_is() {
    let body = b"0123456789".repeat(20_000);
    let output = [&b"Content-Type: text/plain\r\n\r\n"[..], &body].concat();
    let reply = read(&Rooms::default(), "fs", &output[..]).await.expect("it is read");
    assert_eq!(reply.mime, "text/plain");
    let ReplyBody::Stream(parts) = &reply.body else { panic!("in parts") };
    assert_eq!(parts.size_hint().exact(), Some(200_000));
    assert_eq!(body_of(reply).await, body);
}

#[tokio::test]
async fn an_answer_of_exactly_one_part_or_nothing_is_whole() {
    for len in [0, 1, FIRST_PART] {
        let output = vec![b'x'; len];
        let reply = read(&Rooms::default(), "fs", &output[..]).await.expect("it is read");
        assert!(matches!(reply.body, ReplyBody::Whole(_)), "{len}");
        assert_eq!(body_of(reply).await, output);
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_the_limit_is_refused_and_takes_no_room_afterwards() {
    let (rooms, most) = (Rooms::default(), vec![b'x'; MAX_STDOUT]);
    for _ in 0..20 {
        let error = read(&rooms, "fs", tokio::io::repeat(b'x')).await.expect_err("too much");
        assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    }
    read(&rooms, "fs", &most[..]).await.expect("that much may be");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_no_answers_gets_no_more_large_ones_until_it_does() {
    let (rooms, large, small) = (Rooms::default(), vec![b'x'; MAX_STDOUT], vec![b'x'; 1000]);
    let mut unread = Vec::new();
    let error = loop {
        match read(&rooms, "fs", &large[..]).await {
            Ok(reply) => unread.push(reply),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(unread.len(), 5, "{error}");
    assert!(error.contains("that this peer has not read"), "{error}");
    read(&rooms, "fs", &small[..]).await.expect("small ones need no room");
    read(&rooms, "other", &large[..]).await.expect("another peer has its own");
    let first = unread.swap_remove(0);
    assert_eq!(body_of(first).await.len(), MAX_STDOUT);
    read(&rooms, "fs", &large[..]).await.expect("there is room again");
}
