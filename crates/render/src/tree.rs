//! Trees: columns as in a table, and the command drawn below its owner and its parent.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Map, Value};
use whose_core::answer::tree::{Branch, Node};
use whose_core::index::scan::Listing;
use whose_core::model::{Fact, Membership, Owner, OwnerKind, Row};
use whose_fields::{Cell, Field, FieldId, Record};

use crate::json::{Header, columns, gaps_of_rows, process, put_membership};
use crate::lists::right_aligned;
use crate::table::TableOptions;
use crate::text;

/// Levels that are drawn; a deeper one is told by its number. Someone may have forked thousands deep.
const DRAWN: usize = 40;
/// Levels that JSON nests: many programs read no more than 128 brackets in each other.
const NESTED: usize = 50;
/// Longest that a column beside the tree gets before it pushes the others aside.
const WIDEST: usize = 64;

/// How a tree is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TreeOptions {
    /// As of a table.
    pub table: TableOptions,
    /// Lines of `|`, `-` and `` ` `` only.
    pub ascii: bool,
}

/// What the lines are drawn with, three columns each.
struct Lines {
    next: &'static str,
    last: &'static str,
    beside: &'static str,
    /// At the end of a line that was cut.
    more: &'static str,
}

const UNICODE: Lines = Lines { next: "├─ ", last: "└─ ", beside: "│  ", more: "…" };
const ASCII: Lines = Lines { next: "|- ", last: "`- ", beside: "|  ", more: "+" };

/// Draws the tree as the last column: of commands, or of names when no commands are among the fields.
///
/// # Errors
/// The writer's.
pub fn tree(
    out: &mut dyn Write,
    fields: &[&Field],
    rows: &[Row],
    branches: &[Branch],
    options: TreeOptions,
) -> io::Result<()> {
    let has = |id: FieldId| fields.iter().any(|f| f.id == id);
    let name = if has(FieldId::Args) { FieldId::Args } else { FieldId::Comm };
    let beside: Vec<&Field> = fields.iter().filter(|f| f.id != name).copied().collect();
    let lines = if options.ascii { ASCII } else { UNICODE };
    let cells = |branch: &Branch| -> Vec<String> {
        let Node::Process(at) = branch.node else { return vec![String::new(); beside.len()] };
        let record = Placed { row: &rows[at], depth: branch.depth };
        beside.iter().map(|f| options.table.shown.text(&record, f)).collect()
    };
    let rows_of_cells: Vec<Vec<String>> = branches.iter().map(cells).collect();
    let titles: Vec<String> = beside.iter().map(|f| f.title.to_owned()).collect();
    let mut widths = vec![0; beside.len()];
    for row in rows_of_cells.iter().chain((!options.table.no_headers).then_some(&titles)) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = text::width(cell).min(WIDEST).max(*width);
        }
    }
    let columns = Columns { fields: beside, widths };
    if !options.table.no_headers {
        let line = columns.lay(&titles) + name.field().title;
        writeln!(out, "{}", options.table.style.dim(&cut(&line, &lines, options)))?;
    }
    // Of each level above, whether more of it is to come.
    let mut open: Vec<bool> = Vec::new();
    for (branch, cells) in branches.iter().zip(&rows_of_cells) {
        open.truncate(branch.depth);
        let mut line = columns.lay(cells);
        draw(&mut line, branch, &open, &lines);
        open.push(!branch.is_last);
        let Node::Process(at) = branch.node else {
            let (label, about) = heading(&branch.node);
            let plain = line.len();
            line.push_str(&label);
            let end = line.len();
            line.push_str(&about);
            let line = cut(&line, &lines, options);
            // The label alone is strong, as far as the terminal's edge.
            let end = line.floor_char_boundary(end);
            let plain = line.floor_char_boundary(plain.min(end));
            let strong = options.table.style.strong(&line[plain..end]);
            writeln!(out, "{}{strong}{}", &line[..plain], &line[end..])?;
            continue;
        };
        line.push_str(&options.table.shown.text(&rows[at], name.field()));
        writeln!(out, "{}", cut(&line, &lines, options))?;
    }
    Ok(())
}

