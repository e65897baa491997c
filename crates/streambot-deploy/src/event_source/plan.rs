//! What the event source mappings of a function need to become what they should be, decided from
//! what they are: values in, a plan out, no calls.

use aws_sdk_lambda::types::{EventSourceMappingConfiguration, FunctionResponseType};

use super::EventSourceSettings;
use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::settings::Change;

/// A mapping as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// ARN of what it reads: a stream, or a consumer of one.
    pub(crate) arn: String,
    pub(crate) settings: EventSourceSettings,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Mappings to delete, and those that someone is deleting: both are gone before anything is
    /// created.
    pub(crate) remove: Vec<Removal>,
    /// What each wanted mapping needs, in their order.
    pub(crate) mappings: Vec<Step>,
}

/// A mapping that goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) uuid: String,
    /// ARN of what it reads.
    pub(crate) source: String,
    /// Whether it is being deleted already.
    pub(crate) under_way: bool,
    /// Whether it ignores partial answers and is to honour them for as long as it is there.
    pub(crate) report_batch_item_failures: bool,
}

/// What one mapping needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is no mapping: create it.
    Create,
    /// There is one, which keeps its place in the stream.
    Update {
        /// Its id.
        uuid: String,
        /// Whether it ignores partial answers and is to honour them, before anything else happens.
        report_batch_item_failures: bool,
        /// Settings to change; none leaves the mapping alone.
        changes: Vec<Change>,
        /// Whether Lambda is still at an earlier change.
        is_busy: bool,
    },
}

impl Plan {
    /// Whether every mapping is as it should be.
    pub(crate) fn is_empty(&self) -> bool {
        let is_right = |step: &Step| match step {
            Step::Create => false,
            Step::Update { report_batch_item_failures, changes, .. } => {
                !report_batch_item_failures && changes.is_empty()
            }
        };
        self.remove.is_empty() && self.mappings.iter().all(is_right)
    }

    /// The steps in words; none where nothing is to be done.
    pub(crate) fn steps(&self, wanted: &[Wanted]) -> Vec<String> {
        let removals =
            self.remove.iter().map(|Removal { uuid, source, under_way, .. }| match under_way {
                true => format!("wait until event source mapping {uuid} of {source} is deleted"),
                false => format!(
                    "delete event source mapping {uuid} of {source}, with its place in the stream"
                ),
            });
        let mappings = self.mappings.iter().zip(wanted).flat_map(|(step, wanted)| match step {
            Step::Create => vec![format!("create an event source mapping of {}", wanted.arn)],
            Step::Update { uuid, report_batch_item_failures, changes, .. } => {
                let report = format!("set ReportBatchItemFailures on event source mapping {uuid}");
                let change = |change| format!("change event source mapping {uuid}, {change}");
                report_batch_item_failures
                    .then_some(report)
                    .into_iter()
                    .chain(changes.iter().map(change))
                    .collect()
            }
        });
        removals.chain(mappings).collect()
    }
}

/// Compares the mappings that `function` has with those it should have. With `replace`, what Lambda
/// cannot change in place is deleted and made anew.
///
/// # Errors
/// Failed where two mappings read the same source: both would hand every record to the function.
/// Unconfirmed, without `replace`, where one would have to be deleted: it reads a stream that is
/// not declared, or started elsewhere than it is declared to.
pub(crate) fn plan(
    existing: &[EventSourceMappingConfiguration],
    wanted: &[Wanted],
    function: &str,
    replace: bool,
) -> Result<Plan> {
    let source = |mapping: &EventSourceMappingConfiguration| {
        mapping.event_source_arn().unwrap_or_default().to_owned()
    };
    let removal = |mapping: &EventSourceMappingConfiguration, under_way| Removal {
        uuid: mapping.uuid().unwrap_or_default().to_owned(),
        source: source(mapping),
        under_way,
        report_batch_item_failures: !under_way && !reports(mapping),
    };
    let (going, staying): (Vec<_>, Vec<_>) =
        existing.iter().partition(|mapping| mapping.state() == Some("Deleting"));
    let mut remove: Vec<_> = going.into_iter().map(|mapping| removal(mapping, true)).collect();

    for mapping in &staying {
        let source = source(mapping);
        // What reads a queue or a table is not of Streambot's making.
        if is_of_kinesis(&source) && wanted.iter().all(|wanted| wanted.arn != source) {
            if !replace {
                return Err(undeclared(function, mapping, wanted));
            }
            remove.push(removal(mapping, false));
        }
    }
    let mut mappings = Vec::new();
    for wanted in wanted {
        let own: Vec<_> = staying.iter().filter(|mapping| source(mapping) == wanted.arn).collect();
        mappings.push(match own[..] {
            [] => Step::Create,
            [mapping] => match moved_start(mapping, &wanted.settings) {
                Some(_) if replace => {
                    remove.push(removal(mapping, false));
                    Step::Create
                }
                Some(start) => return Err(started_elsewhere(mapping, &start, &wanted.settings)),
                None => update(mapping, &wanted.settings),
            },
            [one, other, ..] => {
                return Err(Error::failed(format!(
                    "function `{function}` has two event source mappings of {}, {} and {}",
                    wanted.arn,
                    one.uuid().unwrap_or_default(),
                    other.uuid().unwrap_or_default()
                ))
                .hint("delete the one that is behind: each hands every record to the function"));
            }
        });
    }
    Ok(Plan { remove, mappings })
}

