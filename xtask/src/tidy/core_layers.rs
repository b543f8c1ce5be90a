//! Which module of core may import which.

use super::source::Source;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "core-layers", check };

/// The modules from the bottom up. Two on one level are siblings and do not
/// import each other.
const LEVELS: &[(&str, usize)] = &[
    ("model", 0),
    ("state", 1),
    ("runtime", 2),
    ("storage", 2),
    ("index", 3),
    ("target", 4),
    ("answer", 5),
];

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources().iter().filter(|source| source.belongs_to("core")) {
        let place = place(&source.path);
        let Some(own) = place.first() else {
            continue;
        };
        let Some(own_level) = level(own) else {
            let message = format!("module `{own}` has no place in core's layer rule");
            hits.push(Hit::new(&source.path, 0, message));
            continue;
        };
        for (used, line) in uses(source, &place) {
            let wrong = used != *own && level(&used).is_some_and(|used| used >= own_level);
            if wrong && !source.is_test(line) {
                let message = format!("`{own}` must not import `{used}`");
                hits.push(Hit::new(&source.path, line, message));
            }
        }
    }
    hits
}

/// The module path of a file below crates/core/src; empty for lib.rs.
fn place(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("crates/core/src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The top modules of core that a file names, with the line.
fn uses(source: &Source, place: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for import in &source.imports {
        let mut at = place.to_vec();
        at.extend(import.within.iter().cloned());
        if let Some(top) = top(&import.segments, &at) {
            found.push((top, import.line));
        }
    }
    for (position, token) in source.tokens.iter().enumerate() {
        if token.text == "crate"
            && source.reads(position + 1, &[":", ":"])
            && let Some(next) = source.tokens.get(position + 3)
        {
            found.push((next.text.clone(), token.line));
        }
        // Enough `super::` in a row lead out of any module.
        let mut supers = 0;
        while source.reads(position + supers * 3, &["super", ":", ":"]) {
            supers += 1;
        }
        if supers >= place.len()
            && supers > 0
            && let Some(next) = source.tokens.get(position + supers * 3)
        {
            found.push((next.text.clone(), token.line));
        }
    }
    found
}

/// The module right below the crate's root that these segments, written in
/// module `at`, lead to.
fn top(segments: &[String], at: &[String]) -> Option<String> {
    let mut at = at.to_vec();
    let mut rest = segments;
    match rest.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    at.first().or(rest.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn of(path: &str, text: &str) -> Vec<String> {
        findings(&RULE, &[(path, text)])
    }

    #[test]
    fn what_lies_below_may_be_imported() {
        let text = "use crate::model::Owner;\nuse crate::{model, state::docker};\nuse super::cgroup;\nuse std::io;";
        assert!(of("crates/core/src/runtime/docker.rs", text).is_empty());
    }

    #[test]
    fn what_lies_above_may_not() {
        let text = "use crate::{\n    index::Plan,\n    model::Owner,\n};";
        assert_eq!(
            of("crates/core/src/state.rs", text),
            ["crates/core/src/state.rs:2: `state` must not import `index`"]
        );
    }

    #[test]
    fn siblings_do_not_import_each_other() {
        let found =
            of("crates/core/src/runtime/mod.rs", "fn a() -> crate::storage::Layer { todo() }");
        assert_eq!(
            found,
            ["crates/core/src/runtime/mod.rs:1: `runtime` must not import `storage`"]
        );
    }

    #[test]
    fn super_leads_out_as_well() {
        let path = "crates/core/src/runtime/docker.rs";
        let wanted = "crates/core/src/runtime/docker.rs:1: `runtime` must not import `answer`";
        assert_eq!(of(path, "use super::super::answer::Card;"), [wanted]);
        assert_eq!(of(path, "fn a() { super::super::answer::card() }"), [wanted]);
        assert_eq!(of(path, "fn a() { m!(crate::answer::card()) }"), [wanted]);
        assert!(of(path, "mod answer { use super::super::Runtime; }").is_empty());
    }

    #[test]
    fn tests_may_look_up_and_the_root_sees_all() {
        let text = "#[cfg(test)]\nmod tests { use crate::answer::Card; }";
        assert!(of("crates/core/src/model.rs", text).is_empty());
        assert!(of("crates/core/src/lib.rs", "pub use crate::answer::Card;").is_empty());
    }

    #[test]
    fn a_new_module_needs_a_place() {
        let found = of("crates/core/src/extra.rs", "");
        assert_eq!(
            found,
            ["crates/core/src/extra.rs:0: module `extra` has no place in core's layer rule"]
        );
    }
}
