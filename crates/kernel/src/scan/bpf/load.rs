//! From the object in this binary to a running iterator.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::Object;
use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::generated::bpf_insn;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::unavailable::Unavailable;
use crate::error::{Class, Malformed, ReadError};
use crate::host::Host;
use crate::parse;
use crate::parse::btf::{Excerpt, Request};
use crate::seam::bpf::{self, Program};
use crate::seam::constant::Constant;

/// Where the kernel describes its types, beneath the root.
pub(super) const BTF: &[u8] = b"sys/kernel/btf/vmlinux";
/// The largest that is read: today's have 5 to 12 MB.
const LARGEST: usize = 64 << 20;
/// What a file is read further by when it is longer than it was said to be.
const GROWTH: usize = 64 << 10;

/// The bytes begin where a number may, which the object's reader asks for.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

const OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/tasks.bpf.o"));

/// The iterator's function, whose arguments lead to nearly all that the programs read; and the one
/// that makes a pointer untrusted (6.2).
const FUNCTIONS: &[&str] = &["bpf_iter_task", "bpf_rdonly_cast"];
/// What else the programs read.
const STRUCTS: &[&str] = &["bpf_array"];

// The numbers in the C source that are exchanged for others.
const UNTRUSTED: i32 = 0x5eed_0001;
const TASK_STRUCT: i32 = 0x5eed_0002;
const WITH_RSS: i32 = 0x5eed_0003;
const NEWEST: i32 = 0x5eed_0004;

// Instructions: a call, a constant and a register put into a register (64 bits).
const CALL: u8 = 0x85;
const CONSTANT: u8 = 0xb7;
const MOVE: u8 = 0xbf;
/// `BPF_PSEUDO_KFUNC_CALL`: the call is of a function of the kernel, by its BTF id.
const OF_KERNEL: u8 = 2;

/// The programs, by their names in the C source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Processes { rss: bool },
    ProcessesRssSum,
    Usages,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Processes { .. } => "processes",
            Self::ProcessesRssSum => "processes_rss_sum",
            Self::Usages => "usages",
        }
    }
}

/// The object, made to fit this kernel.
pub(super) struct Loader {
    object: Object,
    target: u32,
    /// The kernel's BTF id of what makes pointers untrusted, and of `struct task_struct`.
    cast: Option<(i32, i32)>,
    /// Whether the kernel counts resident pages per CPU (6.2).
    pub(super) counts_per_cpu: bool,
    /// Whether maps and programs count as locked memory of the user (before 5.11).
    locks_memory: bool,
}

impl Loader {
    /// Reads the kernel's BTF at `path` beneath the root and relocates the object by it.
    pub(super) fn new(host: &Host, path: &[u8]) -> Result<Self, Unavailable> {
        let refused = |e: &dyn std::error::Error| Unavailable::Refused(chain(e));
        let mut object = Object::parse(&OBJECT.0).map_err(|e| refused(&e))?;
        let own = object.btf.as_ref().map(Btf::to_bytes).unwrap_or_default();
        let request = Request { own: &own, functions: FUNCTIONS, structs: STRUCTS };
        let excerpt = excerpt(host, path, &request)?;
        let [target, cast] = [0, 1].map(|n| excerpt.functions.get(n).copied().flatten());
        let target = target.ok_or(Unavailable::TooOld)?;
        let btf = Btf::parse(&excerpt.bytes, object.endianness).map_err(|e| refused(&e))?;
        object.relocate_btf(&btf).map_err(|e| refused(&e))?;
        let id_of = |name: &str| {
            excerpt.found.iter().find(|(found, _)| found == name).map(|(_, id)| id.cast_signed())
        };
        Ok(Self {
            object,
            target,
            cast: cast.map(u32::cast_signed).zip(id_of("task_struct")),
            counts_per_cpu: id_of("mm_rss_stat").is_none(),
            locks_memory: id_of("bpf_map_memory").is_some(),
        })
    }

    /// Loads one program, and starts its iterator. The program ends with the descriptor. `newest` is
    /// the PID after which threads count as new.
    pub(super) fn start(&mut self, name: Name, newest: u32) -> Result<OwnedFd, Unavailable> {
        let with_callback = name == Name::ProcessesRssSum;
        let map = if with_callback { Some(self.with_memory(bpf::per_cpu_map)?) } else { None };
        let mut linked = self.linked(name, map.as_ref().map(AsFd::as_fd))?;
        let own = if with_callback { Some(self.own_btf()?) } else { None };
        let own = own.as_ref().map(AsFd::as_fd);
        let pristine = self.cast.map(|_| linked.instructions.clone());
        linked.adapt(name, newest, self.cast);
        let mut loaded = self.load(&linked, own);
        if let (Err(Unavailable::Refused(_)), Some(instructions)) = (&loaded, pristine) {
            // Without a compiler of BPF no function of the kernel can be called.
            linked.instructions = instructions;
            linked.adapt(name, newest, None);
            loaded = self.load(&linked, own);
        }
        bpf::iterate(loaded?.as_fd()).map_err(of_errno)
    }

    fn load(&self, linked: &Linked, own: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Unavailable> {
        let functions = own.map(|btf| (btf, &linked.info[..], linked.each));
        let instructions = &linked.instructions[..];
        let program = Program { instructions, target: self.target, functions };
        self.with_memory(|| bpf::load(&program, &mut [])).map_err(|e| match e {
            Unavailable::Refused(why) => Unavailable::Refused(objection(&program).unwrap_or(why)),
            other => other,
        })
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

impl Linked {
    /// Exchanges the numbers that the C source leaves open.
    fn adapt(&mut self, name: Name, newest: u32, cast: Option<(i32, i32)>) {
        for instruction in &mut self.instructions {
            match (instruction.code, instruction.imm, cast) {
                (CALL, UNTRUSTED, Some((function, _))) => {
                    instruction.set_src_reg(OF_KERNEL);
                    instruction.imm = function;
                }
                // The argument is the result.
                (CALL, UNTRUSTED, None) => {
                    instruction.code = MOVE;
                    instruction.set_src_reg(1);
                    instruction.imm = 0;
                }
                (CONSTANT, TASK_STRUCT, Some((_, id))) => instruction.imm = id,
                (CONSTANT, WITH_RSS, _) => {
                    instruction.imm = i32::from(name == Name::Processes { rss: true });
                }
                (CONSTANT, NEWEST, _) => instruction.imm = newest.cast_signed(),
                _ => {}
            }
        }
    }
}

/// What the programs need of the kernel's BTF, which is not kept.
fn excerpt(host: &Host, path: &[u8], request: &Request<'_>) -> Result<Excerpt, Unavailable> {
    let (file, look) = host.root().open_file(path, LARGEST).map_err(Unavailable::NoBtf)?;
    let malformed = |m: Malformed| Unavailable::NoBtf(m.at(host.shown(path)));
    if let Some(mapped) = Constant::map(file.as_fd()) {
        return parse::btf::parse(&mapped, request).map_err(malformed);
    }
    let errno = |e| Unavailable::NoBtf(ReadError::from_errno(host.shown(path), e));
    let mut bytes = Vec::with_capacity(usize::try_from(look.size).unwrap_or(0).min(LARGEST) + 1);
    loop {
        match rustix::io::read(file.as_fd(), spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) if bytes.len() > LARGEST => return Err(malformed(Malformed("too large"))),
            Ok(_) if bytes.len() == bytes.capacity() => bytes.reserve(GROWTH),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    parse::btf::parse(&bytes, request).map_err(malformed)
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
