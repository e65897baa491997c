//! A function's settings as one value, whether Lambda tells them or they are declared: to compare,
//! to show, to send. It refuses to know code, versions and calls.

use std::collections::BTreeMap;

use aws_sdk_lambda::operation::create_function::builders::CreateFunctionFluentBuilder;
use aws_sdk_lambda::operation::update_function_configuration::builders::UpdateFunctionConfigurationFluentBuilder;
use aws_sdk_lambda::types::{self, FunctionConfiguration, Runtime};

use super::settings::{ApplicationLogLevel, FunctionSettings, LogFormat, SystemLogLevel, Tracing};
use crate::settings::Change;

/// The longest description Lambda takes, in characters.
const DESCRIPTION_LENGTH: usize = 256;
/// Lambda's own name for a Rust executable on Amazon Linux 2023.
const RUNTIME: Runtime = Runtime::Providedal2023;
/// The executable in the bundle.
const HANDLER: &str = "bootstrap";

/// Everything that Lambda changes by UpdateFunctionConfiguration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    role: String,
    description: String,
    /// In MB.
    memory: u32,
    /// In seconds.
    timeout: u32,
    runtime: String,
    handler: String,
    /// In MB.
    ephemeral_storage: u32,
    /// Nothing where it may not be decrypted.
    environment: Option<BTreeMap<String, String>>,
    kms_key: String,
    layers: Vec<String>,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    ipv6: bool,
    tracing: Tracing,
    log_format: LogFormat,
    /// Nothing with plain text, which has no levels.
    log_levels: Option<(ApplicationLogLevel, SystemLogLevel)>,
    /// Nothing where it is left alone, or not told.
    log_group: Option<String>,
}

impl Configuration {
    /// What is declared: the settings, with the role, the description and the log group that they
    /// do not name themselves.
    pub(crate) fn declared(
        settings: &FunctionSettings,
        role: &str,
        description: &str,
        log_group: Option<&str>,
    ) -> Self {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let log_format = settings.log_format.unwrap_or_default();
        let levels = (
            settings.application_log_level.unwrap_or_default(),
            settings.system_log_level.unwrap_or_default(),
        );
        let description = settings.description.as_deref().unwrap_or(description);
        Self {
            role: settings.role.as_deref().unwrap_or(role).to_owned(),
            description: description.trim().chars().take(DESCRIPTION_LENGTH).collect(),
            memory: settings.memory(),
            timeout: settings.timeout(),
            runtime: RUNTIME.as_str().to_owned(),
            handler: HANDLER.to_owned(),
            ephemeral_storage: settings.ephemeral_storage(),
            environment: Some(settings.environment_variables()),
            kms_key: settings.kms_key_arn.clone().unwrap_or_default(),
            layers: list(&settings.layers),
            subnets: sorted(list(&settings.subnet_ids)),
            security_groups: sorted(list(&settings.security_group_ids)),
            ipv6: settings.ipv6_allowed_for_dual_stack.unwrap_or(false),
            tracing: settings.tracing.unwrap_or_default(),
            log_format,
            log_levels: (log_format == LogFormat::Json).then_some(levels),
            log_group: settings.log_group.as_deref().or(log_group).map(str::to_owned),
        }
    }

    /// What Lambda tells. A part that it does not tell has Lambda's default.
    pub(crate) fn told(function: &FunctionConfiguration) -> Self {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let number = |value: Option<i32>| value.map_or(0, i32::unsigned_abs);
        let vpc = function.vpc_config();
        let logging = function.logging_config();
        let log_format =
            word(logging.and_then(|logging| logging.log_format()).map(types::LogFormat::as_str));
        let levels = (
            word(
                logging
                    .and_then(|logging| logging.application_log_level())
                    .map(types::ApplicationLogLevel::as_str),
            ),
            word(
                logging
                    .and_then(|logging| logging.system_log_level())
                    .map(types::SystemLogLevel::as_str),
            ),
        );
        let is_hidden =
            function.environment().is_some_and(|environment| environment.error().is_some());
        let variables = function.environment().and_then(|environment| environment.variables());
        let variables = variables
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Self {
            role: text(function.role()),
            description: text(function.description()),
            memory: number(function.memory_size()),
            timeout: number(function.timeout()),
            runtime: text(function.runtime().map(Runtime::as_str)),
            handler: text(function.handler()),
            ephemeral_storage: function
                .ephemeral_storage()
                .map_or(512, |storage| storage.size().unsigned_abs()),
            environment: (!is_hidden).then_some(variables),
            kms_key: text(function.kms_key_arn()),
            layers: function
                .layers()
                .iter()
                .filter_map(|layer| layer.arn().map(str::to_owned))
                .collect(),
            subnets: sorted(vpc.map(|vpc| vpc.subnet_ids().to_vec()).unwrap_or_default()),
            security_groups: sorted(
                vpc.map(|vpc| vpc.security_group_ids().to_vec()).unwrap_or_default(),
            ),
            ipv6: vpc
                .and_then(types::VpcConfigResponse::ipv6_allowed_for_dual_stack)
                .unwrap_or(false),
            tracing: word(
                function
                    .tracing_config()
                    .and_then(|tracing| tracing.mode())
                    .map(types::TracingMode::as_str),
            ),
            log_format,
            log_levels: (log_format == LogFormat::Json).then_some(levels),
            log_group: logging.and_then(|logging| logging.log_group()).map(str::to_owned),
        }
    }

