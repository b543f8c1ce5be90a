//! The schema: which tables there are, and the names of their columns.

use std::ops::ControlFlow;

use bstr::BString;

use super::limits;
use super::record::Value;
use super::table::Table;
use super::view::{Trouble, View};

/// Places of the columns of the schema's own table, whose root is the first page.
const TYPE: usize = 0;
const NAME: usize = 1;
const ROOT: usize = 3;
const SQL: usize = 4;

/// An entry of the schema.
struct Entry {
    kind: Vec<u8>,
    name: BString,
    root: Value,
    sql: Vec<u8>,
}

/// The table of this name.
pub(super) fn table<'v>(view: &'v View<'v>, name: &str) -> Result<Option<Table<'v>>, Trouble> {
    let mut found: Option<Entry> = None;
    entries(view, &mut |entry| {
        let is_it = entry.name.eq_ignore_ascii_case(name.as_bytes());
        // What belongs to a table has a name of its own.
        if !is_it {
            return Ok(());
        }
        match found {
            Some(_) => Err(Trouble::Wrong(format!("two entries of the schema are called {name}"))),
            None => {
                found = Some(entry);
                Ok(())
            }
        }
    })?;
    let Some(entry) = found else { return Ok(None) };
    if entry.kind != b"table" {
        let kind = BString::from(entry.kind);
        return Err(Trouble::Unknown(format!("{name} is of type {kind}, not a table")));
    }
    let root = match entry.root {
        Value::Int(root) => u32::try_from(root).ok().filter(|root| *root > 0),
        _ => None,
    };
    let Some(root) = root else {
        return Err(Trouble::Unknown(format!("{name} is a virtual table")));
    };
    let columns = columns(&entry.sql).map_err(|why| Trouble::Unknown(format!("{name}: {why}")))?;
    Ok(Some(Table::new(view, entry.name, root, columns)))
}

/// Names of the tables that can be read.
pub(super) fn names(view: &View<'_>) -> Result<Vec<BString>, Trouble> {
    let mut names = Vec::new();
    entries(view, &mut |entry| {
        let has_root = matches!(entry.root, Value::Int(1..));
        if entry.kind == b"table" && has_root && columns(&entry.sql).is_ok() {
            names.push(entry.name);
        }
        Ok(())
    })?;
    Ok(names)
}

fn entries<'v>(
    view: &'v View<'v>,
    each: &mut dyn FnMut(Entry) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    if view.header().is_none() {
        return Ok(());
    }
    let schema = Table::new(view, "sqlite_schema".into(), 1, Vec::new());
    let mut count = 0;
    schema.rows(&mut |row| {
        count += 1;
        if count > limits::ENTRIES {
            return Err(Trouble::TooMuch);
        }
        each(Entry {
            kind: row.bytes(TYPE)?.unwrap_or_default(),
            name: row.bytes(NAME)?.unwrap_or_default().into(),
            root: row.value(ROOT)?,
            sql: row.bytes(SQL)?.unwrap_or_default(),
        })?;
        Ok(ControlFlow::Continue(()))
    })
}

/// A word of the text that made a table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// A keyword, a name or a number without quotes.
    Bare(Vec<u8>),
    /// A name or a text in quotes, without them.
    Quoted(Vec<u8>),
    /// A sign.
    Sign(u8),
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }
}

