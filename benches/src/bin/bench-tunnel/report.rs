//! The table, as text and as JSON. (b) is two HAProxy joined by TLS 1.3.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::stand::{ADIT, DIRECT, HAPROXY};

/// All rows of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One figure for each way.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) work: String,
    /// The unit of the figures.
    pub(crate) unit: &'static str,
    /// What is to be reached.
    pub(crate) goal: Goal,
    /// The rounds of each way.
    pub(crate) rounds: BTreeMap<&'static str, Vec<f64>>,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At least so many times the figure of two HAProxy.
    AtLeast(f64),
    /// At most so many times the figure of two HAProxy.
    AtMost(f64),
    /// At most this, in the unit of the row.
    Within(f64),
    /// Both: at most this, and at most so many times the figure of two HAProxy.
    WithinAndAtMost(f64, f64),
    /// None; told for comparison.
    None,
}

impl Report {
    /// Adds a row.
    pub(crate) fn push(&mut self, row: Row) {
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// Returns the first two lines of the table; each row is printed when it is added.
    pub(crate) fn head() -> String {
        let titles = ["work", "(a) direct", "(b) HAProxy", "Adit", "Adit/(b)", "goal", "met"];
        let [work, direct, haproxy, adit, ratio, goal, met] = titles;
        format!(
            "| {work:<52} | {direct:>10} | {haproxy:>11} | {adit:>10} | {ratio:>8} | {goal:<20} | {met:<3} |\n|{}|",
            ["-"; 7].map(|dash| dash.repeat(3)).join("|")
        )
    }

    /// Returns the figures for programs, every round included.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let machine = std::thread::available_parallelism().map_or(0, usize::from);
        format!("{:#}\n", json!({ "cores": machine, "rows": rows }))
    }
}

impl Row {
    /// Returns the median of one way's rounds.
    fn median(&self, stand: &str) -> Option<f64> {
        let mut rounds = self.rounds.get(stand)?.clone();
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied()
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.median(ADIT)? / self.median(HAPROXY)?)
    }

    fn met(&self) -> Option<bool> {
        let adit = self.median(ADIT)?;
        match self.goal {
            Goal::AtLeast(times) => Some(times <= self.ratio()?),
            Goal::AtMost(times) => Some(self.ratio()? <= times),
            Goal::Within(limit) => Some(adit <= limit),
            Goal::WithinAndAtMost(limit, times) => Some(adit <= limit && self.ratio()? <= times),
            Goal::None => None,
        }
    }

    fn line(&self) -> String {
        let figure = |stand| self.median(stand).map_or_else(|| "-".to_owned(), short);
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let met = self.met().map_or("", |met| if met { "yes" } else { "NO" });
        format!(
            "| {:<52} | {:>10} | {:>11} | {:>10} | {:>8} | {:<20} | {:<3} |",
            format!("{}, {}", self.work, self.unit),
            figure(DIRECT),
            figure(HAPROXY),
            figure(ADIT),
            ratio,
            self.goal.text(self.unit),
            met
        )
    }

    fn json(&self) -> Value {
        json!({
            "work": self.work,
            "unit": self.unit,
            "goal": self.goal.text(self.unit),
            "direct": self.median(DIRECT),
            "haproxy": self.median(HAPROXY),
            "adit": self.median(ADIT),
            "ratio": self.ratio(),
            "met": self.met(),
            "rounds": self.rounds,
        })
    }
}

impl Goal {
    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(times) => format!(">= {times} x (b)"),
            Self::AtMost(times) => format!("<= {times} x (b)"),
            Self::Within(limit) => format!("<= {limit} {unit}"),
            Self::WithinAndAtMost(limit, times) => format!("<= {limit} {unit}, {times} x (b)"),
            Self::None => String::new(),
        }
    }
}

fn short(figure: f64) -> String {
    if figure.abs() < 10.0 {
        format!("{figure:.2}")
    } else if figure.abs() < 100.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.0}")
    }
}
