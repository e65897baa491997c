//! The Lambda Runtime API on loopback, for one function process: hands it one invocation at a time
//! and takes its answer. A process has a listener of its own, so an answer can never be taken for
//! another process's. It refuses to know how the process is run, and what an answer means.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::api_error::refused;
use super::clock::Clock;
use super::extensions_api::{self, Extensions};

/// The most bytes of an answer: the 6 MB limit, as Lambda's own message about it gives it.
const LONGEST_ANSWER: usize = 6_291_556;

/// How the process answered an invocation.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The body posted to `/response`.
    Response(Bytes),
    /// The error posted to `/error`, or Lambda's own about the answer.
    Error(String),
}

/// The listener of one process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    extensions: Arc<Extensions>,
    offers: mpsc::Sender<Invocation>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    function_arn: String,
    clock: Clock,
    offered: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    current: Mutex<Current>,
    /// How many calls of `/next` are waiting.
    polling: watch::Sender<usize>,
    init_error: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Current {
    running: Option<Running>,
    last_answered: Option<String>,
}

#[derive(Debug)]
struct Running {
    request_id: String,
    reply: oneshot::Sender<Reply>,
}

#[derive(Debug)]
struct Invocation {
    request_id: String,
    event: Bytes,
    timeout: Duration,
    reply: oneshot::Sender<Reply>,
}

impl RuntimeApi {
    /// Listens on a free port of 127.0.0.1, for a process that runs the function `function_arn`.
    ///
    /// # Errors
    /// When no port can be opened.
    pub(crate) async fn start(function_arn: &str, clock: Clock) -> io::Result<RuntimeApi> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (offers, offered) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            function_arn: function_arn.to_owned(),
            clock,
            offered: tokio::sync::Mutex::new(offered),
            current: Mutex::default(),
            polling: watch::Sender::new(0),
            init_error: watch::Sender::new(None),
        });
        let extensions = Arc::<Extensions>::default();
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{request_id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{request_id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            // A body above Lambda's limit is read to its end, so that the process gets to see the
            // answer.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared))
            .merge(extensions_api::routes(Arc::clone(&extensions)));
        let server = tokio::spawn(async move {
            // Accepting fails only for good, and then the process sees its connection end.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(RuntimeApi { address, shared, extensions, offers, server })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the process has registered an extension, and so is sent SIGTERM before its end.
    pub(crate) fn has_extension(&self) -> bool {
        self.extensions.is_any()
    }

    /// Whether the process asks for an invocation now.
    pub(crate) fn is_ready(&self) -> bool {
        *self.shared.polling.borrow() > 0
    }

    /// Waits until the process asks for an invocation.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.shared.polling.subscribe().wait_for(|polling| *polling > 0).await;
    }

    /// Waits until the process reports that its init failed, and says why.
    pub(crate) async fn init_error(&self) -> String {
        let mut init_error = self.shared.init_error.subscribe();
        match init_error.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Hands the process an event, with `timeout` to answer it, and waits for the answer for as
    /// long as it takes. No two invocations have the same `request_id`.
    pub(crate) async fn invoke(&self, request_id: &str, event: Bytes, timeout: Duration) -> Reply {
        let (reply, answer) = oneshot::channel();
        let lost = || Reply::Error("the Runtime API has ended".to_owned());
        let request_id = request_id.to_owned();
        if self.offers.send(Invocation { request_id, event, timeout, reply }).await.is_err() {
            return lost();
        }
        answer.await.unwrap_or_else(|_| lost())
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the running invocation, if the process answered that one.
    fn answer(&self, request_id: &str, reply: Reply) -> Response {
        let mut current = self.current();
        match current.running.take_if(|running| running.request_id == request_id) {
            Some(running) => {
                current.last_answered = Some(running.request_id);
                // The one who asked may have stopped waiting when the time was up.
                let _ = running.reply.send(reply);
                accepted()
            }
            None if current.last_answered.as_deref() == Some(request_id) => refused(
                StatusCode::FORBIDDEN,
                "InvalidStateTransition",
                "the invocation was answered already",
            ),
            None => refused(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        }
    }
}

/// Counts a waiting call of `/next`, also when the process hangs up.
struct Polling<'a>(&'a watch::Sender<usize>);

impl<'a> Polling<'a> {
    fn begin(polling: &'a watch::Sender<usize>) -> Polling<'a> {
        polling.send_modify(|polling| *polling += 1);
        Polling(polling)
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|polling| *polling -= 1);
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    if shared.current().running.is_some() {
        return refused(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "the last invocation has not been answered",
        );
    }
    let polling = Polling::begin(&shared.polling);
    let Some(Invocation { request_id, event, timeout, reply }) =
        shared.offered.lock().await.recv().await
    else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "Terminated", "the run is over");
    };
    drop(polling);
    shared.current().running = Some(Running { request_id: request_id.clone(), reply });
    let deadline = shared.clock.now() + u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("lambda-runtime-aws-request-id"), request_id),
        (HeaderName::from_static("lambda-runtime-deadline-ms"), deadline.to_string()),
        (
            HeaderName::from_static("lambda-runtime-invoked-function-arn"),
            shared.function_arn.clone(),
        ),
        (HeaderName::from_static("lambda-runtime-trace-id"), trace_id(shared.clock.now() / 1000)),
    ];
    (headers, Body::from(event)).into_response()
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path(request_id): Path<String>,
    body: Bytes,
) -> Response {
    if body.len() <= LONGEST_ANSWER {
        return shared.answer(&request_id, Reply::Response(body));
    }
    let message = format!(
        "Response payload size exceeded maximum allowed payload size ({LONGEST_ANSWER} bytes)."
    );
    let answered = shared
        .answer(&request_id, Reply::Error(format!("Function.ResponseSizeTooLarge: {message}")));
    if answered.status() == StatusCode::ACCEPTED {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message);
    }
    answered
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path(request_id): Path<String>,
    body: Bytes,
) -> Response {
    shared.answer(&request_id, Reply::Error(error_text(&body)))
}

