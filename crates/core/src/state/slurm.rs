//! What slurmd's spool directory shows of the steps that run on a node: a socket of slurmstepd's each,
//! `<node>_<job>.<step>`, a third number after it for a part of a heterogeneous job (slurm
//! src/common/stepd_api.c). What a job is called and whose it is is in no file there: the credentials that
//! `cred_state` keeps are numbers and times, and the script of a batch job says what its user asked for, which
//! the command line may have overruled.

use bstr::{BString, ByteSlice};
use whose_kernel::parse;

/// Job and step that a socket's name has.
#[must_use]
pub fn parse_socket(name: &[u8]) -> Option<(u32, u32)> {
    let (node, rest) = name.rsplit_once_str("_")?;
    let mut numbers = rest.split_str(".").map(parse::decimal32);
    let (job, step) = (numbers.next()??, numbers.next()??);
    let part = numbers.next();
    let sound = !node.is_empty() && part != Some(None) && numbers.next().is_none();
    sound.then_some((job, step))
}

/// `SlurmdSpoolDir` in `slurm.conf`, if it is a whole path: it may name the node (`%n`, `%h`), which is not told.
#[must_use]
pub fn spool_dir(conf: &[u8]) -> Option<BString> {
    conf.lines().map(<[u8]>::trim_ascii).find_map(|line| {
        let (key, value) = line.split_once_str("=")?;
        let is_it = key.trim_ascii().eq_ignore_ascii_case(b"SlurmdSpoolDir");
        let path = value.trim_ascii().split_str("#").next()?.trim_ascii();
        (is_it && path.starts_with(b"/") && !path.contains(&b'%')).then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::{parse_socket, spool_dir};

    #[test]
    fn sockets_of_steps() {
        assert_eq!(parse_socket(b"node_1_48213.0"), Some((48213, 0)));
        assert_eq!(parse_socket(b"n1_7.4294967291"), Some((7, 4_294_967_291)));
        assert_eq!(parse_socket(b"n1_7.0.1"), Some((7, 0)));
        for none in ["cred_state", "n1_7", "_7.0", "n1_7.x", "n1_7.0.x", "n1_7.0.1.2", "n1_-7.0"] {
            assert_eq!(parse_socket(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn the_directory_by_the_configuration() {
        let of = |text: &str| spool_dir(text.as_bytes()).map(|dir| dir.to_string());
        assert_eq!(
            of("ClusterName=x\nslurmdspooldir = /srv/s # here\n").as_deref(),
            Some("/srv/s")
        );
        assert_eq!(of("SlurmdSpoolDir=/var/spool/slurmd.%n\n"), None);
        assert_eq!(of("#SlurmdSpoolDir=/a\n"), None);
        assert_eq!(of("SlurmdSpoolDir=a\n"), None);
    }
}
