//! The count against a plain one, on real trees.
#![allow(clippy::print_stderr, reason = "a test that is left out says so")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use bstr::{BStr, ByteSlice};
use proptest::prelude::{ProptestConfig, prop, proptest};
use proptest::prop_assert_eq;

use super::crew::Crew;
use super::linked::{Linked, MOST, Name};
use super::{Counted, Sum, count, count_with};
use crate::error::Class;
use crate::root::{Links, Root};

fn root(dir: &Path) -> Root {
    Root::open(BStr::new(dir.as_os_str().as_encoded_bytes()), Links::Never).unwrap()
}

fn of(dir: &Path, rels: &[&str], threads: usize) -> Counted {
    let root = root(dir);
    let trees: Vec<_> = rels.iter().map(|rel| root.tree(rel.as_bytes()).unwrap()).collect();
    count_with(&Crew::new(&trees, threads, MOST), &mut |_| true)
}

/// What a plain count says: each inode once, directories without a size.
fn plain(dir: &Path, seen: &mut BTreeSet<(u64, u64)>) -> Sum {
    let mut sum = Sum { is_whole: true, ..Sum::default() };
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if seen.insert((meta.dev(), meta.ino())) {
            sum.add(meta.blocks() * 512, if meta.is_dir() { 0 } else { meta.len() });
        }
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
    }
    sum
}

fn fill(path: &Path, len: usize) {
    let mut file = File::create(path).unwrap();
    file.write_all(&vec![1; len]).unwrap();
    file.sync_all().unwrap();
}