async fn init_error(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    shared.init_error.send_replace(Some(error_text(&body)));
    accepted()
}

/// The error of a runtime in words; one that has another shape as it was sent.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RuntimeError {
        error_type: String,
        error_message: String,
    }
    match serde_json::from_slice(body) {
        Ok(RuntimeError { error_type, error_message }) => format!("{error_type}: {error_message}"),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], r#"{"status":"OK"}"#)
        .into_response()
}

/// A trace that is not sampled:
/// <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html>
fn trace_id(seconds: u64) -> String {
    let [root, parent] = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.simple().to_string());
    format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", &root[..24], &parent[..16])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:quakes-local";
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// One HTTP request; the response as text.
    async fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).await.unwrap();
        response
    }

    fn header_of<'a>(response: &'a str, name: &str) -> &'a str {
        let line = response.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {response}"))
    }

    /// An invocation that the process has taken but not answered: its id, and what will be its
    /// reply.
    async fn running(api: &Arc<RuntimeApi>) -> (String, JoinHandle<Reply>) {
        let reply = tokio::spawn({
            let api = Arc::clone(api);
            async move {
                api.invoke("8476a536-e9f4-11e8-9739-2dfe598c3fcd", Bytes::from("{}"), TIMEOUT).await
            }
        });
        let response = send(api.address(), "GET", "invocation/next", "").await;
        (header_of(&response, "lambda-runtime-aws-request-id").to_owned(), reply)
    }

    async fn started() -> Arc<RuntimeApi> {
        Arc::new(RuntimeApi::start(ARN, Clock::start()).await.unwrap())
    }

    #[tokio::test]
    async fn next_carries_the_event_and_lambdas_headers() {
        let clock = Clock::start();
        let api = RuntimeApi::start(ARN, clock).await.unwrap();
        let before = clock.now();
        let next = tokio::spawn({
            let address = api.address();
            async move { send(address, "GET", "invocation/next", "").await }
        });
        api.ready().await;
        let id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
        let invocation = api.invoke(id, Bytes::from(r#"{"Records":[]}"#), TIMEOUT);
        let response = tokio::select! {
            response = next => response.unwrap(),
            _ = invocation => panic!("answered by nobody"),
        };
        assert!(response.ends_with("\r\n\r\n{\"Records\":[]}"), "{response}");
        assert_eq!(header_of(&response, "lambda-runtime-aws-request-id"), id);
        assert_eq!(header_of(&response, "lambda-runtime-invoked-function-arn"), ARN);
        let deadline: u64 = header_of(&response, "lambda-runtime-deadline-ms").parse().unwrap();
        assert!((before + 60_000..before + 90_000).contains(&deadline), "{deadline}");
        let trace = header_of(&response, "lambda-runtime-trace-id");
        assert!(trace.starts_with("Root=1-") && trace.ends_with(";Sampled=0"), "{trace}");
    }

    #[tokio::test]
    async fn an_answer_is_accepted_once_and_only_for_the_running_invocation() {
        let api = started().await;
        let (id, reply) = running(&api).await;
        let wrong = send(api.address(), "POST", "invocation/no-such-id/response", "null").await;
        assert!(
            wrong.starts_with("HTTP/1.1 400 ") && wrong.contains("InvalidRequestID"),
            "{wrong}"
        );
        let next = send(api.address(), "GET", "invocation/next", "").await;
        assert!(next.starts_with("HTTP/1.1 403 "), "{next}");
        let path = format!("invocation/{id}/response");
        let accepted = send(api.address(), "POST", &path, "null").await;
        assert!(
            accepted.starts_with("HTTP/1.1 202 ") && accepted.ends_with(r#"{"status":"OK"}"#),
            "{accepted}"
        );
        assert!(matches!(reply.await.unwrap(), Reply::Response(body) if body == "null"));
        let again = send(api.address(), "POST", &path, "null").await;
        assert!(again.starts_with("HTTP/1.1 403 "), "{again}");
    }

    #[tokio::test]
    async fn an_error_is_told_in_the_runtimes_words() {
        let api = started().await;
        let (id, reply) = running(&api).await;
        let body = r#"{"errorType":"Boom","errorMessage":"it broke","stackTrace":[]}"#;
        let accepted = send(api.address(), "POST", &format!("invocation/{id}/error"), body).await;
        assert!(accepted.starts_with("HTTP/1.1 202 "), "{accepted}");
        assert!(matches!(reply.await.unwrap(), Reply::Error(error) if error == "Boom: it broke"));
        send(api.address(), "POST", "init/error", "no JSON").await;
        assert_eq!(api.init_error().await, "no JSON");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_fails_the_invocation() {
        let api = started().await;
        let (id, reply) = running(&api).await;
        let body = "x".repeat(LONGEST_ANSWER + 1);
        let refused =
            send(api.address(), "POST", &format!("invocation/{id}/response"), &body).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
        assert!(
            matches!(reply.await.unwrap(), Reply::Error(error) if error.contains("ResponseSizeTooLarge"))
        );
    }
}
