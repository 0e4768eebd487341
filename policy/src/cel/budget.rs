//! What an evaluation may cost.

use super::fault::{Fault, Resource};

/// The octets that are read, compared or searched for one step.
pub const OCTETS_PER_STEP: usize = 32;

/// What an evaluation may still cost.
///
/// A *step* is one node of the expression, one element that a macro or a comparison goes over, or [`OCTETS_PER_STEP`] octets
/// that are looked at; functions say what more they cost. *Octets* are the memory of every value that is made, counted when it is made
/// and never given back: what an evaluation holds at any time is not more.
///
/// One budget may be lent to many evaluations, so that all rules of a request together have a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    steps: u64,
    octets: u64,
}

impl Budget {
    /// Returns a budget of that many steps and octets.
    pub const fn new(steps: u64, octets: u64) -> Self {
        Self { steps, octets }
    }

    /// Takes steps.
    ///
    /// # Errors
    /// [`Fault::OverBudget`] when fewer are left; then none are.
    #[inline]
    pub fn step(&mut self, count: u64) -> Result<(), Fault> {
        match self.steps.checked_sub(count) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(Fault::OverBudget(Resource::Steps))
            }
        }
    }

    /// Takes the steps of looking at that many octets.
    ///
    /// # Errors
    /// As [`Self::step`].
    #[inline]
    pub fn look(&mut self, octets: usize) -> Result<(), Fault> {
        if octets < OCTETS_PER_STEP {
            return Ok(()); // the node's own step pays for it
        }
        self.step(octets.div_ceil(OCTETS_PER_STEP) as u64)
    }

    /// Takes the octets of a value about to be made, and the steps of writing it.
    ///
    /// # Errors
    /// [`Fault::OverBudget`] when fewer are left; then none are.
    pub fn make(&mut self, octets: usize) -> Result<(), Fault> {
        self.look(octets)?;
        match self.octets.checked_sub(octets as u64) {
            Some(left) => {
                self.octets = left;
                Ok(())
            }
            None => {
                self.octets = 0;
                Err(Fault::OverBudget(Resource::Octets))
            }
        }
    }

    /// Returns the steps that are left.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the octets that are left.
    pub const fn octets(&self) -> u64 {
        self.octets
    }
}

impl Default for Budget {
    /// 100,000 steps and 1 MiB: some milliseconds at the very most, and far more than rules of a policy need.
    fn default() -> Self {
        Self::new(100_000, 1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_budget_leaves_nothing() {
        let mut budget = Budget::new(3, 40);

        assert_eq!(budget.step(3), Ok(()));
        assert_eq!(budget.step(1), Err(Fault::OverBudget(Resource::Steps)));
        assert_eq!(budget.make(31), Ok(()));
        assert_eq!(budget.make(10), Err(Fault::OverBudget(Resource::Octets)));
        assert_eq!(budget, Budget::new(0, 0));
    }
}