fn update(mapping: &EventSourceMappingConfiguration, settings: &EventSourceSettings) -> Step {
    Step::Update {
        uuid: mapping.uuid().unwrap_or_default().to_owned(),
        report_batch_item_failures: !reports(mapping),
        changes: Mapping::told(mapping).changes(&Mapping::declared(settings)),
        is_busy: !matches!(mapping.state(), Some("Enabled" | "Disabled") | None),
    }
}

fn reports(mapping: &EventSourceMappingConfiguration) -> bool {
    mapping.function_response_types().contains(&FunctionResponseType::ReportBatchItemFailures)
}

/// Whether an ARN is a Kinesis stream's, or that of a consumer of one.
fn is_of_kinesis(arn: &str) -> bool {
    arn.split(':').nth(2) == Some("kinesis")
}

/// Where a mapping started, if settings that name a place name another one. Settings that name none
/// take any.
fn moved_start(
    mapping: &EventSourceMappingConfiguration,
    settings: &EventSourceSettings,
) -> Option<String> {
    let declared = settings.starting_position?;
    let started = mapping.starting_position()?.as_str();
    if started != declared.as_str() {
        return Some(started.to_owned());
    }
    let at = mapping.starting_position_timestamp()?.as_secs_f64();
    let declared = settings.starting_position_timestamp?.as_unix_seconds();
    // Lambda keeps whole seconds.
    ((at - declared).abs() >= 1.0).then(|| format!("{started} {at}"))
}

const REPLACE: &str = "--replace-mapping deletes it with its place in the stream and makes a new one, which reads from \
                       `starting-position` on: records may be skipped or handed over again";

fn started_elsewhere(
    mapping: &EventSourceMappingConfiguration,
    start: &str,
    settings: &EventSourceSettings,
) -> Error {
    let uuid = mapping.uuid().unwrap_or_default();
    let declared = settings.starting_position().as_str();
    Error::unconfirmed(format!(
        "event source mapping {uuid} began at {start}, and `starting-position` is {declared}: Lambda cannot change that"
    ))
    .hint(format!("leave `starting-position` as it was: it only says where a new mapping begins. {REPLACE}"))
}

