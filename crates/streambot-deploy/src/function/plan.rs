//! What a function needs to become what it should be, decided from what it is: values in, a plan out, no calls.

use std::fmt;

use aws_sdk_lambda::types::{FunctionConfiguration, Runtime};

use super::{ALIAS, Architecture};
use crate::bundle::Bundle;
use crate::settings::Change;

/// The longest description Lambda takes, in characters.
const DESCRIPTION_LENGTH: usize = 256;

/// The function as it should be.
#[derive(Debug)]
pub(crate) struct Desired<'a> {
    /// Its name, which is the stack's.
    pub(crate) name: &'a str,
    /// ARN of the role it runs as.
    pub(crate) role: &'a str,
    /// The package's description.
    pub(crate) description: &'a str,
    /// Memory in MB.
    pub(crate) memory: u32,
    /// Seconds an invocation may take.
    pub(crate) timeout: u32,
    /// The processor it was built for.
    pub(crate) architecture: Architecture,
    /// Its log group; nothing leaves the one it has.
    pub(crate) log_group: Option<&'a str>,
    /// Its code.
    pub(crate) bundle: &'a Bundle,
}

impl Desired<'_> {
    /// Lambda's own name for a Rust executable on Amazon Linux 2023.
    pub(super) const RUNTIME: Runtime = Runtime::Providedal2023;
    /// The executable in the bundle.
    pub(super) const HANDLER: &'static str = "bootstrap";

    /// The description, cut to what Lambda takes.
    pub(super) fn description(&self) -> String {
        self.description.trim().chars().take(DESCRIPTION_LENGTH).collect()
    }

    /// The processor in the API's type.
    pub(super) fn architecture(&self) -> aws_sdk_lambda::types::Architecture {
        match self.architecture {
            Architecture::X86_64 => aws_sdk_lambda::types::Architecture::X8664,
            Architecture::Arm64 => aws_sdk_lambda::types::Architecture::Arm64,
        }
    }
}

/// The function as it is.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// `$LATEST`, what the next version would be.
    pub(crate) latest: FunctionConfiguration,
    /// The version the alias names; nothing where there is no alias.
    pub(crate) published: Option<FunctionConfiguration>,
}

/// A setting of the function that can be changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Role,
    Description,
    Memory,
    Timeout,
    Runtime,
    Handler,
    LogGroup,
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Role => "role",
            Self::Description => "description",
            Self::Memory => "memory",
            Self::Timeout => "timeout",
            Self::Runtime => "runtime",
            Self::Handler => "handler",
            Self::LogGroup => "log group",
        })
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is no function: create it, publish it, name it by the alias.
    Create,
    /// There is one: what of it is to be changed.
    Update {
        /// Settings to change; none leaves the configuration alone.
        configuration: Vec<Change<Setting>>,
        /// Whether the code or its processor differs and is to be uploaded.
        code: bool,
        /// Whether the alias does not name a version that is as it should be.
        publish: bool,
    },
}

impl Plan {
    /// Whether code is sent to Lambda.
    pub(crate) fn uploads(&self) -> bool {
        matches!(self, Self::Create | Self::Update { code: true, .. })
    }

    /// The steps in words; none where nothing is to be done.
    pub(crate) fn steps(&self, desired: &Desired<'_>) -> Vec<String> {
        let name = desired.name;
        let upload = format!("upload code {} ({} bytes)", desired.bundle.code_sha256, desired.bundle.zip.len());
        let publish = format!("publish a version of `{name}` and move alias `{ALIAS}` to it");
        match self {
            Self::Create => vec![format!("create function `{name}`"), upload, publish],
            Self::Update { configuration, code, publish: publishes } => configuration
                .iter()
                .map(|change| format!("change function `{name}`, {change}"))
                .chain(code.then_some(upload))
                .chain(publishes.then_some(publish))
                .collect(),
        }
    }
}

/// Compares what is with what should be.
pub(crate) fn plan(current: Option<&Current>, desired: &Desired<'_>) -> Plan {
    let Some(current) = current else { return Plan::Create };
    let configuration = differences(&current.latest, desired);
    let code = code_differs(&current.latest, desired);
    let outdated = |published: &FunctionConfiguration| {
        code_differs(published, desired) || !differences(published, desired).is_empty()
    };
    let publish = !configuration.is_empty() || code || current.published.as_ref().is_none_or(outdated);
    Plan::Update { configuration, code, publish }
}

