//! `cargo xtask hostpath`: random overlay stacks, and what `whose exe` says of programs in them.
//!
//! Truth is what a program finds in its own memory, never an interface that `whose` may ask too:
//! each file carries a text of its own, and a note that is written into the file which `whose`
//! names has to appear in the memory of the process it was asked about.

mod answer;
mod judge;
mod plan;
mod scene;
mod stage;
mod table;
mod world;

use std::path::{Path, PathBuf};

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use answer::Answer;
use judge::Verdict;
use scene::Scene;
use table::Table;
use world::World;

/// Stacks that stand at the same time.
const BATCH: u64 = 40;
/// How a line begins that counts against the share of proven paths alone.
const UNPROVEN: &str = "unproven: ";
/// Plans printed in full.
const PLANS: usize = 5;

/// What was typed.
#[derive(Debug)]
struct Options {
    count: u64,
    seed: u64,
    only: Option<u64>,
    stop_at_first: bool,
    keep: bool,
    self_check: bool,
    /// Stacks that can't be built as planned are left out, as on a kernel that lacks something.
    as_it_builds: bool,
    /// How long `whose` may take for a batch, instead of what it usually takes at most.
    timeout: Option<u32>,
    whose: Option<PathBuf>,
}

/// Runs it; says whether every answer was right and enough of them were proven.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<bool> {
    let options = options(words)?;
    let whose =
        if options.self_check { None } else { Some(build::whose(root, options.whose.as_ref())?.0) };
    world::apart()?;
    let began = Instant::now();
    let mut world = World::make()?;
    println!("hostpath: seed {}, stacks on {}", options.seed, world.disks().join(", "));
    for why in &world.missing {
        println!("hostpath: none on {why}");
    }
    for name in ["btrfs", "ext4"] {
        let there = world.disks().iter().any(|disk| disk == name);
        let lenient = std::env::var_os("WHOSE_CI").is_none_or(|value| value != "1");
        ensure!(there || lenient, "CI wants stacks on {name}");
    }
    let mut table = Table::default();
    let numbers: Vec<u64> = match options.only {
        Some(number) => vec![number],
        None => (0..options.count).collect(),
    };
    let size = usize::try_from(BATCH)?;
    for batch in numbers.chunks(size) {
        let clean = play(&mut world, &options, whose.as_deref(), batch, &mut table)?;
        if !clean && options.stop_at_first {
            break;
        }
    }
    table.print(options.seed);
    let seconds = began.elapsed().as_secs_f64();
    println!("hostpath: seed {}, {seconds:.1} s: {}", options.seed, table.summary());
    let (passed, failed) = table.tests();
    let word = if table.passed() { "ok" } else { "FAILED" };
    // As cargo's own tests end, to be counted with them.
    println!("test result: {word}. {passed} passed; {failed} failed; in stacks");
    Ok(table.passed())
}

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options {
        count: 500,
        seed: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_secs()),
        only: None,
        stop_at_first: false,
        keep: false,
        self_check: false,
        as_it_builds: false,
        timeout: None,
        whose: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--count" => options.count = value()?.parse().context("--count")?,
            "--seed" => options.seed = value()?.parse().context("--seed")?,
            "--only" => options.only = Some(value()?.parse().context("--only")?),
            "--whose" => options.whose = Some(PathBuf::from(value()?)),
            "--stop-at-first" => options.stop_at_first = true,
            "--keep" => options.keep = true,
            "--self-check" => options.self_check = true,
            "--timeout" => options.timeout = Some(value()?.parse().context("--timeout")?),
            "--as-it-builds" => options.as_it_builds = true,
            other => bail!("hostpath has no option {other}"),
        }
    }
    Ok(options)
}

