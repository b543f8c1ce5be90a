//! Whether the machine has room for a rig.

use anyhow::{Context, Result, ensure};

/// PIDs left for others.
const SPARE: u64 = 500;
/// Memory that a process and its share of a container take, kB: measured, and rounded up.
const PROCESS: u64 = 150;

/// What the kernel says.
#[derive(Debug, Clone, Copy)]
struct Machine {
    pid_max: u64,
    threads_max: u64,
    tasks: u64,
    available_kb: u64,
}

/// Refuses more processes than fit, with what would help.
pub(super) fn check(processes: usize) -> Result<()> {
    fits(Machine::read()?, u64::try_from(processes)?)
}

fn fits(machine: Machine, processes: u64) -> Result<()> {
    let wanted = machine.tasks + processes + SPARE;
    for (name, limit) in [("pid_max", machine.pid_max), ("threads-max", machine.threads_max)] {
        ensure!(
            wanted <= limit,
            "{processes} processes do not fit: {} tasks run, and kernel.{name} is {limit}; \
             `sysctl kernel.{name}={wanted}` makes room",
            machine.tasks
        );
    }
    let memory = processes * PROCESS;
    ensure!(
        memory <= machine.available_kb,
        "{processes} processes take about {} MB, and {} MB are free",
        memory / 1024,
        machine.available_kb / 1024
    );
    Ok(())
}

impl Machine {
    fn read() -> Result<Self> {
        let tasks = read("/proc/loadavg")?;
        let tasks = tasks.split(' ').nth(3).and_then(|field| field.split_once('/'));
        let memory = read("/proc/meminfo")?;
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        Ok(Self {
            pid_max: number(&read("/proc/sys/kernel/pid_max")?)?,
            threads_max: number(&read("/proc/sys/kernel/threads-max")?)?,
            tasks: number(tasks.context("/proc/loadavg tells no tasks")?.1)?,
            available_kb: number(available.context("no MemAvailable")?.trim_end_matches("kB"))?,
        })
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::{Machine, fits};

    const MACHINE: Machine =
        Machine { pid_max: 32_768, threads_max: 190_000, tasks: 300, available_kb: 8 << 20 };

    #[test]
    fn the_way_out_is_told() {
        assert!(fits(MACHINE, 30_000).is_ok());
        let why = fits(MACHINE, 40_000).unwrap_err().to_string();
        assert!(why.ends_with("`sysctl kernel.pid_max=40800` makes room"), "{why}");
        let small = Machine { available_kb: 100 << 10, ..MACHINE };
        let why = fits(small, 10_000).unwrap_err().to_string();
        assert_eq!(why, "10000 processes take about 1464 MB, and 100 MB are free");
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read().unwrap();
        assert!(machine.tasks > 0 && machine.pid_max > machine.tasks);
    }
}
