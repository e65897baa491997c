//! The Lambda function: its settings, and its creation, update, versions and alias through the
//! Lambda API. It refuses to know what is in the bundle and who invokes the function.

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

/// `arn:aws:lambda:<region>:<account>:function:<name>` of an ARN that may name a version or alias
/// after it.
pub(crate) fn without_qualifier(arn: &str) -> String {
    arn.split(':').take(7).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_loses_its_version_or_alias_and_nothing_else() {
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:quakes-staging";
        assert_eq!(without_qualifier(arn), arn);
        assert_eq!(without_qualifier(&format!("{arn}:7")), arn);
        assert_eq!(without_qualifier(&format!("{arn}:current")), arn);
    }
}
