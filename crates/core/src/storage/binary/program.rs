//! The program behind an interpreter, a loader or a multi-call binary. All of it is what the process
//! itself says.

use bstr::{BStr, BString, ByteSlice};
use whose_kernel::parse::maps::Mapping;

/// Longest `comm`, bytes (`TASK_COMM_LEN` less its end).
const COMM: usize = 15;
/// Binaries that are many programs, told apart by the name they are called by.
const MULTI_CALL: [&[u8]; 5] = [b"busybox", b"toybox", b"coreutils", b"sbase-box", b"ubase-box"];

/// What runs behind the binary, if anything.
pub(super) fn behind(
    exe: &BStr,
    comm: &BStr,
    args: &[BString],
    maps: &[Mapping],
) -> Option<BString> {
    let own = base(exe);
    if is_loader(own) {
        // The loader maps its program like a library.
        let named = args.iter().skip(1).find(|a| {
            !a.starts_with(b"-") && maps.iter().any(|m| m.is_file() && base(&m.name) == base(a))
        })?;
        let mapped = maps.iter().find(|m| m.is_file() && base(&m.name) == base(named))?;
        return Some(mapped.name.clone());
    }
    let first = args.first()?;
    let called = base(first).strip_prefix(b"-").unwrap_or(base(first));
    if MULTI_CALL.contains(&own) {
        let applet = if called == own { args.get(1)?.as_slice() } else { called };
        return Some(applet.into());
    }
    if is_comm_of(own, comm) || is_comm_of(called, comm) {
        return None;
    }
    // A script: the kernel takes its name for the process's.
    let script = |a: &&BString| is_comm_of(base(a), comm);
    args.iter().skip(1).find(script).cloned()
}

fn base(path: &[u8]) -> &[u8] {
    path.rfind_byte(b'/').map_or(path, |at| &path[at + 1..])
}

fn is_loader(name: &[u8]) -> bool {
    name.starts_with(b"ld-linux")
        || name.starts_with(b"ld-musl")
        || name.starts_with(b"ld.so")
        || (name.starts_with(b"ld-") && name.contains_str(b".so"))
}

fn is_comm_of(name: &[u8], comm: &BStr) -> bool {
    !name.is_empty() && name[..name.len().min(COMM)] == **comm
}

#[cfg(test)]
mod tests {
    use bstr::{BStr, BString};
    use whose_kernel::parse::maps;

    use super::behind;

    fn program(exe: &str, comm: &str, args: &str, maps: &str) -> Option<BString> {
        let args: Vec<BString> = args.split_whitespace().map(BString::from).collect();
        behind(BStr::new(exe), BStr::new(comm), &args, &maps::parse(maps.as_bytes()).unwrap())
    }

    #[test]
    fn scripts_applets_and_loaders() {
        let none = "";
        assert_eq!(
            program("/usr/bin/python3", "serve.py", "python3 /srv/serve.py -v", none).unwrap(),
            "/srv/serve.py"
        );
        assert_eq!(program("/usr/bin/python3", "python3", "python3 /srv/serve.py", none), None);
        assert_eq!(program("/bin/busybox", "sleep", "sleep 9", none).unwrap(), "sleep");
        assert_eq!(
            program("/bin/busybox", "busybox", "/bin/busybox sleep 9", none).unwrap(),
            "sleep"
        );
        assert_eq!(program("/bin/cat", "cat", "cat /etc/passwd", none), None);
        let maps =
            "4000-5000 r-xp 0 08:01 7 /srv/app\n6000-7000 r-xp 0 08:01 8 /lib/ld-linux.so.2\n";
        assert_eq!(
            program("/lib/ld-linux.so.2", "ld-linux.so.2", "ld-linux.so.2 ./app x", maps).unwrap(),
            "/srv/app"
        );
    }
}
