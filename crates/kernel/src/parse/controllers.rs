//! `/proc/cgroups` (cgroups(7)): the controllers, and how many cgroups their hierarchies have.

use bstr::BString;

use super::{decimal, decimal32, words};
use crate::error::Malformed;

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// As in `/proc/PID/cgroup`.
    pub name: BString,
    /// The v1 hierarchy that it is mounted in; 0 when it is in none, or in cgroup v2.
    pub hierarchy: u32,
    /// The cgroups of its hierarchy, the root counted. One that was removed counts for some time.
    pub cgroups: u64,
}

/// Parses the whole file.
///
/// # Errors
/// [`Malformed`] when a line has no three fields, or a bad number.
pub fn parse(bytes: &[u8]) -> Result<Vec<Controller>, Malformed> {
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty() && !l.starts_with(b"#"));
    lines.map(controller).collect()
}

fn controller(line: &[u8]) -> Result<Controller, Malformed> {
    let mut fields = words(line);
    // No name begins as the heading does.
    let name = fields.next().filter(|name| !name.starts_with(b"#"));
    let name = name.ok_or(Malformed("a controller has no name"))?;
    let hierarchy = fields.next().and_then(decimal32);
    let cgroups = fields.next().and_then(decimal);
    Ok(Controller {
        name: name.into(),
        hierarchy: hierarchy.ok_or(Malformed("a controller has no hierarchy"))?,
        cgroups: cgroups.ok_or(Malformed("a controller has no number of cgroups"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_every_line_but_the_heading() {
        let text = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
cpuset\t3\t1\t1\nmemory\t4\t67\t1\nnet_cls\t0\t3\t0\n";
        let all = parse(text).unwrap();
        let told: Vec<_> =
            all.iter().map(|c| (c.name.as_slice(), c.hierarchy, c.cgroups)).collect();
        assert_eq!(told, [(&b"cpuset"[..], 3, 1), (b"memory", 4, 67), (b"net_cls", 0, 3)]);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn refuses_what_is_cut_short_or_no_number() {
        for bad in ["cpu", "cpu 1", "cpu x 1 1", "cpu 1 x 1", "cpu -1 1 1", " ", " #cpu 1 1"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