    /// What has to change for this to become `declared`.
    pub(crate) fn changes(&self, declared: &Self) -> Vec<Change> {
        let mut changes = Change::between(self.shown(), declared.shown());
        if let (Some(from), Some(to)) = (&self.environment, &declared.environment)
            && from != to
        {
            changes.push(Change {
                setting: "environment-variables",
                from: from.keys().cloned().collect::<Vec<_>>().join(", "),
                to: environment_after(from, to),
            });
        }
        // A server that tells no log group at all is not one that lost it.
        if let (Some(from), Some(to)) = (&self.log_group, &declared.log_group)
            && from != to
        {
            changes.push(Change { setting: "log-group", from: from.clone(), to: to.clone() });
        }
        changes
    }

    /// Whether each setting is as it was `before` or as it is `declared`: then nobody else has
    /// changed any.
    pub(crate) fn is_between(&self, before: &Self, declared: &Self) -> bool {
        let others = |changes: Vec<Change>| {
            changes.into_iter().map(|change| change.setting).collect::<Vec<_>>()
        };
        let not_as_before = others(self.changes(before));
        others(self.changes(declared)).iter().all(|setting| !not_as_before.contains(setting))
    }

    /// Each setting but the environment, whose values are nobody's to see, by its name in the
    /// manifest.
    fn shown(&self) -> Vec<(&'static str, String)> {
        let levels = self
            .log_levels
            .map(|(application, system)| (application.to_string(), system.to_string()));
        let (application_log_level, system_log_level) = levels.unwrap_or_default();
        vec![
            ("role", self.role.clone()),
            ("description", self.description.clone()),
            ("memory", self.memory.to_string()),
            ("timeout", self.timeout.to_string()),
            ("runtime", self.runtime.clone()),
            ("handler", self.handler.clone()),
            ("ephemeral-storage", self.ephemeral_storage.to_string()),
            ("kms-key-arn", self.kms_key.clone()),
            ("layers", self.layers.join(", ")),
            ("subnet-ids", self.subnets.join(", ")),
            ("security-group-ids", self.security_groups.join(", ")),
            ("ipv6-allowed-for-dual-stack", self.ipv6.to_string()),
            ("tracing", self.tracing.to_string()),
            ("log-format", self.log_format.to_string()),
            ("application-log-level", application_log_level),
            ("system-log-level", system_log_level),
        ]
    }

    /// A request that makes a function with these settings.
    pub(super) fn create(
        &self,
        request: CreateFunctionFluentBuilder,
    ) -> CreateFunctionFluentBuilder {
        request
            .role(&self.role)
            .description(&self.description)
            .memory_size(self.memory.cast_signed())
            .timeout(self.timeout.cast_signed())
            .runtime(Runtime::from(self.runtime.as_str()))
            .handler(&self.handler)
            .set_ephemeral_storage((self.ephemeral_storage != 512).then(|| self.storage()))
            .set_environment(
                self.variables()
                    .filter(|_| self.environment.as_ref().is_some_and(|all| !all.is_empty())),
            )
            .set_kms_key_arn((!self.kms_key.is_empty()).then(|| self.kms_key.clone()))
            .set_layers((!self.layers.is_empty()).then(|| self.layers.clone()))
            .set_vpc_config((!self.subnets.is_empty()).then(|| self.vpc()))
            .set_tracing_config((self.tracing != Tracing::PassThrough).then(|| self.tracing()))
            .set_logging_config(self.logging(None))
    }

