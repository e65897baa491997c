//! What a deploy costs where AWS is 100 ms away, beside `cargo lambda deploy` of the same function
//! against the same server. Prints a Markdown table; times are medians of three.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use support::proxy::{Call, Proxy};
use support::world::{Declared, World};
use support::{REGION, tool, unzip};

/// What the proxy adds to each call.
const LATENCY: Duration = Duration::from_millis(100);
const RUNS: usize = 3;

/// What is deployed after what, and what it is called.
const DEPLOYS: [(&str, Option<Declared>, Declared); 4] = [
    ("first", None, Declared::First),
    ("unchanged", Some(Declared::First), Declared::First),
    ("settings only", Some(Declared::First), Declared::Settings),
    ("code only", Some(Declared::First), Declared::Code),
];

/// What one deploy cost.
struct Cost {
    calls: Vec<Call>,
    time: Duration,
}

fn main() -> Result<()> {
    let world = World::new()?;
    let peer = Peer::new(&world)?;
    println!(
        "`deploy` with {} ms added to each call, median of {RUNS}, on {}:\n",
        LATENCY.as_millis(),
        machine()
    );
    println!("| deploy | | round trips in a row | calls | writes | time |");
    println!("|---|---|---:|---:|---:|---:|");
    for (name, before, declared) in DEPLOYS {
        let ours = (0..RUNS).map(|run| {
            ours(&world, &format!("{}-{run}", name.replace(' ', "-")), before, declared)
        });
        println!("| {name} | `streambot-deploy` | {} |", row(ours.collect::<Result<_>>()?));
        let theirs = (0..RUNS)
            .map(|run| peer.deploy(&format!("{}-{run}", name.replace(' ', "-")), before, declared));
        println!("| | `cargo lambda deploy` | {} |", row(theirs.collect::<Result<_>>()?));
    }
    println!(
        "\n`cargo lambda deploy` reads no stack, publishes no alias and makes no event source mapping."
    );
    Ok(())
}

/// The run in the middle, by its time.
fn row(mut costs: Vec<Cost>) -> String {
    costs.sort_by_key(|cost| cost.time);
    let Cost { calls, time } = &costs[costs.len() / 2];
    let writes = calls.iter().filter(|call| call.write).count();
    format!("{} | {} | {writes} | {:.2} s", Call::depth(calls), calls.len(), time.as_secs_f64())
}

/// Runs `command`, which must succeed, against a proxy that keeps its distance.
fn cost(proxy: &Proxy, mut command: Command) -> Result<Cost> {
    proxy.take();
    proxy.delay(LATENCY);
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let time = started.elapsed();
    proxy.delay(Duration::ZERO);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(Cost { calls: proxy.take(), time })
}

fn ours(world: &World, name: &str, before: Option<Declared>, declared: Declared) -> Result<Cost> {
    let environment = world.environment(name)?;
    if let Some(before) = before {
        environment.deploy(before)?;
    }
    let cost = cost(&environment.proxy, environment.patient_command(declared));
    environment.forget()?;
    cost
}

/// `cargo lambda deploy` of what the bundles hold.
struct Peer<'a> {
    world: &'a World,
    program: PathBuf,
    role: String,
    /// A package whose executables are those of the bundles.
    folder: tempfile::TempDir,
}

impl<'a> Peer<'a> {
    fn new(world: &'a World) -> Result<Self> {
        let environment = world.environment("peer")?;
        environment.deploy(Declared::First)?;
        let role = environment.state()?["function"]["Role"].as_str().context("a role")?.to_owned();
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("src"))?;
        std::fs::write(folder.path().join("src/main.rs"), "fn main() {}\n")?;
        std::fs::write(
            folder.path().join("Cargo.toml"),
            "[package]\nname = \"peer\"\nedition = \"2024\"\n\n[workspace]\n",
        )?;
        let files = unzip(world.bundle(Declared::First))?;
        let (_, _, executable) =
            files.into_iter().find(|(name, _, _)| name == "bootstrap").context("bootstrap")?;
        std::fs::write(folder.path().join("one"), &executable)?;
        // What stands behind an executable's end makes another file of it, and no other program.
        std::fs::write(folder.path().join("two"), [executable.as_slice(), b"two"].concat())?;
        Ok(Self { world, program: tool("python/build/bin/cargo-lambda")?, role, folder })
    }

    fn deploy(&self, name: &str, before: Option<Declared>, declared: Declared) -> Result<Cost> {
        let proxy = Proxy::of(&self.world.moto)?;
        if let Some(before) = before {
            let output = self.command(&proxy, name, before).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        cost(&proxy, self.command(&proxy, name, declared))
    }

    fn command(&self, proxy: &Proxy, name: &str, declared: Declared) -> Command {
        let executable = if declared == Declared::Code { "two" } else { "one" };
        let memory = if declared == Declared::Settings { "256" } else { "128" };
        let mut command = Command::new(&self.program);
        command
            .args([
                "lambda",
                "deploy",
                "--endpoint-url",
                &proxy.url(),
                "--region",
                REGION,
                "--role",
                &self.role,
            ])
            .args(["--memory", memory, "--timeout", "60", "--binary-path"])
            .arg(self.folder.path().join(executable))
            .arg(format!("peer-{name}"))
            .current_dir(self.folder.path())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }
}

/// This machine's processor.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = std::fs::read_to_string(Path::new("/proc/cpuinfo")).ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    format!("{} ({cores} cores)", model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()))
}
