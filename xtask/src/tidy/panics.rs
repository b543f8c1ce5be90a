//! Nothing panics outside tests, unless a reason is given on the spot.

use super::source::{Covered, Source};
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "no-panics", check };

/// What may panic: how it reads, and the lint whose `expect` excuses it.
const PANICS: &[(&[&str], &str)] = &[
    (&[".", "unwrap", "("], "unwrap_used"),
    (&[".", "unwrap_err", "("], "unwrap_used"),
    (&[".", "expect", "("], "expect_used"),
    (&[".", "expect_err", "("], "expect_used"),
    (&["panic", "!"], "panic"),
    (&["todo", "!"], "todo"),
    (&["unimplemented", "!"], "unimplemented"),
    (&["dbg", "!"], "dbg_macro"),
];

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        // The test kit is for tests only.
        if source.path.starts_with("crates/testkit/") {
            continue;
        }
        for position in 0..source.tokens.len() {
            for (words, lint) in PANICS {
                let line = source.tokens[position].line;
                if source.reads(position, words)
                    && !source.is_test(line)
                    && !excused(source, line, lint)
                {
                    let what = words.concat();
                    let message =
                        format!("`{what}` without #[expect(clippy::{lint}, reason = ...)]");
                    hits.push(Hit::new(&source.path, line, message));
                }
            }
        }
    }
    hits
}

fn excused(source: &Source, line: usize, lint: &str) -> bool {
    source
        .attributes
        .iter()
        .any(|covered| covered.lines.contain(line) && allows(covered, &format!("clippy::{lint}")))
}

/// Whether an attribute allows `lint` and says why.
pub(super) fn allows(covered: &Covered, lint: &str) -> bool {
    let syn::Meta::List(list) = &covered.attribute.meta else {
        return false;
    };
    if !list.path.is_ident("allow") && !list.path.is_ident("expect") {
        return false;
    }
    let text: String = list.tokens.to_string().split_whitespace().collect();
    let named = text.split(',').any(|word| word == lint);
    named && text.contains("reason=\"") && !text.contains("reason=\"\"")
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn of(text: &str) -> Vec<String> {
        findings(&RULE, &[("crates/core/src/model.rs", text)])
    }

    #[test]
    fn each_way_to_panic_is_a_finding() {
        for code in [
            "a.unwrap()",
            "a.expect(\"b\")",
            "a.unwrap_err()",
            "a.expect_err(\"b\")",
            "panic!()",
            "todo!()",
            "unimplemented!()",
            "dbg!(a)",
            "vec![a.unwrap()]",
        ] {
            let found = of(&format!("fn b() {{\n{code};\n}}"));
            assert_eq!(found.len(), 1, "{code}: {found:?}");
            assert!(found[0].starts_with("crates/core/src/model.rs:2: "), "{found:?}");
        }
        assert!(of("fn b() { a.unwrap_or(1); a.expected(); }").is_empty());
    }

    #[test]
    fn a_reason_excuses_the_statement_it_stands_on() {
        let reason = "#[expect(clippy::unwrap_used, reason = \"it was checked above\")]";
        assert!(of(&format!("fn b() {{\n{reason}\nlet c = a\n.unwrap();\n}}")).is_empty());
        assert!(of(&format!("{reason}\nfn b() {{ a.unwrap(); }}")).is_empty());
        assert_eq!(
            of(&format!("fn b() {{\n{reason}\nlet c = a.unwrap();\nd.unwrap();\n}}")).len(),
            1
        );
        assert_eq!(of(&format!("{reason}\nfn b() {{ a.expect(\"c\"); }}")).len(), 1);
        assert_eq!(of("#[allow(clippy::unwrap_used)]\nfn b() { a.unwrap(); }").len(), 1);
    }

    #[test]
    fn tests_and_the_testkit_may_panic() {
        assert!(of("#[cfg(test)]\nmod tests { fn b() { a.unwrap(); } }").is_empty());
        let text = "fn b() { a.unwrap(); }";
        assert!(findings(&RULE, &[("crates/testkit/src/lib.rs", text)]).is_empty());
        assert!(findings(&RULE, &[("tests/live/src/lib.rs", text)]).is_empty());
        assert_eq!(findings(&RULE, &[("xtask/src/main.rs", text)]).len(), 1);
    }
}