/// The columns beside the tree.
struct Columns<'f> {
    fields: Vec<&'f Field>,
    widths: Vec<usize>,
}

impl Columns<'_> {
    fn lay(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), field) in cells.iter().zip(&self.widths).zip(&self.fields) {
            let room = width.saturating_sub(text::width(cell));
            let blanks = || std::iter::repeat_n(' ', room);
            if right_aligned(field) {
                line.extend(blanks());
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(blanks());
            }
            line.push(' ');
        }
        line
    }
}

fn draw(line: &mut String, branch: &Branch, open: &[bool], lines: &Lines) {
    if branch.depth == 0 {
        return;
    }
    let drawn = branch.depth.min(DRAWN);
    // What is outermost stands at the edge and has no line of its own.
    for is_open in &open[1..drawn] {
        line.push_str(if *is_open { lines.beside } else { "   " });
    }
    line.push_str(if branch.is_last { lines.last } else { lines.next });
    if branch.depth > DRAWN {
        let _ = write!(line, "(+{}) ", branch.depth - DRAWN);
    }
}

fn cut(line: &str, lines: &Lines, options: TreeOptions) -> String {
    let Some(width) = options.table.width else { return line.to_owned() };
    let mut cut = text::cut(line, width);
    if cut != line && cut.ends_with('…') {
        cut.pop();
        cut.push_str(lines.more);
    }
    cut
}

/// What an owner is called, and what else is known of it.
fn heading(node: &Node) -> (String, String) {
    let owner = match node {
        Node::Owner(levels) => levels.last(),
        Node::Unread | Node::Process(_) => None,
    };
    let Some(owner) = owner else { return ("?".into(), "   owner not read".into()) };
    match owner.kind {
        OwnerKind::Host => ("host".into(), String::new()),
        OwnerKind::Unknown => ("?".into(), "   contained, by nobody known".into()),
        OwnerKind::Unit | OwnerKind::Session => (text::sanitise(&owner.label()), String::new()),
        _ => (text::sanitise(&owner.label()), about(owner)),
    }
}

fn about(owner: &Owner) -> String {
    let mut about = format!("   {}", owner.runtime.0);
    if owner.kind != OwnerKind::Container {
        about.push(' ');
        about.push_str(owner.kind.name());
    }
    if let Some(state) = owner.state.known() {
        about.push_str("   ");
        about.push_str(state.name());
    }
    if let Some(image) = owner.description().and_then(|d| d.image.as_ref()) {
        about.push_str("   ");
        about.push_str(&text::sanitise(image));
    }
    about
}

/// A row at its place.
#[derive(Debug)]
pub struct Placed<'r> {
    row: &'r Row,
    depth: usize,
}

impl<'r> Placed<'r> {
    /// The processes of a tree from its top.
    pub fn of(rows: &'r [Row], branches: &[Branch]) -> Vec<Self> {
        let placed = |branch: &Branch| match branch.node {
            Node::Process(at) => Some(Self { row: &rows[at], depth: branch.depth }),
            _ => None,
        };
        branches.iter().filter_map(placed).collect()
    }

    /// The row.
    #[must_use]
    pub fn row(&self) -> &'r Row {
        self.row
    }
}

impl Record for Placed<'_> {
    fn get(&self, field: FieldId) -> Cell<'_> {
        match field {
            FieldId::Depth => Cell::Uint(self.depth as u64),
            field => self.row.get(field),
        }
    }
}

