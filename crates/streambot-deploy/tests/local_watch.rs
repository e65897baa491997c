//! `streambot-deploy local --watch`: the function changes while the run goes on.

#![allow(clippy::unwrap_used)]

#[path = "support/local.rs"]
mod local;

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use local::Local;
use local::function::wait_until;

/// A handler that logs its version beside what it was sent, and waits for a file where it is sent a
/// `wait`.
fn version(number: u32) -> String {
    format!(
        r#"
def handle(records):
    while "wait" in data and not os.path.exists(os.environ["LOG"] + ".go"):
        time.sleep(0.01)
    log({{"version": {number}, "data": data}})
    return "null""#
    )
}

fn feed(child: &mut Child, record: &str) {
    child.stdin.as_mut().unwrap().write_all(format!("{record}\n").as_bytes()).unwrap();
}

/// Whether a version of the function was done with this record.
fn is_done(run: &Local, number: u32, record: &str) -> bool {
    run.invocations().iter().any(|done| done["version"] == number && done["data"][0] == record)
}

/// Feeds records until this version gets one.
fn feed_until(run: &Local, child: &mut Child, number: u32) {
    let mut fed = 0;
    wait_until(&format!("version {number} runs"), || {
        fed += 1;
        feed(child, &format!("{number}-{fed}"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        run.invocations().iter().any(|done| done["version"] == number)
    });
}

#[test]
fn what_is_in_flight_is_finished_by_the_old_function_and_the_new_one_goes_on() {
    let run = Local::function(&version(1)).with(&["--watch", "--records", "-", "--output", "json"]);
    let mut child = run.spawn(Stdio::piped());
    feed(&mut child, "first");
    wait_until("the first record is done", || is_done(&run, 1, "first"));
    feed(&mut child, "wait");
    wait_until("the second is in flight", || {
        run.invocations().last().is_some_and(|last| last["data"][0] == "wait")
    });
    run.write_function(&version(2));
    // The new one gets what follows, be it before or after it is noticed.
    fs::write(run.path("log.go"), "").unwrap();
    wait_until("the second is done", || is_done(&run, 1, "wait"));
    feed_until(&run, &mut child, 2);
    drop(child.stdin.take());
    let ended = run.ended(child);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("the function has changed"), "{}", ended.stderr);
    let summary = ended.summary();
    assert_eq!((&summary["retries"], &summary["discarded"]), (&0.into(), &0.into()));
    assert_eq!(summary["records"], summary["succeeded"]);
    assert!(!is_done(&run, 2, "wait"), "it is not delivered again");
}

/// A service without dependencies, which speaks the Runtime API over a plain socket.
const SERVICE: &str = r#"
use std::io::{Read, Write};

fn call(request: &str) -> String {
    let mut socket = std::net::TcpStream::connect(std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    response
}

fn main() {
    loop {
        let next = call("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let id = next.split("lambda-runtime-aws-request-id: ").nth(1).unwrap().split('\r').next().unwrap();
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(std::env::var("LOG").unwrap()).unwrap();
        writeln!(log, "{{\"version\":VERSION,\"data\":[\"record\"]}}").unwrap();
        let path = format!("/2018-06-01/runtime/invocation/{id}/response");
        call(&format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nnull"));
    }
}
"#;

#[test]
fn a_service_is_built_again_when_a_source_changes_and_a_failed_build_keeps_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    write(
        "Cargo.toml",
        "[package]\nname = \"watched\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    write("src/main.rs", &SERVICE.replace("VERSION", "1"));
    let log = folder.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_streambot-deploy"))
        .args(["local", "--watch", "--records", "-", "--env", &format!("LOG={}", log.display())])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("told")).unwrap())
        .spawn()
        .unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let mut feed_until_version = |number: &str| {
        let before = read("log").lines().count();
        wait_until(&format!("version {number} runs"), || {
            feed(&mut child, "record");
            std::thread::sleep(std::time::Duration::from_millis(50));
            read("log")
                .lines()
                .skip(before)
                .any(|line| line.contains(&format!("\"version\":{number},")))
        });
    };
    feed_until_version("1");
    write("src/main.rs", "fn main() { this does not compile }");
    wait_until("the failed build is told", || {
        read("told").contains("the function stays as it was until the next change")
    });
    feed_until_version("1");
    write("src/main.rs", &SERVICE.replace("VERSION", "2"));
    feed_until_version("2");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "{}", read("told"));
    assert!(read("told").contains("a source has changed: building the function again"));
}
