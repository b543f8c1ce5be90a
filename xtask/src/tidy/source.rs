//! One Rust file as the rules see it: syntax, tokens, and which lines are tests.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "parse", check };

fn check(tree: &Tree) -> Vec<Hit> {
    tree.unparsed()
        .iter()
        .map(|(path, line, why)| Hit::new(path, *line, format!("does not parse: {why}")))
        .collect()
}

/// What a file is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// A crate that ships.
    Product,
    /// Development helpers: the test kit and these chores.
    Tool,
    /// Tests, benches and fuzz targets.
    Test,
}

/// An inclusive range of lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Lines {
    fn of(span: Span) -> Self {
        Self { first: span.start().line, last: span.end().line }
    }

    pub(super) fn contain(self, line: usize) -> bool {
        (self.first..=self.last).contains(&line)
    }
}

/// A token, macro bodies included and documentation left out.
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ident,
    Literal,
    Mark,
}

/// One path of a `use`, groups taken apart.
pub(super) struct Import {
    pub(super) segments: Vec<String>,
    pub(super) glob: bool,
    pub(super) line: usize,
    /// The inline modules around it.
    pub(super) within: Vec<String>,
}

/// An attribute and the lines of what it stands on.
pub(super) struct Covered {
    pub(super) attribute: syn::Attribute,
    pub(super) lines: Lines,
    pub(super) line: usize,
}

/// One parsed file.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) area: Area,
    pub(super) ast: syn::File,
    pub(super) tokens: Vec<Token>,
    pub(super) imports: Vec<Import>,
    pub(super) attributes: Vec<Covered>,
    pub(super) line_count: usize,
    /// The whole file is compiled for tests only.
    pub(super) all_test: bool,
    tests: Vec<Lines>,
}

impl Source {
    /// Parses one file; the error is its line and the reason.
    pub(super) fn parse(path: &str, text: &str) -> Result<Self, (usize, String)> {
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            (error.span().start().line, error.to_string())
        })?;
        let mut tokens = Vec::new();
        flatten(stream.clone(), &mut tokens);
        let ast: syn::File =
            syn::parse2(stream).map_err(|error| (error.span().start().line, error.to_string()))?;
        let line_count = text.lines().count();
        let mut walk = Walk::default();
        walk.nodes.push(Node { span: None, lines: Lines { first: 1, last: line_count.max(1) } });
        walk.visit_file(&ast);
        let tests = walk
            .attributes
            .iter()
            .filter(|covered| is_test(&covered.attribute))
            .map(|covered| covered.lines)
            .collect();
        Ok(Self {
            path: path.to_owned(),
            area: area(path),
            ast,
            tokens,
            imports: walk.imports,
            attributes: walk.attributes,
            line_count,
            all_test: false,
            tests,
        })
    }

    /// Whether this line is test code.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.area == Area::Test
            || self.all_test
            || self.tests.iter().any(|lines| lines.contain(line))
    }

    /// Whether this file is part of crate `name`'s own code.
    pub(super) fn belongs_to(&self, name: &str) -> bool {
        self.path.starts_with(&format!("crates/{name}/src/"))
    }

    /// Tokens of shipped code: those of a product crate outside its tests.
    pub(super) fn shipped(&self) -> impl Iterator<Item = (usize, &Token)> {
        let product = self.area == Area::Product;
        self.tokens
            .iter()
            .enumerate()
            .filter(move |(_, token)| product && !self.is_test(token.line))
    }

    /// Whether the tokens at `position` read exactly like this.
    pub(super) fn reads(&self, position: usize, words: &[&str]) -> bool {
        self.tokens
            .get(position..position + words.len())
            .is_some_and(|tokens| tokens.iter().zip(words).all(|(token, word)| token.text == *word))
    }

    /// The path stems (no `.rs`) of out-of-line modules compiled for tests only.
    pub(super) fn test_module_files(&self) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let base = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        self.ast
            .items
            .iter()
            .filter_map(|item| match item {
                syn::Item::Mod(module) if module.content.is_none() => Some(module),
                _ => None,
            })
            .filter(|module| module.attrs.iter().any(is_test))
            .map(|module| format!("{base}/{}", module.ident))
            .collect()
    }
}

