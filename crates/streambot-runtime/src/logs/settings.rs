//! The format, the level and the filter of log lines, from Lambda's logging settings and
//! `RUST_LOG`.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html>

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use super::layer::Lines;

/// The crate whose warnings `RUST_LOG` cannot remove by naming other crates.
const RUNTIME: &str = "streambot_runtime";

/// The level and format of log lines.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    json: bool,
    level: Level,
    filter: Targets,
    /// The parts of `RUST_LOG` that are not a directive.
    unparsed: Vec<String>,
}

/// Lambda's log levels; `FATAL` is tracing's `ERROR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "TRACE" => Self::Trace,
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARN" => Self::Warn,
            "ERROR" => Self::Error,
            "FATAL" => Self::Fatal,
            _ => return None,
        })
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error | Self::Fatal => LevelFilter::ERROR,
        }
    }
}

impl Format {
    /// The format of `AWS_LAMBDA_LOG_FORMAT` (`JSON`, else text), with the filter of `RUST_LOG`,
    /// which `AWS_LAMBDA_LOG_LEVEL` caps. Without `RUST_LOG`, Lambda's level is the filter, else
    /// `INFO`.
    pub(crate) fn from_env() -> Self {
        let variable = |name| crate::environment::variable(name).unwrap_or_default();
        Self::parse(
            &variable("AWS_LAMBDA_LOG_FORMAT"),
            &variable("AWS_LAMBDA_LOG_LEVEL"),
            &variable("RUST_LOG"),
        )
    }

    /// The text format at level `INFO`.
    pub(crate) fn text() -> Self {
        Self::parse("", "", "")
    }

    pub(super) fn parse(format: &str, level: &str, rust_log: &str) -> Self {
        let level = Level::parse(level);
        let directives =
            rust_log.split(',').map(str::trim).filter(|directive| !directive.is_empty());
        let (parsed, unparsed): (Vec<_>, Vec<_>) =
            directives.partition(|directive| directive.parse::<Targets>().is_ok());
        let cap = level.map_or(LevelFilter::TRACE, Level::filter);
        let filter = match parsed.join(",").parse() {
            Ok(targets) if !parsed.is_empty() => capped(&targets, cap),
            _ => Targets::new().with_default(level.unwrap_or_default().filter()),
        };
        Self {
            json: format.eq_ignore_ascii_case("json"),
            level: level.unwrap_or_default(),
            // Streambot logs what fails an invocation, once; the layer below it would log it again.
            filter: filter.with_target("lambda_runtime::layers::panic", LevelFilter::OFF),
            unparsed: unparsed.into_iter().map(str::to_owned).collect(),
        }
    }

    /// A level that is never below the configured one, so that Lambda never drops the line that
    /// carries it.
    pub(crate) fn passing_level(&self) -> &'static str {
        match self.level {
            Level::Trace | Level::Debug | Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    /// The least severe level that any target may log at.
    pub(super) fn max_level(&self) -> LevelFilter {
        let levels = self.filter.iter().map(|(_, level)| level).chain(self.filter.default_level());
        levels.max().unwrap_or(LevelFilter::OFF)
    }

    /// Logs the parts of `RUST_LOG` that are ignored.
    pub(super) fn warn_of_unparsed(&self) {
        if !self.unparsed.is_empty() {
            tracing::warn!(
                ignored = self.unparsed.join(","),
                "RUST_LOG does not parse in part: it takes `LEVEL` and `TARGET=LEVEL`, separated by commas"
            );
        }
    }

    /// A subscriber that gives each line of this format, with its line end, to `sink`.
    pub(crate) fn subscriber<F>(&self, sink: F) -> impl tracing::Subscriber + Send + Sync + use<F>
    where
        F: Fn(&str) + Send + Sync + 'static,
    {
        Registry::default().with(self.filter.clone()).with(Lines { json: self.json, sink })
    }
}

/// The directives of `RUST_LOG`, none of them less severe than `cap`. Unless one of them is about
/// Streambot, its errors and warnings pass.
fn capped(targets: &Targets, cap: LevelFilter) -> Targets {
    let names_runtime = targets.default_level().is_some()
        || targets.iter().any(|(target, _)| RUNTIME.starts_with(target));
    let runtime = (!names_runtime).then_some((RUNTIME, LevelFilter::WARN));
    let directives =
        targets.iter().chain(runtime).map(|(target, level)| (target.to_owned(), level.min(cap)));
    let filter = Targets::new().with_targets(directives);
    match targets.default_level() {
        Some(level) => filter.with_default(level.min(cap)),
        None => filter,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as L;

    use super::*;

    fn enabled(level: &str, rust_log: &str, target: &str) -> Option<L> {
        let format = Format::parse("JSON", level, rust_log);
        [L::TRACE, L::DEBUG, L::INFO, L::WARN, L::ERROR]
            .into_iter()
            .find(|level| format.filter.would_enable(target, level))
    }

    #[test]
    fn rust_log_decides_up_to_lambdas_level() {
        assert_eq!(enabled("", "", "quakes"), Some(L::INFO));
        assert_eq!(enabled("DEBUG", "", "quakes"), Some(L::DEBUG));
        assert_eq!(enabled("FATAL", "", "quakes"), Some(L::ERROR));
        assert_eq!(enabled("", "debug", "quakes"), Some(L::DEBUG));
        assert_eq!(enabled("TRACE", "warn,quakes=debug", "quakes"), Some(L::DEBUG));
        assert_eq!(enabled("TRACE", "warn,quakes=debug", "hyper"), Some(L::WARN));
        assert_eq!(enabled("WARN", "quakes=trace", "quakes"), Some(L::WARN), "capped");
        assert_eq!(enabled("WARN", "trace", "hyper"), Some(L::WARN), "capped");
    }

    #[test]
    fn naming_another_crate_does_not_silence_streambot() {
        assert_eq!(enabled("", "quakes=debug", "streambot_runtime::failure"), Some(L::WARN));
        assert_eq!(enabled("ERROR", "quakes=debug", "streambot_runtime::failure"), Some(L::ERROR));
        assert_eq!(enabled("", "quakes=debug", "hyper"), None);
        assert_eq!(
            enabled("", "streambot_runtime=off", "streambot_runtime::failure"),
            None,
            "as written"
        );
        assert_eq!(enabled("", "off", "streambot_runtime::failure"), None, "as written");
        assert_eq!(
            enabled("", "quakes=debug,error", "streambot_runtime::failure"),
            Some(L::ERROR),
            "as written"
        );
    }

    #[test]
    fn what_does_not_parse_is_left_out_and_known() {
        let format = Format::parse("", "", "quakes=debug, hyper[span]=x=y ,info");
        assert_eq!(format.unparsed, ["hyper[span]=x=y"]);
        assert_eq!(enabled("", "quakes=debug,hyper=loud", "quakes"), Some(L::DEBUG));
        assert_eq!(enabled("", "hyper=loud", "quakes"), Some(L::INFO), "none of it parses");
    }

    #[test]
    fn the_least_severe_level_is_known_to_the_log_crate() {
        assert_eq!(Format::parse("", "", "").max_level(), LevelFilter::INFO);
        assert_eq!(Format::parse("", "", "warn,quakes=trace").max_level(), LevelFilter::TRACE);
        assert_eq!(Format::parse("", "ERROR", "quakes=trace").max_level(), LevelFilter::ERROR);
    }
}
