//! The truth about a run, as NDJSON: an event a line, in the order in which it happened. Every line
//! is written at once and whole, so that a run that is killed leaves what can be read. It refuses
//! to know why anything happened.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::destination::DiscardBody;
use super::record::{Batch, SequenceNumber, ShardId};
use crate::error::{Error, Result};
use crate::event_source::EventSourceSettings;

/// Where the events of a run are written, if anywhere.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Nothing where the user asked for no journal.
    file: Option<(PathBuf, Mutex<File>)>,
}

/// How an invocation ended, in the journal's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ending {
    /// All records are done.
    Success,
    /// The records before one that the function reported are done.
    Partial,
    /// No record is done.
    Failed,
    /// The function did not answer within its timeout.
    Timeout,
    /// The invocation was refused before the function ran.
    Throttled,
}

/// One line. Its fields and their order are those of the file.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Start {
        settings: &'a EventSourceSettings,
        shards: Vec<&'a str>,
    },
    Invoke {
        at_ms: u64,
        shard: &'a str,
        lane: usize,
        request_id: &'a str,
        attempt: u32,
        sequence_numbers: Vec<&'a str>,
    },
    Outcome {
        at_ms: u64,
        request_id: &'a str,
        result: Ending,
        checkpoint: Option<&'a str>,
        duration_ms: u64,
    },
    Discard(&'a DiscardBody),
    Checkpoint {
        at_ms: u64,
        shard: &'a str,
        sequence_number: &'a str,
    },
}

impl Journal {
    /// A journal that nobody asked for.
    pub(crate) fn off() -> Journal {
        Journal { file: None }
    }

    /// A journal in a new file; one that is there is replaced.
    ///
    /// # Errors
    /// Bad usage when the file cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Journal> {
        let file = File::create(path).map_err(|error| {
            Error::usage(format!("creating the journal {}", path.display())).because(error)
        })?;
        Ok(Journal { file: Some((path.to_owned(), Mutex::new(file))) })
    }

    /// The run begins, with these settings of the mapping, on these shards; more may come when a
    /// stream is resharded.
    ///
    /// # Errors
    /// Here as below: when the file cannot be written.
    pub(crate) fn start(&self, settings: &EventSourceSettings, shards: &[ShardId]) -> Result<()> {
        self.write(|| Event::Start {
            settings,
            shards: shards.iter().map(ShardId::as_str).collect(),
        })
    }

    /// A batch is sent. `attempt` is counted from 1, since the checkpoint last moved.
    pub(crate) fn invoke(
        &self,
        at_ms: u64,
        shard: &ShardId,
        lane: usize,
        request_id: &str,
        attempt: u32,
        batch: &Batch,
    ) -> Result<()> {
        self.write(|| Event::Invoke {
            at_ms,
            shard: shard.as_str(),
            lane,
            request_id,
            attempt,
            sequence_numbers: batch
                .records()
                .iter()
                .map(|record| record.sequence_number.as_str())
                .collect(),
        })
    }

    /// The invocation ended. `checkpoint` is the last record of its batch that is done, if any is.
    pub(crate) fn outcome(
        &self,
        at_ms: u64,
        request_id: &str,
        result: Ending,
        checkpoint: Option<&SequenceNumber>,
        duration_ms: u64,
    ) -> Result<()> {
        self.write(|| Event::Outcome {
            at_ms,
            request_id,
            result,
            checkpoint: checkpoint.map(SequenceNumber::as_str),
            duration_ms,
        })
    }

    /// Records were given up.
    pub(crate) fn discard(&self, body: &DiscardBody) -> Result<()> {
        self.write(|| Event::Discard(body))
    }

    /// All records of the shard up to this one are done or given up.
    pub(crate) fn checkpoint(
        &self,
        at_ms: u64,
        shard: &ShardId,
        sequence_number: &SequenceNumber,
    ) -> Result<()> {
        self.write(|| Event::Checkpoint {
            at_ms,
            shard: shard.as_str(),
            sequence_number: sequence_number.as_str(),
        })
    }

    /// Writes the event, which is not even made where there is no journal.
    fn write<'a>(&self, event: impl FnOnce() -> Event<'a>) -> Result<()> {
        let Some((path, file)) = &self.file else {
            return Ok(());
        };
        let line = serde_json::to_vec(&event()).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
        });
        line.map_err(|error| {
            Error::failed(format!("writing the journal {}", path.display())).because(error)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::local::destination::testing::body;
    use crate::local::record::testing::batch;

    #[test]
    fn every_event_is_a_line_of_its_own_with_its_fields_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.ndjson");
        let journal = Journal::create(&path).unwrap();
        let shard = ShardId::numbered(3);
        let settings = serde_json::from_value(serde_json::json!({ "batch-size": 2 })).unwrap();
        journal.start(&settings, std::slice::from_ref(&shard)).unwrap();
        journal.invoke(1, &shard, 0, "a-b", 2, &batch([7, 8])).unwrap();
        journal.outcome(5, "a-b", Ending::Partial, Some(&SequenceNumber::new("7")), 4).unwrap();
        journal.outcome(6, "c-d", Ending::Timeout, None, 1000).unwrap();
        journal.discard(&body()).unwrap();
        journal.checkpoint(7, &shard, &SequenceNumber::new("8")).unwrap();
        let lines = std::fs::read_to_string(&path).unwrap();
        let discard =
            format!("{{\"event\":\"discard\",{}", &serde_json::to_string(&body()).unwrap()[1..]);
        let expected = [
            r#"{"event":"start","settings":{"batch-size":2},"shards":["shardId-000000000003"]}"#,
            concat!(
                r#"{"event":"invoke","at_ms":1,"shard":"shardId-000000000003","lane":0,"request_id":"a-b","#,
                r#""attempt":2,"sequence_numbers":["7","8"]}"#
            ),
            r#"{"event":"outcome","at_ms":5,"request_id":"a-b","result":"partial","checkpoint":"7","duration_ms":4}"#,
            concat!(
                r#"{"event":"outcome","at_ms":6,"request_id":"c-d","result":"timeout","checkpoint":null,"#,
                r#""duration_ms":1000}"#
            ),
            &discard,
            r#"{"event":"checkpoint","at_ms":7,"shard":"shardId-000000000003","sequence_number":"8"}"#,
        ];
        assert_eq!(lines, expected.map(|line| format!("{line}\n")).concat());
    }

    #[test]
    fn a_journal_that_cannot_be_written_is_named() {
        assert_eq!(Journal::create(Path::new("/nowhere/journal")).unwrap_err().exit_code(), 2);
        let full = Journal::create(Path::new("/dev/full")).unwrap();
        let error = full.discard(&body()).unwrap_err();
        assert_eq!(error.to_string(), "writing the journal /dev/full");
        Journal::off().discard(&body()).unwrap();
    }
}