fn du(paths: &[&Path]) -> Vec<u64> {
    let ran = Command::new("du").args(["-sx", "--block-size=1"]).args(paths).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().map(|l| l.split('\t').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn an_inode_counts_once_and_for_the_first_tree() {
    let dir = tempfile::tempdir().unwrap();
    let at = |rel: &str| dir.path().join(rel);
    for layer in ["a", "b"] {
        fs::create_dir_all(at(layer).join("sub")).unwrap();
    }
    fill(&at("a/one"), 100_000);
    fs::hard_link(at("a/one"), at("a/sub/two")).unwrap();
    fs::hard_link(at("a/one"), at("b/three")).unwrap();
    fill(&at("b/own"), 5000);
    symlink("..", at("b/sub/loop")).unwrap();
    symlink("/", at("b/out")).unwrap();
    let sparse = File::create(at("b/sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"x", 1 << 29).unwrap();
    sparse.sync_all().unwrap();
    for threads in [1, 2, 4] {
        for rels in [["a", "b"], ["b", "a"]] {
            let counted = of(dir.path(), &rels, threads);
            let mut seen = BTreeSet::new();
            let expected: Vec<Sum> = rels.iter().map(|rel| plain(&at(rel), &mut seen)).collect();
            assert_eq!(counted.sums, expected);
            assert_eq!(counted.problems, []);
            let paths = rels.map(at);
            let bytes: Vec<u64> = counted.sums.iter().map(|s| s.bytes).collect();
            assert_eq!(bytes, du(&paths.each_ref().map(PathBuf::as_path)));
        }
    }
    let b = of(dir.path(), &["b"], 2).sums[0];
    assert!(b.apparent > 1 << 30 && b.bytes < 1 << 20, "{b:?}");
}

#[test]
fn inodes_with_several_names_are_forgotten_and_there_is_an_end_to_them() {
    let dir = tempfile::tempdir().unwrap();
    for tree in ["a", "b"] {
        fs::create_dir(dir.path().join(tree)).unwrap();
    }
    for number in 0..3000 {
        let name = |tree: &str| dir.path().join(tree).join(number.to_string());
        fs::write(name("b"), "x").unwrap();
        fs::hard_link(name("b"), name("a")).unwrap();
    }
    let root = root(dir.path());
    let trees = [root.tree(b"a").unwrap(), root.tree(b"b").unwrap()];
    for threads in [1, 2, 4] {
        let crew = Crew::new(&trees, threads, MOST);
        let counted = count_with(&crew, &mut |_| true);
        assert_eq!((counted.sums[0].inodes, counted.sums[1].inodes), (3001, 1));
        assert_eq!((crew.linked.kept(), counted.problems), (0, vec![]));
        // Past the end each name counts, and that is told.
        let crew = Crew::new(&trees, threads, 100);
        let counted = count_with(&crew, &mut |_| true);
        let all: u64 = counted.sums.iter().map(|sum| sum.inodes).sum();
        // Threads that happen to go side by side meet both names of an inode before there is an end.
        let least = if threads == 1 { 3003 } else { 3002 };
        assert!((least..=6002).contains(&all), "{all}");
        let untold: u64 = counted.problems.iter().map(|problem| problem.count).sum();
        assert!(untold >= all - 3002, "{untold} {all}");
        let causes = counted.problems.iter().all(|p| p.error.cause.contains("each of its names"));
        let told = all == 3002 || !counted.problems.is_empty();
        assert!(causes && told, "{counted:?}");
    }
}

#[test]
fn a_name_in_a_tree_before_takes_the_inode_there() {
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let trees = [root.tree(b"").unwrap()];
    let (linked, device) = (Linked::new(&trees, 2), trees[0].id.0);
    let meet = |ino, tree| linked.meet((device, ino), 3, tree);
    assert_eq!([meet(1, 7), meet(1, 9), meet(1, 3)], [Name::First, Name::Other, Name::Before(7)]);
    assert_eq!(linked.kept(), 0);
    assert_eq!([meet(1, 7), meet(2, 7), meet(3, 7)], [Name::First, Name::First, Name::Untold]);
    assert_eq!([meet(2, 5), meet(2, 4)], [Name::Before(7), Name::Before(5)]);
    assert_eq!([meet(3, 7), linked.meet((device + 1, 1), 2, 0)], [Name::First, Name::Untold]);
}

#[test]
fn a_tree_in_another_counts_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let at = |rel: &str| dir.path().join(rel);
    fs::create_dir_all(at("all/layer/deep")).unwrap();
    fill(&at("all/layer/deep/x"), 9000);
    fill(&at("all/log"), 70_000);
    fill(&at("all/rest"), 1);
    let apart = of(dir.path(), &["all", "all/layer", "all/log", "all/layer"], 2);
    let whole = of(dir.path(), &["all"], 2).sums[0];
    let parts = &apart.sums;
    assert_eq!((parts[1].apparent, parts[2].apparent, parts[0].apparent), (9000, 70_000, 1));
    assert_eq!(parts[3], Sum { is_whole: true, ..Sum::default() });
    assert_eq!(parts.iter().map(|s| s.bytes).sum::<u64>(), whole.bytes);
    assert_eq!(parts.iter().map(|s| s.inodes).sum::<u64>(), whole.inodes);
    // A link is no tree to be followed.
    symlink("all", at("link")).unwrap();
    let link = of(dir.path(), &["link"], 1).sums[0];
    assert_eq!((link.apparent, link.inodes), (3, 1));
}

#[test]
fn as_deep_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut fd = rustix::fs::open(dir.path(), rustix::fs::OFlags::PATH, 0.into()).unwrap();
    for level in 0..5000 {
        for name in ["d", "e"] {
            rustix::fs::mkdirat(&fd, name, 0o755.into()).unwrap();
        }
        if level % 1000 == 0 {
            rustix::fs::symlinkat("x", &fd, "l").unwrap();
        }
        fd = rustix::fs::openat(&fd, "d", rustix::fs::OFlags::PATH, 0.into()).unwrap();
    }
    for threads in [1, 2] {
        let counted = of(dir.path(), &[""], threads);
        assert_eq!(counted.problems, []);
        assert_eq!(counted.sums[0].inodes, 1 + 10_000 + 5);
        assert_eq!(vec![counted.sums[0].bytes], du(&[dir.path()]));
    }
    // What removes it must not recurse either.
    assert!(Command::new("rm").arg("-r").arg(dir.path().join("d")).status().unwrap().success());
}

#[test]
fn what_moves_leads_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |rel: &str| dir.path().join(rel);
    fs::create_dir_all(at("outside/far")).unwrap();
    fill(&at("outside/far/big"), 3_000_000);
    fs::create_dir_all(at("tree/aside")).unwrap();
    let deep = "d/".repeat(120);
    fs::create_dir_all(at("tree/swapped").join(&deep)).unwrap();
    symlink(at("outside"), at("tree/link")).unwrap();
    let most = plain(&at("tree"), &mut BTreeSet::new());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let swap = |a: &str, b: &str| {
                let (a, b) = (at(a), at(b));
                rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags)
            };
            while !done.load(Ordering::Relaxed) {
                // A directory and a link out, and one from the middle of a deep path.
                swap("tree/swapped", "tree/link").unwrap();
                let middle = format!("tree/link/{}d", "d/".repeat(60));
                let _ = swap(&middle, "tree/aside");
            }
        });
        // What is moved behind the walk is met twice; what is outside never.
        let fine = |sum: &Sum| sum.apparent < 3_000_000 && sum.inodes <= 3 * most.inodes;
        let wrong = (0..200).map(|_| of(dir.path(), &["tree"], 2)).find(|c| !fine(&c.sums[0]));
        done.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:?}");
    });
}

