//! What a function needs to become what it should be, decided from what it is: values in, a plan
//! out, no calls.

use std::collections::BTreeMap;

use aws_sdk_lambda::types::{FunctionConfiguration, LastUpdateStatus, State};

use super::{ALIAS, Architecture, Configuration, Current};
use crate::bundle::Bundle;
use crate::settings::Change;

/// The function as it should be.
#[derive(Debug)]
pub(crate) struct Desired<'a> {
    /// Its name, which is the stack's.
    pub(crate) name: &'a str,
    /// Its settings.
    pub(crate) configuration: Configuration,
    /// The processor it was built for.
    pub(crate) architecture: Architecture,
    /// Tags it has, beside those it has already.
    pub(crate) tags: BTreeMap<String, String>,
    /// How many versions are kept.
    pub(crate) keep_versions: usize,
    /// Its code.
    pub(crate) bundle: &'a Bundle,
    /// The bucket that a large bundle goes through.
    pub(crate) bucket: Option<&'a str>,
}

impl Desired<'_> {
    /// The processor in the API's type.
    pub(super) fn architecture(&self) -> aws_sdk_lambda::types::Architecture {
        match self.architecture {
            Architecture::X86_64 => aws_sdk_lambda::types::Architecture::X8664,
            Architecture::Arm64 => aws_sdk_lambda::types::Architecture::Arm64,
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is no function: create it, publish it, name it by the alias.
    Create,
    /// There is one: what of it is to be changed.
    Update {
        /// Settings to change; none leaves the configuration alone.
        configuration: Vec<Change>,
        /// Whether Lambda could not carry out the last change, or bring the function up: then the
        /// code is sent again.
        again: bool,
        /// Whether the code or its processor differs and is to be uploaded.
        code: bool,
        /// Tags to set.
        tags: BTreeMap<String, String>,
        /// Whether neither the alias nor its canary names a version that is as it should be.
        publish: bool,
        /// Whether a canary of another version is to end.
        end_canary: bool,
    },
}

impl Plan {
    /// Whether code is sent to Lambda.
    pub(crate) fn uploads(&self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update { code: true, .. } | Self::Update { again: true, .. }
        )
    }

    /// Whether the function is as it should be.
    pub(crate) fn is_empty(&self) -> bool {
        *self
            == Self::Update {
                configuration: Vec::new(),
                again: false,
                code: false,
                tags: BTreeMap::new(),
                publish: false,
                end_canary: false,
            }
    }

    /// The steps in words; none where nothing is to be done.
    pub(crate) fn steps(&self, current: Option<&Current>, desired: &Desired<'_>) -> Vec<String> {
        let name = desired.name;
        let sha256 = &desired.bundle.code_sha256;
        let before = current.and_then(|current| current.latest.code_sha256()).unwrap_or("(none)");
        let upload = format!(
            "upload code, sha-256: {before} → {sha256} ({} bytes)",
            desired.bundle.zip.len()
        );
        let publish = format!("publish a version of `{name}` and move alias `{ALIAS}` to it");
        match self {
            Self::Create => vec![format!("create function `{name}`"), upload, publish],
            Self::Update { configuration, again, code, tags, publish: publishes, end_canary } => {
                configuration
                    .iter()
                    .map(|change| format!("change function `{name}`, {change}"))
                    .chain(again.then(|| {
                        format!("send the code of `{name}` again, which Lambda could not bring up")
                    }))
                    .chain(tags.keys().map(|tag| format!("set tag `{tag}` of `{name}`")))
                    .chain(code.then_some(upload))
                    .chain(publishes.then_some(publish))
                    .chain(end_canary.then(|| format!("end the canary of alias `{ALIAS}`")))
                    .collect()
            }
        }
    }
}

/// Compares what is with what should be.
pub(crate) fn plan(current: Option<&Current>, desired: &Desired<'_>) -> Plan {
    let Some(current) = current else { return Plan::Create };
    let configuration = Configuration::told(&current.latest).changes(&desired.configuration);
    let code = code_differs(&current.latest, desired);
    let again = current.latest.state() == Some(&State::Failed)
        || current.latest.last_update_status() == Some(&LastUpdateStatus::Failed);
    let is_right = |version: &Option<FunctionConfiguration>| {
        version
            .as_ref()
            .is_some_and(|version| is_published(version) && is_declared(version, desired))
    };
    let changes = !configuration.is_empty() || code || again;
    let published = current.alias.is_some() && is_right(&current.published);
    let candidate = is_right(&current.candidate);
    let tags = desired.tags.iter().filter(|(key, value)| {
        current.tags.as_ref().is_some_and(|tags| tags.get(*key) != Some(*value))
    });
    Plan::Update {
        configuration,
        again,
        code,
        tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
        publish: changes || !(published || candidate),
        end_canary: !changes
            && published
            && current.alias.as_ref().is_some_and(|alias| alias.canary.is_some()),
    }
}

