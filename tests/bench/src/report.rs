//! The table of a run, and the same as JSON and Markdown.

use std::fs;
use std::path::Path;

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::args::RunArgs;
use crate::bench::Bench;
use crate::case::Case;
use crate::stats::Spread;

/// Values by name, one of each round.
#[derive(Debug, Default)]
pub(crate) struct Rounds(Vec<(String, Vec<f64>)>);

impl Rounds {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(have, _)| have == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name.to_owned(), vec![value])),
        }
    }

    fn get(&self, name: &str) -> &[f64] {
        self.0.iter().find(|(have, _)| have == name).map_or(&[], |(_, values)| values)
    }
}

/// What a figure must be, and what is wanted of it beyond that.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bound {
    must: f64,
    wanted: f64,
    at_most: bool,
}

impl Bound {
    pub(crate) fn at_most(must: f64, wanted: f64) -> Self {
        Self { must, wanted, at_most: true }
    }

    pub(crate) fn at_least(must: f64, wanted: f64) -> Self {
        Self { must, wanted, at_most: false }
    }

    fn verdict(self, got: f64) -> &'static str {
        let holds = |bound| if self.at_most { got <= bound } else { got >= bound };
        match (holds(self.must), holds(self.wanted)) {
            (false, _) => "MISSED",
            (true, false) => "met",
            (true, true) => "met, as wanted",
        }
    }

    fn words(self) -> String {
        let sign = if self.at_most { "≤" } else { "≥" };
        if self.must.total_cmp(&self.wanted).is_eq() {
            return format!("{sign} {}", number(self.must));
        }
        format!("{sign} {} ({})", number(self.must), number(self.wanted))
    }
}

#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    what: String,
    unit: &'static str,
    bound: Option<Bound>,
    got: Option<Spread>,
    verdict: String,
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        let spread = match self.got {
            Some(got) if got.rounds > 1 => format!("{} … {}", number(got.min), number(got.max)),
            _ => String::new(),
        };
        [
            format!("{}{unit}", self.what),
            self.bound.map(Bound::words).unwrap_or_default(),
            self.got.map(|got| number(got.median)).unwrap_or_default(),
            spread,
            self.verdict.clone(),
        ]
    }
}

const HEAD: [&str; 5] = ["what", "must be (wanted)", "got, median", "lowest … highest", "verdict"];

/// Above this load average, before anything is started, times say little.
const QUIET: f64 = 0.5;

/// Everything that a run has to say.
#[derive(Debug)]
pub(crate) struct Report {
    case: &'static str,
    rows: Vec<Row>,
    failures: usize,
    machine: serde_json::Value,
}

impl Report {
    pub(crate) fn new(args: &RunArgs) -> Self {
        let mut report =
            Self { case: "the machine", rows: Vec::new(), failures: 0, machine: machine(args) };
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        if let Some(load) = load.split(' ').next().and_then(|load| load.parse::<f64>().ok())
            && load > QUIET
        {
            report.remark(&format!("others were busy here, load average {load}: times are bent"));
        }
        report
    }

    pub(crate) fn section(&mut self, case: Case) {
        self.case = case.title();
    }

    fn row(&mut self, what: &str, unit: &'static str, bound: Option<Bound>, values: &[f64]) {
        let got = Spread::of(values.iter().copied());
        let verdict = match (bound, got) {
            (_, None) => {
                self.failures += 1;
                "not measured"
            }
            (Some(bound), Some(got)) => bound.verdict(got.median),
            (None, Some(_)) => "",
        };
        eprintln!(
            "  {what}: {} {unit} {verdict}",
            got.map_or(String::new(), |got| number(got.median))
        );
        let verdict = verdict.to_owned();
        self.rows.push(Row { case: self.case, what: what.to_owned(), unit, bound, got, verdict });
    }

    /// A figure without a judgement.
    pub(crate) fn info(&mut self, rounds: &Rounds, what: &str, unit: &'static str) {
        self.row(what, unit, None, rounds.get(what));
    }

