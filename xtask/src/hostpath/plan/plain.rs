//! Programs that are on no overlay: files of a disk, of a bind mount, of nothing.

use super::names::join;
use super::{Draft, Program, Space};

/// Draws a few such programs.
pub(super) fn draw(draft: &mut Draft) {
    draft.note("no overlay");
    for number in 0..1 + draft.rng.below(4) {
        let disk = draft.disk();
        let home = join(&draft.home(&disk), format!("p{number}").as_bytes());
        let path = join(&home, &draft.name("x"));
        match draft.rng.below(11) {
            0 => direct(draft, &path, "file of a disk"),
            1 => removed(draft, &path),
            2 => renamed(draft, &path),
            3 => bound(draft, &home, &path),
            4 => bound_file(draft, &home, &path),
            5 => hidden(draft, &home, &path),
            6 => nameless(draft, "memfd"),
            7 => nameless(draft, "tmpfile"),
            8 => two_names(draft, &path),
            9 => snapshot(draft, number),
            _ if draft.plan.space == Space::Host => chroot(draft, &home, &path),
            _ => private(draft),
        }
    }
}

fn put(draft: &mut Draft, path: &[u8]) -> String {
    let mark = draft.mark();
    draft.at(&[b"put", path, mark.as_bytes()]);
    mark
}

fn run(
    draft: &mut Draft,
    words: &[&[u8]],
    label: &'static str,
    mark: &str,
    file: Option<&[u8]>,
) -> usize {
    let mut program = Program::new(label, mark);
    program.file = file.map(<[u8]>::to_vec);
    program.role = Some("direct");
    draft.start(words, program)
}

fn set(draft: &mut Draft, index: usize, state: &'static str, none: Option<&'static str>) {
    if let Some(program) = draft.program(index) {
        program.state = Some(state);
        program.none = none;
        if none.is_some() {
            program.file = None;
        }
    }
}

fn direct(draft: &mut Draft, path: &[u8], label: &'static str) {
    let mark = put(draft, path);
    run(draft, &[b"start", path], label, &mark, Some(path));
}

fn removed(draft: &mut Draft, path: &[u8]) {
    let mark = put(draft, path);
    let index = run(draft, &[b"start", path], "file of a disk, removed", &mark, None);
    draft.at(&[b"unlink", path]);
    set(draft, index, "unlinked", Some("unlinked file"));
    if draft.rng.chance(50) {
        put(draft, &[path, b" (deleted)"].concat());
    }
}

fn renamed(draft: &mut Draft, path: &[u8]) {
    let mark = put(draft, path);
    let to = [path, b".renamed"].concat();
    run(draft, &[b"start", path], "file of a disk, renamed", &mark, Some(&to));
    draft.at(&[b"rename", path, &to]);
    if draft.rng.chance(50) {
        put(draft, path);
    }
}

fn bind(draft: &mut Draft, source: &[u8], point: &[u8]) {
    draft.mount(&[b"mount", source, point, b"", b"bind", b""], point);
}

fn bound(draft: &mut Draft, home: &[u8], path: &[u8]) {
    let mark = put(draft, path);
    let point = [home, b".bind"].concat();
    draft.at(&[b"mkdir", &point]);
    bind(draft, home, &point);
    let name = path.get(home.len() + 1..).unwrap_or_default();
    let through = join(&point, name);
    let detach = draft.rng.chance(50);
    let label = if detach { "bind of a disk, then detached" } else { "bind of a disk" };
    let index = run(draft, &[b"start", &through], label, &mark, Some(path));
    if detach {
        draft.inside(&[b"detach", &point]);
        set(draft, index, "detached", None);
    } else {
        is_volume(draft, index);
    }
}

fn bound_file(draft: &mut Draft, home: &[u8], path: &[u8]) {
    let mark = put(draft, path);
    let point = [home, b".file"].concat();
    put(draft, &point);
    bind(draft, path, &point);
    let replace = draft.rng.chance(60);
    let label = if replace { "bound file, source replaced" } else { "bound file" };
    let index = run(draft, &[b"start", &point], label, &mark, Some(path));
    is_volume(draft, index);
    if replace {
        let new = [path, b".new"].concat();
        put(draft, &new);
        draft.at(&[b"rename", &new, path]);
        set(draft, index, "unlinked", Some("unlinked file"));
    }
}