    /// A request that gives a function these settings, every one of them, so that what is not
    /// declared goes back to its default. What `current` has of logging beyond them is kept: Lambda
    /// replaces that part as a whole.
    pub(super) fn update(
        &self,
        request: UpdateFunctionConfigurationFluentBuilder,
        current: &Self,
    ) -> UpdateFunctionConfigurationFluentBuilder {
        let changed = |is: bool| is.then_some(());
        request
            .role(&self.role)
            .description(&self.description)
            .memory_size(self.memory.cast_signed())
            .timeout(self.timeout.cast_signed())
            .runtime(Runtime::from(self.runtime.as_str()))
            .handler(&self.handler)
            .ephemeral_storage(self.storage())
            .set_environment(self.variables())
            .kms_key_arn(&self.kms_key)
            .set_layers(changed(self.layers != current.layers).map(|()| self.layers.clone()))
            .set_vpc_config(
                changed(
                    (&self.subnets, &self.security_groups, self.ipv6)
                        != (&current.subnets, &current.security_groups, current.ipv6),
                )
                .map(|()| self.vpc()),
            )
            .tracing_config(self.tracing())
            .set_logging_config(self.logging(Some(current)))
    }

    fn storage(&self) -> types::EphemeralStorage {
        let size = self.ephemeral_storage.cast_signed();
        types::EphemeralStorage::builder()
            .size(size)
            .build()
            .unwrap_or_else(|_| unreachable!("its size is given"))
    }

    fn variables(&self) -> Option<types::Environment> {
        let variables = self.environment.clone()?.into_iter().collect();
        Some(types::Environment::builder().set_variables(Some(variables)).build())
    }

    /// Without subnets, the value that takes a function out of its VPC.
    fn vpc(&self) -> types::VpcConfig {
        types::VpcConfig::builder()
            .set_subnet_ids(Some(self.subnets.clone()))
            .set_security_group_ids(Some(self.security_groups.clone()))
            .set_ipv6_allowed_for_dual_stack(self.ipv6.then_some(true))
            .build()
    }

    fn tracing(&self) -> types::TracingConfig {
        types::TracingConfig::builder()
            .mode(types::TracingMode::from(self.tracing.to_string().as_str()))
            .build()
    }

    /// Nothing where it is all as Lambda has it by default, or as it is.
    fn logging(&self, current: Option<&Self>) -> Option<types::LoggingConfig> {
        let log_group = self.log_group.clone().or_else(|| current?.log_group.clone());
        let wanted = (self.log_format, self.log_levels, &log_group);
        let is = current.map_or((LogFormat::Text, None, &None), |current| {
            (current.log_format, current.log_levels, &current.log_group)
        });
        if wanted == is {
            return None;
        }
        let (application, system) = self.log_levels.unzip();
        Some(
            types::LoggingConfig::builder()
                .log_format(types::LogFormat::from(self.log_format.to_string().as_str()))
                .set_application_log_level(
                    application
                        .map(|level| types::ApplicationLogLevel::from(level.to_string().as_str())),
                )
                .set_system_log_level(
                    system.map(|level| types::SystemLogLevel::from(level.to_string().as_str())),
                )
                .set_log_group(log_group)
                .build(),
        )
    }

    /// ARN of the role.
    pub(crate) fn role(&self) -> &str {
        &self.role
    }

    /// The log group, where it is told or declared.
    pub(crate) fn log_group(&self) -> Option<&str> {
        self.log_group.as_deref()
    }
}

