//! Files and functions stay short enough to be read at one go.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::source::{Area, Source, is_test};
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "size", check };

const FILE: usize = 600;
const MAIN: usize = 100;
const FUNCTION: usize = 80;

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    let counted = |source: &&Source| source.area != Area::Test && !source.all_test;
    for source in tree.sources().iter().filter(counted) {
        let limit = if source.path.ends_with("src/main.rs") { MAIN } else { FILE };
        let lines = lines_without_tests(source);
        if lines > limit {
            let message = format!("{lines} lines, {limit} are the limit");
            hits.push(Hit::new(&source.path, lines, message));
        }
        let mut walk = Functions { source, hits: &mut hits };
        walk.visit_file(&source.ast);
    }
    hits
}

/// The lines before the test module at the end, if there is one.
fn lines_without_tests(source: &Source) -> usize {
    match source.ast.items.last() {
        Some(syn::Item::Mod(module)) if module.attrs.iter().any(is_test) => {
            module.span().start().line.saturating_sub(1)
        }
        _ => source.line_count,
    }
}

struct Functions<'a> {
    source: &'a Source,
    hits: &'a mut Vec<Hit>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, end: Span) {
        let first = signature.span().start().line;
        let lines = end.end().line - first + 1;
        if lines > FUNCTION && !self.source.is_test(first) {
            let message =
                format!("`{}` has {lines} lines, {FUNCTION} are the limit", signature.ident);
            self.hits.push(Hit::new(&self.source.path, first, message));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.measure(&node.sig, node.block.span());
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.measure(&node.sig, node.block.span());
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.measure(&node.sig, block.span());
        }
        visit::visit_trait_item_fn(self, node);
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&RULE, &[(path, text)])
    }

    #[test]
    fn a_long_file_is_a_finding_its_tests_aside() {
        let path = "crates/core/src/model.rs";
        let code = "fn a() {}\n".repeat(600);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn a() {}\n".repeat(300));
        assert!(of(path, &format!("{code}{tests}")).is_empty());
        assert_eq!(
            of(path, &format!("{code}\n{tests}")),
            ["crates/core/src/model.rs:601: 601 lines, 600 are the limit"]
        );
        assert!(of("tests/live/src/lib.rs", &code.repeat(2)).is_empty());
    }

    #[test]
    fn a_main_is_shorter_still() {
        let found = of("crates/cli/src/main.rs", &"fn a() {}\n".repeat(101));
        assert_eq!(found, ["crates/cli/src/main.rs:101: 101 lines, 100 are the limit"]);
    }

    #[test]
    fn a_long_function_is_a_finding() {
        let long = format!("/// Long.\nfn long() {{\n{}}}\n", "b();\n".repeat(79));
        let path = "crates/core/src/model.rs";
        let wanted = "`long` has 81 lines, 80 are the limit";
        assert_eq!(of(path, &long), [format!("{path}:2: {wanted}")]);
        assert_eq!(of(path, &format!("impl A {{\n{long}}}")), [format!("{path}:3: {wanted}")]);
        assert_eq!(of(path, &format!("trait A {{\n{long}}}")), [format!("{path}:3: {wanted}")]);
        assert!(of(path, &format!("#[cfg(test)]\n{long}")).is_empty());
        assert!(of(path, &format!("fn ok() {{\n{}}}\n", "b();\n".repeat(78))).is_empty());
    }
}