    /// A figure with one.
    pub(crate) fn judged(&mut self, rounds: &Rounds, what: &str, unit: &'static str, bound: Bound) {
        self.row(what, unit, Some(bound), rounds.get(what));
    }

    /// The ratio of the second node to the first, by pairs of rounds.
    pub(crate) fn versus(&mut self, bench: &Bench, rounds: &Rounds, what: &str) {
        let [first, second] = &bench.pairs[..] else { return };
        let of = |label: &str| rounds.get(&format!("{label}: {what}"));
        let ratios: Vec<f64> =
            of(&first.label).iter().zip(of(&second.label)).map(|(a, b)| b / a).collect();
        self.row(&format!("vs / restpipe: {what}"), "", None, &ratios);
    }

    /// A sentence in the table.
    pub(crate) fn remark(&mut self, text: &str) {
        eprintln!("  {text}");
        let what = text.to_owned();
        let (case, verdict) = (self.case, String::new());
        self.rows.push(Row { case, what, unit: "", bound: None, got: None, verdict });
    }

    /// A measurement that could not be made.
    pub(crate) fn failed(&mut self, case: Case, error: &anyhow::Error) {
        self.failures += 1;
        eprintln!("  not measured: {error:#}");
        self.rows.push(Row {
            case: case.title(),
            what: format!("{error:#}"),
            unit: "",
            bound: None,
            got: None,
            verdict: "not measured".to_owned(),
        });
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// Writes the table to stdout.
    pub(crate) fn print(&self, markdown: bool) {
        if markdown {
            println!("{}", self.markdown());
            return;
        }
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(HEAD);
        let mut case = "";
        for row in &self.rows {
            if row.case != case {
                case = row.case;
                table.add_row([format!("[{case}]")]);
            }
            table.add_row(row.cells());
        }
        println!("{table}");
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let mut case = "";
        let mut line = |cells: &[String]| {
            text += &format!("| {} |\n", cells.join(" | "));
        };
        line(&HEAD.map(str::to_owned));
        line(&HEAD.map(|_| "---".to_owned()));
        for row in &self.rows {
            if row.case != case {
                case = row.case;
                line(&[
                    format!("**{case}**"),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
            line(&row.cells());
        }
        text
    }

    /// Writes the table and facts about the machine to a file.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let all = json!({ "machine": self.machine, "rows": self.rows });
        let text = serde_json::to_string_pretty(&all)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }
}

fn machine(args: &RunArgs) -> serde_json::Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model.map(|(_, model)| model),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
        "memory": read("/proc/meminfo").lines().next(),
        "arguments": format!("{args:?}"),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// Three or four digits that count.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        let whole = format!("{value:.0}");
        let mut text = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0
                && (whole.len() - index).is_multiple_of(3)
                && digit.is_ascii_digit()
                && text != "-"
            {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    let digits = if size >= 10.0 { 1 } else { 2 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_never_hides_a_miss() {
        let most = Bound::at_most(1.35, 1.15);
        assert_eq!(most.verdict(1.1), "met, as wanted");
        assert_eq!(most.verdict(1.3), "met");
        assert_eq!(most.verdict(1.36), "MISSED");
        let least = Bound::at_least(0.7, 0.85);
        assert_eq!(least.verdict(0.69), "MISSED");
        assert_eq!(least.verdict(0.7), "met");
    }

    #[test]
    fn numbers_have_as_many_digits_as_count() {
        assert_eq!(number(63_412.4), "63,412");
        assert_eq!(number(-1234.0), "-1,234");
        assert_eq!(number(123.4), "123");
        assert_eq!(number(37.12), "37.1");
        assert_eq!(number(0.8), "0.80");
    }

    #[test]
    fn rounds_are_kept_by_name() {
        let mut rounds = Rounds::default();
        rounds.add("a", 1.0);
        rounds.add("b", 9.0);
        rounds.add("a", 2.0);
        assert_eq!(rounds.get("a"), [1.0, 2.0]);
        assert!(rounds.get("c").is_empty());
    }
}
