use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bstr::{BStr, BString};
use proptest::prelude::{Strategy, any, prop};
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq, proptest};
use whose_kernel::{Class, ReadError};
use whose_testkit::bolt::{self as writer, Layout, Node};

use super::{Bucket, Database, Source, Trouble, limits};

fn layout(page_size: usize) -> Layout {
    Layout { page_size, ..Layout::default() }
}

fn database(root: &writer::Bucket, page_size: usize) -> Database<Vec<u8>> {
    Database::over(writer::file(root, layout(page_size)))
}

/// 500 values, an inline bucket, one with buckets, long values, and an empty one.
fn sample() -> writer::Bucket {
    let mut root = writer::Bucket::default();
    for n in 0..500 {
        root.path(&["flat"]).put(format!("key-{n:05}"), format!("value-{n}"));
        root.path(&["v1", "shop", "containers", &format!("id-{n:04}")])
            .put("image", format!("i{n}"));
    }
    root.path(&["v1", "shop"]).put("long", vec![b'l'; 100_000]);
    root.path(&["v1", "shop"]).put("longer", vec![b'm'; 70_000]);
    root.path(&["v1", "empty"]).sequence = 77;
    root
}

/// Everything there is, by walking.
fn all(bucket: &Bucket<'_>) -> Result<writer::Bucket, Trouble> {
    all_beneath(bucket, 0)
}

