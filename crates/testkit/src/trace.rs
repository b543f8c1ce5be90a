//! Judges what `strace -f -y -o FILE` saw.

use std::path::{Component, Path, PathBuf};

/// One finished or begun system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The thread.
    pub tid: u32,
    /// The call's name.
    pub name: String,
    /// Its arguments as strace prints them, split at the outermost commas.
    pub args: Vec<String>,
    /// The path of the descriptor it returned, as strace shows it.
    pub opened: Option<PathBuf>,
    /// The whole line.
    pub line: String,
}

/// Calls that change something, touch another process or run a program.
const FORBIDDEN: &[&str] = &[
    "bind",
    "chmod",
    "chown",
    "chroot",
    "clock_settime",
    "connect",
    "creat",
    "delete_module",
    "execve",
    "execveat",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "finit_module",
    "fremovexattr",
    "fsetxattr",
    "ftruncate",
    "init_module",
    "kill",
    "lchown",
    "link",
    "linkat",
    "lremovexattr",
    "lsetxattr",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mount",
    "move_mount",
    "open_by_handle_at",
    "pidfd_getfd",
    "pidfd_send_signal",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "setns",
    "setxattr",
    "swapoff",
    "swapon",
    "symlink",
    "symlinkat",
    "tgkill",
    "tkill",
    "truncate",
    "umount",
    "umount2",
    "unlink",
    "unlinkat",
    "unshare",
    "utime",
    "utimensat",
    "utimes",
];

/// Calls that are given a path: the argument with the directory descriptor, if any, and the path.
const PATH_CALLS: &[(&str, Option<usize>, usize)] = &[
    ("open", None, 0),
    ("stat", None, 0),
    ("lstat", None, 0),
    ("access", None, 0),
    ("readlink", None, 0),
    ("statfs", None, 0),
    ("getxattr", None, 0),
    ("lgetxattr", None, 0),
    ("listxattr", None, 0),
    ("llistxattr", None, 0),
    ("chdir", None, 0),
    ("openat", Some(0), 1),
    ("openat2", Some(0), 1),
    ("newfstatat", Some(0), 1),
    ("statx", Some(0), 1),
    ("readlinkat", Some(0), 1),
    ("faccessat", Some(0), 1),
    ("faccessat2", Some(0), 1),
    ("name_to_handle_at", Some(0), 1),
    ("inotify_add_watch", Some(0), 1),
    ("mkdir", None, 0),
    ("mkdirat", Some(0), 1),
    ("unlinkat", Some(0), 1),
    ("symlinkat", Some(1), 2),
];

const WRITING: &[&str] = &["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];

/// Reads a trace. Lines about signals and exits are left out; the end of a call that was begun on
/// another line is a call without arguments.
#[must_use]
pub fn parse(text: &str) -> Vec<Call> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Call> {
    let (tid, rest) = line.split_once(' ')?;
    let tid = tid.parse().ok()?;
    let rest = rest.trim_start();
    let opened = rest.rsplit_once(" = ").and_then(|(_, result)| {
        let (fd, path) = result.split_once('<')?;
        let number = !fd.is_empty() && fd.bytes().all(|b| b.is_ascii_digit());
        (number && path.starts_with('/')).then(|| PathBuf::from(path.trim_end_matches('>')))
    });
    if let Some((name, _)) = rest.strip_prefix("<... ").and_then(|r| r.split_once(" resumed>")) {
        let (name, args, line) = (name.to_owned(), Vec::new(), line.to_owned());
        return Some(Call { tid, name, args, opened, line });
    }
    let (name, rest) = rest.split_once('(')?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) {
        return None;
    }
    Some(Call { tid, name: name.to_owned(), args: split(rest), opened, line: line.to_owned() })
}

/// The arguments up to the closing parenthesis.
fn split(text: &str) -> Vec<String> {
    let text = text.strip_suffix(" <unfinished ...>").unwrap_or(text);
    let (mut args, mut now) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    for c in text.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            match c {
                '"' => quoted = true,
                '(' | '[' | '{' => depth += 1,
                ')' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    args.push(std::mem::take(&mut now).trim().to_owned());
                    continue;
                }
                _ => {}
            }
        }
        now.push(c);
    }
    if !now.trim().is_empty() {
        args.push(now.trim().to_owned());
    }
    args
}

