//! A proxy in front of a server that notes every call and changes none.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::Result;

use super::Server;

/// The calls that went to a server, in their order.
pub struct Recorder {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Starts a proxy to `server`, which lasts as long as the process.
    pub fn of(server: &Server) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let recorder = Self { address: listener.local_addr()?, calls: Arc::default() };
        let (target, calls) = (server.address, Arc::clone(&recorder.calls));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let calls = Arc::clone(&calls);
                std::thread::spawn(move || forward(client, target, &calls));
            }
        });
        Ok(recorder)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The calls to Lambda since the last time this was asked that may change something, such as `PUT functions/x/code`.
    pub fn writes(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let write = |call: &String| {
            let (method, path) = call.split_once(" /")?;
            // Lambda's paths begin with the date of the API's version; CloudFormation's calls all go to `/`.
            let (version, path) = path.split_once('/')?;
            (method != "GET" && version.starts_with("20")).then(|| format!("{method} {}", path.trim_end_matches('/')))
        };
        calls.iter().filter_map(write).collect()
    }
}

/// Passes one connection on, both ways at once.
fn forward(mut client: TcpStream, target: SocketAddr, calls: &Mutex<Vec<String>>) -> Option<()> {
    let mut server = TcpStream::connect(target).ok()?;
    let (mut answers, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
    let (mut sent, mut noted) = (Vec::new(), 0);
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = client.read(&mut buffer).ok()?;
        if length == 0 {
            return server.shutdown(Shutdown::Write).ok();
        }
        sent.extend_from_slice(&buffer[..length]);
        noted = note_calls(&sent, noted, calls);
        server.write_all(&buffer[..length]).ok()?;
    }
}

/// Notes the request lines in what was sent from `noted` on, and tells how far it looked.
fn note_calls(sent: &[u8], mut noted: usize, calls: &Mutex<Vec<String>>) -> usize {
    const END: &[u8] = b" HTTP/1.1\r\n";
    while let Some(end) = sent[noted..].windows(END.len()).position(|bytes| bytes == END) {
        // The request before may have ended without a line break.
        let before = String::from_utf8_lossy(&sent[noted..noted + end]).into_owned();
        let start = ["GET /", "PUT /", "POST /", "DELETE /"].iter().filter_map(|method| before.rfind(method)).max();
        if let (Some(start), Ok(mut calls)) = (start, calls.lock()) {
            calls.push(before[start..].to_owned());
        }
        noted += end + END.len();
    }
    noted
}