fn all_beneath(bucket: &Bucket<'_>, depth: usize) -> Result<writer::Bucket, Trouble> {
    if depth > 64 {
        return Err(Trouble::TooMuch);
    }
    let mut found = writer::Bucket { sequence: bucket.sequence(), nodes: BTreeMap::new() };
    bucket.walk(&mut |item| {
        let node = match item.bucket()? {
            Some(inner) => Node::Bucket(all_beneath(&inner, depth + 1)?),
            None => Node::Value(item.value()?.unwrap_or_default().to_vec()),
        };
        found.nodes.insert(item.key()?.to_vec(), node);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Every key is found by search.
fn search_all(bucket: &Bucket<'_>, expected: &writer::Bucket) -> Result<(), Trouble> {
    for (key, node) in &expected.nodes {
        match node {
            Node::Value(value) => {
                assert_eq!(bucket.value(key)?, Some(BString::from(value.as_slice())));
                assert!(bucket.bucket(key)?.is_none());
            }
            Node::Bucket(inner) => {
                assert_eq!(bucket.value(key)?, None);
                search_all(&bucket.bucket(key)?.unwrap(), inner)?;
            }
        }
        let none = [key.as_slice(), b"\0none"].concat();
        assert!(bucket.item(&none)?.is_none() || expected.nodes.contains_key(&none));
    }
    Ok(())
}

#[test]
fn all_is_found_by_search_and_walk_with_pages_of_any_size() {
    let root = sample();
    for page_size in [512, 1024, 4096, 16384, 65536] {
        let database = database(&root, page_size);
        assert_eq!(database.view(all).unwrap(), root, "{page_size}");
        database.view(|top| search_all(top, &root)).unwrap();
        let sequence = |top: &Bucket<'_>| Ok(top.at(&[b"v1", b"empty"])?.unwrap().sequence());
        assert_eq!(database.view(sequence).unwrap(), 77);
        let ids =
            database.view(|top| top.at(&[b"v1", b"shop", b"containers"])?.unwrap().buckets(500));
        assert_eq!(ids.unwrap().len(), 500);
        let most =
            database.view(|top| top.at(&[b"v1", b"shop", b"containers"])?.unwrap().buckets(499));
        assert_eq!(most.unwrap_err().class, Class::Malformed);
    }
}

#[test]
fn the_youngest_whole_meta_page_counts() {
    let root = |name: &str| {
        let mut root = writer::Bucket::default();
        root.put("name", name);
        root
    };
    let name = |bytes: Vec<u8>| {
        Database::over(bytes).view(|top| top.value(b"name")).map(|name| name.unwrap().to_string())
    };
    for (page_size, txid) in [(4096, 7), (4096, 8), (512, 8), (65536, 8), (16384, 7)] {
        // Two trees in one file, as after two transactions.
        let mut file = writer::file(&root("old"), Layout { page_size, txid: txid - 1, gap: 0 });
        let new = writer::file(&root("new"), Layout { page_size, txid, gap: 1 });
        let (one, gap) = ((txid % 2) as usize * page_size, 3 * page_size);
        file.resize(gap, 0);
        file.extend(&new[gap..]);
        file[one..one + page_size].copy_from_slice(&new[one..one + page_size]);
        assert_eq!(name(file.clone()).unwrap(), "new");
        // A torn one does not count, whichever it is.
        let mut torn = file.clone();
        torn[one + 16 + 48] ^= 1;
        assert_eq!(name(torn.clone()).unwrap(), "old");
        torn[page_size - one + 16 + 48] ^= 1;
        let error = name(torn).unwrap_err();
        assert_eq!(error.class, Class::Malformed);
        assert!(error.cause.contains("neither meta page"), "{error}");
    }
}

#[test]
fn what_is_no_database_says_so() {
    let why = |bytes: &[u8]| {
        let error = Database::over(bytes.to_vec()).view(all).unwrap_err();
        (error.class, error.cause.into_owned())
    };
    assert_eq!(why(b""), (Class::Malformed, "an empty file".into()));
    assert!(why(b"x").1.contains("neither meta page"));
    assert!(why(&[0; 100_000]).1.contains("neither meta page"));
    let file = writer::file(&sample(), layout(4096));
    let mut other = file.clone();
    for page in [0, 4096] {
        other[page + 20] = 3;
    }
    assert_eq!(why(&other), (Class::Unsupported, "bolt format version 3, not 2".into()));
    let (class, cause) = why(&file[..file.len() - 1]);
    assert_eq!(class, Class::Malformed);
    assert!(cause.contains("the file ends in it"), "{cause}");
}

/// The page of the root bucket, by its meta page.
fn root_page(file: &[u8], page_size: usize) -> usize {
    let at = page_size + 16 + 16;
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn damage_is_named_by_its_page() {
    let page_size = 512;
    let file = writer::file(&sample(), layout(page_size));
    let root = root_page(&file, page_size);
    let why = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[root * page_size + at..][..bytes.len()].copy_from_slice(bytes);
        Database::over(file).view(|top| top.value(b"none")).map_err(|e| e.cause.into_owned())
    };
    let of = |what: &str| Err(format!("damaged at page {root}: {what}"));
    assert_eq!(why(0, &[9]), of("another page's number"));
    assert_eq!(why(8, &[0x10]), of("neither branch nor leaf"));
    assert_eq!(why(10, &[0xff, 0xff]), of("more elements than bytes"));
    assert_eq!(why(12, &[0xff, 0xff]), of("runs over the pages in use"));
    assert_eq!(why(16 + 4, &[0xff; 4]), of("an element outside its page"));
    assert_eq!(why(16 + 8, &[0xff; 4]), of("an element outside its page"));
    let huge = writer::meta_page(page_size, 1, (root as u64, 0), u64::MAX, 9);
    let mut file = file.clone();
    file[page_size..page_size + huge.len()].copy_from_slice(&huge);
    file[root * page_size + 12..][..4].copy_from_slice(&[0xff; 4]);
    let error = Database::over(file).view(all).unwrap_err();
    assert_eq!(
        (error.class, &*error.cause),
        (Class::Malformed, "larger or deeper than any engine's")
    );
}

#[test]
fn loops_of_pages_end() {
    let page_size = 512;
    let good = writer::file(&sample(), layout(page_size));
    // A branch that is its own child, a bucket that is its own parent, and a chain of branches.
    let put = |file: &mut Vec<u8>, id: usize, branch: &[(u8, u64)]| {
        let page = &mut file[id * page_size..(id + 1) * page_size];
        page.fill(0);
        page[..8].copy_from_slice(&(id as u64).to_le_bytes());
        page[8] = 1;
        page[10] = u8::try_from(branch.len()).unwrap();
        for (n, (key, child)) in branch.iter().enumerate() {
            let at = 16 + n * 16;
            let pos = 400 - at + n;
            page[at..at + 4].copy_from_slice(&u32::try_from(pos).unwrap().to_le_bytes());
            page[at + 4] = 1;
            page[at + 8..at + 16].copy_from_slice(&child.to_le_bytes());
            page[400 + n] = *key;
        }
    };
    let root = root_page(&good, page_size);
    let id = root as u64;
    for branch in [vec![(b'a', id)], vec![(b'a', id), (b'b', id)], vec![(b'a', id - 1); 1]] {
        let mut file = good.clone();
        put(&mut file, root, &branch);
        put(&mut file, root - 1, &[(b'a', id), (b'c', id)]);
        let database = Database::over(file);
        for error in [
            database.view(all).map(drop).unwrap_err(),
            database.view(|top| top.value(b"b").map(drop)).unwrap_err(),
        ] {
            assert_eq!(error.class, Class::Malformed, "{error}");
        }
    }
    let mut outer = writer::Bucket::default();
    outer.path(&["a", "b"]).put("c", vec![0; 300]);
    let mut file = writer::file(&outer, layout(page_size));
    let root = root_page(&file, page_size);
    let header = root * page_size + 16 + 16 + 1;
    file[header..header + 8].copy_from_slice(&(root as u64).to_le_bytes());
    let database = Database::over(file);
    let name = |top: &Bucket<'_>| Ok(top.at(&[&b"a"[..]; 100])?.is_some());
    assert!(database.view(name).unwrap());
    assert_eq!(database.copy(), None);
}

/// Gives other bytes after so many reads.
struct Changing {
    files: RefCell<Vec<Vec<u8>>>,
    every: usize,
    reads: Cell<usize>,
}

impl Source for Changing {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        self.reads.set(self.reads.get() + 1);
        let mut files = self.files.borrow_mut();
        if self.reads.get().is_multiple_of(self.every) && files.len() > 1 {
            files.remove(0);
        }
        files[0].read_at(at, into)
    }

    fn shown(&self) -> &BStr {
        BStr::new("changing")
    }
}

/// Files of one database after each of some transactions, which alternate between two places.
fn history(count: u64) -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = Vec::new();
    for txid in 2..2 + count {
        let mut root = writer::Bucket::default();
        for n in 0..40 {
            root.path(&["b"]).put(format!("key-{n:02}"), format!("{txid}"));
        }
        files.push(writer::file(&root, Layout { page_size: 512, txid, gap: 0 }));
    }
    files
}

#[test]
fn an_answer_is_of_one_transaction_whenever_it_changes() {
    for every in 1..40 {
        let files = history(6);
        let source = Changing { files: RefCell::new(files), every, reads: Cell::new(0) };
        let database = Database::over(source);
        let told = database.view(|top| {
            let bucket = top.bucket(b"b")?.unwrap();
            let mut seen = Vec::new();
            bucket.walk(&mut |item| {
                seen.push(BString::from(item.value()?.unwrap_or_default()));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(seen)
        });
        let told = told.unwrap();
        assert_eq!(told.len(), 40, "{every}");
        assert!(told.iter().all(|value| *value == told[0]), "{every}: {told:?}");
    }
}

#[test]
fn damage_that_does_not_last_is_no_damage_and_endless_change_is_a_gap() {
    let good = history(3);
    let mut bad = good[0].clone();
    bad[1024..].fill(0xff);
    let source = Changing {
        files: RefCell::new(vec![bad.clone(), good[2].clone()]),
        every: 2,
        reads: Cell::new(0),
    };
    let told = Database::over(source).view(|top| top.bucket(b"b")?.unwrap().value(b"key-03"));
    assert_eq!(told.unwrap().unwrap(), "4");
    let error = Database::over(bad).view(all).unwrap_err();
    assert_eq!(error.class, Class::Malformed);

    let source = Changing { files: RefCell::new(history(200)), every: 1, reads: Cell::new(0) };
    let tries = Cell::new(0);
    let error = Database::over(source)
        .view(|top| {
            tries.set(tries.get() + 1);
            top.bucket(b"b").map(drop)
        })
        .unwrap_err();
    assert_eq!(error.class, Class::TimedOut);
    assert_eq!(&*error.cause, "it changed all the time while it was read");
    assert_eq!(tries.get(), limits::TRIES);
}

#[test]
fn a_file_that_changes_costs_no_more_than_one_that_does_not() {
    let mut root = writer::Bucket::default();
    root.put("long", vec![b'l'; 16 << 20]);
    let tree = writer::file(&root, layout(4096));
    let (read, txid) = (Cell::new(0), Cell::new(8));
    let source = Turning { tree, read: &read, txid };
    let error = Database::over(source).view(|top| top.value(b"long").map(drop)).unwrap_err();
    assert_eq!(error.class, Class::TimedOut, "{error}");
    // No more than the limit but for the meta pages; it was read a few times.
    assert!((64 << 20..limits::VIEW + (1 << 20)).contains(&read.get()), "{} bytes", read.get());
}

/// One tree beneath a meta page that is another one at each look.
struct Turning<'r> {
    tree: Vec<u8>,
    read: &'r Cell<usize>,
    txid: Cell<u64>,
}

impl Source for Turning<'_> {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        self.read.set(self.read.get() + into.len());
        if at != 0 {
            return self.tree.read_at(at, into);
        }
        let txid = self.txid.replace(self.txid.get() + 1);
        let (root, end) = (root_page(&self.tree, 4096) as u64, self.tree.len() as u64 / 4096);
        let meta = writer::meta_page(4096, txid % 2, (root, 0), end, txid);
        let place = if txid.is_multiple_of(2) { 0 } else { 4096 };
        let mut first = self.tree[..8192].to_vec();
        first[place..place + meta.len()].copy_from_slice(&meta);
        first.read_at(at, into)
    }

    fn shown(&self) -> &BStr {
        BStr::new("turning")
    }
}

