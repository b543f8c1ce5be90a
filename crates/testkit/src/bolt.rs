//! Writing bbolt databases, for tests of their reader: the same bytes for the same content.
//!
//! It follows the file format alone (version 2 of etcd-io/bbolt) and shares nothing with the reader.

use std::collections::BTreeMap;

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A value.
    Value(Vec<u8>),
    /// A bucket.
    Bucket(Bucket),
}

/// A bucket and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket {
    /// The counter.
    pub sequence: u64,
    /// What it holds.
    pub nodes: BTreeMap<Vec<u8>, Node>,
}

impl Bucket {
    /// Puts a value.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.nodes.insert(key.into(), Node::Value(value.into()));
        self
    }

    /// The bucket of this key, made if it is not there.
    ///
    /// # Panics
    /// When there is a value.
    pub fn bucket(&mut self, key: impl Into<Vec<u8>>) -> &mut Bucket {
        let made = || Node::Bucket(Bucket::default());
        match self.nodes.entry(key.into()).or_insert_with(made) {
            Node::Bucket(bucket) => bucket,
            Node::Value(_) => panic!("a value where a bucket is wanted"),
        }
    }

    /// The bucket at the end of these keys, made if it is not there.
    pub fn path(&mut self, keys: &[&str]) -> &mut Bucket {
        keys.iter().fold(self, |bucket, key| bucket.bucket(*key))
    }
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Bytes a page.
    pub page_size: usize,
    /// The transaction's number.
    pub txid: u64,
    /// Free pages between the meta pages and the tree.
    pub gap: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { page_size: 4096, txid: 7, gap: 0 }
    }
}

/// An element of a page: flags, key, and its value or child.
struct Element {
    flags: u32,
    key: Vec<u8>,
    value: Vec<u8>,
    child: u64,
}

struct Writer {
    layout: Layout,
    bytes: Vec<u8>,
}

/// The file of a database with this root bucket. No list of free pages is in it.
#[must_use]
pub fn file(root: &Bucket, layout: Layout) -> Vec<u8> {
    let before = usize::try_from(2 + layout.gap).unwrap_or_default() * layout.page_size;
    let mut writer = Writer { layout, bytes: vec![0; before] };
    let page = writer.tree(root);
    let end = (writer.bytes.len() / layout.page_size) as u64;
    for id in [layout.txid % 2, (layout.txid + 1) % 2] {
        // The other one is of the transaction before.
        let txid = if id == layout.txid % 2 { layout.txid } else { layout.txid.saturating_sub(1) };
        let meta = meta_page(layout.page_size, id, (page, root.sequence), end, txid);
        let at = usize::try_from(id).unwrap_or_default() * layout.page_size;
        writer.bytes[at..at + meta.len()].copy_from_slice(&meta);
    }
    writer.bytes
}

/// A meta page's bytes, as many as count.
#[must_use]
pub fn meta_page(page_size: usize, id: u64, root: (u64, u64), end: u64, txid: u64) -> Vec<u8> {
    let mut page = header(id, 0x04, 0, 0);
    let mut meta = Vec::new();
    let size = u32::try_from(page_size).unwrap_or_default();
    for number in [0xED0C_DAED_u32, 2, size, 0] {
        meta.extend(number.to_le_bytes());
    }
    for number in [root.0, root.1, u64::MAX, end, txid] {
        meta.extend(number.to_le_bytes());
    }
    let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    meta.extend(sum.to_le_bytes());
    page.extend(meta);
    page
}

fn header(id: u64, flags: u16, count: usize, overflow: u32) -> Vec<u8> {
    let mut header = id.to_le_bytes().to_vec();
    header.extend(flags.to_le_bytes());
    header.extend(u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    header.extend(overflow.to_le_bytes());
    header
}

/// A page's bytes, without what fills it up.
fn page(id: u64, is_leaf: bool, elements: &[Element], overflow: u32) -> Vec<u8> {
    let mut bytes = header(id, if is_leaf { 0x02 } else { 0x01 }, elements.len(), overflow);
    let mut content: Vec<u8> = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let pos = word((elements.len() - index) * 16 + content.len());
        if is_leaf {
            bytes.extend(element.flags.to_le_bytes());
            bytes.extend(pos);
            bytes.extend(word(element.key.len()));
            bytes.extend(word(element.value.len()));
        } else {
            bytes.extend(pos);
            bytes.extend(word(element.key.len()));
            bytes.extend(element.child.to_le_bytes());
        }
        content.extend(&element.key);
        content.extend(&element.value);
    }
    bytes.extend(content);
    bytes
}

impl Writer {
    /// Writes a bucket's tree; its root's page.
    fn tree(&mut self, bucket: &Bucket) -> u64 {
        let mut elements = self.elements(bucket);
        let mut is_leaf = true;
        loop {
            let pages = self.level(is_leaf, elements);
            if let [(_, page)] = pages.as_slice() {
                return *page;
            }
            let branch = |(key, child)| Element { flags: 0, key, value: Vec::new(), child };
            elements = pages.into_iter().map(branch).collect();
            is_leaf = false;
        }
    }

    fn elements(&mut self, bucket: &Bucket) -> Vec<Element> {
        let mut elements = Vec::new();
        for (key, node) in &bucket.nodes {
            let (flags, value) = match node {
                Node::Value(value) => (0, value.clone()),
                Node::Bucket(inner) => (1, self.inner(inner)),
            };
            elements.push(Element { flags, key: key.clone(), value, child: 0 });
        }
        elements
    }

    /// A bucket as another one's value: in place while it is below a quarter of a page and holds no
    /// buckets, as bbolt does.
    fn inner(&mut self, bucket: &Bucket) -> Vec<u8> {
        let flat = bucket.nodes.values().all(|node| matches!(node, Node::Value(_)));
        if flat {
            let inline = page(0, true, &self.elements(bucket), 0);
            if inline.len() <= self.layout.page_size / 4 {
                return [&0_u64.to_le_bytes()[..], &bucket.sequence.to_le_bytes(), &inline]
                    .concat();
            }
        }
        let root = self.tree(bucket);
        [root.to_le_bytes(), bucket.sequence.to_le_bytes()].concat()
    }

    /// Writes elements to as many pages as they need: the first key and the number of each.
    fn level(&mut self, is_leaf: bool, elements: Vec<Element>) -> Vec<(Vec<u8>, u64)> {
        let mut pages: Vec<Vec<Element>> = vec![Vec::new()];
        let mut size = 16;
        for element in elements {
            let more = 16 + element.key.len() + element.value.len();
            let least = if is_leaf { 1 } else { 2 };
            if let Some(last) = pages.last()
                && last.len() >= least
                && size + more > self.layout.page_size
            {
                pages.push(Vec::new());
                size = 16;
            }
            size += more;
            if let Some(last) = pages.last_mut() {
                last.push(element);
            }
        }
        let write = |elements: Vec<Element>| {
            let key = elements.first().map(|e| e.key.clone()).unwrap_or_default();
            (key, self.page(is_leaf, &elements))
        };
        pages.into_iter().map(write).collect()
    }

    fn page(&mut self, is_leaf: bool, elements: &[Element]) -> u64 {
        let id = (self.bytes.len() / self.layout.page_size) as u64;
        let size = page(id, is_leaf, elements, 0).len();
        let pages = size.div_ceil(self.layout.page_size);
        let overflow = u32::try_from(pages - 1).unwrap_or(u32::MAX);
        self.bytes.extend(page(id, is_leaf, elements, overflow));
        let end = (usize::try_from(id).unwrap_or_default() + pages) * self.layout.page_size;
        self.bytes.resize(end, 0);
        id
    }
}