fn undeclared(
    function: &str,
    mapping: &EventSourceMappingConfiguration,
    wanted: &[Wanted],
) -> Error {
    let uuid = mapping.uuid().unwrap_or_default();
    let source = mapping.event_source_arn().unwrap_or_default();
    let declared: Vec<_> = wanted.iter().map(|wanted| wanted.arn.as_str()).collect();
    Error::unconfirmed(format!(
        "function `{function}` reads {source} by event source mapping {uuid}, and its settings declare {} only: Lambda \
         cannot move a mapping to another source",
        declared.join(", ")
    ))
    .hint(format!(
        "declare that source too ([[package.metadata.streambot.event-source]] with its `stream`), or go back to it. {REPLACE}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_lambda::types::builders::EventSourceMappingConfigurationBuilder;
    use aws_sdk_lambda::types::{
        DestinationConfig, EventSourcePosition, Filter, FilterCriteria, OnFailure,
    };

    use super::*;

    const STREAM: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/quakes";
    const FUNCTION: &str = "arn:aws:lambda:us-east-1:123456789012:function:quakes-staging";

    /// A mapping with the default settings, as AWS tells them.
    fn right() -> EventSourceMappingConfigurationBuilder {
        EventSourceMappingConfiguration::builder()
            .uuid("1")
            .event_source_arn(STREAM)
            .starting_position(EventSourcePosition::TrimHorizon)
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

    fn wanted(settings: &EventSourceSettings) -> [Wanted; 1] {
        [Wanted { arn: STREAM.to_owned(), settings: settings.clone() }]
    }

    fn planned(
        current: EventSourceMappingConfigurationBuilder,
        settings: &EventSourceSettings,
    ) -> Vec<String> {
        let wanted = wanted(settings);
        plan(&[current.build()], &wanted, "quakes-staging", false).unwrap().steps(&wanted)
    }

    fn refused(
        existing: &[EventSourceMappingConfiguration],
        settings: &EventSourceSettings,
    ) -> (u8, String) {
        let error = plan(existing, &wanted(settings), "quakes-staging", false).unwrap_err();
        (error.exit_code(), error.report())
    }

    #[test]
    fn a_mapping_that_is_as_it_should_be_is_left_alone() {
        assert!(planned(right(), &EventSourceSettings::default()).is_empty());
    }

    #[test]
    fn what_a_server_does_not_tell_is_the_default() {
        let quiet = EventSourceMappingConfiguration::builder()
            .event_source_arn(STREAM)
            .function_arn(format!("{FUNCTION}:current"))
            .state("Enabled")
            .function_response_types(FunctionResponseType::ReportBatchItemFailures);
        assert!(planned(quiet, &EventSourceSettings::default()).is_empty());
    }

    #[test]
    fn a_mapping_without_partial_answers_gets_them_first() {
        let steps = planned(
            right().set_function_response_types(None).batch_size(10),
            &EventSourceSettings::default(),
        );
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
            assert_eq!(
                steps,
                [format!("change event source mapping 1, function: {from} → current")]
            );
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
            "metrics": ["EventCount"],
            "kms-key-arn": "arn:key",
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
                "metrics: (none) → EventCount",
                "kms-key-arn: (none) → arn:key",
                "enabled: true → false",
            ]
        );
    }

    #[test]
    fn a_setting_that_is_taken_out_goes_back_to_its_default() {
        let current = right()
            .filter_criteria(
                FilterCriteria::builder().filters(Filter::builder().pattern("{}").build()).build(),
            )
            .destination_config(
                DestinationConfig::builder()
                    .on_failure(OnFailure::builder().destination("arn:queue").build())
                    .build(),
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
    fn two_mappings_of_one_source_are_refused() {
        let (code, report) =
            refused(&[right().build(), right().uuid("2").build()], &EventSourceSettings::default());
        assert_eq!(code, 1);
        assert!(
            report
                .contains("two event source mappings of arn:aws:kinesis:us-east-1:123456789012:stream/quakes, 1 and 2"),
            "{report}"
        );
    }

    #[test]
    fn a_source_that_is_not_declared_is_refused_and_removed_only_when_told_to() {
        let other =
            right().uuid("2").event_source_arn(format!("{STREAM}/consumer/quakes:1")).build();
        let (code, report) = refused(std::slice::from_ref(&other), &EventSourceSettings::default());
        assert_eq!(code, 4);
        assert!(
            report.contains("by event source mapping 2") && report.contains("--replace-mapping"),
            "{report}"
        );

        let wanted = wanted(&EventSourceSettings::default());
        let replaced = plan(&[other], &wanted, "quakes-staging", true).unwrap();
        assert_eq!(
            replaced.steps(&wanted),
            [
                format!(
                    "delete event source mapping 2 of {STREAM}/consumer/quakes:1, with its place in the stream"
                ),
                format!("create an event source mapping of {STREAM}"),
            ]
        );
        let queue =
            right().uuid("3").event_source_arn("arn:aws:sqs:us-east-1:123456789012:queue").build();
        assert!(
            plan(&[right().build(), queue], &wanted, "quakes-staging", false).unwrap().is_empty()
        );
    }

    #[test]
    fn another_starting_position_is_refused_where_the_settings_name_one() {
        let from_now = || right().starting_position(EventSourcePosition::Latest);
        assert!(planned(from_now(), &EventSourceSettings::default()).is_empty());
        let named: EventSourceSettings =
            serde_json::from_value(serde_json::json!({ "starting-position": "TRIM_HORIZON" }))
                .unwrap();
        assert!(planned(right(), &named).is_empty());
        let (code, report) = refused(&[from_now().build()], &named);
        assert_eq!(code, 4);
        assert!(
            report.contains("mapping 1 began at LATEST, and `starting-position` is TRIM_HORIZON"),
            "{report}"
        );
        let replaced =
            plan(&[from_now().build()], &wanted(&named), "quakes-staging", true).unwrap();
        assert_eq!((replaced.remove.len(), &replaced.mappings[..]), (1, &[Step::Create][..]));

        let at = |time: i64| -> EventSourceSettings {
            serde_json::from_value(serde_json::json!({
                "starting-position": "AT_TIMESTAMP", "starting-position-timestamp": time,
            }))
            .unwrap()
        };
        let began = right()
            .starting_position(EventSourcePosition::AtTimestamp)
            .starting_position_timestamp(aws_sdk_lambda::primitives::DateTime::from_secs(1_000));
        assert!(planned(began.clone(), &at(1_000)).is_empty());
        assert_eq!(refused(&[began.build()], &at(2_000)).0, 4);
    }

    #[test]
    fn a_mapping_that_is_being_deleted_is_waited_for_and_made_anew() {
        let wanted = wanted(&EventSourceSettings::default());
        let plan =
            plan(&[right().state("Deleting").build()], &wanted, "quakes-staging", false).unwrap();
        assert!(plan.remove[0].under_way);
        assert_eq!(plan.mappings, [Step::Create]);
    }

    #[test]
    fn a_mapping_under_change_is_told_to_be_busy_and_a_disabled_one_is_enabled() {
        let step = |state: &str| {
            let wanted = wanted(&EventSourceSettings::default());
            let plan =
                plan(&[right().state(state).build()], &wanted, "quakes-staging", false).unwrap();
            let [Step::Update { changes, is_busy, .. }] = &plan.mappings[..] else {
                panic!("{plan:?}")
            };
            (*is_busy, changes.len())
        };
        for busy in ["Creating", "Enabling", "Updating"] {
            assert_eq!(step(busy), (true, 0), "{busy}");
        }
        assert_eq!(step("Enabled"), (false, 0));
        assert_eq!(step("Disabled"), (false, 1));
        assert_eq!(step("Disabling"), (true, 1));
    }
}
