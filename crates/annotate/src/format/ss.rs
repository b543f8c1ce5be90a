//! `ss -p` of iproute2.

use super::{Around, Claim, Format, Mention};
use crate::words::leading_pid;

pub(super) struct Ss;

impl Format for Ss {
    fn name(&self) -> &'static str {
        "ss"
    }

    fn line(&self, line: &[u8], _: Around<'_>, found: &mut Vec<Mention>) -> Claim {
        let Some(start) = memchr::memmem::find(line, b"users:((") else { return Claim::No };
        let mut at = start + 7;
        // `("sshd",pid=4761,fd=3),(...)`: a name may have anything in it, so they are read in order.
        while line.get(at) == Some(&b'(') {
            let Some(pid) = memchr::memmem::find(&line[at..], b"\",pid=") else { break };
            let digits = at + pid + 6;
            let Some((number, length)) = leading_pid(&line[digits..]) else { break };
            found.push(Mention::pid(number, digits..digits + length));
            let Some(end) = memchr::memchr(b')', &line[digits..]) else { break };
            at = digits + end + 1 + usize::from(line.get(digits + end + 1) == Some(&b','));
        }
        Claim::Shared
    }
}
