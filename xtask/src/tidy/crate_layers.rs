//! Which crate may depend on which.

use super::{Hit, Rule, tree::Tree, tree::line_of};

pub(super) const RULE: Rule = Rule { name: "crate-layers", check };

/// Each package, and the ones of ours its shipped code may use. Tests may use
/// more: dev-dependencies are not looked at.
const LAYERS: &[(&str, &[&str])] = &[
    ("whose-kernel", &[]),
    ("whose-fields", &[]),
    ("whose-query", &["whose-fields"]),
    ("whose-core", &["whose-kernel", "whose-fields"]),
    ("whose-client", &["whose-core"]),
    ("whose-render", &["whose-core", "whose-fields"]),
    ("whose-annotate", &["whose-core", "whose-fields", "whose-render"]),
    (
        "whose",
        &[
            "whose-kernel",
            "whose-fields",
            "whose-query",
            "whose-core",
            "whose-client",
            "whose-render",
            "whose-annotate",
        ],
    ),
    ("whose-testkit", &[]),
    ("whose-fuzz", &["whose-kernel", "whose-core", "whose-client", "whose-annotate"]),
    ("whose-live-tests", &["whose-testkit"]),
    ("xtask", &["whose-testkit"]),
];

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (path, text, manifest) in tree.manifests() {
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(toml::Value::as_str)
            .unwrap_or_default();
        let Some((_, allowed)) = LAYERS.iter().find(|(package, _)| *package == name) else {
            hits.push(Hit::new(path, 0, format!("`{name}` has no place in the layer rule")));
            continue;
        };
        for used in ours(&manifest) {
            if !allowed.contains(&used.as_str()) {
                let line = line_of(text, |line| line.contains(&used));
                hits.push(Hit::new(path, line, format!("`{name}` must not import `{used}`")));
            }
        }
    }
    hits.extend(above_models(tree));
    hits
}

/// What speaks to daemons decides nothing: of core it knows the words alone.
fn above_models(tree: &Tree) -> Vec<Hit> {
    const OWNER: &str = "whose_core";
    let mut hits = Vec::new();
    for source in tree.sources().iter().filter(|source| source.belongs_to("client")) {
        let mut see = |module: &str, line| {
            if module != "model" && !source.is_test(line) {
                let message = format!("`whose-client` must not import `{OWNER}::{module}`");
                hits.push(Hit::new(&source.path, line, message));
            }
        };
        for import in &source.imports {
            if let [owner, module, ..] = import.segments.as_slice()
                && owner == OWNER
            {
                see(module, import.line);
            }
        }
        for (position, token) in source.tokens.iter().enumerate() {
            if source.reads(position, &[OWNER, ":", ":"])
                && let Some(next) = source.tokens.get(position + 3)
                && !source.imports.iter().any(|import| import.line == token.line)
            {
                see(&next.text, token.line);
            }
        }
    }
    hits
}

/// The packages of this project among the dependencies, also those for one
/// platform only and those under another name.
fn ours(manifest: &toml::Table) -> Vec<String> {
    let mut tables = vec![manifest];
    if let Some(platforms) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(platforms.values().filter_map(toml::Value::as_table));
    }
    let mut names = Vec::new();
    for table in tables {
        for section in ["dependencies", "build-dependencies"] {
            let Some(section) = table.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (key, value) in section {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                let name = renamed.unwrap_or(key);
                if LAYERS.iter().any(|(package, _)| *package == name) {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn of(package: &str, rest: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{package}\"\n{rest}\n");
        findings(&RULE, &[("crates/x/Cargo.toml", &manifest)])
    }

    #[test]
    fn kernel_imports_nothing_of_ours() {
        let found = of("whose-kernel", "[dependencies]\nlibc = \"1\"\nwhose-core.workspace = true");
        assert_eq!(found, ["crates/x/Cargo.toml:5: `whose-kernel` must not import `whose-core`"]);
    }

    #[test]
    fn a_platform_and_another_name_are_no_way_round() {
        let found = of(
            "whose-core",
            "[target.'cfg(unix)'.dependencies]\nx = { package = \"whose-render\" }",
        );
        assert_eq!(found, ["crates/x/Cargo.toml:4: `whose-core` must not import `whose-render`"]);
    }

    #[test]
    fn only_tests_import_the_testkit() {
        assert_eq!(of("whose", "[dependencies]\nwhose-testkit.workspace = true").len(), 1);
        assert!(of("whose", "[dev-dependencies]\nwhose-testkit.workspace = true").is_empty());
    }

    #[test]
    fn who_speaks_to_daemons_knows_words_alone() {
        let file = "crates/client/src/lib.rs";
        let of = |text| findings(&RULE, &[(file, text)]);
        assert!(of("use whose_core::model::{Engine, daemon::Told};").is_empty());
        assert_eq!(
            of("use whose_core::{model::Engine, index::Index};"),
            ["crates/client/src/lib.rs:1: `whose-client` must not import `whose_core::index`"]
        );
        assert_eq!(of("fn a() { whose_core::answer::answer() }").len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        let found = of("whose-new", "");
        assert_eq!(found, ["crates/x/Cargo.toml:0: `whose-new` has no place in the layer rule"]);
    }
}
