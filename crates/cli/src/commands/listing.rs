//! What the lists of processes have in common: which of them are wanted, and how it went.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use whose_core::answer::Answer;
use whose_core::index::plan::{Filter, Plan, SortKey};
use whose_core::target::{Target, Typed, container};
use whose_fields::{Field, Needs};
use whose_kernel::Host;

use crate::args::Ps;
use crate::exit::{self, Usage, say, worst};
use crate::settings;

/// Seconds a list may take.
pub(super) const TIME: f64 = 30.0;

/// All targets: bare ones, and containers by their option.
///
/// # Errors
/// [`Usage`] for the first that is none.
pub(super) fn targets(args: &Ps) -> Result<Vec<Typed>> {
    let mut targets = settings::targets(&args.targets)?;
    targets.extend(args.container.iter().map(forced_container));
    Ok(targets)
}

fn forced_container(word: &OsString) -> Typed {
    let text = bstr::BStr::new(word.as_bytes());
    Typed { text: text.into(), target: Target::Container(container::short(text)) }
}

/// What is read, and of which processes.
///
/// # Errors
/// [`Usage`] for a user there is not.
pub(super) fn plan(
    host: &Host,
    args: &Ps,
    fields: &[&'static Field],
    sort: Vec<SortKey>,
    targeted: bool,
) -> Result<Plan> {
    let mut filters = Vec::new();
    if !args.kernel && !targeted {
        filters.push(Filter::NoKernelThreads);
    }
    if !args.user.is_empty() {
        let uid = |name: &String| {
            let number = name.parse().ok();
            let uid = host.uid_of(name.as_bytes()).or(number);
            uid.ok_or_else(|| Usage(format!("no user {name} in {}", host.shown(b"etc/passwd"))))
        };
        let uids: Result<Vec<u32>, Usage> = args.user.iter().map(uid).collect();
        filters.push(Filter::Uids(uids?));
    }
    if args.host_only {
        filters.push(Filter::HostOnly);
    }
    if args.containers_only {
        filters.push(Filter::ContainersOnly);
    }
    let columns = fields.iter().map(|f| f.id).collect();
    Ok(Plan { columns, sort, filters, also: Needs::NONE })
}

/// What is missing goes to stderr in one line; targets that lead nowhere get one each.
pub(super) fn conclude(summary: Option<String>, problems: &[Answer], strict: bool) -> u8 {
    for problem in problems {
        super::target::complain(problem);
    }
    let mut codes: Vec<u8> = problems.iter().map(Answer::exit).collect();
    if let Some(line) = summary {
        say(&line);
        codes.extend(strict.then_some(exit::PARTIAL));
    }
    worst(codes)
}
