//! What a function's answer means for the records it was sent. This is the one place that knows it;
//! it does not know what is done about it (`poller.rs`) nor how the answer came (`runtime_api.rs`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::record::Batch;
use super::window::State;

/// What an answer says about its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Every record is done.
    AllDone,
    /// The records before this place in the batch are done; it and all after it have to come again.
    FailedFrom(usize),
    /// The answer names records in a way Lambda refuses, so the whole batch has to come again.
    Refused(String),
}

impl Answer {
    /// Reads the body a function answered with.
    ///
    /// `report_batch_item_failures` is the mapping's
    /// `FunctionResponseTypes=["ReportBatchItemFailures"]`: without it Lambda does not look at the
    /// answer, and a reported failure is lost.
    ///
    /// The rules are those of "Reporting batch item failures" in the Lambda guide, with the cases
    /// it is silent about as recorded on AWS. Not documented for Kinesis, so taken from the guide's
    /// page on SQS: a body that is not JSON, or not of this shape, fails the whole batch.
    pub(crate) fn read(body: &[u8], batch: &Batch, report_batch_item_failures: bool) -> Answer {
        if !report_batch_item_failures || body.trim_ascii().is_empty() {
            return Answer::AllDone;
        }
        let answer: Value = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(error) => return Answer::Refused(format!("the answer is not JSON: {error}")),
        };
        match answer {
            Value::Null => Answer::AllDone,
            Value::String(text) if text.is_empty() => Answer::AllDone,
            Value::Array(items) if items.is_empty() => Answer::AllDone,
            Value::Object(mut fields) => match fields.remove("batchItemFailures") {
                None | Some(Value::Null) => Answer::AllDone,
                Some(Value::Array(failures)) => lowest_failure(&failures, batch),
                Some(other) => {
                    Answer::Refused(format!("batchItemFailures is not a list: {}", excerpt(&other)))
                }
            },
            other => Answer::Refused(format!(
                "the answer is not an object with batchItemFailures: {}",
                excerpt(&other)
            )),
        }
    }
}

/// Reads the body a function answered an event of a tumbling window with: the state besides what it
/// says of the batch.
///
/// "If the response does not contain a state property, Lambda considers this a failed invocation":
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-windows.html>. A `null` state is
/// taken for none.
pub(crate) fn read_windowed(
    body: &[u8],
    batch: &Batch,
    report_batch_item_failures: bool,
) -> (Answer, Option<State>) {
    #[derive(Deserialize)]
    struct Windowed<'a> {
        #[serde(borrow)]
        state: Option<&'a RawValue>,
    }
    match serde_json::from_slice::<Windowed<'_>>(body) {
        Ok(Windowed { state: Some(state) }) => {
            (Answer::read(body, batch, report_batch_item_failures), Some(State::new(state.get())))
        }
        _ => (Answer::Refused("the answer to a window's event holds no state".to_owned()), None),
    }
}

/// The checkpoint is the lowest sequence number named; one item that names no record of the batch
/// spoils the answer.
fn lowest_failure(failures: &[Value], batch: &Batch) -> Answer {
    let mut lowest = None;
    for failure in failures {
        let named = failure.get("itemIdentifier").and_then(Value::as_str).unwrap_or_default();
        let Some(position) = batch.position(named) else {
            return Answer::Refused(format!(
                "an item of batchItemFailures names no record of the batch: {}",
                excerpt(failure)
            ));
        };
        lowest = Some(lowest.map_or(position, |lowest: usize| lowest.min(position)));
    }
    lowest.map_or(Answer::AllDone, Answer::FailedFrom)
}

/// Enough of a value to recognise it by.
fn excerpt(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::testing::batch;

    fn read(body: &str) -> Answer {
        Answer::read(body.as_bytes(), &batch([8, 9, 10, 11]), true)
    }

    fn assert_refused(body: &str) {
        assert!(matches!(read(body), Answer::Refused(_)), "{body} was read as {:?}", read(body));
    }

    #[test]
    fn answers_that_say_all_is_done() {
        for body in [
            "",
            "null",
            r#""""#,
            "[]",
            "{}",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
        ] {
            assert_eq!(read(body), Answer::AllDone, "{body}");
        }
        assert_eq!(read(r#"{"statusCode":200}"#), Answer::AllDone);
    }

    #[test]
    fn the_lowest_sequence_number_named_is_the_checkpoint() {
        assert_eq!(
            read(r#"{"batchItemFailures":[{"itemIdentifier":"10"}]}"#),
            Answer::FailedFrom(2)
        );
        let out_of_order = r#"{"batchItemFailures":[{"itemIdentifier":"11"},{"itemIdentifier":"9"},{"itemIdentifier":"10"}]}"#;
        assert_eq!(
            read(out_of_order),
            Answer::FailedFrom(1),
            "9 is lower than 10, though not as text"
        );
    }

    #[test]
    fn an_empty_identifier_fails_the_whole_batch() {
        assert_refused(r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#);
    }

    #[test]
    fn a_null_identifier_fails_the_whole_batch() {
        assert_refused(r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#);
    }

    #[test]
    fn a_missing_identifier_fails_the_whole_batch() {
        assert_refused(r#"{"batchItemFailures":[{}]}"#);
    }

    #[test]
    fn an_identifier_that_is_no_string_fails_the_whole_batch() {
        assert_refused(r#"{"batchItemFailures":[{"itemIdentifier":10}]}"#);
    }

    #[test]
    fn another_key_than_item_identifier_fails_the_whole_batch() {
        assert_refused(r#"{"batchItemFailures":[{"foo":"10"}]}"#);
    }

    #[test]
    fn an_identifier_of_no_record_in_the_batch_fails_the_whole_batch_even_beside_a_good_one() {
        assert_refused(r#"{"batchItemFailures":[{"itemIdentifier":"12"}]}"#);
        assert_refused(
            r#"{"batchItemFailures":[{"itemIdentifier":"10"},{"itemIdentifier":"12"}]}"#,
        );
    }

    #[test]
    fn an_answer_of_another_shape_fails_the_whole_batch() {
        for body in [
            "nonsense",
            "{",
            "1",
            r#""done""#,
            "[1]",
            r#"{"batchItemFailures":"10"}"#,
            r#"{"batchItemFailures":["10"]}"#,
        ] {
            assert_refused(body);
        }
    }

    #[test]
    fn an_answer_to_a_windows_event_must_hold_a_state() {
        let read = |body: &str| read_windowed(body.as_bytes(), &batch([8, 9]), true);
        for body in
            ["", "null", "{}", "[]", r#"{"batchItemFailures":[]}"#, r#"{"state":null}"#, "nonsense"]
        {
            let (answer, state) = read(body);
            assert!(matches!(answer, Answer::Refused(_)) && state.is_none(), "{body}");
        }
        let state = Some(State::new(r#"{"a": 1}"#));
        assert_eq!(read(r#"{"state":{"a": 1}}"#), (Answer::AllDone, state.clone()));
        let partial = r#"{"batchItemFailures":[{"itemIdentifier":"9"}],"state":{"a": 1}}"#;
        assert_eq!(read(partial), (Answer::FailedFrom(1), state));
    }

    #[test]
    fn without_reported_failures_the_answer_is_not_looked_at() {
        let body = br#"{"batchItemFailures":[{"itemIdentifier":"10"}]}"#;
        assert_eq!(Answer::read(body, &batch([10]), false), Answer::AllDone);
    }
}
