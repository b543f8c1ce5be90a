//! How to annotate.

use regex::bytes::Regex;

/// Where the owner goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// A column in tables, behind the line elsewhere.
    #[default]
    Column,
    /// Behind the line.
    Suffix,
    /// Before the line.
    Prefix,
    /// In the place of what names it.
    Replace,
    /// An object a line.
    Json,
}

impl Style {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("column", Self::Column),
        ("suffix", Self::Suffix),
        ("prefix", Self::Prefix),
        ("replace", Self::Replace),
        ("json", Self::Json),
    ];
}

/// A column that is said to hold PIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidColumn {
    /// By its number, from 1.
    Number(usize),
    /// By its title in a header line.
    Title(Vec<u8>),
}

/// How to annotate.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the owner goes.
    pub style: Style,
    /// A column of PIDs, in place of all that is found otherwise.
    pub pid_column: Option<PidColumn>,
    /// What names a process, by its group `pid`, or its first one; in place of all else.
    pub regex: Option<Regex>,
}

/// Why an option can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadOption(String);

impl std::fmt::Display for BadOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadOption {}

impl Options {
    /// Takes `--pid-column` as typed: a number from 1, or a title.
    ///
    /// # Errors
    /// For 0 and nothing.
    pub fn pid_column(text: &[u8]) -> Result<PidColumn, BadOption> {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        match number {
            Some(0) => Err(BadOption("columns are counted from 1".to_owned())),
            Some(number) => Ok(PidColumn::Number(number)),
            None if text.is_empty() => Err(BadOption("an empty column name".to_owned())),
            None => Ok(PidColumn::Title(text.to_vec())),
        }
    }

    /// Takes `--regex` as typed. The size of what it compiles to is bounded.
    ///
    /// # Errors
    /// When it is none, or has no group.
    pub fn regex(text: &str) -> Result<Regex, BadOption> {
        let built = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build();
        let regex = built.map_err(|e| {
            let why = e.to_string();
            let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            BadOption(format!("{text}: {last}"))
        })?;
        if regex.captures_len() < 2 {
            return Err(BadOption(format!("{text}: no group; name one (?P<pid>...)")));
        }
        Ok(regex)
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, PidColumn};

    #[test]
    fn what_was_typed_is_taken_or_refused() {
        assert_eq!(Options::pid_column(b"2"), Ok(PidColumn::Number(2)));
        assert_eq!(Options::pid_column(b"PID"), Ok(PidColumn::Title(b"PID".to_vec())));
        assert!(Options::pid_column(b"0").is_err() && Options::pid_column(b"").is_err());
        assert!(Options::regex(r"pid=(?P<pid>\d+)").is_ok());
        for bad in ["(", "pid", "(?P<pid>x{1000}{1000})"] {
            let why = Options::regex(bad).unwrap_err().to_string();
            assert!(why.starts_with(bad) && !why.contains('\n'), "{why}");
        }
    }
}
