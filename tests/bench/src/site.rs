//! What a run stands on: identities, roles and nodes as processes, and where
//! they may run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, LEAF_LIFETIME, LeafRequest, Overwrite, Usage, save_ca,
    write_node,
};

use crate::process::{Process, READY, Says};

/// What the server's certificate says, and the client's.
pub(crate) const SERVER: &str = "hub.bench";
pub(crate) const CLIENT: &str = "edge";

/// Files that a process may have open: thousands of pipes.
const OPEN_FILES: u32 = 8192;

/// Between two looks at a node that is just starting.
const PAUSE: Duration = Duration::from_millis(20);

/// A directory for the run, and the CPUs that it may use.
#[derive(Debug)]
pub(crate) struct Site {
    directory: tempfile::TempDir,
    /// As `taskset -c` has them; nothing where there is no taskset.
    cpus: Option<String>,
}

impl Site {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("restpipe-bench.").tempdir()?;
        let status = std::fs::read_to_string("/proc/self/status").context("/proc is not there")?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let has_taskset = Command::new("taskset").arg("--version").output().is_ok();
        let cpus = allowed.map(|list| list.trim().to_owned()).filter(|_| has_taskset);
        let site = Self { directory, cpus };
        site.issue()?;
        Ok(site)
    }

    fn issue(&self) -> anyhow::Result<()> {
        let now = SystemTime::now();
        let ca = CertificateAuthority::create("restpipe bench", CA_LIFETIME, now)?;
        save_ca(&self.path("ca"), &ca, Overwrite::Refuse)?;
        for (name, usage) in [(SERVER, Usage::Server), (CLIENT, Usage::Client)] {
            let name_of = name.parse()?;
            let leaf =
                ca.issue(LeafRequest { name: name_of, usage, lifetime: LEAF_LIFETIME, now })?;
            let (cert, key) = (leaf.cert_pem.as_bytes(), leaf.key_pem.expose().as_bytes());
            write_node(&self.path(name), cert, key, ca.cert_pem().as_bytes(), Overwrite::Refuse)?;
        }
        Ok(())
    }

    /// A path in the run's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether processes can be put on one CPU.
    pub(crate) fn can_pin(&self) -> bool {
        self.cpus.is_some()
    }

    /// The last of the CPUs: the first one has the most interrupts.
    fn one_cpu(&self) -> Option<&str> {
        self.cpus.as_deref()?.rsplit([',', '-']).next()
    }

    /// `program`, on one CPU if so.
    fn command(&self, program: &Path, pinned: bool) -> Command {
        match self.one_cpu().filter(|_| pinned) {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpu]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Puts running processes on one CPU, or back on all.
    pub(crate) fn pin(&self, processes: &[&Process], pinned: bool) -> anyhow::Result<()> {
        let cpus = if pinned { self.one_cpu() } else { self.cpus.as_deref() };
        let Some(cpus) = cpus else {
            return Ok(());
        };
        for process in processes {
            let id = process.id().to_string();
            let output = Command::new("taskset").args(["-a", "-c", "-p", cpus, &id]).output()?;
            ensure!(output.status.success(), "taskset cannot put process {id} on CPU {cpus}");
        }
        Ok(())
    }

    /// Starts a role of this binary.
    pub(crate) fn role(&self, name: &str, args: &[&str], pinned: bool) -> anyhow::Result<Process> {
        let own = std::env::current_exe().context("this binary has no path")?;
        let mut command = self.command(&own, pinned);
        command.args(["role", name]).args(args);
        Process::start(name, command, Says::Stdout)
    }

    /// Starts a role that listens.
    pub(crate) fn serving(
        &self,
        name: &str,
        args: &[&str],
    ) -> anyhow::Result<(Process, SocketAddr)> {
        let process = self.role(name, args, false)?;
        let line = process.line("ready ", READY)?;
        let address = line.trim_start_matches("ready ").parse().context("an address")?;
        Ok((process, address))
    }

    /// Starts a role that opens connections by the thousand.
    pub(crate) fn many_files(&self, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let own = std::env::current_exe().context("this binary has no path")?;
        let mut command = with_many_files(&own);
        command.args(["role", name]).args(args);
        Process::start(name, command, Says::Stdout)
    }

    /// Starts a node of the server's or the client's identity.
    pub(crate) fn node(&self, binary: &Path, role: &str, flags: &[&str]) -> anyhow::Result<Node> {
        let gateway = free_address()?;
        let name = if role == "server" { SERVER } else { CLIENT };
        let mut command = with_many_files(binary);
        command.arg(role).args(flags);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("RESTPIPE_DIR", self.path(name))
            .env("RESTPIPE_GATEWAY", gateway.to_string())
            .env("RESTPIPE_ADMIN", "off")
            .env("RESTPIPE_STATSD", "off")
            .env("RESTPIPE_LOG_FORMAT", "text")
            .env("RESTPIPE_LOG", "warn");
        let process =
            Process::start(&format!("the {role} {}", binary.display()), command, Says::Stderr)?;
        let node = Node { process, gateway };
        node.listens()?;
        Ok(node)
    }

    /// A server and a client with a pipe between them. `app` is where both
    /// find theirs; the client dials `through` if that is given.
    pub(crate) fn pair(&self, label: &str, binary: &Path, app: &str) -> anyhow::Result<Pair> {
        let listen = free_address()?;
        self.pair_with(label, binary, app, listen, listen)
    }

    pub(crate) fn pair_with(
        &self,
        label: &str,
        binary: &Path,
        app: &str,
        listen: SocketAddr,
        dial: SocketAddr,
    ) -> anyhow::Result<Pair> {
        let server =
            self.node(binary, "server", &["--app", app, "--listen", &listen.to_string()])?;
        let dial = dial.to_string();
        let flags = ["--app", app, "--server", &dial, "--server-name", SERVER];
        let client = self.node(binary, "client", &flags)?;
        let pair = Pair { label: label.to_owned(), server, client, pipe: listen };
        pair.server.answers(&pair.to_client("/b/1"))?;
        pair.client.answers(&pair.to_server("/b/1"))?;
        Ok(pair)
    }
}

