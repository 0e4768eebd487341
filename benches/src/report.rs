//! Figures beside what they should be, as a table or as JSON.

use std::{io, process::ExitCode};

use serde_json::{Value, json};

/// What was measured, and what was asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: String,
    adit: f64,
    reference: Option<f64>,
    ratio: Option<f64>,
    unit: String,
    goal: Goal,
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
    /// Returns a figure of Adit by itself: the median of `values` is held to `goal`.
    pub fn alone(name: &str, values: Vec<f64>, unit: &str, goal: Goal) -> Self {
        Self { name: name.to_owned(), adit: median(values), reference: None, ratio: None, unit: unit.to_owned(), goal }
    }

    /// Returns a figure of Adit beside that of another, round by round: the median of the ratios is held to `goal`.
    pub fn beside(name: &str, adit: Vec<f64>, reference: Vec<f64>, unit: &str, goal: Goal) -> Self {
        let ratio = median(adit.iter().zip(&reference).map(|(adit, reference)| adit / reference).collect());
        let figure = Self::alone(name, adit, unit, goal);
        Self { reference: Some(median(reference)), ratio: Some(ratio), ..figure }
    }

    /// Returns whether the goal is met; `None` where there is none.
    pub fn met(&self) -> Option<bool> {
        let judged = self.ratio.unwrap_or(self.adit);
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
            "name": self.name, "adit": self.adit, "reference": self.reference, "ratio": self.ratio, "unit": self.unit,
            "at_least": at_least, "at_most": at_most, "met": self.met(),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let number = |key: &str| value[key].as_f64();
        let goal = number("at_least").map(Goal::AtLeast).or_else(|| number("at_most").map(Goal::AtMost));
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            adit: number("adit")?,
            reference: number("reference"),
            ratio: number("ratio"),
            unit: value["unit"].as_str()?.to_owned(),
            goal: goal.unwrap_or(Goal::None),
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
        let (adit, reference, ratio) = (short(self.adit), optional(self.reference), optional(self.ratio));
        format!("{:<52} {adit:>12} {reference:>12} {:<14} {ratio:>8} {goal:>10}  {met}", self.name, self.unit)
    }
}

/// All figures of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    figures: Vec<Figure>,
    quiet: bool,
}

impl Report {
    /// Returns a report without figures; `quiet` says to print none.
    pub const fn new(quiet: bool) -> Self {
        Self { figures: Vec::new(), quiet }
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        if !self.quiet {
            if self.figures.is_empty() {
                println!("{HEAD}");
            }
            println!("{}", figure.line());
        }
        self.figures.push(figure);
    }

    /// Adds the figures that another program wrote as JSON.
    ///
    /// # Errors
    /// When it wrote none.
    pub fn add_json(&mut self, json: &[u8]) -> io::Result<()> {
        let value: Value = serde_json::from_slice(json)?;
        let figures = value["figures"].as_array().ok_or(io::ErrorKind::InvalidData)?;
        for figure in figures {
            self.add(Figure::from_json(figure).ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(())
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
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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
        let beside = |adit, goal| Figure::beside("x", vec![adit], vec![2.0], "octets", goal).met();
        let alone = |adit, goal| Figure::alone("x", vec![adit], "octets", goal).met();

        assert_eq!(beside(2.0, Goal::AtLeast(1.0)), Some(true));
        assert_eq!(beside(1.99, Goal::AtLeast(1.0)), Some(false));
        assert_eq!(beside(2.0, Goal::AtMost(1.0)), Some(true));
        assert_eq!(beside(2.01, Goal::AtMost(1.0)), Some(false));
        assert_eq!(beside(2.0, Goal::None), None);
        assert_eq!(alone(600.0, Goal::AtMost(600.0)), Some(true));
        assert_eq!(alone(601.0, Goal::AtMost(600.0)), Some(false));
    }

    #[test]
    fn a_slow_round_of_both_leaves_the_ratio_as_it_is() {
        let figure = Figure::beside("x", vec![4.0, 1.0, 6.0], vec![2.0, 0.5, 3.0], "MB/s", Goal::None);

        assert_eq!((figure.adit, figure.reference, figure.ratio), (4.0, Some(2.0), Some(2.0)));
    }

    #[test]
    fn figures_come_back_from_json_as_they_were() {
        let mut report = Report::new(true);
        report.add(Figure::beside("x", vec![1.0], vec![2.0], "MB/s", Goal::AtLeast(0.5)));
        report.add(Figure::alone("y", vec![1.0], "octets", Goal::AtMost(3.0)));
        report.add(Figure::alone("z", vec![1.5], "octets", Goal::None));
        let mut other = Report::new(true);

        other.add_json(report.json().as_bytes()).unwrap();

        assert_eq!(other, report);
    }
}
