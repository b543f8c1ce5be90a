//! Words that do not belong in the tree: notes to oneself, paths of one
//! machine, hosts of package registries.

use super::{Hit, Rule, tree::Tree};

pub(super) const RULE: Rule = Rule { name: "words", check };

/// This file has to name them.
const SELF: &str = "xtask/src/tidy/words.rs";
/// Cargo's own: it names the registry of every package.
const LOCK: &str = "Cargo.lock";

const NOTES: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
// In parts, so that the words themselves stand nowhere.
const FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/fa", "rm/")];
const USERS: &[&str] = &["alice", "bob", "user"];
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("deb.", "debian.org"),
    concat!("pypi", ".org"),
    concat!("registry.", "npm", "js.org"),
];

fn check(tree: &Tree) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (path, text) in tree.texts() {
        if path == SELF || path == LOCK {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for message in wrong(path, line) {
                hits.push(Hit::new(path, number + 1, message));
            }
        }
    }
    hits
}

/// What is wrong with one line.
fn wrong(path: &str, line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in NOTES.iter().filter(|word| has_word(line, word)) {
        found.push(format!("`{word}`: do it, or file an issue"));
    }
    if comment(path, line).is_some_and(|comment| has_word(&comment.to_lowercase(), "for now")) {
        found.push("`for now` in a comment: say what holds and why".to_owned());
    }
    for folder in FOLDERS.iter().filter(|folder| starts_at(line, folder).next().is_some()) {
        found.push(format!("`{folder}` is a path of one machine"));
    }
    for rest in starts_at(line, "/home/") {
        let name: String = rest.chars().take_while(|letter| is_name(*letter)).collect();
        let somebody = name.starts_with(|first: char| first.is_ascii_lowercase());
        if somebody && !USERS.contains(&name.as_str()) {
            found.push(format!("`/home/{name}` is a path of one machine"));
        }
    }
    for host in REGISTRIES.iter().filter(|host| line.contains(*host)) {
        found.push(format!("`{host}` is a package registry"));
    }
    let words: Vec<String> = line
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    for pair in words.windows(2) {
        let which = ["this", "last", "next"].contains(&pair[0].as_str());
        if which && ["session", "sessions"].contains(&pair[1].as_str()) {
            found.push(format!("`{} {}`: the tree has no diary", pair[0], pair[1]));
        }
    }
    found
}

/// The comment of a line of code, if it has one.
fn comment<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mark = match extension {
        "rs" | "c" | "h" => "//",
        "md" | "json" | "snap" => return None,
        _ => "#",
    };
    line.split_once(mark).map(|(_, comment)| comment)
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    })
}

/// What follows `folder` wherever an absolute path begins with it; the same
/// letters in the middle of a path are another folder.
fn starts_at<'a>(line: &'a str, folder: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(folder).filter_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        let begins =
            before.is_none_or(|letter| letter.is_whitespace() || "\"'`(=:,<[|".contains(letter));
        begins.then(|| &line[at + folder.len()..])
    })
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::tidy::findings;

    fn count(path: &str, line: &str) -> usize {
        findings(&RULE, &[(path, line)]).len()
    }

    #[test]
    fn what_does_not_belong_is_a_finding() {
        for line in [
            "// TODO: later",
            "let a = 1; // FIXME",
            "# XXX",
            "// a HACK",
            "// good enough for now",
            concat!("see /wo", "rk/main/x"),
            concat!("path=\"/fa", "rm/y\""),
            "cd /home/carol/src",
            concat!("https://crates", ".io/x"),
            concat!("https://static.crates", ".io/x"),
            concat!("http://deb.", "debian.org"),
            concat!("https://pypi", ".org/x"),
            concat!("https://registry.", "npm", "js.org"),
            "done last session",
            "left for the Next session.",
        ] {
            assert_eq!(
                count("crates/core/src/lib.rs.txt", &line.replace("//", "# //")),
                1,
                "{line}"
            );
        }
    }

    #[test]
    fn look_alikes_are_fine() {
        for line in [
            "mktemp whose.XXXXXX",
            "autodoc and a hackathon",
            "/var/lib/docker/overlay2/a/work/b",
            "{dir}/work/b",
            "/home/alice/x /home/bob /home/user/.local /home/$USER /home/*",
            "a login session; this systemd session",
        ] {
            assert_eq!(count("notes.txt", line), 0, "{line}");
        }
        assert_eq!(count("README.md", "enough for now"), 0);
        assert_eq!(
            count("Cargo.lock", concat!("https://github.com/rust-lang/crates", ".io-index")),
            0
        );
    }
}
