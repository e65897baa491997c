//! Reads records from a file or a pipe, one a line, and lays them into a stream's shards as Kinesis
//! would. It refuses to know when they are read from there, and what is done with them.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use super::aggregate::{self, Aggregate};
use super::buffer::Buffer;
use super::clock::Clock;
use super::event::EventWriter;
use super::pace::Pace;
use super::partition_key::{HashKeyRanges, PartitionKey};
use super::poller::More;
use super::record::{Record, SequenceNumber, ShardId};

/// The most bytes of a record's data: 1 MiB, a stream's default.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
const LONGEST_LINE: usize = 1024 * 1024;
/// The bytes asked for in one read.
const BLOCK: usize = 256 * 1024;

/// An open file of records, or standard input.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    file: File,
    /// Whether the whole of it is there now; a pipe's is not.
    is_complete: bool,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The file cannot be opened.
    #[error("opening the records in {name}")]
    Open {
        /// The file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is a folder.
    #[error("{name} is a folder, not a file of records")]
    Folder {
        /// The folder.
        name: String,
    },
    /// Reading failed on the way.
    #[error("reading line {line} of {name}")]
    Read {
        /// The file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// A line that is no record.
    #[error("line {line} of {name} {problem}")]
    Line {
        /// The file.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it, to be read after the line's name.
        problem: String,
    },
}

impl Source {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is a folder.
    pub(crate) fn open(path: &Path) -> Result<Source, SourceError> {
        let (name, file) = if path == Path::new("-") {
            let name = "standard input".to_owned();
            (name, io::stdin().as_fd().try_clone_to_owned().map(File::from))
        } else {
            (path.display().to_string(), File::open(path))
        };
        let opened = file.and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) =
            opened.map_err(|source| SourceError::Open { name: name.clone(), source })?;
        if metadata.is_dir() {
            return Err(SourceError::Folder { name });
        }
        Ok(Source { name, file, is_complete: metadata.is_file() })
    }

    /// Reads to the end, into the buffer. Returns early, without an error, once nobody reads from
    /// there. `note` is told of lines that are skipped.
    ///
    /// # Errors
    /// When reading fails or a line is no record; the records before it are in the buffer.
    pub(crate) fn read_into(
        mut self,
        buffer: &Buffer,
        stream: Stream,
        note: &dyn Fn(&str),
    ) -> Result<(), SourceError> {
        let mut lines = Lines::new(stream.layout.skip_oversize);
        let mut laying = Laying::new(stream, buffer, self.is_complete);
        let mut block = vec![0; BLOCK];
        loop {
            let length = match self.file.read(&mut block) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(SourceError::Read {
                        name: self.name,
                        line: lines.number + 1,
                        source,
                    });
                }
            };
            let mut lay = |line: &[u8]| laying.line(line);
            let result = if length == 0 {
                lines.end(&mut lay)
            } else {
                lines.push(&block[..length], &mut lay)
            };
            for line in lines.skipped.drain(..) {
                note(&format!("skipped line {line} of {}: it {}", self.name, too_long()));
            }
            let is_last = length == 0 || result.is_err();
            let is_read = laying.hand_on(is_last);
            result.map_err(|problem| SourceError::Line {
                name: self.name.clone(),
                line: lines.number,
                problem,
            })?;
            if is_last || !is_read {
                return Ok(());
            }
        }
    }
}

/// Lays lines into the buffer, block by block, or one by one where a pace is kept.
#[derive(Debug)]
struct Laying<'a> {
    stream: Stream,
    buffer: &'a Buffer,
    /// What follows a block.
    more: More,
    /// Whether a record may wait for others to be packed with over the end of a block.
    is_complete: bool,
    pace: Option<Pace>,
    laid: Vec<(usize, Record)>,
    is_read: bool,
}