/// The names of a table's columns, as the text has them that made it.
fn columns(sql: &[u8]) -> Result<Vec<BString>, &'static str> {
    const STRANGE: &str = "made by a text that is not understood";
    let words = words(sql).ok_or(STRANGE)?;
    let mut rest = words.iter();
    let head: Vec<&Word> = rest.by_ref().take_while(|word| **word != Word::Sign(b'(')).collect();
    let [create, table, Word::Bare(_) | Word::Quoted(_)] = head[..] else {
        return Err(STRANGE);
    };
    if !create.is("create") || !table.is("table") {
        return Err(STRANGE);
    }
    let mut columns = Vec::new();
    let (mut depth, mut begins, mut of_table) = (1_u32, true, false);
    for word in rest.by_ref() {
        match word {
            Word::Sign(b'(') => depth += 1,
            Word::Sign(b')') => depth -= 1,
            Word::Sign(b',') if depth == 1 => begins = true,
            Word::Bare(name) | Word::Quoted(name) if begins => {
                begins = false;
                let constraints = ["constraint", "primary", "unique", "check", "foreign"];
                of_table |= constraints.iter().any(|keyword| word.is(keyword));
                if !of_table {
                    if columns.len() == limits::COLUMNS {
                        return Err("with too many columns");
                    }
                    columns.push(BString::from(name.as_slice()));
                }
            }
            // One that is worked out has no place in the records.
            _ if depth == 1 && (word.is("as") || word.is("generated")) => {
                return Err("with a column that is generated");
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    if depth > 0 || columns.is_empty() {
        return Err(STRANGE);
    }
    if rest.any(|word| word.is("without")) {
        return Err("a table without rowids");
    }
    Ok(columns)
}

/// Takes the text apart, comments left out; `None` where a quote or a comment has no end.
fn words(sql: &[u8]) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(&byte) = sql.get(at) {
        match byte {
            _ if byte.is_ascii_whitespace() => at += 1,
            b'-' if sql.get(at + 1) == Some(&b'-') => {
                at += sql[at..].iter().position(|b| *b == b'\n').unwrap_or(sql.len() - at);
            }
            b'/' if sql.get(at + 1) == Some(&b'*') => {
                at += 4 + sql.get(at + 2..)?.windows(2).position(|end| end == b"*/")?;
            }
            b'"' | b'\'' | b'`' | b'[' => {
                let (word, end) = quoted(sql, at + 1, if byte == b'[' { b']' } else { byte })?;
                words.push(Word::Quoted(word));
                at = end;
            }
            _ if is_of_word(byte) => {
                let rest = &sql[at..];
                let len = rest.iter().position(|b| !is_of_word(*b)).unwrap_or(rest.len());
                words.push(Word::Bare(rest[..len].to_vec()));
                at += len;
            }
            _ => {
                words.push(Word::Sign(byte));
                at += 1;
            }
        }
    }
    Some(words)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// What is in the quotes that begin before `at`, and where it goes on behind them. A quote within is
/// written twice, except a bracket.
fn quoted(sql: &[u8], mut at: usize, end: u8) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    loop {
        let byte = *sql.get(at)?;
        at += 1;
        if byte == end {
            if end == b']' || sql.get(at) != Some(&end) {
                return Some((word, at));
            }
            at += 1;
        }
        word.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::columns;

    fn names(sql: &str) -> Result<Vec<String>, &'static str> {
        columns(sql.as_bytes()).map(|c| c.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_of_columns() {
        let sql = "CREATE TABLE Pets(\n ID TEXT PRIMARY KEY NOT NULL, -- the first, (\n\
            \"a \"\"b\" DECIMAL(10, 2) CHECK (x IN (1, 2)), /* , c */ [d e], `f` DEFAULT 'x,y)',\n\
            FOREIGN KEY (ID) REFERENCES Other(ID), CHECK (ID <> f)) STRICT";
        assert_eq!(names(sql).unwrap(), ["ID", "a \"b", "d e", "f"]);
        assert_eq!(names("create table 'x'(a,b,c)").unwrap(), ["a", "b", "c"]);
        assert_eq!(names("CREATE TABLE t(\"primary\", b)").unwrap(), ["primary", "b"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let without = names("CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID");
        assert_eq!(without.unwrap_err(), "a table without rowids");
        let generated = names("CREATE TABLE t(a, b GENERATED ALWAYS AS (a + 1))");
        assert_eq!(generated.unwrap_err(), "with a column that is generated");
        for sql in [
            "",
            "CREATE TABLE",
            "CREATE TABLE t",
            "CREATE TABLE t(",
            "CREATE TABLE t()",
            "CREATE TABLE t(a, 'b",
            "CREATE TABLE t(a /* b",
            "CREATE VIRTUAL TABLE t USING x(a)",
            "CREATE VIEW t AS SELECT (1)",
        ] {
            assert!(names(sql).is_err(), "{sql}");
        }
    }
}
