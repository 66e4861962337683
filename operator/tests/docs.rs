//! The tables of docs/ have a row for each reason and each metric that the code gives, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// A file of docs/.
fn page(name: &str) -> String {
    let page = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(page).expect("the page is there")
}

/// What the first cells of `lines` name, those of tables among them.
fn first_cells<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let cells = lines.filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let words = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    words.collect()
}

/// The table in a section of docs/kubernetes.md.
fn table<'a>(page: &'a str, section: &str) -> Vec<&'a str> {
    let (_, rest) = page.split_once(section).expect("the page has the section");
    let text = rest.split("\n## ").next().unwrap_or_default();
    let table = text.lines().skip_while(|line| !line.starts_with('|'));
    table.take_while(|line| line.starts_with('|')).collect()
}

fn owned(words: BTreeSet<&str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_reason_of_a_condition_has_a_row_with_its_cure() {
    let source = include_str!("../api/src/condition.rs");
    let (_, reasons_part) = source.split_once("pub mod reason").expect("the module is there");
    let page = page("kubernetes.md");
    let table = table(&page, "## What the conditions say, and what to do\n");
    assert_eq!(first_cells(table.iter().copied()), owned(reasons(reasons_part)));
    for row in table {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, _, meaning, cure, _] = cells[..] else { panic!("three cells: {row}") };
        assert!(!cure.is_empty() || meaning.starts_with("all is well"), "no cure: {row}");
    }
}

#[test]
fn every_reason_of_an_event_has_a_row() {
    let source = include_str!("../src/plan/event.rs");
    let page = page("kubernetes.md");
    let table = table(&page, "### Events\n");
    assert_eq!(first_cells(table.into_iter()), owned(reasons(source)));
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let each = entries.map(|entry| entry.path());
    each.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_metric_of_controller_and_webhook_has_a_row() {
    const PREFIXES: [&str; 2] = ["restpipe_operator_", "restpipe_webhook_"];
    let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut registered = BTreeSet::new();
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = fs::read_to_string(&file).expect("source text");
        let quoted = source.split('"').filter(|text| ours(text));
        registered.extend(quoted.map(str::to_owned));
    }
    assert!(registered.len() >= 16, "else this reads the sources wrongly: {registered:?}");
    let page = page("metrics.md");
    let rows: BTreeSet<String> =
        first_cells(page.lines()).into_iter().filter(|name| ours(name)).collect();
    assert_eq!(rows, registered);
}

#[test]
fn every_annotation_that_a_user_sets_is_told_of() {
    let page = page("kubernetes.md");
    for source in [include_str!("../api/src/names.rs"), include_str!("../api/src/pods.rs")] {
        for (before, constant) in source.split("pub const ").zip(source.split("pub const ").skip(1))
        {
            let comment = before.rsplit("\n\n").next().unwrap_or_default();
            let value = constant.split('"').nth(1).unwrap_or_default();
            if comment.starts_with("/// Annotation") && !comment.contains("that injection writes") {
                // Its whole name, not one that begins with it.
                let told = page.match_indices(value).any(|(at, _)| {
                    let next = page[at + value.len()..].chars().next();
                    next.is_none_or(|next| !next.is_alphanumeric() && next != '-')
                });
                assert!(told, "{value} is not in docs/kubernetes.md");
            }
        }
    }
}

#[test]
fn every_role_that_users_get_by_the_chart_is_in_the_table_of_rights() {
    let template = include_str!("../../charts/restpipe/templates/user-roles.yaml");
    let roles: Vec<_> = template
        .lines()
        .filter_map(|line| line.strip_prefix(r#"  name: {{ include "restpipe.fullname" . }}-"#))
        .collect();
    assert_eq!(roles.len(), template.matches("kind: ClusterRole").count());
    let page = page("security.md");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    for role in roles {
        let cell = format!("`restpipe-{role}`");
        assert!(rows.iter().any(|row| row.contains(&cell)), "{cell} is not in docs/security.md");
    }
}