#[test]
fn a_file_that_grows_and_files_that_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let grows = dir.path().join("grows");
    fill(&grows, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&grows).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(&[7; 4096]).unwrap();
                let other = dir.path().join("comes");
                fill(&other, 10);
                fs::remove_file(&other).unwrap();
                fs::create_dir(&other).unwrap();
                fs::remove_dir(&other).unwrap();
            }
        });
        let mut last = 0;
        let mut fine = |counted: &Counted| {
            let [file, rest] = counted.sums[..] else { return false };
            let grew = file.apparent >= std::mem::replace(&mut last, file.apparent);
            grew && file.inodes == 1 && rest.inodes <= 2 && counted.problems.is_empty()
        };
        let wrong = (0..100).map(|_| of(dir.path(), &["grows", ""], 2)).find(|c| !fine(c));
        done.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:?}");
    });
}

/// What gets another name behind the walk counts for both, which is told; what had several all the time does not.
#[test]
fn what_is_linked_again_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let (one, old) = (dir.path().join("a/one"), dir.path().join("a/old"));
    fill(&one, 10_000);
    fill(&old, 10_000);
    fs::hard_link(&old, dir.path().join("b/old")).unwrap();
    // The clock that the kernel has for inodes goes by ticks.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let root = root(dir.path());
    let trees: Vec<_> = ["a", "b"].iter().map(|rel| root.tree(rel.as_bytes()).unwrap()).collect();
    let crew = Crew::new(&trees, 1, MOST);
    let still = count_with(&crew, &mut |_| true);
    assert_eq!((still.again, still.sums[0].inodes, still.sums[1].inodes), (Sum::default(), 3, 1));
    let crew = Crew::new(&trees, 1, MOST);
    // As if the first tree had been walked before: its only name then is met, and the other one now.
    fs::hard_link(&one, dir.path().join("b/two")).unwrap();
    fs::remove_file(&one).unwrap();
    fs::hard_link(dir.path().join("b/two"), &one).unwrap();
    let counted = count_with(&crew, &mut |_| true);
    assert_eq!((counted.again.inodes, counted.again.apparent), (1, 10_000), "{counted:?}");
    assert_eq!(counted.sums[0].inodes + counted.sums[1].inodes, 4, "each counts once here");
}

#[test]
fn what_was_counted_when_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for name in 0..50 {
        fs::create_dir(dir.path().join(name.to_string())).unwrap();
    }
    let root = root(dir.path());
    let trees = [root.tree(b"").unwrap(), root.tree(b"7").unwrap()];
    let counted = count(&trees, &mut |_| false);
    assert_eq!(counted.sums.len(), 2);
    assert!(counted.sums.iter().map(|s| s.inodes).sum::<u64>() <= 51);
    let mut told = Vec::new();
    let counted = count(&trees, &mut |progress| {
        told.push(progress);
        true
    });
    assert!(counted.sums.iter().all(|s| s.is_whole) && !told.is_empty());
    assert_eq!((counted.sums[0].inodes, counted.sums[1].inodes), (50, 1));
    assert_eq!(count(&[], &mut |_| true).sums, []);
}

