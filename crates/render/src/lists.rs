//! What lists have in common: a cell as text, and the summary of what is missing.

use std::borrow::Cow;
use std::cmp::Reverse;

use whose_core::model::Gap;
use whose_core::model::gap::{Class, what};
use whose_fields::{Cell, Field, FieldId, Pair, Record, Type, Unit};

use crate::text;

/// How cells become text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Plain numbers and RFC 3339 times instead of readable ones.
    pub raw: bool,
}

impl Shown {
    /// The text of a field of a record. What could not be read is `?`, what does not apply `-`.
    #[must_use]
    pub fn text(self, record: &dyn Record, field: &Field) -> String {
        let mut text = String::new();
        self.push(&mut text, record, field);
        text
    }

    /// Adds the text of a field to `out`.
    pub fn push(self, out: &mut String, record: &dyn Record, field: &Field) {
        if field.id == FieldId::Args {
            return out.push_str(&command(record));
        }
        match record.get(field.id) {
            Cell::Bytes(bytes) => text::push_sanitised(out, &bytes),
            Cell::Uint(n) if self.raw || field.unit == Unit::None => text::push_decimal(out, n),
            cell => out.push_str(&self.cell(&cell, field)),
        }
    }

    fn cell(self, cell: &Cell<'_>, field: &Field) -> String {
        match cell {
            Cell::Absent => "-".into(),
            Cell::Unread(_) => "?".into(),
            Cell::Bool(b) => b.to_string(),
            Cell::Int(n) => n.to_string(),
            Cell::Uint(n) => match field.unit {
                Unit::Bytes if !self.raw => text::bytes(*n),
                Unit::Seconds if !self.raw => text::duration(*n),
                _ => n.to_string(),
            },
            Cell::Float(n) if field.unit == Unit::Seconds && !self.raw => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "seconds, cut"
                )]
                let whole = n.max(0.0) as u64;
                text::duration(whole)
            }
            Cell::Float(n) if field.unit == Unit::Percent => format!("{n:.1}"),
            Cell::Float(n) => n.to_string(),
            Cell::Bytes(bytes) => text::sanitise(bytes),
            Cell::Time(ms) => text::time(*ms),
            Cell::List(cells) => {
                let parts: Vec<String> = cells.iter().map(|c| self.cell(c, field)).collect();
                parts.join(",")
            }
            Cell::Map(pairs) => {
                let pair =
                    |(k, v): &Pair<'_>| format!("{}={}", text::sanitise(k), text::sanitise(v));
                pairs.iter().map(pair).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The arguments; for a process without any its name in brackets, as ps has it.
fn command(record: &dyn Record) -> String {
    let name = || match record.get(FieldId::Comm) {
        Cell::Bytes(comm) => text::sanitise(&comm),
        _ => "?".into(),
    };
    match record.get(FieldId::Args) {
        Cell::List(args) if !args.is_empty() => {
            let args: Vec<&[u8]> = args
                .iter()
                .map(|a| match a {
                    Cell::Bytes(bytes) => bytes.as_ref(),
                    _ => &b""[..],
                })
                .collect();
            text::command_line(&args)
        }
        Cell::Unread(class) => format!("[{}] ({class})", name()),
        _ => format!("[{}]", name()),
    }
}

/// Whether a column's values stand at its right edge.
pub(crate) fn right_aligned(field: &Field) -> bool {
    matches!(field.kind, Type::Uint | Type::Int | Type::Float)
}

/// One line about all gaps of a list, for stderr; `None` when there are none.
#[must_use]
pub fn summary(gaps: &[&Gap], undecided: usize) -> Option<String> {
    let mut counts = GapCounts::default();
    gaps.iter().for_each(|gap| counts.add(gap));
    counts.summary(undecided)
}

/// Gaps counted by what they are of, and why.
#[derive(Clone, Debug, Default)]
pub struct GapCounts {
    kinds: Vec<Kind>,
}

#[derive(Clone, Debug)]
struct Kind {
    what: &'static str,
    class: Class,
    count: usize,
    remedy: Option<Cow<'static, str>>,
    /// Why, where the class alone says too little.
    cause: Option<Cow<'static, str>>,
}

impl GapCounts {
    /// Counts one.
    pub fn add(&mut self, gap: &Gap) {
        match self.kinds.iter_mut().find(|k| k.what == gap.what && k.class == gap.class) {
            Some(kind) => kind.count += 1,
            None => self.kinds.push(Kind {
                what: gap.what,
                class: gap.class,
                count: 1,
                remedy: gap.remedy.clone(),
                cause: (gap.what == what::ITERATOR).then(|| gap.cause.clone()),
            }),
        }
    }

    /// One line about all of them, for stderr; `None` when there are none. Alike ones are counted
    /// together, the remedy of the commonest is named.
    #[must_use]
    pub fn summary(mut self, undecided: usize) -> Option<String> {
        let place = |word: &str| what::ALL.iter().position(|w| *w == word);
        self.kinds.sort_by_key(|k| (Reverse(k.count), place(k.what)));
        let part = |k: &Kind| match &k.cause {
            Some(cause) => format!("{} ({cause})", k.what),
            None => format!("{} ({}, {})", k.what, k.class.name(), k.count),
        };
        let mut parts: Vec<String> = self.kinds.iter().map(part).collect();
        if undecided > 0 {
            parts.push(format!("{undecided} processes left out, the filter could not be decided"));
        }
        if parts.is_empty() {
            return None;
        }
        let remedy = self.kinds.iter().find_map(|k| k.remedy.as_deref());
        let remedy = remedy.map(|r| format!("; {r}")).unwrap_or_default();
        Some(format!("not read: {}{remedy}", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use whose_core::model::Gap;

    use whose_core::model::gap::{Class, what};

    use super::summary;

    #[test]
    fn alike_gaps_are_counted() {
        let gap = |what, path: &str| {
            let error = whose_kernel_error(path);
            Gap::from_read(what, &error)
        };
        let (a, b, c) = (gap("arguments", "/a"), gap("arguments", "/b"), gap("membership", "/c"));
        let line = summary(&[&a, &b, &c], 0).unwrap();
        assert_eq!(
            line,
            "not read: arguments (forbidden, 2), membership (forbidden, 1); run as root: sudo whose ..."
        );
        let why = "no BTF; /proc was read instead";
        let iterator = Gap::new(what::ITERATOR, Class::Unsupported, "/proc", why, None);
        let line = summary(&[&iterator], 0).unwrap();
        assert_eq!(line, "not read: task iterator (no BTF; /proc was read instead)");
        assert_eq!(summary(&[], 0), None);
        assert!(summary(&[], 3).unwrap().contains("3 processes left out"));
    }

    fn whose_kernel_error(path: &str) -> whose_core::model::gap::ReadError {
        whose_core::model::gap::ReadError::new(
            path,
            whose_core::model::gap::Class::Forbidden,
            "permission denied",
        )
    }
}
