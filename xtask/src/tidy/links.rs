//! Relative links in Markdown lead somewhere.

use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "links", check };

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            let start = line.trim_start();
            if start.starts_with("```") || start.starts_with("~~~") {
                fenced = !fenced;
            } else if !fenced {
                for link in links(&without_code(line)) {
                    if !leads_somewhere(tree, folder, &link) {
                        let message = format!("`{link}` leads nowhere");
                        hits.push(Hit::new(path, number + 1, message));
                    }
                }
            }
        }
    }
    hits
}

/// The line with its code spans cut out.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of `[text](target)` and `[name]: target`.
fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in line.split("](").skip(1) {
        if let Some((inside, _)) = piece.split_once(')') {
            found.push(inside);
        }
    }
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        found.push(target);
    }
    // A title may follow the target: [text](target "title").
    found
        .into_iter()
        .filter_map(|link| link.split_whitespace().next())
        .map(|link| link.trim_start_matches('<').trim_end_matches('>').to_owned())
        .collect()
}

fn leads_somewhere(tree: &Tree, folder: &str, link: &str) -> bool {
    let scheme = link
        .split_once(':')
        .is_some_and(|(scheme, _)| scheme.chars().all(|letter| letter.is_ascii_alphanumeric()));
    if scheme || link.starts_with('#') {
        return true;
    }
    let target = link.split('#').next().unwrap_or(link).replace("%20", " ");
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        folder.split('/').filter(|part| !part.is_empty()).collect()
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            _ => parts.push(part),
        }
    }
    tree.holds(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    #[test]
    fn a_dead_link_is_a_finding() {
        let text = "[a](README.md) and [b](none.md#x), [c](../none.md)\n\n[d]: gone.md\n[e](../../out.md)\n";
        let found = findings(&RULE, &[("docs/a.md", text), ("README.md", "")]);
        assert_eq!(
            found,
            [
                "docs/a.md:1: `../none.md` leads nowhere",
                "docs/a.md:1: `README.md` leads nowhere",
                "docs/a.md:1: `none.md#x` leads nowhere",
                "docs/a.md:3: `gone.md` leads nowhere",
                "docs/a.md:4: `../../out.md` leads nowhere",
            ]
        );
    }

    #[test]
    fn what_exists_or_is_no_file_is_fine() {
        let text = "[a](../README.md \"title\") [b](#here) [c](https://example.org/x) [d](../docs)\n\
                    [e](<b.md>) `[f](none.md)`\n```\n[g](none.md)\n```\n[h]: b.md\n";
        let files = [("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")];
        assert!(findings(&RULE, &files).is_empty());
    }
}
