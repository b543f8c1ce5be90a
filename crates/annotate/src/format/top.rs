//! `top -b`.

use std::ops::Range;

use super::Format;
use super::table::{Heading, Place, Side, titled};
use crate::words::words;

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

/// The title of the column of PIDs.
const PID: [&str; 3] = ["PID", "进程", "进程号"];
/// Columns of a header in another language.
const LEAST: usize = 6;
const MOST: usize = 64;

/// Values of several words.
const WIDE: &[&str] = &["COMMAND", "ENVIRON", "STARTED", "CGROUPS"];

impl Format for Top {
    fn name(&self) -> &'static str {
        "top"
    }

    fn heading(&self, line: &[u8]) -> Option<Heading> {
        let is_title =
            |word: &[u8]| std::str::from_utf8(word).is_ok_and(|word| TITLES.contains(&word));
        let Some(heading) = titled(line, &is_title, &["PID", "TGID"], WIDE, Side::After) else {
            return translated(line);
        };
        let own = ["PR", "VIRT", "RES", "SHR", "TIME+", "%VSZ"];
        // Without one of its own titles it may as well be ps's.
        own.iter().any(|title| crate::words::has_word(line, title)).then_some(heading)
    }
}

/// The header in another language. Its catalogues (procps-ng 4.0) translate any title but these three, and
/// Chinese that of the PID too.
fn translated(line: &[u8]) -> Option<Heading> {
    const SAME: [&[u8]; 3] = [b"PR", b"NI", b"%CPU"];
    let titles: Vec<_> = words(line).take(MOST).collect();
    let is = |name: &[u8]| titles.iter().any(|t| line[t.clone()] == *name);
    let is_pid = |t: &Range<usize>| PID.iter().any(|pid| line[t.clone()] == *pid.as_bytes());
    let at = titles.iter().position(is_pid)?;
    let all = SAME.iter().all(|name| is(name)) && titles.len() > LEAST;
    if !all || titles.iter().any(|t| line[t.clone()].iter().any(u8::is_ascii_digit)) {
        return None;
    }
    // What comes before it may be of several words, as its title does not tell; and wide characters are
    // not counted as such, so that a title of them stands elsewhere than its values.
    let is_loose = at == 0;
    let place = if is_loose { Place::Word(0) } else { Place::Column };
    Some(Heading { is_loose, ..Heading::new(line, titles[at].clone(), place, Side::After) })
}

#[cfg(test)]
mod tests {
    use super::{Format, Top};

    #[test]
    fn other_languages_have_other_titles() {
        for head in [
            "    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     ZEIT+ BEFEHL",
            "    PID UTIL.     PR  NI    VIRT    RES    SHR S  %CPU  %MEM    TEMPS+ COM.",
            "    PID UŻYTK.    PR  NI    WIRT    REZ    WSP S  %CPU  %PAM     CZAS+ KOMENDA",
            "    PID КОР.      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND",
            "     进程号 USER      PR  NI    VIRT    RES    SHR    %CPU  %MEM     TIME+ COMMAND",
        ] {
            let heading = Top.heading(head.as_bytes()).unwrap();
            let row =
                b"   4761 root      20   0    2464    904    812 S   0,0   0,1   0:00.00 sleep";
            assert_eq!(heading.row(row).unwrap().at, 3..7, "{head}");
        }
        for none in ["PID X PR NI %CPU", "PID 1 PR NI %CPU a b c", "the PID and PR NI %CPUs are"] {
            assert!(Top.heading(none.as_bytes()).is_none(), "{none}");
        }
    }

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
