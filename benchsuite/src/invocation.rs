//! Table 2: what a whole invocation costs. Each function gets the same events from the same Runtime
//! API, in rounds: a round gives every function a few, one function after the other, so that a
//! machine that slows down for a while slows down all of them. A round's processor time is taken
//! from rest to rest, so what a function does after its answer counts too.

use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use shapes::{MANY_RECORDS, SHAPES, SMALL_EVENT, Shape};

use crate::callgrind;
use crate::function::Function;
use crate::peers::{self, Peer};
use crate::rounds::shuffled;
use crate::table::{Limit, Spread, count, megabytes, milliseconds, quantile, verdict};

/// Two processes of one executable differ, for as long as they live, by where their memory happens
/// to lie.
const PROCESSES: usize = 5;
/// Of each process.
const ROUNDS: usize = 3;
/// Events over this have fewer invocations a round.
const LARGE: usize = 1_000_000;
/// Events over this have a limit to memory.
const LARGEST: usize = 5_000_000;
/// Instructions are counted for this many invocations and for three times as many; the difference
/// has no start in it.
const COUNTED: usize = 2;

const OURS: [&str; 3] = [peers::BATCH, peers::EACH, peers::EACH_16];

/// What one function costs with one event.
struct Cost {
    name: &'static str,
    /// Seconds of processor time an invocation, by round.
    cpu: Vec<f64>,
    /// Seconds from handing out the event to its answer, by invocation.
    latencies: Vec<f64>,
    instructions: Option<u64>,
    /// That of the process that grew most.
    memory: Memory,
}

/// Bytes of memory.
#[derive(Clone, Copy, Default)]
struct Memory {
    /// What the process held before its first event.
    rest: u64,
    /// The most it held since then.
    peak: u64,
}

impl Memory {
    fn growth(self) -> u64 {
        self.peak.saturating_sub(self.rest)
    }
}

impl Cost {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            cpu: Vec::new(),
            latencies: Vec::new(),
            instructions: None,
            memory: Memory::default(),
        }
    }
}

/// Measures and prints.
pub fn table() -> Result<()> {
    println!("## 2. Whole invocation\n");
    println!(
        "No function does anything with its records. CPU and latency are the median and, in parentheses, the quartiles of \
         {} rounds, over {PROCESSES} processes of each function; CPU is all threads' user and system time. Instructions are user space's only, by callgrind, \
         which takes each byte that `rep movsb` copies for one and does not see the kernel, where the floor spends most of its \
         time: instructions are no measure against the floor. Streambot has glibc keep freed memory, as no peer does. \
         aws_lambda_events and both Powertools take a KPL aggregate for one record; Streambot takes it apart.\n",
        PROCESSES * ROUNDS
    );
    let peers = peers::all()?;
    let mut goals = Vec::new();
    for shape in &SHAPES {
        eprintln!("invocation: {}", shape.name);
        let event: Arc<[u8]> = shape.body().into();
        let costs = measure(&peers, &event)?;
        print(shape, &event, &costs);
        goals.extend(goal_lines(shape, &event, &costs));
    }
    println!(
        "| goal | event | function | by CPU | by instructions | by memory |\n|---|---|---|---|---|---|"
    );
    println!("{}\n", goals.join("\n"));
    Ok(())
}

fn measure(peers: &[Peer], event: &Arc<[u8]>) -> Result<Vec<Cost>> {
    let mut costs: Vec<Cost> = peers.iter().map(|peer| Cost::new(peer.name)).collect();
    for process in 0..PROCESSES {
        measure_processes(process, peers, event, &mut costs)?;
    }
    for (peer, cost) in peers.iter().zip(&mut costs).filter(|(peer, _)| peer.bootstrap.is_some()) {
        cost.instructions = Some(instructions(peer, event)?);
    }
    Ok(costs)
}

/// Some rounds, with a new process of each function.
fn measure_processes(
    process: usize,
    peers: &[Peer],
    event: &Arc<[u8]>,
    costs: &mut [Cost],
) -> Result<()> {
    let functions =
        peers.iter().map(|peer| Function::start(peer.command())).collect::<Result<Vec<_>>>()?;
    let invocations = if event.len() > LARGE { 4 } else { 25 };
    let mut at_rest = Vec::new();
    for (peer, function) in peers.iter().zip(&functions) {
        function.cpu()?;
        at_rest.push(function.resident()?);
        function.forget_peak()?;
        // What the first events make, or have compiled, is no later one's.
        for _ in 0..invocations {
            function.invoke(event).with_context(|| format!("{} fails", peer.name))?;
        }
    }
    for round in 0..ROUNDS {
        for index in shuffled(process * ROUNDS + round, peers.len()) {
            let (function, cost) = (&functions[index], &mut costs[index]);
            let before = function.cpu()?;
            for _ in 0..invocations {
                cost.latencies.push(function.invoke(event)?.as_secs_f64());
            }
            cost.cpu.push((function.cpu()? - before).as_secs_f64() / f64::from(invocations));
        }
    }
    for ((function, cost), rest) in functions.iter().zip(costs).zip(at_rest) {
        let memory = Memory { rest, peak: function.peak()? };
        if memory.growth() >= cost.memory.growth() {
            cost.memory = memory;
        }
    }
    Ok(())
}