fn differences(current: &FunctionConfiguration, desired: &Desired<'_>) -> Vec<Change<Setting>> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let number = |value: Option<i32>| value.map_or(0, i32::unsigned_abs);
    // A server that tells no log group at all is not one that lost it.
    let log_group = current.logging_config().and_then(|logging| logging.log_group());
    [
        Change::between(Setting::Role, text(current.role()), desired.role.to_owned()),
        Change::between(Setting::Description, text(current.description()), desired.description()),
        Change::between(Setting::Memory, number(current.memory_size()), desired.memory),
        Change::between(Setting::Timeout, number(current.timeout()), desired.timeout),
        Change::between(
            Setting::Runtime,
            text(current.runtime().map(Runtime::as_str)),
            Desired::RUNTIME.as_str().to_owned(),
        ),
        Change::between(Setting::Handler, text(current.handler()), Desired::HANDLER.to_owned()),
        log_group.zip(desired.log_group).and_then(|(from, to)| Change::between(Setting::LogGroup, from, to)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn code_differs(current: &FunctionConfiguration, desired: &Desired<'_>) -> bool {
    current.code_sha256() != Some(desired.bundle.code_sha256.as_str())
        || current.architectures() != [desired.architecture()]
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::LoggingConfig;
    use aws_sdk_lambda::types::builders::FunctionConfigurationBuilder;

    use super::*;

    fn bundle() -> Bundle {
        Bundle { zip: vec![0; 7], code_sha256: "code".to_owned(), unzipped: 9, files: 1, path: None }
    }

    fn desired(bundle: &Bundle) -> Desired<'_> {
        Desired {
            name: "quakes-staging",
            role: "arn:role",
            description: "Earthquakes",
            memory: 128,
            timeout: 60,
            architecture: Architecture::X86_64,
            log_group: Some("quakes"),
            bundle,
        }
    }

    /// A function that is as [`desired`] says.
    fn right() -> FunctionConfigurationBuilder {
        FunctionConfiguration::builder()
            .role("arn:role")
            .description("Earthquakes")
            .memory_size(128)
            .timeout(60)
            .runtime(Runtime::Providedal2023)
            .handler("bootstrap")
            .architectures(aws_sdk_lambda::types::Architecture::X8664)
            .logging_config(LoggingConfig::builder().log_group("quakes").build())
            .code_sha256("code")
    }

    fn planned(latest: FunctionConfigurationBuilder, published: Option<FunctionConfigurationBuilder>) -> Plan {
        let current = Current { latest: latest.build(), published: published.map(FunctionConfigurationBuilder::build) };
        plan(Some(&current), &desired(&bundle()))
    }

    fn words(plan: &Plan) -> Vec<String> {
        plan.steps(&desired(&bundle()))
    }

    #[test]
    fn a_function_that_is_as_it_should_be_is_left_alone() {
        let plan = planned(right(), Some(right()));
        assert_eq!(plan, Plan::Update { configuration: Vec::new(), code: false, publish: false });
        assert!(words(&plan).is_empty());
    }

    #[test]
    fn a_function_that_is_not_there_is_created() {
        let bundle = bundle();
        assert_eq!(plan(None, &desired(&bundle)), Plan::Create);
        assert_eq!(words(&Plan::Create)[0], "create function `quakes-staging`");
    }

    #[test]
    fn only_the_setting_that_differs_is_changed_and_no_code_is_uploaded() {
        let plan = planned(right().memory_size(256), Some(right()));
        assert_eq!(
            words(&plan),
            [
                "change function `quakes-staging`, memory: 256 → 128",
                "publish a version of `quakes-staging` and move alias `current` to it",
            ]
        );
    }

    #[test]
    fn every_setting_is_compared() {
        let wrong = FunctionConfiguration::builder()
            .logging_config(LoggingConfig::builder().log_group("/aws/lambda/quakes-staging").build());
        let Plan::Update { configuration, .. } = planned(wrong, None) else { unreachable!() };
        let settings: Vec<_> = configuration.iter().map(|change| change.setting).collect();
        assert_eq!(
            settings,
            [
                Setting::Role,
                Setting::Description,
                Setting::Memory,
                Setting::Timeout,
                Setting::Runtime,
                Setting::Handler,
                Setting::LogGroup,
            ]
        );
    }

    #[test]
    fn other_code_or_another_processor_is_uploaded() {
        use aws_sdk_lambda::types::Architecture;
        for other in [right().code_sha256("other"), right().set_architectures(Some(vec![Architecture::Arm64]))] {
            let plan = planned(other, Some(right()));
            assert_eq!(plan, Plan::Update { configuration: Vec::new(), code: true, publish: true });
        }
    }

    #[test]
    fn a_run_that_ended_before_it_published_is_finished() {
        for published in [None, Some(right().code_sha256("old")), Some(right().timeout(3))] {
            let plan = planned(right(), published);
            assert_eq!(plan, Plan::Update { configuration: Vec::new(), code: false, publish: true });
        }
    }

    #[test]
    fn a_log_group_is_left_alone_where_the_stack_has_none() {
        let bundle = bundle();
        let desired = Desired { log_group: None, ..desired(&bundle) };
        assert!(differences(&right().build(), &desired).is_empty());
    }

    #[test]
    fn a_long_description_is_cut_between_characters() {
        let bundle = bundle();
        let long = "é".repeat(300);
        let desired = Desired { description: &long, ..desired(&bundle) };
        assert_eq!(desired.description().chars().count(), 256);
    }
}
