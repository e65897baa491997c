//! What a canary's numbers say, decided from the numbers: values in, a verdict out, no calls. A
//! version is judged by its own invocations, beside those of the version before it in the same
//! time: what both fail at is not the new one's fault.

use std::time::Duration;

use super::Canary;

/// What one version did since the canary began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Numbers {
    /// Invocations.
    pub(super) invocations: f64,
    /// Those that crashed, ran out of time or answered with an error.
    pub(super) errors: f64,
    /// Those that left a record undone, by Streambot's own metric; a crashed one counts as an error
    /// only.
    pub(super) failed: f64,
    /// Age of the oldest record it was given, in milliseconds.
    pub(super) iterator_age: Option<f64>,
}

impl Numbers {
    /// The share of invocations that did not do all they were given. More can be told than
    /// invocations are, for the two metrics arrive at different times.
    fn failure_rate(self) -> f64 {
        let failures = self.errors + self.failed;
        if failures == 0.0 { 0.0 } else { (failures / self.invocations.max(failures)).min(1.0) }
    }
}

/// What is looked at, at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sight {
    /// The version under canary.
    pub(super) new: Numbers,
    /// The version that gets the rest.
    pub(super) old: Numbers,
    /// Milliseconds from which on the stack's iterator age alarm rings, where it has one that was
    /// not ringing at the start.
    pub(super) age_limit: Option<f64>,
    /// How long the canary has run.
    pub(super) elapsed: Duration,
}

/// What is to become of the new version.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It is too early to say.
    Wait,
    /// It gets all batches.
    Promote,
    /// It gets none, because of this.
    Back(String),
}

/// Judges the new version.
pub(super) fn judge(canary: &Canary, sight: &Sight) -> Verdict {
    let Sight { new, old, age_limit, elapsed } = *sight;
    if new.failure_rate() > old.failure_rate() {
        return Verdict::Back(format!(
            "{} of its {} invocations ended in an error and {} left a record undone; of the old version's {} it was {} and {}",
            new.errors, new.invocations, new.failed, old.invocations, old.errors, old.failed
        ));
    }
    let age = |numbers: Numbers| numbers.iterator_age.unwrap_or(0.0);
    if let Some(limit) = age_limit
        && age(new) > limit
        && age(new) > age(old)
    {
        return Verdict::Back(format!(
            "its records were up to {:.0} s old, where the alarm rings from {:.0} s on",
            age(new) / 1000.0,
            limit / 1000.0
        ));
    }
    if elapsed < canary.time + canary.delay() {
        Verdict::Wait
    } else if new.invocations == 0.0 {
        Verdict::Back(
            "it was not invoked in its time, as far as CloudWatch tells, so there is nothing to judge".to_owned(),
        )
    } else {
        Verdict::Promote
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(invocations: u32, errors: u32, failed: u32) -> Numbers {
        let number = |number: u32| f64::from(number);
        Numbers {
            invocations: number(invocations),
            errors: number(errors),
            failed: number(failed),
            iterator_age: Some(1_000.0),
        }
    }

    fn verdict(new: Numbers, old: Numbers, age_limit: Option<f64>, seconds: u64) -> Verdict {
        let canary: Canary = "10%/5m".parse().unwrap();
        judge(&canary, &Sight { new, old, age_limit, elapsed: Duration::from_secs(seconds) })
    }

    #[test]
    fn a_version_without_a_failure_waits_for_its_time_and_then_gets_all() {
        // Five minutes, and the two that CloudWatch may be late.
        assert_eq!(verdict(numbers(10, 0, 0), numbers(90, 0, 0), None, 419), Verdict::Wait);
        assert_eq!(verdict(numbers(10, 0, 0), numbers(90, 0, 0), None, 420), Verdict::Promote);
    }

    #[test]
    fn a_version_that_was_never_invoked_is_not_judged_to_be_good() {
        assert!(matches!(
            verdict(Numbers::default(), numbers(90, 0, 0), Some(1.0), 420),
            Verdict::Back(_)
        ));
    }

    #[test]
    fn a_failure_of_its_own_sends_it_back_at_once() {
        for new in [numbers(10, 1, 0), numbers(10, 0, 1), numbers(0, 1, 0)] {
            assert!(
                matches!(verdict(new, numbers(90, 0, 0), None, 1), Verdict::Back(_)),
                "{new:?}"
            );
        }
    }

    #[test]
    fn what_both_versions_fail_at_alike_is_not_the_new_ones_fault() {
        assert_eq!(verdict(numbers(10, 0, 1), numbers(90, 0, 9), None, 1), Verdict::Wait);
        assert!(matches!(verdict(numbers(10, 0, 2), numbers(90, 0, 9), None, 1), Verdict::Back(_)));
        assert_eq!(verdict(numbers(10, 0, 0), numbers(90, 50, 0), None, 420), Verdict::Promote);
    }

    #[test]
    fn records_that_get_too_old_send_it_back_unless_the_old_version_is_as_far_behind() {
        let aged = |age: f64| Numbers { iterator_age: Some(age), ..numbers(10, 0, 0) };
        assert!(matches!(
            verdict(aged(61_000.0), aged(1_000.0), Some(60_000.0), 1),
            Verdict::Back(_)
        ));
        assert_eq!(verdict(aged(61_000.0), aged(70_000.0), Some(60_000.0), 1), Verdict::Wait);
        assert_eq!(verdict(aged(61_000.0), aged(1_000.0), None, 1), Verdict::Wait);
    }

    proptest! {
        #[test]
        fn a_worse_rate_is_never_promoted_and_a_clean_version_never_sent_back(
            invocations in 1u32..1_000, errors in 0u32..50, failed in 0u32..50,
            old_invocations in 1u32..1_000, old_failed in 0u32..50, seconds in 0u64..600,
        ) {
            let (new, old) = (numbers(invocations, errors, failed), numbers(old_invocations, 0, old_failed));
            let verdict = verdict(new, old, None, seconds);
            if new.failure_rate() > old.failure_rate() {
                prop_assert!(matches!(verdict, Verdict::Back(_)));
            }
            if errors + failed == 0 {
                prop_assert_eq!(verdict, if seconds >= 420 { Verdict::Promote } else { Verdict::Wait });
            }
        }
    }
}
