use std::cell::Cell as Slot;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;

use bstr::BStr;
use proptest::prelude::{Strategy, any, prop};
use proptest::test_runner::Config;
use proptest::{prop_assert_eq, prop_oneof, proptest};
use whose_kernel::root::{Links, Root};
use whose_kernel::{Class, ReadError};
use whose_testkit::sqlite::{self as writer, Cell, Entry, Layout};

use super::{Beside, Database, Source, Tables, Trouble, Value, limits};

/// A database by the sqlite3 program, of Debian 12's version 3.40.1.
const REAL: &str = "../../fuzz/corpus/sqlite/by-sqlite3.db";

fn layout(page_size: usize) -> Layout {
    Layout { page_size, ..Layout::default() }
}

fn sample() -> Vec<Entry> {
    let mut many = Entry::table("Many", "ID TEXT PRIMARY KEY NOT NULL, N INTEGER, JSON TEXT");
    for n in 0..400_i64 {
        let long = "x".repeat(usize::try_from(n * 7).unwrap());
        many = many.row([format!("id-{n:04}").as_str().into(), Cell::Int(n - 200), {
            if n % 2 == 0 { Cell::Text(long) } else { Cell::Blob(long.into()) }
        }]);
    }
    vec![
        many,
        Entry::other("view", "Seen", "CREATE VIEW Seen AS SELECT 1"),
        Entry::other("trigger", "Trap", "CREATE TRIGGER Trap AFTER INSERT ON Many BEGIN END"),
        Entry::other("table", "Virtual", "CREATE VIRTUAL TABLE Virtual USING fts5(a)"),
        Entry::table("Empty", "a, b"),
    ]
}

type Rows = Vec<(i64, Vec<Value>)>;

