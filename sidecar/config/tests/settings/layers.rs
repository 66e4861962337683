//! Which layer wins, and what the original's names and the defaults mean.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Command};
use restpipe_config::{End, LEGACY_NAMES, LogFormat, NodeArgs, Role, Settings, Who, default};

use crate::cli::{given, refusal, resolve};

fn good(role: Role, flags: &[&str], variables: &[(&str, &str)], file: &str) -> Settings {
    resolve(role, flags, variables, file).expect("good settings")
}

fn listen(flags: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    match good(Role::Server, flags, variables, file).pipe.end {
        End::Listen { listen, .. } => listen.to_string(),
        End::Dial { .. } => "not a server".into(),
    }
}

fn dial(flags: &[&str], variables: &[(&str, &str)]) -> String {
    match good(Role::Client, flags, variables, "").pipe.end {
        End::Listen { .. } => "not a client".into(),
        End::Dial { server, server_name } => format!("{server} as {server_name}"),
    }
}

fn statsd(variables: &[(&str, &str)]) -> Option<String> {
    good(Role::Server, &[], variables, "").telemetry.statsd.map(|address| address.to_string())
}

/// clap reads the real environment, which a test cannot change for itself: it runs itself again
/// with another one.
#[test]
fn flag_wins_over_environment_over_old_environment() {
    const SELF: &str = "layers::flag_wins_over_environment_over_old_environment";
    let ours =
        [("RESTPIPE_LISTEN", "4.4.4.4:4"), ("RESTPIPE_BUILTIN", "no"), ("RESTPIPE_CLIENTS", "a,b")];
    if std::env::var_os("RESTPIPE_LISTEN").is_some() {
        let old = [("BIND_IP", "2.2.2.2")];
        assert_eq!(listen(&["--listen=1.1.1.1:1"], &old, ""), "1.1.1.1:1");
        assert_eq!(listen(&[], &old, "listen = '3.3.3.3:3'"), "4.4.4.4:4");
        let args = given(&[]).to_env().into_iter();
        let ours = ours.map(|(name, value)| (name.to_owned(), value.replace("no", "false")));
        assert_eq!(BTreeSet::from_iter(args), BTreeSet::from(ours));
        return;
    }
    let exe = std::env::current_exe().expect("this test's own program");
    let mut again = std::process::Command::new(exe);
    let run = again.args(["--exact", SELF]).envs(ours).output().expect("runs again");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn flag_wins_over_old_environment_over_file_over_default() {
    let (flag, env, file) =
        (["--listen=1.1.1.1:1"], [("BIND_IP", "2.2.2.2")], "listen = '3.3.3.3:3'");
    assert_eq!(listen(&flag, &env, file), "1.1.1.1:1");
    assert_eq!(listen(&[], &env, file), "2.2.2.2:7072");
    assert_eq!(listen(&[], &[], file), "3.3.3.3:3");
    assert_eq!(listen(&[], &[], ""), "0.0.0.0:7072");
}

#[test]
fn every_setting_is_taken_from_its_own_layer() {
    let file = "wait = '1s'\ndrain = '1s'\nlog = 'warn'\nmax-streams = 7\nclients = ['a', 'b']";
    let settings = good(Role::Server, &["--drain=2s", "--clients="], &[("DEBUG", "1")], file);
    assert_eq!(settings.pipe.wait, Duration::from_secs(1));
    assert_eq!(settings.pipe.drain, Duration::from_secs(2));
    assert_eq!(settings.telemetry.log, "debug");
    assert_eq!(settings.limits.max_streams, 7);
    assert_eq!(settings.pipe.heartbeat, default::HEARTBEAT);
    let End::Listen { names, .. } = settings.pipe.end else { panic!("not a server") };
    assert!(names.clients.is_empty(), "an empty list in a flag undoes the file's");
}

#[test]
fn who_may_connect_is_what_the_operator_renders() {
    let file = "clients = ['a']\nsuspended = ['b']\nlisted-only = true\nnames-version = 7\n\
                client-suffix = 'clients.hub.shop.restpipe'\noperator-name = 'Operator.restpipe'";
    let names = |flags: &[&str], file| match good(Role::Server, flags, &[], file).pipe.end {
        End::Listen { names, operator_name, .. } => (names, operator_name),
        End::Dial { .. } => panic!("not a server"),
    };
    let (found, operator) = names(&[], file);
    assert_eq!((found.version, found.listed_only), (7, true));
    assert_eq!((found.clients.len(), found.suspended.len()), (1, 1));
    assert_eq!(operator.expect("a name").as_str(), "operator.restpipe");
    assert_eq!(names(&[], ""), Default::default(), "as a node on a plain host has it");
}

#[test]
fn a_switch_alone_is_on_and_can_be_off() {
    assert_eq!(given(&["--builtin"]).builtin, Some(true));
    assert_eq!(given(&["--builtin=off"]).builtin, Some(false));
    assert_eq!(given(&[]).builtin, None);
}

#[test]
fn the_built_in_nouns_are_on_while_nothing_else_answers() {
    let builtin = |flags: &[&str]| good(Role::Server, flags, &[], "").handlers.builtin;
    assert!(builtin(&[]));
    assert!(!builtin(&["--app=http://app:1"]));
    assert!(!builtin(&["--handlers=/x"]));
    assert!(builtin(&["--handlers=/x", "--builtin"]));
    assert!(!builtin(&["--builtin=false"]));
}

#[test]
fn the_original_s_client_names_are_the_server_address() {
    let host = ("RP_CLIENT_TARGET_HOSTNAME", "Hub.example");
    let port = ("RP_CLIENT_TARGET_PORT", "99");
    assert_eq!(dial(&[], &[host]), "hub.example:7072 as hub.example");
    assert_eq!(dial(&[], &[host, port]), "hub.example:99 as hub.example");
    assert_eq!(dial(&["--server=a"], &[host, port]), "a:7072 as a");
    assert_eq!(dial(&["--server=a"], &[port]), "a:7072 as a", "overridden, so not looked at");
    assert_eq!(dial(&["--server=a.example."], &[]), "a.example.:7072 as a.example");
    assert_eq!(dial(&["--server=[::1]:5", "--server-name=b"], &[]), "[::1]:5 as b");
}

#[test]
fn the_original_s_readme_names_win_over_those_of_its_code() {
    let code = [("RP_SERVER_BIND_INTERFACE", "1.1.1.1"), ("RP_SERVER_BIND_PORT", "1")];
    assert_eq!(listen(&[], &code, ""), "1.1.1.1:1");
    let both = [code[0], code[1], ("BIND_IP", "::1"), ("BIND_PORT", "0")];
    assert_eq!(listen(&[], &both, ""), "[::1]:0");
    assert_eq!(listen(&[], &[code[0], ("BIND_PORT", "2")], ""), "1.1.1.1:2");
    assert_eq!(listen(&[], &[("BIND_IP", ""), ("BIND_PORT", "")], ""), "0.0.0.0:7072");
}

#[test]
fn a_kubernetes_service_of_the_same_name_is_no_setting() {
    let link = [("BIND_PORT", "tcp://10.0.0.1:53"), ("RP_STATSD_PORT", "udp://10.0.0.2:8125")];
    assert_eq!(listen(&[], &link, "listen = '3.3.3.3:3'"), "3.3.3.3:3");
    let settings = good(Role::Server, &[], &link, "statsd = 'off'");
    assert_eq!(settings.telemetry.statsd, None);
}

#[test]
fn statsd_is_on_by_default_and_off_when_its_names_are_empty() {
    let (host, port) = ("RP_STATSD_HOST", "RP_STATSD_PORT");
    assert_eq!(statsd(&[]).as_deref(), Some("localhost:8125"));
    assert_eq!(statsd(&[(host, "m")]).as_deref(), Some("m:8125"));
    assert_eq!(statsd(&[(port, "1")]).as_deref(), Some("localhost:1"));
    assert_eq!(statsd(&[(host, "m"), (port, "1")]).as_deref(), Some("m:1"));
    assert_eq!(statsd(&[(host, "")]), None);
    assert_eq!(statsd(&[(host, "m"), (port, "")]), None);
}

#[test]
fn debug_means_something_only_when_it_is_one() {
    let log = |value| good(Role::Server, &[], &[("DEBUG", value)], "").telemetry.log;
    assert_eq!([log("1"), log("0"), log("app:*"), log("")], ["debug", "info", "info", "info"]);
}

#[test]
fn bad_values_of_the_original_s_names_are_told_with_the_name() {
    let server = |name, value| refusal(Role::Server, &[], &[(name, value)], "");
    let client = |name, value| {
        refusal(Role::Client, &[], &[("RP_CLIENT_TARGET_HOSTNAME", "a"), (name, value)], "")
    };
    let bad = |name, value, why| format!("environment variable {name}: bad value '{value}': {why}");
    let ports = "give a port from 1 to 65535";
    assert_eq!(
        server("BIND_IP", "eth0"),
        bad("BIND_IP", "eth0", "give an IP address, for example 0.0.0.0")
    );
    assert_eq!(
        server("RP_SERVER_BIND_PORT", "x"),
        bad("RP_SERVER_BIND_PORT", "x", "give a port from 0 to 65535")
    );
    assert_eq!(server("RP_STATSD_PORT", "0"), bad("RP_STATSD_PORT", "0", ports));
    assert_eq!(
        client("RP_CLIENT_TARGET_PORT", "70000"),
        bad("RP_CLIENT_TARGET_PORT", "70000", ports)
    );
    let why = "give a DNS name or an IP address, for example hub.example or 10.0.0.1";
    assert_eq!(server("RP_STATSD_HOST", "a:1"), bad("RP_STATSD_HOST", "a:1", why));
    let alone = refusal(Role::Client, &[], &[("RP_CLIENT_TARGET_PORT", "1")], "");
    assert_eq!(alone, bad("RP_CLIENT_TARGET_PORT", "1", "set RP_CLIENT_TARGET_HOSTNAME as well"));
}

#[test]
fn the_table_of_the_original_s_names_is_what_is_looked_up() {
    for role in [Role::Server, Role::Client] {
        let asked = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            asked.borrow_mut().insert(name.to_owned());
            None
        };
        let _ = Settings::resolve(role, &NodeArgs::default(), None, &lookup);
        let rows = LEGACY_NAMES.iter().filter(|row| row.who.includes(role));
        let listed: BTreeSet<String> = rows.map(|row| row.name.to_owned()).collect();
        assert_eq!(asked.into_inner(), listed);
    }
}