/// Counts reads.
struct Counted(Vec<u8>, Cell<usize>);

impl Source for Counted {
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize, ReadError> {
        self.1.set(self.1.get() + 1);
        self.0.read_at(at, into)
    }

    fn shown(&self) -> &BStr {
        BStr::new("counted")
    }
}

#[test]
fn a_lookup_reads_no_more_than_the_way_down() {
    let mut root = writer::Bucket::default();
    for n in 0..5000 {
        let one = root.path(&["v1", "default", "containers", &format!("id-{n:05}")]);
        one.put("image", format!("image-{n}"))
            .put("spec", vec![b's'; 9000])
            .path(&["runtime"])
            .put("a", "b");
    }
    let counted = Counted(writer::file(&root, layout(4096)), Cell::new(0));
    assert!(counted.0.len() > 50_000_000);
    let database = Database::over(counted);
    let image = |top: &Bucket<'_>| {
        let path: [&[u8]; 4] = [b"v1", b"default", b"containers", b"id-04321"];
        top.at(&path)?.unwrap().value(b"image")
    };
    assert_eq!(database.view(image).unwrap().unwrap(), "image-4321");
    // Both meta pages at once, before and after; root, v1, default; a branch, a leaf; the container.
    assert!(database.source.1.get() <= 9, "{} reads", database.source.1.get());
}

