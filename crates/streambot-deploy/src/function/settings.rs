//! The settings of the function and its bundle, as flags and manifest keys give them. It refuses to
//! know what the function is and how it is changed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::settings::{Bounded, Pair, pairs};

/// The settings of the function and its bundle, each one optional: the method of the same name
/// applies the default.
///
/// Names, units and ranges are those of
/// <https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html>.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FunctionSettings {
    /// Memory in MB, 128 to 10240 [default: 128]
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Bounded<128, 10_240>>,

    /// Seconds an invocation may take, 1 to 900 [default: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Bounded<1, 900>>,

    /// Processor the function is built for [default: x86_64]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) architecture: Option<Architecture>,

    /// File or folder of the package to add to the bundle; repeat it for more
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) include: Option<Vec<PathBuf>>,

    /// What the function is for [default: the package's description]
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,

    /// ARN of the role the function runs as [default: the stack's LambdaExecutionRole]
    #[arg(long, value_name = "ARN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,

    /// Size of /tmp in MB, 512 to 10240 [default: 512]
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ephemeral_storage: Option<Bounded<512, 10_240>>,

    /// Variable of the function's environment, beside what is in .env; no secrets. Repeat it for
    /// more
    #[arg(long = "environment-variable", value_name = "KEY=VALUE")]
    #[serde(skip_serializing_if = "Option::is_none", with = "pairs")]
    pub(crate) environment_variables: Option<Vec<Pair>>,

    /// ARN of the KMS key that encrypts the environment [default: AWS's own]
    #[arg(long, value_name = "ARN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kms_key_arn: Option<String>,

    /// ARN of a layer's version, up to five; repeat it for more
    #[arg(long = "layer", value_name = "ARN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layers: Option<Vec<String>>,

    /// Subnet of a VPC the function reaches; `Streambot::vpc` in the stack's template gives the
    /// right to. Repeat it for more [default: no VPC]
    #[arg(long = "subnet-id", value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subnet_ids: Option<Vec<String>>,

    /// Security group of the function in its VPC; repeat it for more
    #[arg(long = "security-group-id", value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) security_group_ids: Option<Vec<String>>,

    /// Whether IPv6 goes out through the VPC too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ipv6_allowed_for_dual_stack: Option<bool>,

    /// Whether X-Ray traces invocations; `Streambot::tracing` in the stack's template gives the
    /// right to [default: PassThrough]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tracing: Option<Tracing>,

    /// How Lambda writes the function's log [default: Text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_format: Option<LogFormat>,

    /// Lowest level of the function's own lines that is kept, with the log format JSON [default:
    /// INFO]
    #[arg(long, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) application_log_level: Option<ApplicationLogLevel>,

    /// Lowest level of Lambda's lines that is kept, with the log format JSON [default: INFO]
    #[arg(long, value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_log_level: Option<SystemLogLevel>,

    /// Log group of the function [default: the stack's, else the one Lambda gives it]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_group: Option<String>,

    /// Days that a log group which is not the stack's keeps its events, as CloudWatch Logs allows,
    /// 0 for ever [default: left alone]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log_retention_days: Option<Bounded<0, 3653>>,

    /// Tag of the function; tags that are not named are left alone. Repeat it for more
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    #[serde(skip_serializing_if = "Option::is_none", with = "pairs")]
    pub(crate) tags: Option<Vec<Pair>>,

    /// Versions of the function to keep, the newest, 1 to 1000; what an alias names stays [default:
    /// 10]
    #[arg(long, value_name = "VERSIONS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_versions: Option<Bounded<1, 1000>>,
}

impl FunctionSettings {
    /// Memory in MB.
    pub(crate) fn memory(&self) -> u32 {
        self.memory.map_or(128, Bounded::get_unsigned)
    }

    /// Seconds an invocation may take.
    pub(crate) fn timeout(&self) -> u32 {
        self.timeout.map_or(60, Bounded::get_unsigned)
    }

    /// The processor the function is built for.
    pub(crate) fn architecture(&self) -> Architecture {
        self.architecture.unwrap_or_default()
    }

    /// Files and folders to add to the bundle, relative to the package.
    pub(crate) fn include(&self) -> &[PathBuf] {
        self.include.as_deref().unwrap_or_default()
    }

    /// Size of `/tmp` in MB.
    pub(crate) fn ephemeral_storage(&self) -> u32 {
        self.ephemeral_storage.map_or(512, Bounded::get_unsigned)
    }

    /// The environment, beside what is in `.env`.
    pub(crate) fn environment_variables(&self) -> BTreeMap<String, String> {
        map(self.environment_variables.as_deref())
    }

