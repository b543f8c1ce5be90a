//! Whose something is: what the engine asks, and what it is told.

use std::rc::Rc;

/// Most columns of one name.
const LONGEST: usize = 256;

/// What kind of owner a tag is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A container, a unit, a session, or contained by nobody known.
    Owner,
    /// The host itself: nothing to say where there is no column for it.
    Host,
    /// A process that is no more, and of which nothing is known.
    Gone,
    /// A container of which nothing but the id is left.
    Removed,
    /// It could not be read.
    Unread,
}

/// What is said of an owner: the same for all that belong to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Tag {
    /// The cells of a table, one for each of the fields asked for.
    pub cells: Vec<String>,
    /// Columns that each cell takes on a terminal.
    pub widths: Vec<usize>,
    /// One text of all of them, for lines without columns.
    pub text: String,
    /// The owner in JSON.
    pub json: String,
    /// What kind of owner.
    pub standing: Standing,
}

impl Tag {
    /// A tag of these cells. `text` is what stands in lines. Names that are too long for a terminal are cut:
    /// each stands in every line of what it owns.
    #[must_use]
    pub fn new(cells: Vec<String>, text: String, json: String, standing: Standing) -> Self {
        let cells: Vec<String> = cells.into_iter().map(short).collect();
        let text = short(text);
        let widths = cells.iter().map(|cell| whose_render::text::width(cell)).collect();
        Self { cells, widths, text, json, standing }
    }

    /// A tag that names no owner: one word, and `-` in the other columns.
    #[must_use]
    pub fn word(word: &str, columns: usize, standing: Standing) -> Self {
        let rest = std::iter::repeat_n("-".to_owned(), columns.saturating_sub(1));
        let cells = std::iter::once(word.to_owned()).chain(rest).collect();
        Self::new(cells, word.to_owned(), "null".to_owned(), standing)
    }
}

/// A text of [`LONGEST`] columns at most, and not too many bytes: some characters take no column.
pub(crate) fn short(mut text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let most = text.floor_char_boundary(4 * LONGEST);
    if most < text.len() {
        text.truncate(most);
        text.push('…');
    }
    whose_render::text::cut(&text, LONGEST)
}

/// A process that was looked up.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whose it is.
    pub tag: Rc<Tag>,
    /// When it started, milliseconds since 1970; `None` where that is not known.
    pub started: Option<i64>,
    /// When it started, milliseconds since boot.
    pub since_boot: u64,
}

/// What has become of PIDs since the last batch of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Each still names whom it did.
    Same,
    /// Those from the first to the last, which come in this order and may begin again at 1, may have
    /// been given to other processes.
    Given(u32, u32),
    /// Any may have been.
    Any,
}

/// How a process is called in a line.
#[derive(Clone, Copy, Debug)]
pub enum Called<'l> {
    /// By its name, or all its arguments with blanks between.
    Command(&'l [u8]),
    /// By its name, a thread also by its process's; `_` may stand for a blank.
    Comm(&'l [u8]),
}

/// Tells whose something is.
pub trait Names {
    /// A new batch of lines has come: which PIDs may name others than before.
    fn turn(&mut self) -> Turn;

    /// A process or thread; `None` when there is none.
    fn process(&mut self, pid: u32) -> Option<Known>;

    /// The PID of this very program, where that is known: nobody else gets it while it runs.
    fn own(&self) -> Option<u32> {
        None
    }

    /// All processes, where that is cheaper than to look many up; false when it is not.
    fn all(&mut self, take: &mut dyn FnMut(u32, Known)) -> bool;

    /// Whether a process is called so.
    fn is_called(&mut self, pid: u32, called: Called<'_>) -> bool;

    /// A container by its id, or the first 12 digits of one.
    fn container(&mut self, id: &[u8]) -> Option<Rc<Tag>>;

    /// The owner of a cgroup, whether it is still there or not.
    fn cgroup(&mut self, path: &[u8]) -> Option<Rc<Tag>>;

    /// The owners of a path in an engine's store.
    fn path(&mut self, path: &[u8]) -> Option<Rc<Tag>>;

    /// The owner of a namespace, by its kind and inode.
    fn namespace(&mut self, kind: &[u8], inode: u64) -> Option<Rc<Tag>>;

    /// The containers at the other end of a network interface of ours, by its name and, where that is known,
    /// the index of its other end.
    fn interface(&mut self, name: &[u8], peer: Option<u32>) -> Option<Rc<Tag>>;

    /// Something was not asked for, since so much before it led to nobody.
    fn overlooked(&mut self);

    /// Whether this is the running boot's id.
    fn is_this_boot(&self, id: &[u8]) -> bool;

    /// Milliseconds since 1970, now.
    fn now(&self) -> i64;

    /// Milliseconds since boot, now.
    fn uptime(&self) -> u64;

    /// The tag of a process that is no more.
    fn gone(&self) -> Rc<Tag>;

    /// The titles of the columns.
    fn titles(&self) -> &[&'static str];
}

#[cfg(test)]
mod tests {
    use super::{Standing, Tag};

    #[test]
    fn names_are_cut() {
        for (name, length) in [
            ("a".repeat(256), 256),
            ("a".repeat(1 << 20), 258),
            ("日".repeat(1000), 3 * 127 + 3),
            ("a\u{301}".repeat(10_000), 768),
            ("\u{301}".repeat(10_000), 1027),
        ] {
            let tag = Tag::new(vec![name.clone()], name, String::new(), Standing::Owner);
            assert_eq!((tag.cells[0].len(), tag.text.len()), (length, length));
        }
    }
}
