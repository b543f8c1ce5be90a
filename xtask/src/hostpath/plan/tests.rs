use super::{Plan, Space, plan, quoted};

fn disks() -> Vec<String> {
    ["btrfs", "disk", "ext4", "ram"].map(str::to_owned).to_vec()
}

fn many() -> impl Iterator<Item = Plan> {
    (0..2000).map(|number| plan(7, number, &disks()))
}

#[test]
fn the_same_seed_makes_the_same_plan() {
    for number in 0..200 {
        assert_eq!(plan(7, number, &disks()), plan(7, number, &disks()));
    }
    assert_ne!(plan(7, 1, &disks()).steps, plan(8, 1, &disks()).steps);
    assert_ne!(plan(7, 1, &disks()).steps, plan(7, 2, &disks()).steps);
}

#[test]
fn every_program_has_a_file_or_the_reason_why_not() {
    for plan in many() {
        for program in &plan.programs {
            assert_ne!(program.file.is_some(), program.none.is_some(), "{plan}");
            assert_eq!(program.mark.len(), 16, "{plan}");
        }
    }
}

#[test]
fn every_program_is_started_once() {
    for plan in many() {
        let started: Vec<usize> = plan.steps.iter().filter_map(|step| step.starts).collect();
        assert_eq!(started, (0..plan.programs.len()).collect::<Vec<_>>(), "{plan}");
    }
}

#[test]
fn every_file_has_a_text_of_its_own() {
    let mut marks: Vec<Vec<u8>> = many()
        .flat_map(|plan| plan.steps)
        .filter(|step| matches!(step.words[0].as_slice(), b"put" | b"mark"))
        .map(|step| step.words[2].clone())
        .collect();
    let count = marks.len();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), count);
}

#[test]
fn only_stacks_of_the_caller_leave_mounts_to_clear() {
    for plan in many().filter(|plan| plan.space != Space::Host) {
        assert!(plan.mounts.is_empty(), "{plan}");
    }
}

#[test]
fn what_the_reference_names_is_drawn() {
    let labels: Vec<&str> =
        many().flat_map(|plan| plan.programs).map(|program| program.label).collect();
    for label in [
        "lower",
        "lower, shadowing another",
        "copied up, then run",
        "run, then copied up",
        "run, copied up, removed",
        "metadata copied up, then run",
        "run, then metadata copied up",
        "lower, removed",
        "lower, replaced",
        "lower, removed, impostor",
        "upper",
        "upper, removed",
        "upper, renamed",
        "one of two names copied up, then run",
        "other of two names copied up, index, then run",
        "data-only layer",
        "from an earlier mount",
        "chroot",
        "bind of the overlay",
        "bind, then detached",
        "name over-mounted",
        "memfd",
        "private tmpfs",
        "bound file, source replaced",
        "btrfs snapshot",
    ] {
        assert!(labels.contains(&label), "no {label}");
    }
    let traits: Vec<&str> = many().flat_map(|plan| plan.traits).collect();
    for name in [
        "own mount namespace",
        "own user namespace",
        "6 layers",
        "no upper",
        "whiteout",
        "opaque directory",
        "overlay on overlay",
        "upper became a lower",
        "directory renamed before",
        "directory renamed in a lower",
        "directory renamed after start",
        "layer directory renamed",
        "layer directory removed",
        "overlay detached",
        "relative layers",
        "new mount calls",
        "layers on any file system",
        "metacopy=on",
        "index=on",
    ] {
        assert!(traits.contains(&name), "no {name}");
    }
}

#[test]
fn a_plan_is_printed_so_that_a_shell_can_read_it() {
    assert_eq!(quoted(b"/a-b.c"), "/a-b.c");
    assert_eq!(quoted(b"it's a\n\xff"), r"$'it\'s a\x0a\xff'");
    assert_eq!(quoted(b""), "$''");
}
