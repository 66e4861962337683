//! An app: a small HTTP/1.1 server on threads that says what a test wants.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::http::At;

/// What the app was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The request line.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The path, with its query.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What the app answers.
#[derive(Clone, Debug)]
pub enum Say {
    /// These bytes, and the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    Last(Vec<u8>),
}

impl Say {
    /// A well-formed answer.
    pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        Self::Bytes(format!("{head}\r\n{body}").into_bytes())
    }

    /// 200 with a JSON body.
    pub fn json(body: &str) -> Self {
        Self::answer("200 OK", &[("content-type", "application/json")], body)
    }
}

type Handler = dyn Fn(&Asked) -> Say + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    stopped: AtomicBool,
}

/// An app that runs until it is dropped.
pub struct App {
    at: At,
    shared: Arc<Shared>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("App").field(&self.at).finish()
    }
}

impl App {
    /// An app on a TCP port.
    pub fn tcp(handler: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = At::Tcp(listener.local_addr().expect("bound"));
        Self::run(at, handler, move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream.try_clone()?) as _, Box::new(stream) as _))
        })
    }

    /// An app on a Unix socket.
    pub fn unix(path: &Path, handler: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self::run(At::Unix(path.to_owned()), handler, move || {
            let (stream, _) = listener.accept()?;
            Ok((Box::new(stream.try_clone()?) as _, Box::new(stream) as _))
        })
    }

    fn run<A>(
        at: At,
        handler: impl Fn(&Asked) -> Say + Send + Sync + 'static,
        mut accept: A,
    ) -> Self
    where
        A: FnMut() -> io::Result<(Box<dyn Read + Send>, Box<dyn Write + Send>)> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let app = shared.clone();
        thread::spawn(move || {
            while let Ok((read, write)) = accept() {
                if app.stopped.load(Ordering::SeqCst) {
                    return;
                }
                app.connections.fetch_add(1, Ordering::SeqCst);
                let app = app.clone();
                // Ends with the connection, which ends with the node.
                thread::spawn(move || {
                    serve(&app, BufReader::new(read), write);
                    app.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { at, shared }
    }

    /// Where it is, for `--app`.
    pub fn url(&self) -> String {
        self.at.url()
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last thing that it was asked.
    ///
    /// # Panics
    /// If it was asked nothing.
    pub fn last(&self) -> Asked {
        self.asked().pop().expect("the app was asked")
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them are closed, by either side.
    pub fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then closes its socket.
        match &self.at {
            At::Tcp(address) => drop(TcpStream::connect(address)),
            At::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

fn serve(app: &Shared, mut read: impl BufRead, mut write: impl Write) {
    while let Ok(Some(asked)) = request(&mut read) {
        app.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        let (bytes, last) = match (app.handler)(&asked) {
            Say::Bytes(bytes) => (bytes, false),
            Say::Last(bytes) => (bytes, true),
        };
        if write.write_all(&bytes).is_err() || last {
            return;
        }
    }
}

fn request(read: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if read.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.iter().skip(1).filter_map(header).collect();
    let line = lines.first().cloned().unwrap_or_default();
    let mut asked = Asked { line, headers, body: Vec::new() };
    if let Some(len) = asked.header("content-length").and_then(|len| len.parse().ok()) {
        asked.body.resize(len, 0);
        read.read_exact(&mut asked.body)?;
    } else if asked.header("transfer-encoding").is_some() {
        asked.body = chunks(read)?;
    }
    Ok(Some(asked))
}

fn chunks(read: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        read.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let before = body.len();
        body.resize(before + size, 0);
        read.read_exact(&mut body[before..])?;
        read.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
