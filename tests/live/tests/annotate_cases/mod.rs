//! What profilers, tracers and logs print of the containers.

mod logs;
mod tracers;

use whose_testkit::cases::Cases;

use crate::World;

pub(crate) fn run(world: &World, cases: &mut Cases) {
    tracers::run(world, cases);
    logs::run(world, cases);
}