impl<'a> Laying<'a> {
    fn new(stream: Stream, buffer: &'a Buffer, is_complete: bool) -> Laying<'a> {
        for (id, _) in &stream.shards {
            buffer.open(id.clone());
        }
        let pace = stream.layout.rate.map(Pace::new);
        // At a pace, the next record is not there before its time.
        let more = if is_complete && pace.is_none() { More::AtHand } else { More::NotYet };
        Laying { stream, buffer, more, is_complete, pace, laid: Vec::new(), is_read: true }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if let Some(pace) = &mut self.pace {
            let delay = pace.next(self.stream.clock.elapsed());
            if !delay.is_zero() && self.is_read {
                self.hand_on(false);
                thread::sleep(delay);
            }
        }
        self.stream.lay(line, &mut self.laid)
    }

    /// Hands on what is laid. Answers false once nobody reads any more.
    fn hand_on(&mut self, is_last: bool) -> bool {
        // A pipe, or a pace, may bring nothing for long.
        if is_last || !self.is_complete {
            self.stream.seal(&mut self.laid);
        }
        if !self.laid.is_empty() {
            self.is_read &= self.buffer.put(std::mem::take(&mut self.laid), self.more);
        }
        self.is_read
    }
}

/// Cuts blocks into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The start of a line whose end has not been read.
    begun: Vec<u8>,
    /// The line last begun to be handed on, counted from 1.
    number: u64,
    /// Whether a line that is too long is passed over.
    skip_oversize: bool,
    /// The rest of the present line is passed over.
    is_skipping: bool,
    /// The lines that were passed over since this was last looked at.
    skipped: Vec<u64>,
}

impl Lines {
    fn new(skip_oversize: bool) -> Lines {
        Lines { skip_oversize, ..Lines::default() }
    }

    /// Hands on every line that ends in the block.
    fn push(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut rest = block;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            self.number += 1;
            if self.begun.is_empty() {
                self.hand_on(line, &mut take)?;
            } else {
                self.begun.extend_from_slice(line);
                self.hand_on_begun(&mut take)?;
            }
        }
        if self.is_skipping {
            return Ok(());
        }
        self.begun.extend_from_slice(rest);
        // Allows for the carriage return that may still be cut off.
        if self.begun.len() > LONGEST_LINE + 1 {
            self.number += 1;
            self.hand_on_begun(take)?;
            self.is_skipping = true;
        }
        Ok(())
    }

    /// Hands on a last line without an end.
    fn end(&mut self, take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.number += 1;
        self.hand_on_begun(take)
    }

    fn hand_on_begun(
        &mut self,
        take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let line = std::mem::take(&mut self.begun);
        self.hand_on(&line, take)
    }

    fn hand_on(
        &mut self,
        line: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LONGEST_LINE {
            if !self.skip_oversize {
                return Err(format!("{}; --skip-oversize passes over such lines", too_long()));
            }
            self.skipped.push(self.number);
            return Ok(());
        }
        take(checked(line)?)
    }
}

fn too_long() -> String {
    format!("is longer than {LONGEST_LINE} bytes, the most a Kinesis record holds")
}

/// The line, if it is a record.
fn checked(line: &[u8]) -> Result<&[u8], String> {
    if line.is_empty() {
        return Err("is empty; every line is the data of one record".to_owned());
    }
    if let Err(error) = std::str::from_utf8(line) {
        return Err(format!(
            "is not text: byte {} is no UTF-8; records are read from NDJSON",
            error.valid_up_to() + 1
        ));
    }
    Ok(line)
}

/// How lines become the records of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// How they get their partition keys.
    pub(crate) partition_key: PartitionKey,
    /// How many shards they are laid into.
    pub(crate) shards: usize,
    /// How many are laid in a second; none: as many as are taken.
    pub(crate) rate: Option<NonZeroU32>,
    /// How many are packed into one record, as the Kinesis Producer Library does; none: they stay
    /// apart.
    pub(crate) aggregate: Option<usize>,
    /// Whether a line that is too long for a record is passed over.
    pub(crate) skip_oversize: bool,
}

/// The stream the records are laid into: gives each its key, its shard and its place there.
#[derive(Debug)]
pub(crate) struct Stream {
    layout: Layout,
    ranges: HashKeyRanges,
    shards: Vec<(ShardId, u64)>,
    /// For each shard, what is being packed, with the key and the data of its first record.
    packing: Vec<Option<Packing>>,
    events: Arc<EventWriter>,
    clock: Clock,
}

#[derive(Debug)]
struct Packing {
    aggregate: Aggregate,
    partition_key: String,
    first: Bytes,
}

impl Stream {
    /// A stream without records.
    pub(crate) fn new(layout: Layout, events: Arc<EventWriter>, clock: Clock) -> Stream {
        Stream {
            ranges: HashKeyRanges::divided_by(layout.shards),
            shards: (0..layout.shards).map(|number| (ShardId::numbered(number), 0)).collect(),
            packing: (0..layout.shards).map(|_| None).collect(),
            layout,
            events,
            clock,
        }
    }

