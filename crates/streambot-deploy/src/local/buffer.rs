//! What lies between the source, read by a thread of its own, and the shards' readers: a queue for each shard, with one bound
//! over all of them. It refuses to know what a record is for.
//!
//! One bound rather than one a shard, so that memory does not grow with the shards, and so that a shard that is blocked by a
//! failing batch can fall far behind before it stops the others. It cannot stop them for ever: while the source waits for
//! room, a shard that has run dry is told that nothing more is at hand, so it sends what it has instead of waiting for a
//! full batch; and a blocked batch ends, at the latest when its records are too old.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::poller::{More, Room};
use super::record::Record;

/// The queues. A record takes its length in an event, which is above its length in memory.
#[derive(Debug)]
pub(crate) struct Buffer {
    state: Mutex<State>,
    limit: usize,
    has_room: Condvar,
    changed: Vec<Notify>,
}

#[derive(Debug)]
struct State {
    shards: Vec<VecDeque<Record>>,
    bytes: usize,
    /// What an empty queue means now.
    more: More,
    closed: bool,
}

impl Buffer {
    /// Empty queues for this many shards, that hold `limit` bytes of encoded records together. One further block is taken
    /// in before the source has to wait.
    pub(crate) fn new(shards: usize, limit: usize) -> Buffer {
        let state = State {
            shards: (0..shards).map(|_| VecDeque::new()).collect(),
            bytes: 0,
            more: More::AtHand,
            closed: false,
        };
        Buffer {
            state: Mutex::new(state),
            limit,
            has_room: Condvar::new(),
            changed: (0..shards).map(|_| Notify::new()).collect(),
        }
    }

    /// Queues a block of records, each with the number of its shard; waits until there is room. `more` says whether the next
    /// block is at hand already. Answers false once nobody reads any more.
    pub(crate) fn put(&self, block: Vec<(usize, Record)>, more: More) -> bool {
        let mut state = self.lock();
        while state.bytes >= self.limit && !state.closed {
            state.more = More::NotYet;
            self.notify_all();
            state = self.has_room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        for (shard, record) in block {
            state.bytes += record.encoded_len;
            state.shards[shard].push_back(record);
        }
        state.more = more;
        self.notify_all();
        !state.closed
    }

    /// Says that the source has ended.
    pub(crate) fn finish(&self) {
        self.lock().more = More::Never;
        self.notify_all();
    }

    /// Says that nobody reads any more, so that the source ends too.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.has_room.notify_all();
    }

    /// Takes what a shard has, up to `room`, and tells what follows.
    pub(crate) fn take(&self, shard: usize, room: Room) -> (Vec<Record>, More) {
        let mut state = self.lock();
        let mut bytes = 0;
        let count = state.shards[shard]
            .iter()
            .take(room.records)
            .take_while(|record| {
                let fits = bytes < room.bytes;
                bytes += record.encoded_len;
                fits
            })
            .count();
        let records: Vec<Record> = state.shards[shard].drain(..count).collect();
        state.bytes -= records.iter().map(|record| record.encoded_len).sum::<usize>();
        if state.bytes < self.limit {
            self.has_room.notify_one();
        }
        let more = if state.shards[shard].is_empty() { state.more } else { More::AtHand };
        (records, more)
    }

    /// Waits until a shard may have more to take.
    pub(crate) async fn changed(&self, shard: usize) {
        self.changed[shard].notified().await;
    }

    fn notify_all(&self) {
        for shard in &self.changed {
            shard.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::local::record::testing::record;

    const ALL: Room = Room { records: usize::MAX, bytes: usize::MAX };

    fn one(number: u64) -> (usize, Record) {
        (0, record(number, "key", 0))
    }

    fn taken(buffer: &Buffer, shard: usize, room: Room) -> (usize, More) {
        let (records, more) = buffer.take(shard, room);
        (records.len(), more)
    }

    #[test]
    fn a_shard_takes_its_own_records_up_to_its_room() {
        let buffer = Buffer::new(2, 100);
        assert!(buffer.put(vec![one(1), one(2), one(3), (1, record(4, "key", 0))], More::NotYet));
        assert_eq!(taken(&buffer, 0, Room { records: 1, bytes: 100 }), (1, More::AtHand));
        assert_eq!(taken(&buffer, 0, Room { records: 9, bytes: 1 }), (1, More::AtHand));
        assert_eq!(taken(&buffer, 0, ALL), (1, More::NotYet));
        assert_eq!(taken(&buffer, 1, ALL), (1, More::NotYet));
        buffer.finish();
        assert_eq!(taken(&buffer, 1, ALL), (0, More::Never));
    }

    /// A shard that waited for a full batch here would wait for ever.
    #[tokio::test]
    async fn a_dry_shard_is_told_that_nothing_is_at_hand_while_the_source_waits_for_room() {
        let buffer = Arc::new(Buffer::new(2, 1));
        assert!(buffer.put(vec![one(1)], More::AtHand));
        assert_eq!(taken(&buffer, 1, ALL), (0, More::AtHand));
        let source = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.put(vec![one(2)], More::AtHand))
        };
        loop {
            buffer.changed(1).await;
            if taken(&buffer, 1, ALL).1 == More::NotYet {
                break;
            }
        }
        assert_eq!(buffer.take(0, ALL).0.len(), 1);
        assert!(source.join().unwrap());
    }

    #[test]
    fn a_source_that_waits_for_room_ends_when_nobody_reads_any_more() {
        let buffer = Arc::new(Buffer::new(1, 1));
        assert!(buffer.put(vec![one(1)], More::AtHand));
        let source = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.put(vec![one(2)], More::AtHand))
        };
        buffer.close();
        assert!(!source.join().unwrap());
    }
}
