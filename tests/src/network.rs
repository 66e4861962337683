//! Three network namespaces, client - router - server, for links that fall
//! silent or are slow. Each is held by a process and ends with it, and that one with the
//! thread that has made it. Needs the right to make them, `ip`, `nft` and `tc`:
//! tests/faults/run.sh sees to it.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::binary::eventually;

/// Where the server is.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 2);

/// Which packets the router drops. Neither side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// All.
    Both,
    /// Those from the client.
    FromClient,
    /// Those from the server.
    FromServer,
}

/// A network namespace.
#[derive(Debug)]
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        let namespace = Self(holder.stdin(Stdio::null()).spawn().expect("setpriv runs"));
        let net = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (id, own) = (namespace.0.id().to_string(), net("self"));
        // The process is there before it has its network.
        eventually("it has a network of its own", || net(&id) != own);
        namespace
    }

    /// The words before a command that is to run in it.
    fn words(&self) -> Vec<String> {
        let id = self.0.id().to_string();
        ["nsenter", "--target", &id, "--net", "--"].map(str::to_owned).into()
    }

    fn run(&self, commands: &str) {
        let mut words = self.words().into_iter();
        let mut command = Command::new(words.next().expect("there are some"));
        let ran = command.args(words).args(["sh", "-ec", commands]).status();
        assert!(ran.expect("nsenter runs").success(), "{commands}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The three of them, with a route both ways.
#[derive(Debug)]
pub struct Network {
    client: Namespace,
    router: Namespace,
    server: Namespace,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Makes them.
    ///
    /// # Panics
    /// If that is not allowed here.
    pub fn new() -> Self {
        let new = Namespace::new;
        let network = Self { client: new(), router: new(), server: new() };
        let router = network.router.0.id();
        for (end, name, number) in [(&network.client, "client", 1), (&network.server, "server", 2)]
        {
            end.run(&format!(
                "ip link add eth0 type veth peer name {name} netns {router}
                 ip addr add 10.9.{number}.2/24 dev eth0
                 ip link set eth0 up
                 ip link set lo up"
            ));
            network.router.run(&format!(
                "ip addr add 10.9.{number}.1/24 dev {name}
                 ip link set {name} up"
            ));
            end.run(&format!("ip route add default via 10.9.{number}.1"));
        }
        network.router.run(
            "echo 1 >/proc/sys/net/ipv4/ip_forward
             nft add table ip fault
             nft add chain ip fault forward '{ type filter hook forward priority 0; }'",
        );
        network
    }

    /// How processes are started in the server's and the client's place.
    pub fn within(&self) -> [Vec<String>; 2] {
        [self.server.words(), self.client.words()]
    }

    /// Packets are dropped from now on.
    pub fn break_silently(&self, silent: Silent) {
        let dropped: &[&str] = match silent {
            Silent::Both => &["client", "server"],
            Silent::FromClient => &["client"],
            Silent::FromServer => &["server"],
        };
        for from in dropped {
            self.router.run(&format!("nft add rule ip fault forward iifname {from} drop"));
        }
    }

    /// The router passes no more than so many bits a second on, each way. What
    /// connections of later have on their way fits its queue, so that nothing is
    /// lost: how TCP gets over that is not the question.
    pub fn slow_down(&self, bits_a_second: u32) {
        for end in [&self.client, &self.server] {
            end.run("echo 4096 16384 32768 >/proc/sys/net/ipv4/tcp_wmem");
        }
        for to in ["client", "server"] {
            self.router.run(&format!(
                "tc qdisc add dev {to} root tbf rate {bits_a_second} burst 3kb limit 256kb"
            ));
        }
    }

    /// Packets pass again.
    pub fn heal(&self) {
        self.router.run("nft flush chain ip fault forward");
    }
}
