//! Host files are opened by the kernel crate alone, so that every reader can
//! be given another root.

use super::source::Area;
use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "host-files", check };

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for source in tree.sources() {
        if source.area != Area::Product || source.belongs_to("kernel") {
            continue;
        }
        let mut report = |line, owner: &str| {
            let message = format!("`{owner}::fs` outside whose-kernel");
            hits.push(Hit::new(&source.path, line, message));
        };
        for import in &source.imports {
            let words: Vec<&str> = import.segments.iter().map(String::as_str).collect();
            if let [owner @ ("std" | "rustix"), "fs", ..] = words.as_slice()
                && !source.is_test(import.line)
            {
                report(import.line, owner);
            }
        }
        for (position, token) in source.shipped() {
            for owner in ["std", "rustix"] {
                if source.reads(position, &[owner, ":", ":", "fs"]) {
                    report(token.line, owner);
                }
            }
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    const BAD: &str = "use std::{fs, io};\nfn a() { std::fs::read(b); m!(rustix::fs::open(b)) }";

    #[test]
    fn opening_files_above_the_kernel_is_a_finding() {
        for path in ["crates/core/src/state.rs", "crates/cli/src/args.rs"] {
            let found = findings(&RULE, &[(path, BAD)]);
            assert_eq!(
                found,
                [
                    format!("{path}:1: `std::fs` outside whose-kernel"),
                    format!("{path}:2: `rustix::fs` outside whose-kernel"),
                    format!("{path}:2: `std::fs` outside whose-kernel"),
                ]
            );
        }
    }

    #[test]
    fn the_kernel_tools_and_tests_may() {
        for path in ["crates/kernel/src/root.rs", "crates/testkit/src/lib.rs", "xtask/src/main.rs"]
        {
            assert!(findings(&RULE, &[(path, BAD)]).is_empty());
        }
        let tests = "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::os::unix::fs::MetadataExt;";
        assert!(findings(&RULE, &[("crates/core/src/state.rs", tests)]).is_empty());
    }
}