/// Whether what a function has become since it was read is this deploy's own doing, or nobody's: a
/// call whose answer was lost may have been carried out.
pub(super) fn is_ours(before: Option<&Current>, now: &Current, desired: &Desired<'_>) -> bool {
    // An alias that someone else moved, such as by a roll-back, is not moved on.
    let version =
        |of: &Current| of.alias.as_ref().map(|alias| (alias.version.clone(), alias.canary.clone()));
    let is_declared_version = |function: &Option<FunctionConfiguration>| {
        function.as_ref().is_some_and(|function| is_declared(function, desired))
    };
    let alias_is_ours = now.alias.is_none()
        || before.and_then(version) == version(now)
        || is_declared_version(&now.published)
        || is_declared_version(&now.candidate);
    if !alias_is_ours {
        return false;
    }
    match before {
        None => is_declared(&now.latest, desired),
        Some(before) => {
            let same_code = now.latest.code_sha256() == before.latest.code_sha256();
            let (was, is) = (Configuration::told(&before.latest), Configuration::told(&now.latest));
            (same_code || !code_differs(&now.latest, desired))
                && is.is_between(&was, &desired.configuration)
        }
    }
}

/// Whether it is a version, which nobody can change any more: an alias may name `$LATEST`.
fn is_published(function: &FunctionConfiguration) -> bool {
    function.version() != Some("$LATEST")
}

fn is_declared(function: &FunctionConfiguration, desired: &Desired<'_>) -> bool {
    !code_differs(function, desired)
        && Configuration::told(function).changes(&desired.configuration).is_empty()
}