#[test]
fn another_file_system_is_not_entered() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: another_file_system_is_not_entered: needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["tree/mnt", "tree/bind", "tree/own"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    fill(&dir.path().join("tree/own/x"), 10_000);
    fill(&dir.path().join("tree/file"), 10);
    let before = of(dir.path(), &["tree"], 2).sums[0];
    // In a mount namespace of its own, where this very test runs once more and counts.
    let script = "mount -t tmpfs none tree/mnt && head -c 1M /dev/zero > tree/mnt/big \
        && mount --bind / tree/bind && mount --bind tree/mnt/big tree/file && exec \"$0\" \"$@\"";
    if std::env::var_os("WHOSE_TEST_MOUNTED").is_none() {
        let own = std::env::current_exe().unwrap();
        let name = "usage::tests::another_file_system_is_not_entered";
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-ec", script]).arg(own);
        command.args(["--exact", name, "--nocapture"]).current_dir(dir.path());
        let ran = command.env("WHOSE_TEST_MOUNTED", dir.path()).status().unwrap();
        assert!(ran.success());
        return;
    }
    let mounted = PathBuf::from(std::env::var_os("WHOSE_TEST_MOUNTED").unwrap());
    let counted = of(&mounted, &["tree"], 2);
    // The mount points are not counted, as du does not count them; neither is the file.
    assert_eq!(counted.sums[0].inodes, before.inodes - 3);
    let [problem] = counted.problems.as_slice() else { panic!("{counted:?}") };
    assert_eq!((problem.count, problem.is_elsewhere), (3, true));
    assert!(problem.error.path.ends_with_str("tree/bind"), "{problem:?}");
    assert_eq!(problem.error.class, Class::Unsupported);
}

#[test]
fn what_may_not_be_read_is_told_once() {
    if rustix::process::geteuid().is_root() {
        return eprintln!("skipped: what_may_not_be_read_is_told_once: root may read all");
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        let closed = dir.path().join("t").join(name);
        fs::create_dir_all(closed.join("in")).unwrap();
        fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    }
    let counted = of(dir.path(), &["t"], 2);
    assert_eq!(counted.sums[0].inodes, 4);
    let [problem] = counted.problems.as_slice() else { panic!("{counted:?}") };
    assert_eq!((problem.count, problem.error.class), (3, Class::Forbidden));
    assert!(problem.error.path.ends_with_str("t/a"));
    for name in ["a", "b", "c"] {
        let closed = dir.path().join("t").join(name);
        fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_trees_come_to_what_a_plain_count_says(
        made in prop::collection::vec((0_u8..5, 0_usize..40, 0_usize..40, 0_usize..9000), 1..120),
        threads in 1_usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut dirs = vec![dir.path().join("a"), dir.path().join("b")];
        dirs.iter().for_each(|d| fs::create_dir(d).unwrap());
        let mut files: Vec<PathBuf> = Vec::new();
        for (number, (kind, at, of, len)) in made.into_iter().enumerate() {
            let path = dirs[at % dirs.len()].join(number.to_string());
            match kind {
                0 => {
                    fs::create_dir(&path).unwrap();
                    dirs.push(path);
                }
                1 if !files.is_empty() => fs::hard_link(&files[of % files.len()], &path).unwrap(),
                2 => symlink(&dirs[of % dirs.len()], &path).unwrap(),
                3 => File::create(&path).unwrap().set_len(len as u64 * 1000).unwrap(),
                _ => {
                    fill(&path, len);
                    files.push(path);
                }
            }
        }
        let mut seen = BTreeSet::new();
        let expected: Vec<Sum> =
            ["a", "b"].iter().map(|rel| plain(&dir.path().join(rel), &mut seen)).collect();
        let counted = of(dir.path(), &["a", "b"], threads);
        prop_assert_eq!(counted.sums, expected);
        prop_assert_eq!(counted.problems, vec![]);
    }
}
