//! Files of one process.

use std::fmt::Write;

use bstr::BString;
use whose_kernel::parse::{
    capabilities as capability_file, cmdline, io as io_file, stat as stat_file,
    status as status_file,
};

pub(crate) fn stat(bytes: &[u8]) {
    // It has its own way through the line and must not panic on any.
    let alone = stat_file::start_ticks(bytes);
    let Ok(stat) = stat_file::parse(bytes) else {
        return;
    };
    assert_eq!(alone, Some(stat.start_ticks));
    let mut text = format!("{} (", stat.pid).into_bytes();
    text.extend(stat.comm.iter());
    let rest = format!(
        ") {} {} 0 {} {} 0 {} 0 0 0 0 {} {} 0 0 0 {} {} 0 {} {} 0 0 0\n",
        char::from(stat.state),
        stat.ppid,
        stat.session,
        stat.tty_nr,
        stat.flags,
        stat.utime,
        stat.stime,
        stat.nice,
        stat.threads,
        stat.start_ticks,
        stat.vsize,
    );
    text.extend(rest.bytes());
    assert_eq!(stat_file::parse(&text), Ok(stat));
}

pub(crate) fn status(bytes: &[u8]) {
    let Ok(status) = status_file::parse(bytes) else {
        return;
    };
    let mut text = format!(
        "Name:\tx\nUid:\t{}\t{}\t0\t0\nGid:\t0\t{}\t0\t0\n",
        status.ruid, status.euid, status.egid
    );
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{key}:\t{value}");
        }
    };
    line("Tgid", status.tgid.map(|n| n.to_string()));
    line("PPid", status.ppid.map(|n| n.to_string()));
    line("Threads", status.threads.map(|n| n.to_string()));
    line("VmSize", status.vsize.map(|n| format!("{} kB", n / 1024)));
    line("VmRSS", status.rss.map(|n| format!("{} kB", n / 1024)));
    let pids = status.nspid.as_ref().map(|pids| {
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        pids.join("\t")
    });
    line("NSpid", pids);
    assert_eq!(status_file::parse(text.as_bytes()), Ok(status));
}

pub(crate) fn cmdline(bytes: &[u8]) {
    let arguments: Vec<BString> = cmdline::parse(bytes);
    let mut text = Vec::new();
    for argument in &arguments {
        assert!(!argument.contains(&0));
        text.extend(argument.iter());
        text.push(0);
    }
    assert_eq!(cmdline::parse(&text), arguments);
}

pub(crate) fn io(bytes: &[u8]) {
    if let Ok(io) = io_file::parse(bytes) {
        let text =
            format!("rchar: 1\nread_bytes: {}\nwrite_bytes: {}\n", io.read_bytes, io.write_bytes);
        assert_eq!(io_file::parse(text.as_bytes()), Ok(io));
    }
}

pub(crate) fn capabilities(bytes: &[u8]) {
    let Ok(set) = capability_file::parse(bytes) else { return };
    let text = format!("CapEff:\t{set:016x}\n");
    assert_eq!(capability_file::parse(text.as_bytes()), Ok(set));
}

pub(crate) fn children(bytes: &[u8]) {
    let Ok(pids) = whose_kernel::parse::children::parse(bytes) else {
        return;
    };
    assert!(pids.is_sorted() && pids.len() <= bytes.len());
    let text: String = pids.iter().map(|pid| format!("{pid} ")).collect();
    assert_eq!(whose_kernel::parse::children::parse(text.as_bytes()), Ok(pids));
}
