//! What the kernel says about its own start.

use whose_kernel::parse::boot;

pub(crate) fn btime(bytes: &[u8]) {
    if let Ok(seconds) = boot::parse_btime(bytes) {
        let text = format!("cpu 1 2\nbtime {seconds}\n");
        assert_eq!(boot::parse_btime(text.as_bytes()), Ok(seconds));
    }
}

pub(crate) fn uptime(bytes: &[u8]) {
    if let Ok(hundredths) = boot::parse_uptime(bytes) {
        let text = format!("{}.{:02} 0.00\n", hundredths / 100, hundredths % 100);
        assert_eq!(boot::parse_uptime(text.as_bytes()), Ok(hundredths));
    }
}

pub(crate) fn loadavg(bytes: &[u8]) {
    if let Ok(count) = boot::parse_task_count(bytes) {
        let text = format!("0.00 0.00 0.00 1/{count} 2\n");
        assert_eq!(boot::parse_task_count(text.as_bytes()), Ok(count));
    }
    if let Ok(pid) = boot::parse_newest_pid(bytes) {
        let text = format!("0.00 0.00 0.00 1/1 {pid}\n");
        assert_eq!(boot::parse_newest_pid(text.as_bytes()), Ok(pid));
    }
}

pub(crate) fn boot_id(bytes: &[u8]) {
    if let Ok(id) = boot::parse_boot_id(bytes) {
        assert_eq!(id.len(), 36);
        assert_eq!(bytes.trim_ascii(), id.as_bytes());
        assert_eq!(boot::parse_boot_id(id.as_bytes()), Ok(id));
    }
}
