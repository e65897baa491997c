//! `run` as a process of its own against a Runtime API: what it does before, between and after
//! invocations.
//!
//! The test's binary is the function, too, if `STREAMBOT_TEST_FUNCTION` names one: a function needs
//! a `main` of its own, for the standard harness runs tests beside other threads.
#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod functions;

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Output, Stdio};

use serde_json::{Value, json};
use streambot_runtime::testing::records;

use self::api::{Api, Call};
use self::functions::FUNCTION;

const CASES: [(&str, fn()); 9] = [
    ("values_of_the_file_are_in_the_stack_and_in_the_environment", values_are_everywhere),
    ("beside_other_threads_the_environment_is_not_changed", values_are_in_the_stack_only),
    ("a_file_that_cannot_be_read_is_an_init_error_without_its_values", unreadable_file),
    ("a_function_within_tokio_is_told_to_use_a_plain_main", within_tokio),
    ("each_invocation_gets_its_own_body", own_bodies),
    ("all_hooks_run_on_sigterm_and_the_process_ends", hooks),
    ("a_hook_that_hangs_does_not_keep_the_process", hanging_hook),
    ("without_hooks_sigterm_ends_the_process", no_hooks),
    ("a_refused_extension_is_an_init_error", refused_extension),
];

fn main() -> Result<ExitCode, streambot_runtime::Error> {
    if let Ok(function) = std::env::var(FUNCTION) {
        return functions::run(&function).map(|()| ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter));
    let mut failed = 0;
    for (name, case) in CASES.into_iter().filter(|(name, _)| is_chosen(name)) {
        if arguments.iter().any(|argument| argument == "--list") {
            println!("{name}: test");
            continue;
        }
        let passed = std::panic::catch_unwind(case).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A function in a process, its bundle's folder, and the API it talks to.
struct Function {
    process: Child,
    folder: PathBuf,
    api: Api,
}

impl Function {
    /// Starts a function whose `.env` has this content.
    fn start(name: &str, dotenv: &[u8], api: Api) -> Self {
        let folder = std::env::temp_dir().join(format!(
            "streambot-{name}-{}-{}",
            std::process::id(),
            api.port()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(".env"), dotenv).unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .env_clear()
            .env(FUNCTION, name)
            .env("LAMBDA_TASK_ROOT", &folder)
            .env("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{}", api.port()))
            .env("AWS_LAMBDA_FUNCTION_NAME", "quakes")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("Set", "by the process")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { process, folder, api }
    }

    fn terminate(&self) {
        let sent =
            Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end of the process.
    fn output(self) -> Output {
        let output = self.process.wait_with_output().unwrap();
        std::fs::remove_dir_all(self.folder).unwrap();
        output
    }

    /// The init error that ends the process: its type and message.
    fn init_error(mut self) -> (String, String) {
        let Call { path, body } = self.api.next_call();
        assert_eq!(path, "/2018-06-01/runtime/init/error");
        let error: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        let (kind, message) = (text("errorType"), text("errorMessage"));
        let output = self.output();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        (kind, message)
    }
}

const DOTENV: &[u8] = b"\xef\xbb\xbfTable=first\nSet=\"by the file\"\nTable=later\n";

fn values_are_everywhere() {
    let (kind, message) = Function::start("values", DOTENV, Api::start()).init_error();
    assert_eq!(kind, "Function.InitFailed");
    let in_environment = cfg!(target_os = "linux").then_some("later");
    let set = r#"Set Some("by the process") Some("by the process")"#;
    let expected = format!(r#"Table Some("later") {in_environment:?}, {set}"#);
    assert_eq!(message, expected);
}

fn values_are_in_the_stack_only() {
    let (_, message) = Function::start("values_beside_a_thread", DOTENV, Api::start()).init_error();
    assert_eq!(
        message,
        r#"Table Some("later") None, Set Some("by the process") Some("by the process")"#
    );
}

fn unreadable_file() {
    let cases: [(&[u8], &str); 3] = [
        (b"A=1\nsecret secret\n", ".env, line 2: expected NAME=value"),
        (b"A=sec\0ret\n", ".env, line 1: a NUL byte"),
        (b"A=secret\xff\n", ".env, line 1: not UTF-8"),
    ];
    for (dotenv, expected) in cases {
        let (kind, message) = Function::start("values", dotenv, Api::start()).init_error();
        assert_eq!(kind, "Function.EnvironmentUnreadable");
        assert!(message.contains(expected) && !message.contains("secret"), "{message}");
    }
}

fn within_tokio() {
    let (kind, message) = Function::start("within_tokio", b"", Api::start()).init_error();
    assert_eq!(kind, "Function.WithinTokio");
    assert!(message.contains("`fn main() -> Result<(), Error>"), "{message}");
}

fn own_bodies() {
    let events = [records(["a", "fail"]), records(["fail"]), records(["a"])];
    let bodies = events.each_ref().map(|event| event.to_json());
    let mut function = Function::start(
        "failing",
        b"STREAMBOT_REPORT_BATCH_ITEM_FAILURES=true",
        Api::with_events(bodies),
    );
    let expected = [Some(events[0].sequence_number(1)), Some(events[1].sequence_number(0)), None];
    for (index, failed) in expected.into_iter().enumerate() {
        let Call { path, body } = function.api.next_call();
        assert_eq!(path, format!("/2018-06-01/runtime/invocation/request-{index}/response"));
        let failures: Vec<_> =
            failed.map(|number| json!({ "itemIdentifier": number })).into_iter().collect();
        let response: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(response, json!({ "batchItemFailures": failures }));
    }
    function.api.wait_until_idle();
    function.process.kill().unwrap();
    function.output();
}

/// Starts a function, waits until it is ready, and ends it as Lambda does.
fn terminated(name: &str) -> Output {
    let mut function = Function::start(name, b"", Api::start());
    function.api.wait_until_idle();
    function.terminate();
    function.output()
}

fn hooks() {
    let output = terminated("hooks");
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let place = |text: &str| lines.find(text).unwrap_or_else(|| panic!("{text}: {lines}"));
    assert!(
        place("first hook") < place("second hook fails")
            && place("second hook fails") < place("third hook")
    );
}

fn hanging_hook() {
    let started = std::time::Instant::now();
    let output = terminated("hanging_hook");
    assert!(output.status.success(), "{output:?}");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("`on_shutdown` take longer"),
        "{output:?}"
    );
}

fn no_hooks() {
    use std::os::unix::process::ExitStatusExt;
    let output = terminated("failing");
    assert_eq!(output.status.signal(), Some(15), "{output:?}");
}

fn refused_extension() {
    let function = Function::start("hooks", b"", Api::refusing_extensions());
    let (kind, message) = function.init_error();
    assert_eq!(kind, "Function.ShutdownHooksRefused");
    assert!(message.contains("on_shutdown") && message.contains("403"), "{message}");
}
