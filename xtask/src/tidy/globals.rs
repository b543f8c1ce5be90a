//! No mutable globals: what a function needs is handed to it.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Area, Kind, Source};
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "no-globals", check };

const MUTABLE: &[&str] = &[
    "Mutex",
    "RwLock",
    "OnceLock",
    "OnceCell",
    "LazyLock",
    "LazyCell",
    "RefCell",
    "Cell",
    "UnsafeCell",
];

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources().iter().filter(|source| source.area == Area::Product) {
        let mut walk = Statics { source, hits: &mut hits };
        walk.visit_file(&source.ast);
        for (position, token) in source.shipped() {
            for name in ["thread_local", "lazy_static"] {
                if token.text == name && source.reads(position + 1, &["!"]) {
                    hits.push(Hit::new(&source.path, token.line, format!("`{name}!`")));
                }
            }
        }
    }
    hits
}

struct Statics<'a> {
    source: &'a Source,
    hits: &'a mut Vec<Hit>,
}

impl<'ast> Visit<'ast> for Statics<'_> {
    fn visit_item_static(&mut self, node: &'ast syn::ItemStatic) {
        visit::visit_item_static(self, node);
        let (first, last) = (node.ty.span().start(), node.ty.span().end());
        let mut words = self.source.tokens.iter().filter(|token| {
            token.kind == Kind::Ident && (first.line..=last.line).contains(&token.line)
        });
        let changes = matches!(node.mutability, syn::StaticMutability::Mut(_))
            || words.any(|word| {
                MUTABLE.contains(&word.text.as_str()) || word.text.starts_with("Atomic")
            });
        let line = node.span().start().line;
        if changes && !self.source.is_test(line) {
            let message = format!("`{}` is a mutable global", node.ident);
            self.hits.push(Hit::new(&self.source.path, line, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn of(text: &str) -> Vec<String> {
        findings(&RULE, &[("crates/core/src/model.rs", text)])
    }

    #[test]
    fn mutable_globals_are_findings() {
        for text in [
            "static mut A: u8 = 0;",
            "static A: AtomicBool = AtomicBool::new(false);",
            "static A: std::sync::Mutex<u8> = b();",
            "static A: OnceLock<u8> = b();",
            "static A: LazyLock<u8> = b();",
            "static A: [RwLock<u8>; 2] = b();",
            "fn a() { static A: AtomicU8 = b(); }",
            "thread_local! { static A: u8 = 0; }",
        ] {
            assert_eq!(of(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn constants_and_tests_are_fine() {
        assert!(of("static A: &[u8] = b\"a\";\nconst B: u8 = 1;").is_empty());
        assert!(of("#[cfg(test)]\nmod tests { static A: AtomicU8 = b(); }").is_empty());
        let text = "static A: AtomicU8 = b();";
        assert!(findings(&RULE, &[("fuzz/src/bin/fuzz.rs", text)]).is_empty());
    }
}