/// The document of `whose tree --json`: rows below each other in `children`.
#[must_use]
pub fn tree_document(
    header: &Header,
    fields: &[&Field],
    listing: &Listing,
    branches: &[Branch],
) -> Value {
    let mut object = header.object();
    object.insert("columns".into(), columns(fields));
    let mut rows: Vec<Value> = Vec::new();
    // The rows that may still get children, the innermost last.
    let mut open: Vec<Map<String, Value>> = Vec::new();
    let close = |open: &mut Vec<Map<String, Value>>, rows: &mut Vec<Value>, depth: usize| {
        while open.len() > depth {
            let Some(done) = open.pop() else { return };
            let above = open.last_mut().and_then(|o| o.get_mut("children"));
            let siblings = above.and_then(Value::as_array_mut).unwrap_or(rows);
            siblings.push(Value::Object(done));
        }
    };
    for branch in branches {
        close(&mut open, &mut rows, branch.depth.min(NESTED));
        let mut row = tree_row(fields, &listing.rows, branch);
        row.insert("children".into(), Value::Array(Vec::new()));
        open.push(row);
    }
    close(&mut open, &mut rows, 0);
    object.insert("rows".into(), Value::Array(rows));
    object.insert("gaps".into(), gaps_of_rows(listing));
    Value::Object(object)
}

/// One line of NDJSON: a row without its children, which come next.
#[must_use]
pub fn tree_line(fields: &[&Field], listing: &Listing, branch: &Branch) -> Value {
    Value::Object(tree_row(fields, &listing.rows, branch))
}

