//! The user records of a run: what a handler does with each, its key, and the Kinesis record it comes
//! in. All of it is drawn from the run's seed.

use bytes::Bytes;

use super::random::Random;
use crate::local::aggregate::Aggregate;
use crate::local::record::Record;
use crate::local::record::testing::record;

/// What a handler does with one user record, each time it is given it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    /// Ends at once.
    Quick,
    /// Waits this many milliseconds.
    Wait(u64),
    /// Computes for this many milliseconds without ever waiting.
    Block(u64),
    /// Waits, and then computes.
    WaitAndBlock(u64, u64),
    /// Goes wrong in the attempts whose bit is set.
    Faulty(Fault, u32),
    /// Is no text, so that it never reaches the handler.
    Undecodable,
}

/// How it goes wrong.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Error,
    Panic,
    Hang,
}

impl Behaviour {
    fn draw(random: &mut Random, timeout_ms: u64) -> Behaviour {
        let attempts = if random.percent(40) { u32::MAX } else { random.within(1..=0xff) as u32 };
        match random.within(0..=99) {
            0..=69 => Behaviour::Quick,
            70..=79 => Behaviour::Wait(random.within(1..=timeout_ms)),
            80..=84 => Behaviour::Block(random.within(1..=timeout_ms * 3 / 2)),
            85..=87 => Behaviour::WaitAndBlock(
                random.within(1..=timeout_ms),
                random.within(1..=timeout_ms),
            ),
            88..=92 => Behaviour::Faulty(Fault::Error, attempts),
            93..=94 => Behaviour::Faulty(Fault::Panic, attempts),
            95..=97 => Behaviour::Faulty(Fault::Hang, attempts),
            _ => Behaviour::Undecodable,
        }
    }

    /// The longest time for which it does not let go of the thread, in milliseconds.
    pub(super) fn blocks_ms(self) -> u64 {
        match self {
            Behaviour::Block(time) | Behaviour::WaitAndBlock(_, time) => time,
            _ => 0,
        }
    }
}

/// The user records of a run, each named by its number.
#[derive(Default)]
pub(super) struct Users {
    pub(super) behaviours: Vec<Behaviour>,
    /// What keeps them in order; nothing for a record without a key.
    pub(super) keys: Vec<Option<String>>,
    /// The user records of each Kinesis record, whose sequence numbers count from 1.
    pub(super) packed: Vec<Vec<u64>>,
}

impl Users {
    /// Puts one Kinesis record: a user record, or an aggregate of some.
    pub(super) fn put(
        &mut self,
        random: &mut Random,
        sequence_number: u64,
        arrival: u64,
        trouble: Option<u64>,
    ) -> Record {
        let key = random.within(0..=4).to_string();
        let is_aggregate = random.percent(30);
        // A stream that distributes records by itself gives them no key.
        let has_key = is_aggregate || random.percent(85);
        let count = if is_aggregate { random.count(1..=5) } else { 1 };
        let mut aggregate = Aggregate::default();
        let (mut numbers, mut data) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = self.behaviours.len() as u64;
            let behaviour =
                trouble.map_or(Behaviour::Quick, |timeout_ms| Behaviour::draw(random, timeout_ms));
            let mark: &[u8] =
                if matches!(behaviour, Behaviour::Undecodable) { b"\xff" } else { b"" };
            data = [mark, number.to_string().as_bytes()].concat();
            // User keys stay below the aggregate's own: Lambda's lanes know no others.
            let user_key =
                if is_aggregate { format!("{key}-{}", random.within(0..=2)) } else { key.clone() };
            aggregate.push(&user_key, &data);
            self.behaviours.push(behaviour);
            self.keys.push(has_key.then_some(user_key));
            numbers.push(number);
        }
        if is_aggregate {
            data = aggregate.seal();
        }
        self.packed.push(numbers);
        let record = record(sequence_number, &key, arrival);
        let partition_key = record.partition_key.clone().filter(|_| has_key);
        Record { data: Bytes::from(data), partition_key, ..record }
    }
}
