//! Commands, with what they said.

use std::io::Write;
use std::process::{Command, Stdio};

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    command: String,
    /// Whether it ended with 0.
    pub good: bool,
    /// Its exit status.
    pub status: Option<i32>,
    /// What it wrote to stdout.
    pub output: String,
    /// What it wrote to stderr.
    pub errors: String,
}

impl Ran {
    /// Its output; fails the test unless it ended with 0.
    pub fn ok(self) -> String {
        assert!(
            self.good,
            "{} ended with {:?}\n{}{}",
            self.command, self.status, self.output, self.errors
        );
        self.output
    }

    /// What it complained of; fails the test if it ended with 0.
    pub fn refused(self) -> String {
        assert!(!self.good, "{} was to fail and has not\n{}", self.command, self.output);
        self.errors + &self.output
    }

    /// Its output or its complaint, for [`eventually`](crate::eventually).
    ///
    /// # Errors
    /// If it did not end with 0.
    pub fn result(self) -> Result<String, String> {
        if self.good { Ok(self.output) } else { Err(self.errors + &self.output) }
    }
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str], environment: &[(String, String)]) -> Ran {
    run_with_input(program, args, environment, "")
}

/// Runs a line of a shell, which stops at its first error.
pub fn sh(script: &str, environment: &[(String, String)]) -> Ran {
    run("sh", &["-euc", script], environment)
}

/// Runs a program to its end, with a text for its stdin.
pub fn run_with_input(
    program: &str,
    args: &[&str],
    environment: &[(String, String)],
    input: &str,
) -> Ran {
    let mut child = Command::new(program)
        .args(args)
        .envs(environment.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Who has read enough may end before all of it is written.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        command: format!("{program} {}", args.join(" ")),
        good: output.status.success(),
        status: output.status.code(),
        output: text(&output.stdout),
        errors: text(&output.stderr),
    }
}