/// A process with its owner; an owner without process.
fn tree_row(fields: &[&Field], rows: &[Row], branch: &Branch) -> Map<String, Value> {
    const IDENTITY: [FieldId; 3] = [FieldId::Pid, FieldId::StartTicks, FieldId::Ppid];
    let mut object = Map::new();
    object.insert("depth".into(), branch.depth.into());
    let labels = fields.iter().any(|f| f.id == FieldId::Labels);
    match &branch.node {
        Node::Process(at) => {
            let asked = fields.iter().map(|f| f.id).filter(|f| !IDENTITY.contains(f));
            let asked = asked.filter(|f| f.field().json.starts_with("process."));
            let ids: Vec<FieldId> = IDENTITY.into_iter().chain(asked).collect();
            object.insert("process".into(), process(&rows[*at], &ids));
            put_membership(&mut object, &rows[*at].membership, labels);
        }
        Node::Owner(levels) => {
            let membership = Membership { chain: levels.clone(), evidence: Vec::new() };
            put_membership(&mut object, &Fact::Known(membership), labels);
        }
        Node::Unread => {
            object.insert("owner".into(), Value::Null);
            object.insert("chain".into(), Value::Null);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::Value;
    use whose_core::answer::tree::{Branch, Node};
    use whose_core::index::scan::Listing;
    use whose_core::model::{Described, Description, Engine, Fact, Membership, Owner, OwnerKind};
    use whose_core::model::{Process, Row};
    use whose_fields::{Field, find};

    use super::{TreeOptions, tree, tree_document, tree_line};
    use crate::json::Header;
    use crate::{Style, TableOptions};

    fn row(pid: u32, owner: &Rc<Owner>) -> Row {
        let chain = vec![Rc::clone(owner)];
        let membership = Fact::Known(Membership { chain, evidence: Vec::new() });
        let args = Fact::Known(vec!["sh".into(), format!("{pid}\u{1b}").into()]);
        Row { process: Process { pid, args, ..Process::default() }, membership }
    }

    fn web() -> Rc<Owner> {
        let mut owner = Owner::new(OwnerKind::Container, Engine("docker"), "ab");
        let described = Description {
            name: Some("wéb\n".into()),
            image: Some("app:1".into()),
            ..Description::default()
        };
        owner.described = Described::Yes(Box::new(described));
        Rc::new(owner)
    }

    fn fields() -> Vec<&'static Field> {
        ["pid", "args"].map(|n| find(n).unwrap()).to_vec()
    }

    /// One owner, and processes at these depths.
    fn branches(owner: &Rc<Owner>, places: &[(usize, bool)]) -> Vec<Branch> {
        let first = Branch { depth: 0, is_last: true, node: Node::Owner(vec![Rc::clone(owner)]) };
        let place = |(at, (depth, is_last)): (usize, &(usize, bool))| Branch {
            depth: *depth,
            is_last: *is_last,
            node: Node::Process(at),
        };
        std::iter::once(first).chain(places.iter().enumerate().map(place)).collect()
    }

    fn drawn(rows: &[Row], branches: &[Branch], options: TreeOptions) -> String {
        let mut out = Vec::new();
        tree(&mut out, &fields(), rows, branches, options).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn sample() -> (Vec<Row>, Vec<Branch>) {
        let web = web();
        let rows = [7, 8, 9, 10].map(|pid| row(pid, &web)).to_vec();
        let branches = branches(&web, &[(1, false), (2, true), (1, true), (2, true)]);
        (rows, branches)
    }

    #[test]
    fn the_command_stands_below_its_parent() {
        let (rows, branches) = sample();
        assert_eq!(
            drawn(&rows, &branches, TreeOptions::default()),
            "PID COMMAND\n    wéb\\n   docker   app:1\n  7 ├─ sh 7\\x1b\n  8 │  └─ sh 8\\x1b\n  \
             9 └─ sh 9\\x1b\n 10    └─ sh 10\\x1b\n"
        );
        let ascii = drawn(&rows, &branches, TreeOptions { ascii: true, ..TreeOptions::default() });
        assert!(ascii.contains("  8 |  `- sh 8") && ascii.contains("  7 |- sh 7"), "{ascii}");
    }

    #[test]
    fn a_terminal_cuts_lines_and_colours_owners() {
        let (rows, branches) = sample();
        for width in 0..20 {
            for (ascii, colour) in [(false, false), (true, false), (false, true)] {
                let style = Style { colour };
                let table = TableOptions { width: Some(width), style, ..TableOptions::default() };
                let text = drawn(&rows, &branches, TreeOptions { table, ascii });
                assert_eq!(text.lines().count(), 6);
                if !colour {
                    let widest = text.lines().map(crate::text::width).max();
                    assert!(widest <= Some(width), "{width}: {text}");
                }
                assert!(!ascii || !text.contains('…'), "{text}");
            }
        }
        let table = TableOptions { style: Style { colour: true }, ..TableOptions::default() };
        let text = drawn(&rows, &branches, TreeOptions { table, ascii: false });
        assert!(text.contains("    \u{1b}[1mwéb\\n\u{1b}[0m   docker"), "{text:?}");
    }

    #[test]
    fn no_depth_is_too_deep() {
        let web = web();
        let deep = 20_000_usize;
        let rows: Vec<Row> = (1..=20_000).map(|pid| row(pid, &web)).collect();
        let places: Vec<_> = (1..=deep).map(|depth| (depth, true)).collect();
        let branches = branches(&web, &places);
        let text = drawn(&rows, &branches, TreeOptions::default());
        assert!(text.len() < deep * 200, "{}", text.len());
        assert!(text.ends_with("└─ (+19960) sh 20000\\x1b\n"));
        let header = Header { source: "saved", boot_id: None };
        let listing = Listing { rows, ..Listing::default() };
        let document = tree_document(&header, &fields(), &listing, &branches);
        // What other programs read too: serde_json refuses 128 brackets in each other.
        let text = serde_json::to_string(&document).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut seen = 0;
        let mut stack: Vec<(usize, &Value)> = vec![(0, &document["rows"][0])];
        while let Some((nested, row)) = stack.pop() {
            assert!(row["depth"] == nested || nested == 50 && row["depth"].as_u64() >= Some(50));
            seen += usize::from(row["process"].is_object());
            stack.extend(row["children"].as_array().unwrap().iter().map(|r| (nested + 1, r)));
        }
        assert_eq!(seen, deep);
    }

    #[test]
    fn an_owner_is_a_row_too() {
        let (rows, branches) = sample();
        let listing = Listing { rows, ..Listing::default() };
        let owner = tree_line(&fields(), &listing, &branches[0]);
        assert!(owner.get("process").is_none() && owner["owner"]["name"] == "wéb\n");
        let process = tree_line(&fields(), &listing, &branches[1]);
        assert_eq!((&process["process"]["pid"], &process["depth"]), (&7.into(), &1.into()));
        assert_eq!(process["owner"], owner["owner"]);
        let unread = Branch { depth: 0, is_last: true, node: Node::Unread };
        let unread = tree_line(&fields(), &listing, &unread);
        assert!(unread["owner"].is_null() && unread["chain"].is_null());
    }
}
