//! Why a node cannot start with these settings: each in one line, with the cause and the cure.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::duration::in_words;
use crate::file::MAX_FILE;
use crate::role::Role;

/// Why settings are refused. None of them goes away by itself. A `String` named `setting` says
/// where the setting was written: `--wait`, `BIND_PORT` or `wait in /etc/restpipe/node.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file with settings could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file with settings is a directory, a device or the like.
    #[error("{} is not a regular file: give --config the path of a node.toml", .0.display())]
    NotAFile(PathBuf),
    /// The file with settings is larger than any node.toml.
    #[error("{} is larger than {MAX_FILE} bytes: it is not a node.toml", .0.display())]
    TooLarge(PathBuf),
    /// The file is not TOML in UTF-8, or one of its values is not what its key wants.
    #[error("{} line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, with key and value where they are known.
        message: String,
    },
    /// The file has a key that no setting has.
    #[error("{} line {line}: unknown key `{key}`: {hint}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key as it is written.
        key: String,
        /// What was probably meant.
        hint: String,
    },
    /// One of the original's environment variables has a bad value.
    #[error("environment variable {name}: bad value '{value}': {message}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        message: String,
    },
    /// A program made a value that cannot be written down.
    #[error("a setting has a value that node.toml could not have: {0}")]
    Invalid(String),
    /// A setting of servers was given to a client, or the other way round.
    #[error(
        "{setting} is a setting of a {}, and this node is a {role}: remove it, or run `restpipe {}`",
        other(*role), other(*role)
    )]
    WrongRole {
        /// Where it was written.
        setting: String,
        /// What this node is.
        role: Role,
    },
    /// A client does not know its server.
    #[error(
        "a client needs the address of its server: give --server HOST:PORT, for example --server hub.example:7072"
    )]
    NoServer,
    /// The server is dialled by address, so its name is not known.
    #[error(
        "{setting} is the IP address {address}, and certificates carry names: give --server-name NAME as well"
    )]
    NoServerName {
        /// Where the address was written.
        setting: String,
        /// The address.
        address: String,
    },
    /// The operator would be one of the clients.
    #[error(
        "{setting} is {name}, which is below client-suffix, {suffix}: a client of that name would \
         be an operator; give a name elsewhere, for example operator.restpipe"
    )]
    OperatorAmongClients {
        /// Where the name was written.
        setting: String,
        /// The name.
        name: String,
        /// The clients' suffix.
        suffix: String,
    },
    /// There would be no gateway.
    #[error("{setting} is empty: give at least one address, for example --gateway 127.0.0.1:7070")]
    NoGateway {
        /// Where it was written.
        setting: String,
    },
    /// The gateway would listen beyond this machine.
    #[error(
        "{setting} has {address}, which is not a loopback address: whoever reaches the gateway uses \
         the pipe as this node, without a password; give 127.0.0.1:{port}, or --gateway-public if \
         that is meant", port = address.port()
    )]
    PublicGateway {
        /// Where it was written.
        setting: String,
        /// The address.
        address: SocketAddr,
    },
    /// Only some files of an identity are given.
    #[error(
        "{given} is given without {missing}: give --cert, --key and --ca together, or only --dir"
    )]
    PartOfIdentity {
        /// Where one that is there was written.
        given: String,
        /// The flag of one that is not.
        missing: &'static str,
    },
    /// The default deadline would be longer than the longest.
    #[error(
        "{setting} is {}, longer than max-timeout, which is {}: lower the one or raise the other",
        in_words(*timeout), in_words(*max)
    )]
    TimeoutTooLong {
        /// Where it was written.
        setting: String,
        /// The deadline.
        timeout: Duration,
        /// The longest one.
        max: Duration,
    },
}

fn other(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        Role::Client => Role::Server,
    }
}
