//! Writing SQLite databases, for tests of their reader: the same bytes for the same content.
//!
//! It follows the file format alone (sqlite.org/fileformat2.html) and shares nothing with the reader.

/// A value in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// None.
    Null,
    /// A number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

/// An entry of the schema, with its rows if it is a table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `table`, `view`, `trigger` or `index`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The text that makes it.
    pub sql: String,
    /// Rows with their rowids, which rise; `None` for what has no tree.
    pub rows: Option<Vec<(i64, Vec<Cell>)>>,
}

impl Entry {
    /// A table with these columns.
    #[must_use]
    pub fn table(name: &str, columns: &str) -> Self {
        let sql = format!("CREATE TABLE {name}({columns})");
        Entry { kind: "table".into(), name: name.into(), sql, rows: Some(Vec::new()) }
    }

    /// Something else of the schema, that has no rows.
    #[must_use]
    pub fn other(kind: &str, name: &str, sql: &str) -> Self {
        Entry { kind: kind.into(), name: name.into(), sql: sql.into(), rows: None }
    }

    /// One more row, numbered from 1.
    #[must_use]
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        let rows = self.rows.get_or_insert_default();
        rows.push((rows.last().map_or(1, |(rowid, _)| rowid + 1), cells.into_iter().collect()));
        self
    }
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes a page.
    pub page_size: usize,
    /// Bytes at the end of each that are not used.
    pub reserved: u8,
    /// The counter of changes.
    pub counter: u32,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { page_size: 4096, reserved: 0, counter: 7 }
    }
}

struct Writer {
    layout: Layout,
    pages: Vec<Vec<u8>>,
}

/// A page that is to be filled: whether it is a leaf, its cells and the rightmost child.
struct Draft {
    is_leaf: bool,
    cells: Vec<Vec<u8>>,
    right: u32,
    /// The greatest rowid in it.
    last: i64,
}

/// The file of a database with these entries.
#[must_use]
pub fn file(entries: &[Entry], layout: Layout) -> Vec<u8> {
    let mut writer = Writer { layout, pages: vec![Vec::new()] };
    let mut schema = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let root = entry.rows.as_ref().map_or(0, |rows| writer.tree(rows, None));
        let text = |text: &str| Cell::Text(text.to_owned());
        let cells = vec![
            text(&entry.kind),
            text(&entry.name),
            text(&entry.name),
            Cell::Int(root.into()),
            text(&entry.sql),
        ];
        schema.push((i64::try_from(at + 1).unwrap_or(i64::MAX), cells));
    }
    writer.tree(&schema, Some(1));
    let count = u32::try_from(writer.pages.len()).unwrap_or(u32::MAX);
    let header = header(layout, count);
    writer.pages[0][..header.len()].copy_from_slice(&header);
    writer.pages.concat()
}

fn header(layout: Layout, count: u32) -> Vec<u8> {
    let mut header = b"SQLite format 3\0".to_vec();
    let size = if layout.page_size == 65536 { 1 } else { layout.page_size };
    header.extend(u16::try_from(size).unwrap_or_default().to_be_bytes());
    header.extend([1, 1, layout.reserved, 64, 32, 32]);
    // Counter, pages, freelist (2), schema cookie, schema format, cache, vacuum, encoding.
    for number in [layout.counter, count, 0, 0, 1, 4, 0, 0, 1] {
        header.extend(number.to_be_bytes());
    }
    header.resize(92, 0);
    header.extend(layout.counter.to_be_bytes());
    header.extend(3_040_001_u32.to_be_bytes());
    header
}

fn varint(number: u64) -> Vec<u8> {
    let lowest = |number: u64, bits: u8| number.to_be_bytes()[7] & bits;
    // All of the ninth byte counts.
    let (mut bytes, mut rest) = match number >= 1 << 56 {
        true => (vec![lowest(number, 0xFF)], number >> 8),
        false => (vec![lowest(number, 0x7F)], number >> 7),
    };
    let len = if number >= 1 << 56 { 9 } else { 1 };
    while rest > 0 || bytes.len() < len {
        bytes.insert(0, lowest(rest, 0x7F) | 0x80);
        rest >>= 7;
    }
    bytes
}

/// A row's record.
fn record(cells: &[Cell]) -> Vec<u8> {
    let (mut types, mut values) = (Vec::new(), Vec::new());
    for cell in cells {
        let serial = match cell {
            Cell::Null => 0,
            Cell::Int(0) => 8,
            Cell::Int(1) => 9,
            Cell::Int(number) => {
                let widths = [(1, 1), (2, 2), (3, 3), (4, 4), (6, 5), (8, 6)];
                let fits = |bytes: u32| {
                    let bits = 8 * bytes - 1;
                    bytes == 8 || (-(1_i64 << bits)..1_i64 << bits).contains(number)
                };
                let (width, serial) =
                    widths.into_iter().find(|(width, _)| fits(*width)).unwrap_or((8, 6));
                values.extend(&number.to_be_bytes()[8 - width as usize..]);
                serial
            }
            Cell::Real(number) => {
                values.extend(number.to_be_bytes());
                7
            }
            Cell::Text(text) => {
                values.extend(text.as_bytes());
                13 + 2 * text.len() as u64
            }
            Cell::Blob(bytes) => {
                values.extend(bytes);
                12 + 2 * bytes.len() as u64
            }
        };
        types.extend(varint(serial));
    }
    // The header's length counts itself.
    let mut len = types.len() as u64 + 1;
    if varint(len).len() > 1 {
        len += 1;
    }
    [varint(len), types, values].concat()
}

