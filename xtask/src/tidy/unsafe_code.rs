//! Unsafe code has one home, a primitive a file, each with its reason.

use super::panics::allows;
use super::source::Kind;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "unsafe", check };

const SEAM: &str = "crates/kernel/src/seam/";

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        let is_unsafe = |kind, text: &str| kind == Kind::Ident && text == "unsafe";
        let mut places = source
            .tokens
            .iter()
            .filter(|token| is_unsafe(token.kind, &token.text))
            .map(|token| token.line);
        if !source.path.starts_with(SEAM) {
            hits.extend(places.map(|line| Hit::new(&source.path, line, format!("outside {SEAM}"))));
            continue;
        }
        let Some(first) = places.next() else {
            continue;
        };
        let explained = source.attributes.iter().any(|covered| {
            matches!(covered.attribute.style, syn::AttrStyle::Inner(_))
                && covered.lines.contain(1)
                && covered.lines.contain(source.line_count)
                && allows(covered, "unsafe_code")
        });
        if !explained {
            let message = "the file lacks #![allow(unsafe_code, reason = ...)]";
            hits.push(Hit::new(&source.path, first, message));
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    #[test]
    fn unsafe_code_elsewhere_is_a_finding() {
        let text = "//! Doc.\n#![forbid(unsafe_code)]\nfn a() {\nunsafe { b() }\n}";
        for path in
            ["crates/core/src/model.rs", "crates/kernel/src/root.rs", "tests/live/src/lib.rs"]
        {
            let found = findings(&RULE, &[(path, text)]);
            assert_eq!(found, [format!("{path}:4: outside crates/kernel/src/seam/")]);
        }
    }

    #[test]
    fn in_the_seam_it_needs_a_reason() {
        let path = "crates/kernel/src/seam/fork.rs";
        let code = "fn a() { unsafe { b() } }\n";
        let wanted = format!("{path}:1: the file lacks #![allow(unsafe_code, reason = ...)]");
        assert_eq!(findings(&RULE, &[(path, code)]), [wanted]);
        let good =
            format!("//! Doc.\n#![allow(unsafe_code, reason = \"fork has no safe form\")]\n{code}");
        assert!(findings(&RULE, &[(path, &good)]).is_empty());
        assert_eq!(findings(&RULE, &[(path, &format!("#![allow(unsafe_code)]\n{code}"))]).len(), 1);
        assert!(findings(&RULE, &[(path, "fn a() {}")]).is_empty());
    }
}
