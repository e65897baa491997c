//! The invocation that runs: its ids for log lines, its counts, how many failures it logged, and
//! its lines for S3.
//!
//! Code that is called from anywhere (`metrics::count`, a log line) finds it with [`current`].
//! Several invocations can be active in one process: one for each worker, or one for each parallel
//! test.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::runtime::{Handle, Id};

use crate::context::Context;
#[cfg(feature = "s3-logs")]
use crate::logs::Capture;

/// Sums by metric name.
pub(crate) type Counts = BTreeMap<Cow<'static, str>, u64>;

/// How many idle Tokio runtimes the registry remembers.
const MAX_IDLE_RUNTIMES: usize = 1_000;
/// How many refused names of one invocation are logged.
const MAX_LOGGED_REFUSALS: usize = 10;

/// An invocation, as everything that works for it sees it.
#[derive(Debug, Clone)]
pub(crate) struct Scope(Arc<Invocation>);

#[derive(Debug)]
struct Invocation {
    request_id: String,
    xray_trace_id: Option<String>,
    /// The name of the contract's metric, which no count may have.
    metric: String,
    tally: Mutex<Tally>,
    failures: AtomicUsize,
    skipped: AtomicUsize,
    #[cfg(feature = "s3-logs")]
    lines: Mutex<Option<Capture>>,
}

#[derive(Debug, Default)]
struct Tally {
    /// The metric lines are written: later counts belong to the next invocation.
    closed: bool,
    counts: Counts,
    refused: BTreeSet<Cow<'static, str>>,
}

impl Scope {
    pub(crate) fn request_id(&self) -> &str {
        &self.0.request_id
    }

    pub(crate) fn xray_trace_id(&self) -> Option<&str> {
        self.0.xray_trace_id.as_deref()
    }

    /// Counts one more failed record, and returns how many failed before it.
    pub(crate) fn add_failure(&self) -> usize {
        self.0.failures.fetch_add(1, Ordering::Relaxed)
    }

    /// How many records failed so far.
    pub(crate) fn failures(&self) -> usize {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Counts one more skipped record, and returns how many were skipped before it.
    pub(crate) fn add_skipped(&self) -> usize {
        self.0.skipped.fetch_add(1, Ordering::Relaxed)
    }

    /// How many records were skipped so far.
    pub(crate) fn skipped(&self) -> usize {
        self.0.skipped.load(Ordering::Relaxed)
    }

    /// Returns the counts. What is counted later belongs to the next invocation.
    pub(crate) fn close(&self) -> Counts {
        registry().active.retain(|active| !Arc::ptr_eq(&active.scope.0, &self.0));
        let mut tally = lock(&self.0.tally);
        tally.closed = true;
        std::mem::take(&mut tally.counts)
    }

    /// Adds to a sum; gives the name back if the invocation is closed.
    fn add(&self, name: Cow<'static, str>, amount: u64) -> Result<(), Cow<'static, str>> {
        let mut tally = lock(&self.0.tally);
        if tally.closed {
            return Err(name);
        }
        if name != self.0.metric {
            add(&mut tally.counts, name, amount);
            return Ok(());
        }
        let log = tally.refused.len() < MAX_LOGGED_REFUSALS && tally.refused.insert(name.clone());
        // A subscriber may count, too.
        drop(tally);
        if log {
            refuse(&name);
        }
        Ok(())
    }

    /// Whether the refusal of this name is to be logged.
    fn logs_refusal_of(&self, name: &str) -> bool {
        let mut tally = lock(&self.0.tally);
        tally.refused.len() < MAX_LOGGED_REFUSALS
            && tally.refused.insert(Cow::Owned(name.to_owned()))
    }

    /// Keeps a line for S3; false if the invocation's lines were taken already.
    #[cfg(feature = "s3-logs")]
    pub(crate) fn capture(&self, line: &[u8]) -> bool {
        match &mut *lock(&self.0.lines) {
            Some(lines) => {
                lines.add(line);
                true
            }
            None => false,
        }
    }

    /// The lines for S3.
    #[cfg(feature = "s3-logs")]
    pub(crate) fn take_lines(&self) -> Vec<u8> {
        lock(&self.0.lines).take().map(Capture::into_lines).unwrap_or_default()
    }

    /// Runs a future of this invocation: what it calls finds this scope first.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _entered = Entered::new(self.clone());
            future.as_mut().poll(context)
        })
        .await
    }
}

