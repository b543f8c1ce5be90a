//! What Flatpak writes down of a running instance, in `<runtime directory>/.flatpak/<instance>`: `info`, a key
//! file, and `bwrapinfo.json` of bubblewrap's (flatpak common/flatpak-run.c, flatpak-instance.c).

use bstr::{BString, ByteSlice};
use serde::Deserialize;

use super::json;

/// Largest key file taken, bytes.
pub const CAP: usize = 1 << 20;

/// An instance, as far as its key file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// The application's id; none of a runtime that was called alone.
    pub application: Option<BString>,
    /// The instance's own id.
    pub id: Option<BString>,
    /// The architecture and the branch that the application was installed of.
    pub arch: Option<BString>,
    /// See `arch`.
    pub branch: Option<BString>,
    /// The commit that is deployed.
    pub commit: Option<BString>,
}

impl Instance {
    /// The application as Flatpak refers to it, without the word `app`: `ID/ARCH/BRANCH`.
    #[must_use]
    pub fn reference(&self) -> Option<BString> {
        let parts = [self.application.as_ref()?, self.arch.as_ref()?, self.branch.as_ref()?];
        Some(bstr::join("/", parts).into())
    }
}

/// Parses a key file. Lines that are none are left out.
#[must_use]
pub fn parse(bytes: &[u8]) -> Instance {
    let (mut group, mut instance) = (&b""[..], Instance::default());
    for line in bytes.lines().map(<[u8]>::trim_ascii) {
        if let Some(name) = line.strip_prefix(b"[").and_then(|l| l.strip_suffix(b"]")) {
            group = name;
            continue;
        }
        let Some((key, value)) = line.split_once_str("=") else { continue };
        let place = match (group, key.trim_ascii()) {
            (b"Application", b"name") => &mut instance.application,
            (b"Instance", b"instance-id") => &mut instance.id,
            (b"Instance", b"arch") => &mut instance.arch,
            (b"Instance", b"branch") => &mut instance.branch,
            (b"Instance", b"app-commit") => &mut instance.commit,
            _ => continue,
        };
        let value = value.trim_ascii();
        *place = (!value.is_empty()).then(|| value.into());
    }
    instance
}

/// The PID of the first process in the sandbox, by `bwrapinfo.json`.
///
/// # Errors
/// What is wrong with it.
pub fn child(bytes: &[u8]) -> Result<Option<u32>, String> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(rename = "child-pid")]
        child_pid: Option<u32>,
    }
    let info: Info = json::parse(bytes)?;
    Ok(info.child_pid.filter(|pid| *pid > 0))
}

#[cfg(test)]
mod tests {
    use super::{child, parse};

    #[test]
    fn keys_count_in_their_groups() {
        let instance = parse(
            b"[Application]\nname=org.lab.App\nruntime=runtime/org.lab.Platform/x86_64/23\n\n\
              [Instance]\ninstance-id=2347861950\nname=no\nbranch = stable\narch=x86_64\n\
              app-commit=0a1b\nrubbish\n[Context]\nbranch=other\n",
        );
        assert_eq!(instance.reference().unwrap(), "org.lab.App/x86_64/stable");
        assert_eq!(
            (instance.id.unwrap(), instance.commit.unwrap()),
            ("2347861950".into(), "0a1b".into())
        );
        assert_eq!(parse(b"name=x\n[Instance]\narch=\n"), Default::default());
    }

    #[test]
    fn the_first_process() {
        assert_eq!(child(br#"{"child-pid": 4321, "mnt-namespace": 1}"#), Ok(Some(4321)));
        assert_eq!(child(br#"{"child-pid": 0}"#), Ok(None));
        assert!(child(b"{").is_err());
    }
}
