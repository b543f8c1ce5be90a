//! One emulated machine: what it boots into, and how long it may take.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::programs::Programs;
use super::{modules, story, tools};

/// How long a machine may run; on an idle host it takes three minutes.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// The first program: loads the modules, and goes on in the root on the disk.
const INIT: &str = r#"#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules/order); do
    $B insmod "/modules/$module" || echo "no module $module"
done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do
    $B sleep 0.1
    tries=$((tries + 1))
done
$B mount -t ext4 /dev/vda /root && $B mount -t tmpfs programs /root/mnt && $B cp /programs/* /root/mnt/ || $B poweroff -f
exec $B switch_root /root /mnt/run
"#;
/// The second: runs the cases, and ends the machine. The second serial line has nothing but what
/// they print.
const RUN: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root WHOSE_BIN=/mnt/whose WHOSE_JUDGED=1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs run /run
stty -F /dev/ttyS1 raw
exec </dev/null >/dev/ttyS1 2>&1
cd /root
echo "@BEGIN@ $(uname -r)"
/mnt/cases --test-threads 1 --nocapture --skip docker --skip containerd --skip strace
/mnt/xtask hostpath --count @STACKS@ --seed 1 --as-it-builds --timeout 240 --whose /mnt/whose
echo "@END@"
sync
echo o >/proc/sysrq-trigger
sleep 60
"#;

/// Runs the cases on a kernel; what they print.
pub(super) fn run(
    kernel: &Kernel,
    programs: &Programs,
    disk: &Path,
    stacks: u64,
    place: &Path,
) -> Result<String> {
    let initramfs = place.join("initramfs");
    let archive = initramfs_of(kernel, programs, stacks, place)?;
    std::fs::write(&initramfs, archive).context("writing the initramfs")?;
    let (console, results) = (place.join("console"), place.join("results"));
    // The disk's changes go to a file that has no name any more.
    let drive = format!("file={},if=virtio,format=raw,snapshot=on", disk.display());
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "pc", "-accel", "tcg", "-cpu", "max,la57=off", "-smp", "2"])
        .args(["-m", "3072", "-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-append", "console=ttyS0 quiet mitigations=off apparmor=0 panic=-1"])
        .args(["-drive", &drive])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .env("TMPDIR", place)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let errors = place.join("qemu");
    command.stderr(File::create(&errors).context("qemu's errors")?);
    let mut machine = Machine(command.spawn().context("starting qemu-system-x86_64")?);
    let ended = machine.wait(LIMIT)?;
    let read =
        |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let (output, console) = (read(&results), read(&console));
    match ended {
        None => bail!("it has not ended in {} minutes: {}", LIMIT.as_secs() / 60, last(&output)),
        Some(status) => ensure!(status.success(), "qemu: {status}: {}", read(&errors)),
    }
    ensure!(output.contains(story::BEGIN), "it did not come up: {}", last(&console));
    ensure!(output.contains(story::END), "it ended too early: {}", last(&output));
    Ok(output)
}

fn initramfs_of(
    kernel: &Kernel,
    programs: &Programs,
    stacks: u64,
    place: &Path,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "modules", "programs", "root"] {
        archive.dir(dir);
    }
    archive.device("dev/console", 5, 1);
    archive.file("init", INIT.as_bytes());
    let busybox = tools::find("busybox").context("busybox is gone")?;
    archive.file("bin/busybox", &std::fs::read(busybox).context("reading busybox")?);
    let mut order = String::new();
    for (name, code) in modules::read(&kernel.modules)? {
        archive.file(&format!("modules/{name}"), &code);
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    let run = RUN
        .replace("@BEGIN@", story::BEGIN)
        .replace("@END@", story::END)
        .replace("@STACKS@", &stacks.to_string());
    archive.file("programs/run", run.as_bytes());
    for (name, code) in programs.stripped(place)? {
        archive.file(&format!("programs/{name}"), &code);
    }
    Ok(archive.finish())
}

/// A running qemu; it ends with this value.
#[derive(Debug)]
struct Machine(Child);

impl Machine {
    /// Waits for its end; `None` when that does not come in time.
    fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().context("waiting for qemu")? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(None)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Of one that has ended nothing is left to kill.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The last lines of a text.
fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
