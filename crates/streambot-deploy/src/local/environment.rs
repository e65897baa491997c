//! The environment variables of a function process: what Lambda sets, what is kept of this
//! machine's, and what the user gives. Pure; it refuses to know where a value was read.

use std::collections::BTreeMap;

/// The account that stands in made-up ARNs.
const ACCOUNT: &str = "000000000000";
/// The region where the user names none, as in a deploy.
const DEFAULT_REGION: &str = "us-east-1";

/// What a process needs of this machine to run at all, and what a developer sets to see more.
const KEPT: [&str; 7] =
    ["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "RUST_LOG", "RUST_BACKTRACE"];

/// Where an AWS SDK looks for credentials outside the environment; a user who names one of these
/// wants it to look there.
const CREDENTIAL_PLACES: [&str; 3] =
    ["AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];

/// The function as Lambda would know it.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Its memory in MB; told, not enforced.
    pub(crate) memory: u32,
    /// The region it believes to be in.
    pub(crate) region: String,
    /// The ARN of the stream it reads, where that is a real one.
    pub(crate) stream: Option<String>,
}

impl Function {
    /// The function of this name, in the region that the user's variables name.
    /// A real stream's region is the function's too, as on Lambda.
    pub(crate) fn new(
        name: String,
        memory: u32,
        given: &BTreeMap<String, String>,
        stream: Option<String>,
    ) -> Function {
        let of_stream = stream.as_deref().and_then(|arn| arn.split(':').nth(3)).map(str::to_owned);
        let named = || given.get("AWS_REGION").or_else(|| given.get("AWS_DEFAULT_REGION")).cloned();
        let region = of_stream.or_else(named).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        Function { name, memory, region, stream }
    }

    /// The function's ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{ACCOUNT}:function:{}", self.region, self.name)
    }

    /// The ARN of the stream it reads.
    pub(crate) fn stream_arn(&self) -> String {
        let made_up = || format!("arn:aws:kinesis:{}:{ACCOUNT}:stream/{}", self.region, self.name);
        self.stream.clone().unwrap_or_else(made_up)
    }

    /// The ARN of the role it runs as.
    pub(crate) fn role_arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role/lambda/{}", self.name)
    }

    /// The variables of its processes; each process adds its own address of the Runtime API.
    ///
    /// Nothing else of this machine gets through: no credentials from its environment, nor from the
    /// files and the instance metadata an AWS SDK would ask, unless `given`, which wins over
    /// everything, names them.
    pub(crate) fn variables(
        &self,
        machine: impl Fn(&str) -> Option<String>,
        task_root: &str,
        given: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = KEPT
            .iter()
            .filter_map(|name| machine(name).map(|value| ((*name).to_owned(), value)))
            .collect();
        let memory = self.memory.to_string();
        let log_group = format!("/aws/lambda/{}", self.name);
        let lambda = [
            ("_HANDLER", "bootstrap"),
            ("AWS_LAMBDA_FUNCTION_NAME", &self.name),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &log_group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local/[$LATEST]"),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("LAMBDA_TASK_ROOT", task_root),
            ("TZ", ":UTC"),
            // Where a partial answer is honoured, the function is told so; the poller honours it.
            ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true"),
        ];
        variables.extend(lambda.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        if !CREDENTIAL_PLACES.iter().any(|name| given.contains_key(*name)) {
            for file in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
                variables.insert(file.to_owned(), "/dev/null".to_owned());
            }
        }
        variables.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
        variables
    }
}

/// A variable given as `KEY=VALUE`, or as `KEY` to take this machine's value.
pub(crate) fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("{text} has no name before the equals sign")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("{text} is not set here; write {text}=VALUE")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        let given =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let machine = |name: &str| match name {
            "PATH" => Some("/usr/bin".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_PROFILE" | "StackName" => {
                panic!("{name} must not be asked for")
            }
            _ => None,
        };
        Function::new("quakes-local".to_owned(), 256, &given, None)
            .variables(machine, "/task", &given)
    }

    #[test]
    fn a_process_gets_what_lambda_sets() {
        let variables = variables(&[]);
        assert_eq!(variables["PATH"], "/usr/bin");
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "quakes-local");
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
        assert_eq!(variables["AWS_REGION"], "us-east-1");
        assert_eq!(variables["LAMBDA_TASK_ROOT"], "/task");
        assert_eq!(variables["STREAMBOT_REPORT_BATCH_ITEM_FAILURES"], "true");
    }

    #[test]
    fn an_sdk_finds_no_credentials_of_this_machine() {
        let variables = variables(&[]);
        assert_eq!(variables["AWS_SHARED_CREDENTIALS_FILE"], "/dev/null");
        assert_eq!(variables["AWS_CONFIG_FILE"], "/dev/null");
        assert_eq!(variables["AWS_EC2_METADATA_DISABLED"], "true");
        assert!(!variables.contains_key("AWS_ACCESS_KEY_ID"));
    }

    #[test]
    fn what_the_user_gives_wins() {
        let variables = variables(&[
            ("AWS_PROFILE", "sandbox"),
            ("AWS_REGION", "eu-west-1"),
            ("PATH", "/mine"),
        ]);
        assert_eq!(variables["AWS_PROFILE"], "sandbox");
        assert!(
            !variables.contains_key("AWS_CONFIG_FILE"),
            "a named profile is looked up in the user's own files"
        );
        assert_eq!(variables["AWS_DEFAULT_REGION"], "eu-west-1");
        assert_eq!(variables["PATH"], "/mine");
    }

    #[test]
    fn a_variable_is_a_name_and_a_value() {
        assert_eq!(parse_variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(parse_variable("=b").is_err());
        assert!(parse_variable("NO_SUCH_VARIABLE_HERE").is_err());
    }
}
