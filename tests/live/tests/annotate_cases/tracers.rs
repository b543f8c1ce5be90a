//! Tools that sample and trace: perf, bpftrace, systemd-cgtop, fuser.

use std::time::Duration;

use whose_testkit::cases::Cases;
use whose_testkit::procfs;

use crate::World;

pub(super) fn run(world: &World, cases: &mut Cases) {
    cases.case_with(&["perf"], "perf script", || perf_script(world));
    cases.case_with(&["perf"], "perf top --stdio", || perf_top(world));
    cases.case_with(&["perf"], "folded stacks", || folded(world));
    cases.case_with(&["bpftrace"], "bpftrace's opensnoop", || opensnoop(world));
    cases.case_with(&["systemd-cgtop"], "systemd-cgtop -b", || cgtop(world));
    cases.case_with(&["fuser"], "fuser -v", || {
        let script = format!("fuser -v -n tcp {} 2>&1", world.port);
        let text = world.annotate_in_net(&["sh", "-c", &script]).stdout_str();
        let row = text.lines().find(|l| l.contains(&format!(" {} ", world.pids[1])));
        let row = row.unwrap_or_else(|| panic!("{text}"));
        assert!(row.contains(&format!(" {} {} ", world.pids[1], world.listener)), "{text}");
    });
}

/// The writer's `dd` of this moment, and the annotated output of a shell script about it (`$PID`) that it
/// outlived.
fn of_dd(world: &World, script: &str) -> (u32, String) {
    let init = world.pids[0].parse().expect("a PID");
    for _ in 0..10 {
        let pid = procfs::wait_for("the writer's dd", Duration::from_secs(20), || {
            let children = procfs::children(init);
            children.into_iter().find(|c| procfs::comm(*c).as_deref() == Some("dd"))
        });
        let start = procfs::start_ticks(pid);
        let script = format!("PID={pid}; {script}");
        let text = world.annotate(&["sh", "-c", &script]).stdout_str();
        if start.is_some() && procfs::start_ticks(pid) == start {
            return (pid, text);
        }
    }
    panic!("no dd outlived {script}");
}

fn perf_script(world: &World) {
    let (pid, text) = of_dd(
        world,
        "d=$(mktemp -d); perf record -q -e cpu-clock -o $d/data -p $PID -- sleep 0.3 >/dev/null 2>&1; \
         perf script -i $d/data 2>/dev/null; rm -r $d",
    );
    let rows: Vec<&str> = text.lines().filter(|l| l.contains(&format!(" {pid} "))).collect();
    assert!(rows.len() >= 10, "{text}");
    let end = format!(" «{}»", world.writer);
    assert!(rows.iter().all(|row| row.ends_with(&end)), "{text}");
}

fn perf_top(world: &World) {
    // With nothing to read from it would take its end for a key.
    let (pid, text) = of_dd(
        world,
        "sleep 3 | timeout -s INT 2.5 perf top --stdio -p $PID --sort pid,sym -d 1 -e cpu-clock 2>&1; :",
    );
    let rows: Vec<&str> = text.lines().filter(|l| l.contains(&format!(" {pid}:dd "))).collect();
    assert!(rows.len() >= 3, "{text}");
    let end = format!(" «{}»", world.writer);
    assert!(rows.iter().all(|row| row.ends_with(&end)), "{text}");
}

fn folded(world: &World) {
    let (pid, text) = of_dd(
        world,
        "d=$(mktemp -d); perf record -q -g -e cpu-clock -o $d/data -p $PID -- sleep 0.3 >/dev/null 2>&1; \
         perf script -i $d/data -s \"$(perf --exec-path)/scripts/python/stackcollapse.py\" -- \
         --include-pid 2>/dev/null; rm -r $d",
    );
    let rows: Vec<&str> = text.lines().filter(|l| l.contains(&format!("dd-{pid};"))).collect();
    assert!(!rows.is_empty(), "{text}");
    let begin = format!("{};dd-{pid};", world.writer);
    assert!(rows.iter().all(|row| row.starts_with(&begin)), "{text}");
}

fn opensnoop(world: &World) {
    // Somebody who stays there opens a file while it watches.
    let script = "exec 3</etc/passwd; exec sleep 30";
    let mut exec = world.docker.command(&["exec", "-d", &world.listener, "sh", "-c", script]);
    let text = std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..4 {
                std::thread::sleep(Duration::from_secs(2));
                exec.status().expect("docker exec");
            }
        });
        // Not everywhere is it mounted before somebody looks there.
        let script = "mountpoint -q /sys/kernel/tracing || mount -t tracefs t /sys/kernel/tracing\n\
                      timeout -s INT 10 bpftrace -B line /usr/sbin/opensnoop.bt 2>/dev/null; :";
        world.annotate(&["unshare", "-m", "sh", "-c", script]).stdout_str()
    });
    assert!(text.lines().any(|l| l.starts_with("OWNER") && l.contains(" PID ")), "{text}");
    // OWNER PID COMM FD ERR PATH
    let rows = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let is_it = |row: &Vec<&str>| row.get(2) == Some(&"sh") && row.last() == Some(&"/etc/passwd");
    let owners: Vec<&str> = rows.filter(is_it).map(|row| row[0]).collect();
    assert!(owners.contains(&world.listener.as_str()), "{text}");
}

fn cgtop(world: &World) {
    let text = world.annotate(&["systemd-cgtop", "-b", "-n", "1", "--depth=9"]).stdout_str();
    for (name, pid) in [&world.writer, &world.listener].into_iter().zip(&world.pids) {
        let inspected = world.docker.inspect(name);
        let id = inspected["Id"].as_str().expect("an id");
        let rows: Vec<&str> = text.lines().filter(|l| l.contains(id)).collect();
        assert!(!rows.is_empty(), "{name} {pid}\n{text}");
        assert!(rows.iter().all(|row| row.contains(name.as_str())), "{text}");
    }
}
