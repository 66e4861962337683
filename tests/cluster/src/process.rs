//! Processes of this machine that a test starts, and that never outlive it.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::{eventually, sh, variable};

/// Lines of a log that are shown when a test fails.
const LOG_LINES: usize = 40;

/// A process that runs; it is killed with the value.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: String,
}

impl Process {
    /// Starts a program. What it says goes to a file, whose end a failed test shows.
    pub fn start(
        name: &str,
        program: &str,
        args: &[&str],
        environment: &[(String, String)],
    ) -> Self {
        let log = log_file(name);
        let file = File::create(&log).unwrap();
        // Statics are not dropped at the end of a test: what they hold ends by the kernel's hand.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = spawn(command);
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `STOP`.
    pub fn signal(&self, signal: &str) {
        sh(&format!("kill -s {signal} {}", self.id()), &[]).ok();
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended; its exit status, if it was not a signal.
    pub fn ends(&mut self, within: Duration) -> Option<i32> {
        eventually(&format!("{} ends", self.name), within, || {
            let status = self.child.try_wait().unwrap();
            status.map(|status| status.code()).ok_or_else(|| "it runs".to_owned())
        })
    }

    /// Ends it unasked.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- {} said at last\n{}", self.name, end.join("\n"));
        }
    }
}

/// A file that no other process writes to.
fn log_file(name: &str) -> String {
    static COUNT: Mutex<u32> = Mutex::new(0);
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    *count += 1;
    format!("{}/said-{}-{count}-{name}", variable("RESTPIPE_KUBE_DIR"), std::process::id())
}

type Start = (Command, Sender<Child>);

/// Starts a process from a thread that lives as long as this process does: the kernel takes the
/// end of the thread that started a process for the end of its parent.
fn spawn(command: Command) -> Child {
    static KEEPER: OnceLock<Mutex<Sender<Start>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, receiver) = channel::<Start>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
                let _ = answer.send(child);
            }
        });
        Mutex::new(sender)
    });
    let (sender, receiver) = channel();
    keeper.lock().unwrap_or_else(PoisonError::into_inner).send((command, sender)).unwrap();
    receiver.recv().unwrap()
}
