//! Who a setting is for.

use std::fmt::{self, Display};

use clap::Arg;

/// What a node is: after TLS both ends are equal, before it they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits for pipes.
    Server,
    /// Dials one server and keeps the pipe up.
    Client,
}

impl Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// Which nodes a setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Servers and clients.
    Both,
    /// Nodes of one role; on the other it is an error.
    Only(Role),
}

impl Who {
    /// Which nodes the setting with this key is for.
    #[must_use]
    pub fn of(key: &str) -> Self {
        match key {
            "listen"
            | "client-suffix"
            | "clients"
            | "suspended"
            | "listed-only"
            | "names-version"
            | "operator-name"
            | "max-pipes"
            | "max-handshakes"
            | "max-handshakes-per-source" => Self::Only(Role::Server),
            "server" | "server-name" => Self::Only(Role::Client),
            _ => Self::Both,
        }
    }

    /// Whether a node of this role may have the setting.
    #[must_use]
    pub fn includes(self, role: Role) -> bool {
        self == Self::Both || self == Self::Only(role)
    }
}

impl Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both => f.write_str("both"),
            Self::Only(role) => role.fmt(f),
        }
    }
}

/// Leaves the settings of the other role out of `--help`; they are still parsed, so that the
/// error can say what is wrong. For `Command::mut_args` on a subcommand.
pub fn only_for(role: Role) -> impl FnMut(Arg) -> Arg {
    move |arg| {
        let foreign = arg.get_long().is_some_and(|key| !Who::of(key).includes(role));
        if foreign { arg.hide(true) } else { arg }
    }
}
