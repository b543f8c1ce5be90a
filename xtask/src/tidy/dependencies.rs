//! Every dependency from outside is listed once, and its reason is written down.

use super::{Hit, Rule, tree::Tree, tree::line_of};

pub(super) const RULE: Rule = Rule { name: "dependencies", check };

const REASONS: &str = "ARCHITECTURE.md";

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = unexplained(tree);
    for (path, text, manifest) in tree.manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(section) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in section {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    let line = line_of(text, |line| line.starts_with(name.as_str()));
                    let message = format!("`{name}` bypasses [workspace.dependencies]");
                    hits.push(Hit::new(path, line, message));
                }
            }
        }
    }
    hits
}

/// The external crates without a line of their own in ARCHITECTURE.md.
fn unexplained(tree: &Tree) -> Vec<Hit> {
    let Some(text) = tree.text("Cargo.toml") else {
        return vec![Hit::new("Cargo.toml", 0, "the workspace has no manifest")];
    };
    let Ok(manifest) = text.parse::<toml::Table>() else {
        return vec![Hit::new("Cargo.toml", 0, "is not TOML")];
    };
    let reasons = tree.text(REASONS).unwrap_or_default();
    let listed = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml::Value::as_table);
    let mut hits = Vec::new();
    for (name, value) in listed.into_iter().flatten() {
        let explained = [format!("| `{name}`"), format!("- `{name}`")];
        let is_ours = value.get("path").is_some();
        let has_line =
            reasons.lines().any(|line| explained.iter().any(|start| line.starts_with(start)));
        if !is_ours && !has_line {
            let line = line_of(text, |line| line.starts_with(&format!("{name} ")));
            let message = format!("`{name}` has no line in {REASONS} saying why it is there");
            hits.push(Hit::new("Cargo.toml", line, message));
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    const ROOT: &str = "[workspace.dependencies]\nwhose-core = { path = \"crates/core\" }\n\
                        bstr = { version = \"1\" }\nlibc = \"0.2\"\n";

    #[test]
    fn a_dependency_without_a_reason_is_a_finding() {
        let found = findings(
            &RULE,
            &[("Cargo.toml", ROOT), ("ARCHITECTURE.md", "- `bstr`: bytes.\nand `libc`\n")],
        );
        assert_eq!(
            found,
            ["Cargo.toml:4: `libc` has no line in ARCHITECTURE.md saying why it is there"]
        );
        let reasons = "- `bstr`: bytes.\n| `libc` | constants |\n";
        assert!(findings(&RULE, &[("Cargo.toml", ROOT), ("ARCHITECTURE.md", reasons)]).is_empty());
    }

    #[test]
    fn a_member_names_no_version_of_its_own() {
        let member = "[dependencies]\nbstr.workspace = true\nserde = \"1\"\n";
        let found =
            findings(&RULE, &[("Cargo.toml", "[workspace]\n"), ("crates/core/Cargo.toml", member)]);
        assert_eq!(found, ["crates/core/Cargo.toml:3: `serde` bypasses [workspace.dependencies]"]);
    }
}