/// Reads one of Lambda's words; one that is not known, or not told, is the default.
fn word<T: std::str::FromStr + Default>(word: Option<&str>) -> T {
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// The names of an environment, those with another value marked; values are never shown.
fn environment_after(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> String {
    let name = |(key, value): (&String, &String)| match before.get(key) {
        Some(old) if old != value => format!("{key} (changed)"),
        _ => key.clone(),
    };
    after.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn declared(settings: serde_json::Value) -> Configuration {
        let settings: FunctionSettings = serde_json::from_value(settings).unwrap();
        Configuration::declared(&settings, "arn:role", "Earthquakes", Some("quakes"))
    }

    /// A function as [`declared`] with no settings says.
    pub(in super::super) fn right() -> types::builders::FunctionConfigurationBuilder {
        FunctionConfiguration::builder()
            .role("arn:role")
            .description("Earthquakes")
            .memory_size(128)
            .timeout(60)
            .runtime(Runtime::Providedal2023)
            .handler("bootstrap")
            .architectures(types::Architecture::X8664)
            .logging_config(types::LoggingConfig::builder().log_group("quakes").build())
            .code_sha256("code")
    }

    fn changes(declared: &Configuration) -> Vec<String> {
        Configuration::told(&right().build())
            .changes(declared)
            .iter()
            .map(Change::to_string)
            .collect()
    }

    #[test]
    fn what_is_not_told_has_its_default() {
        assert!(changes(&declared(json!({}))).is_empty());
    }

    #[test]
    fn every_setting_is_compared_and_shown() {
        let all = declared(json!({
            "description": "Waves", "role": "arn:other", "memory": 256, "timeout": 30, "ephemeral-storage": 1024,
            "environment-variables": { "A": "1" }, "kms-key-arn": "arn:key", "layers": ["arn:layer"],
            "subnet-ids": ["subnet-1"], "security-group-ids": ["sg-1"], "ipv6-allowed-for-dual-stack": true,
            "tracing": "Active", "log-format": "JSON", "application-log-level": "DEBUG", "system-log-level": "WARN",
            "log-group": "other",
        }));
        assert_eq!(
            changes(&all),
            [
                "role: arn:role → arn:other",
                "description: Earthquakes → Waves",
                "memory: 128 → 256",
                "timeout: 60 → 30",
                "ephemeral-storage: 512 → 1024",
                "kms-key-arn: (none) → arn:key",
                "layers: (none) → arn:layer",
                "subnet-ids: (none) → subnet-1",
                "security-group-ids: (none) → sg-1",
                "ipv6-allowed-for-dual-stack: false → true",
                "tracing: PassThrough → Active",
                "log-format: Text → JSON",
                "application-log-level: (none) → DEBUG",
                "system-log-level: (none) → WARN",
                "environment-variables: (none) → A",
                "log-group: quakes → other",
            ]
        );
        let bare = FunctionConfiguration::builder().build();
        let of_bare = Configuration::told(&bare).changes(&declared(json!({})));
        assert!(of_bare.iter().any(|change| change.setting == "runtime"));
        assert!(of_bare.iter().any(|change| change.setting == "handler"));
    }

    #[test]
    fn a_changed_variable_is_named_and_no_value_is_shown() {
        let environment = |pairs: &[(&str, &str)]| {
            Some(
                pairs
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect::<BTreeMap<_, _>>(),
            )
        };
        let before = Configuration {
            environment: environment(&[("A", "secret"), ("B", "2")]),
            ..declared(json!({}))
        };
        let after = Configuration {
            environment: environment(&[("A", "other"), ("C", "3")]),
            ..declared(json!({}))
        };
        assert_eq!(
            before.changes(&after)[0].to_string(),
            "environment-variables: A, B → A (changed), C"
        );
        let hidden = Configuration { environment: None, ..declared(json!({})) };
        assert!(hidden.changes(&after).is_empty(), "what may not be decrypted is not compared");
    }

    #[test]
    fn the_order_of_subnets_is_no_difference_and_that_of_layers_is() {
        let one = declared(
            json!({ "subnet-ids": ["a", "b"], "security-group-ids": ["c"], "layers": ["d", "e"] }),
        );
        let other = declared(
            json!({ "subnet-ids": ["b", "a"], "security-group-ids": ["c"], "layers": ["e", "d"] }),
        );
        assert_eq!(
            one.changes(&other).iter().map(|change| change.setting).collect::<Vec<_>>(),
            ["layers"]
        );
    }

    #[test]
    fn a_log_group_is_left_alone_where_none_is_declared_or_told() {
        let mut nowhere = declared(json!({}));
        nowhere.log_group = None;
        assert!(changes(&nowhere).is_empty());
        assert!(nowhere.changes(&declared(json!({}))).is_empty());
        let kept = declared(json!({ "log-format": "JSON" }));
        let logging =
            Configuration { log_group: None, ..kept }.logging(Some(&declared(json!({})))).unwrap();
        assert_eq!(logging.log_group(), Some("quakes"));
    }

    #[test]
    fn a_long_description_is_cut_between_characters() {
        let long = declared(json!({ "description": "é".repeat(300) }));
        assert_eq!(long.description.chars().count(), 256);
    }

    #[test]
    fn only_what_someone_else_set_is_not_between() {
        let (before, after) =
            (declared(json!({ "memory": 128 })), declared(json!({ "memory": 256, "timeout": 5 })));
        for ours in [
            &before,
            &after,
            &declared(json!({ "memory": 256 })),
            &declared(json!({ "timeout": 5 })),
        ] {
            assert!(ours.is_between(&before, &after), "{ours:?}");
        }
        assert!(!declared(json!({ "memory": 512 })).is_between(&before, &after));
        assert!(!declared(json!({ "tracing": "Active" })).is_between(&before, &after));
    }
}
