//! What came of a scenario.

use core::fmt;

/// What came of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every step went as it says.
    Passed,
    /// A step did not.
    Failed(Failure),
    /// The subject does not offer what the scenario is about, and may do so: why.
    NotImplemented(String),
    /// Nobody asked the subject: why.
    Skipped(String),
}

/// The first step that did not go as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its place among the steps, from 1; 0 when none could begin.
    pub step: usize,
    /// What was due.
    pub expected: String,
    /// What came.
    pub got: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {} where {} was due", self.step, self.got, self.expected)
    }
}