impl Call {
    fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    /// The path it was given, made absolute by the directory descriptor's when that is shown.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let (_, dir, path) = PATH_CALLS.iter().find(|(name, ..)| *name == self.name)?;
        let path = unquote(self.arg(*path))?;
        if path.starts_with('/') {
            return Some(PathBuf::from(path));
        }
        let dir = dir.map_or("", |n| self.arg(n));
        let base = dir.split_once('<').map(|(_, shown)| shown.trim_end_matches('>'));
        Some(Path::new(base.unwrap_or("AT_FDCWD")).join(path))
    }
}

/// The text of a quoted string; strace's escapes other than of quote and backslash are kept.
fn unquote(arg: &str) -> Option<String> {
    let body = arg.strip_prefix('"')?;
    let body = body.strip_suffix("...").unwrap_or(body).strip_suffix('"')?;
    Some(body.replace("\\\"", "\"").replace("\\\\", "\\"))
}

/// What a tool that only reads must not do: a forbidden call (the first execve is the tool's own
/// start), or opening anything for writing but `/dev/null` and the terminal.
#[must_use]
pub fn not_read_only(calls: &[Call]) -> Vec<String> {
    let mut started = false;
    let mut wrong = Vec::new();
    for call in calls {
        if call.name == "execve" && !started {
            started = true;
            continue;
        }
        let writes = call.name.starts_with("open")
            && call
                .args
                .iter()
                .any(|arg| !arg.starts_with('"') && WRITING.iter().any(|flag| has_word(arg, flag)))
            && !call
                .path()
                .is_some_and(|p| p == Path::new("/dev/null") || p == Path::new("/dev/tty"));
        let begun = !call.line.contains(" resumed>");
        if writes || begun && FORBIDDEN.contains(&call.name.as_str()) {
            wrong.push(call.line.clone());
        }
    }
    if !started {
        wrong.push("the trace has no execve: was anything traced?".to_owned());
    }
    wrong
}

/// What a tool that examines a process's files must not do: as [`not_read_only`], but it may open
/// by handle, and must not open the memory of a process, nor anything below `fuse` for more than
/// its path.
#[must_use]
pub fn not_examining(calls: &[Call], fuse: Option<&Path>) -> Vec<String> {
    let mut wrong = not_read_only(calls);
    wrong.retain(|line| !calls.iter().any(|c| c.line == *line && c.name == "open_by_handle_at"));
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| call.name.starts_with("open")) {
        // The second half of a line has the result, the first the flags.
        let begun = call.line.contains(" resumed>").then(|| {
            calls[..n].iter().rfind(|c| c.tid == call.tid && c.name == call.name).unwrap_or(call)
        });
        let flag = |word| begun.unwrap_or(call).args.iter().any(|arg| has_word(arg, word));
        let paths = || call.path().into_iter().chain(call.opened.clone());
        let memory =
            paths().any(|p| p.starts_with("/proc") && p.file_name() == Some("mem".as_ref()));
        let on_fuse = paths().any(|p| fuse.is_some_and(|dir| p.starts_with(dir)));
        let writes = WRITING.iter().any(|word| flag(word)) && call.name == "open_by_handle_at";
        if memory || on_fuse && !flag("O_PATH") || writes {
            wrong.push(call.line.clone());
        }
    }
    wrong
}

/// What a tool that writes to one new directory must not do: as [`not_examining`], but it may make
/// files, directories and links below `dir`, and take links away there.
#[must_use]
pub fn writes_outside(calls: &[Call], dir: &Path) -> Vec<String> {
    let dir = normal(dir);
    let makes = ["mkdir", "mkdirat", "symlinkat", "unlinkat", "openat", "open"];
    let below = |call: &Call| {
        makes.contains(&call.name.as_str())
            && call.path().is_some_and(|p| normal(&p).starts_with(&dir))
    };
    let mut wrong = not_examining(calls, None);
    wrong.retain(|line| !calls.iter().any(|c| c.line == *line && below(c)));
    wrong
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == word)
}

/// What a tool must not do after it first opened something in the saved tree `dir`: be given any
/// path outside it, or get a descriptor of something outside it, e.g. through a link.
#[must_use]
pub fn leaves(calls: &[Call], dir: &Path) -> Vec<String> {
    let dir = normal(dir);
    let mut entered = false;
    let mut wrong = Vec::new();
    for call in calls {
        let opens = call.name.starts_with("open");
        let paths = call.path().into_iter().chain(call.opened.clone().filter(|_| opens));
        for path in paths {
            let inside = normal(&path).starts_with(&dir);
            entered |= inside;
            if entered && !inside && wrong.last() != Some(&call.line) {
                wrong.push(call.line.clone());
            }
        }
    }
    if !entered {
        wrong.push(format!("nothing below {} was opened", dir.display()));
    }
    wrong
}

