//! What documents print, for tests that do it.

use crate::top;

/// What lines of code are indented by.
const INDENT: &str = "    ";

fn read(file: &str) -> String {
    std::fs::read_to_string(top().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The first block of lines that a document has behind the text `after`, without their indentation.
pub fn printed_block(file: &str, after: &str) -> Vec<String> {
    let text = read(file);
    let (_, rest) = text.split_once(after).unwrap_or_else(|| panic!("{file} has no {after:?}"));
    let code = rest.lines().map(|line| line.strip_prefix(INDENT)).skip_while(Option::is_none);
    let block: Vec<String> = code.map_while(|line| line.map(str::to_owned)).collect();
    assert!(!block.is_empty(), "{file} has no lines of code behind {after:?}");
    block
}

/// The line of code that begins so, wherever a document has it: in a block, a comment or a sentence.
pub fn printed_line(file: &str, begin: &str) -> String {
    let text = read(file);
    let mut lines = text.lines().map(|line| line.trim_start_matches(['#', ' ', '`']));
    let line = lines.find(|line| line.starts_with(begin));
    let line = line.unwrap_or_else(|| panic!("{file} has no line that begins with {begin:?}"));
    line.split('`').next().unwrap_or_default().trim_end_matches('.').to_owned()
}
