//! The tables of docs/kubernetes.md have a row for each reason that the code gives, and no other.

use std::collections::BTreeSet;

/// Reasons in a source file, by their constants; not those that say that all is well.
fn reasons(source: &str) -> BTreeSet<&str> {
    let lines: Vec<&str> = source.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0].trim() != "/// All is well.")
        .filter_map(|pair| {
            let (name, value) =
                pair[1].trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
            assert!(name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'));
            value.strip_suffix("\";")
        })
        .collect()
}

/// What the first cells of the table in a section name.
fn rows(section: &str) -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, rest) = page.split_once(section).expect("the page has the section");
    let text = rest.split("\n## ").next().unwrap_or_default();
    let table = text.lines().skip_while(|line| !line.starts_with('|'));
    let cells =
        table.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    let words = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    words.collect()
}

fn owned(words: BTreeSet<&str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_reason_of_a_condition_has_a_row_with_its_cure() {
    let source = include_str!("../api/src/condition.rs");
    let (_, reasons_part) = source.split_once("pub mod reason").expect("the module is there");
    assert_eq!(rows("## What the conditions say, and what to do\n"), owned(reasons(reasons_part)));
}

#[test]
fn every_reason_of_an_event_has_a_row() {
    let source = include_str!("../src/plan/event.rs");
    assert_eq!(rows("### Events\n"), owned(reasons(source)));
}
