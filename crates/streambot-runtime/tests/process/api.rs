//! As much of Lambda's Runtime and Extensions API as a function needs, over plain sockets.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAX_WAIT: Duration = Duration::from_secs(20);

/// Something that the function said.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Api {
    port: u16,
    calls: Receiver<Call>,
    /// The function asks for an event, and there is none left.
    idle: Receiver<()>,
}

struct State {
    events: Mutex<VecDeque<(usize, String)>>,
    registration: &'static str,
    calls: Sender<Call>,
    idle: Sender<()>,
}

impl Api {
    pub(crate) fn start() -> Self {
        Self::with_events([])
    }

    pub(crate) fn with_events(events: impl IntoIterator<Item = String>) -> Self {
        Self::new(events.into_iter().enumerate().collect(), "200 OK")
    }

    pub(crate) fn refusing_extensions() -> Self {
        Self::new(VecDeque::new(), "403 Forbidden")
    }

    fn new(events: VecDeque<(usize, String)>, registration: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((call_sender, calls), (idle_sender, idle)) = (channel(), channel());
        let state = State {
            events: Mutex::new(events),
            registration,
            calls: call_sender,
            idle: idle_sender,
        };
        let state = Arc::new(state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(connection.unwrap(), &state));
            }
        });
        Self { port, calls, idle }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next response or error of the function.
    pub(crate) fn next_call(&mut self) -> Call {
        self.calls.recv_timeout(MAX_WAIT).expect("the function says something")
    }

    /// Waits until the function asks for an event in vain.
    pub(crate) fn wait_until_idle(&mut self) {
        self.idle.recv_timeout(MAX_WAIT).expect("the function asks for an event");
    }
}

/// Serves the requests of one connection, until the function closes it.
fn serve(mut connection: TcpStream, state: &State) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    while let Some(Call { path, body }) = read(&mut reader) {
        let response = match path.rsplit('/').next().unwrap() {
            "next" if path.contains("extension") => return hold(&mut reader),
            "next" => match state.events.lock().unwrap().pop_front() {
                Some((index, event)) => respond("200 OK", &of_invocation(index), &event),
                None => {
                    let _test_may_have_ended = state.idle.send(());
                    return hold(&mut reader);
                }
            },
            "register" => respond(state.registration, "lambda-extension-identifier: 1\r\n", "{}"),
            _ => {
                let _test_may_have_ended = state.calls.send(Call { path, body });
                respond("202 Accepted", "", "")
            }
        };
        if connection.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

/// Never responds.
fn hold(reader: &mut BufReader<TcpStream>) {
    let _closed = reader.read(&mut [0]);
}

fn of_invocation(index: usize) -> String {
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
    format!(
        "lambda-runtime-aws-request-id: request-{index}\r\nlambda-runtime-deadline-ms: {}\r\n\
         lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:123456789012:function:quakes\r\n",
        deadline.as_millis()
    )
}

fn respond(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The next request: its path and its body.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Call> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let path = line()?.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let header = line()?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Call { path, body })
}
