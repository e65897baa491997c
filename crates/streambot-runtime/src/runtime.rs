//! Runs a [`Handler`] with `lambda_runtime`: the raw body in, the response out, the metric line
//! before the response and the log upload after it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::de::IgnoredAny;

use crate::clock::Clock;
use crate::context::{Context, Deadlines};
use crate::environment::{self, Loaded, Stack};
use crate::exchange::{Exchange, Invocations, NoBody};
use crate::failure::{Chain, Panicked};
use crate::function::Function;
use crate::handler::Handler;
use crate::logs::{LogObject, Uploads};
use crate::{Error, logs, memory, metrics, shutdown};

/// Runs a service as a Lambda function, until Lambda ends it.
///
/// `init` runs once, before the first invocation: build clients there, and return the
/// [handler](Handler).
///
/// Before it, `.env` is read: its values are in [`Stack`], and in environment variables if the
/// process has one thread then, as a plain `fn main` has. What the environment has already wins
/// over the file.
///
/// Then logging is set up, to stdout: the format is that of `AWS_LAMBDA_LOG_FORMAT`, and the filter
/// is `RUST_LOG`, which `AWS_LAMBDA_LOG_LEVEL` caps. Events of `tracing`, records of the `log`
/// crate and panics are lines of that log.
///
/// - A tracing subscriber, a logger of `log` or a panic hook that is set before `run` is respected.
///   Lines of another subscriber are not copied to `LogBucket`.
/// - A panic is logged once; with `RUST_BACKTRACE` set (and not `0`) its line has the field
///   `backtrace`.
/// - `STREAMBOT_LOG_UPLOAD_TIMEOUT_MS` is how long the upload of log lines to `LogBucket` may delay
///   the next event, in milliseconds; 1000 by default.
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
/// - If it is not run by Lambda or `streambot-deploy local`.
/// - If it is called within a Tokio runtime, such as that of `#[tokio::main]`; if `.env` cannot be
///   read; if `init` fails or panics; if Lambda refuses the extension for
///   [`on_shutdown`](crate::on_shutdown). Lambda receives these as init errors.
/// - If the Runtime API fails.
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
    let loaded = environment::load();
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

    if matches!(loaded, Ok(Loaded::StackOnly)) {
        tracing::warn!(
            "the values of .env are in `Stack` but not in environment variables, which are safe to set only while the \
             process has one thread: call `run` first in `main`"
        );
    }
    if tokio::runtime::Handle::try_current().is_ok() {
        return Err(refuse("Function.WithinTokio", WithinTokio.into()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match loaded {
            Ok(_) => serve(init, &format, lines).await,
            Err(error) => Err(init_failed("Function.EnvironmentUnreadable", error.into()).await),
        }
    })
}

/// `run` was called within a Tokio runtime, which must not block the thread it is on.
#[derive(thiserror::Error)]
#[error(
    "`streambot_runtime::run` starts a Tokio runtime of its own and must not be called within another one; remove \
     `#[tokio::main]` and `async` from `main`: `fn main() -> Result<(), Error> {{ run(async || …) }}`"
)]
struct WithinTokio;

/// `main` prints a returned error by `Debug`, and a person reads it.
impl fmt::Debug for WithinTokio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Reports an init error from a thread of its own, because the current one is within a Tokio
/// runtime.
fn refuse(kind: &'static str, error: Error) -> Error {
    let report = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(init_failed(kind, error)),
        Err(unreported) => unreported.into(),
    };
    std::thread::spawn(report).join().unwrap_or_else(|panic| Panicked::new(&*panic).into())
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
    let handler = match logs::during_init(AssertUnwindSafe(async { init().await }).catch_unwind())
        .await
    {
        Ok(Ok(handler)) => handler,
        Ok(Err(error)) => return Err(init_failed("Function.InitFailed", error).await),
        Err(panic) => {
            return Err(init_failed("Function.InitPanicked", Panicked::new(&*panic).into()).await);
        }
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
    let function =
        Rc::new(Function { handler, names, report: environment::reports_batch_item_failures() });
    let deadlines = Rc::new(Deadlines::new(environment::function_timeout()));
    let exchange = Rc::new(Exchange::new());
    let of_service = Rc::clone(&exchange);
    let service = lambda_runtime::service_fn(move |event: LambdaEvent<IgnoredAny>| {
        let (function, deadlines) = (Rc::clone(&function), Rc::clone(&deadlines));
        let exchange = Rc::clone(&of_service);
        async move {
            let LambdaEvent { context, .. } = event;
            let body = exchange.take_body(&context.request_id).map_err(body_missing)?;
            let clock = Clock::System;
            let deadline = deadlines.usable(context.deadline(), clock.time_of_day());
            let (request_id, function_arn) =
                (context.request_id.clone(), context.invoked_function_arn.clone());
            let context = Context::new(request_id.clone(), function_arn, deadline, clock)
                .of_trace(context.xray_trace_id.clone());
            let finished = function.invoke(body, context).await;
            logs::print(&finished.metrics);
            exchange.put_log(&request_id, finished.log);
            finished.answer
        }
    });
    let upload = Rc::new(async move |log: LogObject| uploads.upload(log).await);
    let layer = tower::layer::layer_fn(|inner| {
        let (exchange, upload) = (Rc::clone(&exchange), Rc::clone(&upload));
        Invocations { inner, exchange, upload }
    });
    let hooks = match shutdown::register().await {
        Ok(hooks) => hooks,
        Err(error) => return Err(init_failed("Function.ShutdownHooksRefused", error).await),
    };
    hooks.run_after(lambda_runtime::Runtime::new(service).layer(layer).run()).await
}

fn body_missing(error: NoBody) -> Diagnostic {
    tracing::error!("invocation failed: {error}");
    Diagnostic { error_type: "Function.BodyMissing".to_owned(), error_message: error.to_string() }
}

/// Tells Lambda why the function cannot start, and returns the error for `main` to end with.
async fn init_failed(kind: &str, error: Error) -> Error {
    let message = Chain(&*error).to_string();
    tracing::error!(target: logs::FATAL, "the function cannot start: {message}");
    let body = serde_json::json!({ "errorType": kind, "errorMessage": message, "stackTrace": [] })
        .to_string();
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
