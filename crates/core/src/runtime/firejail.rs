//! Firejail: no cgroup of its own. A sandbox is known by the PID of the process that made it, its
//! ancestor; `/run/firejail/name/<pid>` has a name that was given to it (firejail src/firejail/run_files.c).

use bstr::BString;
use whose_kernel::Host;

use super::claim::{Claim, Subject};
use super::docker::{of_admin, open_all};
use super::{Jail, Runtime};
use crate::model::{Engine, OwnerKind};

/// See the module.
#[derive(Debug)]
pub(super) struct Firejail;

/// Where names are, and how long they may be.
const NAMES: &str = "run/firejail/name";
const LONGEST: usize = 4096;

impl Runtime for Firejail {
    fn engine(&self) -> Engine {
        Engine("firejail")
    }

    fn kind(&self) -> OwnerKind {
        OwnerKind::App
    }

    fn claim(&self, _subject: &Subject<'_>) -> Claim {
        Claim::NotMine
    }

    fn jailers(&self) -> &'static [&'static str] {
        &["firejail"]
    }

    fn jail(&self, host: &Host, pid: u32, _args: &[BString]) -> Jail {
        let names = of_admin(open_all(host, [NAMES.into()])).roots.pop();
        let text =
            names.and_then(|names| names.root.read(pid.to_string().as_bytes(), LONGEST).ok());
        let name =
            text.map(|text| BString::from(text.trim_ascii())).filter(|name| !name.is_empty());
        Jail { id: Some(pid.to_string().into()), name }
    }
}
