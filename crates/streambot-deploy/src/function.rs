//! The Lambda function: its settings, and its creation, update, versions and alias through the Lambda API. It refuses to know
//! what is in the bundle and who invokes the function.

pub(crate) mod alias;
mod apply;
mod configuration;
mod find;
mod plan;
mod settings;
pub(crate) mod versions;

pub(crate) use apply::{converge, name_what_runs};
pub(crate) use configuration::Configuration;
pub(crate) use find::{Current, find};
pub(crate) use plan::{Desired, plan};
pub(crate) use settings::{Architecture, FunctionSettings};

/// The alias that the event source mapping invokes; a deploy moves it to the version it published.
pub(crate) const ALIAS: &str = "current";
