//! What names a container in any text: its id, a cgroup's path, a directory of an engine's store, a
//! namespace, the host's end of its network.

use std::ops::Range;

use super::{Mention, What, When};

/// Digits of an id, and of its short form.
const LONG: usize = 64;
const SHORT: usize = 12;
/// Longest path that is looked at.
const LONGEST_PATH: usize = 4096;
/// Longest name of a network interface.
const LONGEST_NAME: usize = 15;
/// What a path in a store of images and containers has in it.
const STORES: [&[u8]; 9] = [
    b"/overlay2/",
    b"/overlay/",
    b"/snapshots/",
    b"/vfs/",
    b"/btrfs/subvolumes/",
    b"/zfs/graph/",
    b"/aufs/",
    b"/overlay-containers/",
    b"/vfs-containers/",
];
/// What a cgroup's path of a container or machine has in it, and others have not.
const CGROUPS: [&[u8]; 14] = [
    b"/docker/",
    b"docker-",
    b"libpod",
    b"kubepods",
    b"crio-",
    b"cri-containerd",
    b"machine.slice/",
    b"lxc.payload",
    b"/lxc/",
    b"nerdctl-",
    b"buildkit",
    b"garden",
    b"/ecs/",
    b"/mesos/",
];
/// Shortest path that may be one of these.
const SHORTEST_PATH: usize = 6;
/// Directories that hold neither.
const ELSEWHERE: [&[u8]; 9] =
    [b"/usr/", b"/bin/", b"/sbin/", b"/lib/", b"/lib64/", b"/etc/", b"/dev/", b"/boot/", b"/proc/"];
const NAMESPACES: [&[u8]; 8] =
    [b"cgroup", b"ipc", b"mnt", b"net", b"pid", b"time", b"user", b"uts"];

/// Adds what a text names. Of what lies in each other the widest is taken: a path has ids in it.
pub(crate) fn named_in(line: &[u8], found: &mut Vec<Mention>) {
    let mut free = Free::around(found);
    let mut add = |what: What, at: Range<usize>| {
        if free.has(&at) {
            // A name that is given again stands for who has it today.
            let when = match what {
                What::Interface(Some(_)) if !is_drawn(&line[at.clone()]) => When::Now,
                _ => When::Sometime,
            };
            found.push(Mention::new(what, at, when));
        }
    };
    let mut at = 0;
    // Up to here nothing begins that is a path in a store or a cgroup's: what it would be is part of a path
    // that is none.
    let mut barren = 0;
    while at < line.len() {
        let byte = line[at];
        let follows_word = at > 0 && is_word(line[at - 1]);
        if byte == b'/' && !follows_word && at >= barren {
            let (what, end) = path(&line[at..]);
            match what {
                Some(what) => {
                    add(what, at..at + end);
                    at += end;
                }
                None => {
                    barren = at + end;
                    at += 1;
                }
            }
        } else if is_word(byte) && !follows_word {
            let end = at + line[at..].iter().take_while(|b| is_word(**b)).count();
            if is_id(&line[at..end]) && !is_digest(&line[..at]) && !is_argument(&line[..at]) {
                add(What::Container, at..end);
            }
            // What follows a word tells soonest that it is neither.
            let next = line.get(end);
            if next == Some(&b':')
                && let Some((inode, close)) = namespace(line, at..end)
            {
                add(What::Namespace(inode), at..close);
            }
            if (next == Some(&b'@') || byte == b'v')
                && let Some((what, at)) = interface(line, at..end)
            {
                add(what, at);
            }
            at = end;
        } else {
            at += 1;
        }
    }
}

/// The places of a line that nothing is named at yet, asked for from left to right.
struct Free {
    taken: Vec<Range<usize>>,
    next: usize,
    end: usize,
}

impl Free {
    fn around(found: &[Mention]) -> Self {
        let mut taken: Vec<Range<usize>> = found.iter().map(|m| m.at.clone()).collect();
        taken.sort_by_key(|at| at.start);
        Self { taken, next: 0, end: 0 }
    }

