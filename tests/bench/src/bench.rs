//! A run: what is started once, and one measurement after another.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::args::{RunArgs, Target};
use crate::case::Case;
use crate::process::{Machine, Process};
use crate::report::Report;
use crate::role::{Found, Window};
use crate::site::{CLIENT, Pair, SERVER, Site, free_address};

/// Beyond its own windows a generator takes this long at most.
const GRACE: Duration = Duration::from_secs(20);

/// A small call's body: 128 bytes.
pub(crate) const SMALL: &str = "/b/128";

/// Everything that measurements share.
pub(crate) struct Bench {
    pub(crate) args: RunArgs,
    pub(crate) site: Site,
    pub(crate) app: Process,
    pub(crate) app_at: SocketAddr,
    pub(crate) echo: Process,
    pub(crate) echo_at: SocketAddr,
    pub(crate) proxy: Process,
    pub(crate) proxy_at: SocketAddr,
    /// A pipe without anything else: the node near the caller, and the one near the app.
    pub(crate) bare: [Process; 2],
    pub(crate) bare_at: SocketAddr,
    /// The node, and the one that it is compared with.
    pub(crate) pairs: Vec<Pair>,
}

/// Where to ask, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) at: SocketAddr,
    pub(crate) path: String,
    pub(crate) connections: u32,
    pub(crate) names: u32,
    pub(crate) rate: Option<u32>,
}

impl Ask {
    /// One connection, as fast as answers come.
    pub(crate) fn one(at: SocketAddr, path: impl Into<String>) -> Self {
        Self { at, path: path.into(), connections: 1, names: 1, rate: None }
    }

    /// The same from so many connections.
    pub(crate) fn by(self, connections: u32) -> Self {
        Self { connections, ..self }
    }
}

/// What processes used while a generator counted.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) found: Found,
    /// Microseconds of CPU a call, of each process that was watched.
    pub(crate) cpu: Vec<f64>,
    /// Context switches a call, likewise.
    pub(crate) switches: Vec<f64>,
    /// Shares of all processors' time in which they had nothing to do, and were others'.
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
}

impl Measured {
    /// Time that a call took of the processors while they were busy with this run; the share of
    /// a second, so with two of them half of what it is in CPU time.
    pub(crate) fn busy(&self) -> f64 {
        (1.0 - self.idle - self.stolen) / self.found.rate()
    }
}

pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut report = Report::new(&args);
    let cases = if args.only.is_empty() { Case::all() } else { args.only.clone() };
    let bench = Bench::start(args)?;
    for case in cases {
        eprintln!("measuring: {}", case.title());
        if let Err(error) = case.run(&bench, &mut report) {
            report.failed(case, &error);
        }
    }
    report.print(bench.args.markdown);
    if let Some(file) = &bench.args.json {
        report.write(file)?;
    }
    let failed = report.failures();
    ensure!(failed == 0, "{failed} measurements could not be made; the table says why");
    Ok(())
}

impl Bench {
    fn start(args: RunArgs) -> anyhow::Result<Self> {
        let site = Site::new()?;
        let socket = site.path("app.sock");
        let listen = args.app.to_string();
        let unix = socket.to_str().context("a path in UTF-8")?;
        let (app, app_at) = site.serving("app", &["--listen", &listen, "--unix", unix])?;
        let server_dir = site.path(SERVER);
        let dir = server_dir.to_str().context("a path in UTF-8")?;
        let (echo, echo_at) = site.serving("echo", &["--dir", dir])?;
        let app_arg = app_at.to_string();
        let (proxy, proxy_at) = site.serving("proxy", &["--app", &app_arg])?;
        let pipe = free_address()?.to_string();
        let (near, bare_at) = site.serving("bare-near", &["--dir", dir, "--listen", &pipe])?;
        let client_dir = site.path(CLIENT);
        let dir = client_dir.to_str().context("a path in UTF-8")?;
        let flags = ["--dir", dir, "--at", &pipe, "--name", SERVER, "--app", &app_arg];
        let (far, _) = site.serving("bare-far", &flags)?;
        let (bare, pairs) = ([near, far], Vec::new());
        let mut bench =
            Self { args, site, app, app_at, echo, echo_at, proxy, proxy_at, bare, bare_at, pairs };
        for (label, binary) in bench.binaries()? {
            let pair = bench.site.pair(&label, &binary, &bench.app_for_nodes())?;
            bench.pairs.push(pair);
        }
        Ok(bench)
    }

