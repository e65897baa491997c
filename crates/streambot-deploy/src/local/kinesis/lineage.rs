//! Which shards of a stream may be read now, and from where. A stream that is resharded closes
//! parents and opens children, and a child is read only after its parents are done, or the order of
//! a partition key would be lost. Pure: it refuses to know how shards are listed and read.
//!
//! <https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html>

use crate::local::record::{SequenceNumber, ShardId};

/// Where reading a shard begins, or goes on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Position {
    /// The oldest record the shard holds.
    TrimHorizon,
    /// The records put from now on.
    Latest,
    /// The first record at or after this time, in seconds since the Unix epoch.
    At(f64),
    /// The record after this one.
    After(SequenceNumber),
}

/// A shard as the stream lists it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) id: ShardId,
    /// The one shard it was split from, or the two it was merged from; none for a shard the stream
    /// began with.
    pub(crate) parents: Vec<ShardId>,
    /// Whether records can still be put there.
    pub(crate) is_open: bool,
}

/// All shards that were ever listed.
#[derive(Debug)]
pub(crate) struct Lineage {
    start: Position,
    shards: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    listed: Listed,
    position: Position,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Reading,
    Done,
}

impl Lineage {
    /// The shards of the first listing, to be read from the mapping's starting position on.
    pub(crate) fn new(start: Position, listed: Vec<Listed>) -> Lineage {
        let is_latest = start == Position::Latest;
        let shards = listed.into_iter().map(|listed| {
            // What was put before "now" is not read, and so a closed shard has nothing to read.
            let state = if is_latest && !listed.is_open { State::Done } else { State::Waiting };
            Known { listed, position: start.clone(), state }
        });
        Lineage { shards: shards.collect(), start }
    }

    /// Takes in a further listing.
    pub(crate) fn learn(&mut self, listed: Vec<Listed>) {
        for listed in listed {
            if !self.shards.iter().any(|known| known.listed.id == listed.id) {
                // A shard that came after "now" is read whole.
                let position = match &self.start {
                    Position::Latest => Position::TrimHorizon,
                    start => start.clone(),
                };
                self.shards.push(Known { listed, position, state: State::Waiting });
            }
        }
    }

    /// The shards that are read, or will be once their parents are done.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.iter().filter(|known| known.state != State::Done).map(|known| &known.listed.id)
    }

    /// Takes the shards that may be read now: those whose parents are done, or are no longer listed
    /// because the stream has dropped their records.
    pub(crate) fn take_ready(&mut self) -> Vec<(ShardId, Position)> {
        let waited_for: Vec<ShardId> = self.unfinished().cloned().collect();
        let mut ready = Vec::new();
        for known in &mut self.shards {
            if known.state == State::Waiting
                && !known.listed.parents.iter().any(|parent| waited_for.contains(parent))
            {
                known.state = State::Reading;
                ready.push((known.listed.id.clone(), known.position.clone()));
            }
        }
        ready
    }

    /// A shard is done: it is closed, and all its records were handled.
    pub(crate) fn set_done(&mut self, id: &ShardId) {
        if let Some(known) = self.shards.iter_mut().find(|known| known.listed.id == *id) {
            known.state = State::Done;
        }
    }

    /// Whether a child of the shard is known.
    pub(crate) fn has_child(&self, id: &ShardId) -> bool {
        self.shards.iter().any(|known| known.listed.parents.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(number: usize, parents: &[usize], is_open: bool) -> Listed {
        let parents = parents.iter().copied().map(ShardId::numbered).collect();
        Listed { id: ShardId::numbered(number), parents, is_open }
    }

    fn ready(lineage: &mut Lineage) -> Vec<(ShardId, Position)> {
        lineage.take_ready()
    }

    /// "Children are read only after their parent is done", and after a merge both parents are.
    #[test]
    fn a_child_is_read_once_its_parents_are_done() {
        let listing = vec![
            shard(0, &[], false),
            shard(1, &[], false),
            shard(2, &[0], false),
            shard(3, &[1, 2], true),
        ];
        let mut lineage = Lineage::new(Position::TrimHorizon, listing);
        let from_start = |number| (ShardId::numbered(number), Position::TrimHorizon);
        assert_eq!(ready(&mut lineage), [from_start(0), from_start(1)]);
        assert_eq!(ready(&mut lineage), []);
        lineage.set_done(&ShardId::numbered(1));
        assert_eq!(ready(&mut lineage), []);
        lineage.set_done(&ShardId::numbered(0));
        assert_eq!(ready(&mut lineage), [from_start(2)]);
        lineage.set_done(&ShardId::numbered(2));
        assert_eq!(ready(&mut lineage), [from_start(3)]);
        lineage.set_done(&ShardId::numbered(3));
        assert_eq!(lineage.unfinished().count(), 0);
    }

    #[test]
    fn from_the_latest_record_on_closed_shards_are_passed_over_and_new_ones_read_whole() {
        let mut lineage =
            Lineage::new(Position::Latest, vec![shard(0, &[], false), shard(1, &[0], true)]);
        assert_eq!(ready(&mut lineage), [(ShardId::numbered(1), Position::Latest)]);
        assert!(!lineage.has_child(&ShardId::numbered(1)));
        lineage.set_done(&ShardId::numbered(1));
        lineage.learn(vec![shard(0, &[], false), shard(1, &[0], false), shard(2, &[1], true)]);
        assert!(lineage.has_child(&ShardId::numbered(1)));
        assert_eq!(ready(&mut lineage), [(ShardId::numbered(2), Position::TrimHorizon)]);
    }

    #[test]
    fn a_shard_whose_parent_the_stream_has_forgotten_is_read_at_once() {
        let mut lineage = Lineage::new(Position::At(7.5), vec![shard(5, &[2], true)]);
        assert_eq!(ready(&mut lineage), [(ShardId::numbered(5), Position::At(7.5))]);
    }
}