fn area(path: &str) -> Area {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["xtask", ..] | ["crates", "testkit", "src", ..] => Area::Tool,
        ["crates", _, "src", ..] => Area::Product,
        ["crates", _, "build.rs"] => Area::Tool,
        _ => Area::Test,
    }
}

/// Whether an attribute leaves its item out of the shipped build.
pub(super) fn is_test(attribute: &syn::Attribute) -> bool {
    if attribute.path().segments.last().is_some_and(|last| last.ident == "test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else {
        return false;
    };
    if !attribute.path().is_ident("cfg") {
        return false;
    }
    let mut tokens = Vec::new();
    flatten(list.tokens.clone(), &mut tokens);
    let says = |word: &str| tokens.iter().any(|token| token.text == word);
    // `any(test, ...)` may ship; only what needs `test` is test code.
    says("test") && !says("not") && !says("any")
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let TokenTree::Punct(mark) = &token
            && mark.as_char() == '#'
            && matches!(tokens.peek(), Some(TokenTree::Group(group)) if is_doc(group))
        {
            tokens.next();
            continue;
        }
        let line = token.span().start().line;
        let mut push = |kind, text: String, line| into.push(Token { kind, text, line });
        match token {
            TokenTree::Ident(ident) => push(Kind::Ident, ident.to_string(), line),
            TokenTree::Literal(literal) => push(Kind::Literal, literal.to_string(), line),
            TokenTree::Punct(mark) => push(Kind::Mark, mark.as_char().to_string(), line),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(Kind::Mark, open.to_owned(), line);
                flatten(group.stream(), into);
                let line = group.span_close().start().line;
                into.push(Token { kind: Kind::Mark, text: close.to_owned(), line });
            }
        }
    }
}

fn is_doc(group: &proc_macro2::Group) -> bool {
    group.delimiter() == Delimiter::Bracket
        && matches!(group.stream().into_iter().next(),
            Some(TokenTree::Ident(word)) if word == "doc")
}

struct Node {
    span: Option<Span>,
    lines: Lines,
}

/// Gathers imports and attributes, each with where it stands.
#[derive(Default)]
struct Walk {
    nodes: Vec<Node>,
    modules: Vec<String>,
    imports: Vec<Import>,
    attributes: Vec<Covered>,
}

impl Walk {
    fn inside(&mut self, span: Span, go: impl FnOnce(&mut Self)) {
        self.nodes.push(Node { span: Some(span), lines: Lines::of(span) });
        go(self);
        self.nodes.pop();
    }

