//! From the object in this binary to a running iterator.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::Object;
use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::generated::bpf_insn;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::unavailable::Unavailable;
use crate::error::Class;
use crate::host::Host;
use crate::parse;
use crate::seam::bpf::{self, Program};

/// Where the kernel describes its types, beneath the root.
pub(super) const BTF: &[u8] = b"sys/kernel/btf/vmlinux";
/// The largest that is read: today's have 5 to 12 MB.
const LARGEST: usize = 64 << 20;

/// The bytes begin where a number may, which the object's reader asks for.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

const OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/tasks.bpf.o"));

/// The structures whose fields the programs read.
const STRUCTS: &[&str] = &[
    "bpf_array",
    "bpf_iter__task",
    "bpf_iter_meta",
    "bpf_map_memory",
    "cgroup",
    "cred",
    "css_set",
    "file",
    "inode",
    "kernfs_node",
    "mm_rss_stat",
    "mm_struct",
    "mnt_namespace",
    "net",
    "ns_common",
    "nsproxy",
    "percpu_counter",
    "pid",
    "pid_namespace",
    "prev_cputime",
    "sched_entity",
    "signal_struct",
    "super_block",
    "task_io_accounting",
    "task_struct",
    "tty_driver",
    "tty_struct",
    "upid",
    "user_namespace",
    "vtime",
];

/// The programs, by their names in the C source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Processes,
    ProcessesRss,
    ProcessesRssSum,
    Usages,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::ProcessesRss => "processes_rss",
            Self::ProcessesRssSum => "processes_rss_sum",
            Self::Usages => "usages",
        }
    }
}

/// The object, made to fit this kernel.
pub(super) struct Loader {
    object: Object,
    target: u32,
    /// Whether the kernel counts resident pages per CPU (6.2).
    pub(super) counts_per_cpu: bool,
    /// Whether maps and programs count as locked memory of the user (before 5.11).
    locks_memory: bool,
}

impl Loader {
    /// Reads the kernel's BTF at `path` beneath the root and relocates the object by it.
    pub(super) fn new(host: &Host, path: &[u8]) -> Result<Self, Unavailable> {
        let bytes = host.root().read(path, LARGEST).map_err(Unavailable::NoBtf)?;
        let shown = || host.shown(path);
        let excerpt = parse::btf::parse(&bytes, STRUCTS, "bpf_iter_task")
            .map_err(|m| Unavailable::NoBtf(m.at(shown())))?;
        drop(bytes);
        let target = excerpt.function.ok_or(Unavailable::TooOld)?;
        let refused = |e: &dyn std::error::Error| Unavailable::Refused(chain(e));
        let mut object = Object::parse(&OBJECT.0).map_err(|e| refused(&e))?;
        let btf = Btf::parse(&excerpt.bytes, object.endianness).map_err(|e| refused(&e))?;
        object.relocate_btf(&btf).map_err(|e| refused(&e))?;
        let has = |name: &str| excerpt.found.iter().any(|found| found == name);
        let (counts_per_cpu, locks_memory) = (!has("mm_rss_stat"), has("bpf_map_memory"));
        Ok(Self { object, target, counts_per_cpu, locks_memory })
    }

    /// Loads one program, and starts its iterator. The program ends with the descriptor.
    pub(super) fn start(&mut self, name: Name) -> Result<OwnedFd, Unavailable> {
        let with_callback = name == Name::ProcessesRssSum;
        let map = if with_callback { Some(self.with_memory(bpf::per_cpu_map)?) } else { None };
        let linked = self.linked(name, map.as_ref().map(AsFd::as_fd))?;
        let own = if with_callback { Some(self.own_btf()?) } else { None };
        let functions = own.as_ref().map(|btf| (btf.as_fd(), &linked.info[..], linked.each));
        let instructions = &linked.instructions[..];
        let program = Program { instructions, target: self.target, functions };
        let loaded = self.with_memory(|| bpf::load(&program, &mut []));
        let loaded = loaded.map_err(|e| match e {
            Unavailable::Refused(why) => Unavailable::Refused(objection(&program).unwrap_or(why)),
            other => other,
        })?;
        bpf::iterate(loaded.as_fd()).map_err(of_errno)
    }

