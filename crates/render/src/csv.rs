//! CSV (RFC 4180): raw numbers, RFC 3339 times, names as they are.

use std::io::{self, Write};

use whose_fields::{Cell, Field, Pair, Record};

use crate::text;

/// Writes records as CSV. Bytes that are no UTF-8 are passed on.
///
/// # Errors
/// The writer's.
pub fn csv(
    out: &mut dyn Write,
    fields: &[&Field],
    records: &[&dyn Record],
    no_headers: bool,
) -> io::Result<()> {
    if !no_headers {
        csv_header(out, fields)?;
    }
    records.iter().try_for_each(|record| csv_row(out, fields, *record))
}

/// Writes the columns' names.
///
/// # Errors
/// The writer's.
pub(crate) fn csv_header(out: &mut dyn Write, fields: &[&Field]) -> io::Result<()> {
    write(out, fields.iter().map(|f| f.name))
}

/// Writes one record.
///
/// # Errors
/// The writer's.
pub(crate) fn csv_row(
    out: &mut dyn Write,
    fields: &[&Field],
    record: &dyn Record,
) -> io::Result<()> {
    write(out, fields.iter().map(|f| value(&record.get(f.id))))
}

/// One line in one piece: the crate's writer flushes what is beneath it too.
fn write(out: &mut dyn Write, cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut writer = ::csv::WriterBuilder::new().buffer_capacity(1 << 10).from_writer(&mut line);
    writer.write_record(cells).map_err(plain)?;
    writer.flush()?;
    drop(writer);
    out.write_all(&line)
}

/// The writer's own error, so that a closed pipe is known as one.
fn plain(error: ::csv::Error) -> io::Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn value(cell: &Cell<'_>) -> Vec<u8> {
    match cell {
        Cell::Absent | Cell::Unread(_) => Vec::new(),
        Cell::Bool(b) => b.to_string().into(),
        Cell::Int(n) => n.to_string().into(),
        Cell::Uint(n) => n.to_string().into(),
        Cell::Float(n) => n.to_string().into(),
        Cell::Bytes(bytes) => bytes.to_vec(),
        Cell::Time(ms) => text::time(*ms).into(),
        Cell::List(cells) => cells.iter().map(value).collect::<Vec<_>>().join(&b' '),
        Cell::Map(pairs) => {
            let pair = |(k, v): &Pair<'_>| [k.as_ref(), b"=", v.as_ref()].concat();
            pairs.iter().map(pair).collect::<Vec<_>>().join(&b',')
        }
    }
}

#[cfg(test)]
mod tests {
    use whose_fields::{Cell, FieldId, Record, find};

    struct One;

    impl Record for One {
        fn get(&self, field: FieldId) -> Cell<'_> {
            match field {
                FieldId::Comm => Cell::text("a,\"b\"\n"),
                FieldId::Rss => Cell::Uint(4096),
                _ => Cell::Absent,
            }
        }
    }

    #[test]
    fn quotes_where_it_must() {
        let fields = [find("rss").unwrap(), find("comm").unwrap(), find("name").unwrap()];
        let mut out = Vec::new();
        super::csv(&mut out, &fields, &[&One], false).unwrap();
        assert_eq!(out, b"rss,comm,name\n4096,\"a,\"\"b\"\"\n\",\n");
    }
}
