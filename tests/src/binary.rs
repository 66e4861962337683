//! The binary `restpipe` as processes: run to their end, or started as nodes
//! whose addresses are read from their first log line.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::At;

/// What is waited for comes within this time, or the test fails.
pub const SOON: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`SOON`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    found_within(SOON, what, || condition().then_some(()));
}

/// Waits until `look` finds something.
///
/// # Panics
/// If it does not within `limit`.
pub fn found_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Where the binary is: `RESTPIPE_BIN`, or beside the tests, where it is
/// built if need be.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(set) = std::env::var_os("RESTPIPE_BIN") {
            return set.into();
        }
        let test = std::env::current_exe().expect("this test has a path");
        let deps = test.parent().expect("the test lies in target/PROFILE/deps");
        let beside = deps.parent().expect("target/PROFILE").join("restpipe");
        if !beside.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "restpipe", "--bin", "restpipe"]);
            let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
            assert!(built.success() && beside.exists(), "{} cannot be built", beside.display());
        }
        beside
    })
}

/// The binary with nothing of this test's environment but the way to
/// programs.
pub fn command() -> Command {
    let mut command = Command::new(path());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// The output of a success.
    ///
    /// # Panics
    /// If it failed.
    #[must_use]
    pub fn output(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The one line that a refusal is.
    ///
    /// # Panics
    /// If it ended otherwise, or said more or less.
    #[must_use]
    pub fn refusal(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("restpipe: "), "{self:?}");
        self.stderr.trim_end().to_owned()
    }
}

/// Runs `restpipe` with `args` to its end.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    run_command(command().args(args))
}

/// Runs a command to its end.
///
/// # Panics
/// If it does not end soon.
pub fn run_command(command: &mut Command) -> Ran {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Owned(child.spawn().expect("the binary starts"));
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut text = String::new();
            let read = pipe.map(|mut pipe| pipe.read_to_string(&mut text));
            read.map(|read| read.expect("UTF-8"));
            text
        })
    };
    let stdout = read(child.0.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.0.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = child.wait(&format!("the end of {command:?}"));
    let text = |thread: thread::JoinHandle<String>| thread.join().expect("a reader");
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A process that does not outlive the test.
#[derive(Debug)]
struct Owned(Child);

impl Owned {
    fn wait(&mut self, what: &str) -> ExitStatus {
        found_within(2 * SOON, what, || self.0.try_wait().expect("it can be waited for"))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a node writes to stderr, line by line.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                log.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines there are: where to look for later ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a line that holds all of `words`, from line `from` on.
    ///
    /// # Panics
    /// If there is none soon.
    pub fn line_since(&self, from: usize, words: &[&str]) -> Value {
        let end = Instant::now() + SOON;
        loop {
            let lines = self.lines();
            let holds = |line: &&String| words.iter().all(|word| line.contains(word));
            if let Some(line) = lines.iter().skip(from).find(holds) {
                return serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.clone()));
            }
            assert!(Instant::now() < end, "no line with {words:?} in {lines:#?}");
            thread::sleep(PAUSE);
        }
    }

    /// [`Self::line_since`] the beginning.
    pub fn line(&self, words: &[&str]) -> Value {
        self.line_since(0, words)
    }
}

/// A node about to be started.
#[derive(Debug)]
pub struct Start(Command);

impl Start {
    /// A node of this role and directory on ports that the system chooses.
    /// Flags go over these settings, since they are given as environment.
    pub fn node(role: &str, dir: &Path) -> Self {
        let mut command = command();
        command.arg(role).env("RESTPIPE_DIR", dir);
        for (name, value) in [
            ("RESTPIPE_GATEWAY", "127.0.0.1:0"),
            ("RESTPIPE_ADMIN", "127.0.0.1:0"),
            ("RESTPIPE_LOG_FORMAT", "json"),
            ("RESTPIPE_STATSD", "off"),
        ] {
            command.env(name, value);
        }
        if role == "server" {
            command.env("RESTPIPE_LISTEN", "127.0.0.1:0");
        }
        Self(command)
    }

    /// Gives a flag, `--name value`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.arg(name).arg(value);
        self
    }

    /// Gives a flag without a value.
    #[must_use]
    pub fn switch(mut self, name: &str) -> Self {
        self.0.arg(name);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Leaves a variable out that [`Self::node`] has set.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Has it started by another program, whose first words these are: one
    /// that ends by becoming it. Without words nothing changes.
    #[must_use]
    pub fn within(self, words: &[String]) -> Self {
        let [program, arguments @ ..] = words else { return self };
        let mut command = Command::new(program);
        command.args(arguments).arg(self.0.get_program()).args(self.0.get_args());
        command
            .env_clear()
            .envs(self.0.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self(command)
    }

    /// Starts a node that refuses to.
    pub fn refused(mut self) -> Ran {
        run_command(&mut self.0)
    }

    /// Starts it and waits until it has said where it listens.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(mut self) -> Node {
        let child = self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Owned(child.spawn().expect("the binary starts"));
        let log = Log::default();
        log.follow(child.0.stderr.take().expect("stderr is piped"));
        let first = found_within(SOON, "the node says where it listens", || {
            let ended = child.0.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "the node has ended ({ended:?}): {:#?}", log.lines());
            let lines = log.lines();
            lines.iter().find(|line| line.contains("is running")).cloned()
        });
        let said: Value = serde_json::from_str(&first).expect("a log line in JSON");
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Node {
            child,
            log,
            gateways: text("gateway").split(' ').filter_map(At::parse).collect(),
            admin: text("admin").parse().ok(),
            pipe: text("pipe").strip_prefix("at ").and_then(|pipe| pipe.parse().ok()),
        }
    }
}

/// A node that runs as a process of its own.
#[derive(Debug)]
pub struct Node {
    child: Owned,
    log: Log,
    gateways: Vec<At>,
    admin: Option<SocketAddr>,
    pipe: Option<SocketAddr>,
}

impl Node {
    /// Its first gateway.
    pub fn gateway(&self) -> &At {
        self.gateways.first().expect("a node has a gateway")
    }

    /// All its gateways.
    pub fn gateways(&self) -> &[At] {
        &self.gateways
    }

    /// Its admin port.
    pub fn admin(&self) -> At {
        At::Tcp(self.admin.expect("the admin port is on"))
    }

    /// Where it waits for pipes.
    pub fn pipe(&self) -> SocketAddr {
        self.pipe.expect("a server waits for pipes")
    }

    /// What it logs.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Sends it a signal: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "{name} cannot be sent");
    }

    /// Kills it as the kernel would, and waits for its end.
    pub fn kill(mut self) {
        self.child.0.kill().expect("it runs");
        self.child.0.wait().expect("it can be waited for");
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.0.try_wait().expect("it can be waited for").is_none()
    }

    /// Its exit code, once it ends.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.wait("the end of the node").code()
    }

    /// Its `/status`.
    pub fn status(&self) -> Value {
        crate::http::get(&self.admin(), "/status").json()
    }

    /// Waits until a pipe is up.
    pub fn connected(&self) {
        let has_peer = || self.status()["peers"].as_array().is_some_and(|all| !all.is_empty());
        eventually(&format!("a pipe is up; log: {:#?}", self.log.lines()), has_peer);
    }
}