    /// Tags the function is to have.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        map(self.tags.as_deref())
    }

    /// How many versions to keep.
    pub(crate) fn keep_versions(&self) -> usize {
        self.keep_versions.map_or(10, Bounded::get_unsigned) as usize
    }

    /// Days to keep log events; nothing leaves them alone, 0 is for ever.
    pub(crate) fn log_retention_days(&self) -> Option<u32> {
        self.log_retention_days.map(Bounded::get_unsigned)
    }

    /// What no single setting can tell: settings that need each other.
    ///
    /// # Errors
    /// Bad usage, naming both settings.
    pub(crate) fn check(&self) -> Result<()> {
        let json = self.log_format == Some(LogFormat::Json);
        if !json && (self.application_log_level.is_some() || self.system_log_level.is_some()) {
            return Err(Error::usage(
                "application-log-level and system-log-level are only read with log-format JSON",
            )
            .hint("set log-format to JSON, or leave the levels out"));
        }
        let given = |ids: &Option<Vec<String>>| ids.as_ref().is_some_and(|ids| !ids.is_empty());
        if given(&self.subnet_ids) != given(&self.security_group_ids) {
            return Err(Error::usage("subnet-ids and security-group-ids need each other")
                .hint("a function in a VPC has at least one of each"));
        }
        Ok(())
    }
}

fn map(pairs: Option<&[Pair]>) -> BTreeMap<String, String> {
    pairs.unwrap_or_default().iter().map(|Pair(key, value)| (key.clone(), value.clone())).collect()
}

/// A choice whose manifest key, flag and API value are one word.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
        pub(crate) enum $name {
            $($(#[$meta])* #[serde(rename = $word)] #[value(name = $word)] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(word: &str) -> Result<Self, ()> {
                match word { $($word => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
    };
}

choice! {
    /// A processor Lambda runs functions on.
    Architecture {
        /// 64-bit x86.
        #[default]
        X86_64 = "x86_64",
        /// 64-bit ARM, AWS Graviton.
        Arm64 = "arm64",
    }
}

choice! {
    /// Whether X-Ray traces invocations.
    Tracing {
        /// Only those that the caller traces.
        #[default]
        PassThrough = "PassThrough",
        /// A sample of all.
        Active = "Active",
    }
}

choice! {
    /// How Lambda writes a log.
    LogFormat {
        /// Lines as the function prints them.
        #[default]
        Text = "Text",
        /// JSON objects, which can be filtered by level.
        Json = "JSON",
    }
}

choice! {
    /// A level of the function's own log lines.
    ApplicationLogLevel {
        Trace = "TRACE",
        Debug = "DEBUG",
        #[default]
        Info = "INFO",
        Warn = "WARN",
        Error = "ERROR",
        Fatal = "FATAL",
    }
}

choice! {
    /// A level of Lambda's own log lines.
    SystemLogLevel {
        Debug = "DEBUG",
        #[default]
        Info = "INFO",
        Warn = "WARN",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(settings: serde_json::Value) -> FunctionSettings {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn levels_need_json_and_a_vpc_needs_both_ids() {
        for (wrong, said) in [
            (json!({ "application-log-level": "DEBUG" }), "log-format JSON"),
            (json!({ "log-format": "Text", "system-log-level": "WARN" }), "log-format JSON"),
            (json!({ "subnet-ids": ["subnet-1"] }), "need each other"),
            (json!({ "subnet-ids": [], "security-group-ids": ["sg-1"] }), "need each other"),
        ] {
            let error = settings(wrong).check().unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.report().contains(said), "{}", error.report());
        }
        settings(json!({ "log-format": "JSON", "application-log-level": "DEBUG" }))
            .check()
            .unwrap();
        settings(json!({ "subnet-ids": ["subnet-1"], "security-group-ids": ["sg-1"] }))
            .check()
            .unwrap();
    }

    #[test]
    fn a_map_is_a_table_in_the_manifest() {
        let given =
            settings(json!({ "environment-variables": { "B": "2", "A": "a=b" }, "tags": {} }));
        assert_eq!(
            given.environment_variables(),
            BTreeMap::from([("A".into(), "a=b".into()), ("B".into(), "2".into())])
        );
        assert_eq!(
            serde_json::to_value(&given).unwrap(),
            json!({ "environment-variables": { "A": "a=b", "B": "2" }, "tags": {} })
        );
        let error =
            serde_json::from_value::<FunctionSettings>(json!({ "tags": { "a": 1 } })).unwrap_err();
        assert!(error.to_string().contains("expected a string"), "{error}");
    }
}
