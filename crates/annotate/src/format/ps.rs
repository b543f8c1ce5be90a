//! `ps` of procps and of busybox, in all its forms: whatever columns it was asked for.

use super::Format;
use super::table::{Heading, Side, titled};

pub(super) struct Ps;

/// The titles that ps has for its columns: those of procps-ng 3.3 to 4.0 (ps(1), STANDARD FORMAT
/// SPECIFIERS), of busybox and of toybox.
const TITLES: &[&str] = &[
    "%CPU",
    "%MEM",
    "ADDR",
    "AG_ID",
    "AGID",
    "AGNI",
    "AUTOGROUP",
    "BLKIN",
    "BLKOUT",
    "BLOCKED",
    "C",
    "CAUGHT",
    "CGNAME",
    "CGROUP",
    "CGROUPNS",
    "CLS",
    "CMD",
    "COMMAND",
    "CP",
    "CPU",
    "CPUID",
    "DEVCG",
    "DOCKER",
    "DRS",
    "DSIZ",
    "EGID",
    "EGROUP",
    "EIP",
    "ELAPSED",
    "ENVIRON",
    "ESP",
    "EUID",
    "EUSER",
    "EXE",
    "F",
    "FDS",
    "FGID",
    "FGROUP",
    "FUID",
    "FUSER",
    "GID",
    "GROUP",
    "GROUPS",
    "HTPRV",
    "HTSHR",
    "IGNORED",
    "INBLK",
    "IPCNS",
    "JOBC",
    "LABEL",
    "LIM",
    "LSESSION",
    "LSTART",
    "LUID",
    "LWP",
    "LXC",
    "MACHINE",
    "MAJFL",
    "MAJFLT",
    "M_DRS",
    "M_SIZE",
    "M_SWAP",
    "M_TRS",
    "MINFL",
    "MINFLT",
    "MNTNS",
    "NETNS",
    "NI",
    "NLWP",
    "NUMA",
    "NWCHAN",
    "OOM",
    "OOMADJ",
    "OUBLK",
    "OUID",
    "P",
    "PENDING",
    "PGID",
    "PGRP",
    "PID",
    "PIDNS",
    "POL",
    "PPID",
    "PRI",
    "PSR",
    "PSS",
    "RBYTES",
    "RCHAR",
    "RGID",
    "RGROUP",
    "ROPS",
    "RS",
    "RSAN",
    "RSFD",
    "RSS",
    "RSSH",
    "RSZ",
    "RTPRIO",
    "RUID",
    "RUSER",
    "S",
    "SCH",
    "SEAT",
    "SESS",
    "SESSION",
    "SGI_P",
    "SGID",
    "SGROUP",
    "SID",
    "SIGCATCH",
    "SIGIGNORE",
    "SIGMASK",
    "SIGNAL",
    "SIZE",
    "SLICE",
    "SPID",
    "STACKP",
    "STAR",
    "START",
    "STARTED",
    "STAT",
    "STATE",
    "STIME",
    "SUID",
    "SUPGID",
    "SUPGRP",
    "SUSER",
    "SVGID",
    "SVGROUP",
    "SVUID",
    "SVUSER",
    "SZ",
    "TGID",
    "THCNT",
    "TID",
    "TIME",
    "TIMENS",
    "TNAME",
    "TPGID",
    "TRS",
    "TRSS",
    "TSIG",
    "TSIZ",
    "TT",
    "TTY",
    "UID",
    "UNIT",
    "UNICE",
    "UPR",
    "UPRI",
    "USER",
    "USERNS",
    "USS",
    "UTSNS",
    "UUNIT",
    "VSIZE",
    "VSZ",
    "WBYTES",
    "WCBYTES",
    "WCHAN",
    "WCHAR",
    "WOPS",
    "WP",
];

/// Those whose values may be several words: commands, dates, labels of AppArmor.
const WIDE: &[&str] = &[
    "CMD", "COMMAND", "ENVIRON", "EXE", "LABEL", "LSTART", "START", "STARTED", "UNIT", "UUNIT",
    "SLICE", "GROUPS", "SUPGRP", "CGROUP", "CGNAME",
];

impl Format for Ps {
    fn name(&self) -> &'static str {
        "ps"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let is_title =
            |word: &[u8]| std::str::from_utf8(word).is_ok_and(|word| TITLES.contains(&word));
        // A thread belongs to whom its process does, and the process is what one looks for.
        let heading =
            titled(line, &is_title, &["PID", "TGID", "LWP", "TID", "SPID"], WIDE, Side::After)?;
        let heading = Heading { ends_at_blank: false, ..heading };
        // busybox sets its numbers five wide below a title at the left edge.
        if heading.title == (0..3) && line.starts_with(b"PID   ") {
            return Some(Heading { title: 0..5, columns: (0, 5), ..heading });
        }
        Some(heading)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Ps};

    fn pid(head: &str, row: &str) -> Option<String> {
        let heading = Ps.heading(head.as_bytes())?;
        Some(row[heading.row(row.as_bytes())?.at].to_owned())
    }

    #[test]
    fn every_form_has_its_pid() {
        let forms = [
            (
                "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND",
                "root        4761  0.0  0.1   2464   904 ?        Ss   Nov25   0:00 sleep 7",
            ),
            (
                "UID          PID    PPID  C STIME TTY          TIME CMD",
                "root        4761       1  0 01:33 ?        00:00:00 sleep 7",
            ),
            (
                "   PPID     PID    PGID     SID TTY        TPGID STAT   UID   TIME COMMAND",
                "      1    4761    4761    4761 ?             -1 Ss       0   0:00  \\_ sleep 7",
            ),
            (
                "F   UID     PID    PPID PRI  NI    VSZ   RSS WCHAN  STAT TTY        TIME COMMAND",
                "4     0    4761       1  20   0   2464   904 hrtime Ss   ?          0:00 sleep 7",
            ),
            (
                "UID          PID    PPID     LWP  C NLWP STIME TTY          TIME CMD",
                "root        4761       1    4762  0    2 01:33 ?        00:00:00 sleep 7",
            ),
            ("  PID USER       TIME  COMMAND", " 4761 root       0:00 sleep 7"),
            ("PID   USER     TIME  COMMAND", " 4761 root      0:00 sleep 7"),
            ("                 STARTED     PID COMMAND", "Wed Nov 25 01:33:06 2026    4761 sleep"),
            ("COMMAND                         PID", "tmux: server                   4761"),
            ("    PID", "   4761"),
        ];
        for (head, row) in forms {
            assert_eq!(pid(head, row).as_deref(), Some("4761"), "{head}");
        }
    }

    #[test]
    fn prose_is_no_header() {
        for line in ["PID of the day", "the PID", "TIME S", "PID:", ""] {
            assert!(Ps.heading(line.as_bytes()).is_none(), "{line}");
        }
    }
}
