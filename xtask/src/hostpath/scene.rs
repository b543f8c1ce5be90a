//! A plan put into effect.

use anyhow::{Context, Result};

use super::plan::{Place, Plan, Space, Step, quoted};
use super::stage::{self, Said, Stage};
use super::world::World;

/// A stack that stands, with its programs running.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) plan: Plan,
    /// What each program said when it had started.
    pub(super) said: Vec<Option<Said>>,
    /// The steps that failed.
    pub(super) broken: Vec<String>,
    /// The stage in the stack's own namespaces, if they are not the caller's.
    inside: Option<Stage>,
}

impl Scene {
    /// Does the plan's steps. A step that fails is remembered.
    pub(super) fn build(world: &mut World, plan: Plan) -> Result<Self> {
        let inside = match plan.space {
            Space::Host => None,
            Space::Private => Some(apart(world, b"mount")?),
            Space::User => Some(apart(world, b"user")?),
        };
        let said = vec![None; plan.programs.len()];
        let mut scene = Self { plan, said, broken: Vec::new(), inside };
        let steps = std::mem::take(&mut scene.plan.steps);
        let place = |step: &Step| match (&scene.inside, step.place) {
            (None, _) => Place::Host,
            (Some(_), place) => place,
        };
        let placed: Vec<(Place, &Step)> = steps.iter().map(|step| (place(step), step)).collect();
        for run in placed.chunk_by(|one, other| one.0 == other.0) {
            scene.do_steps(world, run)?;
        }
        scene.plan.steps = steps;
        Ok(scene)
    }

    fn do_steps(&mut self, world: &mut World, steps: &[(Place, &Step)]) -> Result<()> {
        let words: Vec<Vec<Vec<u8>>> = steps
            .iter()
            .map(|(_, step)| step.words.iter().map(|word| world.resolve(word)).collect())
            .collect();
        let commands: Vec<Vec<&[u8]>> =
            words.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
        let stage = match (&mut self.inside, steps.first()) {
            (Some(stage), Some((Place::Inside, _))) => stage,
            _ => &mut world.host,
        };
        let answers = stage.all(&commands)?;
        for ((_, step), answer) in steps.iter().zip(answers) {
            match (answer, step.starts) {
                (Ok(line), Some(index)) => self.said[index] = Some(stage::said(&line)?),
                (Ok(_), None) => {}
                (Err(why), _) => {
                    let words: Vec<String> = step.words.iter().map(|word| quoted(word)).collect();
                    self.broken.push(format!("{}: {why}", words.join(" ")));
                }
            }
        }
        Ok(())
    }

    /// The PIDs of the programs that run, in the plan's order.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.said.iter().flatten().map(|said| said.pid)
    }

    /// What a process has in its memory at this moment.
    pub(super) fn ask(&mut self, world: &mut World, pid: u32) -> Result<Said> {
        self.inside.as_mut().unwrap_or(&mut world.host).ask(pid)
    }

    /// The PID of the stage that sees what the programs see.
    pub(super) fn stage_pid(&self, world: &World) -> u32 {
        self.inside.as_ref().unwrap_or(&world.host).pid()
    }

    /// Ends the programs, takes the mounts down and removes the files.
    pub(super) fn clear(mut self, world: &mut World) -> Result<()> {
        // A namespace of its own ends with its stage, and its mounts with it.
        if self.inside.take().is_none() {
            let pids: Vec<Vec<u8>> = self.pids().map(|pid| pid.to_string().into_bytes()).collect();
            let points: Vec<Vec<u8>> =
                self.plan.mounts.iter().rev().map(|point| world.resolve(point)).collect();
            let mut commands: Vec<Vec<&[u8]>> =
                pids.iter().map(|pid| vec![b"end".as_slice(), pid]).collect();
            // Some are gone already, by the plan.
            commands.extend(points.iter().map(|point| vec![b"detach".as_slice(), point]));
            world.host.all(&commands)?;
        }
        world.sweep(self.plan.number)
    }
}

fn apart(world: &World, which: &[u8]) -> Result<Stage> {
    let mut stage = Stage::start(&world.programs)?;
    stage.one(&[b"unshare", which]).context("a namespace for a stack")?;
    Ok(stage)
}