    /// A program's instructions with its callbacks and its map put in.
    fn linked(&self, name: Name, map: Option<BorrowedFd<'_>>) -> Result<Linked, Unavailable> {
        let refused = |e: &dyn std::error::Error| Unavailable::Refused(chain(e));
        let mut object = self.object.clone();
        // The reader takes all programs apart, and all maps that any of them has.
        object.programs.retain(|own, _| own == name.text());
        let sections: HashSet<usize> =
            object.functions.keys().map(|(section, _)| *section).collect();
        let fd = map.map_or(-1, |map| map.as_raw_fd());
        let maps = object.maps.clone();
        let maps = maps.iter().map(|(name, map)| (name.as_str(), fd, map));
        object.relocate_maps(maps, &sections).map_err(|e| refused(&e))?;
        object.relocate_calls(&sections).map_err(|e| refused(&e))?;
        let missing = || Unavailable::Refused(format!("the object has no `{}`", name.text()));
        let program = object.programs.get(name.text()).ok_or_else(missing)?;
        let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
        Ok(Linked {
            instructions: function.instructions.clone(),
            info: function.func_info.func_info_bytes(),
            each: u32::try_from(function.func_info_rec_size).unwrap_or(0),
        })
    }

    /// The object's own BTF, which tells the kernel of the callback's type. Only kernels from 6.2 on
    /// are given it, and they understand all of it.
    fn own_btf(&mut self) -> Result<OwnedFd, Unavailable> {
        let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let fixed = self.object.fixup_and_sanitize_btf(&features);
        let bytes = match fixed {
            Ok(Some(btf)) => btf.to_bytes(),
            Ok(None) => return Err(Unavailable::Refused("the object has no BTF".to_owned())),
            Err(e) => return Err(Unavailable::Refused(chain(&e))),
        };
        self.with_memory(|| bpf::load_btf(&bytes))
    }

    /// Where what others have loaded counts as this user's locked memory too, the limit is raised for
    /// this one call.
    fn with_memory(
        &self,
        call: impl Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Unavailable> {
        match call() {
            Err(Errno::PERM) if self.locks_memory => {}
            other => return other.map_err(of_errno),
        }
        let before = getrlimit(Resource::Memlock);
        if before.current.is_none() {
            return Err(Unavailable::Forbidden);
        }
        let unlimited = Rlimit { current: None, maximum: None };
        if setrlimit(Resource::Memlock, unlimited).is_err() {
            return Err(Unavailable::Memlock);
        }
        let again = call();
        let restored = setrlimit(Resource::Memlock, before);
        restored.and(again).map_err(of_errno)
    }
}

/// A program ready to be loaded.
struct Linked {
    instructions: Vec<bpf_insn>,
    /// Where its functions begin, `each` bytes a function.
    info: Vec<u8>,
    each: u32,
}

/// Whether kernel lockdown keeps programs from kernel memory; no file, no lockdown.
pub(super) fn is_locked_down(host: &Host) -> bool {
    let text = host.root().read(b"sys/kernel/security/lockdown", 4096);
    match text {
        Ok(text) => memchr::memmem::find(&text, b"[confidentiality]").is_some(),
        Err(e) => e.class == Class::Malformed,
    }
}

fn of_errno(errno: Errno) -> Unavailable {
    match errno {
        Errno::PERM => Unavailable::Forbidden,
        Errno::NOSYS => Unavailable::TooOld,
        other => Unavailable::Refused(std::io::Error::from(other).to_string()),
    }
}

/// The verifier's reason, its log's last line but the statistics.
fn objection(program: &Program<'_>) -> Option<String> {
    let mut log = vec![0; 1 << 20];
    let errno = bpf::load(program, &mut log).err()?;
    let end = memchr::memchr(0, &log).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let said = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    let line = text.lines().rev().find(said)?;
    let printable = line.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    Some(format!("{}: {printable}", std::io::Error::from(errno)))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
