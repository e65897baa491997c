//! What an event source mapping needs to become what it should be, decided from what it is: values in, a plan out, no calls.

use std::fmt;

use aws_sdk_lambda::types::{EventSourceMappingConfiguration, FilterCriteria, FunctionResponseType};

use super::{EventSourceSettings, FilterPattern};
use crate::error::{Error, Result};
use crate::function::ALIAS;
use crate::settings::Change;

/// A setting of a mapping that can be changed in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Function,
    BatchSize,
    MaximumBatchingWindow,
    ParallelizationFactor,
    MaximumRetryAttempts,
    MaximumRecordAge,
    BisectBatchOnFunctionError,
    TumblingWindow,
    OnFailure,
    FilterPatterns,
    Enabled,
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Function => "function",
            Self::BatchSize => "batch-size",
            Self::MaximumBatchingWindow => "maximum-batching-window-in-seconds",
            Self::ParallelizationFactor => "parallelization-factor",
            Self::MaximumRetryAttempts => "maximum-retry-attempts",
            Self::MaximumRecordAge => "maximum-record-age-in-seconds",
            Self::BisectBatchOnFunctionError => "bisect-batch-on-function-error",
            Self::TumblingWindow => "tumbling-window-in-seconds",
            Self::OnFailure => "on-failure",
            Self::FilterPatterns => "filter-patterns",
            Self::Enabled => "enabled",
        })
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is no mapping: create it.
    Create,
    /// There is one, which keeps its place in the stream.
    Update {
        /// Its id.
        uuid: String,
        /// Whether it ignores partial answers and is to honour them, before anything else happens.
        report_batch_item_failures: bool,
        /// Settings to change; none leaves the mapping alone.
        changes: Vec<Change<Setting>>,
    },
}

impl Plan {
    /// The steps in words; none where nothing is to be done.
    pub(crate) fn steps(&self, stream: &str) -> Vec<String> {
        match self {
            Self::Create => vec![format!("create an event source mapping of {stream}")],
            Self::Update { uuid, report_batch_item_failures, changes } => {
                let report = format!("set ReportBatchItemFailures on event source mapping {uuid}");
                let change = |change| format!("change event source mapping {uuid}, {change}");
                report_batch_item_failures.then_some(report).into_iter().chain(changes.iter().map(change)).collect()
            }
        }
    }
}

/// The mapping of `function` among all those of its stream, whatever version or alias it invokes.
///
/// # Errors
/// Failed where there are two: both would hand every record to the function.
pub(super) fn choose(
    mappings: Vec<EventSourceMappingConfiguration>,
    function: &str,
) -> Result<Option<EventSourceMappingConfiguration>> {
    let mut own: Vec<_> = mappings
        .into_iter()
        .filter(|mapping| mapping.function_arn().and_then(|arn| arn.split(':').nth(6)) == Some(function))
        .collect();
    let mapping = own.pop();
    if let (Some(one), Some(other)) = (&mapping, own.last()) {
        return Err(Error::failed(format!(
            "function `{function}` has two event source mappings of its stream, {} and {}",
            other.uuid().unwrap_or_default(),
            one.uuid().unwrap_or_default()
        ))
        .hint("delete the one that is behind: each hands every record to the function"));
    }
    Ok(mapping)
}

/// Compares what is with what should be.
pub(crate) fn plan(current: Option<&EventSourceMappingConfiguration>, settings: &EventSourceSettings) -> Plan {
    match current {
        None => Plan::Create,
        Some(current) => Plan::Update {
            uuid: current.uuid().unwrap_or_default().to_owned(),
            report_batch_item_failures: !current
                .function_response_types()
                .contains(&FunctionResponseType::ReportBatchItemFailures),
            changes: differences(current, settings),
        },
    }
}

