//! An HTTP server before moto, which cannot invoke a function: invocations go to a function under
//! AWS's runtime interface emulator, and all else to moto as it is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::Server;
use super::emulator::Emulator;

/// The server, which lasts as long as the process.
pub struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// Starts it before `moto`. Without a function, an invocation is moto's too.
    pub fn before(moto: &Server, function: Option<Arc<Emulator>>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let front = Self { address: listener.local_addr()?, seen: Arc::default() };
        let (moto, seen) = (moto.address, Arc::clone(&front.seen));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (function, seen) = (function.clone(), Arc::clone(&seen));
                // A client that goes away ends its own connection alone.
                std::thread::spawn(move || serve(client, moto, function.as_deref(), &seen));
            }
        });
        Ok(front)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The calls to Lambda since the last time this was asked that may change something, such as
    /// `PUT functions/x/code`.
    pub fn writes(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let write = |call: &String| {
            let (method, path) = call.split_once(" /20")?;
            let (_, path) = path.split_once('/')?;
            (method != "GET").then(|| format!("{method} {}", path.trim_end_matches('/')))
        };
        seen.iter().filter_map(write).collect()
    }
}

/// Answers one request and closes the connection.
fn serve(
    client: TcpStream,
    moto: SocketAddr,
    function: Option<&Emulator>,
    seen: &Mutex<Vec<String>>,
) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    let mut head = Vec::new();
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if lower.starts_with("expect:") {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        } else if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;

    let text = String::from_utf8_lossy(&head);
    let call: Vec<&str> = text.lines().next().unwrap_or_default().split(' ').take(2).collect();
    let path = call.get(1).and_then(|path| path.split('?').next()).unwrap_or_default();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{} {path}", call[0]));
    match function {
        Some(function) if path.ends_with("/invocations") => invoke(&mut client, function, &body),
        _ => {
            let mut server = TcpStream::connect(moto)?;
            head.extend_from_slice(b"Connection: close\r\n\r\n");
            server.write_all(&head)?;
            server.write_all(&body)?;
            std::io::copy(&mut server, &mut client)?;
            Ok(())
        }
    }
}

/// What Lambda's API makes of the function's answer: an error is told by a header, which the
/// emulator has none for.
fn invoke(client: &mut TcpStream, function: &Emulator, event: &[u8]) -> Result<()> {
    let answer = function.invoke(&String::from_utf8_lossy(event))?;
    let error =
        if answer["errorType"].is_string() { "X-Amz-Function-Error: Unhandled\r\n" } else { "" };
    let body = answer.to_string();
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Amz-Executed-Version: 1\r\n{error}Connection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}