/// How many instructions an invocation takes, of those after the first ones.
fn instructions(peer: &Peer, event: &Arc<[u8]>) -> Result<u64> {
    let few = || instructions_of_run(peer.command(), event, COUNTED);
    let many = || instructions_of_run(peer.command(), event, 3 * COUNTED);
    let (few, many) = thread::scope(|scope| {
        let few = scope.spawn(few);
        let many = many();
        (few.join().expect("counting does not panic"), many)
    });
    Ok((many? - few?) / (2 * COUNTED as u64))
}

/// How many instructions the function takes from its start to the end of the last of some
/// invocations.
pub fn instructions_of_run(command: Command, event: &Arc<[u8]>, invocations: usize) -> Result<u64> {
    let profile = std::env::temp_dir()
        .join(format!("benchsuite-{}-{invocations}.callgrind", std::process::id()));
    let function = Function::start(callgrind::under(&command, &profile))?;
    for _ in 0..invocations {
        function.invoke(event)?;
    }
    function.end()?;
    callgrind::total(&profile)
}

fn print(shape: &Shape, event: &[u8], costs: &[Cost]) {
    println!("### {}: {} MB of JSON\n", shape.name, megabytes(event.len() as u64));
    println!(
        "| function | CPU ms | × floor | instructions | × floor | p50 ms | p99 ms | at rest MB | peak MB | peak over rest, × the event |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for cost in costs {
        let floor = by_name(costs, peers::FLOOR);
        println!(
            "| {} | {} | {:.2} | {} | {} | {} | {} | {} | {} | {:.2} |",
            cost.name,
            Spread::of(&cost.cpu).milliseconds(),
            cpu_ratio(cost, floor),
            cost.instructions.map(count).unwrap_or_default(),
            instruction_ratio(cost, floor).map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            milliseconds(quantile(&cost.latencies, 0.5)),
            milliseconds(quantile(&cost.latencies, 0.99)),
            megabytes(cost.memory.rest),
            megabytes(cost.memory.peak),
            memory_ratio(cost, event),
        );
    }
    println!();
}

/// The lines of the table of goals that an event's costs are held to.
fn goal_lines(shape: &Shape, event: &[u8], costs: &[Cost]) -> Vec<String> {
    let [floor, peer] = [peers::FLOOR, peers::AWS_LAMBDA_EVENTS].map(|name| by_name(costs, name));
    let mut lines = Vec::new();
    for cost in OURS.map(|name| by_name(costs, name)) {
        let verdict = verdict(cpu_ratio(cost, floor), Limit::AtMost(1.4));
        let instructions =
            instruction_ratio(cost, floor).map(|ratio| format!("({ratio:.2})")).unwrap_or_default();
        lines.push(format!(
            "| ≤ 1.4 × the floor | {} | {} | {verdict} | {instructions} | |",
            shape.name, cost.name
        ));
    }
    let times_less = match shape.name {
        name if name == MANY_RECORDS.name => Some(5.0),
        name if name == SMALL_EVENT.name => Some(2.5),
        _ => None,
    };
    if let Some(times) = times_less {
        let goal = format!("≥ {times} × less than aws_lambda_events");
        for cost in OURS.map(|name| by_name(costs, name)) {
            lines.push(ratio_line(&goal, shape, cost, Limit::AtLeast(times), peer, cost));
        }
    }
    if event.len() > LARGEST {
        for cost in OURS.map(|name| by_name(costs, name)) {
            let verdict = verdict(memory_ratio(cost, event), Limit::AtMost(3.0));
            lines.push(format!(
                "| peak ≤ rest + 3 × the event | {} | {} | | | {verdict} |",
                shape.name, cost.name
            ));
        }
    }
    lines
}

/// A goal for the ratio of two costs.
fn ratio_line(
    goal: &str,
    shape: &Shape,
    of: &Cost,
    limit: Limit,
    one: &Cost,
    other: &Cost,
) -> String {
    let cpu = verdict(cpu_ratio(one, other), limit);
    let instructions =
        instruction_ratio(one, other).map(|ratio| verdict(ratio, limit)).unwrap_or_default();
    format!("| {goal} | {} | {} | {cpu} | {instructions} | |", shape.name, of.name)
}

/// The median over rounds of one's processor time by the other's.
fn cpu_ratio(one: &Cost, other: &Cost) -> f64 {
    let ratios: Vec<f64> = one.cpu.iter().zip(&other.cpu).map(|(one, other)| one / other).collect();
    quantile(&ratios, 0.5)
}

fn instruction_ratio(one: &Cost, other: &Cost) -> Option<f64> {
    Some(one.instructions? as f64 / other.instructions? as f64)
}

fn memory_ratio(cost: &Cost, event: &[u8]) -> f64 {
    cost.memory.growth() as f64 / event.len() as f64
}

fn by_name<'a>(costs: &'a [Cost], name: &str) -> &'a Cost {
    costs.iter().find(|cost| cost.name == name).expect("each function of this name is measured")
}