    fn flatten_use(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.flatten_use(&path.tree, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.flatten_use(tree, before);
                }
            }
            syn::UseTree::Glob(glob) => self.import(before, None, glob.span()),
            syn::UseTree::Name(name) => self.import(before, Some(&name.ident), name.span()),
            syn::UseTree::Rename(name) => self.import(before, Some(&name.ident), name.span()),
        }
    }

    fn import(&mut self, before: &[String], last: Option<&syn::Ident>, span: Span) {
        let mut segments = before.to_vec();
        segments.extend(last.map(ToString::to_string));
        self.imports.push(Import {
            segments,
            glob: last.is_none(),
            line: span.start().line,
            within: self.modules.clone(),
        });
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item(&mut self, node: &'ast syn::Item) {
        self.inside(node.span(), |walk| visit::visit_item(walk, node));
    }

    fn visit_impl_item(&mut self, node: &'ast syn::ImplItem) {
        self.inside(node.span(), |walk| visit::visit_impl_item(walk, node));
    }

    fn visit_trait_item(&mut self, node: &'ast syn::TraitItem) {
        self.inside(node.span(), |walk| visit::visit_trait_item(walk, node));
    }

    fn visit_stmt(&mut self, node: &'ast syn::Stmt) {
        self.inside(node.span(), |walk| visit::visit_stmt(walk, node));
    }

    fn visit_expr(&mut self, node: &'ast syn::Expr) {
        self.inside(node.span(), |walk| visit::visit_expr(walk, node));
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        self.inside(node.span(), |walk| visit::visit_arm(walk, node));
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.modules.push(node.ident.to_string());
        visit::visit_item_mod(self, node);
        self.modules.pop();
    }

    fn visit_item_use(&mut self, node: &'ast syn::ItemUse) {
        visit::visit_item_use(self, node);
        self.flatten_use(&node.tree, &mut Vec::new());
    }

    fn visit_attribute(&mut self, node: &'ast syn::Attribute) {
        // An attribute before a statement belongs to the statement, though the
        // parser hangs it on the expression that begins there.
        let start = |node: &Node| node.span.map(|span| (span.start().line, span.start().column));
        let mut owner = self.nodes.len().saturating_sub(1);
        while owner > 1 && start(&self.nodes[owner]) == start(&self.nodes[owner - 1]) {
            owner -= 1;
        }
        self.attributes.push(Covered {
            attribute: node.clone(),
            lines: self.nodes[owner].lines,
            line: node.span().start().line,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Area, RULE, Source, area};
    use crate::tidy::findings;

    fn source(text: &str) -> Source {
        Source::parse("crates/core/src/model.rs", text).unwrap()
    }

    #[test]
    fn a_file_that_does_not_parse_is_a_finding() {
        let found = findings(&RULE, &[("crates/core/src/a.rs", "fn a() {\n}\n}")]);
        assert!(found[0].starts_with("crates/core/src/a.rs:3: does not parse"), "{found:?}");
    }

    #[test]
    fn tests_are_told_from_shipped_lines() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n#[test]\nfn b() {}\n}\n\
                    #[cfg(not(test))]\nfn c() {}\n#[cfg(all(test, unix))]\nfn d() {}\n\
                    #[cfg(any(test, unix))]\nfn e() {}\n";
        let source = source(text);
        let tests: Vec<usize> = (1..=12).filter(|line| source.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 6, 9, 10]);
    }

    #[test]
    fn a_file_attribute_covers_the_file() {
        assert!(source("#![cfg(test)]\n\nfn a() {}\n").is_test(3));
    }

    #[test]
    fn tokens_reach_into_macros_and_leave_documentation_out() {
        let source = source("/// docker\n#[doc = \"docker\"]\nfn a() { vec![b.unwrap()]; }\n");
        let at = source.tokens.iter().position(|token| token.text == "unwrap").unwrap();
        assert!(source.reads(at - 1, &[".", "unwrap", "(", ")"]));
        assert!(source.tokens.iter().all(|token| !token.text.contains("docker")));
    }

    #[test]
    fn a_statement_attribute_covers_its_statement_only() {
        let source = source(
            "fn a() {\n#[expect(x, reason = \"r\")]\nlet b =\nc;\nd;\n#[expect(x)]\ne\n.f()\n.g();\nh;\n}\n",
        );
        let covered: Vec<(usize, usize)> = source
            .attributes
            .iter()
            .map(|covered| (covered.lines.first, covered.lines.last))
            .collect();
        assert_eq!(covered, [(2, 4), (6, 9)]);
    }

    #[test]
    fn areas() {
        assert_eq!(area("crates/core/src/model.rs"), Area::Product);
        assert_eq!(area("crates/core/tests/all.rs"), Area::Test);
        assert_eq!(area("crates/testkit/src/lib.rs"), Area::Tool);
        assert_eq!(area("xtask/src/main.rs"), Area::Tool);
        assert_eq!(area("fuzz/src/lib.rs"), Area::Test);
        assert_eq!(area("tests/live/src/lib.rs"), Area::Test);
    }
}
