//! Counts comparisons, so that a test can't pass by comparing nothing.

use std::fmt::Debug;

/// The facts compared about one thing. Differences are collected, not thrown at once, so that
/// one run shows them all.
#[derive(Debug)]
pub struct Facts {
    about: String,
    compared: usize,
    wrong: Vec<String>,
}

impl Facts {
    /// Begins to compare facts about `about`.
    pub fn about(about: impl Into<String>) -> Self {
        Facts { about: about.into(), compared: 0, wrong: Vec::new() }
    }

    /// One fact: what was got must be what is wanted.
    pub fn same<G: Debug + PartialEq<W>, W: Debug>(&mut self, name: &str, got: G, wanted: W) {
        self.compared += 1;
        if got != wanted {
            self.wrong.push(format!("{name}: got {got:?}, wanted {wanted:?}"));
        }
    }

    /// One fact that is not a comparison; `told` says what was seen.
    pub fn holds(&mut self, name: &str, holds: bool, told: impl Debug) {
        self.compared += 1;
        if !holds {
            self.wrong.push(format!("{name}: does not hold for {told:?}"));
        }
    }

    /// How many facts were compared so far.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.compared
    }

    /// Ends the comparison; returns the number of facts.
    ///
    /// # Panics
    /// When a fact was wrong, or fewer than `least` were compared.
    #[track_caller]
    pub fn finish(self, least: usize) -> usize {
        let Facts { about, compared, wrong } = self;
        assert!(
            wrong.is_empty(),
            "{about}: {} of {compared} facts are wrong:\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        );
        assert!(compared >= least, "{about}: only {compared} facts compared, {least} are due");
        compared
    }
}

#[cfg(test)]
mod tests {
    use super::Facts;

    #[test]
    fn all_differences_are_told_and_too_few_facts_fail() {
        let wrong = std::panic::catch_unwind(|| {
            let mut facts = Facts::about("web");
            facts.same("id", 1, 2);
            facts.same("name", "a", "a");
            facts.holds("alive", false, "dead");
            facts.finish(1)
        });
        let story = wrong.unwrap_err().downcast_ref::<String>().cloned().unwrap();
        assert!(story.contains("2 of 3") && story.contains("id: got 1"), "{story}");
        let few = std::panic::catch_unwind(|| Facts::about("web").finish(1));
        assert!(few.is_err());
    }
}