/// What a tool that is led by a stranger's files must not do: leave `tree`, which is his, by a name in it,
/// as through a link; nor open one of the `baits`, which his texts name, or anything below, for more than
/// to look at it.
#[must_use]
pub fn led_astray(calls: &[Call], tree: &Path, baits: &[&Path]) -> Vec<String> {
    let within = |path: &Path, dir: &Path| normal(path).starts_with(dir);
    let mut wrong = Vec::new();
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| call.name.starts_with("open")) {
        // The second half of a line has the result, the first what was asked.
        let asked = match call.line.contains(" resumed>") {
            true => calls[..n].iter().rfind(|c| c.tid == call.tid && c.name == call.name),
            false => Some(call),
        };
        let Some(opened) = call.opened.as_ref() else { continue };
        let begun_in = asked.and_then(Call::path).is_some_and(|path| within(&path, tree));
        let left = begun_in && !within(opened, tree);
        let looks = asked.is_some_and(|c| c.args.iter().any(|arg| has_word(arg, "O_PATH")));
        let bait = baits.iter().find(|bait| within(opened, bait));
        if left || bait.is_some_and(|bait| !looks || normal(opened) != **bait) {
            wrong.push(call.line.clone());
        }
    }
    wrong
}

/// Without `.` and `..`, which here are only counted, not followed.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{leaves, led_astray, not_examining, not_read_only, parse, writes_outside};
    use std::path::Path;

    const START: &str = "7 execve(\"/x/whose\", [\"whose\"], 0x7ffd /* 1 var */) = 0\n";

    #[test]
    fn writing_and_touching_are_found() {
        let trace = format!(
            "{START}7 openat(AT_FDCWD</x>, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>\n\
             7 openat(AT_FDCWD</x>, \"/dev/null\", O_WRONLY) = 3</dev/null>\n\
             7 openat2(3</proc>, \"1/stat\", {{flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_BENEATH}}, 24) = 4\n\
             7 openat(3</tmp>, \"a \\\"O_RDWR\\\", b\", O_RDONLY) = 5\n\
             8 openat(3</tmp>, \"new\", O_WRONLY|O_CREAT, 0600 <unfinished ...>\n\
             8 <... openat resumed>) = 5\n\
             7 kill(12, SIGTERM) = 0\n\
             7 --- SIGCHLD {{si_signo=SIGCHLD}} ---\n\
             7 +++ exited with 0 +++\n\
             7 execve(\"/bin/sh\", [\"sh\"], 0x1) = 0\n"
        );
        let wrong = not_read_only(&parse(&trace));
        assert_eq!(wrong.len(), 3, "{wrong:#?}");
        assert!(wrong[0].contains("\"new\"") && wrong[1].contains("kill"));
        assert_eq!(not_read_only(&[]).len(), 1);
    }

    #[test]
    fn examining_is_not_touching() {
        let trace = format!(
            "{START}7 open_by_handle_at(5</>, {{handle_bytes=8, handle_type=1}}, O_PATH|O_CLOEXEC) = 6</l/x>\n\
             7 openat(AT_FDCWD</x>, \"/proc/self/fd/6\", O_RDONLY|O_NONBLOCK) = 7</l/x>\n\
             7 openat(3</proc/12>, \"exe\", O_PATH|O_CLOEXEC) = 8</fuse/x>\n\
             7 openat(3</proc/12>, \"exe\", O_RDONLY|O_CLOEXEC) = 8</fuse/x>\n\
             7 openat(AT_FDCWD</x>, \"/proc/12/mem\", O_RDONLY) = 9</proc/12/mem>\n\
             7 open_by_handle_at(5</>, {{handle_bytes=8, handle_type=1}}, O_RDWR) = 6</l/x>\n\
             7 setns(9, 0) = 0\n\
             8 openat(3</proc/12>, \"exe\", O_PATH|O_CLOEXEC <unfinished ...>\n\
             8 <... openat resumed>) = 5</fuse/x>\n"
        );
        let wrong = not_examining(&parse(&trace), Some(Path::new("/fuse")));
        assert_eq!(wrong.len(), 4, "{wrong:#?}");
        assert!(wrong[0].contains("setns") && wrong[1].contains("fuse/x"));
        assert_eq!(not_examining(&parse(&trace), None).len(), 3);
    }

    #[test]
    fn leaving_a_saved_tree_is_found() {
        let trace = format!(
            "{START}7 openat(AT_FDCWD</x>, \"/etc/ld.so.cache\", O_RDONLY) = 3\n\
             7 openat(AT_FDCWD</x>, \"/tmp/tree\", O_PATH|O_DIRECTORY) = 3</tmp/tree>\n\
             7 openat2(3</tmp/tree>, \"proc/1/stat\", {{flags=O_RDONLY}}, 24) = 4\n\
             7 newfstatat(4</tmp/tree/proc/1/stat>, \"\", {{st_mode=S_IFREG|0644}}, AT_EMPTY_PATH) = 0\n\
             7 openat(3</tmp/tree>, \"../../etc/passwd\", O_RDONLY) = 4\n\
             7 openat(AT_FDCWD</x>, \"/proc/self/stat\", O_RDONLY) = 4\n\
             7 readlinkat(3</tmp/tree>, \"proc/1/exe\", \"/sbin/init\", 4096) = 10\n\
             7 openat(AT_FDCWD</x>, \"here\", O_RDONLY) = 4\n\
             7 openat(3</tmp/tree>, \"link\", O_RDONLY) = 4</etc/passwd>\n\
             8 openat(3</tmp/tree>, \"link\", O_RDONLY <unfinished ...>\n\
             8 <... openat resumed>) = 4</etc/shadow>\n"
        );
        let wrong = leaves(&parse(&trace), Path::new("/tmp/tree"));
        assert_eq!(wrong.len(), 5, "{wrong:#?}");
        assert_eq!(leaves(&parse(START), Path::new("/tmp/tree")).len(), 1);
    }

    #[test]
    fn who_is_led_astray_is_found() {
        let trace = format!(
            "{START}7 openat2(3</eve/store>, \"db\", {{flags=O_RDONLY|O_PATH}}, 24) = 4</eve/store/db>\n\
             7 openat(3</eve/store>, \"db\", O_RDONLY) = 4</etc/shadow>\n\
             7 openat(3</eve>, \"store\", O_RDONLY|O_PATH) = 4</srv>\n\
             7 openat(3</>, \"bait\", O_RDONLY|O_PATH) = 4</bait>\n\
             7 openat(3</>, \"bait\", O_RDONLY) = 4</bait>\n\
             7 openat(4</bait>, \"db\", O_RDONLY|O_PATH) = 5</bait/db>\n\
             8 openat(3</eve>, \"x\", O_RDONLY <unfinished ...>\n\
             7 openat(3</etc>, \"passwd\", O_RDONLY) = 5</etc/passwd>\n\
             8 <... openat resumed>) = 5</etc/passwd>\n"
        );
        let wrong = led_astray(&parse(&trace), Path::new("/eve"), &[Path::new("/bait")]);
        assert_eq!(wrong.len(), 5, "{wrong:#?}");
        assert!(wrong[0].contains("shadow") && wrong[4].contains("resumed"), "{wrong:#?}");
    }

    #[test]
    fn writing_to_its_own_directory_is_no_crime() {
        let trace = |line: &str| parse(&format!("{START}7 {line}\n"));
        for fine in [
            "mkdir(\"/new\", 0700) = 0",
            "mkdirat(4</new/proc>, \"7\", 0700) = 0",
            "openat(4</new>, \"comm\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</new/comm>",
            "symlinkat(\"/etc/passwd\", 4</new>, \"exe\") = 0",
        ] {
            assert!(writes_outside(&trace(fine), Path::new("/new")).is_empty(), "{fine}");
        }
        for wrong in [
            "mkdirat(4</new/proc>, \"../../7\", 0700) = 0",
            "openat(4</old>, \"comm\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</old/comm>",
            "symlinkat(\"/new/x\", 4</etc>, \"exe\") = 0",
            "kill(7, SIGTERM) = 0",
        ] {
            assert_eq!(writes_outside(&trace(wrong), Path::new("/new")).len(), 1, "{wrong}");
        }
    }
}
