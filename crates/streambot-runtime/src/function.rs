//! One invocation: the bytes of an event in, the answer and the metric line out. It knows the order
//! of decoding, handling and answering; it refuses to know the Runtime API, stdout and S3.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use lambda_runtime::Diagnostic;
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::context::Context;
use crate::event::{self, Batch};
use crate::failure::{Chain, Panicked, log_further_failures};
use crate::handler::Handler;
use crate::logs::{LogObject, invocation_span};
use crate::metrics;
use crate::response::{Outcome, Response};
use crate::scope::{self, Scope};

/// A handler with all it needs to answer invocations.
pub(crate) struct Function<H> {
    pub(crate) handler: H,
    pub(crate) names: metrics::Names,
    /// Whether partial answers are honoured.
    pub(crate) report: bool,
}

/// What came of one invocation.
pub(crate) struct Finished {
    pub(crate) answer: Result<Response, Diagnostic>,
    /// The metric lines, each with a line end.
    pub(crate) metrics: String,
    pub(crate) log: LogObject,
}

impl<H: Handler> Function<H> {
    /// Works on one event. Bad input and failures are answers, too: nothing here ends the process.
    pub(crate) async fn invoke(&self, body: Bytes, context: Context) -> Finished {
        let span = invocation_span(&context);
        let active = scope::start(&context, &self.names.metric);
        let scope = active.scope();
        scope.run(self.work(body, context, scope.clone()).instrument(span)).await
    }

    async fn work(&self, body: Bytes, mut context: Context, scope: Scope) -> Finished {
        let clock = context.clock();
        let (started, arrived) = (clock.now(), clock.time_of_day());
        let mut last = None;
        let mut numbers = metrics::Invocation::default();
        let answer = match event::decode(body) {
            Err(error) => Err(diagnostic("Function.EventUnreadable", &error)),
            Ok(batch) => {
                numbers.records = batch.len();
                numbers.user_records = batch.len();
                numbers.iterator_age = iterator_age(&batch, arrived);
                last = batch.get(batch.len().wrapping_sub(1)).map(|record| {
                    (record.shard_id().to_owned(), record.sequence_number().to_owned())
                });
                context = context.of_shard(batch.shard_id());
                let state = batch.window().map(|window| window.state.clone());
                let outcome = self.outcome(batch, context.clone()).await;
                outcome.and_then(|outcome| self.response(outcome, state, &mut numbers))
            }
        };
        if answer.is_err() {
            // All of them are delivered again.
            numbers.failed = numbers.records;
        }
        numbers.duration = clock.now() - started;
        log_further_failures(&scope);
        tracing::info!(
            records = numbers.records,
            failed = numbers.failed,
            duration_ms = numbers.duration.as_secs_f64() * 1000.0,
            "batch {}",
            if numbers.succeeded { "done" } else { "failed" }
        );
        let counts = scope.close();
        metrics::warn_of_many(&counts);
        let now = clock.time_of_day();
        let metrics = metrics::invocation_lines(&self.names, &scope, &numbers, &counts, now);
        Finished { answer, metrics, log: LogObject { context, scope, last } }
    }

    /// The response to an outcome, and the numbers that go with that very response.
    fn response(
        &self,
        mut outcome: Outcome,
        state: Option<Box<RawValue>>,
        numbers: &mut metrics::Invocation,
    ) -> Result<Response, Diagnostic> {
        // A windowed event's response without a state would be a failure: the state stays as it
        // was.
        outcome.state = outcome.state.or(state);
        numbers.user_records = outcome.user_records.unwrap_or(numbers.records);
        numbers.unfinished = outcome.unfinished();
        let response = Response::new(&mut outcome, self.report)
            .map_err(|error| diagnostic("Function.RecordsFailed", &error))?;
        numbers.failed = outcome.failed();
        numbers.succeeded = outcome.is_success();
        Ok(response)
    }

    async fn outcome(&self, batch: Batch, context: Context) -> Result<Outcome, Diagnostic> {
        match AssertUnwindSafe(self.handler.handle(batch, context)).catch_unwind().await {
            Ok(outcome) => outcome.map_err(|error| diagnostic("Function.BatchFailed", &*error)),
            Err(panic) => Err(diagnostic("Function.Panicked", &Panicked::new(&*panic))),
        }
    }
}

/// An error as Lambda shows it, logged on the way.
fn diagnostic(kind: &str, error: &(dyn std::error::Error + 'static)) -> Diagnostic {
    let error_message = Chain(error).to_string();
    tracing::error!(kind, "invocation failed: {error_message}");
    Diagnostic { error_type: kind.to_owned(), error_message }
}

/// How old the oldest record was when the event arrived.
fn iterator_age(batch: &Batch, now: SystemTime) -> Option<Duration> {
    Some(now.duration_since(batch.oldest_arrival()?).unwrap_or_default())
}