    /// Whether a place is free; from then on it is not.
    fn has(&mut self, at: &Range<usize>) -> bool {
        while self.taken.get(self.next).is_some_and(|t| t.end <= at.start) {
            self.next += 1;
        }
        let is_free =
            at.start >= self.end && self.taken.get(self.next).is_none_or(|t| at.end <= t.start);
        if is_free {
            self.end = at.end;
        }
        is_free
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// 64 digits; or 12 with a letter among them, since so many figures may be anything.
fn is_id(text: &[u8]) -> bool {
    let letters =
        || text.iter().any(u8::is_ascii_alphabetic) && text.iter().any(u8::is_ascii_digit);
    let is_long = text.len() == LONG;
    (is_long || text.len() == SHORT) && text.iter().all(|b| is_hex(*b)) && (is_long || letters())
}

/// Whether a digest's algorithm comes before: it names an image or a layer.
fn is_digest(before: &[u8]) -> bool {
    before.ends_with(b"sha256:") || before.ends_with(b"@")
}

/// Whether ` a1=` comes before: a system call's argument in a record of the audit system, often an address.
fn is_argument(before: &[u8]) -> bool {
    matches!(before, [.., b' ', b'a', b'0'..=b'3', b'='])
}

/// Whether a path that begins here lies in a store, or is a cgroup's; and its length.
fn path(text: &[u8]) -> (Option<What>, usize) {
    let ends = |b: &u8| *b <= b' ' || b"\"'`,;()<>[]{}|=".contains(b);
    let near = &text[..text.len().min(LONGEST_PATH)];
    let mut end = near.iter().position(ends).unwrap_or(near.len());
    while end > 1 && matches!(text[end - 1], b':' | b'.') {
        end -= 1;
    }
    let path = &text[..end];
    // Most paths are of programs and devices: nothing of an engine lies there.
    if path.len() < SHORTEST_PATH || ELSEWHERE.iter().any(|top| path.starts_with(top)) {
        return (None, end);
    }
    if has(path, &STORES) || has_container_dir(path) {
        return (Some(What::Path), end);
    }
    (has(path, &CGROUPS).then_some(What::Cgroup), end)
}

/// Whether one of these is in a path. It is short, and a search would take longer to make than to do.
fn has(path: &[u8], parts: &[&[u8]]) -> bool {
    let begins = |byte: u8| matches!(byte, b'/' | b'b'..=b'd' | b'g' | b'k'..=b'n');
    path.iter()
        .enumerate()
        .filter(|(_, byte)| begins(**byte))
        .any(|(at, byte)| parts.iter().any(|part| part[0] == *byte && path[at..].starts_with(part)))
}

/// `/containers/ID` with all its digits: its state, its log.
fn has_container_dir(path: &[u8]) -> bool {
    if path.len() < LONG {
        return false;
    }
    let Some(at) = memchr::memmem::find(path, b"/containers/") else { return false };
    path.get(at + 12..at + 12 + LONG).is_some_and(|id| id.iter().all(|b| is_hex(*b)))
}

/// `net:[4026531840]`, from its word on: the inode, and where it ends.
fn namespace(line: &[u8], word: Range<usize>) -> Option<(u64, usize)> {
    let inner = line[word.end..].strip_prefix(b":[")?;
    let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
    let is_it = NAMESPACES.contains(&&line[word.clone()]) && inner.get(digits) == Some(&b']');
    let inode = std::str::from_utf8(&inner[..digits]).ok()?.parse().ok()?;
    is_it.then_some((inode, word.end + 2 + digits + 1))
}

/// The name of an interface that a word is the end of: as ip(8) shows those whose other end is in another
/// namespace, `eth0@if15`; or one that engines draw by lot, which stands for one container alone.
fn interface(line: &[u8], word: Range<usize>) -> Option<(What, Range<usize>)> {
    let rest = &line[word.end..];
    let Some(peer) = rest.strip_prefix(b"@if") else {
        let is_more = |a: Option<&u8>, b: Option<&u8>| {
            matches!(a, Some(b'-' | b'.' | b'@')) && b.is_some_and(|b| is_word(*b))
        };
        let before = || line[..word.start].last();
        let is_it = is_drawn(&line[word.clone()])
            && !is_more(rest.first(), rest.get(1))
            && !is_more(before(), line.get(word.start));
        return is_it.then_some((What::Interface(None), word));
    };
    let digits = peer.iter().take_while(|b| b.is_ascii_digit()).count();
    let index = std::str::from_utf8(&peer[..digits]).ok()?.parse().ok().filter(|n| *n > 0)?;
    // Dots and dashes may be in the name.
    let from = word.end.saturating_sub(LONGEST_NAME + 1);
    let is_name = |b: &u8| is_word(*b) || matches!(b, b'-' | b'.');
    let length = line[from..word.end].iter().rev().take_while(|b| is_name(b)).count();
    let at = word.end - length..word.end;
    let is_it =
        length <= LONGEST_NAME && matches!(line[..at.start].last(), None | Some(b' ' | b'\t'));
    let ends = peer.get(digits).is_none_or(|b| !is_word(*b));
    (is_it && ends).then_some((What::Interface(Some(index)), at))
}

/// `veth` and 7 or 8 hexadecimal digits of Docker, CNI's plugins, LXD and Incus, or 6 letters of LXC. Others,
/// as `veth0`, are given again when they are free.
fn is_drawn(name: &[u8]) -> bool {
    let Some(lot) = name.strip_prefix(b"veth") else { return false };
    let is_mixed =
        || lot.iter().all(u8::is_ascii_alphanumeric) && lot.iter().any(u8::is_ascii_uppercase);
    match lot.len() {
        7 | 8 => lot.iter().all(|b| is_hex(*b)),
        6 => is_mixed(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Mention, What, named_in};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn found(line: &str) -> Vec<(What, String)> {
        let mut found = Vec::new();
        named_in(line.as_bytes(), &mut found);
        found.into_iter().map(|m| (m.what, line[m.at].to_owned())).collect()
    }

    #[test]
    fn ids_and_what_holds_them() {
        let is = |line: &str, what: What, text: &str| {
            assert_eq!(found(line), [(what, text.to_owned())], "{line}");
        };
        is(&format!("container {ID} died"), What::Container, ID);
        is("id=0123456789ab.", What::Container, "0123456789ab");
        is(&format!("docker-{ID}.scope: Deactivated"), What::Container, ID);
        let cgroup = format!("/system.slice/docker-{ID}.scope");
        is(&format!("Control Group: {cgroup}"), What::Cgroup, &cgroup);
        is(
            &format!("Memory cgroup stats for /docker/{ID}:"),
            What::Cgroup,
            &format!("/docker/{ID}"),
        );
        let layer = "/var/lib/docker/overlay2/733b57/diff/bin/sh";
        is(&format!("exe=\"{layer}\""), What::Path, layer);
        is("ns net:[4026531840] x", What::Namespace(4_026_531_840), "net:[4026531840]");
    }

    #[test]
    fn every_part_is_looked_for() {
        for part in super::STORES {
            assert!(super::has(&[b"/a", part, b"b"].concat(), &super::STORES));
        }
        for part in super::CGROUPS {
            assert!(super::has(&[b"/a", part, b"b"].concat(), &super::CGROUPS));
        }
    }

    #[test]
    fn interfaces_are_those_drawn_by_lot_and_those_of_ip() {
        let drawn = What::Interface(None);
        for (line, name) in [
            ("docker0: port 1(veth1a2b3c4) entered blocking state", "veth1a2b3c4"),
            ("/sys/class/net/veth1a2b3c4d/operstate", "veth1a2b3c4d"),
            ("lxcbr0 8000.00163e no vethQ3kX9a", "vethQ3kX9a"),
            ("veth1a2b3c4: Gained carrier.", "veth1a2b3c4"),
            ("is veth1a2b3c4.", "veth1a2b3c4"),
        ] {
            assert_eq!(found(line), [(drawn.clone(), name.to_owned())], "{line}");
        }
        let shown = |n| What::Interface(Some(n));
        for (line, index, name) in [
            ("9: veth1a2b3c4@if2: <BROADCAST>", 2, "veth1a2b3c4"),
            ("9: ve-web@if12: <BROADCAST>", 12, "ve-web"),
            ("veth0@if2 UP", 2, "veth0"),
            ("eth0@if9", 9, "eth0"),
        ] {
            assert_eq!(found(line), [(shown(index), name.to_owned())], "{line}");
        }
        for none in [
            "veth0",
            "veth1a2b3c",
            "vethabcdef",
            "veth1a2b3cg",
            "veth1a2b3c4.100",
            "my-veth1a2b3c4",
            "veth1a2b3c4@veth1a2b3c5x",
            "veth0@if",
            "veth0@if0",
            "veth0@if2x",
            "(veth0@if2",
            "averylongnamefor@if2",
            "a@ifconfig.me",
        ] {
            assert_eq!(found(none), [], "{none}");
        }
    }

    #[test]
    fn a_long_line_is_read_once() {
        // By what is found: what takes the square of this does not come to its end.
        let paths = "/-".repeat(1 << 19);
        assert_eq!(found(&paths), []);
        let ids = "0123456789ab ".repeat(1 << 16);
        assert_eq!(found(&ids).len(), 1 << 16);
        // In a path that is none, ids count.
        assert_eq!(found("/-/-/0123456789ab"), [(What::Container, "0123456789ab".to_owned())]);
        assert_eq!(found("/-/-/docker/x").len(), 1);
        assert_eq!(found("/usr/-/docker/x"), []);
        let mut found = vec![Mention::pid(1, 9..30), Mention::pid(1, 0..4)];
        named_in(b"0123456789ab 0123456789ab 0123456789ab x 0123456789ab", &mut found);
        let more: Vec<_> = found.into_iter().skip(2).map(|m| (m.at.start, m.at.end)).collect();
        assert_eq!(more, [(41, 53)]);
    }

    #[test]
    fn other_digits_are_none() {
        for line in [
            &format!("sha256:{ID}")[..],
            &format!("x{ID}"),
            &format!("{ID}0"),
            "012345678901 bytes",
            "exit=0 a0=7ffd6c1b2a40 a1=0123456789ab x",
            "deadbeef",
            "0123456789abc",
            "/usr/bin/sleep",
            "net:[x]",
            "met:[12]",
            "",
        ] {
            assert_eq!(found(line), [], "{line}");
        }
    }
}
