//! The number of metric names that a function uses: each is billed, so a number that grows is
//! warned about.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::scope::Counts;

/// Over this many names a function is warned about.
const MAX_NAMES: usize = 1_000;

static SEEN: LazyLock<Mutex<SeenNames>> = LazyLock::new(Mutex::default);

/// The names that a process has used, until they are too many.
#[derive(Debug, Default)]
struct SeenNames {
    names: HashSet<Cow<'static, str>>,
    warned: bool,
}

impl SeenNames {
    /// Adds names. True if there are too many now, the first time.
    fn add(&mut self, counts: &Counts) -> bool {
        for name in counts.keys() {
            if self.warned {
                return false;
            }
            if !self.names.contains(name) {
                self.names.insert(name.clone());
                self.warned = self.names.len() > MAX_NAMES;
                if self.warned {
                    self.names = HashSet::new();
                    return true;
                }
            }
        }
        false
    }
}

/// Warns once in a process when there are too many names.
pub(crate) fn warn_of_many(counts: &Counts) {
    if SEEN.lock().unwrap_or_else(PoisonError::into_inner).add(counts) {
        tracing::warn!(
            "more than {MAX_NAMES} metric names were counted: CloudWatch bills each name as a metric of its own; a name \
             must not contain an id or other data"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(names: std::ops::Range<usize>) -> Counts {
        names.map(|number| (Cow::Owned(format!("name-{number}")), 1)).collect()
    }

    #[test]
    fn many_names_are_warned_about_once_over_all_invocations() {
        let mut seen = SeenNames::default();
        for _ in 0..10 {
            assert!(!seen.add(&counts(0..900)), "the same names again");
        }
        assert!(!seen.add(&counts(900..1_000)));
        assert!(seen.add(&counts(1_000..1_001)), "one name too many");
        assert!(!seen.add(&counts(0..5_000)), "it was said");
    }
}
