//! Only the binary prints; everything else writes to what it is given.

use super::source::Area;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "printing", check };

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        if source.area != Area::Product || source.belongs_to("cli") {
            continue;
        }
        for (position, token) in source.shipped() {
            let printing =
                matches!(token.text.as_str(), "print" | "println" | "eprint" | "eprintln");
            if printing && source.reads(position + 1, &["!"]) {
                let message = format!("`{}!` outside crates/cli; take a writer", token.text);
                hits.push(Hit::new(&source.path, token.line, message));
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    const BAD: &str = "fn a() {\nprintln!();\neprint!();\n}";

    #[test]
    fn printing_outside_the_binary_is_a_finding() {
        let found = findings(&RULE, &[("crates/render/src/card.rs", BAD)]);
        assert_eq!(
            found,
            [
                "crates/render/src/card.rs:2: `println!` outside crates/cli; take a writer",
                "crates/render/src/card.rs:3: `eprint!` outside crates/cli; take a writer",
            ]
        );
    }

    #[test]
    fn the_binary_tools_and_tests_may_print() {
        for path in ["crates/cli/src/main.rs", "xtask/src/main.rs", "tests/live/src/lib.rs"] {
            assert!(findings(&RULE, &[(path, BAD)]).is_empty());
        }
        let tests = format!("#[cfg(test)]\nmod tests {{ {BAD} }}");
        assert!(findings(&RULE, &[("crates/render/src/card.rs", &tests)]).is_empty());
    }
}
