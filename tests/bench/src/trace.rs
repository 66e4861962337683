//! Counts what a process does: system calls that read or write, all or those
//! on one socket, and allocations. By `perf`, which slows the process down
//! little, or by `strace`, which does much.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::process::Process;

/// System calls that move bytes.
const CALLS: [&str; 8] =
    ["read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg"];

/// A tracer is at work, or has written what it found, within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// After its last event is open a tracer switches all on.
const SETTLE: Duration = Duration::from_millis(200);

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What<'a> {
    /// System calls that read or write.
    Calls,
    /// Those on one descriptor.
    CallsOn(u32),
    /// How often these functions are entered.
    Functions(&'a Probes),
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracer {
    Perf,
    Strace,
}

impl Tracer {
    /// The best that works here.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let works = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            let quiet = command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
            quiet.status().is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", "syscalls:sys_enter_write", "true"]) {
            return Ok(Self::Perf);
        }
        if works("strace", &["-c", "true"]) {
            return Ok(Self::Strace);
        }
        bail!("needs perf (as root, with tracefs) or strace (package strace)")
    }

    /// A word about what it does to the figures.
    pub(crate) fn remark(self) -> &'static str {
        match self {
            Self::Perf => "system calls are counted by perf",
            Self::Strace => {
                "system calls are counted by strace, which slows nodes down: more is batched at 64 in flight than without it"
            }
        }
    }

    /// Starts to count what `process` does.
    pub(crate) fn start(
        self,
        process: &Process,
        what: What<'_>,
        file: PathBuf,
    ) -> anyhow::Result<Trace> {
        let mut command = match self {
            Self::Perf => perf(process, what, &file),
            Self::Strace => strace(process, what, &file)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let fd = if let What::CallsOn(fd) = what { Some(fd) } else { None };
        let events = if let What::Functions(probes) = what { probes.0.len() } else { CALLS.len() };
        let trace = Trace { tracer: self, child, fd, file };
        trace.is_attached(process, events)?;
        Ok(trace)
    }
}

fn perf(process: &Process, what: What<'_>, file: &Path) -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ",", "-p", &process.id().to_string(), "-o"]).arg(file);
    if let What::Functions(probes) = what {
        for event in &probes.0 {
            command.args(["-e", event]);
        }
        return command;
    }
    for call in CALLS {
        command.args(["-e", &format!("syscalls:sys_enter_{call}")]);
        if let What::CallsOn(fd) = what {
            command.args(["--filter", &format!("fd == {fd}")]);
        }
    }
    command
}

fn strace(process: &Process, what: What<'_>, file: &Path) -> anyhow::Result<Command> {
    ensure!(!matches!(what, What::Functions(_)), "strace counts no functions: this needs perf");
    let mut command = Command::new("strace");
    let trace = format!("trace={}", CALLS.join(","));
    command.args(["-f", "-q", "-s", "0", "-e", &trace, "-p", &process.id().to_string(), "-o"]);
    command.arg(file);
    Ok(command)
}

/// Functions of a binary that perf counts; forgotten when this is dropped.
#[derive(Debug)]
pub(crate) struct Probes(Vec<String>);

impl Probes {
    /// Those of `functions` that `binary` has.
    pub(crate) fn of(binary: &Path, functions: &[&str]) -> anyhow::Result<Self> {
        let mut probes = Self(Vec::new());
        for function in functions {
            let event = format!("restpipe_bench_{}:{function}", std::process::id());
            let mut command = Command::new("perf");
            command.args(["probe", "-q", "-x"]).arg(binary);
            let added = command.args(["--add", &format!("{event}={function}")]).output();
            if added.context("perf is not there")?.status.success() {
                probes.0.push(event);
            }
        }
        ensure!(
            !probes.0.is_empty(),
            "none of {functions:?} can be watched in {}: this needs perf, root, and symbols",
            binary.display()
        );
        Ok(probes)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for event in &self.0 {
            // What is left of it costs nothing while nobody counts.
            let _ = Command::new("perf").args(["probe", "-q", "-d", event]).output();
        }
    }
}

/// A tracer at work.
#[derive(Debug)]
pub(crate) struct Trace {
    tracer: Tracer,
    child: Child,
    fd: Option<u32>,
    file: PathBuf,
}

