//! Passes the raw body of each invocation around `lambda_runtime`, which would parse it, and its
//! log lines back.
//!
//! A [layer](Invocations) keeps the bytes under the invocation's request id and leaves `null` in
//! their place; the service takes them by the request id in its context. Both ids are of
//! `lambda_runtime`'s public interface, and a body that is not there is an error. So an event is
//! decoded once, by Streambot.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task;

use bytes::Bytes;
use foldhash::HashMap;
use lambda_runtime::{LambdaInvocation, Service};

use crate::Error;

/// What belongs to the invocations under way: bodies that wait for the service, and what it leaves
/// for the layer.
#[derive(Debug)]
pub(crate) struct Exchange<L> {
    bodies: RefCell<HashMap<String, Bytes>>,
    logs: RefCell<HashMap<String, L>>,
}

/// The service was called without the layer, or with the context of another invocation.
#[derive(Debug, thiserror::Error)]
#[error(
    "the body of the invocation {request_id} is missing: this version of lambda_runtime does not call Streambot's layer \
     with the invocation it hands to the service"
)]
pub(crate) struct NoBody {
    request_id: String,
}

impl<L> Exchange<L> {
    pub(crate) fn new() -> Self {
        Self { bodies: RefCell::default(), logs: RefCell::default() }
    }

    /// The body of an invocation, which can be taken once.
    pub(crate) fn take_body(&self, request_id: &str) -> Result<Bytes, NoBody> {
        let body = self.bodies.borrow_mut().remove(request_id);
        body.ok_or_else(|| NoBody { request_id: request_id.to_owned() })
    }

    /// Leaves the log lines of an invocation until its response is sent.
    pub(crate) fn put_log(&self, request_id: &str, log: L) {
        self.logs.borrow_mut().insert(request_id.to_owned(), log);
    }

    fn finish(&self, request_id: &str) -> Option<L> {
        self.bodies.borrow_mut().remove(request_id);
        self.logs.borrow_mut().remove(request_id)
    }
}

/// The layer around each invocation: it keeps the body before, and uploads the log lines after the
/// response is sent and before the next event is asked for.
pub(crate) struct Invocations<S, L, U> {
    pub(crate) inner: S,
    pub(crate) exchange: Rc<Exchange<L>>,
    pub(crate) upload: Rc<U>,
}

impl<S, L, U> Service<LambdaInvocation> for Invocations<S, L, U>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: 'static,
    L: 'static,
    U: AsyncFn(L) + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        let request_id = invocation.context.request_id.clone();
        let body = std::mem::replace(&mut invocation.body, Bytes::from_static(b"null"));
        self.exchange.bodies.borrow_mut().insert(request_id.clone(), body);
        let responded = self.inner.call(invocation);
        let (exchange, upload) = (Rc::clone(&self.exchange), Rc::clone(&self.upload));
        Box::pin(async move {
            let responded = responded.await;
            if let Some(log) = exchange.finish(&request_id)
                && responded.is_ok()
            {
                upload(log).await;
            }
            responded
        })
    }
}

#[cfg(test)]
mod tests {
    use lambda_runtime::{Context, service_fn};

    use super::*;

    fn invocation(request_id: &str, body: &'static str) -> LambdaInvocation {
        let (parts, ()) = http_response().into_parts();
        let mut context = Context::default();
        context.request_id = request_id.to_owned();
        LambdaInvocation { parts, body: Bytes::from(body), context }
    }

    fn http_response() -> http::Response<()> {
        http::Response::new(())
    }

    /// What the inner service took, and what was uploaded.
    #[derive(Default)]
    struct Seen {
        bodies: RefCell<Vec<String>>,
        uploads: RefCell<Vec<String>>,
    }

    type BoxedService = Box<
        dyn Service<
                LambdaInvocation,
                Response = (),
                Error = Error,
                Future = Pin<Box<dyn Future<Output = Result<(), Error>>>>,
            >,
    >;

    /// The layer around a service that takes bodies as late as possible, when its future runs.
    fn layered(seen: &Rc<Seen>, exchange: &Rc<Exchange<String>>) -> BoxedService {
        let (of_service, of_upload) = (Rc::clone(seen), Rc::clone(seen));
        let takes = Rc::clone(exchange);
        let inner = service_fn(move |invocation: LambdaInvocation| {
            let (seen, exchange) = (Rc::clone(&of_service), Rc::clone(&takes));
            async move {
                assert_eq!(&*invocation.body, b"null", "lambda_runtime parses nothing");
                let id = &invocation.context.request_id;
                let body = exchange.take_body(id)?;
                seen.bodies.borrow_mut().push(format!("{id}: {}", String::from_utf8_lossy(&body)));
                exchange.put_log(id, format!("log of {id}"));
                Ok::<_, Error>(())
            }
        });
        let upload = async move |log: String| of_upload.uploads.borrow_mut().push(log);
        Box::new(Invocations { inner, exchange: Rc::clone(exchange), upload: Rc::new(upload) })
    }

    #[tokio::test]
    async fn interleaved_invocations_get_their_own_bodies_and_logs() {
        let (seen, exchange) = (Rc::new(Seen::default()), Rc::new(Exchange::new()));
        let mut service = layered(&seen, &exchange);
        let first = service.call(invocation("1", "one"));
        let second = service.call(invocation("2", "two"));
        second.await.expect("a response");
        first.await.expect("a response");
        assert_eq!(*seen.bodies.borrow(), ["2: two", "1: one"]);
        assert_eq!(*seen.uploads.borrow(), ["log of 2", "log of 1"]);
        assert!(exchange.bodies.borrow().is_empty() && exchange.logs.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_body_that_is_not_taken_is_dropped_with_its_invocation() {
        let exchange = Rc::new(Exchange::<String>::new());
        let inner = service_fn(async |_: LambdaInvocation| Ok::<_, Error>(()));
        let upload = Rc::new(async |_: String| unreachable!("there is no log"));
        let mut service = Invocations { inner, exchange: Rc::clone(&exchange), upload };
        service.call(invocation("1", "one")).await.expect("a response");
        assert!(exchange.bodies.borrow().is_empty());
    }

    #[test]
    fn a_missing_body_is_an_error_that_names_the_invocation() {
        let exchange = Exchange::<String>::new();
        let error = exchange.take_body("8c1f").expect_err("nothing was kept").to_string();
        assert!(error.contains("invocation 8c1f is missing"), "{error}");
    }
}
