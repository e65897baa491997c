//! Log objects in an S3 of the test's own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use streambot_runtime::testing::{Event, records};

use crate::function::{Ended, run};
use crate::server::{Request, Response, serve};

/// What S3 got: key, lines, and the header `authorization`.
type Object = (String, String, String);

#[derive(Debug, Default)]
struct Bucket {
    objects: Mutex<Vec<Object>>,
    /// Requests are accepted and never get a response.
    hangs: AtomicBool,
    /// Only the first request fails.
    fails_once: AtomicBool,
    /// The header `authorization` of requests for a container's credentials.
    asked: Mutex<Vec<String>>,
}

impl Bucket {
    fn respond(&self, request: &Request) -> Response {
        let authorization = request.header("authorization").unwrap_or_default().to_owned();
        if request.path == "/credentials" {
            self.asked.lock().unwrap().push(authorization);
            let credentials = json!({ "AccessKeyId": "CONTAINERKEY", "SecretAccessKey": "secret", "Token": "token",
                "Expiration": "2099-01-01T00:00:00Z" });
            return Response::new(200, credentials.to_string());
        }
        if self.hangs.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(60));
        }
        if self.fails_once.swap(false, Ordering::Relaxed) {
            return Response::new(403, "<Error><Code>AccessDenied</Code></Error>");
        }
        let key = request.path.trim_start_matches("/logs/").to_owned();
        self.objects.lock().unwrap().push((key, request.body.clone(), authorization));
        Response::new(200, "")
    }

    fn serve(self: &Arc<Self>) -> String {
        let bucket = Arc::clone(self);
        format!("http://{}", serve(move |request| bucket.respond(&request)))
    }
}

const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "ENVIRONMENTKEY"), ("AWS_SECRET_ACCESS_KEY", "secret")];

fn run_with(bucket: &Arc<Bucket>, variables: &[(&str, &str)], events: &[String]) -> Ended {
    let url = bucket.serve();
    let own = [("LogBucket", "logs"), ("LogPrefix", "live"), ("AWS_ENDPOINT_URL_S3", &url)];
    run(&[variables, &own].concat(), events)
}

fn event(command: &str) -> String {
    records([command]).to_json()
}

#[test]
fn each_invocation_has_an_object_with_its_own_lines() {
    let bucket = Arc::new(Bucket::default());
    let ended = run_with(&bucket, &KEYS, &[event("info"), event("print second")]);
    let objects = bucket.objects.lock().unwrap();
    let number = records(["x"]).sequence_number(0);
    let key = |request: usize| {
        format!("live/quakes-test/shardId-000000000000/{number}-request-{request}.log")
    };
    assert_eq!(
        objects.iter().map(|(key, ..)| key.clone()).collect::<Vec<_>>(),
        [key(1), key(2)],
        "{}",
        ended.stdout
    );
    assert!(
        objects[0].1.contains("an info line") && !objects[0].1.contains("second"),
        "{}",
        objects[0].1
    );
    assert!(
        objects[1].1.contains("second") && !objects[1].1.contains("an info line"),
        "{}",
        objects[1].1
    );
    assert!(objects[0].2.contains("Credential=ENVIRONMENTKEY/"), "{}", objects[0].2);
}

#[test]
fn lines_of_a_failed_upload_go_under_their_own_key_with_the_next() {
    let bucket = Arc::new(Bucket::default());
    bucket.fails_once.store(true, Ordering::Relaxed);
    let ended = run_with(&bucket, &KEYS, &[event("info"), event("print second")]);
    let objects = bucket.objects.lock().unwrap();
    let of = |request: &str| {
        objects.iter().find(|(key, ..)| key.ends_with(request)).map(|(_, lines, _)| lines)
    };
    assert!(
        of("request-1.log").is_some_and(|lines| lines.contains("an info line")),
        "{}",
        ended.stdout
    );
    assert!(of("request-2.log").is_some_and(|lines| lines.contains("second")), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("AccessDenied") && ended.stdout.contains("LogUploadFailures"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_bucket_that_accepts_and_never_responds_does_not_delay_the_next_event_beyond_the_cap() {
    let bucket = Arc::new(Bucket::default());
    bucket.hangs.store(true, Ordering::Relaxed);
    let events: Vec<_> = (0..6).map(|_| event("info")).collect();
    let variables = [KEYS[0], KEYS[1], ("STREAMBOT_LOG_UPLOAD_TIMEOUT_MS", "300")];
    let ended = run_with(&bucket, &variables, &events);
    assert_eq!(ended.delays.len(), 6);
    let slack = Duration::from_millis(250);
    for (index, delay) in ended.delays.iter().enumerate() {
        let expected = if index < 3 { Duration::from_millis(300) } else { Duration::ZERO };
        assert!(*delay <= expected + slack, "{index}: {:?}", ended.delays);
    }
    assert_eq!(
        ended.stdout.matches("\"LogUploadFailures\",").count(),
        3,
        "then it pauses: {}",
        ended.stdout
    );
}

#[test]
fn the_default_cap_is_one_second() {
    let bucket = Arc::new(Bucket::default());
    bucket.hangs.store(true, Ordering::Relaxed);
    let ended = run_with(&bucket, &KEYS, &[event("info")]);
    let delay = ended.delays[0].as_millis();
    assert!((700..1_300).contains(&delay), "{delay} ms");
}

#[test]
fn the_last_event_of_a_window_has_its_object_under_its_shard() {
    let bucket = Arc::new(Bucket::default());
    let event = Event::new().shard_id("shardId-000000000007");
    let event =
        event.window("2026-11-24T17:00:00Z", "2026-11-24T17:01:00Z", json!(3)).final_invoke();
    let ended = run_with(&bucket, &[KEYS[0], KEYS[1], ("SHAPE", "window")], &[event.to_json()]);
    let objects = bucket.objects.lock().unwrap();
    assert_eq!(objects.len(), 1, "{}", ended.stdout);
    assert_eq!(objects[0].0, "live/quakes-test/shardId-000000000007/request-1.log");
}

#[test]
fn credentials_of_a_containers_endpoint_are_used() {
    let bucket = Arc::new(Bucket::default());
    let url = format!("{}/credentials", bucket.serve());
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-1"),
    ];
    let ended = run_with(&bucket, &variables, &[event("info"), event("info")]);
    let objects = bucket.objects.lock().unwrap();
    assert_eq!(objects.len(), 2, "{}", ended.stdout);
    assert!(
        objects
            .iter()
            .all(|(.., authorization)| authorization.contains("Credential=CONTAINERKEY/eu-west-1")
                || authorization.contains("Credential=CONTAINERKEY/")),
        "{objects:?}"
    );
    assert_eq!(*bucket.asked.lock().unwrap(), ["token-1"], "asked once");
}
