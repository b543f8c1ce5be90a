//! What systemd-machined keeps of a machine: `/run/systemd/machines/<name>`, lines of `KEY=value`
//! (systemd src/machine/machine.c). Anybody may read it.

use bstr::{BString, ByteSlice};
use whose_kernel::parse::decimal32;

/// Largest file taken, bytes.
pub const CAP: usize = 64 << 10;

/// A machine, as far as it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: BString,
    /// The unit that it is in: a scope, or a service.
    pub unit: BString,
    /// Who registered it: `systemd-nspawn`, `libvirt-lxc`.
    pub service: BString,
    /// The directory of its root.
    pub root: Option<BString>,
    /// PID of its first process.
    pub leader: Option<u32>,
    /// `container` or `vm`.
    pub class: BString,
    /// When it was registered, milliseconds since 1970.
    pub registered: Option<i64>,
}

/// Parses the file. Keys that are not known are left out, as those of later releases are.
#[must_use]
pub fn parse(bytes: &[u8]) -> Machine {
    let mut machine = Machine::default();
    for line in bytes.lines() {
        let Some((key, value)) = line.split_once_str("=") else { continue };
        let value = plain(value);
        match key {
            b"NAME" => machine.name = value,
            b"SCOPE" => machine.unit = value,
            b"SERVICE" => machine.service = value,
            b"ROOT" => machine.root = Some(value).filter(|path| path.starts_with(b"/")),
            b"LEADER" => machine.leader = decimal32(&value).filter(|pid| *pid > 0),
            b"CLASS" => machine.class = value,
            b"REALTIME" => {
                let micros: Option<i64> = value.to_str().ok().and_then(|text| text.parse().ok());
                machine.registered = micros.map(|micros| micros.div_euclid(1000));
            }
            _ => {}
        }
    }
    machine
}

/// A value without quotes, and without the backslash before a byte that a shell would take for its own.
fn plain(value: &[u8]) -> BString {
    let inner = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    let mut plain = Vec::new();
    let mut bytes = inner.unwrap_or(value).iter();
    while let Some(byte) = bytes.next() {
        // A unit's name has `\x2d` in it, which stays.
        let escaped = || bytes.clone().next().filter(|next| b"\"\\`$".contains(next));
        match (byte, escaped()) {
            (b'\\', Some(next)) => {
                plain.push(*next);
                bytes.next();
            }
            _ => plain.push(*byte),
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_machined_writes() {
        let read = parse(
            b"# This is private data. Do not parse.\nNAME=lab-nsp2\n\
              SCOPE=\"machine-lab\\\\x2dnsp2.scope\"\nSERVICE=systemd-nspawn\nROOT=/m/lab\n\
              ID=0123\nLEADER=512\nCLASS=container\nREALTIME=1795657260431999\nNETIF=4\nx\n",
        );
        assert_eq!((&read.name[..], &read.service[..]), (&b"lab-nsp2"[..], &b"systemd-nspawn"[..]));
        assert_eq!(read.unit, "machine-lab\\x2dnsp2.scope");
        assert_eq!((read.leader, read.registered), (Some(512), Some(1_795_657_260_431)));
        assert_eq!(read.root.unwrap(), "/m/lab");
        let bare = parse(b"SCOPE=machine-a\\x2db.scope\nLEADER=0\nREALTIME=x\n");
        assert_eq!(bare.unit, "machine-a\\x2db.scope");
        assert_eq!((bare.leader, bare.registered), (None, None));
    }
}
