//! Somebody who outlives a test, and clears up after it however it ends.

use crate::cgroup::CgroupDir;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads what is to be done until its input ends, however that comes; then does it, the last first.
/// Processes that were killed take their time to leave a cgroup.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
set --
values=
scripts=
while read -r verb first second; do
    case $verb in
    run) scripts="$first
$scripts" ;;
    rmdir) set -- "$first" "$@" ;;
    write) values="$first $second
$values" ;;
    esac
done
printf '%s' "$scripts" | while read -r script; do
    (cd "${script%/*}" && sh "./${script##*/}" </dev/null)
done
printf '%s' "$values" | while read -r file value; do
    echo "$value" >"$file"
done
round=0
while [ $# -gt 0 ] && [ $round -lt 1000 ]; do
    left=
    for dir; do
        rmdir "$dir" 2>/dev/null || [ ! -d "$dir" ] || left=1
    done
    [ -n "$left" ] || break
    sleep 0.02
    round=$((round + 1))
done
"#;

/// Numbers of tasks left for others.
const SPARE: u64 = 1000;

fn kernel(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{name}")).expect("a limit of the kernel's")
}

fn first_number(text: &str, word: usize) -> u64 {
    let word = text.split_ascii_whitespace().nth(word).and_then(|word| word.parse().ok());
    word.unwrap_or_else(|| panic!("no number in {text:?}"))
}

/// See the module; it does its work when this is dropped, and when this program ends in another way.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Janitor {
    /// Starts one.
    ///
    /// # Panics
    /// When it can't.
    #[must_use]
    pub fn start() -> Janitor {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).current_dir("/");
        // Neither Ctrl-C nor the end of the terminal is for it.
        let mut child = command.process_group(0).spawn().expect("a janitor");
        let stdin = child.stdin.take();
        Janitor { child, stdin }
    }

    /// A cgroup with the parents that were made for it is to go.
    pub fn remove(&mut self, dir: &CgroupDir) {
        for made in dir.made() {
            self.tell(&format!("rmdir {}", made.display()));
        }
    }

    /// This value is to be written to that file, before cgroups go.
    pub fn write(&mut self, file: &Path, value: &str) {
        self.tell(&format!("write {} {value}", file.display()));
    }

    /// This shell script is to be run before anything else, in its own directory and named without
    /// it, so that it can look for whoever names the directory.
    pub fn run(&mut self, script: &Path) {
        self.tell(&format!("run {}", script.display()));
    }

    /// Writes a value to a file of the kernel; what it has now is to come back.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn set(&mut self, file: &Path, value: &str) -> std::io::Result<()> {
        let before = std::fs::read_to_string(file)?;
        self.write(file, before.trim());
        std::fs::write(file, value)
    }

    /// Sees to it that there are numbers for this many more tasks, below `pid_max` at least; how many
    /// there is room for, in memory of `each` kB too. The limit comes back.
    ///
    /// # Panics
    /// When the kernel does not tell its limits.
    pub fn room(&mut self, tasks: u64, pid_max: u64, each: u64) -> u64 {
        let file = Path::new("/proc/sys/kernel/pid_max");
        let running = first_number(&kernel("loadavg").replace('/', " "), 4);
        let wanted = pid_max.max(running + tasks + SPARE);
        if first_number(&kernel("sys/kernel/pid_max"), 0) < wanted
            && let Err(error) = self.set(file, &wanted.to_string())
        {
            eprintln!("        {} stays: {error}", file.display());
        }
        let memory = kernel("meminfo");
        let memory = memory.lines().find(|line| line.starts_with("MemAvailable:"));
        let memory = first_number(memory.expect("MemAvailable"), 1) / each;
        let limits = ["sys/kernel/pid_max", "sys/kernel/threads-max"];
        let limits = limits.map(|name| first_number(&kernel(name), 0));
        let numbers = limits.into_iter().min().unwrap_or(0).saturating_sub(running + SPARE);
        tasks.min(numbers).min(memory)
    }

    fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it lives until dropped");
        writeln!(stdin, "{line}").expect("the janitor listens");
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::Janitor;
    use crate::cgroup::{CgroupDir, v1_mount, v2_mount};
    use crate::require;

    #[test]
    fn what_was_made_goes_and_what_was_set_comes_back() {
        if !require(&["root"]) {
            return;
        }
        let Some(mount) = v2_mount().or_else(|| v1_mount("pids")) else { return };
        let name = format!("whose-janitor-{}", std::process::id());
        let dir = CgroupDir::make(&mount, &format!("{name}/inner"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\n").unwrap();
        let mut janitor = Janitor::start();
        janitor.remove(&dir);
        janitor.set(file.path(), "new").unwrap();
        janitor.set(file.path(), "newer").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "newer");
        drop(janitor);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "old\n");
        assert!(!mount.join(&name).exists());
    }
}
