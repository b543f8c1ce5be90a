//! `/etc/passwd` (passwd(5)): names of user ids, without NSS.

use bstr::BString;

use super::decimal32;

/// The entries' (uid, name) in file order. Lines that are no entries (comments, NIS `+`) are passed
/// over, as the C library does. The first entry for a uid is the one that names it.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<(u32, BString)> {
    bytes.split(|b| *b == b'\n').filter_map(entry).collect()
}

/// The entries' (uid, home directory), as [`parse`] takes them. An entry without one is left out.
#[must_use]
pub fn homes(bytes: &[u8]) -> Vec<(u32, BString)> {
    let home = |line: &[u8]| {
        let (uid, _) = entry(line)?;
        let home = line.split(|b| *b == b':').nth(5).filter(|h| h.starts_with(b"/"))?;
        Some((uid, home.into()))
    };
    bytes.split(|b| *b == b'\n').filter_map(home).collect()
}

fn entry(line: &[u8]) -> Option<(u32, BString)> {
    let mut fields = line.split(|b| *b == b':');
    let name = fields.next().filter(|n| !n.is_empty() && !b"#+-".contains(&n[0]))?;
    let uid = fields.nth(1).and_then(decimal32)?;
    Some((uid, name.into()))
}

#[cfg(test)]
mod tests {
    use super::{homes, parse};

    #[test]
    fn reads_entries_and_passes_over_the_rest() {
        let text = b"root:x:0:0:root:/root:/bin/bash\n# c:x:1:\n+::::::\nalice:x:1000:1000::/home/alice:/bin/sh\n\nbad:x\nx:y:z:w\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], (0, "root".into()));
        assert_eq!(entries[1], (1000, "alice".into()));
        let homes = homes(text);
        assert_eq!(homes, [(0, "/root".into()), (1000, "/home/alice".into())]);
    }
}
