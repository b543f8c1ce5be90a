//! journalctl and coredumpctl, of journals made for the test.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use whose_testkit::cases::Cases;

use crate::World;

const MAKE: &str = "/lib/systemd/systemd-journal-remote";

pub(super) fn run(world: &World, cases: &mut Cases) {
    cases.case_with(&["journalctl", MAKE], "journalctl, short and json", || journal(world));
    cases.case_with(&["coredumpctl", MAKE], "coredumpctl list", || core_dumps(world));
}

/// A journal of these records, in a directory of its own.
fn made(export: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (from, file) = (at("export"), at("made.journal"));
    std::fs::write(&from, export).expect("a file");
    let made = std::process::Command::new(MAKE).args(["-o", &file, &from]).output();
    let made = made.expect("systemd-journal-remote");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (dir, file)
}

/// Microseconds since 1970, and the id of this boot.
fn now() -> (u64, String) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = u64::try_from(since_epoch.as_micros()).expect("microseconds");
    (now, boot.trim().replace('-', ""))
}

/// Who dumped core has ended: who bears the PID today is another.
fn core_dumps(world: &World) {
    let ((at, boot), pid) = (now(), &world.pids[0]);
    // The message id by which coredumpctl knows its records (systemd's sd-messages.h).
    let (_dir, file) = made(&format!(
        "__REALTIME_TIMESTAMP={at}\n__MONOTONIC_TIMESTAMP=1000000\n_BOOT_ID={boot}\n_PID=77\n\
         MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1\nCOREDUMP_PID={pid}\nCOREDUMP_UID=0\n\
         COREDUMP_GID=0\nCOREDUMP_SIGNAL=11\nCOREDUMP_TIMESTAMP={at}\nCOREDUMP_EXE=/bin/sh\n\
         COREDUMP_COMM=sh\n_HOSTNAME=host\n_TRANSPORT=journal\nMESSAGE=dumped core\n\n"
    ));
    let words = ["coredumpctl", "--no-pager", "--file", &file, "list"];
    let text = world.annotate(&words).stdout_str();
    let row = text.lines().find(|l| l.contains("SIGSEGV")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains(&format!(" {pid} (gone) ")), "{text}");
    assert!(text.lines().next().is_some_and(|head| head.contains(" PID OWNER ")), "{text}");
}

/// Records of this boot by a container's process lead to the container; those of the same PID in another
/// boot, or before the process was there, do not.
fn journal(world: &World) {
    let (now, boot) = now();
    let (pid, own) = (&world.pids[0], std::process::id());
    let mut export = String::new();
    for (at, boot, pid, said) in [
        (now - 86_400_000_000, "0123456789abcdef0123456789abcdef", pid.clone(), "another boot"),
        (now - 3_600_000_000, boot.as_str(), pid.clone(), "an hour ago"),
        (now, boot.as_str(), pid.clone(), "of the container"),
        (now, boot.as_str(), own.to_string(), "of the host"),
    ] {
        write!(
            export,
            "__REALTIME_TIMESTAMP={at}\n__MONOTONIC_TIMESTAMP=1000000\n_BOOT_ID={boot}\n_PID={pid}\n\
             _COMM=sh\n_HOSTNAME=host\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=sh\nPRIORITY=6\n\
             MESSAGE=said {said}\n\n"
        )
        .expect("a string");
    }
    let (_dir, file) = made(&export);
    let journalctl = |format: &str| {
        let words = ["journalctl", "--no-pager", "--file", &file, "-o", format];
        world.annotate(&words).stdout_str()
    };
    let named = |text: &str, said: &str| {
        let line = text.lines().find(|l| l.contains(&format!("said {said}")));
        line.unwrap_or_else(|| panic!("{said}\n{text}")).contains(&world.writer)
    };
    for format in ["short", "short-iso", "json"] {
        let text = journalctl(format);
        assert!(named(&text, "of the container"), "{format}\n{text}");
        for said in ["an hour ago", "another boot", "of the host"] {
            assert!(!named(&text, said), "{format}\n{text}");
        }
    }
}