    /// Adds the record of a line to `laid`, with the number of its shard; or packs it, which may
    /// add an earlier one.
    fn lay(&mut self, line: &[u8], laid: &mut Vec<(usize, Record)>) -> Result<(), String> {
        let partition_key = self.layout.partition_key.of(line)?;
        let number = self.ranges.shard_of(&partition_key);
        let Some(most) = self.layout.aggregate else {
            laid.push((number, self.record(number, partition_key, Bytes::copy_from_slice(line))));
            return Ok(());
        };
        // Whether it fits is told without the few bytes around it.
        let is_full = |packing: &Packing| {
            packing.aggregate.size() + partition_key.len() + line.len() > aggregate::LARGEST
        };
        if self.packing[number].as_ref().is_some_and(is_full) {
            self.seal_shard(number, laid);
        }
        let packing = self.packing[number].get_or_insert_with(|| Packing {
            aggregate: Aggregate::default(),
            partition_key: partition_key.clone(),
            first: Bytes::copy_from_slice(line),
        });
        packing.aggregate.push(&partition_key, line);
        if packing.aggregate.count() >= most {
            self.seal_shard(number, laid);
        }
        Ok(())
    }

    /// Adds what is being packed.
    fn seal(&mut self, laid: &mut Vec<(usize, Record)>) {
        for number in 0..self.packing.len() {
            self.seal_shard(number, laid);
        }
    }

    /// A record that is alone stays as it is, as in the Producer Library.
    fn seal_shard(&mut self, number: usize, laid: &mut Vec<(usize, Record)>) {
        if let Some(Packing { aggregate, partition_key, first }) = self.packing[number].take() {
            let data = if aggregate.count() == 1 { first } else { Bytes::from(aggregate.seal()) };
            laid.push((number, self.record(number, partition_key, data)));
        }
    }

    fn record(&mut self, number: usize, partition_key: String, data: Bytes) -> Record {
        let (shard, last) = &mut self.shards[number];
        *last += 1;
        let mut record = Record {
            sequence_number: sequence_number(number, *last),
            partition_key: Some(partition_key.into()),
            data,
            arrival: self.clock.now(),
            encryption_type: None,
            encoded_len: 0,
        };
        record.encoded_len = self.events.encoded_len(shard, &record);
        record
    }
}