fn code_differs(current: &FunctionConfiguration, desired: &Desired<'_>) -> bool {
    current.code_sha256() != Some(desired.bundle.code_sha256.as_str())
        || current.architectures() != [desired.architecture()]
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::builders::FunctionConfigurationBuilder;
    use serde_json::json;

    use super::super::alias::{Alias, Weighted};
    use super::super::configuration::tests::{declared, right};
    use super::*;

    fn bundle() -> Bundle {
        Bundle { code_sha256: "code".to_owned(), ..Bundle::new(vec![0; 7], 7, 1) }
    }

    fn desired(bundle: &Bundle) -> Desired<'_> {
        Desired {
            name: "quakes-staging",
            configuration: declared(json!({})),
            architecture: Architecture::X86_64,
            tags: BTreeMap::from([("team".to_owned(), "seismology".to_owned())]),
            keep_versions: 10,
            bundle,
            bucket: None,
        }
    }

    fn current(
        latest: FunctionConfigurationBuilder,
        published: Option<FunctionConfigurationBuilder>,
    ) -> Current {
        Current {
            latest: latest.build(),
            tags: Some(BTreeMap::from([
                ("team".to_owned(), "seismology".to_owned()),
                ("cost".to_owned(), "1".to_owned()),
            ])),
            alias: published.is_some().then(|| Alias {
                version: "1".to_owned(),
                canary: None,
                description: String::new(),
                revision_id: None,
            }),
            published: published.map(FunctionConfigurationBuilder::build),
            candidate: None,
        }
    }

    fn under_canary(
        published: FunctionConfigurationBuilder,
        candidate: FunctionConfigurationBuilder,
    ) -> Current {
        let mut current = current(right(), Some(published));
        if let Some(alias) = &mut current.alias {
            alias.canary = Some(Weighted { version: "2".to_owned(), weight: 0.1 });
        }
        Current { candidate: Some(candidate.build()), ..current }
    }

    fn words(current: &Current) -> Vec<String> {
        let bundle = bundle();
        let desired = desired(&bundle);
        plan(Some(current), &desired).steps(Some(current), &desired)
    }

    const PUBLISH: &str = "publish a version of `quakes-staging` and move alias `current` to it";

    #[test]
    fn a_function_that_is_as_it_should_be_is_left_alone() {
        let bundle = bundle();
        let as_it_should_be = current(right(), Some(right()));
        assert!(plan(Some(&as_it_should_be), &desired(&bundle)).is_empty());
        assert!(words(&as_it_should_be).is_empty());
    }

    #[test]
    fn a_function_that_is_not_there_is_created() {
        let bundle = bundle();
        let desired = desired(&bundle);
        assert_eq!(plan(None, &desired), Plan::Create);
        assert_eq!(
            Plan::Create.steps(None, &desired),
            [
                "create function `quakes-staging`",
                "upload code, sha-256: (none) → code (7 bytes)",
                PUBLISH
            ]
        );
    }

    #[test]
    fn only_the_setting_that_differs_is_changed_and_no_code_is_uploaded() {
        assert_eq!(
            words(&current(right().memory_size(256), Some(right()))),
            ["change function `quakes-staging`, memory: 256 → 128", PUBLISH]
        );
    }

    #[test]
    fn other_code_or_another_processor_is_uploaded() {
        use aws_sdk_lambda::types::Architecture;
        assert_eq!(
            words(&current(right().code_sha256("other"), Some(right()))),
            ["upload code, sha-256: other → code (7 bytes)", PUBLISH]
        );
        let other =
            current(right().set_architectures(Some(vec![Architecture::Arm64])), Some(right()));
        assert_eq!(words(&other).len(), 2);
    }

    #[test]
    fn a_run_that_ended_before_it_published_is_finished() {
        for published in [None, Some(right().code_sha256("old")), Some(right().timeout(3))] {
            assert_eq!(words(&current(right(), published)), [PUBLISH]);
        }
    }

    #[test]
    fn what_lambda_could_not_bring_up_is_sent_again() {
        let again = "send the code of `quakes-staging` again, which Lambda could not bring up";
        for failed in
            [right().state(State::Failed), right().last_update_status(LastUpdateStatus::Failed)]
        {
            assert_eq!(words(&current(failed, Some(right()))), [again, PUBLISH]);
        }
    }

    #[test]
    fn a_missing_tag_is_set_and_tags_of_others_are_left_alone() {
        let mut untagged = current(right(), Some(right()));
        untagged.tags = Some(BTreeMap::new());
        assert_eq!(words(&untagged), ["set tag `team` of `quakes-staging`"]);
        untagged.tags = None;
        assert!(words(&untagged).is_empty(), "tags that may not be read are left alone");
    }

    #[test]
    fn a_canary_of_what_is_declared_goes_on_and_one_of_anything_else_ends() {
        assert!(words(&under_canary(right().timeout(3), right())).is_empty());
        assert_eq!(
            words(&under_canary(right(), right().timeout(3))),
            ["end the canary of alias `current`"]
        );
        assert_eq!(words(&under_canary(right().timeout(4), right().timeout(3))), [PUBLISH]);
    }

    #[test]
    fn what_a_lost_answer_hid_is_ours_and_what_someone_else_did_is_not() {
        let bundle = bundle();
        let desired = desired(&bundle);
        let before = current(right().memory_size(256).code_sha256("old"), Some(right()));
        let now = |latest: FunctionConfigurationBuilder| current(latest, Some(right()));
        for ours in [
            right().memory_size(256).code_sha256("old").revision_id("other"),
            right().code_sha256("old"),
            right(),
        ] {
            assert!(is_ours(Some(&before), &now(ours), &desired));
        }
        for others in [
            right().memory_size(512).code_sha256("old"),
            right().code_sha256("theirs"),
            right().timeout(3),
        ] {
            assert!(!is_ours(Some(&before), &now(others), &desired));
        }
        let moved = |version: &str, published: FunctionConfigurationBuilder| {
            let mut moved = current(right().memory_size(256).code_sha256("old"), Some(published));
            moved.alias.iter_mut().for_each(|alias| alias.version = version.to_owned());
            moved
        };
        assert!(
            !is_ours(Some(&before), &moved("0", right().timeout(3)), &desired),
            "someone rolled back"
        );
        assert!(is_ours(Some(&before), &moved("2", right()), &desired), "an answer was lost");
        assert!(is_ours(None, &now(right()), &desired));
        assert!(!is_ours(None, &now(right().code_sha256("theirs")), &desired));
    }
}