fn differences(current: &EventSourceMappingConfiguration, settings: &EventSourceSettings) -> Vec<Change<Setting>> {
    let qualifier = current.function_arn().and_then(|arn| arn.split(':').nth(7)).unwrap_or_default();
    let state = current.state().unwrap_or_default();
    let destination = current.destination_config().and_then(|config| config.on_failure()?.destination());
    let limit = |value: Option<u32>| value.map_or(-1, u32::cast_signed);
    let patterns = settings.filter_patterns().iter().map(FilterPattern::as_str).collect::<Vec<_>>().join(" ");
    [
        Change::between(Setting::Function, qualifier, ALIAS),
        Change::between(Setting::BatchSize, current.batch_size().unwrap_or(100), settings.batch_size().cast_signed()),
        Change::between(
            Setting::MaximumBatchingWindow,
            current.maximum_batching_window_in_seconds().unwrap_or(0),
            settings.maximum_batching_window_in_seconds().cast_signed(),
        ),
        Change::between(
            Setting::ParallelizationFactor,
            current.parallelization_factor().unwrap_or(1),
            settings.parallelization_factor().cast_signed(),
        ),
        Change::between(
            Setting::MaximumRetryAttempts,
            current.maximum_retry_attempts().unwrap_or(-1),
            limit(settings.maximum_retry_attempts()),
        ),
        Change::between(
            Setting::MaximumRecordAge,
            current.maximum_record_age_in_seconds().unwrap_or(-1),
            limit(settings.maximum_record_age_in_seconds()),
        ),
        Change::between(
            Setting::BisectBatchOnFunctionError,
            current.bisect_batch_on_function_error().unwrap_or(false),
            settings.bisect_batch_on_function_error(),
        ),
        Change::between(
            Setting::TumblingWindow,
            current.tumbling_window_in_seconds().unwrap_or(0),
            settings.tumbling_window_in_seconds().unwrap_or(0).cast_signed(),
        ),
        Change::between(Setting::OnFailure, destination.unwrap_or_default(), settings.on_failure().unwrap_or_default()),
        Change::between(Setting::FilterPatterns, patterns_of(current.filter_criteria()), patterns),
        Change::between(Setting::Enabled, matches!(state, "Enabled" | "Enabling" | "Creating"), settings.enabled())
            .filter(|_| state != "Updating"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn patterns_of(criteria: Option<&FilterCriteria>) -> String {
    let filters = criteria.map(FilterCriteria::filters).unwrap_or_default();
    filters.iter().filter_map(|filter| filter.pattern()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_lambda::types::builders::EventSourceMappingConfigurationBuilder;
    use aws_sdk_lambda::types::{DestinationConfig, Filter, OnFailure};

    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:quakes-staging";

    /// A mapping with the default settings, as AWS tells them.
    fn right() -> EventSourceMappingConfigurationBuilder {
        EventSourceMappingConfiguration::builder()
            .uuid("1")
            .function_arn(format!("{FUNCTION}:current"))
            .state("Enabled")
            .batch_size(100)
            .maximum_batching_window_in_seconds(0)
            .parallelization_factor(1)
            .maximum_retry_attempts(-1)
            .maximum_record_age_in_seconds(-1)
            .bisect_batch_on_function_error(false)
            .tumbling_window_in_seconds(0)
            .function_response_types(FunctionResponseType::ReportBatchItemFailures)
    }

    fn planned(current: EventSourceMappingConfigurationBuilder, settings: &EventSourceSettings) -> Vec<String> {
        plan(Some(&current.build()), settings).steps("arn:stream")
    }

    #[test]
    fn a_mapping_that_is_as_it_should_be_is_left_alone() {
        assert!(planned(right(), &EventSourceSettings::default()).is_empty());
    }

    #[test]
    fn what_a_server_does_not_tell_is_the_default() {
        let quiet = EventSourceMappingConfiguration::builder()
            .function_arn(format!("{FUNCTION}:current"))
            .state("Enabled")
            .function_response_types(FunctionResponseType::ReportBatchItemFailures);
        assert!(planned(quiet, &EventSourceSettings::default()).is_empty());
    }

    #[test]
    fn a_mapping_without_partial_answers_gets_them_first() {
        let steps = planned(right().set_function_response_types(None).batch_size(10), &EventSourceSettings::default());
        assert_eq!(
            steps,
            [
                "set ReportBatchItemFailures on event source mapping 1",
                "change event source mapping 1, batch-size: 10 → 100",
            ]
        );
    }

    #[test]
    fn a_mapping_of_the_function_itself_or_a_version_is_moved_to_the_alias() {
        for (arn, from) in [(FUNCTION.to_owned(), "(none)"), (format!("{FUNCTION}:3"), "3")] {
            let steps = planned(right().function_arn(arn), &EventSourceSettings::default());
            assert_eq!(steps, [format!("change event source mapping 1, function: {from} → current")]);
        }
    }

    #[test]
    fn every_setting_is_compared() {
        let settings: EventSourceSettings = serde_json::from_value(serde_json::json!({
            "batch-size": 1,
            "maximum-batching-window-in-seconds": 1,
            "parallelization-factor": 2,
            "maximum-retry-attempts": 0,
            "maximum-record-age-in-seconds": 60,
            "bisect-batch-on-function-error": true,
            "tumbling-window-in-seconds": 30,
            "on-failure": "arn:queue",
            "filter-patterns": ["{\"data\":{\"net\":[\"us\"]}}"],
            "enabled": false,
        }))
        .unwrap();
        let steps = planned(right(), &settings);
        let changes: Vec<_> = steps.iter().map(|step| step.split_once(", ").unwrap().1).collect();
        assert_eq!(
            changes,
            [
                "batch-size: 100 → 1",
                "maximum-batching-window-in-seconds: 0 → 1",
                "parallelization-factor: 1 → 2",
                "maximum-retry-attempts: -1 → 0",
                "maximum-record-age-in-seconds: -1 → 60",
                "bisect-batch-on-function-error: false → true",
                "tumbling-window-in-seconds: 0 → 30",
                "on-failure: (none) → arn:queue",
                "filter-patterns: (none) → {\"data\":{\"net\":[\"us\"]}}",
                "enabled: true → false",
            ]
        );
    }

    #[test]
    fn a_setting_that_is_taken_out_goes_back_to_its_default() {
        let current = right()
            .filter_criteria(FilterCriteria::builder().filters(Filter::builder().pattern("{}").build()).build())
            .destination_config(
                DestinationConfig::builder().on_failure(OnFailure::builder().destination("arn:queue").build()).build(),
            );
        assert_eq!(
            planned(current, &EventSourceSettings::default()),
            [
                "change event source mapping 1, on-failure: arn:queue → (none)",
                "change event source mapping 1, filter-patterns: {} → (none)",
            ]
        );
    }

    #[test]
    fn a_mapping_is_matched_by_the_functions_whole_name() {
        let mapping = |arn: &str| EventSourceMappingConfiguration::builder().uuid(arn).function_arn(arn).build();
        let other = mapping(&format!("{FUNCTION}-2:current"));
        for arn in [FUNCTION.to_owned(), format!("{FUNCTION}:current"), format!("{FUNCTION}:7")] {
            let chosen = choose(vec![other.clone(), mapping(&arn)], "quakes-staging").unwrap();
            assert_eq!(chosen.unwrap().uuid(), Some(arn.as_str()));
        }
        assert!(choose(vec![other], "quakes-staging").unwrap().is_none());
    }

    #[test]
    fn two_mappings_of_one_function_are_refused() {
        let mapping =
            |uuid: &str, arn: String| EventSourceMappingConfiguration::builder().uuid(uuid).function_arn(arn).build();
        let error = choose(
            vec![mapping("a", FUNCTION.to_owned()), mapping("b", format!("{FUNCTION}:current"))],
            "quakes-staging",
        )
        .unwrap_err();
        assert!(error.to_string().ends_with("a and b"), "{error}");
    }
}
