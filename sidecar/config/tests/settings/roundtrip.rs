//! What is written down is what is read: as TOML, as flags and as environment variables.

use crate::cli;

use std::fmt::Debug;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command};
use proptest::option::of;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use restpipe_config::{ByteSize, ConfigFile, Count, HumanDuration, List, NodeArgs, Version};

/// A value from a text that fits a pattern; the patterns are made so that every text is good.
fn text<T: FromStr + Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_filter_map("not a value", |text| text.parse().ok())
}

fn list<T: FromStr + Debug>(pattern: &'static str) -> impl Strategy<Value = List<T>> {
    proptest::collection::vec(text(pattern), 0..4).prop_map(List)
}

fn span<const MIN: u64, const MAX: u64>() -> impl Strategy<Value = HumanDuration<MIN, MAX>> {
    (MIN..MAX, 0..1_000_000_u64).prop_filter_map("out of bounds", |(ms, ns)| {
        (Duration::from_millis(ms) + Duration::from_nanos(ns)).try_into().ok()
    })
}

fn size<const MIN: u64>() -> impl Strategy<Value = ByteSize<MIN>> {
    let shifted =
        (any::<u64>(), 0..64_u32).prop_map(|(bytes, shift)| bytes >> shift << (shift / 2));
    let bytes = prop_oneof![shifted, (1..1000_u64).prop_map(|n| n * 1_000_000)];
    bytes.prop_filter_map("too small", |bytes| bytes.try_into().ok())
}

fn count<const MAX: u32>() -> impl Strategy<Value = Count<MAX>> {
    (1..=MAX).prop_filter_map("out of bounds", |number| number.try_into().ok())
}

fn version() -> impl Strategy<Value = Version> {
    (0..=u64::MAX / 2).prop_filter_map("too large", |number| number.try_into().ok())
}

const NAME: &str = "[a-z0-9_]{1,9}(\\.[a-z]{1,5}){0,2}";
const IP_PORT: &str =
    "([0-9]{1,2}\\.[0-9]\\.[0-9]\\.[0-9]|\\[::1\\]|\\[2001:db8::[1-9a-f]\\]):[0-9]{1,4}";
const HOST_PORT: &str =
    "([a-z]{1,9}(\\.example\\.?)?|10\\.0\\.0\\.[0-9]|\\[::[1-9]\\])(:[1-9][0-9]{0,3})?";
const BIND: &str = "127\\.0\\.0\\.1:[0-9]{1,4}|unix:/[a-z =\"'\\\\/]{1,20}";
const APP: &str = "http://([a-z]{1,9}|\\[::[1-9]\\])(:[1-9][0-9]{0,3})?/?|unix:/[a-z =]{1,20}";
const FILE: &str = "/?[-a-zA-Z =,'\"\\\\ä#\n]{1,20}";
const LOG: &str = "[a-z=,\\[\\]{}\" ]{0,20}";

prop_compose! {
    fn pipe()(
        a in (of(text(IP_PORT)), of(text(HOST_PORT)), of(text(NAME)), of(text("\\.?[a-z]{1,5}|"))),
        b in (of(list(NAME)), of(list(NAME)), of(text("[!-~]{1,20}"))),
        c in (of(span()), of(span()), of(span()), of(span()), of(span())),
        d in (any::<Option<bool>>(), of(version()), of(text(NAME))),
    ) -> NodeArgs {
        let (listen, server, server_name, client_suffix) = a;
        let (clients, suspended, instance) = b;
        let (wait, timeout, max_timeout, drain, heartbeat) = c;
        let (listed_only, names_version, operator_name) = d;
        NodeArgs {
            listen, server, server_name, client_suffix, clients, suspended, instance, wait,
            timeout, max_timeout, drain, heartbeat, listed_only, names_version, operator_name,
            ..NodeArgs::default()
        }
    }
}

prop_compose! {
    /// Every field is named once, here or in `pipe`; one that is forgotten is found by
    /// `every_setting_is_drawn`.
    fn args()(
        pipe in pipe(),
        a in (of(list(BIND)), of(list("[a-z]{1,5}|\\[::1\\]")), any::<Option<bool>>(), of(text(&*format!("off|{IP_PORT}").leak()))),
        b in (of(text(FILE)), of(text(FILE)), of(text(FILE)), of(text(FILE))),
        c in (of(text(APP)), of(text(FILE)), any::<Option<bool>>(), any::<Option<bool>>()),
        d in (of(text(FILE)), of(text(FILE)), of(text(FILE)), of(text(FILE)), of(span())),
        e in (of(LOG), of(text("auto|text|json")), of(text("|off|metrics:[1-9]{1,4}"))),
        f in (of(count()), of(count()), of(text("off|[0-9]{1,9}[KMG]i?B")), of(count())),
        g in (of(count()), of(count()), of(count()), of(size())),
    ) -> NodeArgs {
        let (gateway, gateway_host, gateway_public, admin) = a;
        let (dir, cert, key, ca) = b;
        let (app, handlers, builtin, tracebacks) = c;
        let (on_connect, on_connect_fail, on_disconnect, on_idle, idle_after) = d;
        let (log, log_format, statsd) = e;
        let (max_requests, max_streams, max_body, max_connections) = f;
        let (max_pipes, max_handshakes, max_handshakes_per_source, memory_budget) = g;
        NodeArgs {
            gateway, gateway_host, gateway_public, admin, dir, cert, key, ca, app, handlers,
            builtin, tracebacks, on_connect, on_connect_fail, on_disconnect, on_idle, idle_after,
            log, log_format, statsd, max_requests, max_streams, max_body, max_connections,
            max_pipes, max_handshakes, max_handshakes_per_source, memory_budget, ..pipe
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn settings_come_back_from_toml(args in args()) {
        let file = ConfigFile::parse(Path::new("node.toml"), &args.to_toml());
        prop_assert_eq!(file.map(|file| file.args).map_err(|error| error.to_string()), Ok(args));
    }

    #[test]
    fn settings_come_back_from_flags(args in args()) {
        let flags = args.to_flags();
        let parsed = cli::parse("server", &flags);
        prop_assert_eq!(parsed.map(|flags| flags.args).map_err(|error| error.to_string()), Ok(args));
    }

    #[test]
    fn settings_as_environment_are_the_flags_with_other_names(args in args()) {
        let env: Vec<String> = args.to_env().into_iter().map(|(name, value)| {
            let key = name.trim_start_matches("RESTPIPE_").to_ascii_lowercase().replace('_', "-");
            format!("--{key}={value}")
        }).collect();
        prop_assert_eq!(env, args.to_flags());
    }

    #[test]
    fn no_text_at_all_makes_a_file_panic(text in "\\PC{0,40}|[a-z-]{1,8} = .{0,20}") {
        let _ = ConfigFile::parse(Path::new("node.toml"), &text);
    }
}

#[test]
fn every_setting_is_drawn() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let tree = args().new_tree(&mut runner).expect("a value");
        seen.extend(tree.current().to_env().into_iter().map(|(name, _)| name));
    }
    let command = NodeArgs::augment_args(Command::new("restpipe"));
    let all = command.get_arguments().filter_map(|arg| arg.get_env());
    let all: std::collections::BTreeSet<String> =
        all.map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(seen, all);
}
