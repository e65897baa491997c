//! What the tests of the built executable share: servers that speak AWS's API, a service to deploy,
//! and the executable itself.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own, and uses its part"
)]

pub mod deployed;
pub mod emulator;
pub mod front;
pub mod journal;
pub mod kinesis;
pub mod proxy;
pub mod world;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};

/// The account that moto and LocalStack act for, and the region of every test that names no other.
pub const REGION: &str = "us-east-1";

/// What the shell does that holds a server: it ends the server once the test process has gone,
/// however that ended.
const KEEPER: &str = r#"
"$@" & server=$!
cat >/dev/null
kill $server
for _ in $(seq 50); do kill -0 $server || exit; sleep 0.1; done
kill -9 $server
"#;

/// A server on a free port of loopback, which ends with the value or the process.
pub struct Server {
    keeper: Child,
    address: SocketAddr,
    /// What it prints, in a file without a name.
    log: File,
}

impl Server {
    /// Starts moto, AWS's API in memory, and waits until it answers.
    pub fn moto() -> Result<Self> {
        let address = free_address()?;
        let mut command = keeper(&tool("python/moto/bin/moto_server")?);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        Self::start(command, address, "/moto-api/", Duration::from_secs(60))
    }

    /// Starts LocalStack, which nests stacks, with its files in `folder`, and waits until it
    /// answers.
    pub fn localstack(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = keeper(&tool("python/localstack/bin/python")?);
        command
            .args(["-m", "localstack.runtime.main"])
            .env("GATEWAY_LISTEN", address.to_string())
            .env("DNS_ADDRESS", "0")
            .env("DISABLE_EVENTS", "1")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("LOCALSTACK_VOLUME_DIR", folder)
            .env("FILESYSTEM_ROOT", folder)
            .env("TMPDIR", folder)
            .current_dir(folder);
        Self::start(command, address, "/_localstack/health", Duration::from_secs(180))
    }

    fn start(
        mut command: Command,
        address: SocketAddr,
        path: &str,
        patience: Duration,
    ) -> Result<Self> {
        let log = tempfile::tempfile()?;
        let keeper = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()?;
        let mut server = Self { keeper, address, log };
        let deadline = Instant::now() + patience;
        while !answers(address, path) {
            ensure!(Instant::now() < deadline, "no answer from {address}:\n{}", server.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        let read = self.log.rewind().and_then(|()| self.log.read_to_string(&mut said));
        read.map_or_else(|error| error.to_string(), |_| said)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What an SDK client needs to speak to it.
    pub async fn config(&self, region: &str) -> SdkConfig {
        let credentials =
            aws_sdk_lambda::config::Credentials::new("test", "test", None, None, "test");
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .endpoint_url(self.url())
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .load()
            .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn keeper(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "sh"]).arg(program);
    command
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Whether a GET of `path` is answered with 200.
fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// A program that `ci/setup` installs.
pub fn tool(path: &str) -> Result<PathBuf> {
    let tools = match std::env::var_os("STREAMBOT_TEST_TOOLS") {
        Some(tools) => PathBuf::from(tools),
        None => workspace().join("target/test-tools"),
    };
    let tool = tools.join(path);
    ensure!(tool.is_file(), "{} is not installed: run ci/setup first", tool.display());
    Ok(tool)
}

/// The folder of this workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo, as from a shell: without what it tells a test of the test's own package, which build
/// scripts may look at.
pub fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    let own = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    own.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command
}

/// What an example of the example service prints: one of its templates.
pub fn example_template(example: &str) -> Result<String> {
    let output = cargo()
        .args(["run", "--quiet", "--package", "streambot-example", "--example", example])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the example `{example}` failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// `streambot-deploy` itself, with nothing of the machine's own AWS settings.
pub fn streambot_deploy() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streambot-deploy"));
    let aws = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"));
    for (name, _) in aws {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// A small service of its own, in a folder of its own, that deploys to a server.
pub struct Service {
    folder: tempfile::TempDir,
    name: String,
    /// Where AWS is.
    endpoint: String,
}

impl Service {
    /// A package `name` with nothing but a `main`.
    pub fn new(name: &str, server: &Server) -> Result<Self> {
        Self::at(name, server.url())
    }

    /// One that finds AWS at `endpoint`.
    pub fn at(name: &str, endpoint: String) -> Result<Self> {
        let service = Self { folder: tempfile::tempdir()?, name: name.to_owned(), endpoint };
        service.settings("")?;
        service.file("src/main.rs", "fn main() {}\n")?;
        Ok(service)
    }

    /// Puts `settings` below `[package.metadata.streambot]`.
    pub fn settings(&self, settings: &str) -> Result<()> {
        let name = &self.name;
        let manifest = format!(
            "[package]\nname = \"{name}\"\ndescription = \"A service of a test\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [package.metadata.streambot]\n{settings}\n"
        );
        self.file("Cargo.toml", &manifest)
    }

    /// Writes one of its files.
    pub fn file(&self, path: &str, contents: &str) -> Result<()> {
        let path = self.path(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, contents)?)
    }

    /// Where one of its files is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// `streambot-deploy` in the service's folder, speaking to the server, built without
    /// optimization.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = streambot_deploy();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", REGION)
            // A small executable, as each deploy packs it, hashes it and sends it.
            .env("CARGO_PROFILE_DEV_STRIP", "true")
            // One target folder for all tests' services, outside of any that a user has.
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("service"));
        command
    }

    /// Runs `streambot-deploy` with the dev profile and `--output json`, and reads what it answers.
    pub fn run(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let output = self.attempt(arguments)?;
        if !output.status.success() {
            bail!("{arguments:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("the answer is no JSON")
    }

    /// Runs `streambot-deploy` as [`Self::run`] does, whatever comes of it.
    pub fn attempt(&self, arguments: &[&str]) -> Result<Output> {
        // Only what builds has a profile.
        let builds = !arguments.first().is_some_and(|verb| {
            matches!(
                *verb,
                "rollback" | "pause" | "resume" | "replay" | "destroy" | "status" | "logs"
            )
        });
        let profile: &[&str] = if builds { &["--profile", "dev"] } else { &[] };
        Ok(self.command(arguments).args(profile).args(["--output", "json"]).output()?)
    }

    /// Runs `streambot-deploy`, which must fail with `exit_code`, and gives what it says.
    pub fn fails(&self, arguments: &[&str], exit_code: i32) -> Result<String> {
        let output = self.attempt(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(exit_code),
            "{:?}, not {exit_code}:\n{said}",
            output.status.code()
        );
        ensure!(output.stdout.is_empty(), "a failure has no result");
        Ok(said)
    }
}

/// The names, modes and contents of a zip.
pub fn unzip(path: &Path) -> Result<Vec<(String, u32, Vec<u8>)>> {
    let mut archive = zip::ZipArchive::new(File::open(path)?)?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let mut contents = Vec::new();
        file.read_to_end(&mut contents)?;
        files.push((
            file.name()?.into_owned(),
            file.unix_mode().unwrap_or_default() & 0o777,
            contents,
        ));
    }
    Ok(files)
}

/// What a `.env` file holds, as dotenvy reads it.
pub fn dotenv(contents: &[u8]) -> Result<Vec<(String, String)>> {
    Ok(dotenvy::from_read_iter(contents).collect::<Result<_, _>>()?)
}
