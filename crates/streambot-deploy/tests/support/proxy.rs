//! A proxy in front of a server that speaks AWS's API: it notes every call, brings about the faults
//! that are asked of it, and answers as AWS does where moto is known not to.

mod call;
mod cloudwatch;
mod iam;
mod lambda;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Server;
pub use call::{Call, Refusal};
use lambda::{Corrections, Prepared};

/// All proxies of a test process run on one thread.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The server is not asked; this is the answer.
    Refuse(Refusal),
    /// The connection breaks before the server is asked.
    ResetBefore,
    /// The server does what it is asked, and the connection breaks before the answer.
    ResetAfter,
    /// The server does what it is asked, and the answer never comes.
    Silence,
    /// The test is told, and the server is asked when the test releases the call.
    HoldBefore,
    /// The server does what it is asked and the test is told; the answer never comes.
    HoldAfter,
    /// The answer comes with the second text in place of each of the first.
    Reword(String, String),
    /// The answer comes and the test is told; every call after it waits for ever, and the server is
    /// not asked.
    Freeze,
}

/// A fault, and the call it befalls: of an operation, the one with this number, from 1.
#[derive(Debug)]
struct Rule {
    operation: String,
    occurrence: usize,
    for_ever: bool,
    fault: Fault,
}

/// A proxy on a free port of loopback, which ends with the value.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    told: Mutex<Receiver<()>>,
    accepting: AbortHandle,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    /// Calls to Lambda pass one by one, so that what is checked before a call still holds when the
    /// server gets it.
    corrections: tokio::sync::Mutex<Corrections>,
    /// How often held calls were released.
    released: watch::Sender<usize>,
    tell: Sender<()>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// How many calls of an operation there were.
    occurrences: HashMap<String, usize>,
    rules: Vec<Rule>,
    latency: Duration,
    frozen: bool,
    /// Actions that no role may do.
    denied: Vec<String>,
}