thread_local! {
    /// The scope whose future is being polled on this thread.
    static POLLED: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Sets the polled scope, and sets the one before it again when dropped.
struct Entered {
    before: Option<Scope>,
}

impl Entered {
    fn new(scope: Scope) -> Self {
        Self { before: POLLED.replace(Some(scope)) }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        POLLED.set(self.before.take());
    }
}

/// The scopes of the process.
#[derive(Debug, Default)]
struct Registry {
    /// From the oldest to the most recent.
    active: Vec<Active>,
    /// The runtimes that ran an invocation, with what was counted on them between invocations.
    runtimes: HashMap<Id, Counts>,
    /// What was counted elsewhere while no invocation could be told.
    pending: Counts,
}

#[derive(Debug)]
struct Active {
    runtime: Option<Id>,
    scope: Scope,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    lock(&REGISTRY)
}

impl Registry {
    /// The most recent invocation of the runtime. A thread of none, or of one that runs no
    /// invocations, gets the only active invocation there is.
    fn find(&self, runtime: Option<Id>) -> Option<Scope> {
        let of_runtime =
            self.active.iter().rev().find(|active| runtime.is_some() && active.runtime == runtime);
        let found = match (of_runtime, runtime) {
            (Some(active), _) => Some(active),
            (None, Some(id)) if self.runtimes.contains_key(&id) => None,
            _ if self.active.len() == 1 => self.active.first(),
            _ => None,
        };
        found.map(|active| active.scope.clone())
    }

    /// Keeps a count for the runtime's next invocation.
    fn keep(&mut self, runtime: Option<Id>, name: Cow<'static, str>, amount: u64) {
        let known = runtime.and_then(|id| self.runtimes.get_mut(&id));
        add(known.unwrap_or(&mut self.pending), name, amount);
    }

    /// What was counted since the runtime's last invocation.
    fn take_pending(&mut self, runtime: Option<Id>) -> Counts {
        let mut counts = std::mem::take(&mut self.pending);
        if let Some(id) = runtime {
            if self.runtimes.len() >= MAX_IDLE_RUNTIMES {
                let active = &self.active;
                self.runtimes.retain(|id, kept| {
                    !kept.is_empty() || active.iter().any(|active| active.runtime == Some(*id))
                });
            }
            for (name, amount) in std::mem::take(self.runtimes.entry(id).or_default()) {
                add(&mut counts, name, amount);
            }
        }
        counts
    }
}

/// An active invocation; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ActiveScope(Scope);

impl ActiveScope {
    pub(crate) fn scope(&self) -> &Scope {
        &self.0
    }
}

impl Drop for ActiveScope {
    fn drop(&mut self) {
        for (name, amount) in self.0.close() {
            keep_for_next(name, amount);
        }
    }
}

/// Begins an invocation. `metric` is the name of the contract's metric.
pub(crate) fn start(context: &Context, metric: &str) -> ActiveScope {
    let runtime = runtime();
    let mut registry = registry();
    let mut counts = registry.take_pending(runtime);
    let refused = counts.remove(metric).is_some();
    let scope = Scope(Arc::new(Invocation {
        request_id: context.request_id().to_owned(),
        xray_trace_id: context.xray_trace_id().map(str::to_owned),
        metric: metric.to_owned(),
        tally: Mutex::new(Tally { counts, ..Tally::default() }),
        failures: AtomicUsize::new(0),
        skipped: AtomicUsize::new(0),
        #[cfg(feature = "s3-logs")]
        lines: Mutex::new(Some(crate::logs::capture_of_invocation())),
    }));
    registry.active.push(Active { runtime, scope: scope.clone() });
    drop(registry);
    if refused {
        refuse(metric);
    }
    ActiveScope(scope)
}

/// The invocation that the calling code works for, if that can be told.
pub(crate) fn current() -> Option<Scope> {
    polled().or_else(|| registry().find(runtime()))
}

fn polled() -> Option<Scope> {
    POLLED.try_with(|polled| polled.borrow().clone()).ok().flatten()
}

/// Adds to a sum of the current invocation, or of the next one if there is none.
pub(crate) fn count(name: Cow<'static, str>, amount: u64) {
    let name = match current() {
        None => name,
        Some(scope) => match scope.add(name, amount) {
            Ok(()) => return,
            Err(name) => name,
        },
    };
    keep_for_next(name, amount);
}

/// Whether the refusal of a name is to be logged: once for each name and invocation.
pub(crate) fn logs_refusal_of(name: &str) -> bool {
    current().is_none_or(|scope| scope.logs_refusal_of(name))
}

fn keep_for_next(name: Cow<'static, str>, amount: u64) {
    registry().keep(runtime(), name, amount);
}

fn refuse(metric: &str) {
    tracing::error!(
        metric,
        "metric not counted: this is the name of the stack's own metric, MetricName"
    );
}

fn runtime() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

fn add(counts: &mut Counts, name: Cow<'static, str>, amount: u64) {
    let sum = counts.entry(name).or_default();
    *sum = sum.saturating_add(amount);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
