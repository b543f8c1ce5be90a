//! `/proc/PID/status` (proc_pid_status(5)).

use super::{decimal, decimal32, words};
use crate::error::Malformed;

/// The lines of `status` that are used. Absent lines (older kernels, kernel threads) are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `Tgid`: the process a task belongs to.
    pub tgid: Option<u32>,
    /// `PPid`.
    pub ppid: Option<u32>,
    /// `Uid`: the real user id.
    pub ruid: u32,
    /// `Uid`: the effective user id, as seen from the reader's user namespace.
    pub euid: u32,
    /// `Gid`: the effective group id.
    pub egid: u32,
    /// `NSpid` (kernel 4.1): the PID in each nested PID namespace, outermost first.
    pub nspid: Option<Vec<u32>>,
    /// `VmSize`, bytes; absent without an address space.
    pub vsize: Option<u64>,
    /// `VmRSS`, bytes; absent without an address space.
    pub rss: Option<u64>,
    /// `Threads`.
    pub threads: Option<u64>,
}

/// Parses `status`. The `Name` line cannot forge others: the kernel escapes newlines in it.
///
/// # Errors
/// [`Malformed`] when the `Uid` or `Gid` line is missing or a used line holds no number.
pub fn parse(bytes: &[u8]) -> Result<Status, Malformed> {
    let mut status = Status::default();
    let (mut saw_uid, mut saw_gid) = (false, false);
    for line in bytes.split(|b| *b == b'\n') {
        let Some(colon) = super::find(b':', line) else {
            continue;
        };
        let (key, value) = (&line[..colon], &line[colon + 1..]);
        match key {
            b"Tgid" => status.tgid = Some(one(value, "status holds a bad Tgid")?),
            b"PPid" => status.ppid = Some(one(value, "status holds a bad PPid")?),
            b"Uid" => {
                let ids = ids(value, "status holds a bad Uid")?;
                (status.ruid, status.euid) = (ids[0], ids[1]);
                saw_uid = true;
            }
            b"Gid" => {
                status.egid = ids(value, "status holds a bad Gid")?[1];
                saw_gid = true;
            }
            b"NSpid" => {
                let pids: Option<Vec<u32>> = words(value).map(decimal32).collect();
                let pids = pids.filter(|p| !p.is_empty());
                status.nspid = Some(pids.ok_or(Malformed("status holds a bad NSpid"))?);
            }
            b"VmSize" => status.vsize = Some(kib(value)?),
            b"VmRSS" => status.rss = Some(kib(value)?),
            b"Threads" => {
                status.threads = Some(u64::from(one(value, "status holds a bad Threads")?));
            }
            _ => {}
        }
    }
    if saw_uid && saw_gid { Ok(status) } else { Err(Malformed("status has no Uid or Gid line")) }
}

/// The signals that it ignores, bit N-1 for signal N: the `SigIgn` line.
#[must_use]
pub fn ignored(bytes: &[u8]) -> Option<u64> {
    let mask = bytes.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"SigIgn:"))?;
    let mask = std::str::from_utf8(mask.trim_ascii()).ok()?;
    let is_mask = mask.bytes().all(|b| b.is_ascii_hexdigit());
    is_mask.then(|| u64::from_str_radix(mask, 16).ok()).flatten()
}

fn one(value: &[u8], what: &'static str) -> Result<u32, Malformed> {
    decimal32(value.trim_ascii()).ok_or(Malformed(what))
}

fn ids(value: &[u8], what: &'static str) -> Result<[u32; 4], Malformed> {
    let mut found = [0; 4];
    let mut fields = words(value);
    for slot in &mut found {
        *slot = fields.next().and_then(decimal32).ok_or(Malformed(what))?;
    }
    Ok(found)
}

fn kib(value: &[u8]) -> Result<u64, Malformed> {
    let number = value.trim_ascii().strip_suffix(b" kB").map(<[u8]>::trim_ascii);
    let bytes = number.and_then(decimal).and_then(|n| n.checked_mul(1024));
    bytes.ok_or(Malformed("status holds a bad size"))
}

#[cfg(test)]
mod tests {
    use super::{ignored, parse};

    const TEXT: &[u8] = b"Name:\tsleep\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t25256\nPid:\t25256\n\
PPid:\t25230\nUid:\t1000\t1001\t1002\t1003\nGid:\t100\t101\t102\t103\nNStgid:\t25256\t1\nNSpid:\t25256\t1\n\
VmSize:\t    1284 kB\nVmRSS:\t     884 kB\nThreads:\t3\n";

    #[test]
    fn reads_every_used_line() {
        let status = parse(TEXT).unwrap();
        assert_eq!((status.ruid, status.euid, status.egid), (1000, 1001, 101));
        assert_eq!(status.nspid.as_deref(), Some(&[25256, 1][..]));
        assert_eq!((status.vsize, status.rss), (Some(1284 * 1024), Some(884 * 1024)));
        assert_eq!((status.tgid, status.ppid, status.threads), (Some(25256), Some(25230), Some(3)));
    }

    #[test]
    fn old_kernels_and_kernel_threads_lack_lines() {
        let status = parse(b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n").unwrap();
        assert_eq!((status.nspid, status.rss), (None, None));
    }

    #[test]
    fn refuses_bad_lines() {
        for bad in ["", "Uid:\t0\n", "Uid:\t0\t0\t0\t0\n", "Uid:\t0\t0\t0\tx\nGid:\t0\t0\t0\t0\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let ids = "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n";
        for bad in
            ["NSpid:\t\n", "NSpid:\t1\t-1\n", "VmRSS:\t1 MB\n", "VmRSS:\t99999999999999999999 kB\n"]
        {
            assert!(parse(format!("{ids}{bad}").as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn ignored_signals_are_a_mask() {
        assert_eq!(ignored(b"Name:\tx\nSigIgn:\t0000000000001003\n"), Some(0x1003));
        for bad in ["", "SigIgn:\tx\n", "SigIgn:\t\n", "SigIgn:\t10000000000000000\n"] {
            assert_eq!(ignored(bad.as_bytes()), None, "{bad}");
        }
    }
}
