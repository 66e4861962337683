//! A directory of executables: the file `get_time_utc` answers GET of the
//! noun `time/utc`. A noun's own `_` is written `__` in a file's name, so that
//! `time/utc` and `time_utc` stay two.

mod room;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use self::room::{FIRST_PART, Growing, PART, Rooms, Taken};
use self::turn::{Turn, Turns};
use crate::event::{Event, EventBody, Exception, Reply, StreamError};
use crate::handler::HandlerResult;

/// Executables that run at once, and that one peer has at once; more events
/// wait, inside their deadlines.
const MAX_RUNNING: usize = 64;

/// Bytes of stdout that are a reply. They are held until the exit status is
/// known, since it decides what they are.
const MAX_STDOUT: usize = 1024 * 1024;

/// Bytes of stderr that are kept: its end is where the error stands.
const MAX_STDERR: usize = 4 * 1024;

/// An executable that has closed its stdout ends within this time.
const EXIT_WAIT: Duration = Duration::from_secs(5);

/// A directory of handlers.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    turns: Arc<Turns>,
    rooms: Arc<Rooms>,
}

/// An executable that has an event.
pub(super) struct Found {
    path: PathBuf,
    turns: Arc<Turns>,
    rooms: Arc<Rooms>,
}

impl Directory {
    /// Handlers in `path`; looked up anew for each event.
    pub fn new(path: PathBuf) -> Self {
        Self { path, turns: Arc::default(), rooms: Arc::default() }
    }

    pub(super) fn find(&self, event: &Event) -> Option<Found> {
        let path = self.path.join(file_name(event.verb.lower(), &event.noun)?);
        let metadata = std::fs::metadata(&path).ok()?;
        let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        let (turns, rooms) = (self.turns.clone(), self.rooms.clone());
        runs.then_some(Found { path, turns, rooms })
    }
}

/// The file that has a noun; `None` for nouns that no file name can be.
fn file_name(verb: &str, noun: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    noun.chars().all(plain).then(|| format!("{verb}_{}", noun.replace('_', "__").replace('/', "_")))
}

impl Found {
    pub(super) async fn run(self, event: Event) -> HandlerResult {
        let room = self.rooms.of(&event.peer);
        // Who waits for a place among its peer's has no turn, which is another peer's too.
        let _place = room.place().await;
        let mut turn = self.turns.take().await;
        let mut child = self.spawn(&event).map_err(|error| {
            Exception::new("CannotRun", format!("{}: {error}", self.path.display()))
        })?;
        let stdin = child.stdin.take();
        let feed = tokio::spawn(feed(stdin, event.body));
        let result = finish(&mut child, Growing::new(room.clone()), &mut turn).await;
        feed.abort();
        let (status, stdout, stderr) =
            result.map_err(|error| Exception::new("CannotRun", error.to_string()))?;
        if !status.success() {
            return Err(failed(status, &stderr));
        }
        Ok(to_reply(stdout))
    }