impl Trace {
    fn is_attached(&self, process: &Process, events: usize) -> anyhow::Result<()> {
        let attached = || match self.tracer {
            Tracer::Perf => {
                links(self.child.id()).filter(|(_, link)| link.contains("perf_event")).count()
                    >= events
            }
            Tracer::Strace => fs::read_to_string(format!("/proc/{}/status", process.id()))
                .is_ok_and(|status| status.contains(&format!("TracerPid:\t{}\n", self.child.id()))),
        };
        let end = Instant::now() + LIMIT;
        while !attached() {
            ensure!(Instant::now() < end, "{:?} does not attach: is this root?", self.tracer);
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Ends it; how many calls there were.
    pub(crate) fn stop(mut self) -> anyhow::Result<u64> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().context("kill is not there")?;
        let end = Instant::now() + LIMIT;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "{:?} does not end", self.tracer);
            std::thread::sleep(PAUSE);
        }
        let text = fs::read_to_string(&self.file)?;
        match self.tracer {
            Tracer::Perf => perf_total(&text),
            Tracer::Strace => Ok(strace_total(&text, self.fd)),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of `count,unit,event,…` lines.
fn perf_total(text: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for line in text.lines().filter(|line| line.contains(",,")) {
        let count = line.split(',').next().unwrap_or_default();
        // An event that never came in is written as a word.
        total += match count {
            "<not counted>" => 0,
            count => count.parse::<u64>().with_context(|| format!("perf says {line}"))?,
        };
    }
    Ok(total)
}

/// How many lines `pid call(fd, …` there are of this descriptor.
fn strace_total(text: &str, fd: Option<u32>) -> u64 {
    let is_one = |line: &&str| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let Some((name, rest)) = line.split_once('(') else { return false };
        let of = rest.split([',', ')']).next().and_then(|of| of.trim().parse().ok());
        CALLS.contains(&name) && (fd.is_none() || fd == of)
    };
    text.lines().filter(is_one).count() as u64
}

fn links(id: u32) -> impl Iterator<Item = (u32, String)> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let fd = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, fs::read_link(entry.path()).ok()?.display().to_string()))
    })
}

/// The descriptor of `process`'s connection of which `port` is one end.
pub(crate) fn socket_of(process: &Process, at: SocketAddr) -> anyhow::Result<u32> {
    let table = fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
    let inodes = inodes_at(&table, at.port());
    let mut own: HashMap<String, u32> = links(process.id()).map(|(fd, link)| (link, fd)).collect();
    inodes
        .iter()
        .find_map(|inode| own.remove(&format!("socket:[{inode}]")))
        .with_context(|| format!("process {} has no connection at {at}", process.id()))
}

/// Inodes of established connections with `port` at either end.
fn inodes_at(table: &str, port: u16) -> Vec<&str> {
    let port = format!(":{port:04X}");
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, local, remote, "01", _, _, _, _, _, inode, ..] = fields[..]
            && (local.ends_with(&port) || remote.ends_with(&port))
        {
            found.push(inode);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_wrote_is_added_up() {
        let text = "# started on …\n\n12,,syscalls:sys_enter_read,100,100.00,,\n30,,syscalls:sys_enter_writev,100,100.00,,\n<not counted>,,syscalls:sys_enter_sendmsg,0,0.00,,\n";
        assert_eq!(perf_total(text).unwrap(), 42);
        assert!(perf_total("<not supported>,,syscalls:sys_enter_read,0,0.00,,\n").is_err());
    }

    #[test]
    fn what_strace_wrote_is_counted_by_descriptor() {
        let text = "71 recvfrom(9, \"\"..., 8192, 0, NULL, NULL) = 128\n71 writev(10, [...], 2) = 3\n71 recvfrom(9, 0x1, 1, 0, NULL, NULL) = -1 EAGAIN\n72 +++ exited with 0 +++\n";
        assert_eq!(strace_total(text, None), 3);
        assert_eq!(strace_total(text, Some(9)), 2);
        assert_eq!(strace_total(text, Some(1)), 0);
    }

    #[test]
    fn a_connection_is_found_by_the_port_of_either_end() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1BA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 11 1\n\
            1: 0100007F:1BA0 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 22 1\n\
            2: 0100007F:C350 0100007F:1BA0 01 00000000:00000000 00:00000000 00000000 0 0 33 1\n";
        assert_eq!(inodes_at(table, 7072), ["22", "33"]);
        assert!(inodes_at(table, 7073).is_empty());
    }
}