/// 56 digits, as Kinesis has them: rising within the shard, and no two shards share one.
fn sequence_number(shard: usize, index: u64) -> SequenceNumber {
    SequenceNumber::new(&format!("4959033827149025660855969{shard:05}{index:026}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::local::poller::Room;

    fn layout(shards: usize) -> Layout {
        let partition_key = PartitionKey::HashOfLine;
        Layout { partition_key, shards, rate: None, aggregate: None, skip_oversize: false }
    }

    fn stream(layout: Layout) -> Stream {
        let events = Arc::new(EventWriter::new("us-east-1", "stream", "role"));
        Stream::new(layout, events, Clock::start())
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// Every line laid into one shard, and how reading ended.
    fn read(content: &[u8]) -> (Vec<Record>, Result<(), SourceError>) {
        read_as(layout(1), content, &|_| {})
    }

    fn read_as(
        layout: Layout,
        content: &[u8],
        note: &dyn Fn(&str),
    ) -> (Vec<Record>, Result<(), SourceError>) {
        let buffer = Buffer::new(usize::MAX);
        let file = file(content);
        let result = Source::open(file.path()).unwrap().read_into(&buffer, stream(layout), note);
        (buffer.take(0, Room { records: usize::MAX, bytes: usize::MAX }).0, result)
    }

    fn error(content: &[u8]) -> String {
        read(content).1.unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_a_record_without_its_line_end() {
        let (records, result) = read(b"{\"a\":1}\r\nplain text\n last");
        result.unwrap();
        let data: Vec<&[u8]> = records.iter().map(|record| record.data.as_ref()).collect();
        assert_eq!(data, [&b"{\"a\":1}"[..], b"plain text", b" last"]);
    }

    #[test]
    fn a_bad_line_is_named_and_the_records_before_it_are_kept() {
        let (records, result) = read(b"one\ntwo\n\nfour\n");
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("line 3 of /"), "{error}");
        assert!(error.contains("is empty"), "{error}");
        assert_eq!(records.len(), 2);
        assert!(self::error(b"one\n\x7fELF\x80\n").contains("byte 5 is no UTF-8"));
    }

    #[test]
    fn a_line_may_have_a_mebibyte_and_no_more() {
        let longest = vec![b'x'; LONGEST_LINE];
        for end in [&b""[..], b"\n", b"\r\n"] {
            read(&[&longest[..], end].concat()).1.unwrap();
            let error = error(&[b"one\n", &longest[..], b"x", end].concat());
            assert!(error.contains("line 2 of ") && error.contains("1048576 bytes"), "{error}");
        }
        let endless = vec![b'x'; 3 * LONGEST_LINE];
        assert!(error(&endless).contains("line 1 of "));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_named_where_that_is_asked_for() {
        for length in [LONGEST_LINE + 1, LONGEST_LINE + 2, 3 * LONGEST_LINE] {
            for (end, left) in [(&b"\nthree\n"[..], 2), (b"\r\nthree", 2), (b"", 1)] {
                let content = [&b"one\n"[..], &vec![b'x'; length], end].concat();
                let notes = std::cell::RefCell::new(Vec::new());
                let note = |note: &str| notes.borrow_mut().push(note.to_owned());
                let (records, result) =
                    read_as(Layout { skip_oversize: true, ..layout(1) }, &content, &note);
                result.unwrap();
                assert_eq!(records.len(), left, "{length} {end:?}");
                let notes = notes.into_inner();
                assert_eq!(notes.len(), 1);
                assert!(
                    notes[0].starts_with("skipped line 2 of /") && notes[0].contains("1048576"),
                    "{notes:?}"
                );
            }
        }
    }

    #[test]
    fn so_many_records_are_packed_into_one_and_a_single_one_stays_as_it_is() {
        let lines: String = (0..7).map(|line| format!("{line}\n")).collect();
        let (records, result) =
            read_as(Layout { aggregate: Some(3), ..layout(1) }, lines.as_bytes(), &|_| {});
        result.unwrap();
        let packed: Vec<bool> = records
            .iter()
            .map(|record| record.data.starts_with(&[0xf3, 0x89, 0x9a, 0xc2]))
            .collect();
        assert_eq!(packed, [true, true, false]);
        assert_eq!(records[2].data, "6");
        let large = format!("{}\n", "x".repeat(30_000)).repeat(4);
        let (records, _) =
            read_as(Layout { aggregate: Some(100), ..layout(1) }, large.as_bytes(), &|_| {});
        assert_eq!(records.len(), 4, "two would pass what the Producer Library packs into one");
    }

    #[test]
    fn a_bad_line_keeps_what_was_being_packed_before_it() {
        let (records, result) =
            read_as(Layout { aggregate: Some(100), ..layout(1) }, b"one\ntwo\n\n", &|_| {});
        assert!(result.is_err());
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let missing = Source::open(Path::new("/nowhere/records.ndjson")).unwrap_err();
        assert_eq!(missing.to_string(), "opening the records in /nowhere/records.ndjson");
        let folder = tempfile::tempdir().unwrap();
        let error = Source::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a folder"), "{error}");
    }

    #[test]
    fn sequence_numbers_have_56_digits_rise_in_their_shard_and_are_never_shared() {
        let mut stream = stream(layout(3));
        let mut last = vec![None; 3];
        let mut seen = std::collections::HashSet::new();
        for line in 0..1_000 {
            let mut laid = Vec::new();
            stream.lay(line.to_string().as_bytes(), &mut laid).unwrap();
            let (shard, record) = laid.pop().unwrap();
            assert_eq!(record.sequence_number.as_str().len(), 56);
            assert!(seen.insert(record.sequence_number.clone()));
            assert!(
                last[shard]
                    .replace(record.sequence_number.clone())
                    .is_none_or(|last| last < record.sequence_number)
            );
        }
        assert!(last.iter().all(Option::is_some), "every shard got records");
    }

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in_however_they_are_cut(
            lines in prop::collection::vec("[a-z]{1,20}", 1..20),
            cuts in prop::collection::vec(1..30_usize, 1..20),
            ends_with_newline in any::<bool>(),
        ) {
            let mut text = lines.join("\n");
            if ends_with_newline {
                text.push('\n');
            }
            let mut found = Vec::new();
            let mut take = |line: &[u8]| {
                found.push(String::from_utf8(line.to_vec()).unwrap());
                Ok(())
            };
            let mut cutter = Lines::default();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (block, after) = rest.split_at((*cut).min(rest.len()));
                cutter.push(block, &mut take).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            cutter.end(&mut take).unwrap();
            prop_assert_eq!(found, lines);
        }
    }
}
