//! What `restpipe-operator check` has found.

use serde_json::Value;

use crate::Ran;

/// A report, as `-o json` writes it.
#[derive(Debug)]
pub struct Checked {
    /// The exit status.
    pub status: Option<i32>,
    report: Value,
}

impl Checked {
    /// Reads the report of `check -o json`, whose last word is that of its exit status.
    pub fn of(ran: Ran) -> Self {
        let report: Value = serde_json::from_str(&ran.output)
            .unwrap_or_else(|error| panic!("{error}\n{}{}", ran.output, ran.errors));
        assert_eq!(ran.errors, "", "all is said in the report");
        let result = if ran.status == Some(0) { "ok" } else { "failed" };
        assert_eq!(report["result"], result, "{report:#}");
        Self { status: ran.status, report }
    }

    /// All looks: `SECTION: RESULT`.
    pub fn results(&self) -> Vec<String> {
        let text = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
        let line = |one: &Value| format!("{}: {}", text(one, "section"), text(one, "result"));
        self.report["checks"].as_array().unwrap().iter().map(line).collect()
    }

    /// Message and hint of the one look in `section` that begins so and had this result.
    pub fn said(&self, section: &str, check: &str, result: &str) -> [String; 2] {
        let begins = |one: &&Value| {
            one["section"] == section && one["check"].as_str().unwrap().starts_with(check)
        };
        let found: Vec<_> =
            self.report["checks"].as_array().unwrap().iter().filter(begins).collect();
        assert_eq!(found.len(), 1, "{section}: {check}\n{:#}", self.report);
        assert_eq!(found[0]["result"], result, "{section}: {check}\n{:#}", self.report);
        ["message", "hint"].map(|key| found[0][key].as_str().unwrap_or_default().to_owned())
    }

    /// The sections in which something failed.
    pub fn failed(&self) -> Vec<&str> {
        let checks = self.report["checks"].as_array().unwrap().iter();
        let mut sections: Vec<_> = checks
            .filter(|one| one["result"] == "failed")
            .map(|one| one["section"].as_str().unwrap())
            .collect();
        sections.dedup();
        sections
    }
}