fn rows(tables: &Tables<'_>, name: &str, columns: usize) -> Result<Option<Rows>, Trouble> {
    let Some(table) = tables.table(name)? else { return Ok(None) };
    let mut rows = Vec::new();
    table.rows(&mut |row| {
        let values: Result<Vec<Value>, Trouble> = (0..columns).map(|n| row.value(n)).collect();
        rows.push((row.rowid(), values?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Some(rows))
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Int(number) => Value::Int(*number),
        Cell::Real(number) => Value::Real(*number),
        Cell::Text(text) => Value::Text(text.as_str().into()),
        Cell::Blob(bytes) => Value::Blob(bytes.clone()),
    }
}

fn expected(entry: &Entry) -> Rows {
    let rows = entry.rows.as_ref().unwrap();
    rows.iter().map(|(rowid, cells)| (*rowid, cells.iter().map(value).collect())).collect()
}

#[test]
fn rows_of_every_size_in_pages_of_every_size() {
    for page_size in [512, 1024, 4096, 65536] {
        for reserved in [0, 32] {
            let layout = Layout { reserved, ..layout(page_size) };
            let database = Database::over(writer::file(&sample(), layout));
            let told = database.view(|tables| rows(tables, "many", 3)).unwrap();
            assert_eq!(told.unwrap(), expected(&sample()[0]), "{page_size} {reserved}");
            let empty = database.view(|tables| rows(tables, "Empty", 2)).unwrap();
            assert_eq!(empty.unwrap(), []);
            assert!(database.view(|tables| rows(tables, "None", 1)).unwrap().is_none());
        }
    }
}

#[test]
fn a_row_is_found_by_a_column() {
    let database = Database::over(writer::file(&sample(), layout(1024)));
    let found = database.view(|tables| {
        let table = tables.table("Many")?.unwrap();
        let [id, n] = table.columns(["id", "N"])?;
        assert!(table.find(id, b"id-9999")?.is_none());
        let problem = table.columns(["ID", "Later"]).unwrap_err();
        assert!(matches!(problem, Trouble::Unknown(why) if why.ends_with("no column Later")));
        table.find(id, b"id-0333")?.unwrap().value(n)
    });
    assert_eq!(found.unwrap(), Value::Int(133));
}

#[test]
fn what_is_no_table_is_refused() {
    let database = Database::over(writer::file(&sample(), layout(1024)));
    for (name, why) in [
        ("Seen", "Seen is of type view, not a table"),
        ("Trap", "Trap is of type trigger, not a table"),
        ("Virtual", "Virtual is a virtual table"),
    ] {
        let error = database.view(|tables| tables.table(name).map(drop)).unwrap_err();
        assert_eq!((error.class, &*error.cause), (Class::Unsupported, why));
    }
    let twice = [Entry::table("A", "x"), Entry::other("view", "a", "CREATE VIEW a AS SELECT 1")];
    let database = Database::over(writer::file(&twice, layout(512)));
    let error = database.view(|tables| tables.table("A").map(drop)).unwrap_err();
    assert_eq!(error.class, Class::Malformed);
}

#[test]
fn what_another_program_wrote() {
    let bytes = fs::read(format!("{}/{REAL}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let told = |bytes: Vec<u8>| {
        Database::over(bytes).view(|tables| {
            let mut names = tables.names()?;
            names.sort();
            let rows = rows(tables, "ContainerConfig", 4)?.unwrap();
            let odd = self::rows(tables, "Odd", 5)?.unwrap();
            Ok((names, rows, odd))
        })
    };
    let (names, rows, odd) = told(bytes.clone()).unwrap();
    assert_eq!(names, ["ContainerConfig", "Odd"]);
    // 20 were put and every fourth was deleted.
    let rowids: Vec<i64> = rows.iter().map(|(rowid, _)| *rowid).collect();
    let left: Vec<i64> = (1..=20).filter(|n| n % 4 != 0).collect();
    assert_eq!(rowids, left);
    for (rowid, row) in &rows {
        let text = |text: String| Value::Text(text.into());
        let json = format!(
            "{{\"n\":{rowid},\"fill\":\"{}\"}}",
            "y".repeat(usize::try_from(*rowid).unwrap() * 30)
        );
        assert_eq!(row[..2], [text(format!("id-{rowid:02}")), text(format!("name-{rowid}"))]);
        assert_eq!(row[2..], [Value::Null, Value::Blob(json.into())]);
    }
    let real = Value::Real(0.5);
    let big = Value::Int(i64::MIN);
    assert_eq!(odd[0].1, [Value::Int(-3), real, big, Value::Text("\u{e9}\0x".into()), Value::Null]);
    // A column that was added later.
    assert_eq!(
        odd[1].1,
        [Value::Int(1), Value::Null, Value::Int(70_000), Value::Null, Value::Int(9)]
    );
    let copy = Database::over(bytes.clone()).copy().unwrap();
    assert_eq!(told(copy).unwrap(), told(bytes).unwrap());
}

#[test]
fn a_copy_has_the_rows_and_no_environment() {
    let secret = |n: i64| {
        let env = format!("\"env\":[\"PASS=secret{}\"]", "s".repeat(2000));
        Cell::Text(format!("{{\"n\":{n},{env},\"end\":1}}"))
    };
    let table =
        Entry::table("A", "x, y").row([Cell::Int(5), secret(1)]).row([Cell::Null, secret(2)]);
    for page_size in [512, 4096] {
        let mut bytes = writer::file(std::slice::from_ref(&table), layout(page_size));
        // A page that is no table's, as an index or a free one.
        let count = u32::try_from(bytes.len() / page_size).unwrap() + 1;
        bytes[28..32].copy_from_slice(&count.to_be_bytes());
        bytes.extend("gone ".repeat(page_size / 5 + 1).bytes().take(page_size));
        let copy = Database::over(bytes.clone()).copy().unwrap();
        assert_eq!(copy.len(), bytes.len());
        assert!(!copy.windows(6).any(|w| w == b"secret") && !copy.windows(4).any(|w| w == b"gone"));
        let rows = Database::over(copy).view(|tables| rows(tables, "A", 2)).unwrap().unwrap();
        let Value::Text(text) = &rows[1].1[1] else { panic!("a text") };
        assert!(
            text.starts_with(b"{\"n\":2,\"env\":[\"PASS=xxxx")
                && text.ends_with(b"xx\"],\"end\":1}")
        );
    }
}

#[test]
fn nothing_is_an_empty_database() {
    let database = Database::over(Vec::new());
    assert!(database.view(|tables| rows(tables, "A", 1)).unwrap().is_none());
    let none = writer::file(&[], layout(512));
    assert!(Database::over(none).view(|tables| rows(tables, "A", 1)).unwrap().is_none());
}

/// A file that changes as it is read.
struct Changing {
    files: Vec<Vec<u8>>,
    /// What there is beside it, by how often that was asked.
    beside: Box<dyn Fn(usize) -> Beside>,
    /// Reads after which the next file is there.
    every: usize,
    reads: Slot<usize>,
    asked: Slot<usize>,
}

impl Changing {
    fn now(&self) -> &Vec<u8> {
        let at = self.reads.get().checked_div(self.every).unwrap_or(0);
        &self.files[at.min(self.files.len() - 1)]
    }
}

impl Source for Changing {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        let got = self.now().read_at(at, into);
        self.reads.set(self.reads.get() + 1);
        got
    }

    fn size(&self) -> Result<u64, ReadError> {
        self.now().size()
    }

    fn beside(&self) -> Result<Beside, ReadError> {
        self.asked.set(self.asked.get() + 1);
        Ok((self.beside)(self.asked.get()))
    }

    fn shown(&self) -> &BStr {
        BStr::new("changing")
    }
}

/// The same number in two tables.
fn pair(n: i64) -> Vec<u8> {
    let table = |name| Entry::table(name, "n, long");
    let row = [Cell::Int(n), Cell::Blob(vec![u8::try_from(n % 251).unwrap(); 3000])];
    let entries = [table("A").row(row.clone()), table("B").row(row)];
    let counter = u32::try_from(n).unwrap();
    writer::file(&entries, Layout { page_size: 512, reserved: 0, counter })
}

fn both(tables: &Tables<'_>) -> Result<(Value, Value), Trouble> {
    let of = |name| Ok::<_, Trouble>(rows(tables, name, 2)?.unwrap()[0].1[0].clone());
    Ok((of("A")?, of("B")?))
}

fn changing(every: usize, count: i64, beside: impl Fn(usize) -> Beside + 'static) -> Changing {
    let (reads, asked) = (Slot::new(0), Slot::new(0));
    let files = (0..count).map(pair).collect();
    Changing { files, beside: Box::new(beside), every, reads, asked }
}

#[test]
fn what_is_told_is_of_one_moment() {
    for every in 1..60 {
        let database = Database::over(changing(every, 20, |_| Beside::Nothing));
        match database.view(both) {
            Ok((a, b)) => assert_eq!(a, b, "{every}"),
            Err(e) => {
                assert_eq!((e.class, &*e.cause), (Class::TimedOut, whose_kernel::error::CHANGING))
            }
        }
    }
    let all_the_time = Database::over(changing(1, 100_000, |_| Beside::Nothing));
    assert_eq!(all_the_time.view(both).unwrap_err().class, Class::TimedOut);
}

#[test]
fn a_transaction_is_waited_for_and_one_that_stays_is_said() {
    let soon = changing(0, 2, |asked| if asked < 3 { Beside::Journal } else { Beside::Nothing });
    assert_eq!(Database::over(soon).view(both).unwrap().0, Value::Int(0));
    let error = Database::over(changing(0, 1, |_| Beside::Journal)).view(both).unwrap_err();
    assert_eq!(error.class, Class::TimedOut);
    assert!(error.cause.contains("left unfinished"), "{error:?}");
    let error = Database::over(changing(0, 1, |_| Beside::Log)).view(both).unwrap_err();
    assert_eq!(error.class, Class::Unsupported);
}

#[test]
fn what_lies_beside_a_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("db"), pair(4)).unwrap();
    let root = Root::open(BStr::new(dir.path().as_os_str().as_encoded_bytes()), Links::Never);
    let root = root.unwrap();
    let told = || Database::open(&root, b"db").unwrap().view(both);
    assert!(told().is_ok());
    // Ended, as `journal_mode` PERSIST and TRUNCATE leave it.
    for ended in [&[0; 600][..], b""] {
        fs::write(path("db-journal"), ended).unwrap();
        assert!(told().is_ok());
    }
    fs::write(path("db-journal"), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 and pages").unwrap();
    assert_eq!(told().unwrap_err().class, Class::TimedOut);
    fs::remove_file(path("db-journal")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("db-journal")).unwrap();
    assert_eq!(told().unwrap_err().class, Class::Malformed);
    fs::remove_file(path("db-journal")).unwrap();
    fs::write(path("db-wal"), "").unwrap();
    assert!(told().is_ok());
    fs::write(path("db-wal"), "frames").unwrap();
    assert_eq!(told().unwrap_err().class, Class::Unsupported);
    fs::remove_file(path("db-wal")).unwrap();
    // Of a size that is no engine's, without a byte on the disk.
    fs::File::create(path("db")).unwrap().set_len(10 << 30).unwrap();
    assert_eq!(Database::open(&root, b"db").unwrap_err().class, Class::Malformed);
    fs::File::create(path("db")).unwrap().set_len(limits::FILE as u64).unwrap();
    assert_eq!(told().unwrap_err().class, Class::Malformed);
}

#[test]
fn damage_is_said() {
    let sound = writer::file(&sample(), layout(512));
    let fails = |bytes: Vec<u8>| Database::over(bytes).view(|t| rows(t, "Many", 3)).unwrap_err();
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = sound.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        fails(damaged)
    };
    assert_eq!(with(0, b"x").cause, "no SQLite database");
    assert_eq!(with(16, &[3, 0]).class, Class::Malformed);
    assert_eq!(with(19, &[3]).class, Class::Unsupported);
    assert_eq!(with(20, &[33]).class, Class::Malformed);
    assert_eq!(with(47, &[5]).class, Class::Unsupported);
    assert_eq!(with(59, &[2]).cause, "text encoding 2, not UTF-8");
    assert_eq!(with(28, &[0, 255, 255, 255]).class, Class::Malformed);
    for len in [1, 99, 100, 511, 512, 1024, sound.len() - 1] {
        assert_eq!(fails(sound[..len].to_vec()).class, Class::Malformed, "{len}");
    }
    // Every page in turn is like the first, the last, or nothing.
    for page in 1..sound.len() / 512 {
        let last = sound.len() - 512;
        for other in [&sound[512..1024], &sound[last..], &[0xFF; 512]] {
            let mut damaged = sound.clone();
            damaged[page * 512..(page + 1) * 512].copy_from_slice(other);
            let told = Database::over(damaged).view(|tables| rows(tables, "Many", 3));
            if let Err(e) = told {
                assert_eq!(e.class, Class::Malformed, "{page}");
            }
        }
    }
}

