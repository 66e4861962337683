//! What is asked of a server's pod: the operator's nouns.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use restpipe_pipe::pb::{RequestHead, Verb};
use restpipe_pipe::{CallError, NotSent, PipeHandle, ReadError, RecvBody, Reply, Why};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::snapshot::{MAX_BYTES, Snapshot};
use super::words::{self, plain};
use crate::seen::{Names, Trouble};

/// The noun of the stream of changes.
pub(super) const EVENTS: &str = "-/events";

/// The noun of who is there.
const PEERS: &str = "-/peers";

/// The noun of who may connect.
const NAMES: &str = "-/names";

/// A pod begins to answer within this time; heartbeats tell sooner that it is dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole snapshot is here within this time, turn included: the largest at 10 Mbit/s and a half
/// more.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// A pod has taken names within this time.
const NAMES_TIMEOUT: Duration = Duration::from_secs(10);

/// A pod that says that it goes has gone within this time.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a snapshot that are read without a turn: some 400 pipes.
const SMALL: usize = 256 * 1024;

/// Bytes of any other answer: a number, or a sentence about what is wrong.
const MAX_ANSWER: usize = 4 * 1024;

/// Bytes of a line of the stream that tell whether it is about a change: the longest start that is
/// looked for has 11. Of what follows nothing is kept, however long the line is.
const LINE_START: usize = 16;

/// Bytes of an answer that a sentence repeats.
const MAX_QUOTED: usize = 256;

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The pipe has ended.
    Pipe(Why),
    /// The pipe is up, and there is no answer.
    Silent { noun: &'static str, error: String },
    /// The answer is not what it should be.
    Answer { noun: &'static str, what: String },
}

impl Fault {
    /// A fixed word, and what it means for people.
    pub(super) fn explain(&self, address: SocketAddr) -> (&'static str, Trouble) {
        match self {
            Self::Pipe(why) => {
                let detail = format!("the pipe to the server's pod at {address} has ended: {why}");
                (why.reason(), words::trouble(why.reason(), &detail))
            }
            Self::Silent { noun, error } => {
                let detail = format!(
                    "the server's pod at {address} does not answer {noun}: {error}: look at its sidecar's log"
                );
                ("silent", words::trouble("silent", &detail))
            }
            Self::Answer { noun, what } => ("answer", words::bad_answer(address, noun, what)),
        }
    }
}

/// What a failed call means.
pub(super) async fn fault(pipe: &PipeHandle, noun: &'static str, error: CallError) -> Fault {
    match error {
        CallError::Lost(why) => Fault::Pipe(why),
        CallError::NotSent(NotSent::Ended | NotSent::Draining) => farewell(pipe, noun).await,
        CallError::NotSent(NotSent::TooLarge) => Fault::Answer { noun, what: error.to_string() },
        error => silent(noun, &error),
    }
}

/// Why a pipe ends whose end is near.
pub(super) async fn farewell(pipe: &PipeHandle, noun: &'static str) -> Fault {
    let ended = tokio::time::timeout(FAREWELL_TIMEOUT, pipe.ended()).await;
    ended.map_or_else(|_| silent(noun, &"the pod is stopping"), Fault::Pipe)
}

fn silent(noun: &'static str, error: &impl ToString) -> Fault {
    Fault::Silent { noun, error: error.to_string() }
}

/// Asks, and hands the answer's body over if it is a good one.
async fn ask(
    pipe: &PipeHandle,
    verb: Verb,
    noun: &'static str,
    body: Bytes,
    timeout: Duration,
) -> Result<RecvBody, Fault> {
    let until = Instant::now() + timeout;
    let mime = if body.is_empty() { "" } else { "application/json" };
    let (verb, mime) = (verb.into(), mime.to_owned());
    let head = RequestHead { verb, mime, noun: noun.to_owned(), ..RequestHead::default() };
    let asked = pipe.ask(head, body, until.into_std());
    // The question's own body is taken in time too, or not at all.
    let Reply { head, mut body } = match tokio::time::timeout_at(until, asked).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(fault(pipe, noun, error).await),
        Err(_) => return Err(silent(noun, &CallError::Deadline)),
    };
    if head.status == 200 {
        return Ok(body);
    }
    let said = tokio::time::timeout_at(until, body.read(MAX_ANSWER)).await;
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    let said = plain(String::from_utf8_lossy(&said).trim(), MAX_QUOTED);
    Err(Fault::Answer { noun, what: format!("status {} {said}", head.status) })
}

/// Begins to read the stream of changes.
pub(super) async fn events(pipe: &PipeHandle) -> Result<RecvBody, Fault> {
    ask(pipe, Verb::Get, EVENTS, Bytes::new(), ANSWER_TIMEOUT).await
}

/// The stream of changes, line by line. Its pieces are joined and split on their way: a change may
/// stand behind what means nothing, and in two pieces.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// How the line begins whose end is not here yet; at most [`LINE_START`] bytes.
    begun: Vec<u8>,
}

impl Lines {
    /// Whether a line that ends in this piece is about a change.
    pub(super) fn tell_a_change(&mut self, piece: &[u8]) -> bool {
        let mut found = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_START.saturating_sub(self.begun.len());
            self.begun.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                found |= is_change(&self.begun);
                self.begun.clear();
            }
        }
        found
    }
}

