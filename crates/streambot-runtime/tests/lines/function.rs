//! Runs the function of `tests/fixtures/log_lines.rs` as a process, against a Runtime API of the
//! test's own.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::server::{Request, Response, serve};

/// The executable, built once.
static FUNCTION: LazyLock<PathBuf> = LazyLock::new(build);

fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // Build scripts look at these, and would run again for each change between a shell and a test.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|own| name.to_string_lossy().starts_with(own))
        {
            cargo.env_remove(name);
        }
    }
    cargo.args(["build", "--quiet", "--example", "log_lines", "--message-format", "json"]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    if !cfg!(feature = "s3-logs") {
        cargo.arg("--no-default-features");
    }
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "the function builds");
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let of_function = message["target"]["name"] == "log_lines";
        message["executable"].as_str().filter(|_| of_function).map(PathBuf::from)
    };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(executable).expect("cargo names the executable")
}

/// What the Runtime API has seen.
#[derive(Debug, Default)]
struct Seen {
    events: VecDeque<String>,
    /// When each response was posted, with its path and body.
    posts: Vec<(Instant, String, String)>,
    /// When the next event was asked for.
    polls: Vec<Instant>,
    /// There is nothing left to do for the function.
    ended: bool,
}

#[derive(Debug, Default)]
struct Api {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Api {
    fn respond(&self, request: &Request) -> Response {
        let mut seen = self.seen.lock().expect("no panic");
        if request.method == "GET" {
            seen.polls.push(Instant::now());
            if let Some(event) = seen.events.pop_front() {
                let id = format!("request-{}", seen.polls.len());
                let deadline = SystemTime::now() + Duration::from_secs(20);
                let deadline = deadline.duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
                let headers = vec![
                    ("Lambda-Runtime-Aws-Request-Id", id),
                    ("Lambda-Runtime-Deadline-Ms", deadline.to_string()),
                    (
                        "Lambda-Runtime-Invoked-Function-Arn",
                        "arn:aws:lambda:eu-west-1:1:function:f".to_owned(),
                    ),
                    ("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7;Sampled=1".to_owned()),
                ];
                return Response { headers, ..Response::new(200, event) };
            }
            seen.ended = true;
            self.changed.notify_all();
            drop(seen);
            // As Lambda freezes a sandbox that has nothing to do.
            std::thread::sleep(Duration::from_secs(60));
            return Response::new(500, "");
        }
        seen.posts.push((Instant::now(), request.path.clone(), request.body.clone()));
        if request.path.ends_with("/init/error") {
            seen.ended = true;
            self.changed.notify_all();
        }
        Response::new(202, "{}")
    }
}

/// What a process left behind.
#[derive(Debug)]
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    /// The responses' paths and bodies.
    pub posts: Vec<(String, String)>,
    /// From each response to the next poll.
    #[cfg_attr(not(feature = "s3-logs"), allow(dead_code, reason = "only uploads may delay"))]
    pub delays: Vec<Duration>,
}

impl Ended {
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.stdout.lines()
    }
}

/// Ends the process also if the test fails.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the function on these events, one after the other, until it asks for a further one.
pub fn run(variables: &[(&str, &str)], events: &[String]) -> Ended {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("lines-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = |name: &str| std::fs::File::create(folder.join(name)).expect("a file");

    let api = Arc::new(Api::default());
    api.seen.lock().expect("no panic").events.extend(events.iter().cloned());
    let address = serve({
        let api = Arc::clone(&api);
        move |request| api.respond(&request)
    });
    let child = Command::new(&*FUNCTION)
        .env_clear()
        .current_dir(&folder)
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", &*address.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", "quakes"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_REGION", "eu-west-1"),
            ("StackName", "quakes-test"),
            ("MetricName", "quakes-test"),
            ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true"),
        ])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .expect("the function starts");
    let process = Process(child);
    let seen = api.seen.lock().expect("no panic");
    let timeout = Duration::from_secs(40);
    let (seen, waited) =
        api.changed.wait_timeout_while(seen, timeout, |seen| !seen.ended).expect("no panic");
    let posts: Vec<_> =
        seen.posts.iter().map(|(_, path, body)| (path.clone(), body.clone())).collect();
    let delays = seen
        .posts
        .iter()
        .zip(seen.polls.iter().skip(1))
        .map(|((post, ..), poll)| *poll - *post)
        .collect();
    drop(seen);
    drop(process);
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("text");
    let ended = Ended { stdout: text("stdout"), stderr: text("stderr"), posts, delays };
    assert!(!waited.timed_out(), "the function still runs: {ended:#?}");
    std::fs::remove_dir_all(&folder).expect("the folder is there");
    ended
}
