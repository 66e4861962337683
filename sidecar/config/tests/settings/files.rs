//! node.toml: finding it, reading it, and errors that say where in it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use restpipe_config::{ConfigFile, MAX_FILE, NodeFlags, Role, load};

use crate::cli::parse;

type Outcome = Result<(), Box<dyn Error>>;

/// An empty directory of this test's own, under the target directory.
fn dir(name: &str) -> Result<PathBuf, std::io::Error> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn flags(dir: &Path, more: &[&str]) -> Result<NodeFlags, clap::Error> {
    let dir = format!("--dir={}", dir.display());
    parse("server", &[&[dir.as_str()], more].concat())
}

fn refusal(text: &str) -> String {
    let parsed = ConfigFile::parse(Path::new("node.toml"), text);
    parsed.map_or_else(|error| error.to_string(), |file| format!("taken: {:?}", file.args))
}

#[test]
fn node_toml_in_the_node_directory_is_read_if_it_is_there() -> Outcome {
    let dir = dir("found")?;
    let level = || -> Result<String, Box<dyn Error>> {
        Ok(load(Role::Server, &flags(&dir, &[])?, &|_| None)?.telemetry.log)
    };
    assert_eq!(level()?, "info");
    fs::write(dir.join("node.toml"), "log = 'warn'")?;
    assert_eq!(level()?, "warn");
    fs::write(dir.join("other.toml"), "log = 'error'")?;
    let other = format!("--config={}", dir.join("other.toml").display());
    assert_eq!(load(Role::Server, &flags(&dir, &[&other])?, &|_| None)?.telemetry.log, "error");
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_is_followed_as_mounted_secrets_need_it() -> Outcome {
    let dir = dir("linked")?;
    fs::write(dir.join("data"), "log = 'warn'")?;
    std::os::unix::fs::symlink("data", dir.join("node.toml"))?;
    assert_eq!(load(Role::Server, &flags(&dir, &[])?, &|_| None)?.telemetry.log, "warn");
    Ok(())
}

#[test]
fn a_file_that_is_named_must_be_there() -> Outcome {
    let missing = dir("missing")?.join("x.toml");
    let flags = parse("server", &["--config", &missing.to_string_lossy()])?;
    let error = load(Role::Server, &flags, &|_| None).map_err(|error| error.to_string());
    let text =
        format!("cannot read {}: --config names it, but there is no such file", missing.display());
    assert_eq!(error, Err(text));
    Ok(())
}

#[test]
fn what_is_no_settings_file_is_not_read() -> Outcome {
    let dir = dir("odd")?;
    let read = |path: &Path| ConfigFile::read(path).map_err(|error| error.to_string());
    let text =
        format!("{} is not a regular file: give --config the path of a node.toml", dir.display());
    assert_eq!(read(&dir), Err(text));

    let large = dir.join("large.toml");
    fs::write(&large, "#".repeat(usize::try_from(MAX_FILE)?))?;
    assert!(read(&large).is_ok_and(|file| file.is_some()));
    fs::write(&large, "#".repeat(usize::try_from(MAX_FILE)? + 1))?;
    let text = format!("{} is larger than 1048576 bytes: it is not a node.toml", large.display());
    assert_eq!(read(&large), Err(text));

    let binary = dir.join("binary.toml");
    fs::write(&binary, b"# one\nlog = '\xff'")?;
    assert_eq!(read(&binary), Err(format!("{} line 2: this is not UTF-8 text", binary.display())));

    let below = large.join("node.toml");
    assert!(
        read(&below)
            .is_err_and(|text| text.starts_with(&format!("cannot read {}: ", below.display())))
    );
    Ok(())
}

#[test]
fn unknown_keys_are_named_with_line_and_nearest_key() {
    assert_eq!(
        refusal("\n# x\nlisen = '0.0.0.0:1'"),
        "node.toml line 3: unknown key `lisen`: did you mean `listen`?"
    );
    assert_eq!(
        refusal("max_streams = 1"),
        "node.toml line 1: unknown key `max_streams`: did you mean `max-streams`?"
    );
    let keys = "the keys are the flags of `restpipe server --help` and `restpipe client --help`";
    assert_eq!(
        refusal("[certificates]\nx = 1"),
        format!("node.toml line 1: unknown key `certificates`: {keys}")
    );
    assert_eq!(refusal("config = 'x'"), format!("node.toml line 1: unknown key `config`: {keys}"));
    let first = refusal("zzzzzzzz = 1\naaaaaaaa = 1");
    assert_eq!(first, format!("node.toml line 1: unknown key `zzzzzzzz`: {keys}"));
}

#[test]
fn bad_values_are_named_with_line_and_key() {
    let cases = [
        ("wait = 5", "wait = 5: give a duration with its unit, for example 5s, 1m30s or 250ms"),
        ("wait = '5'", "wait = '5': give a duration with its unit, for example 5s, 1m30s or 250ms"),
        ("max-streams = 9000", "max-streams = 9000: give a whole number from 1 to 4096"),
        (
            "max-streams = 2.5",
            "max-streams = 2.5: invalid type: floating point `2.5`, expected a string or a whole number",
        ),
        (
            "names-version = -1",
            "names-version = -1: give a whole number from 0 to 9223372036854775807",
        ),
        ("heartbeat = '2m'", "heartbeat = '2m': give a duration from 500ms to 1m"),
        ("memory-budget = '1kB'", "memory-budget = '1kB': give at least 1MiB"),
        (
            "clients = ['a', '*']",
            "clients = '*': give a DNS name, not an address, for example fileserver",
        ),
        ("clients = 'a'", "clients = 'a': invalid type: string \"a\", expected a sequence"),
        ("builtin = 'yes'", "builtin = 'yes': invalid type: string \"yes\", expected a boolean"),
        ("dir = ''", "dir = '': give a path, for example /etc/restpipe"),
    ];
    for (text, why) in cases {
        assert_eq!(refusal(&format!("log = 'info'\n{text}")), format!("node.toml line 2: {why}"));
    }
}

#[test]
fn bad_toml_is_one_line_with_its_number() {
    for text in
        ["log = 'a'\nwait = ", "log = 'a'\nlog = 'b'", "log = 'a'\nwait 5s", "log = 'a'\nx = [1"]
    {
        let line = refusal(text);
        assert!(line.starts_with("node.toml line ") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_plain_number_is_a_size_in_bytes() -> Outcome {
    let file = ConfigFile::parse(Path::new("node.toml"), "max-body = 1048576")?;
    assert_eq!(file.args.to_toml(), "max-body = \"1MiB\"\n");
    Ok(())
}
