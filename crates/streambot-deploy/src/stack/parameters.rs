//! Which value each parameter of a template gets: the one given, the one the stack has, or the
//! template's own. It refuses to know where any of them is read.

use std::str::FromStr;

use aws_sdk_cloudformation::types as cloudformation;

use crate::error::{Error, Result};

/// A parameter's value as the command line gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    key: String,
    value: String,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text} is no parameter: write `Name=value`")),
        }
    }
}

/// A value for each declared parameter that needs one. `previous` are the parameters that the stack
/// has a value of.
///
/// # Errors
/// Bad usage where a given one is not declared or given twice, or where one that is declared has no
/// value.
pub(super) fn choose(
    declared: &[cloudformation::ParameterDeclaration],
    given: &[Given],
    previous: &[String],
) -> Result<Vec<cloudformation::Parameter>> {
    let keys: Vec<&str> =
        declared.iter().filter_map(|parameter| parameter.parameter_key()).collect();
    for (index, parameter) in given.iter().enumerate() {
        if !keys.contains(&parameter.key.as_str()) {
            return Err(Error::usage(format!("the template has no parameter `{}`", parameter.key))
                .hint(known(&keys)));
        }
        if given[..index].iter().any(|earlier| earlier.key == parameter.key) {
            return Err(Error::usage(format!("the parameter `{}` is given twice", parameter.key)));
        }
    }

    let mut chosen = Vec::new();
    let mut missing = Vec::new();
    for parameter in declared {
        let Some(key) = parameter.parameter_key() else { continue };
        let builder = cloudformation::Parameter::builder().parameter_key(key);
        if let Some(given) = given.iter().find(|given| given.key == key) {
            chosen.push(builder.parameter_value(&given.value).build());
        } else if previous.iter().any(|previous| previous == key) {
            chosen.push(builder.use_previous_value(true).build());
        } else if parameter.default_value().is_none() {
            missing.push(key);
        }
    }
    match missing.as_slice() {
        [] => Ok(chosen),
        [key] => Err(Error::usage(format!("the template's parameter `{key}` has no value"))
            .hint(format!("give it one: --parameter {key}=…"))),
        keys => {
            let flags: Vec<String> =
                keys.iter().map(|key| format!("--parameter {key}=…")).collect();
            Err(Error::usage(format!(
                "the template's parameters `{}` have no values",
                keys.join("`, `")
            ))
            .hint(format!("give them: {}", flags.join(" "))))
        }
    }
}

fn known(keys: &[&str]) -> String {
    match keys {
        [] => "it has no parameters at all".to_owned(),
        keys => format!("its parameters are `{}`", keys.join("`, `")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn declared(key: &str, default: Option<&str>) -> cloudformation::ParameterDeclaration {
        cloudformation::ParameterDeclaration::builder()
            .parameter_key(key)
            .set_default_value(default.map(str::to_owned))
            .build()
    }

    fn given(texts: &[&str]) -> Vec<Given> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_given_value_wins_over_the_previous_one_and_that_over_the_default() {
        let declared =
            [declared("Given", None), declared("Kept", Some("1")), declared("New", Some(""))];
        let previous = ["Given".to_owned(), "Kept".to_owned(), "Gone".to_owned()];
        let chosen = choose(&declared, &given(&["Given=a=b"]), &previous).unwrap();
        let chosen: Vec<_> = chosen
            .iter()
            .map(|parameter| {
                (
                    parameter.parameter_key().unwrap(),
                    parameter.parameter_value(),
                    parameter.use_previous_value(),
                )
            })
            .collect();
        assert_eq!(chosen, [("Given", Some("a=b"), None), ("Kept", None, Some(true))]);
    }

    #[test]
    fn an_unknown_a_repeated_and_a_missing_parameter_are_named() {
        let declared = [declared("Name", None), declared("Size", None)];
        let report = |given_texts: &[&str], previous: &[String]| {
            let error = choose(&declared, &given(given_texts), previous).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.report()
        };
        assert_eq!(
            report(&["Nmae=x"], &[]),
            "error: the template has no parameter `Nmae`\n  next: its parameters are `Name`, `Size`"
        );
        assert_eq!(
            report(&["Name=x", "Name=y"], &[]),
            "error: the parameter `Name` is given twice"
        );
        assert_eq!(
            report(&["Name=x"], &[]),
            "error: the template's parameter `Size` has no value\n  next: give it one: --parameter Size=…"
        );
        assert_eq!(
            report(&[], &[]),
            "error: the template's parameters `Name`, `Size` have no values\n  \
             next: give them: --parameter Name=… --parameter Size=…"
        );
        assert!(
            choose(&[], &given(&["A=1"]), &[])
                .unwrap_err()
                .report()
                .contains("no parameters at all")
        );
    }

    #[test]
    fn a_parameter_is_a_name_and_a_value_which_may_be_empty() {
        assert_eq!("Name=".parse(), Ok(Given { key: "Name".into(), value: String::new() }));
        assert!("Name".parse::<Given>().is_err());
        assert!("=value".parse::<Given>().is_err());
    }
}
