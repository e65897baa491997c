//! `--report`: a page about a run, in one file that needs nothing else. What happened is collected
//! while the run goes on ([`Recorder`]), and drawn by the page itself. It refuses to know why
//! anything happened.

mod timeline;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Map, json};

use super::chaos::{Chaos, Strikes};
use super::clock::Clock;
use super::metrics::Value;
use super::poller::Settings;
use super::summary::Summary;
use crate::error::{Error, Result};
pub(crate) use timeline::Invocation;
use timeline::Timeline;

/// The page, but for its data.
const PAGE: &str = include_str!("report/page.html");
/// Where the data goes.
const PLACE: &str = "{\"placeholder\":\"the run\"}";

/// Collects what happens, from all shards at once.
#[derive(Debug)]
pub(crate) struct Recorder {
    clock: Clock,
    timeline: Mutex<Timeline>,
}

/// The report of a run that goes on.
#[derive(Debug)]
pub(crate) struct Report {
    /// The file.
    pub(crate) path: PathBuf,
    /// What happened so far.
    pub(crate) recorder: Arc<Recorder>,
}

/// What a run is and what came of it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// The function's ARN.
    pub(crate) function_arn: &'a str,
    /// How the shards were read.
    pub(crate) settings: &'a Settings,
    /// What the run came to.
    pub(crate) summary: &'a Summary,
    /// The trouble that was asked for.
    pub(crate) chaos: Option<&'a Chaos>,
    /// Whether it was interrupted.
    pub(crate) interrupted: bool,
}

/// The data of the page.
#[derive(Serialize)]
struct Data<'a> {
    version: &'static str,
    /// The function's name.
    function: &'a str,
    /// In milliseconds since the Unix epoch.
    began: u64,
    settings: Map<String, serde_json::Value>,
    summary: &'a Summary,
    chaos: Option<Strikes>,
    interrupted: bool,
    timeline: &'a Timeline,
}

impl Recorder {
    /// Begins to collect.
    pub(crate) fn new(clock: Clock) -> Recorder {
        Recorder { timeline: Mutex::new(Timeline::new(clock.now())), clock }
    }

    /// The run begins now: what went before, such as the build, is not part of it.
    pub(crate) fn begin(&self) {
        *self.timeline() = Timeline::new(self.clock.now());
    }

    /// An invocation ended, or was refused.
    pub(crate) fn invocation(&self, invocation: &Invocation<'_>) {
        self.timeline().invocation(invocation);
    }

    /// Records of a shard were given up, for a reason by Lambda's name.
    pub(crate) fn discard(&self, shard: &str, records: usize, condition: &'static str) {
        self.timeline().discard(shard, self.clock.now(), records, condition);
    }

    /// The checkpoint of a shard moved: this many of its records lie behind it.
    pub(crate) fn checkpoint(&self, shard: &str, behind: u64) {
        self.timeline().checkpoint(shard, self.clock.now(), behind);
    }

    /// The function emitted metrics.
    pub(crate) fn metrics(&self, values: &[Value]) {
        let (now, mut timeline) = (self.clock.now(), self.timeline());
        values.iter().for_each(|value| timeline.metric(now, value));
    }

    fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    /// Writes the page.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, facts: &Facts<'_>) -> Result<()> {
        let writing = || Error::failed(format!("writing the report {}", self.path.display()));
        let timeline = self.recorder.timeline();
        let data = Data {
            version: env!("CARGO_PKG_VERSION"),
            function: facts.function_arn.rsplit(':').next().unwrap_or(facts.function_arn),
            began: timeline.began(),
            settings: settings(facts),
            summary: facts.summary,
            chaos: facts.chaos.map(Chaos::strikes),
            interrupted: facts.interrupted,
            timeline: &timeline,
        };
        let json = serde_json::to_string(&data).map_err(|error| writing().because(error))?;
        std::fs::write(&self.path, PAGE.replacen(PLACE, &in_a_script(&json), 1))
            .map_err(|error| writing().because(error))
    }
}

/// The settings that decided how the run went, by the mapping's names.
fn settings(facts: &Facts<'_>) -> Map<String, serde_json::Value> {
    let settings = facts.settings;
    let seconds = |milliseconds: u64| milliseconds as f64 / 1000.0;
    let retries = settings.maximum_retry_attempts.map_or(json!(-1), |retries| json!(retries));
    let mut named = Map::new();
    for (name, value) in [
        ("batch-size", json!(settings.batch_size)),
        ("maximum-batching-window-in-seconds", json!(seconds(settings.batching_window))),
        ("parallelization-factor", json!(settings.parallelization_factor)),
        ("maximum-retry-attempts", retries),
        ("maximum-record-age-in-seconds", json!(seconds(settings.maximum_record_age))),
        ("bisect-batch-on-function-error", json!(settings.bisect)),
        ("tumbling-window-in-seconds", json!(settings.tumbling_window.map(seconds))),
        ("retry-delay in seconds", json!(seconds(settings.retry_delay))),
        ("chaos", json!(facts.chaos.map(Chaos::description))),
    ] {
        named.insert(name.to_owned(), value);
    }
    named
}

/// JSON that no HTML parser takes for the end of its script element, nor for the beginning of a
/// comment.
fn in_a_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_its_data_and_asks_for_nothing_else() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        for outside in ["src=", "href=", "@import", "://", "fetch(", "XMLHttpRequest"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert!(PAGE.contains("default-src 'none'"), "the browser refuses what would be asked for");
    }

    #[test]
    fn no_data_ends_the_script_it_stands_in() {
        let json = in_a_script(r#"{"name":"</script><!-- <script>"}"#);
        assert!(!json.contains('<'), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        assert_eq!(read["name"], "</script><!-- <script>");
    }
}
