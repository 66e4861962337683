//! What a process holds: files and memory (proc(5)).

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{Node, SOON};
use crate::http;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// How often a node is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// What a node holds at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Open files, sockets among them.
    pub files: usize,
    /// Bytes of memory in use, VmRSS.
    pub resident: u64,
}

impl Usage {
    /// Of a running node.
    ///
    /// # Panics
    /// If it has ended.
    pub fn of(node: &Node) -> Self {
        let files = std::fs::read_dir(proc(node).join("fd")).expect("it runs").count();
        Self { files, resident: memory(node, "VmRSS:") }
    }

    /// The most memory since [`Self::forget_peak`], in bytes.
    pub fn peak(node: &Node) -> u64 {
        memory(node, "VmHWM:")
    }

    /// Begins to look for a new peak.
    ///
    /// # Panics
    /// If the system does not let us.
    pub fn forget_peak(node: &Node) {
        std::fs::write(proc(node).join("clear_refs"), "5").expect("a child's peak can be reset");
    }

    /// Of a running node that has nothing to do: the least of several looks, since a
    /// connection that has ended may still be seen for a moment.
    pub fn at_rest(node: &Node) -> Self {
        let looks = (0..10).map(|_| {
            thread::sleep(PAUSE);
            Self::of(node)
        });
        let least = |a: Self, b: Self| Self {
            files: a.files.min(b.files),
            resident: a.resident.min(b.resident),
        };
        looks.reduce(least).expect("several looks")
    }

    /// Waits until a node holds no more files than before, and at most `percent` more memory. Both
    /// take a moment: unused connections to the app are kept for 15 s, and what is freed goes back
    /// to the system later.
    ///
    /// # Panics
    /// If it does not soon.
    pub fn returns(self, node: &Node, percent: u64) {
        let most = self.resident + self.resident * percent / 100;
        let mut now = Self::of(node);
        let end = Instant::now() + 2 * SOON;
        while now.files > self.files || now.resident > most {
            assert!(
                Instant::now() < end,
                "it held {self:?} and holds {now:?}: {:?}",
                open_files(node)
            );
            thread::sleep(PAUSE);
            now = Self::of(node);
        }
        eprintln!("before {self:?}, after {now:?}");
    }
}

/// What its open files are.
fn open_files(node: &Node) -> Vec<PathBuf> {
    let all = std::fs::read_dir(proc(node).join("fd")).expect("it runs");
    all.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).collect()
}

fn proc(node: &Node) -> PathBuf {
    PathBuf::from(format!("/proc/{}", node.id()))
}

/// A line of its status, in bytes.
fn memory(node: &Node, name: &str) -> u64 {
    let status = std::fs::read_to_string(proc(node).join("status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    1024 * kib.expect("proc(5) has it in kB")
}

/// Lets this process have so many files open, if it may not already.
///
/// # Panics
/// If the system does not let it.
pub fn allow_files(count: usize) {
    let own = std::process::id().to_string();
    let run = |args: &[&str]| {
        let mut prlimit = Command::new("prlimit");
        let ran = prlimit.args(["--pid", &own]).args(args).output().expect("prlimit runs");
        String::from_utf8(ran.stdout).expect("text")
    };
    let limit = |kind: &str| run(&["--nofile", "--raw", "--noheadings", "--output", kind]);
    let soft: usize = limit("SOFT").trim().parse().unwrap_or(usize::MAX);
    if soft < count {
        // A process may have as many as its hard limit says, if it asks.
        run(&[&format!("--nofile={}:", limit("HARD").trim())]);
        let soft: usize = limit("SOFT").trim().parse().unwrap_or(usize::MAX);
        assert!(soft >= count, "{count} files are needed and {soft} allowed: raise `ulimit -Hn`");
    }
}

/// A sum of the metrics of that name, whatever their labels, that hold `label`.
pub fn metric(node: &Node, name: &str, label: &str) -> f64 {
    let text = http::get(&node.admin(), "/metrics").text();
    let named = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    };
    text.lines().filter(named).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Calls in flight and events being handled, over all pipes of a node.
pub fn busy(node: &Node) -> u64 {
    let sum = |peer: &Value| {
        peer["in_flight"].as_u64().unwrap_or(1) + peer["serving"].as_u64().unwrap_or(1)
    };
    node.status()["peers"].as_array().map_or(0, |peers| peers.iter().map(sum).sum())
}