#[test]
fn a_circle_of_pages_comes_to_its_end() {
    // A root that is its own child, by its only cell and by its last child.
    let mut bytes = writer::file(&[Entry::table("A", "x").row([Cell::Null])], layout(512));
    let page = &mut bytes[512..1024];
    page.fill(0);
    page[..14].copy_from_slice(&[5, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 1, 0]);
    page[256..261].copy_from_slice(&[0, 0, 0, 2, 1]);
    let error = Database::over(bytes.clone()).view(|tables| rows(tables, "A", 1)).unwrap_err();
    assert_eq!(error.cause, "larger or deeper than any engine's");
    assert!(Database::over(bytes).copy().is_none());
    // A row that runs over into the same page again and again.
    let long = Entry::table("A", "x").row([Cell::Blob(vec![7; 3000])]);
    let mut bytes = writer::file(&[long], layout(512));
    let end = bytes.len() / 512;
    for page in 1..end {
        let next = u32::try_from(page + 1).unwrap().to_be_bytes();
        if bytes[page * 512] != 0x0D {
            bytes[page * 512..page * 512 + 4].copy_from_slice(&next);
        }
    }
    assert!(Database::over(bytes).view(|tables| rows(tables, "A", 1)).is_ok_and(|r| r.is_some()));
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        proptest::strategy::Just(Cell::Null),
        any::<i64>().prop_map(Cell::Int),
        (-300_i64..300).prop_map(Cell::Int),
        (-1e9..1e9).prop_map(Cell::Real),
        "\\PC{0,40}".prop_map(Cell::Text),
        prop::collection::vec(any::<u8>(), 0..3000).prop_map(Cell::Blob),
    ]
}

