//! The Lambda Runtime API on loopback, for one function process: hands it one event at a time and
//! notes when. It takes log objects as well, as S3 would. It refuses to know how the process is
//! run, and what is measured about it.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// How long a process may take to ask or to answer; callgrind makes it some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is left of an invocation's time when it is handed out: Lambda's most.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The listener of one process; it ends when this is dropped.
#[derive(Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    offers: Sender<Arc<[u8]>>,
    calls: Receiver<Call>,
    closing: Arc<AtomicBool>,
}

/// What the process did, and when.
#[derive(Debug)]
enum Call {
    /// It asked for an event.
    Next(Instant),
    /// The first byte of the event is about to be written.
    HandedOut(Instant),
    /// The last byte of its answer was read.
    Answered(Instant, Vec<u8>),
    /// It reported an error.
    Failed(String),
    /// It broke the protocol, as this server knows it.
    Broken(String),
}

/// What the connections of the process have in common.
struct Shared {
    offered: Mutex<Receiver<Arc<[u8]>>>,
    invocations: AtomicU64,
}

impl RuntimeApi {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("failed to open a port on loopback")?;
        let address = listener.local_addr()?;
        let (offers, offered) = mpsc::channel();
        let (called, calls) = mpsc::channel();
        let closing = Arc::new(AtomicBool::new(false));
        let shared =
            Arc::new(Shared { offered: Mutex::new(offered), invocations: AtomicU64::new(0) });
        thread::spawn({
            let closing = Arc::clone(&closing);
            move || accept(&listener, &shared, &called, &closing)
        });
        Ok(Self { address, offers, calls, closing })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the process asks for an event, and returns when it did.
    pub fn ready(&self) -> Result<Instant> {
        match self.call()? {
            Call::Next(at) => Ok(at),
            other => bail!("the function was to ask for an event, and instead: {other:?}"),
        }
    }

    /// Hands out an event to a process that is [ready](Self::ready), and returns the time until its
    /// answer was there.
    pub fn invoke(&self, event: &Arc<[u8]>) -> Result<Duration> {
        self.offers.send(Arc::clone(event)).context("the Runtime API has ended")?;
        let Call::HandedOut(handed_out) = self.call()? else {
            bail!("the function asked for two events at once")
        };
        let (answered, body) = match self.call()? {
            Call::Answered(at, body) => (at, body),
            other => bail!("the function was to answer, and instead: {other:?}"),
        };
        let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
        ensure!(
            answer == json!({ "batchItemFailures": [] }),
            "the function failed on a record: {answer}"
        );
        Ok(answered - handed_out)
    }

    fn call(&self) -> Result<Call> {
        match self.calls.recv_timeout(PATIENCE).context("the function neither asks nor answers")? {
            Call::Failed(error) => bail!("the function failed: {error}"),
            Call::Broken(error) => bail!("the function does not speak as expected: {error}"),
            call => Ok(call),
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // Wakes the listener; where that fails it has ended already.
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    called: &Sender<Call>,
    closing: &AtomicBool,
) {
    for connection in listener.incoming() {
        if closing.load(Ordering::Relaxed) {
            return;
        }
        let Ok(connection) = connection else { return };
        let (shared, called) = (Arc::clone(shared), called.clone());
        thread::spawn(move || {
            if let Err(error) = serve(&connection, &shared, &called) {
                // Where nobody listens any more, the process has been ended and its connections
                // with it.
                let _ = called.send(Call::Broken(format!("{error:#}")));
            }
        });
    }
}

/// Answers the requests of one connection until the process closes it.
fn serve(connection: &TcpStream, shared: &Shared, called: &Sender<Call>) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    while let Some(request) = Request::read(&mut reader)? {
        let read = Instant::now();
        let accepted = |call| -> Result<()> {
            (&*connection).write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
            Ok(called.send(call)?)
        };
        match request.path.rsplit('/').next() {
            _ if request.method == "PUT" => {
                (&*connection).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?
            }
            Some("next") => {
                called.send(Call::Next(read))?;
                let offered = shared.offered.lock().unwrap_or_else(PoisonError::into_inner).recv();
                // The run is over, and the process is about to be ended.
                let Ok(event) = offered else { return Ok(()) };
                let response =
                    invocation(shared.invocations.fetch_add(1, Ordering::Relaxed), &event);
                called.send(Call::HandedOut(Instant::now()))?;
                (&*connection).write_all(&response)?;
            }
            Some("response") => accepted(Call::Answered(read, request.body))?,
            Some("error") => {
                accepted(Call::Failed(String::from_utf8_lossy(&request.body).into_owned()))?
            }
            _ => bail!("unknown path {}", request.path),
        }
    }
    Ok(())
}

/// The response to `/next`, whole, so that it takes one write.
fn invocation(number: u64, event: &[u8]) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 200 OK\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\
         lambda-runtime-aws-request-id: 8476a536-e9f4-11e8-9739-{number:012x}\r\n\
         lambda-runtime-deadline-ms: {}\r\n\
         lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:benchsuite\r\n\
         lambda-runtime-trace-id: Root=1-{:08x}-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=0\r\n\r\n",
        event.len(),
        (now + TIMEOUT).as_millis(),
        now.as_secs(),
    );
    [head.as_bytes(), event].concat()
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Request {
    /// The next request, or nothing where the connection ends.
    fn read(reader: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        // A process that is ended may reset its connections.
        if !reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).context("no request line")?;
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().context("content-length is no number")?;
            }
            ensure!(
                !name.eq_ignore_ascii_case("transfer-encoding"),
                "a chunked body is not understood"
            );
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { method, path, body }))
    }
}