    fn spawn(&self, event: &Event) -> io::Result<Child> {
        Command::new(&self.path)
            .args(&event.args)
            .env("RESTPIPE_FROM", event.peer.as_ref())
            .env("RESTPIPE_VERB", event.verb.as_str())
            .env("RESTPIPE_NOUN", &event.noun)
            .env("RESTPIPE_QUERY", OsStr::new(&event.query))
            .env("CONTENT_TYPE", &event.mime)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Writes the body to stdin. An executable need not read it.
async fn feed(stdin: Option<tokio::process::ChildStdin>, mut body: EventBody) {
    let Some(mut stdin) = stdin else { return };
    while let Some(Ok(chunk)) = body.chunk().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn finish(
    child: &mut Child,
    room: Growing,
    turn: &mut Turn<'_>,
) -> io::Result<(ExitStatus, VecDeque<Bytes>, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = tokio::try_join!(read_stdout(stdout, room, turn), read_tail(stderr));
    let (stdout, stderr) = match read {
        Ok(read) => read,
        Err(error) => {
            // Nobody reads what it writes from here on. It may have ended already.
            let _ = child.kill().await;
            return Err(error);
        }
    };
    let status = match tokio::time::timeout(EXIT_WAIT, child.wait()).await {
        Ok(status) => status?,
        Err(_) => {
            child.kill().await?;
            return Err(io::Error::other("it closed its output and did not exit"));
        }
    };
    Ok((status, stdout, stderr))
}

/// All of stdout, in parts. There is no copy of it that is larger than a part.
async fn read_stdout(
    stdout: Option<impl AsyncRead + Unpin>,
    mut room: Growing,
    turn: &mut Turn<'_>,
) -> io::Result<VecDeque<Bytes>> {
    let Some(mut stdout) = stdout else { return Ok(VecDeque::new()) };
    let mut first = Vec::with_capacity(FIRST_PART);
    let mut ended = fill(&mut stdout, &mut first).await?;
    first.shrink_to_fit();
    let mut len = first.len();
    let mut parts = VecDeque::from([Bytes::from(first)]);
    while !ended {
        let taken = room_for_part(&mut room, turn).await?;
        let mut part = Vec::with_capacity(PART);
        ended = fill(&mut stdout, &mut part).await?;
        len += part.len();
        if len > MAX_STDOUT {
            return Err(io::Error::other(format!(
                "it wrote more than {MAX_STDOUT} bytes: serve large replies from an app"
            )));
        }
        if !part.is_empty() {
            parts.push_back(taken.keep(part));
        }
    }
    Ok(parts)
}

/// Reads until `part` is full, or to the end, and returns whether that came.
async fn fill(from: &mut (impl AsyncRead + Unpin), part: &mut Vec<u8>) -> io::Result<bool> {
    while part.len() < part.capacity() {
        if from.read_buf(part).await? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Room for one more part. An executable that has to wait for it is held up by
/// its own peer alone, and so lends its turn to others.
async fn room_for_part(room: &mut Growing, turn: &mut Turn<'_>) -> io::Result<Taken> {
    if let Some(taken) = room.try_part() {
        return Ok(taken);
    }
    turn.lend();
    let taken = room.part().await?;
    turn.take_back().await;
    Ok(taken)
}

async fn read_tail(stderr: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let (mut tail, mut buf) = (Vec::new(), [0; 1024]);
    let Some(mut stderr) = stderr else { return Ok(tail) };
    loop {
        let got = stderr.read(&mut buf).await?;
        if got == 0 {
            return Ok(tail);
        }
        tail.extend_from_slice(&buf[..got]);
        tail.drain(..tail.len().saturating_sub(MAX_STDERR));
    }
}

fn failed(status: ExitStatus, stderr: &[u8]) -> Exception {
    let stderr = String::from_utf8_lossy(stderr).trim_end().to_owned();
    let last = stderr.lines().last().unwrap_or("it wrote nothing to stderr");
    let message = format!("{last} ({status})");
    Exception { message, class: "HandlerFailed".to_owned(), traceback: stderr }
}

/// What stdout says, with the content type that it begins with.
fn to_reply(mut parts: VecDeque<Bytes>) -> Reply {
    let (mime, first) = split_type(parts.pop_front().unwrap_or_default());
    if parts.is_empty() {
        return Reply::ok(&mime, first);
    }
    parts.push_front(first);
    Reply::stream(&mime, Parts(parts))
}

/// JSON, unless the first line is a `Content-Type:` header. It is looked for
/// in the first part, which none fills.
fn split_type(stdout: Bytes) -> (String, Bytes) {
    const HEADER: &[u8] = b"content-type:";
    let has_header =
        stdout.get(..HEADER.len()).is_some_and(|start| start.eq_ignore_ascii_case(HEADER));
    let Some(end) = stdout.iter().position(|byte| *byte == b'\n').filter(|_| has_header) else {
        return ("application/json".to_owned(), stdout);
    };
    let mime = String::from_utf8_lossy(&stdout[HEADER.len()..end]).trim().to_owned();
    let mut body = stdout.slice(end + 1..);
    // As in CGI, an empty line may follow.
    for empty in [&b"\r\n"[..], b"\n"] {
        if body.starts_with(empty) {
            body = body.slice(empty.len()..);
            break;
        }
    }
    (mime, body)
}

/// An answer of several parts; what the pipe has taken of it is not held any
/// more.
struct Parts(VecDeque<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        Poll::Ready(self.get_mut().0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}