#[test]
fn a_copy_holds_the_tree_and_no_environment() {
    let mut root = sample();
    let spec = br#"..{"process":{"env":["PATH=/bin","TOKEN=secret"]}}"#;
    root.path(&["v1", "shop"]).put("spec", spec.to_vec());
    root.path(&["v1", "inline"]).put("spec", spec.to_vec());
    let cri = br#"{"envs":[{"key":"A","value":"secret"},{"value":"secret","key":"value"}],"x":"value","y":"kept"}"#;
    root.path(&["v1", "shop"]).put("cri", [&vec![b' '; 9000][..], cri].concat());
    let mut file = writer::file(&root, Layout { page_size: 4096, txid: 8, gap: 3 });
    // A page that is free, with what was deleted.
    file[3 * 4096..3 * 4096 + 6].copy_from_slice(b"secret");
    let copy = Database::over(file.clone()).copy().unwrap();
    assert_eq!(copy.len(), file.len());
    assert_eq!(memchr::memmem::find(&copy, b"secret"), None);
    let read = Database::over(copy).view(all).unwrap();
    let Node::Bucket(v1) = &read.nodes[&b"v1"[..]] else { panic!("no bucket") };
    let Node::Bucket(shop) = &v1.nodes[&b"shop"[..]] else { panic!("no bucket") };
    let blank = br#"..{"process":{"env":["PATH=xxxx","TOKEN=xxxxxx"]}}"#;
    assert_eq!(shop.nodes[&b"spec"[..]], Node::Value(blank.to_vec()));
    let blank = br#"{"envs":[{"key":"A","value":"xxxxxx"},{"value":"xxxxxx","key":"value"}],"x":"value","y":"kept"}"#;
    let Node::Value(cri) = &shop.nodes[&b"cri"[..]] else { panic!("no value") };
    assert_eq!(&cri[9000..], blank);
    assert_eq!(shop.nodes[&b"long"[..]], Node::Value(vec![b'l'; 100_000]));
}

