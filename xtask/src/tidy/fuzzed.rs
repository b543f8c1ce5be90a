//! Every parser has a fuzz target.

use syn::visit::{self, Visit};

use super::source::Source;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "fuzzed", check };

const PARSERS: &[(&str, &str)] = &[
    ("crates/kernel/src/parse/", "parse"),
    ("crates/core/src/state/", "state"),
    ("crates/client/src/", "whose_client"),
];

fn check(tree: &Tree) -> Vec<Hit> {
    let fuzz: Vec<&Source> =
        tree.sources().iter().filter(|source| source.path.starts_with("fuzz/src/")).collect();
    let mut hits = Vec::new();
    for source in tree.sources() {
        for (folder, parent) in PARSERS {
            let Some(inner) = source.path.strip_prefix(folder) else {
                continue;
            };
            let path: Vec<&str> = std::iter::once(*parent)
                .chain(inner.trim_end_matches(".rs").split('/'))
                .filter(|part| *part != "mod")
                .collect();
            let Some(line) = exported_parser(source) else {
                continue;
            };
            if path.len() > 1 && !fuzz.iter().any(|fuzz| names(fuzz, &path)) {
                let message = format!("no fuzz target uses `{}`", path.join("::"));
                hits.push(Hit::new(&source.path, line, message));
            }
        }
    }
    hits
}

/// Whether a file imports this module, or something in it, or spells it out.
fn names(fuzz: &Source, path: &[&str]) -> bool {
    let imported = fuzz
        .imports
        .iter()
        .any(|import| import.segments.windows(path.len()).any(|part| part == path));
    let mut spelled: Vec<&str> = Vec::new();
    for part in path {
        spelled.extend([*part, ":", ":"]);
    }
    imported || (0..fuzz.tokens.len()).any(|position| fuzz.reads(position, &spelled))
}

/// The line of the first `pub fn parse...` of a file, methods included.
fn exported_parser(source: &Source) -> Option<usize> {
    let mut walk = Parsers { source, line: None };
    walk.visit_file(&source.ast);
    walk.line
}

struct Parsers<'a> {
    source: &'a Source,
    line: Option<usize>,
}

impl Parsers<'_> {
    fn see(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        let line = name.span().start().line;
        let exported = matches!(visibility, syn::Visibility::Public(_));
        if exported && name.to_string().starts_with("parse") && !self.source.is_test(line) {
            self.line.get_or_insert(line);
        }
    }
}

impl<'ast> Visit<'ast> for Parsers<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.see(&node.vis, &node.sig.ident);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.see(&node.vis, &node.sig.ident);
        visit::visit_impl_item_fn(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    const PARSER: (&str, &str) = ("crates/kernel/src/parse/stat.rs", "\npub fn parse(b: &[u8]) {}");

    #[test]
    fn a_parser_without_a_target_is_a_finding() {
        let lone = ("fuzz/src/lib.rs", "// parse::stat\nuse whose_kernel::parse::status;");
        assert_eq!(
            findings(&RULE, &[PARSER, lone]),
            ["crates/kernel/src/parse/stat.rs:2: no fuzz target uses `parse::stat`"]
        );
        let method = ("crates/core/src/state/docker/config.rs", "impl A { pub fn parse_it() {} }");
        let client = ("crates/client/src/http.rs", "pub fn parse(b: &[u8]) {}");
        assert_eq!(
            findings(&RULE, &[client]),
            ["crates/client/src/http.rs:1: no fuzz target uses `whose_client::http`"]
        );
        assert_eq!(
            findings(&RULE, &[method]),
            [
                "crates/core/src/state/docker/config.rs:1: no fuzz target uses `state::docker::config`"
            ]
        );
    }

    #[test]
    fn a_target_imports_or_spells_the_module() {
        for text in [
            "use whose_kernel::parse::{stat, status};",
            "use whose_kernel::parse::stat::parse;",
            "fn a() { whose_kernel::parse::stat::parse(b) }",
        ] {
            assert!(findings(&RULE, &[PARSER, ("fuzz/src/proc.rs", text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_exports_no_parser_needs_none() {
        let private =
            ("crates/kernel/src/parse/field.rs", "pub(crate) fn parse() {}\npub fn next() {}");
        assert!(findings(&RULE, &[private]).is_empty());
    }
}
