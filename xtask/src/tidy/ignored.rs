//! A test that does not run is no test.

use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "no-ignored-tests", check };

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        for covered in &source.attributes {
            if covered.attribute.path().is_ident("ignore") {
                hits.push(Hit::new(&source.path, covered.line, "an ignored test"));
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    #[test]
    fn an_ignored_test_is_a_finding() {
        let text = "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n#[test]\n#[ignore]\nfn b() {}\n";
        let found = findings(&RULE, &[("tests/live/src/lib.rs", text)]);
        assert_eq!(
            found,
            [
                "tests/live/src/lib.rs:2: an ignored test",
                "tests/live/src/lib.rs:5: an ignored test"
            ]
        );
        assert!(findings(&RULE, &[("tests/live/src/lib.rs", "#[test]\nfn a() {}")]).is_empty());
    }
}
