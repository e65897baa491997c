//! The Lambda function: its settings, and its creation, update, versions and alias through the Lambda API. It refuses to know
//! what is in the bundle and who invokes the function.

mod apply;
mod plan;

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::settings::Bounded;
pub(crate) use apply::{apply, find};
pub(crate) use plan::{Desired, plan};

/// The alias that the event source mapping invokes; a deploy moves it to the version it published.
pub(crate) const ALIAS: &str = "current";

/// The settings of the function and its bundle, each one optional: the method of the same name applies the default.
///
/// Units and ranges are those of <https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html>.
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
}

/// A processor Lambda runs functions on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Architecture {
    /// 64-bit x86.
    #[default]
    #[serde(rename = "x86_64")]
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM, AWS Graviton.
    #[serde(rename = "arm64")]
    #[value(name = "arm64")]
    Arm64,
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        })
    }
}
