//! Many named cases against one thing that is dear to start, each reported.

use crate::require::{Needs, skip};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Runs cases one after another; one that panics does not stop the others.
#[derive(Debug)]
pub struct Cases {
    suite: String,
    passed: usize,
    failed: Vec<String>,
    only: Option<String>,
}

impl Cases {
    /// Begins a suite. With `WHOSE_CASE=WORD` in the environment only cases whose name contains
    /// that word are run.
    pub fn of(suite: impl Into<String>) -> Self {
        Cases {
            suite: suite.into(),
            passed: 0,
            failed: Vec::new(),
            only: std::env::var("WHOSE_CASE").ok().filter(|word| !word.is_empty()),
        }
    }

    /// Runs one case where all that it needs is there, and names it with the reason otherwise.
    ///
    /// # Panics
    /// With `WHOSE_CI=1`, when something is missing.
    pub fn case_with(&mut self, needs: &[&str], name: &str, body: impl FnOnce()) {
        let missing = |need: &&str| Needs(need).missing().map(|why| format!("{need}: {why}"));
        match needs.iter().find_map(missing) {
            Some(why) => skip(&format!("{}/{name}", self.suite), &why),
            None => self.case(name, body),
        }
    }

    /// Runs one case and prints how it went.
    pub fn case(&mut self, name: &str, body: impl FnOnce()) {
        if self.only.as_ref().is_some_and(|word| !name.contains(word)) {
            return;
        }
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(body));
        let took = begun.elapsed();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                eprintln!("ok      {}/{name} ({took:.1?})", self.suite);
            }
            Err(panic) => {
                eprintln!("FAILED  {}/{name} ({took:.1?})", self.suite);
                self.failed.push(format!("{name}: {}", message(panic.as_ref())));
            }
        }
    }

    /// Ends the suite.
    ///
    /// # Panics
    /// When a case failed, naming each, or none was run.
    #[track_caller]
    pub fn finish(self) {
        let Cases { suite, passed, failed, only } = self;
        eprintln!("{suite}: {passed} cases passed, {} failed", failed.len());
        assert!(
            failed.is_empty(),
            "{suite}: {} of {} cases failed\n\n{}",
            failed.len(),
            passed + failed.len(),
            failed.join("\n\n")
        );
        assert!(passed > 0 || only.is_some(), "{suite}: no case was run");
    }
}

/// The text of a panic.
#[must_use]
pub fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::Cases;

    #[test]
    fn a_failing_case_does_not_hide_the_next() {
        let mut ran = 0;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut cases = Cases::of("suite");
            cases.only = None;
            cases.case("first", || panic!("the first reason"));
            cases.case("second", || ran += 1);
            cases.finish();
        }));
        assert_eq!(ran, 1);
        let story = outcome.unwrap_err().downcast_ref::<String>().cloned().unwrap();
        assert!(story.contains("first: the first reason"), "{story}");
    }
}
