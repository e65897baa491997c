//! Drives functions through what docs/event-source-mapping.md says of an event source mapping and
//! `local.rs` does not hold against it: how a failed batch is split, filters, tumbling windows, and
//! what attempts count. Each is a process of its own.

#![allow(clippy::unwrap_used)]

#[path = "support/function.rs"]
mod function;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::function::{Ended, Local, SUCCEED};

/// Logs what an event says of its window, and counts records in the state.
const WINDOW: &str = "
def handle(event, number):
    window = {key: event[key] for key in event if key != 'Records'}
    with open(os.environ['LOG'] + '.windows', 'a') as file:
        file.write(json.dumps([len(event['Records']), window]) + '\\n')
    state = event['state']
    state['count'] = state.get('count', 0) + len(event['Records'])
";

fn windows(local: &Local) -> Vec<(u64, Value)> {
    let log = std::fs::read_to_string(local.folder.path().join("log.windows")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs it with a journal, and reads that.
fn journaled(local: Local) -> (Vec<Value>, Ended) {
    let path = local.folder.path().join("journal.ndjson");
    let local = local.with(&["--journal", "journal.ndjson"]);
    let ended = local.run();
    let journal = std::fs::read_to_string(path).unwrap();
    (journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), ended)
}

fn of_kind<'a>(journal: &'a [Value], kind: &str) -> Vec<&'a Value> {
    journal.iter().filter(|event| event["event"] == kind).collect()
}