#[test]
fn the_default_in_words_is_the_default_in_fact() {
    // These are prose, because the default is no value or is made from other settings.
    let prose = [
        "server-name",
        "client-suffix",
        "clients",
        "suspended",
        "instance",
        "gateway-host",
        "cert",
        "key",
        "ca",
        "builtin",
    ];
    for role in [Role::Server, Role::Client] {
        let needed = if role == Role::Client { vec!["--server=hub"] } else { vec![] };
        let plain = good(role, &needed, &[], "");
        let command = NodeArgs::augment_args(Command::new("restpipe"));
        for key in command.get_arguments().filter_map(|arg| arg.get_long()) {
            let words = default::in_words(key)
                .filter(|_| !prose.contains(&key) && Who::of(key).includes(role));
            if let Some(words) = words {
                let flag = format!("--{key}={words}");
                let flags: Vec<&str> = needed.iter().copied().chain([flag.as_str()]).collect();
                assert_eq!(good(role, &flags, &[], ""), plain, "with {flag}");
            }
        }
    }
}

#[test]
fn a_bare_client_has_the_documented_settings() {
    let settings = good(Role::Client, &["--server=hub"], &[], "");
    assert_eq!(settings.role(), Role::Client);
    let addresses: Vec<String> =
        settings.gateway.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:7070", "[::1]:7070"]);
    assert_eq!(settings.identity.key.to_str(), Some("/etc/restpipe/tls.key"));
    assert_eq!(settings.telemetry.log_format, LogFormat::Auto);
    assert_eq!(settings.limits.max_body, None);
    assert_eq!(settings.limits.memory_budget, 67_108_864);
    assert!(!settings.handlers.tracebacks);
}
