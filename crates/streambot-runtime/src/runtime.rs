//! The glue between a [`Handler`] and `lambda_runtime`: the raw body in, the answer out, the metric line before the
//! answer and the log upload after it. It knows the Runtime API's order of things; it refuses to know what is in a batch
//! and what a handler does with it.
//!
//! `lambda_runtime` would parse the body into a value before a handler sees it. A [layer](RawBody) takes the bytes away
//! first and leaves `null` behind; the payload type takes them back. So an event is decoded once, by Streambot.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, LambdaInvocation, Service};
use serde::de::{Deserialize, Deserializer, IgnoredAny};

use crate::clock::Clock;
use crate::context::{Context, Deadlines};
use crate::environment::{self, Stack};
use crate::failure::{Chain, Panicked};
use crate::function::Function;
use crate::handler::Handler;
use crate::logs::{LogObject, Uploads};
use crate::{Error, logs, memory, metrics, shutdown};

/// Runs a service as a Lambda function, until Lambda ends it.
///
/// `init` runs once, before the first invocation: build clients there, and return the [handler](Handler).
///
/// Before it, `.env` is read into the environment and logging is set up, to stdout: the format is that of
/// `AWS_LAMBDA_LOG_FORMAT`, and the filter is `RUST_LOG`, which `AWS_LAMBDA_LOG_LEVEL` caps. Events of `tracing`, records of
/// the `log` crate and panics are lines of that log.
///
/// - A tracing subscriber, a logger of `log` or a panic hook that is set before `run` is respected. Lines of another
///   subscriber are not copied to `LogBucket`.
/// - A panic is logged once; with `RUST_BACKTRACE` set (and not `0`) its line has the field `backtrace`.
/// - `STREAMBOT_LOG_UPLOAD_TIMEOUT_MS` is how long the upload of log lines to `LogBucket` may delay the next event, in
///   milliseconds; 1000 by default.
///
/// ```no_run
/// use streambot_runtime::{Error, Record, each, run};
///
/// fn main() -> Result<(), Error> {
///     run(async || {
///         let greeting = std::env::var("Greeting")?;
///         Ok(each(async move |record: Record| -> Result<(), Error> {
///             tracing::info!("{greeting}, {}", record.sequence_number());
///             Ok(())
///         }))
///     })
/// }
/// ```
///
/// # Errors
///
/// When it is not run by Lambda (or `streambot-deploy local`), when `.env` cannot be read, when `init` fails or panics
/// (Lambda is told so, as an init error), and when the Runtime API goes away.
pub fn run<I, H>(init: I) -> Result<(), Error>
where
    I: AsyncFnOnce() -> Result<H, Error>,
    H: Handler + 'static,
{
    let missing = environment::missing_lambda_variables();
    if !missing.is_empty() {
        return Err(OutsideLambda { missing: missing.into_iter().collect() }.into());
    }
    memory::keep();
    // SAFETY: `run` is called by `main`, and no thread has been started yet: the Tokio runtime is built below.
    let dotenv = unsafe { environment::load_dotenv() };
    let format = logs::Format::from_env();
    let lines = logs::init(&format);
    if environment::concurrent_invocations() {
        tracing::warn!(
            "AWS_LAMBDA_MAX_CONCURRENCY is over 1, and a Streambot function works on one invocation at a time: on Lambda \
             Managed Instances set the concurrency of an execution environment to 1"
        );
    }
    if cfg!(panic = "abort") {
        tracing::warn!(
            "built with panic = \"abort\": a handler's panic ends the process instead of failing its record; set \
             panic = \"unwind\" in the profile"
        );
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match dotenv {
            Ok(()) => serve(init, &format, lines).await,
            Err(error) => Err(init_failed("Function.EnvironmentUnreadable", error).await),
        }
    })
}

/// The function was started by hand.
#[derive(thiserror::Error)]
#[error(
    "this is a Lambda function and was not started by Lambda ({} not set); to run it here: \
     streambot-deploy local --records FILE", missing.join(", ")
)]
struct OutsideLambda {
    missing: Vec<&'static str>,
}

