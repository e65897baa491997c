//! What lies between a source and the shards' readers: a queue for each shard. A source opens
//! shards, also while the run goes on, because a stream can be resharded. It refuses to know what a
//! record is for.
//!
//! A source of lines, which is a thread of its own, has one bound over all queues rather than one a
//! shard, so that memory does not grow with the shards, and so that a shard that is blocked by a
//! failing batch can fall far behind before it stops the others. It cannot stop them for ever:
//! while the source waits for room, a shard that has run dry is told that nothing more is at hand,
//! so it sends what it has instead of waiting for a full batch; and a blocked batch ends, at the
//! latest when its records are too old. A source that reads each shard by itself has a bound for
//! each.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::poller::{More, Room};
use super::record::{Record, ShardId};

/// The queues. A record takes its length in an event, which is above its length in memory.
#[derive(Debug)]
pub(crate) struct Buffer {
    state: Mutex<State>,
    limit: usize,
    has_room: Condvar,
    /// A shard was opened, or the source has ended.
    opened: Notify,
}

#[derive(Debug)]
struct State {
    shards: Vec<Queue>,
    bytes: usize,
    ended: bool,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    id: ShardId,
    records: VecDeque<Record>,
    bytes: usize,
    /// What it means that there are no records now.
    more: More,
    /// Whether its reader is done with all that it will ever hold.
    is_done: bool,
    /// Something was put, for the reader.
    put: Arc<Notify>,
    /// Something was taken, or the reader is done, for the source.
    taken: Arc<Notify>,
}

impl Buffer {
    /// A buffer without shards, that holds `limit` bytes of encoded records over all shards, or of
    /// each, as the source is. One further block is taken in before the source has to wait.
    pub(crate) fn new(limit: usize) -> Buffer {
        let state = State { shards: Vec::new(), bytes: 0, ended: false, closed: false };
        Buffer { state: Mutex::new(state), limit, has_room: Condvar::new(), opened: Notify::new() }
    }

    /// Opens a shard, whose reader is to start. Answers its number; they are counted from 0.
    pub(crate) fn open(&self, id: ShardId) -> usize {
        let mut state = self.lock();
        state.shards.push(Queue {
            id,
            records: VecDeque::new(),
            bytes: 0,
            more: More::AtHand,
            is_done: false,
            put: Arc::default(),
            taken: Arc::default(),
        });
        self.opened.notify_one();
        state.shards.len() - 1
    }

    /// The shards that were opened, but for the first `known`.
    pub(crate) fn opened_after(&self, known: usize) -> Vec<ShardId> {
        self.lock().shards.iter().skip(known).map(|queue| queue.id.clone()).collect()
    }

    /// Waits until a shard may have been opened, or the source may have ended.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// Whether the source has ended, so that no shard will be opened.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Queues a block of records, each with the number of its shard; waits until there is room.
    /// `more` says whether the next block is at hand already. Answers false once nobody reads any
    /// more.
    pub(crate) fn put(&self, block: Vec<(usize, Record)>, more: More) -> bool {
        let mut state = self.lock();
        while state.bytes >= self.limit && !state.closed {
            state.tell_all(More::NotYet);
            state = self.has_room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        for (shard, record) in block {
            state.push(shard, record);
        }
        state.tell_all(more);
        !state.closed
    }

    /// Queues records of one shard, and says what follows them.
    pub(crate) fn put_in(&self, shard: usize, records: Vec<Record>, more: More) {
        let mut state = self.lock();
        for record in records {
            state.push(shard, record);
        }
        state.shards[shard].more = more;
        state.shards[shard].put.notify_one();
    }

    /// Waits until a shard has room for more.
    pub(crate) async fn room_in(&self, shard: usize) {
        self.until(shard, |queue| queue.bytes < self.limit).await;
    }

    /// Waits until the reader of a shard that has ended is done with it.
    pub(crate) async fn done_with(&self, shard: usize) {
        self.until(shard, |queue| queue.is_done).await;
    }

    /// Says that the reader of a shard is done with it.
    pub(crate) fn set_done(&self, shard: usize) {
        let mut state = self.lock();
        state.shards[shard].is_done = true;
        state.shards[shard].taken.notify_one();
    }

    /// Says that the source has ended.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.tell_all(More::Never);
        self.opened.notify_one();
    }

