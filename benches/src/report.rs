//! Figures beside what they should be, as a table or as JSON.

use std::process::ExitCode;

use serde_json::{Value, json};

/// What was measured, and what was asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The value of Adit.
    pub adit: f64,
    /// The value that it is measured by: another's, in the same run; or none.
    pub reference: Option<f64>,
    /// What both count.
    pub unit: &'static str,
    /// What was asked: of the value, or of its ratio to the reference where there is one.
    pub goal: Goal,
}

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// As high as this, or higher.
    AtLeast(f64),
    /// As low as this, or lower.
    AtMost(f64),
    /// Nothing was asked.
    None,
}

impl Figure {
    /// Returns a value that should not exceed `most`; not a number for no bound.
    pub const fn at_most(name: String, adit: f64, most: f64, unit: &'static str) -> Self {
        let goal = if most.is_nan() { Goal::None } else { Goal::AtMost(most) };
        Self { name, adit, reference: None, unit, goal }
    }

    /// Returns a value whose ratio to `reference` has a goal.
    pub fn beside(name: &str, adit: f64, reference: f64, unit: &'static str, goal: Goal) -> Self {
        Self { name: name.to_owned(), adit, reference: Some(reference), unit, goal }
    }

    /// Returns the ratio to the reference.
    pub fn ratio(&self) -> Option<f64> {
        self.reference.map(|reference| self.adit / reference)
    }

    /// Returns whether the goal is met; `None` where there is none.
    pub fn met(&self) -> Option<bool> {
        let judged = self.ratio().unwrap_or(self.adit);
        match self.goal {
            Goal::AtLeast(least) => Some(judged >= least),
            Goal::AtMost(most) => Some(judged <= most),
            Goal::None => None,
        }
    }

    fn json(&self) -> Value {
        let (at_least, at_most) = match self.goal {
            Goal::AtLeast(least) => (Some(least), None),
            Goal::AtMost(most) => (None, Some(most)),
            Goal::None => (None, None),
        };
        json!({
            "name": self.name, "adit": self.adit, "reference": self.reference, "ratio": self.ratio(), "unit": self.unit,
            "at_least": at_least, "at_most": at_most, "met": self.met(),
        })
    }

    fn line(&self) -> String {
        let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), short);
        let goal = match self.goal {
            Goal::AtLeast(least) => format!(">= {}", short(least)),
            Goal::AtMost(most) => format!("<= {}", short(most)),
            Goal::None => "-".to_owned(),
        };
        let met = self.met().map_or("", |met| if met { "met" } else { "MISSED" });
        let (adit, reference, ratio) = (short(self.adit), optional(self.reference), optional(self.ratio()));
        format!("{:<52} {adit:>12} {reference:>12} {:<14} {ratio:>8} {goal:>10}  {met}", self.name, self.unit)
    }
}

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure and prints it.
    pub fn add(&mut self, figure: Figure) {
        if self.figures.is_empty() {
            println!("{HEAD}");
        }
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    /// Returns the figures as JSON.
    pub fn json(&self) -> String {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        json!({ "figures": figures }).to_string()
    }

    /// Ends a program: writes JSON where `--json FILE` asks for it, and fails where `--check` asks for goals that were missed.
    pub fn finish(&self, mut arguments: impl Iterator<Item = String>) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        while let Some(argument) = arguments.next() {
            match (argument.as_str(), self.figures.iter().any(|figure| figure.met() == Some(false))) {
                ("--json", _) => {
                    let path = arguments.next().unwrap_or_else(|| "/dev/stdout".to_owned());
                    if let Err(error) = std::fs::write(&path, self.json()) {
                        println!("cannot write {path}: {error}");
                        code = ExitCode::FAILURE;
                    }
                }
                ("--check", missed) => code = if missed { ExitCode::FAILURE } else { code },
                _ => {}
            }
        }
        code
    }
}

/// Returns the middle of what was measured.
///
/// # Panics
/// When nothing was.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn short(value: f64) -> String {
    if value.abs() >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

const HEAD: &str =
    "what                                                         adit    reference unit              ratio       goal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_one_step_beyond() {
        let beside = |adit, goal| Figure::beside("x", adit, 2.0, "octets", goal).met();

        assert_eq!(beside(2.0, Goal::AtLeast(1.0)), Some(true));
        assert_eq!(beside(1.99, Goal::AtLeast(1.0)), Some(false));
        assert_eq!(beside(2.0, Goal::AtMost(1.0)), Some(true));
        assert_eq!(beside(2.01, Goal::AtMost(1.0)), Some(false));
        assert_eq!(beside(2.0, Goal::None), None);
        assert_eq!(Figure::at_most("x".into(), 600.0, 600.0, "octets").met(), Some(true));
        assert_eq!(Figure::at_most("x".into(), 601.0, 600.0, "octets").met(), Some(false));
        assert_eq!(Figure::at_most("x".into(), 601.0, f64::NAN, "octets").met(), None);
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