/// A node as a process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) gateway: SocketAddr,
}

impl Node {
    fn listens(&self) -> anyhow::Result<()> {
        let end = Instant::now() + READY;
        while TcpStream::connect(self.gateway).is_err() {
            let late = Instant::now() > end;
            ensure!(!late, "a node does not listen; it says: {}", self.process.last_words());
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Waits until a request is answered with 200.
    pub(crate) fn answers(&self, path: &str) -> anyhow::Result<()> {
        let end = Instant::now() + READY;
        loop {
            let status = status_of(self.gateway, path);
            if status == Some(200) {
                return Ok(());
            }
            let said = || self.process.last_words();
            ensure!(Instant::now() < end, "{path} is not answered: {status:?}; {}", said());
            std::thread::sleep(PAUSE);
        }
    }
}

fn status_of(at: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(READY)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).ok()?.get(9..)?.parse().ok()
}

/// Two nodes and the pipe between them.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) label: String,
    pub(crate) server: Node,
    pub(crate) client: Node,
    /// Where the server waits for pipes.
    pub(crate) pipe: SocketAddr,
}

impl Pair {
    /// The path, at the server's gateway, of what the client's app has at `path`.
    pub(crate) fn to_client(&self, path: &str) -> String {
        format!("/client/{CLIENT}{path}")
    }

    /// The path, at the client's gateway, of what the server's app has at `path`.
    pub(crate) fn to_server(&self, path: &str) -> String {
        format!("/server{path}")
    }
}

/// A shell that raises the limit of open files and is `program` then.
fn with_many_files(program: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {OPEN_FILES} 2>/dev/null; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program);
    command
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
