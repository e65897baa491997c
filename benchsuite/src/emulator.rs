//! `cargo lambda watch` with a function connected to it, and a client that invokes it over one
//! connection that is kept. It refuses to know what is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long the emulator may take to listen, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The emulator, its function, and a connection to it. Dropped, it ends both processes.
pub struct Emulator {
    connection: BufReader<TcpStream>,
    function: Option<Process>,
    _server: Process,
    port: u16,
}

impl Emulator {
    /// Starts the emulator alone; the function is connected by hand, so that it is the very binary
    /// that `local` runs, and nothing is built or watched.
    pub fn start(cargo_lambda: &Path) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("no free port")?
            .local_addr()?
            .port();
        let server = Command::new(cargo_lambda)
            .args([
                "lambda",
                "watch",
                "--only-lambda-apis",
                "--quiet",
                "--invoke-address",
                "127.0.0.1",
            ])
            .args(["--invoke-port", &port.to_string()])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/functions/streambot"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server =
            Process(server.with_context(|| format!("failed to run {}", cargo_lambda.display()))?);
        let connection = connect(port).context("cargo lambda watch does not listen")?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { connection: BufReader::new(connection), function: None, _server: server, port })
    }

    /// Runs the function and invokes it once, with an event without records. The event goes ahead:
    /// the function finds a queue to wait at only when something has been in it.
    pub fn connect(&mut self, function: &Path) -> Result<()> {
        self.send(br#"{"Records":[]}"#)?;
        let child = Command::new(function)
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{}/.rt", self.port))
            .env("AWS_LAMBDA_FUNCTION_NAME", "_")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "4096")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.function =
            Some(Process(child.with_context(|| format!("failed to run {}", function.display()))?));
        self.receive()
    }

    /// Invokes the function, which must succeed.
    pub fn invoke(&mut self, event: &[u8]) -> Result<()> {
        self.send(event)?;
        self.receive()
    }

    fn send(&mut self, event: &[u8]) -> Result<()> {
        let head = format!(
            "POST /2015-03-31/functions/_/invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n",
            event.len()
        );
        let stream = self.connection.get_mut();
        stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(event))
            .context("failed to send an event")
    }

    fn receive(&mut self) -> Result<()> {
        let status = self.line()?;
        ensure!(status.starts_with("HTTP/1.1 200"), "the emulator answers {status}");
        let mut length = None;
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok()
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut answer = vec![0; length.context("the emulator's answer has no content-length")?];
        self.connection.read_exact(&mut answer).context("failed to read the emulator's answer")?;
        ensure!(
            answer == br#"{"batchItemFailures":[]}"#,
            "the answer is {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.connection.read_line(&mut line).context("failed to read the emulator's answer")?;
        Ok(line.trim_end().to_owned())
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(connection) => return Ok(connection),
            Err(error) if started.elapsed() > PATIENCE => bail!(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _it_may_have_ended = self.0.kill();
        let _ = self.0.wait();
    }
}
