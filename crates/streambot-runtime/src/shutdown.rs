//! Hooks that run before Lambda ends the sandbox.
//!
//! Lambda sends SIGTERM to a function only if an extension is registered, and ends it [500 ms
//! later][phases]. So an extension that asks for no events is registered if there is a hook, and
//! only then.
//!
//! [phases]: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use lambda_runtime_api_client::{BoxError, Client, body::Body, build_request};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Error;
use crate::failure::Panicked;

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>>>;

thread_local! {
    static HOOKS: RefCell<Vec<Hook>> = const { RefCell::new(Vec::new()) };
}

/// How long all hooks together may run. Lambda ends the process then, and so do other places that
/// send SIGTERM.
const MAX_HOOKS_TIME: Duration = Duration::from_millis(500);

/// Runs `hook` when Lambda is about to end the sandbox, for example to flush a client.
///
/// Call it in the closure given to [`run`](crate::run). All hooks run, one after the other in the
/// order of these calls, and one that panics does not stop the others. Together they have some 300
/// ms of the 500 ms that Lambda gives a function.
///
/// Hooks need an internal extension, which Lambda counts as one of the function's ten. If Lambda
/// refuses to register it, the function does not start.
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
    HOOKS.with_borrow_mut(|hooks| hooks.push(Box::new(|| Box::pin(hook()))));
}

/// The hooks of the function, and the signal they wait for; without hooks the signal ends the
/// process as usual.
#[derive(Default)]
pub(crate) struct Hooks {
    hooks: Vec<Hook>,
    terminate: Option<Signal>,
}

/// Registers the extension for the hooks, if there are any.
///
/// # Errors
///
/// If Lambda refuses it: the hooks would never run.
pub(crate) async fn register() -> Result<Hooks, Error> {
    let hooks = HOOKS.take();
    if hooks.is_empty() {
        return Ok(Hooks::default());
    }
    register_extension(&Client::builder().build()?).await.map_err(|source| Refused { source })?;
    let terminate = Some(signal(SignalKind::terminate())?);
    Ok(Hooks { hooks, terminate })
}

/// The extension that hooks need cannot be registered.
#[derive(Debug, thiserror::Error)]
#[error("failed to register the extension that `on_shutdown` needs")]
struct Refused {
    source: BoxError,
}

impl Hooks {
    /// Runs `function` to its end, or until the signal and then the hooks.
    pub(crate) async fn run_after(
        self,
        function: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let Self { hooks, terminate: Some(mut terminate) } = self else { return function.await };
        tokio::select! {
            ended = function => return ended,
            _ = terminate.recv() => {}
        }
        if tokio::time::timeout(MAX_HOOKS_TIME, run_all(hooks)).await.is_err() {
            tracing::warn!(
                "the hooks of `on_shutdown` take longer than {} ms and are dropped",
                MAX_HOOKS_TIME.as_millis()
            );
        }
        Ok(())
    }
}

async fn run_all(hooks: Vec<Hook>) {
    for hook in hooks {
        let finished = AssertUnwindSafe(async { hook().await }).catch_unwind().await;
        if let Err(panic) = finished {
            tracing::error!("a hook of `on_shutdown` failed: {}", Panicked::new(&*panic));
        }
    }
}

/// Registers an extension for no events. Lambda counts it as started once it asks for the next one,
/// which never comes.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>
async fn register_extension(client: &Client) -> Result<(), BoxError> {
    let request = build_request()
        .method("POST")
        .uri("/2020-01-01/extension/register")
        .header("lambda-extension-name", "streambot-shutdown")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"events":[]}"#))?;
    let response = client.call(request).await?;
    if !response.status().is_success() {
        return Err(format!("the Extensions API responded with {}", response.status()).into());
    }
    let id = response
        .headers()
        .get("lambda-extension-identifier")
        .ok_or("the Extensions API gave no identifier")?;
    let next = build_request()
        .method("GET")
        .uri("/2020-01-01/extension/event/next")
        .header("lambda-extension-identifier", id);
    let waiting = client.call(next.body(Body::empty())?);
    tokio::spawn(async move {
        let _never_comes = waiting.await;
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// A hook that takes its turn in `order`.
    fn noting(order: &Rc<RefCell<Vec<u8>>>, number: u8) -> Hook {
        let order = Rc::clone(order);
        Box::new(move || Box::pin(async move { order.borrow_mut().push(number) }))
    }

    #[tokio::test]
    async fn all_hooks_run_in_order_and_a_panic_stops_none_of_the_others() {
        let order = Rc::default();
        let panics: Hook = Box::new(|| Box::pin(async { panic!("one hook fails") }));
        let panics_at_once: Hook = Box::new(|| panic!("one hook fails before it waits"));
        let hooks =
            vec![noting(&order, 1), panics, noting(&order, 2), panics_at_once, noting(&order, 3)];
        run_all(hooks).await;
        assert_eq!(*order.borrow(), [1, 2, 3]);
    }

    #[test]
    fn every_hook_is_kept() {
        on_shutdown(async || {});
        on_shutdown(async || {});
        assert_eq!(HOOKS.take().len(), 2);
    }
}
