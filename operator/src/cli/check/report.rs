//! What was looked at, and how it is printed.

use std::fmt::Write;

use serde::Serialize;

/// What came of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Result {
    /// As it should be.
    Ok,
    /// Works, and somebody should know.
    Warning,
    /// Does not work.
    Failed,
    /// Could not be looked at.
    Skipped,
}

/// One look.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    section: &'static str,
    check: String,
    result: Result,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
}

/// All looks, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Report(Vec<Check>);

impl Report {
    /// It is as it should be.
    pub(super) fn ok(&mut self, section: &'static str, check: impl Into<String>) {
        self.add(section, check.into(), Result::Ok, "", "");
    }

    /// It works, and somebody should know.
    pub(super) fn warning(
        &mut self,
        section: &'static str,
        check: impl Into<String>,
        message: &str,
        hint: &str,
    ) {
        self.add(section, check.into(), Result::Warning, message, hint);
    }

    /// It does not work.
    pub(super) fn failed(
        &mut self,
        section: &'static str,
        check: impl Into<String>,
        message: &str,
        hint: &str,
    ) {
        self.add(section, check.into(), Result::Failed, message, hint);
    }

    /// It could not be looked at.
    pub(super) fn skipped(
        &mut self,
        section: &'static str,
        check: impl Into<String>,
        message: &str,
    ) {
        self.add(section, check.into(), Result::Skipped, message, "");
    }

    fn add(
        &mut self,
        section: &'static str,
        check: String,
        result: Result,
        message: &str,
        hint: &str,
    ) {
        let (message, hint) = (message.trim().to_owned(), hint.to_owned());
        self.0.push(Check { section, check, result, message, hint });
    }

    /// Whether nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.count(Result::Failed) == 0
    }

    fn count(&self, result: Result) -> usize {
        self.0.iter().filter(|check| check.result == result).count()
    }

    /// For people: a line for each look, under its section.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for check in &self.0 {
            if check.section != section {
                section = check.section;
                let line = "-".repeat(section.len());
                let _ =
                    writeln!(text, "{}{section}\n{line}", if text.is_empty() { "" } else { "\n" });
            }
            let mark = match check.result {
                Result::Ok => '√',
                Result::Warning => '‼',
                Result::Failed => '×',
                Result::Skipped => '·',
            };
            let _ = writeln!(text, "{mark} {}", check.check);
            for line in [&check.message, &check.hint].into_iter().flat_map(|said| said.lines()) {
                let _ = writeln!(text, "    {line}");
            }
        }
        let (bad, odd, left) =
            (self.count(Result::Failed), self.count(Result::Warning), self.count(Result::Skipped));
        let _ = writeln!(
            text,
            "\n{} good, {odd} with a warning, {bad} failed, {left} not looked at",
            self.count(Result::Ok)
        );
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        let result = if self.is_good() { Result::Ok } else { Result::Failed };
        serde_json::json!({ "result": result, "checks": self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_marked_and_says_the_cure_and_a_warning_is_no_failure() {
        let mut report = Report::default();
        report.ok("kinds", "are there");
        report.warning("links", "shop/a is up", "it is suspended", "");
        assert!(report.is_good());
        report.failed("links", "shop/b is up", "no pods\nat all", "make some");
        assert!(!report.is_good());
        let text = report.text();
        assert!(
            text.starts_with(
                "kinds\n-----\n√ are there\n\nlinks\n-----\n‼ shop/a is up\n    it is suspended\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("× shop/b is up\n    no pods\n    at all\n    make some\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\n1 good, 1 with a warning, 1 failed, 0 not looked at\n"),
            "{text}"
        );
        let json = report.json();
        assert_eq!(json["result"], "failed");
        assert_eq!(json["checks"][2]["hint"], "make some");
    }
}