proptest! {
    #![proptest_config(Config::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::btree_map(any::<i64>(), [cell(), cell(), cell()], 0..60),
        size in 9_u32..17,
        reserved in 0_u8..33,
    ) {
        let rows: BTreeMap<i64, [Cell; 3]> = rows;
        let all = rows.into_iter().map(|(rowid, cells)| (rowid, cells.to_vec())).collect();
        let table = Entry { rows: Some(all), ..Entry::table("T", "a, b, c") };
        let layout = Layout { reserved, ..layout(1 << size) };
        let database = Database::over(writer::file(std::slice::from_ref(&table), layout));
        let told = database.view(|tables| self::rows(tables, "T", 3));
        prop_assert_eq!(told.unwrap().unwrap(), expected(&table));
        let copy = Database::over(database.copy().unwrap());
        let told = copy.view(|tables| self::rows(tables, "T", 3));
        prop_assert_eq!(told.unwrap().unwrap(), expected(&table));
    }

    #[test]
    fn any_damage_has_an_end(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = writer::file(&sample()[..2], layout(512));
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let told = Database::over(bytes.clone()).view(|tables| rows(tables, "Many", 3));
        if let Err(e) = told {
            prop_assert_eq!(e.class == Class::TimedOut, false);
        }
        drop(Database::over(bytes).copy());
    }
}
