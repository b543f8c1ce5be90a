//! The house rules that neither rustc nor clippy know, one file a rule.

mod core_layers;
mod crate_layers;
mod dependencies;
mod fuzzed;
mod globals;
mod globs;
mod host_files;
mod ignored;
mod kernel_words;
mod links;
mod panics;
mod printing;
mod size;
mod source;
mod tree;
mod unsafe_code;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use tree::Tree;

/// One rule: its name, and the check that lists what breaks it.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Hit>,
}

/// One place that breaks a rule; a line of 0 means the file as a whole.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    path: String,
    line: usize,
    message: String,
}

impl Hit {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

const RULES: &[Rule] = &[
    source::RULE,
    crate_layers::RULE,
    core_layers::RULE,
    kernel_words::RULE,
    size::RULE,
    globs::RULE,
    panics::RULE,
    host_files::RULE,
    unsafe_code::RULE,
    globals::RULE,
    printing::RULE,
    dependencies::RULE,
    fuzzed::RULE,
    words::RULE,
    ignored::RULE,
    links::RULE,
];

/// Checks every rule over the project at `root`; says whether all hold.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let tree = Tree::load(root)?;
    let mut found = BTreeSet::new();
    for rule in RULES {
        found.extend((rule.check)(&tree).into_iter().map(|hit| (hit, rule.name)));
    }
    for (hit, rule) in &found {
        println!("{}:{}: {}: {}", hit.path, hit.line, rule, hit.message);
    }
    if found.is_empty() {
        println!("tidy: {} rules hold over {} files", RULES.len(), tree.len());
    } else {
        eprintln!("tidy: {} findings", found.len());
    }
    Ok(found.is_empty())
}

/// What `rule` finds in a tree of these files, as `path:line: message`.
#[cfg(test)]
fn findings(rule: &Rule, files: &[(&str, &str)]) -> Vec<String> {
    let tree =
        Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
    let found: BTreeSet<Hit> = (rule.check)(&tree).into_iter().collect();
    found.into_iter().map(|hit| format!("{}:{}: {}", hit.path, hit.line, hit.message)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::RULES;

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }
}
