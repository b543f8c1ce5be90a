//! Every import says what it imports.

use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "no-globs", check };

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        for import in source.imports.iter().filter(|import| import.glob) {
            let message = format!("imports `{}::*`; name what is used", import.segments.join("::"));
            hits.push(Hit::new(&source.path, import.line, message));
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    #[test]
    fn globs_are_findings_everywhere() {
        let text = "use std::io;\npub use crate::model::*;\nfn a() { use B::{C, d::*}; }\n\
                    #[cfg(test)]\nmod tests { use super::*; }\n";
        let found = findings(&RULE, &[("tests/live/src/lib.rs", text)]);
        assert_eq!(
            found,
            [
                "tests/live/src/lib.rs:2: imports `crate::model::*`; name what is used",
                "tests/live/src/lib.rs:3: imports `B::d::*`; name what is used",
                "tests/live/src/lib.rs:5: imports `super::*`; name what is used",
            ]
        );
    }
}
