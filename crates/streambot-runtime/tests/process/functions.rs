//! The functions that run as processes.

use streambot_runtime::{Error, Record, Stack, each, on_shutdown};

/// Names the function that the process is to be.
pub(crate) const FUNCTION: &str = "STREAMBOT_TEST_FUNCTION";

pub(crate) fn run(function: &str) -> Result<(), Error> {
    match function {
        "values" => streambot_runtime::run(values),
        "values_beside_a_thread" => {
            let (_keep, ended) = std::sync::mpsc::channel::<()>();
            let _thread = std::thread::spawn(move || ended.recv());
            streambot_runtime::run(values)
        }
        "within_tokio" => tokio::runtime::Runtime::new()?
            .block_on(async { streambot_runtime::run(async || Ok(each(fail_if_told))) }),
        "failing" => streambot_runtime::run(async || Ok(each(fail_if_told))),
        "hooks" => streambot_runtime::run(async || {
            on_shutdown(async || tracing::info!("first hook"));
            on_shutdown(async || panic!("second hook fails"));
            on_shutdown(async || tracing::info!("third hook"));
            Ok(each(fail_if_told))
        }),
        "hanging_hook" => streambot_runtime::run(async || {
            on_shutdown(async || std::future::pending().await);
            Ok(each(fail_if_told))
        }),
        other => Err(format!("there is no function {other}").into()),
    }
}

async fn fail_if_told(record: Record) -> Result<(), Error> {
    if record.data() == b"fail" { Err("told to fail".into()) } else { Ok(()) }
}

/// Fails with the values of two names, in the stack and in the environment.
async fn values() -> Result<streambot_runtime::Each<Marker, Handler>, Error> {
    let value = |name: &str| {
        format!("{name} {:?} {:?}", Stack::from_env().value(name), std::env::var(name).ok())
    };
    Err([value("Table"), value("Set")].join(", ").into())
}

type Marker = streambot_runtime::WithoutContext<Record, (), Error>;
type Handler = fn(Record) -> std::future::Ready<Result<(), Error>>;
