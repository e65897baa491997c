use std::cell::RefCell;

use bytes::Bytes;

use super::*;
use crate::Context;
use crate::scope;

const CAP: Duration = Duration::from_secs(1);
const AMPLE: Duration = Duration::from_secs(30);

fn object(number: usize) -> Object {
    Object::new(
        format!("key-{number}"),
        format!("id-{number}"),
        Bytes::from(format!("lines of {number}\n")),
    )
}

/// What a bucket holds, as key and lines.
type Bucket = RefCell<Vec<(String, String)>>;

async fn accept(bucket: &Bucket, object: &Object) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    let lines = String::from_utf8(object.lines.to_vec())?;
    bucket.borrow_mut().push((object.key.clone(), lines));
    Ok(())
}

async fn refuse(_object: &Object) -> Result<(), Error> {
    Err("AccessDenied".into())
}

async fn hang(_object: &Object) -> Result<(), Error> {
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_never_responds_takes_no_more_than_the_cap() {
    let queue = Queue::default();
    for number in 0..10 {
        let started = Instant::now();
        queue.upload(object(number), CAP, AMPLE, hang).await;
        assert!(started.elapsed() <= CAP, "{:?}", started.elapsed());
        assert_eq!(started.elapsed() == CAP, number < 3, "after three failures nothing is tried");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_an_upload_below_the_cap() {
    let queue = Queue::default();
    let started = Instant::now();
    let failures = queue.upload(object(0), CAP, Duration::from_millis(400), hang).await;
    assert_eq!((started.elapsed(), failures.len()), (Duration::from_millis(400), 1));

    let started = Instant::now();
    let failures = queue.upload(object(1), CAP, Duration::from_millis(100), hang).await;
    assert_eq!((started.elapsed(), failures.len()), (Duration::ZERO, 0), "too little time to try");
    assert_eq!(queue.state().kept.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_failed_upload_go_under_their_own_key_with_the_next() {
    let (queue, bucket) = (Queue::default(), Bucket::default());
    for number in 0..2 {
        let failures = queue.upload(object(number), CAP, AMPLE, refuse).await;
        let [Failure::Upload { object, error, kept, pause }] = &*failures else {
            panic!("{failures:?}")
        };
        assert_eq!(
            (&*object.key, *kept, *pause),
            ("key-0", number + 1, None),
            "the oldest is tried first"
        );
        assert_eq!(error.to_string(), "AccessDenied");
    }
    let failures = queue
        .upload(object(2), CAP, AMPLE, async |object: &Object| accept(&bucket, object).await)
        .await;
    assert!(failures.is_empty());
    let expected =
        [0, 1, 2].map(|number| (format!("key-{number}"), format!("lines of {number}\n")));
    assert_eq!(*bucket.borrow(), expected);
    assert_eq!(queue.state().kept.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn kept_lines_share_the_cap_and_the_rest_waits() {
    let (queue, bucket) = (Queue::default(), Bucket::default());
    for number in 0..9 {
        queue.state().kept.add(object(number));
    }
    let slow = async |object: &Object| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        accept(&bucket, object).await
    };
    let started = Instant::now();
    let failures = queue.upload(object(9), CAP, AMPLE, slow).await;
    assert!(failures.is_empty() && started.elapsed() <= CAP, "{:?}", started.elapsed());
    assert_eq!((bucket.borrow().len(), queue.state().kept.len()), (4, 6));
}

#[tokio::test(start_paused = true)]
async fn uploads_pause_after_three_failures_and_one_trial_ends_the_pause() {
    let (queue, bucket) = (Queue::default(), Bucket::default());
    let pauses = async |number| {
        let failures = queue.upload(object(number), CAP, AMPLE, refuse).await;
        failures
            .iter()
            .map(|failure| matches!(failure, Failure::Upload { pause: Some(_), .. }))
            .collect::<Vec<_>>()
    };
    assert_eq!([pauses(0).await, pauses(1).await, pauses(2).await], [[false], [false], [true]]);
    assert!(pauses(3).await.is_empty(), "nothing is tried");
    tokio::time::advance(Duration::from_secs(10)).await;
    queue
        .upload(object(4), CAP, AMPLE, async |object: &Object| accept(&bucket, object).await)
        .await;
    assert_eq!(bucket.borrow().len(), 5, "all that was kept");
}

#[tokio::test(start_paused = true)]
async fn lines_that_are_given_up_are_reported() {
    let queue = Queue::default();
    for number in 0..100 {
        queue.state().kept.add(object(number));
    }
    let failures = queue.upload(object(100), CAP, Duration::ZERO, hang).await;
    let [Failure::Lost(dropped)] = &*failures else { panic!("{failures:?}") };
    assert_eq!((dropped.objects, dropped.bytes), (1, "lines of 0\n".len()));
}

#[tokio::test(start_paused = true)]
async fn an_invocation_without_lines_has_no_object() {
    let (queue, bucket) = (Queue::default(), Bucket::default());
    let empty = Object::new("key".to_owned(), "id".to_owned(), Bytes::new());
    queue.upload(empty, CAP, AMPLE, async |object: &Object| accept(&bucket, object).await).await;
    assert!(bucket.borrow().is_empty());
}

fn log(request_id: &str, shard: Option<&str>, number: Option<&str>) -> LogObject {
    let context = Context::new(
        request_id.to_owned(),
        String::new(),
        SystemTime::now(),
        crate::clock::Clock::System,
    );
    let context = context.of_shard(shard.map(str::to_owned));
    let scope = scope::start(&context, "metric").scope().clone();
    let last = shard.zip(number).map(|(shard, number)| (shard.to_owned(), number.to_owned()));
    LogObject { context, scope, last }
}

/// The resource that the policy of a stack's template lets the function write to, for these
/// parameters.
fn granted(bucket: &str, prefix: &str) -> String {
    let template = streambot_infra::Streambot::new().template().build().expect("a template");
    let template = serde_json::to_value(template).expect("JSON");
    let policy =
        &template["Resources"]["LogPolicy"]["Properties"]["PolicyDocument"]["Statement"][0];
    let condition = &policy["Resource"][0]["Fn::If"];
    let (with_prefix, without) = (&condition[1], &condition[2]);
    let chosen = if prefix.is_empty() { without } else { with_prefix };
    let resource = chosen["Fn::Sub"][0].as_str().or(chosen["Fn::Sub"].as_str());
    let resource = resource.unwrap_or_else(|| panic!("{policy:#}"));
    let with = |text: &str, name: &str, value: &str| text.replace(&format!("${{{name}}}"), value);
    let resource = with(resource, "AWS::Partition", "aws");
    let resource = with(&with(&resource, "Bucket", bucket), "Prefix", prefix);
    let resource = with(&with(&resource, "LogBucket", bucket), "LogPrefix", prefix);
    assert!(!resource.contains("${"), "{resource}");
    resource
}

#[test]
fn every_key_is_one_that_the_stacks_policy_grants() {
    let logs = [
        log("id", Some("shardId-000000000000"), Some("4954")),
        log("id", Some("shardId-000000000000"), None),
        log("id", None, None),
    ];
    for prefix in ["", "logs", "a/b", "a/b/", "/"] {
        let granted = granted("bucket", prefix);
        let folder = granted.strip_suffix('*').expect("all objects of a folder");
        for log in &logs {
            let object = format!("arn:aws:s3:::bucket/{}", key(prefix, "quakes", log));
            let below = object
                .strip_prefix(folder)
                .unwrap_or_else(|| panic!("{object} is not of {granted}"));
            assert!(below.starts_with("quakes/"), "{object}: the stack's name is below the prefix");
        }
    }
}

#[test]
fn keys_name_the_shard_the_last_sequence_number_and_the_request() {
    let shard = Some("shardId-000000000000");
    for (log, expected) in [
        (log("id", shard, Some("4954")), "logs/quakes/shardId-000000000000/4954-id.log"),
        (log("id-2", shard, Some("4954")), "logs/quakes/shardId-000000000000/4954-id-2.log"),
        (log("id", shard, None), "logs/quakes/shardId-000000000000/id.log"),
        (log("id", None, None), "logs/quakes/no-shard/id.log"),
    ] {
        assert_eq!(key("logs", "quakes", &log), expected);
    }
}
