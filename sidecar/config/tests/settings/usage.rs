//! The command line: its help, and its errors in one line.

use restpipe_config::{NodeFlags, one_line_with};

use crate::cli::{check, env, help, nothing, parse};

/// The one line for an error of `restpipe server FLAGS`, in this environment.
fn line(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let words: Vec<String> =
        ["/bin/restpipe", "server"].iter().chain(flags).map(|word| (*word).to_owned()).collect();
    match parse("server", flags) {
        Ok(flags) => format!("taken: {flags:?}"),
        Err(error) => one_line_with(&error, &words, &env(variables)),
    }
}

#[test]
fn the_command_is_one_that_clap_accepts() {
    check();
}

#[test]
fn help_has_headings_defaults_and_environment_names() {
    let server = help("server");
    assert!(server.starts_with("Waits for pipes"), "{server}");
    for heading in ["Pipe", "Gateway", "Identity", "Handlers", "Hooks", "Observability", "Limits"] {
        assert!(server.contains(&format!("\n{heading}:\n")), "{heading} in {server}");
    }
    let wait = "How long a request waits for an absent peer; 0s does not wait [default: 20s] [env: RESTPIPE_WAIT=]";
    assert!(server.contains(wait), "{server}");
    assert_eq!(server.matches("[default: 20s]").count(), 1);
}

#[test]
fn help_leaves_out_what_is_for_the_other_role() {
    let (server, client) = (help("server"), help("client"));
    assert!(server.contains("--listen") && !server.contains("--server-name"), "{server}");
    assert!(client.contains("--server-name") && !client.contains("--max-pipes"), "{client}");
    let foreign = parse("client", &["--max-pipes=3"])
        .map(|flags: NodeFlags| flags.args.max_pipes.map(|n| n.get()));
    assert!(matches!(foreign, Ok(Some(3))), "still parsed, for an error that says why it is wrong");
}

#[test]
fn usage_errors_are_one_line_with_flag_value_and_cure() {
    let cases: [(&[&str], &str); 9] = [
        (
            &["--wait=5"],
            "invalid value '5' for '--wait <DURATION>': give a duration with its unit, for example 5s, 1m30s or 250ms",
        ),
        (
            &["--max-streams", "0"],
            "invalid value '0' for '--max-streams <COUNT>': give a whole number from 1 to 4096",
        ),
        (
            &["--builtin=maybe"],
            "invalid value 'maybe' for '--builtin[=<BOOL>]': give true or false (1, 0, yes, no, on and off are taken too)",
        ),
        (
            &["--gateway=127.0.0.1:1,x"],
            "invalid value '127.0.0.1:1,x' for '--gateway <ADDRESSES>': item 'x': give IP:PORT or unix:/path, for example 127.0.0.1:7070",
        ),
        (
            &["--lisen=x"],
            "unexpected argument '--lisen' found; a similar argument exists: '--listen'",
        ),
        (&["--wait"], "a value is required for '--wait <DURATION>' but none was supplied"),
        (
            &["--wait=1s", "--wait=2s"],
            "the argument '--wait <DURATION>' cannot be used multiple times",
        ),
        (&["extra"], "unexpected argument 'extra' found"),
        (
            &["--app="],
            "invalid value '' for '--app <ADDRESS>': give http://HOST:PORT or unix:/path, for example http://127.0.0.1:8080",
        ),
    ];
    for (flags, text) in cases {
        assert_eq!(line(flags, &[]), format!("{text}; see `restpipe server --help`"));
    }
}

#[test]
fn a_bad_value_from_the_environment_is_said_to_be_from_there() {
    // clap reads the real environment, which a test cannot set: the error is the same.
    let text = "invalid value '5' for '--idle-after <DURATION>': give a duration with its unit, for example 5s, 1m30s or 250ms";
    let flags = ["--idle-after=5"];
    assert_eq!(
        line(&flags, &[("RESTPIPE_IDLE_AFTER", "5")]),
        format!(
            "{text} (from the environment variable RESTPIPE_IDLE_AFTER); see `restpipe server --help`"
        )
    );
    let other = line(&flags, &[("RESTPIPE_IDLE_AFTER", "6")]);
    assert_eq!(other, format!("{text}; see `restpipe server --help`"));
}

#[test]
fn a_list_given_twice_is_told_how_lists_are_written() {
    assert_eq!(
        line(&["--clients=a", "--clients=b"], &[]),
        "the argument '--clients <NAMES>' cannot be used multiple times; give it once, with commas between the values; see `restpipe server --help`"
    );
}

#[test]
fn errors_before_a_subcommand_point_at_the_program() {
    let words = ["restpipe".to_owned()];
    let line =
        nothing().map_or_else(|error| one_line_with(&error, &words, &|_| None), |()| String::new());
    assert_eq!(line, "something is missing after `restpipe`; see `restpipe --help`");
    let words = ["restpipe".to_owned(), "serve".to_owned()];
    let line = parse("serve", &[""; 0])
        .map_or_else(|error| one_line_with(&error, &words, &|_| None), |_| String::new());
    assert_eq!(
        line,
        "unrecognized subcommand 'serve'; a similar subcommand exists: 'server'; see `restpipe --help`"
    );
}
