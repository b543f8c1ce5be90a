//! Capability sets of `/proc/PID/status` (capabilities(7)).

use crate::error::Malformed;

/// The names by number, as include/uapi/linux/capability.h has them, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The effective set of a `status` file: bit N for capability N.
///
/// # Errors
/// [`Malformed`] without a `CapEff` line of hexadecimal digits.
pub fn parse(status: &[u8]) -> Result<u64, Malformed> {
    let bad = Malformed("no CapEff line");
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"CapEff:"));
    let text = std::str::from_utf8(line.ok_or(bad)?.trim_ascii()).map_err(|_| bad)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad);
    }
    u64::from_str_radix(text, 16).map_err(|_| bad)
}

/// Whether a set has the capability of this name, without `CAP_`.
#[must_use]
pub fn has(set: u64, name: &str) -> bool {
    NAMES.iter().position(|n| *n == name).is_some_and(|bit| set >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::{has, parse};

    #[test]
    fn the_effective_set() {
        let status =
            b"Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000080004\nCapBnd:\t0\n";
        let set = parse(status).unwrap();
        assert!(has(set, "SYS_PTRACE") && has(set, "DAC_READ_SEARCH"));
        assert!(!has(set, "SYS_ADMIN") && !has(set, "NO_SUCH"));
        for bad in [&b""[..], b"CapEff:\n", b"CapEff:\t-1\n", b"CapEff:\t11111111111111111\n"] {
            parse(bad).unwrap_err();
        }
    }
}
