//! Every call of a deploy, and all that can go wrong with it, one after the other, each in an
//! environment of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::support::proxy::{Fault, Refusal};
use crate::support::world::{Declared, Environment, World, failed, succeeded};

/// What is there before a deploy, and what the deploy declares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    before: Option<Declared>,
    declared: Declared,
}

pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "first deploy", before: None, declared: Declared::First },
    Scenario {
        name: "settings and code changed",
        before: Some(Declared::First),
        declared: Declared::Changed,
    },
    Scenario { name: "nothing changed", before: Some(Declared::First), declared: Declared::First },
];

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    ServerError,
    Throttled,
    ResetBefore,
    ResetAfter,
    Silence,
    ServerErrorForEver,
    /// The deploy is killed when the server has done what the call asks, before the answer.
    KilledBefore,
    /// The deploy is killed when the call is answered.
    KilledAfter,
}

/// The columns of the table.
const COLUMNS: [(&str, Wrong); 8] = [
    ("500 once", Wrong::ServerError),
    ("throttled once", Wrong::Throttled),
    ("reset before", Wrong::ResetBefore),
    ("reset after", Wrong::ResetAfter),
    ("no answer in time", Wrong::Silence),
    ("500 for ever", Wrong::ServerErrorForEver),
    ("killed before its answer", Wrong::KilledBefore),
    ("killed after its answer", Wrong::KilledAfter),
];

/// What a deploy can do without: where these fail it says so and goes on.
const OPTIONAL: [&str; 3] = ["GetRole", "SimulatePrincipalPolicy", "ListVersionsByFunction"];

/// A call: which one it is among those of its operation.
type Row = (String, usize);

/// One cell of the table.
struct Case<'a> {
    row: &'a Row,
    wrong: Wrong,
}

/// How a case ended.
enum Ended {
    /// The deploy succeeded all the same.
    Done,
    /// The deploy failed and said why, or was killed, and the next one did it all.
    Repeated,
    /// Something is wrong with the deploy.
    Broken(String),
}

/// Plays every case of a scenario in these worlds, each on a thread of its own, and gives the table
/// and what is broken.
pub(crate) fn play(worlds: &[World], scenario: Scenario) -> Result<(String, Vec<String>)> {
    let ends =
        worlds.iter().map(|world| undisturbed(world, scenario)).collect::<Result<Vec<_>>>()?;
    let rows = &ends[0].0;
    let cases: Vec<_> =
        rows.iter().flat_map(|row| COLUMNS.map(|(_, wrong)| Case { row, wrong })).collect();
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for (world, (_, wanted)) in worlds.iter().zip(&ends) {
            let (next, cases, ended) = (&next, &cases, &ended);
            scope.spawn(move || {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    let end = case.play(world, scenario, index, wanted);
                    let end = end.unwrap_or_else(|error| Ended::Broken(format!("{error:#}")));
                    ended.lock().expect("no thread panics").insert(index, end);
                }
            });
        }
    });
    let ended = ended.into_inner().expect("no thread panics");
    let broken = cases.iter().zip(ended.values()).filter_map(|(case, end)| match end {
        Ended::Broken(why) => {
            let (operation, occurrence) = case.row;
            Some(format!("{}, {operation} {occurrence}, {:?}: {why}", scenario.name, case.wrong))
        }
        _ => None,
    });
    Ok((table(scenario, rows, ended.values()), broken.collect()))
}

/// The calls of a deploy that nothing disturbs, and what it leaves.
fn undisturbed(world: &World, scenario: Scenario) -> Result<(Vec<Row>, Value)> {
    let environment = begin(world, scenario, "undisturbed")?;
    environment.deploy(scenario.declared)?;
    let calls = environment
        .proxy
        .take()
        .into_iter()
        .map(|call| (call.operation, call.occurrence))
        .collect();
    let state = environment.state()?;
    ensure!(environment.mappings()?.len() == 1, "{state:#}");
    environment.forget()?;
    Ok((calls, state))
}

/// An environment as it is before the scenario's deploy.
fn begin<'a>(world: &'a World, scenario: Scenario, name: &str) -> Result<Environment<'a>> {
    let name = format!("{}-{name}", scenario.name.replace(' ', "-"));
    let environment = world.environment(&name)?;
    if let Some(before) = scenario.before {
        environment.deploy(before).context("the deploy before")?;
        environment.proxy.take();
    }
    Ok(environment)
}