impl Writer {
    fn usable(&self) -> usize {
        self.layout.page_size - usize::from(self.layout.reserved)
    }

    /// Adds a page; its number.
    fn add(&mut self, bytes: Vec<u8>) -> u32 {
        self.pages.push(bytes);
        u32::try_from(self.pages.len()).unwrap_or(u32::MAX)
    }

    /// Writes a table's tree; its root, which may have to be a certain page.
    fn tree(&mut self, rows: &[(i64, Vec<Cell>)], root: Option<u32>) -> u32 {
        let cells: Vec<(i64, Vec<u8>)> =
            rows.iter().map(|(rowid, cells)| (*rowid, self.cell(*rowid, &record(cells)))).collect();
        let mut drafts = self.drafts(true, cells);
        loop {
            let header = if root == Some(1) { 100 } else { 0 };
            let fits = |draft: &Draft| {
                let size: usize = draft.cells.iter().map(|c| c.len() + 2).sum();
                header + 12 + size <= self.usable()
            };
            if let [draft] = drafts.as_slice()
                && fits(draft)
            {
                let bytes = self.page(draft, header);
                return match root {
                    Some(number) => {
                        self.pages[number as usize - 1] = bytes;
                        number
                    }
                    None => self.add(bytes),
                };
            }
            let children: Vec<(i64, Vec<u8>)> = drafts
                .iter()
                .map(|draft| {
                    let bytes = self.page(draft, 0);
                    let number = self.add(bytes);
                    let key = varint(draft.last.cast_unsigned());
                    (draft.last, [&number.to_be_bytes()[..], &key].concat())
                })
                .collect();
            drafts = self.drafts(false, children);
        }
    }

    /// Deals cells out to pages.
    fn drafts(&self, is_leaf: bool, cells: Vec<(i64, Vec<u8>)>) -> Vec<Draft> {
        let new = || Draft { is_leaf, cells: Vec::new(), right: 0, last: 0 };
        let (mut drafts, mut size) = (vec![new()], 12);
        for (rowid, cell) in cells {
            if size + cell.len() + 2 > self.usable() {
                drafts.push(new());
                size = 12;
            }
            size += cell.len() + 2;
            if let Some(draft) = drafts.last_mut() {
                draft.cells.push(cell);
                draft.last = rowid;
            }
        }
        for draft in drafts.iter_mut().filter(|_| !is_leaf) {
            // The last child has its place in the page's header.
            let right = draft.cells.pop().unwrap_or_default();
            draft.right = right.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        }
        drafts
    }

    /// A leaf's cell, with the pages that it runs over into.
    fn cell(&mut self, rowid: i64, record: &[u8]) -> Vec<u8> {
        let (len, usable) = (record.len(), self.usable());
        let mut cell = [varint(len as u64), varint(rowid.cast_unsigned())].concat();
        if len <= usable - 35 {
            cell.extend(record);
            return cell;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let wanted = least + (len - least) % (usable - 4);
        let local = if wanted <= usable - 35 { wanted } else { least };
        let mut next = 0;
        // From the last one on, since each names the one after it.
        for piece in record[local..].chunks(usable - 4).rev() {
            let mut bytes = [&u32::to_be_bytes(next)[..], piece].concat();
            bytes.resize(self.layout.page_size, 0);
            next = self.add(bytes);
        }
        cell.extend(&record[..local]);
        cell.extend(next.to_be_bytes());
        cell
    }

    fn page(&self, draft: &Draft, header: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.layout.page_size];
        let mut end = self.usable();
        let first = header + if draft.is_leaf { 8 } else { 12 };
        for (at, cell) in draft.cells.iter().enumerate() {
            end -= cell.len();
            bytes[end..end + cell.len()].copy_from_slice(cell);
            let place = u16::try_from(end).unwrap_or_default().to_be_bytes();
            bytes[first + at * 2..first + at * 2 + 2].copy_from_slice(&place);
        }
        let word = |n: usize| u16::try_from(n).unwrap_or_default().to_be_bytes();
        bytes[header] = if draft.is_leaf { 0x0D } else { 0x05 };
        bytes[header + 3..header + 5].copy_from_slice(&word(draft.cells.len()));
        bytes[header + 5..header + 7].copy_from_slice(&word(end));
        if !draft.is_leaf {
            bytes[header + 8..header + 12].copy_from_slice(&draft.right.to_be_bytes());
        }
        bytes
    }
}
