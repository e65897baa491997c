//! Reads records from a file or a pipe, one a line, and lays them into a stream's shards as Kinesis would. It refuses to know
//! when they are read from there, and what is done with them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::buffer::Buffer;
use super::clock::Clock;
use super::event::EventWriter;
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
        let (file, metadata) = opened.map_err(|source| SourceError::Open { name: name.clone(), source })?;
        if metadata.is_dir() {
            return Err(SourceError::Folder { name });
        }
        Ok(Source { name, file, is_complete: metadata.is_file() })
    }

    /// Reads to the end, into the buffer. Returns early, without an error, once nobody reads from there.
    ///
    /// # Errors
    /// When reading fails or a line is no record; the records before it are in the buffer.
    pub(crate) fn read_into(mut self, buffer: &Buffer, mut stream: Stream) -> Result<(), SourceError> {
        let more = if self.is_complete { More::AtHand } else { More::NotYet };
        let mut lines = Lines::default();
        let mut block = vec![0; BLOCK];
        loop {
            let length = match self.file.read(&mut block) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(SourceError::Read { name: self.name, line: lines.number + 1, source }),
            };
            let mut records = Vec::new();
            let mut lay = |line: &[u8]| stream.record(line).map(|record| records.push(record));
            let result = if length == 0 { lines.end(&mut lay) } else { lines.push(&block[..length], &mut lay) };
            let is_read = records.is_empty() || buffer.put(records, more);
            result.map_err(|problem| SourceError::Line { name: self.name.clone(), line: lines.number, problem })?;
            if length == 0 || !is_read {
                return Ok(());
            }
        }
    }
}

/// Cuts blocks into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The start of a line whose end has not been read.
    begun: Vec<u8>,
    /// The line last begun to be handed on, counted from 1.
    number: u64,
}

impl Lines {
    /// Hands on every line that ends in the block.
    fn push(&mut self, block: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        let mut rest = block;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            self.number += 1;
            if self.begun.is_empty() {
                take(checked(line)?)?;
            } else {
                self.begun.extend_from_slice(line);
                take(checked(&self.begun)?)?;
                self.begun.clear();
            }
            rest = after;
        }
        self.begun.extend_from_slice(rest);
        // Allows for the carriage return that may still be cut off.
        if self.begun.len() > LONGEST_LINE + 1 {
            self.number += 1;
            checked(&self.begun)?;
        }
        Ok(())
    }

    /// Hands on a last line without an end.
    fn end(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        if self.begun.is_empty() {
            return Ok(());
        }
        self.number += 1;
        take(checked(&self.begun)?)
    }
}

/// The line without a carriage return, if it is a record.
fn checked(line: &[u8]) -> Result<&[u8], String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err("is empty; every line is the data of one record".to_owned());
    }
    if line.len() > LONGEST_LINE {
        return Err(format!("is longer than {LONGEST_LINE} bytes, the most a Kinesis record holds"));
    }
    if let Err(error) = std::str::from_utf8(line) {
        return Err(format!("is not text: byte {} is no UTF-8; records are read from NDJSON", error.valid_up_to() + 1));
    }
    Ok(line)
}

/// The stream the records are laid into: gives each its key, its shard and its place there.
#[derive(Debug)]
pub(crate) struct Stream {
    partition_key: PartitionKey,
    ranges: HashKeyRanges,
    shards: Vec<(ShardId, u64)>,
    events: Arc<EventWriter>,
    clock: Clock,
}

impl Stream {
    /// A stream of this many shards without records.
    pub(crate) fn new(partition_key: PartitionKey, shards: usize, events: Arc<EventWriter>, clock: Clock) -> Stream {
        Stream {
            partition_key,
            ranges: HashKeyRanges::divided_by(shards),
            shards: (0..shards).map(|number| (ShardId::numbered(number), 0)).collect(),
            events,
            clock,
        }
    }

    /// The record of a line, with the number of its shard.
    fn record(&mut self, line: &[u8]) -> Result<(usize, Record), String> {
        let partition_key = self.partition_key.of(line)?;
        let number = self.ranges.shard_of(&partition_key);
        let (shard, last) = &mut self.shards[number];
        *last += 1;
        let mut record = Record {
            sequence_number: sequence_number(number, *last),
            partition_key: partition_key.into(),
            data: Bytes::copy_from_slice(line),
            arrival: self.clock.now(),
            encoded_len: 0,
        };
        record.encoded_len = self.events.encoded_len(shard, &record);
        Ok((number, record))
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

    fn stream(shards: usize) -> Stream {
        let events = Arc::new(EventWriter::new("us-east-1", "stream", "role"));
        Stream::new(PartitionKey::HashOfLine, shards, events, Clock::start())
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// Every line laid into one shard, and how reading ended.
    fn read(content: &[u8]) -> (Vec<Record>, Result<(), SourceError>) {
        let buffer = Buffer::new(1, usize::MAX);
        let file = file(content);
        let result = Source::open(file.path()).unwrap().read_into(&buffer, stream(1));
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
    fn a_missing_file_and_a_folder_are_named() {
        let missing = Source::open(Path::new("/nowhere/records.ndjson")).unwrap_err();
        assert_eq!(missing.to_string(), "opening the records in /nowhere/records.ndjson");
        let folder = tempfile::tempdir().unwrap();
        let error = Source::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a folder"), "{error}");
    }

    #[test]
    fn sequence_numbers_have_56_digits_rise_in_their_shard_and_are_never_shared() {
        let mut stream = stream(3);
        let mut last = vec![None; 3];
        let mut seen = std::collections::HashSet::new();
        for line in 0..1_000 {
            let (shard, record) = stream.record(line.to_string().as_bytes()).unwrap();
            assert_eq!(record.sequence_number.as_str().len(), 56);
            assert!(seen.insert(record.sequence_number.clone()));
            assert!(
                last[shard].replace(record.sequence_number.clone()).is_none_or(|last| last < record.sequence_number)
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
