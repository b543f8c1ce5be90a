//! `top -b`.

use super::Format;
use super::table::{Heading, Side, titled};

pub(super) struct Top;

/// Titles that top has and ps has not, or spells otherwise (top(1), FIELDS). ps's own are taken by ps.
const TITLES: &[&str] = &[
    "%CPU", "%CUC", "%CUU", "%MEM", "AGID", "AGNI", "CGNAME", "CGROUPS", "CODE", "COMMAND", "DATA",
    "ELAPSED", "ENVIRON", "EXE", "Flags", "GID", "GROUP", "LOGID", "LXC", "NI", "NU", "OOMa",
    "OOMs", "P", "PGRP", "PID", "PPID", "PR", "PSS", "PSan", "PSfd", "PSsh", "RES", "RSS", "RSan",
    "RSfd", "RSlk", "RSsh", "RUID", "RUSER", "S", "SHR", "SID", "STARTED", "SUID", "SUPGIDS",
    "SUPGRPS", "SUSER", "SWAP", "TGID", "TIME", "TIME+", "TPGID", "TTY", "UID", "USED", "USER",
    "USS", "VIRT", "WCHAN", "ioR", "ioRop", "ioW", "ioWop", "nDRT", "nMaj", "nMin", "nTH",
    "nsCGROUP", "nsIPC", "nsMNT", "nsNET", "nsPID", "nsTIME", "nsUSER", "nsUTS", "vMj", "vMn",
    "Lc", "STAT", "VSZ", "%VSZ", "CPU",
];

/// Values of several words.
const WIDE: &[&str] = &["COMMAND", "ENVIRON", "STARTED", "CGROUPS"];

impl Format for Top {
    fn name(&self) -> &'static str {
        "top"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let is_title =
            |word: &[u8]| std::str::from_utf8(word).is_ok_and(|word| TITLES.contains(&word));
        let heading = titled(line, &is_title, &["PID", "TGID"], WIDE, Side::After)?;
        let own = ["PR", "VIRT", "RES", "SHR", "TIME+", "%VSZ"];
        // Without one of its own titles it may as well be ps's.
        own.iter().any(|title| crate::words::has_word(line, title)).then_some(heading)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Top};

    #[test]
    fn a_frame_ends_at_an_empty_line() {
        let head =
            b"    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND";
        let heading = Top.heading(head).unwrap();
        assert!(heading.ends_at_blank);
        let row = b"   4761 root      20   0    2464    904    812 S   0.0   0.1   0:00.00 sleep";
        assert_eq!(heading.row(row).unwrap().at, 3..7);
        for line in [&b"Tasks:  98 total,   1 running"[..], b"MiB Mem :   3934.6 total", b""] {
            assert!(heading.row(line).is_none() && Top.heading(line).is_none());
        }
    }
}
