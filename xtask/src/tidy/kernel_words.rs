//! The kernel crate tells what the kernel says; it names no runtime.

use super::source::Kind;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "kernel-names-no-runtime", check };

const RUNTIMES: &[&str] = &["docker", "podman", "containerd", "kubernetes", "lxc", "crio"];

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources().iter().filter(|source| source.belongs_to("kernel")) {
        for (_, token) in source.shipped().filter(|(_, token)| token.kind != Kind::Mark) {
            let text = token.text.to_lowercase();
            if let Some(name) = RUNTIMES.iter().find(|name| text.contains(*name)) {
                hits.push(Hit::new(&source.path, token.line, format!("names `{name}`")));
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    #[test]
    fn a_runtime_in_a_name_or_a_string_is_a_finding() {
        let text = "fn is_docker() {}\nconst A: &str = \"/lxc.payload\";\nstruct PodmanState;";
        let found = findings(&RULE, &[("crates/kernel/src/a.rs", text)]);
        assert_eq!(
            found,
            [
                "crates/kernel/src/a.rs:1: names `docker`",
                "crates/kernel/src/a.rs:2: names `lxc`",
                "crates/kernel/src/a.rs:3: names `podman`",
            ]
        );
    }

    #[test]
    fn comments_tests_and_other_crates_may_name_them() {
        let text = "/// As docker does.\nfn a() {} // docker\n#[test]\nfn b() { c(\"docker\") }";
        assert!(findings(&RULE, &[("crates/kernel/src/a.rs", text)]).is_empty());
        assert!(findings(&RULE, &[("crates/core/src/a.rs", "fn docker() {}")]).is_empty());
    }
}
