//! The settings of a function: values of the `.env` in its bundle, and the environment variables
//! that Lambda sets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::dotenv::{self, DotenvError, Values};
use crate::threads;

/// The values of `.env`, once it was read.
static DOTENV: OnceLock<Values> = OnceLock::new();

/// Set by a deploy (in `.env`) and by a local run: the event source mapping honours partial
/// answers.
const REPORT_BATCH_ITEM_FAILURES: &str = "STREAMBOT_REPORT_BATCH_ITEM_FAILURES";

/// Set by a deploy (in `.env`): the function's timeout in seconds.
const FUNCTION_TIMEOUT: &str = "STREAMBOT_FUNCTION_TIMEOUT";
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Reads `.env`, for [`variable`] and for code that reads environment variables itself.
///
/// The file is in the folder of the bundle (`LAMBDA_TASK_ROOT`), or in the working directory if
/// that is not set. It need not exist.
///
/// # Errors
///
/// If the file exists and cannot be read.
pub(crate) fn load() -> Result<Loaded, DotenvError> {
    let folder = std::env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
    let values = dotenv::read(&folder.join(".env"))?;
    let loaded = if values.is_empty() || set_variables(&values) {
        Loaded::Everywhere
    } else {
        Loaded::StackOnly
    };
    DOTENV.get_or_init(|| values);
    Ok(loaded)
}

/// Where the values of `.env` can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// In [`Stack`] and in the process's environment.
    Everywhere,
    /// Only in [`Stack`]: the process has other threads, which may be reading the environment.
    StackOnly,
}

/// Sets those that are not set yet as variables of the process, if it has one thread. Returns
/// whether it did.
fn set_variables(values: &Values) -> bool {
    if !threads::is_only_thread() {
        return false;
    }
    for (name, value) in values {
        if std::env::var_os(name).is_none() {
            // SAFETY: this thread is the only one of the process, so that no other one reads or
            // changes the environment. The parser lets through neither NUL nor a name with `=`.
            unsafe { std::env::set_var(name, value) };
        }
    }
    true
}

/// The value of an environment variable, or of `.env` if the process does not have the variable.
pub(crate) fn variable(name: &str) -> Option<String> {
    match std::env::var_os(name) {
        Some(value) => value.into_string().ok(),
        None => DOTENV.get()?.get(name).cloned(),
    }
}

/// Whether partial answers are honoured. Where they are not, Lambda would take one for a success
/// and lose the failed records.
pub(crate) fn reports_batch_item_failures() -> bool {
    variable(REPORT_BATCH_ITEM_FAILURES).is_some_and(|value| value == "true")
}

/// The function's timeout, as a deploy left it; the contract's default if it did not.
///
/// Lambda does not tell a function its timeout, but for the deadline of each invocation.
pub(crate) fn function_timeout() -> Duration {
    let seconds = variable(FUNCTION_TIMEOUT).and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TIMEOUT_SECONDS))
}

/// The published version of the function that this process runs, by its number; nothing for
/// `$LATEST`.
pub(crate) fn published_version() -> Option<String> {
    std::env::var("AWS_LAMBDA_FUNCTION_VERSION")
        .ok()
        .filter(|version| version.parse::<u64>().is_ok())
}

/// Whether Lambda means to send several invocations at once, as it can on Managed Instances.
pub(crate) fn concurrent_invocations() -> bool {
    let limit =
        std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|limit| limit.parse().ok());
    limit.is_some_and(|limit: u32| limit > 1)
}

/// The values of the service's CloudFormation stack, as a deploy left them in the function's
/// environment.
///
/// All of them are missing in a local run without `--env-file`.
///
/// ```
/// use streambot_runtime::Stack;
///
/// let stack = Stack::from_env();
/// let table = stack.value("QuakesTable");
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Stack {}

impl Stack {
    /// The stack of the running function.
    pub fn from_env() -> Self {
        Self {}
    }

    /// The name of the stack: `<package name>-<environment>`.
    pub fn name(&self) -> Option<String> {
        self.value("StackName")
    }

    /// The region of the stack, such as `us-east-1`.
    pub fn region(&self) -> Option<String> {
        self.value("StackRegion")
    }

    /// The ARN of the stream the function reads.
    pub fn stream_arn(&self) -> Option<String> {
        self.value("KinesisStream")
    }

    /// The bucket each invocation's log lines go to.
    pub fn log_bucket(&self) -> Option<String> {
        self.value("LogBucket")
    }

    /// What the keys of the log objects begin with.
    pub fn log_prefix(&self) -> Option<String> {
        self.value("LogPrefix")
    }

    /// The name of the metric that counts the function's invocations.
    pub fn metric_name(&self) -> Option<String> {
        self.value("MetricName")
    }

    /// Any value of the stack: a parameter, the physical id of a resource, or an output. An empty
    /// one, as CloudFormation gives an optional parameter, is `None`.
    pub fn value(&self, key: &str) -> Option<String> {
        variable(key).filter(|value| !value.is_empty())
    }
}

/// What Lambda sets for a function and `lambda_runtime` cannot do without.
pub(crate) fn missing_lambda_variables() -> BTreeSet<&'static str> {
    [
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
    ]
    .into_iter()
    .filter(|name| std::env::var_os(name).is_none())
    .collect()
}
