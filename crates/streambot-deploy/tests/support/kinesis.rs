//! A Kinesis stream in memory, whose shards split and merge, and a proxy before it that answers
//! some reads with errors.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamStatus};
use serde_json::Value;

use super::{REGION, Server, free_address, keeper, tool};

impl Server {
    /// Starts kinesis-local, and waits until it answers.
    pub fn kinesis() -> Result<Self> {
        let (address, tls) = (free_address()?, free_address()?);
        let main = tool("node/kinesis-local/node_modules/kinesis-local/main.js")?;
        let mut command = keeper("node".as_ref());
        command
            .arg(&main)
            .current_dir(main.parent().context("it lies in a folder")?)
            .env("KINESIS_MOCK_PLAIN_PORT", address.port().to_string())
            .env("KINESIS_MOCK_TLS_PORT", tls.port().to_string())
            .env("LOG_LEVEL", "ERROR");
        for change in ["CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS"] {
            command.env(format!("{change}_DURATION"), "20ms");
        }
        Self::start(command, address, "/healthcheck", Duration::from_secs(60))
    }
}

/// A stream on a server.
pub struct Stream {
    client: Client,
    name: String,
}

/// A record that was put.
#[derive(Clone, Debug)]
pub struct Put {
    /// Its key.
    pub key: String,
    /// What it got.
    pub sequence_number: String,
}

impl Stream {
    /// A new stream.
    pub async fn create(server: &Server, name: &str, shards: i32) -> Result<Self> {
        let client = Client::new(&server.config(REGION).await);
        client.create_stream().stream_name(name).shard_count(shards).send().await?;
        let stream = Self { client, name: name.to_owned() };
        stream.until_active().await?;
        Ok(stream)
    }

    async fn until_active(&self) -> Result<()> {
        for _ in 0..500 {
            let found =
                self.client.describe_stream_summary().stream_name(&self.name).send().await?;
            if found.stream_description_summary().map(|summary| summary.stream_status())
                == Some(&StreamStatus::Active)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("{} never becomes active", self.name)
    }

    /// Puts records, each with its key. They are told in the order in which a reader must see those
    /// of one key.
    pub async fn put(&self, records: &[(String, String)]) -> Result<Vec<Put>> {
        let mut put = Vec::new();
        for block in records.chunks(500) {
            let mut request = self.client.put_records().stream_name(&self.name);
            for (key, data) in block {
                let entry = PutRecordsRequestEntry::builder()
                    .partition_key(key)
                    .data(Blob::new(data.as_bytes()));
                request = request.records(entry.build()?);
            }
            let answer = request.send().await?;
            ensure!(answer.failed_record_count().unwrap_or(0) == 0, "a record was not put");
            let results = block.iter().zip(answer.records()).map(|((key, _), result)| Put {
                key: key.clone(),
                sequence_number: result.sequence_number().unwrap_or_default().to_owned(),
            });
            let mut results: Vec<Put> = results.collect();
            // Records put together may be stored in any order.
            let number = |put: &Put| (put.sequence_number.len(), put.sequence_number.clone());
            results.sort_by_key(number);
            put.extend(results);
        }
        Ok(put)
    }

    /// Splits a shard in the middle.
    pub async fn split(&self, shard: &str, middle: u128) -> Result<()> {
        let request = self.client.split_shard().stream_name(&self.name).shard_to_split(shard);
        request.new_starting_hash_key(middle.to_string()).send().await?;
        self.until_active().await
    }

    /// Merges two neighbours.
    pub async fn merge(&self, shard: &str, neighbour: &str) -> Result<()> {
        let request = self.client.merge_shards().stream_name(&self.name).shard_to_merge(shard);
        request.adjacent_shard_to_merge(neighbour).send().await?;
        self.until_active().await
    }
}

/// A proxy that passes calls on, but answers some `GetRecords` with an error.
pub struct Faults {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// For each coming `GetRecords`, the error to answer with, if any.
    faults: Mutex<VecDeque<Option<&'static str>>>,
    /// The calls that were made: their operations and bodies.
    calls: Mutex<Vec<(String, Value)>>,
}

impl Faults {
    /// Starts a proxy to `server`, which lasts as long as the process.
    pub fn before(server: &Server, faults: &[Option<&'static str>]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let faults = Mutex::new(faults.iter().copied().collect());
        let shared = Arc::new(Shared { target: server.address, faults, calls: Mutex::default() });
        let passing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&passing);
                // A connection that breaks is the client's to see.
                std::thread::spawn(move || pass_on(client, &shared));
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bodies of the calls of one operation.
    pub fn calls(&self, operation: &str) -> Vec<Value> {
        let calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }
}

/// Answers the requests of one connection.
fn pass_on(client: TcpStream, shared: &Shared) -> Result<()> {
    let mut answers = client.try_clone()?;
    let mut requests = BufReader::new(client);
    loop {
        let (head, body) = message(&mut requests)?;
        let target = head.lines().find(|line| line.to_lowercase().starts_with("x-amz-target:"));
        let operation =
            target.and_then(|line| line.rsplit('.').next()).unwrap_or_default().trim().to_owned();
        let is_read = operation == "GetRecords";
        let asked = serde_json::from_slice(&body).unwrap_or_default();
        shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push((operation, asked));
        let mut faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = if is_read { faults.pop_front().flatten() } else { None };
        drop(faults);
        if let Some(error) = fault {
            let body = format!(r#"{{"__type":"{error}","message":"as the test asked"}}"#);
            let length = body.len();
            write!(
                answers,
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )?;
            continue;
        }
        let mut server = TcpStream::connect(shared.target)?;
        server.write_all(head.as_bytes())?;
        server.write_all(&body)?;
        let (head, body) = message(&mut BufReader::new(server))?;
        answers.write_all(head.as_bytes())?;
        answers.write_all(&body)?;
    }
}

/// The next message of a connection, with a body of the length it names.
fn message(connection: &mut BufReader<TcpStream>) -> Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(connection.read_line(&mut head)? > 0, "the connection has ended");
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(Ok(0), |length| length.trim().parse())?];
    connection.read_exact(&mut body)?;
    Ok((head, body))
}