impl Proxy {
    /// Starts a proxy to `server`.
    pub fn of(server: &Server) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (tell, told) = mpsc::channel();
        let shared = Arc::new(Shared {
            target: server.address,
            state: Mutex::default(),
            corrections: tokio::sync::Mutex::default(),
            released: watch::Sender::new(0),
            tell,
        });
        let accepting = RUNTIME.spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, told: Mutex::new(told), accepting })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds `latency` to each call.
    pub fn delay(&self, latency: Duration) {
        self.shared.state().latency = latency;
    }

    /// Lets each change of a function or mapping take effect after this many more looks at it.
    pub fn settle_after(&self, looks: u32) {
        self.shared.corrections.blocking_lock().settle_after(looks);
    }

    /// Lets IAM tell that a role may not do `action`, such as `kinesis:GetRecords`; it may do all
    /// else.
    pub fn deny(&self, action: &str) {
        self.shared.state().denied.push(action.to_owned());
    }

    /// Lets `fault` befall the call of `operation` with this number from now on, the first being 1.
    pub fn once(&self, operation: &str, occurrence: usize, fault: Fault) {
        self.rule(operation, occurrence, false, fault);
    }

    /// Lets `fault` befall the call of `operation` with this number from now on, and every one
    /// after it.
    pub fn for_ever(&self, operation: &str, occurrence: usize, fault: Fault) {
        self.rule(operation, occurrence, true, fault);
    }

    fn rule(&self, operation: &str, occurrence: usize, for_ever: bool, fault: Fault) {
        let mut state = self.shared.state();
        let occurrence = state.occurrences.get(operation).copied().unwrap_or_default() + occurrence;
        state.rules.push(Rule { operation: operation.to_owned(), occurrence, for_ever, fault });
    }

    /// Ends all faults; calls that are held stay so.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        state.rules.clear();
        state.frozen = false;
        while self.told.lock().unwrap_or_else(PoisonError::into_inner).try_recv().is_ok() {}
    }

    /// Waits until a call is held, or answered where that freezes the rest; false when that did not
    /// happen in time.
    pub fn holds(&self, patience: Duration) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience).is_ok()
    }

    /// Lets go of the calls that are held before the server was asked.
    pub fn release(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// The calls since the last time they were taken, in the order they came.
    pub fn take(&self) -> Vec<Call> {
        let mut state = self.shared.state();
        state.occurrences.clear();
        std::mem::take(&mut state.calls)
    }

    /// The calls to Lambda since the last time this was asked that may change something, such as
    /// `PUT functions/x/code`.
    pub fn writes(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter(|call| call.write && call.service == "lambda")
            .map(|call| call.request)
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is under way; its end is noted when this is dropped, also where the client has given
/// up.
struct Noted<'a> {
    shared: &'a Shared,
    /// When it began, which finds it in the list even after calls before it were taken.
    began: Instant,
    status: Option<u16>,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let call = state.calls.iter_mut().find(|call| call.began == self.began);
        if let Some(call) = call {
            call.ended = Some(Instant::now());
            call.status = self.status;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    // They end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // What the proxy closes without an answer, it resets.
        let _ = stream.set_zero_linger();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| async { answer(&shared, request).await });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers a call; an error breaks its connection.
async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await?.to_bytes());
    let call = Call::of(&request);
    let protocol = call.protocol;
    let lambda = call.service == "lambda";
    let (operation, number) = (call.operation.clone(), call.began);
    let (fault, latency, frozen) = {
        let mut state = shared.state();
        let occurrence = state.occurrences.entry(operation.clone()).or_default();
        *occurrence += 1;
        let occurrence = *occurrence;
        state.calls.push(Call { occurrence, ..call });
        let befalls = |rule: &&Rule| {
            rule.operation == operation
                && (rule.occurrence == occurrence || rule.for_ever && rule.occurrence < occurrence)
        };
        (
            state.rules.iter().find(befalls).map(|rule| rule.fault.clone()),
            state.latency,
            state.frozen,
        )
    };
    let mut noted = Noted { shared, began: number, status: None };
    if frozen {
        never().await;
    }
    tokio::time::sleep(latency).await;
    match &fault {
        Some(Fault::Refuse(refusal)) => {
            noted.status = Some(refusal.status);
            let answer = refusal.answer(protocol)?;
            let answer =
                if cloudwatch::is_rpc(&request) { cloudwatch::answer(answer)? } else { answer };
            return Ok(answer.map(Full::new));
        }
        Some(Fault::ResetBefore) => {
            anyhow::bail!("the connection is reset before the server is asked")
        }
        Some(Fault::HoldBefore) => {
            let mut released = shared.released.subscribe();
            let _ = shared.tell.send(());
            released.changed().await?;
        }
        _ => {}
    }
    let answer = match operation.as_str() {
        _ if lambda => corrected(shared, &operation, request).await?,
        _ if cloudwatch::is_rpc(&request) => {
            cloudwatch::answer(ask(shared.target, cloudwatch::request(&request)?).await?)?
        }
        "SimulatePrincipalPolicy" => iam::simulated(&request, &shared.state().denied)?,
        _ => ask(shared.target, request).await?,
    };
    match fault {
        Some(Fault::Reword(from, to)) => {
            noted.status = Some(answer.status().as_u16());
            let reworded =
                |body: Bytes| String::from_utf8_lossy(&body).replace(&from, &to).into_bytes();
            return Ok(answer.map(|body| Full::new(reworded(body).into())));
        }
        Some(Fault::ResetAfter) => {
            anyhow::bail!("the connection is reset after the server was asked")
        }
        Some(Fault::Silence) => never().await,
        Some(Fault::HoldAfter) => {
            let _ = shared.tell.send(());
            never().await;
        }
        Some(Fault::Freeze) => {
            shared.state().frozen = true;
            let _ = shared.tell.send(());
        }
        _ => {}
    }
    noted.status = Some(answer.status().as_u16());
    Ok(answer.map(Full::new))
}

/// Waits until the client gives up, which drops the future.
async fn never() {
    match std::future::pending::<Infallible>().await {}
}

/// Asks Lambda, with what moto does differently put right.
async fn corrected(
    shared: &Shared,
    operation: &str,
    request: Request<Bytes>,
) -> Result<Response<Bytes>> {
    let mut corrections = shared.corrections.lock().await;
    let existing = match operation {
        "CreateEventSourceMapping" => {
            ask(shared.target, lambda::all_mappings(&request)?).await?.into_body()
        }
        _ => Bytes::new(),
    };
    match corrections.prepare(operation, request, &existing)? {
        Prepared::Ask(prepared) => {
            let (request, asked) = *prepared;
            corrections.correct(&asked, ask(shared.target, request).await?)
        }
        Prepared::Refuse(refusal) => refusal.answer(call::Protocol::RestJson),
    }
}

/// Passes a request on to the server, on a connection of its own.
async fn ask(target: SocketAddr, request: Request<Bytes>) -> Result<Response<Bytes>> {
    let stream = TcpStream::connect(target).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer =
        client.send_request(request.map(Full::new)).await.context("the server does not answer")?;
    let (mut parts, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    for of_the_connection in ["connection", "content-length", "transfer-encoding"] {
        parts.headers.remove(of_the_connection);
    }
    Ok(Response::from_parts(parts, body))
}