/// Builds a batch of stacks, has them judged, and clears them away; says whether all is well.
fn play(
    world: &mut World,
    options: &Options,
    whose: Option<&Path>,
    numbers: &[u64],
    table: &mut Table,
) -> Result<bool> {
    let disks = world.disks();
    let mut scenes = Vec::new();
    for number in numbers {
        let scene = Scene::build(world, plan::plan(options.seed, *number, &disks))?;
        if options.as_it_builds && !scene.broken.is_empty() {
            table.left_out += 1;
            scene.clear(world)?;
            continue;
        }
        scenes.push(scene);
    }
    let pids: Vec<u32> = scenes.iter().flat_map(Scene::pids).collect();
    let mut answers = match whose {
        Some(whose) => answer::ask(whose, &pids, options.timeout)?,
        None => Vec::new(),
    }
    .into_iter();
    let mut clean = true;
    for scene in &mut scenes {
        let bad = judge_scene(world, whose.is_some(), scene, &mut answers, table)?;
        if bad.is_empty() {
            if options.only.is_some() {
                print!("{}", scene.plan);
            }
            continue;
        }
        clean = false;
        let (number, traits) = (scene.plan.number, scene.plan.traits.join(", "));
        table.complaints.push(number);
        println!("--- stack {number} (--seed {} --only {number}): {traits}", options.seed);
        for line in &bad {
            println!("{line}");
        }
        table.failed += usize::from(bad.iter().any(|line| !line.starts_with(UNPROVEN)));
        if table.complaints.len() <= PLANS {
            print!("{}", scene.plan);
        }
        if options.keep {
            keep(scene, world);
        }
    }
    for scene in scenes {
        scene.clear(world)?;
    }
    Ok(clean)
}

/// Counts the verdicts on one stack; returns a line for each thing that is wrong.
fn judge_scene(
    world: &mut World,
    asked: bool,
    scene: &mut Scene,
    answers: &mut impl Iterator<Item = Answer>,
    table: &mut Table,
) -> Result<Vec<String>> {
    let mut bad: Vec<String> = scene.broken.iter().map(|why| format!("not built: {why}")).collect();
    table.broken += usize::from(!bad.is_empty());
    table.stacks += 1;
    for index in 0..scene.plan.programs.len() {
        let Some(said) = scene.said[index].clone() else { continue };
        let answer = if asked {
            answers.next().unwrap_or_default()
        } else {
            judge::planned(world, &scene.plan.programs[index])
        };
        if !asked {
            for answer in judge::false_ones(world, scene, index) {
                let verdict = judge::judge(world, scene, index, &said, &answer)?;
                if !matches!(verdict, Verdict::Wrong(_)) {
                    table.broken += 1;
                    bad.push(format!("the judge takes it for program {index}: {answer}"));
                }
            }
        }
        let verdict = judge::judge(world, scene, index, &said, &answer)?;
        let program = &scene.plan.programs[index];
        table.count(program.label, &scene.plan.traits, &answer, &verdict, program.none);
        let heard = || format!("program {index}, PID {}, {}: {answer}", said.pid, program.label);
        match verdict {
            Verdict::Wrong(why) => bad.push(format!("WRONG: {why}; {}", heard())),
            Verdict::Unlabelled(why) => {
                bad.push(format!("null without a label: {why}; {}", heard()))
            }
            Verdict::Unproven(why) => bad.push(format!("{UNPROVEN}{why}; {}", heard())),
            Verdict::Proven(differs) | Verdict::Null(differs) | Verdict::View(differs) => {
                bad.extend(differs.map(|what| format!("field: {what}; {}", heard())));
            }
        }
    }
    Ok(bad)
}

/// Lets a stack stand until somebody has looked at it.
fn keep(scene: &Scene, world: &World) {
    println!(
        "kept: `nsenter --mount --target {}` leads to it, below {}; Enter goes on",
        scene.stage_pid(world),
        world.dir().display()
    );
    let mut line = String::new();
    if !matches!(std::io::stdin().read_line(&mut line), Ok(1..)) {
        // Nobody is there to press Enter: stay until ended.
        loop {
            std::thread::park();
        }
    }
}
