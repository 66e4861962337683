//! Tables in docs/ that the code can make or check. `UPDATE=1` (`make docs`)
//! rewrites those that it can make.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use restpipe::gateway::ProblemCode;

/// What is between these lines is made, not written.
const BEGIN: &str = "<!-- made by `make docs` -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// All codes. The match below does not compile when one is missing there,
/// which is the reminder to add it here.
fn codes() -> Vec<ProblemCode> {
    use ProblemCode as C;
    let all = vec![
        C::BadPath,
        C::BadRequest,
        C::Forbidden,
        C::WrongDirection,
        C::NoEndpoint,
        C::UnknownPeer,
        C::Suspended,
        C::MethodNotAllowed,
        C::BodyTimeout,
        C::TooLarge,
        C::BadHost,
        C::Busy,
        C::HeadersTooLarge,
        C::PeerLost,
        C::BadReply,
        C::HandlerLost,
        C::AppRefused,
        C::PeerAway,
        C::PeerBusy,
        C::GoingAway,
        C::Draining,
        C::PeerTimeout,
    ];
    for code in &all {
        match code {
            C::BadPath
            | C::BadRequest
            | C::Forbidden
            | C::WrongDirection
            | C::NoEndpoint
            | C::UnknownPeer
            | C::Suspended
            | C::MethodNotAllowed
            | C::BodyTimeout
            | C::TooLarge
            | C::BadHost
            | C::Busy
            | C::HeadersTooLarge
            | C::PeerLost
            | C::BadReply
            | C::HandlerLost
            | C::AppRefused
            | C::PeerAway
            | C::PeerBusy
            | C::GoingAway
            | C::Draining
            | C::PeerTimeout => {}
        }
    }
    all
}

fn page(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let text = std::fs::read_to_string(&path).expect("the page is there");
    (path, text)
}

/// The names of all functions in the Rust files below a directory.
fn functions(dir: &Path, found: &mut HashSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"))
    {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_test_that_the_page_on_bad_input_names_is_there() {
    let (_, text) = page("bad-input.md");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let tests = rows.filter_map(|row| row.trim_end_matches('|').rsplit_once('|'));
    let named = tests.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let named: Vec<_> = named.filter(|name| !name.contains(' ')).collect();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut there = HashSet::new();
    ["tests/tests", "tests/cluster", "sidecar", "operator"]
        .iter()
        .for_each(|dir| functions(&root.join(dir), &mut there));
    let missing: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(missing.is_empty() && named.len() > 120, "{missing:#?} of {}", named.len());
}

#[test]
fn the_configuration_page_is_what_the_flags_say() {
    let (path, text) = page("configuration.md");
    let (before, rest) = text.split_once(BEGIN).expect("the first marker");
    let (_, after) = rest.split_once(END).expect("the second marker");
    let table = restpipe_config::settings_table();
    let wanted = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, wanted).expect("the page can be written");
        return;
    }
    assert!(text == wanted, "docs/configuration.md is behind the flags: run `make docs`");
}

#[test]
fn the_outcomes_page_has_a_row_for_every_code_and_no_other() {
    let (_, text) = page("outcomes.md");
    // | `code` | status | …
    let row = |line: &str| {
        let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let status = rest.split_whitespace().next()?.parse::<u16>().ok()?;
        Some((code.to_owned(), status))
    };
    let mut written: Vec<_> = text.lines().filter_map(row).collect();
    let mut real: Vec<_> =
        codes().iter().map(|code| (code.word().to_owned(), code.status().as_u16())).collect();
    written.sort();
    real.sort();
    assert_eq!(written, real, "docs/outcomes.md and the code differ");
}