/// A bind mount is a volume where it is not the caller's own.
fn is_volume(draft: &mut Draft, index: usize) {
    let volume = draft.plan.space != Space::Host;
    if let Some(program) = draft.program(index).filter(|_| volume) {
        program.role = Some("volume");
    }
}

fn hidden(draft: &mut Draft, home: &[u8], path: &[u8]) {
    let mark = put(draft, path);
    let over = [home, b".over"].concat();
    put(draft, &over);
    let index = run(draft, &[b"start", path], "file of a disk, over-mounted", &mark, None);
    bind(draft, &over, path);
    // In the caller's own namespace the path then leads elsewhere.
    let none = (draft.plan.space == Space::Host).then_some("name over-mounted");
    set(draft, index, "hidden", none);
    if path.ends_with(b" (deleted)")
        && let Some(program) = draft.program(index).filter(|_| none.is_some())
    {
        program.state = None; // nothing tells such a name from one that is gone
    }
    if none.is_none()
        && let Some(program) = draft.program(index)
    {
        program.file = Some(path.to_vec());
    }
}

fn nameless(draft: &mut Draft, how: &'static str) {
    let mark = draft.mark();
    let dir = draft.home("ram");
    draft.at(&[b"mkdir", &dir]);
    let label = if how == "memfd" { "memfd" } else { "file that never had a name" };
    let words: &[&[u8]] = &[b"nameless", how.as_bytes(), &dir, mark.as_bytes()];
    let index = run(draft, words, label, &mark, None);
    let (state, why) = match how {
        "memfd" => ("anonymous", "memfd"),
        _ => ("unlinked", "file without a name"),
    };
    set(draft, index, state, Some(why));
    if let Some(program) = draft.program(index).filter(|_| how == "memfd") {
        program.role = Some("anonymous");
    }
}

fn two_names(draft: &mut Draft, path: &[u8]) {
    let mark = put(draft, path);
    let other = [path, b".too"].concat();
    draft.at(&[b"link", path, &other]);
    run(draft, &[b"start", path], "file of a disk, two names", &mark, Some(path));
}

/// Of a file and its copy in a btrfs snapshot all numbers agree but the device.
fn snapshot(draft: &mut Draft, number: usize) {
    if !draft.disks.iter().any(|disk| disk == "btrfs") {
        return;
    }
    draft.note("btrfs snapshot");
    let home = draft.home("btrfs");
    draft.at(&[b"mkdir", &home]);
    let first = join(&home, format!("v{number}").as_bytes());
    let second = join(&home, format!("s{number}").as_bytes());
    draft.at(&[b"subvolume", &first]);
    let name = draft.name("x");
    let (path, copy) = (join(&first, &name), join(&second, &name));
    let mark = put(draft, &path);
    draft.at(&[b"snapshot", &first, &second]);
    let other = draft.mark();
    draft.at(&[b"mark", &copy, other.as_bytes()]);
    run(draft, &[b"start", &path], "btrfs subvolume", &mark, Some(&path));
    run(draft, &[b"start", &copy], "btrfs snapshot", &other, Some(&copy));
}

fn chroot(draft: &mut Draft, home: &[u8], path: &[u8]) {
    let mark = put(draft, path);
    let name = path.get(home.len()..).unwrap_or_default().to_vec();
    run(draft, &[b"start", &name, home], "chroot on a disk", &mark, Some(path));
}

fn private(draft: &mut Draft) {
    let dir = draft.private_disk();
    draft.next += 1;
    let path = join(&dir, format!("x{}", draft.next).as_bytes());
    let mark = put(draft, &path);
    let index = run(draft, &[b"start", &path], "private tmpfs", &mark, None);
    set(draft, index, "present", Some("tmpfs of a private namespace"));
}
