//! A small HTTP/1.1 caller that sends what a test wants, good or bad.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// An answer that takes longer is taken for none.
const TIMEOUT: Duration = Duration::from_secs(40);

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// At a TCP address.
    Tcp(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl At {
    /// `127.0.0.1:80` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }

    /// As a URL for `--url` and `--app`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

trait Socket: Read + Write + Send {}
impl<T: Read + Write + Send> Socket for T {}

/// One connection.
pub struct Connection {
    socket: BufReader<Box<dyn Socket>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens there.
    pub fn open(at: &At) -> Self {
        Self::try_open(at).expect("somebody listens")
    }

    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn try_open(at: &At) -> io::Result<Self> {
        let socket: Box<dyn Socket> = match at {
            At::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            At::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                Box::new(stream)
            }
        };
        Ok(Self { socket: BufReader::new(socket) })
    }

    /// Sends bytes as they are. The server may have closed meanwhile.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.get_mut().write_all(bytes.as_ref());
        let _ = self.socket.get_mut().flush();
    }

    /// The next line without its end; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let got = self.socket.read_line(&mut line).expect("a line");
        (got > 0).then(|| line.trim_end().to_owned())
    }

    /// The next answer, to a request that was no HEAD.
    ///
    /// # Errors
    /// If there is none, or it breaks off.
    pub fn try_answer(&mut self) -> io::Result<Answer> {
        self.answer_to(false)
    }

    /// The next answer, to a request that was no HEAD.
    ///
    /// # Panics
    /// If there is none, or it breaks off.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The next answer, to HEAD.
    ///
    /// # Panics
    /// If there is none.
    pub fn answer_to_head(&mut self) -> Answer {
        self.answer_to(true).expect("an answer")
    }

    fn answer_to(&mut self, head: bool) -> io::Result<Answer> {
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.socket.read_line(&mut line)? == 0 {
                return Err(eof());
            }
            if line.trim_end().is_empty() {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {lines:?}")))?;
        let header = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.iter().skip(1).filter_map(header).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !(head || status < 200 || status == 204 || status == 304) {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, head: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut line = String::new();
                self.socket.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let before = body.len();
                body.resize(before + size, 0);
                self.socket.read_exact(&mut body[before..])?;
                self.socket.read_line(&mut line)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match head.header("content-length").map(|len| len.parse().map_err(io::Error::other)) {
            Some(len) => {
                body.resize(len?, 0);
                self.socket.read_exact(&mut body)?;
            }
            None => drop(self.socket.read_to_end(&mut body)?),
        }
        Ok(body)
    }

    /// Reads so many bytes of what comes, and throws them away.
    ///
    /// # Errors
    /// If they do not come.
    pub fn skip(&mut self, bytes: usize) -> io::Result<()> {
        self.socket.read_exact(&mut vec![0; bytes])
    }

    /// Whether the server closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.socket.read_to_end(&mut rest);
        rest.is_empty()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        serde_json::from_slice::<Value>(&self.body)
            .ok()
            .and_then(|body| body["code"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Status, outcome and whether it may be sent again: what the contract of
    /// outcomes is about.
    pub fn outcome(&self) -> (u16, &str, &str) {
        let word = |name| self.header(name).unwrap_or("-");
        (self.status, word("x-event-outcome"), word("x-event-retriable"))
    }
}

/// A request about to be sent.
#[derive(Clone, Debug)]
pub struct Ask {
    head: String,
    body: Vec<u8>,
}

impl Ask {
    /// A request; `Host: localhost` is added.
    pub fn new(method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        Self { head, body: Vec::new() }
    }

    /// Adds a header as it is.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Adds a body and its length.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let asked = self.header("Content-Length", &body.len().to_string());
        Self { body, ..asked }
    }

    /// The request's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it over a connection of its own.
    pub fn send(&self, at: &At) -> Answer {
        let mut connection = Connection::open(at);
        connection.send(self.bytes());
        connection.answer()
    }
}

/// GET of a path.
pub fn get(at: &At, path: &str) -> Answer {
    Ask::new("GET", path).send(at)
}
