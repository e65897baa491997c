//! A last word before Lambda ends the sandbox. It knows the signal and what Lambda wants before it sends one; it refuses
//! to know what the hook does.
//!
//! Lambda sends SIGTERM to a function only where an extension is registered, and gives it [500 ms then][phases]. So an
//! extension, one that asks for no events, is registered when there is a hook, and not otherwise.
//!
//! [phases]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use lambda_runtime_api_client::{BoxError, Client, body::Body, build_request};
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::failure::Chain;

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Runs `hook` when Lambda is about to end the sandbox: to flush a client, say. It has some 300 ms.
///
/// To be called in the closure given to [`run`](crate::run); the last hook given is the one that is run. Having one costs
/// an internal extension, which Lambda counts as one of the function's ten.
///
/// ```no_run
/// use streambot_runtime::{Error, Utf8, each, on_shutdown, run};
///
/// fn main() -> Result<(), Error> {
///     run(async || {
///         on_shutdown(async || tracing::info!("flushed"));
///         Ok(each(async |_line: Utf8| -> Result<(), Error> { Ok(()) }))
///     })
/// }
/// ```
pub fn on_shutdown<F: AsyncFnOnce() + 'static>(hook: F) {
    HOOK.set(Some(Box::new(|| Box::pin(hook()))));
}

/// Runs `function` to its end, or until Lambda's signal and then the hook, where there is one.
pub(crate) async fn run_until_shutdown(function: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let Some(hook) = HOOK.take() else { return function.await };
    let mut terminate = signal(SignalKind::terminate())?;
    let client = Client::builder().build()?;
    if let Err(error) = register(&client).await {
        tracing::error!(
            error = %Chain(&*error),
            "failed to register the extension that a shutdown hook needs: Lambda ends the function without a signal"
        );
        return function.await;
    }
    tokio::select! {
        ended = function => ended,
        _ = terminate.recv() => {
            hook().await;
            Ok(())
        }
    }
}

/// Registers an extension for no events. Lambda counts it as started once it asks for the next one, which never comes.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>
async fn register(client: &Client) -> Result<(), BoxError> {
    let request = build_request()
        .method("POST")
        .uri("/2020-01-01/extension/register")
        .header("lambda-extension-name", "streambot-shutdown")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"events":[]}"#))?;
    let answer = client.call(request).await?;
    if !answer.status().is_success() {
        return Err(format!("the Extensions API answered {}", answer.status()).into());
    }
    let id = answer.headers().get("lambda-extension-identifier").ok_or("the Extensions API gave no identifier")?;
    let next =
        build_request().method("GET").uri("/2020-01-01/extension/event/next").header("lambda-extension-identifier", id);
    let waiting = client.call(next.body(Body::empty())?);
    tokio::spawn(async move {
        let _never_comes = waiting.await;
    });
    Ok(())
}