    /// The nodes' binaries, with what they are called in the table.
    pub(crate) fn binaries(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let node = self.node()?;
        let mut all = vec![("restpipe".to_owned(), node)];
        all.extend(self.args.vs.iter().map(|vs| ("vs".to_owned(), vs.clone())));
        for (_, binary) in &all {
            if !binary.is_file() {
                bail!("{} is not there: make node", binary.display());
            }
        }
        Ok(all)
    }

    /// The node that is measured.
    pub(crate) fn node(&self) -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe()?;
        Ok(self.args.node.clone().unwrap_or_else(|| own.with_file_name("restpipe")))
    }

    /// The app as nodes are told it.
    pub(crate) fn app_for_nodes(&self) -> String {
        if self.args.app_unix { self.app_by_unix() } else { format!("http://{}", self.app_at) }
    }

    /// The app by its Unix socket.
    pub(crate) fn app_by_unix(&self) -> String {
        format!("unix:{}", self.site.path("app.sock").display())
    }

    /// Rounds of a timed measurement.
    pub(crate) fn rounds(&self) -> u32 {
        self.args.rounds.unwrap_or(if self.args.quick { 3 } else { 5 })
    }

    /// The window of a timed measurement.
    pub(crate) fn window(&self) -> Window {
        let run_ms = if self.args.quick { 400 } else { 1000 };
        Window { warm_ms: 200, run_ms, count: None }
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.args.target.iter()
    }

    /// All processes that take part in every call.
    pub(crate) fn shared(&self) -> Vec<&Process> {
        let nodes = self.pairs.iter().flat_map(|pair| [&pair.server.process, &pair.client.process]);
        let roofs = [&self.app, &self.echo, &self.proxy];
        roofs.into_iter().chain(&self.bare).chain(nodes).collect()
    }

    /// Asks over HTTP, and looks at what `watched` uses meanwhile.
    pub(crate) fn http(
        &self,
        ask: &Ask,
        window: Window,
        pinned: bool,
        watched: &[&Process],
    ) -> anyhow::Result<Measured> {
        let load = self.load(ask, window, pinned)?;
        self.watch(&load, window, watched).with_context(|| format!("{} at {}", ask.path, ask.at))
    }

    /// Starts a generator.
    pub(crate) fn load(&self, ask: &Ask, window: Window, pinned: bool) -> anyhow::Result<Process> {
        let mut args: Vec<String> = Vec::new();
        let mut arg = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        arg("at", ask.at.to_string());
        arg("path", ask.path.clone());
        arg("connections", ask.connections.to_string());
        arg("names", ask.names.to_string());
        if let Some(rate) = ask.rate {
            arg("rate", rate.to_string());
        }
        args.extend(window.flags());
        self.site.role("load", &args.iter().map(String::as_str).collect::<Vec<_>>(), pinned)
    }

    /// Asks the TLS echo.
    pub(crate) fn tls(
        &self,
        in_flight: u32,
        reply: u64,
        window: Window,
        pinned: bool,
    ) -> anyhow::Result<Measured> {
        let dir = self.site.path(CLIENT).display().to_string();
        let mut args: Vec<String> =
            ["--name", SERVER, "--dir", &dir].iter().map(ToString::to_string).collect();
        let mut arg = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        arg("at", self.echo_at.to_string());
        arg("in-flight", in_flight.to_string());
        arg("reply", reply.to_string());
        args.extend(window.flags());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let load = self.site.role("tls-load", &args, pinned)?;
        self.watch(&load, window, &[]).context("the TLS echo")
    }

    pub(crate) fn watch(
        &self,
        load: &Process,
        window: Window,
        watched: &[&Process],
    ) -> anyhow::Result<Measured> {
        let limit = Duration::from_millis(window.warm_ms + window.run_ms) + GRACE;
        let look = || -> anyhow::Result<Vec<(Duration, u64)>> {
            watched.iter().map(|process| Ok((process.cpu()?, process.switches()?))).collect()
        };
        load.line("begin", limit)?;
        let (before, machine) = (look()?, Machine::now()?);
        load.line("end", limit)?;
        let after = look()?;
        let (idle, stolen) = Machine::now()?.since(machine);
        let found: Found = serde_json::from_str(&load.line("{", limit)?)?;
        ensure!(found.calls > 0 || found.bytes > 0, "nothing was answered");
        let calls = found.calls as f64;
        let each = before.iter().zip(&after);
        Ok(Measured {
            found,
            cpu: each.clone().map(|(a, b)| (b.0 - a.0).as_secs_f64() * 1e6 / calls).collect(),
            switches: each.map(|(a, b)| (b.1 - a.1) as f64 / calls).collect(),
            idle,
            stolen,
        })
    }
}