impl Case<'_> {
    fn play(
        &self,
        world: &World,
        scenario: Scenario,
        index: usize,
        wanted: &Value,
    ) -> Result<Ended> {
        let environment = begin(world, scenario, &index.to_string())?;
        let proxy = &environment.proxy;
        let (operation, occurrence) = (self.row.0.as_str(), self.row.1);
        let outcome = match self.fault() {
            Fault::HoldAfter | Fault::Freeze => {
                proxy.once(operation, occurrence, self.fault());
                let mut child = environment.held(scenario.declared)?;
                child.kill()?;
                child.wait()?;
                None
            }
            fault => {
                if self.wrong == Wrong::ServerErrorForEver {
                    proxy.for_ever(operation, occurrence, fault);
                } else {
                    proxy.once(operation, occurrence, fault);
                }
                Some(environment.attempt(scenario.declared)?)
            }
        };
        proxy.heal();
        ensure!(environment.mappings()?.len() <= 1, "two mappings: {:#}", environment.state()?);
        let done = match &outcome {
            Some(output) if output.status.success() => {
                if self.wrong == Wrong::ServerErrorForEver {
                    let said = String::from_utf8_lossy(&output.stderr);
                    let told =
                        said.contains("InternalFailure") || said.contains("ServiceException");
                    ensure!(
                        OPTIONAL.contains(&operation) && told,
                        "done, in spite of an error:\n{said}"
                    );
                }
                Some(succeeded(output)?)
            }
            Some(output) => {
                let said = failed(output, 1)?;
                ensure!(
                    self.wrong == Wrong::ServerErrorForEver,
                    "what goes wrong once ends the deploy:\n{said}"
                );
                None
            }
            None => None,
        };
        let end = if done.is_some() { Ended::Done } else { Ended::Repeated };
        let answer = match done {
            Some(answer) => answer,
            None => environment.deploy(scenario.declared).context("the next deploy")?,
        };
        let code = environment.code()?;
        ensure!(
            answer["code_sha256"] == code,
            "the answer names other code than {code}: {answer:#}"
        );
        let state = environment.state()?;
        ensure!(state == *wanted, "{}", difference(wanted, &state, outcome.as_ref()));
        environment.forget()?;
        Ok(end)
    }

    fn fault(&self) -> Fault {
        match self.wrong {
            Wrong::ServerError | Wrong::ServerErrorForEver => {
                Fault::Refuse(Refusal::server_error())
            }
            Wrong::Throttled => Fault::Refuse(Refusal::throttled()),
            Wrong::ResetBefore => Fault::ResetBefore,
            Wrong::ResetAfter => Fault::ResetAfter,
            Wrong::Silence => Fault::Silence,
            Wrong::KilledBefore => Fault::HoldAfter,
            Wrong::KilledAfter => Fault::Freeze,
        }
    }
}

/// The lines that differ, and what the deploy said.
fn difference(wanted: &Value, is: &Value, output: Option<&Output>) -> String {
    let (wanted, is) = (format!("{wanted:#}"), format!("{is:#}"));
    let missing = wanted
        .lines()
        .filter(|line| !is.lines().any(|other| other == *line))
        .map(|line| format!("- {line}"));
    let added = is
        .lines()
        .filter(|line| !wanted.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}"));
    let said = output.map(|output| String::from_utf8_lossy(&output.stderr)).unwrap_or_default();
    let lines: Vec<_> = missing.chain(added).collect();
    format!("another end:\n{}\n{said}", lines.join("\n"))
}

fn table<'a>(
    scenario: Scenario,
    rows: &[Row],
    mut ended: impl Iterator<Item = &'a Ended>,
) -> String {
    let mut table = format!("\n| {} |", scenario.name);
    for (column, _) in COLUMNS {
        let _ = write!(table, " {column} |");
    }
    let _ = write!(table, "\n|---|{}", "---|".repeat(COLUMNS.len()));
    for (operation, occurrence) in rows {
        let _ = write!(table, "\n| {operation} {occurrence} |");
        for end in ended.by_ref().take(COLUMNS.len()) {
            let cell = match end {
                Ended::Done => "done",
                Ended::Repeated => "next",
                Ended::Broken(_) => "BROKEN",
            };
            let _ = write!(table, " {cell} |");
        }
    }
    table + "\n"
}
