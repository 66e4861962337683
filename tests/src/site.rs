//! A directory with a CA, identities, handlers and what else nodes of one
//! test need.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::binary::{Node, Start, run};

/// The name in the server's certificate.
pub const HUB: &str = "hub.site.test";

/// The usual client.
pub const CLIENT: &str = "fs";

/// Everything of one test; gone with it.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
}

impl Default for Site {
    fn default() -> Self {
        let dir = TempDir::new().expect("a directory");
        let site = Self { dir };
        site.make_ca("ca");
        site
    }
}

impl Site {
    /// A site with a CA in `ca`.
    pub fn new() -> Self {
        Self::default()
    }

    /// A path in the site.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a CA by the binary.
    pub fn make_ca(&self, dir: &str) -> PathBuf {
        let dir = self.path(dir);
        let _ = run(["identity", "ca", "--dir", text(&dir)]).output();
        dir
    }

    /// A node directory, issued by the binary and the CA in `ca` unless it is
    /// there.
    pub fn identity(&self, role: &str, name: &str) -> PathBuf {
        let dir = self.path(name);
        if !dir.exists() {
            self.issue("ca", role, name, &dir, &[]);
        }
        dir
    }

    /// Issues an identity, over one that may be there.
    pub fn issue(&self, ca: &str, role: &str, name: &str, out: &Path, more: &[&str]) {
        let ca = self.path(ca);
        let args = ["identity", role, name, "--force", "--ca", text(&ca), "--out", text(out)];
        let _ = run(args.iter().chain(more)).output();
    }

    /// The server.
    pub fn server(&self) -> Start {
        Start::node("server", &self.identity("server", HUB))
    }

    /// A client of `server`.
    pub fn client(&self, name: &str, server: &Node) -> Start {
        self.client_of(name, &server.pipe().to_string())
    }

    /// A client of whoever is at `address`.
    pub fn client_of(&self, name: &str, address: &str) -> Start {
        Start::node("client", &self.identity("client", name))
            .flag("--server", address)
            .flag("--server-name", HUB)
    }

    /// A server and a client with the pipe up.
    pub fn pair(&self) -> (Node, Node) {
        self.pair_of(|server| server, |client| client)
    }

    /// A server and a client with settings of their own and the pipe up.
    pub fn pair_of(
        &self,
        server: impl FnOnce(Start) -> Start,
        client: impl FnOnce(Start) -> Start,
    ) -> (Node, Node) {
        let server = server(self.server()).start();
        let client = client(self.client(CLIENT, &server)).start();
        server.connected();
        client.connected();
        (server, client)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory");
        std::fs::write(&path, contents).expect("a file");
        path
    }

    /// Writes an executable shell script. Another process writes it: while
    /// this one had it open, a fork of another test would make it busy.
    pub fn script(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.path(name);
        let mut install = Command::new("install");
        install.args(["-D", "-m", "755", "/dev/stdin"]).arg(&path).stdin(Stdio::piped());
        let mut install = install.spawn().expect("install runs");
        let mut stdin = install.stdin.take().expect("stdin is piped");
        stdin.write_all(format!("#!/bin/sh\n{lines}\n").as_bytes()).expect("a script");
        drop(stdin);
        assert!(install.wait().expect("install ends").success());
        path
    }

    /// Makes a gate for a script: `read line < gate` in it waits until the
    /// gate is opened.
    pub fn gate(&self, name: &str) -> Gate {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo runs").success());
        // Opened for both, so that neither side waits for the other to open.
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path);
        Gate { path, file: file.expect("a pipe") }
    }
}

/// Something that scripts wait for.
#[derive(Debug)]
pub struct Gate {
    /// Where it is.
    pub path: PathBuf,
    file: std::fs::File,
}

impl Gate {
    /// Lets one script go on.
    pub fn open(&mut self) {
        self.file.write_all(b"go\n").expect("the pipe has room");
    }
}

/// A path as text; temporary directories are ASCII.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