/// Whether a line that begins so is about a change. What is not known is taken for one, which
/// costs a look. Data goes with the line of its event.
fn is_change(line: &[u8]) -> bool {
    let nothing: [&[u8]; 5] = [b"\n", b"data:", b": alive", b": what is", b"event: idle"];
    !nothing.iter().any(|start| line.starts_with(start))
}

/// Who is there.
pub(super) async fn peers(pipe: &PipeHandle, turns: &Semaphore) -> Result<Snapshot, Fault> {
    let whole = async {
        let body = ask(pipe, Verb::Get, PEERS, Bytes::new(), ANSWER_TIMEOUT).await?;
        read(pipe, body, turns).await
    };
    let json = tokio::time::timeout(SNAPSHOT_TIMEOUT, whole).await;
    let json = json.unwrap_or_else(|_| Err(silent(PEERS, &CallError::Deadline)))?;
    Snapshot::parse(&json).map_err(|what| Fault::Answer { noun: PEERS, what })
}

async fn read(pipe: &PipeHandle, mut body: RecvBody, turns: &Semaphore) -> Result<BytesMut, Fault> {
    let (mut all, mut turn) = (BytesMut::new(), None);
    while let Some(chunk) = body.chunk().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Err(fault(pipe, PEERS, error).await),
        };
        let size = all.len() + chunk.len();
        if size > MAX_BYTES {
            let what = format!("its table of pipes is larger than {MAX_BYTES} bytes");
            return Err(Fault::Answer { noun: PEERS, what });
        }
        if size > SMALL && turn.is_none() {
            // Never closed.
            turn = turns.acquire().await.ok();
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Tells who may connect. Returns the version that counts from now on.
pub(super) async fn put_names(pipe: &PipeHandle, names: &Names) -> Result<u64, Fault> {
    #[derive(Deserialize)]
    struct Taken {
        version: u64,
    }

    let wrong = |what: String| Fault::Answer { noun: NAMES, what };
    let json = serde_json::to_vec(names).map_err(|error| wrong(error.to_string()))?;
    let mut body = ask(pipe, Verb::Put, NAMES, json.into(), NAMES_TIMEOUT).await?;
    let answer = match tokio::time::timeout(NAMES_TIMEOUT, body.read(MAX_ANSWER)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(ReadError::Broken(error))) => return Err(fault(pipe, NAMES, error).await),
        Ok(Err(ReadError::TooLarge(error))) => return Err(wrong(error.to_string())),
        Err(_) => return Err(silent(NAMES, &CallError::Deadline)),
    };
    let taken: Taken = serde_json::from_slice(&answer)
        .map_err(|error| wrong(plain(&error.to_string(), MAX_QUOTED)))?;
    Ok(taken.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: &str = "event: idle\ndata: {\"event\":\"idle\",\"peer\":\"fs\"}\n\n";
    const GONE: &str = "event: disconnect\ndata: {\"event\":\"disconnect\",\"peer\":\"fs\"}\n\n";

    fn tells_a_change(pieces: &[&str]) -> bool {
        let mut lines = Lines::default();
        // All of them, for each leaves something behind.
        pieces.iter().filter(|piece| lines.tell_a_change(piece.as_bytes())).count() != 0
    }

    #[test]
    fn what_keeps_a_stream_alive_is_no_change() {
        for nothing in [": alive\n\n", ": what is, then what changes\n\n", IDLE] {
            assert!(!tells_a_change(&[nothing, nothing]), "{nothing}");
        }
        let unknown = "event: something-new\n";
        for change in ["event: connect\n", GONE, ": 3 changes were missed\n\n", unknown] {
            assert!(tells_a_change(&[change]), "{change}");
        }
    }

    #[test]
    fn a_change_is_seen_behind_what_means_nothing_and_in_pieces() {
        for nothing in [": alive\n\n", ": what is, then what changes\n\n", IDLE] {
            let joined = format!("{nothing}{GONE}{nothing}");
            assert!(tells_a_change(&[&joined]), "{joined}");
            for at in 0..joined.len() {
                let (one, other) = joined.split_at(at);
                assert!(tells_a_change(&[one, other]), "{one} | {other}");
            }
            let letters: Vec<String> = joined.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert!(tells_a_change(&letters), "{joined}");
            let quiet = format!("{nothing}{nothing}");
            for at in 0..quiet.len() {
                let (one, other) = quiet.split_at(at);
                assert!(!tells_a_change(&[one, other]), "{one} | {other}");
            }
        }
    }

    #[test]
    fn of_a_line_without_end_only_the_start_is_kept() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(!lines.tell_a_change(&[b'x'; 4096]));
        }
        assert_eq!(lines.begun.len(), LINE_START);
        assert!(lines.tell_a_change(b"\n"), "a line that is not known");
        assert!(lines.begun.is_empty());
    }

    #[test]
    fn a_fault_says_where_it_is_and_what_to_do() {
        let address = SocketAddr::from(([10, 0, 0, 7], 7072));
        for (fault, reason, words) in [
            (Fault::Pipe(Why::Eof), "NotConnected", "has ended: the peer closed the connection"),
            (silent(PEERS, &CallError::Deadline), "ServerSilent", "its sidecar's log"),
            (
                Fault::Answer { noun: PEERS, what: "status 404".into() },
                "NotConnected",
                "does its sidecar have the operator's version?",
            ),
        ] {
            let (_, trouble) = fault.explain(address);
            assert_eq!(trouble.reason, reason);
            assert!(trouble.detail.contains("10.0.0.7") && trouble.detail.contains(words));
        }
    }
}