/// `main` prints a returned error by `Debug`, and a person reads it.
impl fmt::Debug for OutsideLambda {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

async fn serve<I, H>(init: I, format: &logs::Format, lines: logs::LineSource) -> Result<(), Error>
where
    I: AsyncFnOnce() -> Result<H, Error>,
    H: Handler + 'static,
{
    let handler = match logs::during_init(AssertUnwindSafe(async { init().await }).catch_unwind()).await {
        Ok(Ok(handler)) => handler,
        Ok(Err(error)) => return Err(init_failed("Function.InitFailed", error).await),
        Err(panic) => return Err(init_failed("Function.InitPanicked", Panicked::new(&*panic).into()).await),
    };
    let stack = Stack::from_env();
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let names = metrics::Names {
        metric: stack.metric_name().unwrap_or_else(|| function.clone()),
        stack: stack.name().unwrap_or(function),
        version: environment::published_version(),
        level: format.passing_level(),
    };
    let uploads = Uploads::new(stack, names.clone(), lines).await;
    let function = Rc::new(Function { handler, names, report: environment::reports_batch_item_failures() });
    let deadlines = Rc::new(Deadlines::new(environment::function_timeout()));
    let service = lambda_runtime::service_fn(move |event: LambdaEvent<RawBody>| {
        let (function, deadlines) = (Rc::clone(&function), Rc::clone(&deadlines));
        async move {
            let LambdaEvent { payload: RawBody(body), context } = event;
            let clock = Clock::System;
            let deadline = deadlines.usable(context.deadline(), clock.time_of_day());
            let (request_id, function_arn) = (context.request_id.clone(), context.invoked_function_arn.clone());
            let context =
                Context::new(request_id, function_arn, deadline, clock).of_trace(context.xray_trace_id.clone());
            let finished = function.invoke(body, context).await;
            logs::print(&finished.metrics);
            LAST.set(Some(finished.log));
            finished.answer
        }
    });
    let uploads = Rc::new(uploads);
    let layer = tower::layer::layer_fn(|inner| Invocations { inner, uploads: Rc::clone(&uploads) });
    shutdown::run_until_shutdown(lambda_runtime::Runtime::new(service).layer(layer).run()).await
}

/// Tells Lambda why the function cannot start, and returns the error for `main` to end with.
async fn init_failed(kind: &str, error: Error) -> Error {
    let message = Chain(&*error).to_string();
    tracing::error!(target: logs::FATAL, "the function cannot start: {message}");
    let body = serde_json::json!({ "errorType": kind, "errorMessage": message, "stackTrace": [] }).to_string();
    let report = async {
        let client = lambda_runtime_api_client::Client::builder().build()?;
        let request = lambda_runtime_api_client::build_request()
            .method("POST")
            .uri("/2018-06-01/runtime/init/error")
            .header("lambda-runtime-function-error-type", kind)
            .header("content-type", "application/json")
            .body(lambda_runtime_api_client::body::Body::from(body))?;
        client.call(request).await
    };
    if let Err(unreported) = report.await {
        tracing::error!("Lambda could not be told: {}", Chain(&*unreported));
    }
    error
}

thread_local! {
    /// The body on its way around `lambda_runtime`'s deserializer, which runs within the layer's own call.
    static BODY: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
    /// The log object of the invocation that was just answered.
    static LAST: RefCell<Option<LogObject>> = const { RefCell::new(None) };
}

/// The bytes of an invocation's body, taken from where the [layer](Invocations) left them.
struct RawBody(Bytes);

impl<'de> Deserialize<'de> for RawBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Self(BODY.take()))
    }
}

/// Around each invocation: takes the raw body before, and uploads the log lines after the answer is posted and before
/// the next event is asked for.
struct Invocations<S> {
    inner: S,
    uploads: Rc<Uploads>,
}

impl<S> Service<LambdaInvocation> for Invocations<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: 'static,
{
    type Response = ();
    type Error = Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        BODY.set(std::mem::replace(&mut invocation.body, Bytes::from_static(b"null")));
        let answered = self.inner.call(invocation);
        let uploads = Rc::clone(&self.uploads);
        Box::pin(async move {
            answered.await?;
            if let Some(log) = LAST.take() {
                uploads.upload(log).await;
            }
            Ok(())
        })
    }
}
