//! A mapping's settings as one value, whether Lambda tells them or they are declared: to compare,
//! to show, to send. It refuses to know which mapping it is.

use aws_sdk_lambda::operation::create_event_source_mapping::builders::CreateEventSourceMappingFluentBuilder;
use aws_sdk_lambda::operation::update_event_source_mapping::builders::UpdateEventSourceMappingFluentBuilder;
use aws_sdk_lambda::primitives::DateTime;
use aws_sdk_lambda::types::{
    DestinationConfig, EventSourceMappingConfiguration, EventSourceMappingMetric,
    EventSourceMappingMetricsConfig, EventSourcePosition, Filter, FilterCriteria,
    FunctionResponseType, OnFailure,
};

use super::{EventSourceSettings, FilterPattern, Metric};
use crate::function::ALIAS;
use crate::settings::Change;

/// Everything of a mapping that can be changed in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The version or alias it invokes; empty for the function itself.
    qualifier: String,
    batch_size: i32,
    /// In seconds.
    batching_window: i32,
    parallelization_factor: i32,
    /// −1 for no limit.
    retry_attempts: i32,
    /// In seconds, −1 for no limit.
    record_age: i32,
    bisect: bool,
    /// In seconds, 0 for none.
    tumbling_window: i32,
    on_failure: String,
    patterns: Vec<String>,
    metrics: Vec<String>,
    kms_key: String,
    /// Nothing while Lambda changes something and does not tell.
    enabled: Option<bool>,
}

impl Mapping {
    /// What is declared.
    pub(super) fn declared(settings: &EventSourceSettings) -> Self {
        let limit = |value: Option<u32>| value.map_or(-1, u32::cast_signed);
        Self {
            qualifier: ALIAS.to_owned(),
            batch_size: settings.batch_size().cast_signed(),
            batching_window: settings.maximum_batching_window_in_seconds().cast_signed(),
            parallelization_factor: settings.parallelization_factor().cast_signed(),
            retry_attempts: limit(settings.maximum_retry_attempts()),
            record_age: limit(settings.maximum_record_age_in_seconds()),
            bisect: settings.bisect_batch_on_function_error(),
            tumbling_window: settings.tumbling_window_in_seconds().unwrap_or(0).cast_signed(),
            on_failure: settings.on_failure().unwrap_or_default().to_owned(),
            patterns: settings
                .filter_patterns()
                .iter()
                .map(|pattern| FilterPattern::as_str(pattern).to_owned())
                .collect(),
            metrics: settings
                .metrics()
                .iter()
                .map(|metric| Metric::as_str(*metric).to_owned())
                .collect(),
            kms_key: settings.kms_key_arn().unwrap_or_default().to_owned(),
            enabled: Some(settings.enabled()),
        }
    }

    /// What Lambda tells. A part that it does not tell has Lambda's default.
    pub(super) fn told(mapping: &EventSourceMappingConfiguration) -> Self {
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let filters = mapping.filter_criteria().map(FilterCriteria::filters).unwrap_or_default();
        let metrics = mapping
            .metrics_config()
            .map(EventSourceMappingMetricsConfig::metrics)
            .unwrap_or_default();
        Self {
            qualifier: text(mapping.function_arn().and_then(|arn| arn.split(':').nth(7))),
            batch_size: mapping.batch_size().unwrap_or(100),
            batching_window: mapping.maximum_batching_window_in_seconds().unwrap_or(0),
            parallelization_factor: mapping.parallelization_factor().unwrap_or(1),
            retry_attempts: mapping.maximum_retry_attempts().unwrap_or(-1),
            record_age: mapping.maximum_record_age_in_seconds().unwrap_or(-1),
            bisect: mapping.bisect_batch_on_function_error().unwrap_or(false),
            tumbling_window: mapping.tumbling_window_in_seconds().unwrap_or(0),
            on_failure: text(
                mapping.destination_config().and_then(|config| config.on_failure()?.destination()),
            ),
            patterns: filters
                .iter()
                .filter_map(|filter| filter.pattern().map(str::to_owned))
                .collect(),
            metrics: metrics.iter().map(|metric| metric.as_str().to_owned()).collect(),
            kms_key: text(mapping.kms_key_arn()),
            enabled: match mapping.state() {
                Some("Updating") => None,
                state => Some(matches!(state, Some("Enabled" | "Enabling" | "Creating"))),
            },
        }
    }

    /// What has to change for this to become `declared`.
    pub(super) fn changes(&self, declared: &Self) -> Vec<Change> {
        let mut changes = Change::between(self.shown(), declared.shown());
        if let (Some(from), Some(to)) = (self.enabled, declared.enabled)
            && from != to
        {
            changes.push(Change { setting: "enabled", from: from.to_string(), to: to.to_string() });
        }
        changes
    }