    /// Says that nobody reads any more, so that the source ends too.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.has_room.notify_all();
    }

    /// Takes what a shard has, up to `room`, and tells what follows.
    pub(crate) fn take(&self, shard: usize, room: Room) -> (Vec<Record>, More) {
        let mut state = self.lock();
        let queue = &mut state.shards[shard];
        let mut bytes = 0;
        let count = queue
            .records
            .iter()
            .take(room.records)
            .take_while(|record| {
                let fits = bytes < room.bytes;
                bytes += record.encoded_len;
                fits
            })
            .count();
        let records: Vec<Record> = queue.records.drain(..count).collect();
        let taken = records.iter().map(|record| record.encoded_len).sum::<usize>();
        queue.bytes -= taken;
        let more = if queue.records.is_empty() { queue.more } else { More::AtHand };
        queue.taken.notify_one();
        state.bytes -= taken;
        if state.bytes < self.limit {
            self.has_room.notify_one();
        }
        (records, more)
    }

    /// Waits until a shard may have more to take.
    pub(crate) async fn changed(&self, shard: usize) {
        let put = Arc::clone(&self.lock().shards[shard].put);
        put.notified().await;
    }

    /// Waits, as the one source of this shard, until something holds of it.
    async fn until(&self, shard: usize, holds: impl Fn(&Queue) -> bool) {
        loop {
            let taken = {
                let state = self.lock();
                if holds(&state.shards[shard]) {
                    return;
                }
                Arc::clone(&state.shards[shard].taken)
            };
            taken.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, shard: usize, record: Record) {
        let queue = &mut self.shards[shard];
        self.bytes += record.encoded_len;
        queue.bytes += record.encoded_len;
        queue.records.push_back(record);
    }

    /// Says to the readers of all shards that have not ended what follows.
    fn tell_all(&mut self, more: More) {
        for queue in &mut self.shards {
            if queue.more != More::Never {
                queue.more = more;
            }
            queue.put.notify_one();
        }
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

    fn with_shards(shards: usize, limit: usize) -> Buffer {
        let buffer = Buffer::new(limit);
        for number in 0..shards {
            assert_eq!(buffer.open(ShardId::numbered(number)), number);
        }
        buffer
    }

    fn taken(buffer: &Buffer, shard: usize, room: Room) -> (usize, More) {
        let (records, more) = buffer.take(shard, room);
        (records.len(), more)
    }

    #[test]
    fn a_shard_takes_its_own_records_up_to_its_room() {
        let buffer = with_shards(2, 100);
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
        let buffer = Arc::new(with_shards(2, 1));
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
        let buffer = Arc::new(with_shards(1, 1));
        assert!(buffer.put(vec![one(1)], More::AtHand));
        let source = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.put(vec![one(2)], More::AtHand))
        };
        buffer.close();
        assert!(!source.join().unwrap());
    }

    #[tokio::test]
    async fn a_shard_that_is_opened_on_the_way_is_told_and_ends_by_itself() {
        let buffer = with_shards(1, 100);
        buffer.opened().await;
        assert_eq!(buffer.opened_after(1), []);
        let child = buffer.open(ShardId::numbered(7));
        buffer.opened().await;
        assert_eq!(buffer.opened_after(1), [ShardId::numbered(7)]);
        buffer.put_in(child, vec![record(1, "key", 0)], More::Never);
        assert_eq!(taken(&buffer, child, ALL), (1, More::Never));
        assert_eq!(taken(&buffer, 0, ALL), (0, More::AtHand), "the other shard goes on");
        assert!(!buffer.has_ended());
        buffer.finish();
        assert!(buffer.has_ended());
    }

    #[tokio::test]
    async fn a_source_of_one_shard_waits_for_room_there_and_for_its_reader() {
        let buffer = Arc::new(with_shards(2, 1));
        buffer.put_in(1, vec![record(1, "key", 0)], More::NotYet);
        buffer.room_in(0).await;
        let waiting = {
            let buffer = Arc::clone(&buffer);
            tokio::spawn(async move {
                buffer.room_in(1).await;
                buffer.done_with(1).await;
            })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(taken(&buffer, 1, ALL).0, 1);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        buffer.set_done(1);
        waiting.await.unwrap();
    }
}
