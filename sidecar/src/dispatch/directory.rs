//! A directory of executables: the file `get_time_utc` answers GET of the
//! noun `time/utc`. A noun's own `_` is written `__` in a file's name, so that
//! `time/utc` and `time_utc` stay two.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::event::{Event, EventBody, Exception, Reply};
use crate::handler::HandlerResult;

/// Executables that run at once; more events wait, inside their deadlines.
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
    running: Arc<Semaphore>,
}

/// An executable that has an event.
pub(super) struct Found {
    path: PathBuf,
    running: Arc<Semaphore>,
}

impl Directory {
    /// Handlers in `path`; looked up anew for each event.
    pub fn new(path: PathBuf) -> Self {
        Self { path, running: Arc::new(Semaphore::new(MAX_RUNNING)) }
    }

    pub(super) fn find(&self, event: &Event) -> Option<Found> {
        let path = self.path.join(file_name(event.verb.lower(), &event.noun)?);
        let metadata = std::fs::metadata(&path).ok()?;
        let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
        runs.then(|| Found { path, running: self.running.clone() })
    }
}

/// The file that has a noun; `None` for nouns that no file name can be.
fn file_name(verb: &str, noun: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/');
    noun.chars().all(plain).then(|| format!("{verb}_{}", noun.replace('_', "__").replace('/', "_")))
}

impl Found {
    pub(super) async fn run(self, event: Event) -> HandlerResult {
        let _turn = self.running.acquire().await;
        let mut child = self.spawn(&event).map_err(|error| {
            Exception::new("CannotRun", format!("{}: {error}", self.path.display()))
        })?;
        let stdin = child.stdin.take();
        let feed = tokio::spawn(feed(stdin, event.body));
        let result = finish(&mut child).await;
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

async fn finish(child: &mut Child) -> io::Result<(ExitStatus, Bytes, Vec<u8>)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::join!(read_stdout(stdout), read_tail(stderr));
    let status = match tokio::time::timeout(EXIT_WAIT, child.wait()).await {
        Ok(status) => status?,
        Err(_) => {
            child.kill().await?;
            return Err(io::Error::other("it closed its output and did not exit"));
        }
    };
    Ok((status, stdout?, stderr?))
}

async fn read_stdout(stdout: Option<impl AsyncRead + Unpin>) -> io::Result<Bytes> {
    let mut all = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(MAX_STDOUT as u64 + 1).read_to_end(&mut all).await?;
    }
    if all.len() > MAX_STDOUT {
        return Err(io::Error::other(format!(
            "it wrote more than {MAX_STDOUT} bytes: serve large replies from an app"
        )));
    }
    Ok(all.into())
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

/// JSON, unless the first line is a `Content-Type:` header.
fn to_reply(stdout: Bytes) -> Reply {
    const HEADER: &[u8] = b"content-type:";
    let has_header =
        stdout.get(..HEADER.len()).is_some_and(|start| start.eq_ignore_ascii_case(HEADER));
    let Some(end) = stdout.iter().position(|byte| *byte == b'\n').filter(|_| has_header) else {
        return Reply::ok("application/json", stdout);
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
    Reply::ok(&mime, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_that_differ_name_files_that_differ() {
        assert_eq!(file_name("get", "time/utc").as_deref(), Some("get_time_utc"));
        assert_eq!(file_name("get", "time_utc").as_deref(), Some("get_time__utc"));
        assert_eq!(file_name("get", "time utc"), None);
    }

    #[test]
    fn a_content_type_line_is_taken_off_the_body() {
        let reply = to_reply(Bytes::from_static(b"Content-Type: text/plain\n\nhello\n"));
        assert_eq!(reply.mime, "text/plain");
        let crate::event::ReplyBody::Whole(body) = reply.body else { panic!("whole") };
        assert_eq!(&body[..], b"hello\n");
    }
}