    fn shown(&self) -> Vec<(&'static str, String)> {
        vec![
            ("function", self.qualifier.clone()),
            ("batch-size", self.batch_size.to_string()),
            ("maximum-batching-window-in-seconds", self.batching_window.to_string()),
            ("parallelization-factor", self.parallelization_factor.to_string()),
            ("maximum-retry-attempts", self.retry_attempts.to_string()),
            ("maximum-record-age-in-seconds", self.record_age.to_string()),
            ("bisect-batch-on-function-error", self.bisect.to_string()),
            ("tumbling-window-in-seconds", self.tumbling_window.to_string()),
            ("on-failure", self.on_failure.clone()),
            ("filter-patterns", self.patterns.join(" ")),
            ("metrics", self.metrics.join(", ")),
            ("kms-key-arn", self.kms_key.clone()),
        ]
    }

    /// A request that makes a mapping with these settings, starting where `settings` say.
    pub(super) fn create(
        &self,
        request: CreateEventSourceMappingFluentBuilder,
        settings: &EventSourceSettings,
    ) -> CreateEventSourceMappingFluentBuilder {
        let timestamp = settings
            .starting_position_timestamp()
            .map(|time| DateTime::from_secs_f64(time.as_unix_seconds()));
        request
            .function_response_types(FunctionResponseType::ReportBatchItemFailures)
            .starting_position(EventSourcePosition::from(settings.starting_position().as_str()))
            .set_starting_position_timestamp(timestamp)
            .batch_size(self.batch_size)
            .maximum_batching_window_in_seconds(self.batching_window)
            .parallelization_factor(self.parallelization_factor)
            .maximum_retry_attempts(self.retry_attempts)
            .maximum_record_age_in_seconds(self.record_age)
            .bisect_batch_on_function_error(self.bisect)
            .tumbling_window_in_seconds(self.tumbling_window)
            .set_destination_config((!self.on_failure.is_empty()).then(|| self.destination()))
            .set_filter_criteria((!self.patterns.is_empty()).then(|| self.filters()))
            .set_metrics_config((!self.metrics.is_empty()).then(|| self.metrics()))
            .set_kms_key_arn((!self.kms_key.is_empty()).then(|| self.kms_key.clone()))
            .set_enabled(self.enabled)
    }

    /// A request that gives a mapping these settings, where `current` has others.
    pub(super) fn update(
        &self,
        request: UpdateEventSourceMappingFluentBuilder,
        current: &Self,
        function: &str,
    ) -> UpdateEventSourceMappingFluentBuilder {
        request
            .set_function_name((self.qualifier != current.qualifier).then(|| function.to_owned()))
            .batch_size(self.batch_size)
            .maximum_batching_window_in_seconds(self.batching_window)
            .parallelization_factor(self.parallelization_factor)
            .maximum_retry_attempts(self.retry_attempts)
            .maximum_record_age_in_seconds(self.record_age)
            .bisect_batch_on_function_error(self.bisect)
            .tumbling_window_in_seconds(self.tumbling_window)
            .set_destination_config(
                (self.on_failure != current.on_failure).then(|| self.destination()),
            )
            .set_filter_criteria((self.patterns != current.patterns).then(|| self.filters()))
            .set_metrics_config((self.metrics != current.metrics).then(|| self.metrics()))
            .set_kms_key_arn((self.kms_key != current.kms_key).then(|| self.kms_key.clone()))
            .set_enabled(self.enabled.filter(|_| self.enabled != current.enabled))
    }

    /// What is told of discarded records; without a destination, the value that takes one away.
    fn destination(&self) -> DestinationConfig {
        let arn = Some(self.on_failure.clone()).filter(|arn| !arn.is_empty());
        DestinationConfig::builder()
            .on_failure(OnFailure::builder().set_destination(arn).build())
            .build()
    }

    /// The filters; without any, the value that takes them away.
    fn filters(&self) -> FilterCriteria {
        let filters =
            self.patterns.iter().map(|pattern| Filter::builder().pattern(pattern).build());
        FilterCriteria::builder().set_filters(Some(filters.collect())).build()
    }

    fn metrics(&self) -> EventSourceMappingMetricsConfig {
        let metrics =
            self.metrics.iter().map(|metric| EventSourceMappingMetric::from(metric.as_str()));
        EventSourceMappingMetricsConfig::builder().set_metrics(Some(metrics.collect())).build()
    }
}
