//! Processes of a measurement, and what the kernel says about them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail};

/// A role says that it is ready within this time.
pub(crate) const READY: Duration = Duration::from_secs(20);

/// How long a process may take to end; a node lets calls finish.
const GRACE: Duration = Duration::from_secs(5);

/// Between two looks at a process that is to end.
const PAUSE: Duration = Duration::from_millis(5);

/// A process that does not outlive the bench, and the lines it prints.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    lines: Receiver<String>,
}

/// Which of its outputs is read; the other one is the bench's own or nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    Stdout,
    Stderr,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn start(name: &str, mut command: Command, says: Says) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped());
        match says {
            Says::Stdout => command.stdout(Stdio::piped()),
            Says::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        let mut child =
            command.spawn().with_context(|| format!("{name} does not start: {command:?}"))?;
        let (sender, lines) = channel();
        let from: Box<dyn std::io::Read + Send> = match says {
            Says::Stdout => Box::new(child.stdout.take().context("stdout is piped")?),
            Says::Stderr => Box::new(child.stderr.take().context("stderr is piped")?),
        };
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // Nobody listens any more: the pipe is still to be emptied.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, name: name.to_owned(), lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that holds `word`.
    pub(crate) fn line(&self, word: &str, limit: Duration) -> anyhow::Result<String> {
        let end = Instant::now() + limit;
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(word) => return Ok(line),
                Ok(line) => last = line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not say {word:?} within {limit:?}; last: {last}", self.name)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} has ended before it said {word:?}; last: {last}", self.name)
                }
            }
        }
    }

    /// All lines that nobody has read.
    pub(crate) fn last_words(&self) -> String {
        self.lines.try_iter().collect::<Vec<_>>().join("; ")
    }

    /// Writes a line to its stdin.
    pub(crate) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        use std::io::Write;
        let stdin = self.child.stdin.as_mut().context("stdin is piped")?;
        writeln!(stdin, "{line}").with_context(|| format!("{} does not listen", self.name))
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut all = 0;
        for task in tasks(self.id())? {
            let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
            all += first_number(&text).unwrap_or(0);
        }
        Ok(Duration::from_nanos(all))
    }

    /// How often its threads gave up the CPU so far, or had to.
    pub(crate) fn switches(&self) -> anyhow::Result<u64> {
        let mut all = 0;
        for task in tasks(self.id())? {
            let text = fs::read_to_string(format!("{task}/status")).unwrap_or_default();
            all += field(&text, "voluntary_ctxt_switches").unwrap_or(0);
            all += field(&text, "nonvoluntary_ctxt_switches").unwrap_or(0);
        }
        Ok(all)
    }

    /// What of it is in memory.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .with_context(|| format!("{} has ended", self.name))?;
        let kib = |name| field(&text, name).with_context(|| format!("no {name} in /proc"));
        Ok(Memory { rss: 1024 * kib("VmRSS")?, anonymous: 1024 * kib("RssAnon")? })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Politely first: a build that writes a profile does so at its end.
        let told = Command::new("kill").arg(self.id().to_string()).status();
        let end = Instant::now() + if told.is_ok() { GRACE } else { Duration::ZERO };
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(PAUSE);
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// With the pages of files, such as the program's own code.
    pub(crate) rss: u64,
    /// What the process made itself: heap and stacks.
    pub(crate) anonymous: u64,
}

/// What all processors have done since the machine was started, in ticks of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Machine {
    /// By now (proc_stat(5)).
    pub(crate) fn now() -> anyhow::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?).context("no line of all processors")
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks = line.split_whitespace().map(|word| word.parse().ok());
        // What follows the first eight is in them already.
        let ticks: Vec<u64> = ticks.take(8).collect::<Option<_>>()?;
        let [_, _, _, idle, waiting, _, _, stolen] = *ticks else { return None };
        Some(Self { all: ticks.iter().sum(), idle: idle + waiting, stolen })
    }

    /// The shares of the processors' time since `before` in which they had nothing to do, and in
    /// which the machine below had them do something else.
    pub(crate) fn since(self, before: Self) -> (f64, f64) {
        let share =
            |now: u64, then: u64| (now - then) as f64 / (self.all - before.all).max(1) as f64;
        (share(self.idle, before.idle), share(self.stolen, before.stolen))
    }
}

fn tasks(id: u32) -> anyhow::Result<Vec<String>> {
    let directory = format!("/proc/{id}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("process {id} has ended"))?;
    Ok(entries.flatten().map(|entry| entry.path().display().to_string()).collect())
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The number of a line `name: number …`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    first_number(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_status_is_found_by_its_whole_name() {
        let text =
            "VmRSS:\t    9876 kB\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(text, "VmRSS"), Some(9876));
        assert_eq!(field(text, "voluntary_ctxt_switches"), Some(12));
        assert_eq!(field(text, "nonvoluntary_ctxt_switches"), Some(3));
        assert_eq!(field(text, "Vm"), None);
    }

    #[test]
    fn what_processors_have_not_done_is_a_share_of_their_time() {
        let parse = |line: &str| Machine::parse(line).unwrap();
        let before = parse("cpu  10 0 10 100 0 0 0 5 0 0\ncpu0 1 2 3\n");
        let now = parse("cpu  40 0 30 120 10 0 0 25 7 7\n");
        assert_eq!(now.since(before), (0.3, 0.2));
        assert!(Machine::parse("cpu0 1 2 3 4 5 6 7 8\n").is_none());
        assert!(Machine::now().is_ok());
    }

    #[test]
    fn the_bench_knows_its_own_cpu_time() {
        let child = Command::new("cat");
        let process = Process::start("cat", child, Says::Stdout).unwrap();
        assert!(process.memory().unwrap().rss > 0);
        assert!(process.cpu().is_ok() && process.switches().is_ok());
    }
}