fn buckets() -> impl Strategy<Value = writer::Bucket> {
    let key = || prop::collection::vec(any::<u8>(), 1..40);
    let value = prop::collection::vec(any::<u8>(), 0..300).prop_map(Node::Value);
    let long = (0_usize..20_000).prop_map(|len| Node::Value(vec![b'x'; len]));
    let leaf = proptest::prop_oneof![8 => value, 1 => long];
    let node = leaf.prop_recursive(4, 400, 40, move |inner| {
        (any::<u64>(), prop::collection::btree_map(key(), inner, 0..60))
            .prop_map(|(sequence, nodes)| Node::Bucket(writer::Bucket { sequence, nodes }))
    });
    prop::collection::btree_map(key(), node, 0..60)
        .prop_map(|nodes| writer::Bucket { sequence: 3, nodes })
}

/// An eighth of what is asked for: one is a whole file.
fn some_cases() -> Config {
    let asked = Config::default();
    Config { cases: asked.cases / 8, ..asked }
}

fn sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![512, 1024, 4096])
}

proptest! {
    #![proptest_config(some_cases())]

    #[test]
    fn what_is_written_is_read(root in buckets(), page_size in sizes()) {
        let database = database(&root, page_size);
        prop_assert_eq!(database.view(all).unwrap(), root.clone());
        database.view(|top| search_all(top, &root)).unwrap();
        let copy = database.copy().unwrap();
        prop_assert!(Database::over(copy).view(all).is_ok());
    }

    #[test]
    fn damaged_files_end(
        root in buckets(),
        page_size in sizes(),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = writer::file(&root, layout(page_size));
        for (at, byte) in bytes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(file.len());
            file.truncate(len);
        }
        let database = Database::over(file);
        if let Err(error) = database.view(all) {
            prop_assert!(matches!(error.class, Class::Malformed | Class::Unsupported), "{}", error);
        }
        drop(database.copy());
    }
}