/// Recorded: "batch size 3, three retries, six records, the last always fails: AWS delivered the
/// last record 5 times (once inside its batch of three, then 4 alone) and reported
/// `approximateInvokeCount: 4`, `batchSize: 1`"; `functionError` is `null` for reported failures.
#[test]
fn the_recorded_case_comes_out_as_recorded() {
    let local = Local::function("def handle(event, number): return failures(event, '6')")
        .records(&["1", "2", "3", "4", "5", "6"])
        .with(&["--batch-size", "3", "--maximum-retry-attempts", "3"]);
    let (journal, ended) = journaled(local);
    assert_eq!(
        ended.invocations,
        [vec!["1", "2", "3"], vec!["4", "5", "6"], vec!["6"], vec!["6"], vec!["6"], vec!["6"]]
    );
    let [discard] = of_kind(&journal, "discard").try_into().unwrap();
    assert_eq!(discard["requestContext"]["approximateInvokeCount"], 4);
    assert_eq!(discard["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(discard["responseContext"]["functionError"], Value::Null);
    assert_eq!(discard["KinesisBatchInfo"]["batchSize"], 1);
    let last = of_kind(&journal, "invoke").pop().unwrap();
    assert_eq!(discard["requestContext"]["requestId"], last["request_id"], "the last invocation's");
    assert_eq!(discard["KinesisBatchInfo"]["startSequenceNumber"], last["sequence_numbers"][0]);
    let attempts: Vec<&Value> =
        of_kind(&journal, "invoke").into_iter().map(|invoke| &invoke["attempt"]).collect();
    assert_eq!(attempts, [1, 1, 1, 2, 3, 4]);
}

/// Recorded: `"Unhandled"` for errors; "a failed batch blocks its lane", and what is given up lets
/// it go on.
#[test]
fn a_batch_that_brings_an_error_for_good_is_discarded_as_unhandled() {
    let source = "
def handle(event, number):
    if 'b' in data(event):
        raise ValueError('b')
    return 'null'";
    let local = Local::function(source).records(&["a", "b", "c"]);
    let (journal, ended) =
        journaled(local.with(&["--batch-size", "1", "--maximum-retry-attempts", "1"]));
    assert_eq!(ended.invocations, [["a"], ["b"], ["b"], ["c"]]);
    let [discard] = of_kind(&journal, "discard").try_into().unwrap();
    assert_eq!(discard["responseContext"]["functionError"], "Unhandled");
    assert_eq!(discard["requestContext"]["approximateInvokeCount"], 2);
    let results: Vec<&Value> =
        of_kind(&journal, "outcome").into_iter().map(|outcome| &outcome["result"]).collect();
    assert_eq!(results, ["success", "failed", "failed", "success"]);
    assert_eq!(of_kind(&journal, "checkpoint").len(), 3);
}

/// "One shard per invocation; never records of two shards."
#[test]
fn an_invocation_holds_records_of_one_shard() {
    let source = "
def handle(event, number):
    print('shards', json.dumps([record['eventID'].split(':')[0] for record in event['Records']]), flush=True)
    return 'null'";
    let records: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let ended = Local::function(source).records(&records).with(&["--shards", "3"]).run();
    let batches = ended.stderr.lines().filter_map(|line| line.strip_prefix("shards "));
    let batches: Vec<BTreeSet<String>> =
        batches.map(|batch| serde_json::from_str(batch).unwrap()).collect();
    assert!(batches.len() >= 3 && batches.iter().all(|shards| shards.len() == 1), "{batches:?}");
    assert_eq!(batches.into_iter().flatten().collect::<BTreeSet<String>>().len(), 3);
}

/// "Throttles do not count", and whatever strikes, nothing is lost while there are retries.
#[test]
fn what_is_throttled_counts_as_no_attempt() {
    let local = Local::function(SUCCEED).records(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let (journal, ended) = journaled(local.with(&[
        "--batch-size",
        "1",
        "--maximum-retry-attempts",
        "0",
        "--chaos",
        "throttle=0.5",
        "--seed",
        "7",
    ]));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations.len(), 8, "what is throttled never reaches the function");
    let mut results: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in of_kind(&journal, "outcome") {
        *results.entry(outcome["result"].as_str().unwrap()).or_default() += 1;
    }
    assert!(
        results["throttled"] > 0 && results["success"] == 8 && results.len() == 2,
        "{results:?}"
    );
    assert!(of_kind(&journal, "invoke").iter().all(|invoke| invoke["attempt"] == 1));
}

/// "A failed batch of more than one is split in two, halves retried in order, splitting does not
/// consume retries."
#[test]
fn a_failed_batch_is_split_until_what_fails_is_alone() {
    let source = "
def handle(event, number):
    if 'c' in data(event):
        raise ValueError('c')
    return 'null'";
    let arguments = ["--bisect-batch-on-function-error", "--maximum-retry-attempts", "0"];
    let (summary, ended) =
        Local::function(source).records(&["a", "b", "c", "d"]).with(&arguments).summary();
    assert_eq!(
        ended.invocations,
        [vec!["a", "b", "c", "d"], vec!["a", "b"], vec!["c", "d"], vec!["c"], vec!["d"]]
    );
    assert_eq!(
        (&summary["succeeded"], &summary["discarded"]),
        (&json!(3), &json!(1)),
        "{ended:#?}"
    );
}

/// "With reported failures the split is at the checkpoint."
#[test]
fn a_reported_failure_splits_the_batch_where_it_is() {
    let source = "
def handle(event, number):
    return failures(event, 'c') if number == 1 else 'null'";
    let arguments = ["--bisect-batch-on-function-error", "--maximum-retry-attempts", "0"];
    let (summary, ended) =
        Local::function(source).records(&["a", "b", "c", "d"]).with(&arguments).summary();
    assert_eq!(ended.invocations, [vec!["a", "b", "c", "d"], vec!["c", "d"]]);
    assert_eq!(summary["succeeded"], 4, "{ended:#?}");
}

/// "Attempts start anew when the checkpoint moves", recorded for three retries; for none it is
/// inferred.
#[test]
fn without_retries_an_answer_that_moves_the_checkpoint_can_mean_both() {
    let source = "
def handle(event, number):
    return failures(event, 'b') if number == 1 else 'null'";
    let local = || {
        Local::function(source).records(&["a", "b", "c"]).with(&["--maximum-retry-attempts", "0"])
    };
    let (summary, ended) = local().summary();
    assert_eq!(ended.invocations, [vec!["a", "b", "c"], vec!["b", "c"]]);
    assert_eq!(summary["succeeded"], 3, "{ended:#?}");
    let (summary, ended) = local().with(&["--reset-attempts", "false"]).summary();
    assert_eq!(ended.invocations, [["a", "b", "c"]]);
    assert_eq!(
        (&summary["succeeded"], &summary["discarded"]),
        (&json!(1), &json!(2)),
        "{ended:#?}"
    );
}

/// Not in the table: what is no JSON fails the whole batch, too.
#[test]
fn an_answer_that_is_no_json_fails_the_whole_batch() {
    let source = "
def handle(event, number):
    return 'done' if number == 1 else 'null'";
    let (summary, ended) = Local::function(source).records(&["a", "b"]).summary();
    assert_eq!(ended.invocations, [["a", "b"], ["a", "b"]]);
    assert_eq!(summary["succeeded"], 2, "{ended:#?}");
    assert!(ended.stderr.contains("the answer is not JSON"), "{}", ended.stderr);
}

/// "Checkpoint = the lowest sequence number named": whatever the order in which they are named.
#[test]
fn the_lowest_of_the_records_named_is_the_checkpoint() {
    let source = "
def handle(event, number):
    if number > 1:
        return 'null'
    named = json.loads(failures(event, 'b', 'd'))
    named['batchItemFailures'].reverse()
    return json.dumps(named)";
    let (_, ended) = Local::function(source).records(&["a", "b", "c", "d"]).summary();
    assert_eq!(ended.invocations, [vec!["a", "b", "c", "d"], vec!["b", "c", "d"]]);
}

/// "What does not match is passed over and counts as done. Pattern on JSON and data that is not
/// JSON: dropped."
#[test]
fn what_no_filter_matches_is_passed_over_and_counts_as_done() {
    let records = [
        r#"{"mag":4.5}"#,
        r#"{"mag":1}"#,
        "no JSON",
        r#"{"net":"us"}"#,
        r#"{"mag":[1,6]}"#,
        r#"{"mag":2}"#,
    ];
    let patterns = [
        "--filter-pattern",
        r#"{"data":{"mag":[{"numeric":[">=",4.5]}]}}"#,
        "--filter-pattern",
        r#"{"data":{"net":[{"prefix":"u"}]}}"#,
    ];
    let (summary, ended) = Local::function(SUCCEED).records(&records).with(&patterns).summary();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations, [[records[0], records[3], records[4]]]);
    assert_eq!(
        (&summary["records"], &summary["succeeded"], &summary["filtered"]),
        (&json!(6), &json!(3), &json!(3))
    );
    assert_eq!(summary["shards"][0]["filtered"], 3);
    let checkpoint = summary["shards"][0]["checkpoint"].as_str().unwrap();
    assert!(checkpoint.ends_with('6'), "the last record is done too: {checkpoint}");
    let text = Local::function(SUCCEED).records(&records).with(&patterns).run().stdout;
    assert!(text.contains("3 records filtered"), "{text}");
}

#[test]
fn more_records_than_fit_are_passed_over_without_an_end() {
    let records: Vec<String> = (0..5_000).map(|number| format!("{{\"n\":{number}}}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let arguments = ["--batch-size", "1", "--filter-pattern", r#"{"data":{"n":[0,4999]}}"#];
    let (summary, ended) = Local::function(SUCCEED).records(&records).with(&arguments).summary();
    assert_eq!(
        (&summary["succeeded"], &summary["filtered"]),
        (&json!(2), &json!(4_998)),
        "{ended:#?}"
    );
}

#[test]
fn a_filter_that_is_no_pattern_is_bad_usage() {
    for (pattern, expected) in [
        ("mag > 4", "must be a JSON object"),
        (
            r#"{"data":{"mag":4}}"#,
            "`data.mag` is a number; it must be a list of values or an object",
        ),
        (r#"{"data":{"mag":[{"above":4}]}}"#, "`above` is no operator"),
    ] {
        let ended =
            Local::function(SUCCEED).records(&["a"]).with(&["--filter-pattern", pattern]).run();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(
            ended.stderr.contains(expected) && ended.stderr.contains(pattern),
            "{}",
            ended.stderr
        );
        assert!(ended.invocations.is_empty());
    }
}

/// "The event adds window{start,end}, state, shardId, eventSourceARN, isFinalInvokeForWindow,
/// isWindowTerminatedEarly."
#[test]
fn a_window_hands_its_state_from_batch_to_batch_and_ends_with_a_final_event() {
    let source = format!("{WINDOW}\n    return json.dumps({{'state': state}})");
    let arguments =
        ["--tumbling-window-in-seconds", "900", "--batch-size", "2", "--output", "json"];
    let local = Local::function(&source).records(&["a", "b", "c"]).with(&arguments);
    let ended = local.run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let windows = windows(&local);
    let records: Vec<u64> = windows.iter().map(|(records, _)| *records).collect();
    let states: Vec<&Value> = windows.iter().map(|(_, window)| &window["state"]).collect();
    assert_eq!(records, [2, 1, 0]);
    assert_eq!(states, [&json!({}), &json!({ "count": 2 }), &json!({ "count": 3 })]);
    let (_, last) = windows.last().unwrap();
    let keys: Vec<&String> = last.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "window",
            "state",
            "shardId",
            "eventSourceARN",
            "isFinalInvokeForWindow",
            "isWindowTerminatedEarly"
        ]
    );
    assert_eq!(last["shardId"], "shardId-000000000000");
    assert_eq!(
        (&last["isFinalInvokeForWindow"], &last["isWindowTerminatedEarly"]),
        (&json!(true), &json!(false))
    );
    let start = last["window"]["start"].as_str().unwrap();
    assert!(
        ["00:00Z", "15:00Z", "30:00Z", "45:00Z"].iter().any(|quarter| start.ends_with(quarter)),
        "{start}"
    );
}

/// "The answer must hold `state` (else it is a failure) and may hold `batchItemFailures`."
#[test]
fn an_answer_without_a_state_fails_a_window_and_one_with_failures_keeps_it() {
    let source = format!(
        "{WINDOW}
    if number == 1:
        return json.dumps({{'batchItemFailures': []}})
    answer = {{'state': state}}
    if number == 2:
        answer['state'] = {{'count': 1}}
        answer.update(json.loads(failures(event, 'b')))
    return json.dumps(answer)"
    );
    let local = Local::function(&source)
        .records(&["a", "b", "c"])
        .with(&["--tumbling-window-in-seconds", "900"]);
    let ended = local.run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(
        ended.invocations,
        [vec!["a", "b", "c"], vec!["a", "b", "c"], vec!["b", "c"], vec![]]
    );
    let states: Vec<Value> =
        windows(&local).into_iter().map(|(_, mut window)| window["state"].take()).collect();
    assert_eq!(states, [json!({}), json!({}), json!({ "count": 1 }), json!({ "count": 3 })]);
    assert!(ended.stderr.contains("holds no state"), "{}", ended.stderr);
}

/// "State over 1 MB ends the window early."
#[test]
fn a_state_over_a_megabyte_ends_its_window_early_and_the_next_batch_begins_afresh() {
    let source = format!(
        "{WINDOW}
    if number == 1:
        state['large'] = 'x' * (1 << 20)
    return json.dumps({{'state': {{}} if event['isFinalInvokeForWindow'] else state}})"
    );
    let arguments = ["--tumbling-window-in-seconds", "900", "--batch-size", "1"];
    let local = Local::function(&source).records(&["a", "b"]).with(&arguments);
    let ended = local.run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let told: Vec<(u64, bool, bool)> = windows(&local)
        .iter()
        .map(|(records, window)| {
            let is = |key: &str| window[key].as_bool().unwrap();
            (*records, is("isFinalInvokeForWindow"), is("isWindowTerminatedEarly"))
        })
        .collect();
    assert_eq!(told, [(1, false, false), (0, true, true), (1, false, false), (0, true, false)]);
    assert_eq!(windows(&local)[2].1["state"], json!({}));
}

/// "A final invoke that fails blocks the shard."
#[test]
fn a_final_event_that_fails_comes_again_however_few_the_retries() {
    let source = format!(
        "{WINDOW}
    if event['isFinalInvokeForWindow'] and number < 5:
        raise ValueError('not yet')
    return json.dumps({{'state': state}})"
    );
    let arguments = ["--tumbling-window-in-seconds", "900", "--maximum-retry-attempts", "0"];
    let ended = Local::function(&source).records(&["a"]).with(&arguments).run();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.invocations, [vec!["a"], vec![], vec![], vec![], vec![]]);
}
