//! What was printed already, so that looking again over the same time prints only what is new. It
//! refuses to know where lines are from.

use std::collections::{HashMap, HashSet};

use jiff::SignedDuration;

use crate::time::Time;

/// How late a line may be known: CloudWatch Logs takes up to a minute to show one, and a queue of
/// batches is sent in no order.
const LATENESS: SignedDuration = SignedDuration::from_secs(60);

/// Something with a time that can be told from all others.
pub(super) trait Logged {
    /// What is its alone.
    fn id(&self) -> &str;
    fn time(&self) -> Time;
}

/// What was printed in the last while.
#[derive(Debug)]
pub(super) struct Seen {
    from: Time,
    newest: Option<Time>,
    ids: HashMap<String, Time>,
}

impl Seen {
    /// Nothing yet; what is before `from` is not wanted.
    pub(super) fn since(from: Time) -> Self {
        Self { from, newest: None, ids: HashMap::new() }
    }

    /// From when on to look next.
    pub(super) fn from(&self) -> Time {
        self.from
    }

    /// Those of `found` that were not seen before, each once, oldest first. Those of one moment
    /// stay in the order they came.
    pub(super) fn unseen<T: Logged>(&self, mut found: Vec<T>) -> Vec<T> {
        found.sort_by_key(Logged::time);
        let mut among = HashSet::new();
        found.retain(|one| {
            one.time() >= self.from
                && !self.ids.contains_key(one.id())
                && among.insert(one.id().to_owned())
        });
        found
    }

    /// Notes what was printed.
    pub(super) fn saw(&mut self, one: &impl Logged) {
        self.ids.insert(one.id().to_owned(), one.time());
        self.newest = self.newest.max(Some(one.time()));
    }

    /// Ends a look: the next begins a while before the newest that was seen, and what is older is
    /// forgotten.
    pub(super) fn looked(&mut self) {
        let Some(newest) = self.newest else { return };
        let from = newest.0.checked_sub(LATENESS).map_or(self.from, Time);
        self.from = self.from.max(from);
        self.ids.retain(|_, time| *time >= self.from);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    impl Logged for (&'static str, i64) {
        fn id(&self) -> &str {
            self.0
        }

        fn time(&self) -> Time {
            Time::from_milliseconds(self.1).unwrap()
        }
    }

    /// The ids of what is new, and was then seen.
    fn new(seen: &mut Seen, found: &[(&'static str, i64)]) -> Vec<&'static str> {
        let unseen = seen.unseen(found.to_vec());
        unseen.iter().for_each(|one| seen.saw(one));
        unseen.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn what_is_new_comes_in_the_order_of_time_and_once() {
        let mut seen = Seen::since(Time::from_milliseconds(1_000).unwrap());
        let first = new(&mut seen, &[("c", 3_000), ("a", 1_000), ("b", 3_000), ("a", 1_000)]);
        assert_eq!(first, ["a", "c", "b"]);
        seen.looked();
        let second = new(&mut seen, &[("a", 1_000), ("late", 2_000), ("b", 3_000), ("d", 4_000)]);
        assert_eq!(second, ["late", "d"]);
        assert!(new(&mut seen, &[("too old", 999)]).is_empty());
    }

    #[test]
    fn what_was_not_printed_is_still_new() {
        let mut seen = Seen::since(Time::from_milliseconds(0).unwrap());
        assert_eq!(seen.unseen(vec![("a", 1)]), [("a", 1)]);
        assert_eq!(new(&mut seen, &[("a", 1)]), ["a"]);
    }

    #[test]
    fn the_next_look_begins_a_minute_before_the_newest_and_forgets_what_is_older() {
        let start = Time::from_milliseconds(0).unwrap();
        let mut seen = Seen::since(start);
        seen.looked();
        assert_eq!(seen.from(), start);
        new(&mut seen, &[("a", 10_000), ("b", 100_000)]);
        assert_eq!(seen.from(), start, "a page may be older than the one before");
        seen.looked();
        assert_eq!(seen.from(), Time::from_milliseconds(40_000).unwrap());
        assert_eq!(seen.ids.keys().collect::<Vec<_>>(), ["b"]);
    }
}
