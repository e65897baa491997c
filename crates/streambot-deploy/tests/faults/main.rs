//! `deploy` on a bad day: calls that fail, answers that are lost, deploys that are killed, two at
//! once, and credentials that will not do.

#[path = "../support/mod.rs"]
mod support;

mod matrix;
mod meanwhile;
mod refusals;

use std::io::Write as _;
use std::sync::LazyLock;

use anyhow::{Result, ensure};

use matrix::SCENARIOS;
use support::world::World;

/// How many deploys of the matrix run at once, each with a moto of its own.
const THREADS: usize = 2;

/// Where all other tests deploy, each to environments of its own.
static WORLD: LazyLock<World> = LazyLock::new(|| World::new().expect("moto starts"));

#[test]
fn whatever_goes_wrong_with_whichever_call_the_end_is_the_declared_state() -> Result<()> {
    let worlds = (0..THREADS).map(|_| World::new()).collect::<Result<Vec<_>>>()?;
    let mut broken = Vec::new();
    // Not `println!`, which the test harness keeps to itself where the test passes.
    let mut stderr = std::io::stderr();
    writeln!(
        stderr,
        "\ndone: the deploy succeeds all the same. next: it fails, or is killed, and the next one succeeds."
    )?;
    for scenario in SCENARIOS {
        let (table, of_scenario) = matrix::play(&worlds, scenario)?;
        writeln!(stderr, "{table}")?;
        broken.extend(of_scenario);
    }
    ensure!(broken.is_empty(), "{} broken:\n\n{}", broken.len(), broken.join("\n\n"));
    Ok(())
}
