//! Where a function's settings come from: the `.env` of its bundle, and the environment Lambda gives it. It knows the
//! names of both; it refuses to know what the values are used for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// Set by a deploy (in `.env`) and by a local run: the event source mapping honours partial answers.
const REPORT_BATCH_ITEM_FAILURES: &str = "STREAMBOT_REPORT_BATCH_ITEM_FAILURES";

/// Set by a deploy (in `.env`): the function's timeout in seconds.
const FUNCTION_TIMEOUT: &str = "STREAMBOT_FUNCTION_TIMEOUT";
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Puts the values of `.env` into the process's environment; what is set there already wins.
///
/// The file is looked for beside the executable's bundle (`LAMBDA_TASK_ROOT`), or in the working directory where that is
/// not set. Having none is fine.
///
/// # Safety
///
/// No other thread may be running: the environment is changed.
pub(crate) unsafe fn load_dotenv() -> Result<(), Error> {
    let folder = std::env::var_os("LAMBDA_TASK_ROOT").map(PathBuf::from).unwrap_or_default();
    let path = folder.join(".env");
    if !path.exists() {
        return Ok(());
    }
    for (key, value) in read(&path)? {
        if std::env::var_os(&key).is_none() {
            // SAFETY: the caller promises that this is the only thread.
            unsafe { std::env::set_var(key, value) };
        }
    }
    Ok(())
}

/// A `.env` that cannot be read. Going on without its values would work on the wrong resources, or none.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the stack's values from {}", path.display())]
struct DotenvError {
    path: PathBuf,
    source: dotenvy::Error,
}

fn read(path: &Path) -> Result<Vec<(String, String)>, DotenvError> {
    let fail = |source| DotenvError { path: path.to_owned(), source };
    dotenvy::from_path_iter(path).map_err(fail)?.map(|pair| pair.map_err(fail)).collect()
}

/// Whether partial answers are honoured. Where they are not, Lambda would take one for a success and lose the failed
/// records.
pub(crate) fn reports_batch_item_failures() -> bool {
    std::env::var(REPORT_BATCH_ITEM_FAILURES).is_ok_and(|value| value == "true")
}

/// The function's timeout, as a deploy left it; the contract's default if it did not.
///
/// Lambda does not tell a function its timeout, but for the deadline of each invocation.
pub(crate) fn function_timeout() -> Duration {
    let seconds = std::env::var(FUNCTION_TIMEOUT).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_TIMEOUT_SECONDS))
}

/// The published version of the function that this process runs, by its number; nothing for `$LATEST`.
pub(crate) fn published_version() -> Option<String> {
    std::env::var("AWS_LAMBDA_FUNCTION_VERSION").ok().filter(|version| version.parse::<u64>().is_ok())
}

/// Whether Lambda means to send several invocations at once, as it can on Managed Instances.
pub(crate) fn concurrent_invocations() -> bool {
    let limit = std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|limit| limit.parse().ok());
    limit.is_some_and(|limit: u32| limit > 1)
}

/// The values of the service's CloudFormation stack, as a deploy left them in the function's environment.
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

    /// Any value of the stack: a parameter, the physical id of a resource, or an output. An empty one, as CloudFormation
    /// gives an optional parameter, is `None`.
    pub fn value(&self, key: &str) -> Option<String> {
        std::env::var(key).ok().filter(|value| !value.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_that_cannot_be_parsed_is_an_error_that_names_the_file() {
        let path = std::env::temp_dir().join(format!("streambot-{}.env", std::process::id()));
        std::fs::write(&path, "StackName=\"quakes\"\nnot a line\n").expect("a writable folder");
        let error = read(&path).expect_err("the second line is no assignment");
        std::fs::remove_file(&path).expect("the file is there");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}
