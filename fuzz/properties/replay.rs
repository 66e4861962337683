//! For the tests of the workspace, where no fuzzer runs: what is in git for a target.

use std::path::Path;

/// Gives each file of `fuzz/seeds/TARGET` to the target's property.
///
/// # Panics
/// If there is none, or the property does not hold.
pub(crate) fn replay(target: &str, check: impl Fn(&[u8])) {
    // Of any crate that lies beside `fuzz`.
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let all = std::fs::read_dir(&seeds).expect("a directory");
    let mut files: Vec<_> = all.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there is nothing in {}", seeds.display());
    for file in files {
        // The last that is shown is the one that fails.
        eprintln!("{}", file.display());
        check(&std::fs::read(&file).expect("a file"));
    }
}
