//! `status` against moto: a service that is deployed, one that is there in part, parts that may not
//! be read, and looking on.

mod support;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    ComparisonOperator, Dimension, MetricDatum, StateValue, Statistic,
};
use serde_json::{Value, json};

use support::Server;
use support::deployed::Deployed;
use support::proxy::{Call, Fault, Refusal};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));

/// Makes an alarm, and lets the next status find it in the Streambot stack's resources: moto's
/// stacks have no alarms.
async fn alarm(deployed: &Deployed) -> Result<String> {
    let name = format!("{}-ErrorAlarm", deployed.child);
    let client = aws_sdk_cloudwatch::Client::new(&deployed.config);
    let request = client
        .put_metric_alarm()
        .alarm_name(&name)
        .metric_name(&deployed.child)
        .namespace("streambot");
    let request =
        request.comparison_operator(ComparisonOperator::GreaterThanThreshold).threshold(0.0);
    request.evaluation_periods(1).period(60).statistic(Statistic::Sum).send().await?;
    find_alarm(deployed, &name);
    Ok(name)
}

fn find_alarm(deployed: &Deployed, name: &str) {
    const LIST: &str = "<StackResourceSummaries>";
    let resource = format!(
        "<member><LogicalResourceId>ErrorAlarm</LogicalResourceId><PhysicalResourceId>{name}</PhysicalResourceId>\
         <ResourceType>AWS::CloudWatch::Alarm</ResourceType></member>"
    );
    // The service's own stack is the first.
    deployed.proxy.once(
        "ListStackResources",
        2,
        Fault::Reword(LIST.to_owned(), format!("{LIST}{resource}")),
    );
}

/// The ARN of the Streambot stack's topic.
async fn topic(deployed: &Deployed) -> Result<String> {
    let client = aws_sdk_cloudformation::Client::new(&deployed.config);
    let answer = client.list_stack_resources().stack_name(&deployed.child).send().await?;
    let topic = answer
        .stack_resource_summaries()
        .iter()
        .find(|one| one.resource_type() == Some("AWS::SNS::Topic"));
    topic.and_then(|topic| topic.physical_resource_id().map(str::to_owned)).context("a topic")
}

struct Metric<'a> {
    namespace: &'a str,
    name: &'a str,
    dimension: (&'a str, &'a str),
}

impl Metric<'_> {
    /// Puts a value of so many minutes ago.
    async fn put(&self, deployed: &Deployed, minutes_ago: u64, value: f64) -> Result<()> {
        let (dimension, of) = self.dimension;
        let time = SystemTime::now() - Duration::from_secs(minutes_ago * 60);
        let datum = MetricDatum::builder()
            .metric_name(self.name)
            .dimensions(Dimension::builder().name(dimension).value(of).build())
            .timestamp(DateTime::from(time))
            .value(value)
            .build();
        let client = aws_sdk_cloudwatch::Client::new(&deployed.config);
        client.put_metric_data().namespace(self.namespace).metric_data(datum).send().await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_deployed_service_is_told_from_its_stack_to_its_alarms() -> Result<()> {
    let deployed = Deployed::new(&MOTO, "told", &[]).await?;
    let of_lambda = |name| Metric {
        namespace: "AWS/Lambda",
        name,
        dimension: ("FunctionName", deployed.name.as_str()),
    };
    let of_streambot = |status| Metric {
        namespace: "streambot",
        name: &deployed.child,
        dimension: ("Status", status),
    };
    for (metric, minutes_ago, value) in [
        (of_lambda("IteratorAge"), 30, 4_000.0),
        (of_lambda("IteratorAge"), 10, 1_500.0),
        (of_lambda("Errors"), 30, 2.0),
        (of_lambda("Errors"), 10, 0.0),
        (of_lambda("Errors"), 90, 7.0),
        (of_lambda("Invocations"), 30, 5.0),
        (of_streambot("Error"), 30, 3.0),
        (of_streambot("Success"), 20, 1.0),
    ] {
        metric.put(&deployed, minutes_ago, value).await?;
    }
    let ringing = alarm(&deployed).await?;
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&deployed.config);
    let state = cloudwatch.set_alarm_state().alarm_name(&ringing).state_value(StateValue::Alarm);
    state.state_reason("three records failed").send().await?;

    deployed.proxy.take();
    find_alarm(&deployed, &ringing);
    let status = deployed.service.run(&["status", "staging"])?;
    let calls = deployed.proxy.take();
    assert!(calls.iter().all(|call| !call.write), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.operation == "GetMetricData").count(), 1);
    assert!(Call::depth(&calls) <= 3, "stack, Streambot stack, what they name: {calls:?}");

    assert_eq!(status["name"], deployed.name);
    assert_eq!(status["stack"]["status"], "CREATE_COMPLETE");
    assert!(status["stack"]["updated"].is_string());
    let function = &status["function"];
    assert_eq!(function["arn"], deployed.answer["function"]);
    assert_eq!(function["version"], "1");
    assert_eq!(function["code_sha256"], deployed.answer["code_sha256"]);
    assert_eq!((&function["state"], &function["canary"]), (&json!("Active"), &Value::Null));
    assert!(function["last_modified"].is_string(), "{function}");
    assert_eq!(
        (&function["memory_in_megabytes"], &function["timeout_in_seconds"]),
        (&json!(128), &json!(60))
    );
    let [mapping] = status["event_source_mappings"].as_array().context("mappings")?.as_slice()
    else {
        panic!("{status}")
    };
    assert_eq!(mapping["uuid"], deployed.answer["event_source_mappings"][0]["uuid"]);
    assert_eq!(mapping["function_arn"], deployed.answer["alias"]);
    assert_eq!((&mapping["state"], &mapping["batch_size"]), (&json!("Enabled"), &json!(100)));

    let numbers =
        |series: &Value| [series["last"].clone(), series["max"].clone(), series["sum"].clone()];
    let metrics = &status["metrics"];
    assert_eq!(numbers(&metrics["iterator_age"]), [1_500.0, 4_000.0, 5_500.0]);
    assert_eq!(numbers(&metrics["errors"]), [0.0, 2.0, 2.0]);
    assert_eq!(numbers(&metrics["invocations"]), [5.0, 5.0, 5.0]);
    assert_eq!(metrics["streambot"]["metric_name"], deployed.child);
    assert_eq!(numbers(&metrics["streambot"]["error"]), [3.0, 3.0, 3.0]);
    assert_eq!(numbers(&metrics["streambot"]["success"]), [1.0, 1.0, 1.0]);
    assert_eq!(metrics["errors"]["points"].as_array().map(Vec::len), Some(30));

    let [told] = status["alarms"].as_array().context("alarms")?.as_slice() else {
        panic!("{status}")
    };
    assert_eq!((&told["name"], &told["state"]), (&json!(ringing), &json!("ALARM")));
    assert_eq!(told["reason"], "three records failed");
    assert!(told["since"].is_string(), "{told}");
    assert_eq!(status["pending_confirmations"], json!([]));

    find_alarm(&deployed, &ringing);
    let text = deployed.text(&["status", "staging"])?;
    for part in [
        "told-staging in us-east-1",
        "version 1 (alias current)",
        "last 1.5 s, max 4.0 s",
        "▇",
        &ringing,
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_address_that_has_not_confirmed_is_told() -> Result<()> {
    let deployed = Deployed::stacks(&MOTO, "asked", &[("AlarmEmail", "ops@example.com")]).await?;
    assert_eq!(deployed.service.run(&["status", "staging"])?["pending_confirmations"], json!([]));

    // To moto, whoever is asked has confirmed.
    let sns = aws_sdk_sns::Client::new(&deployed.config);
    let topic = topic(&deployed).await?;
    let subscriptions =
        sns.list_subscriptions_by_topic().topic_arn(&topic).send().await?.subscriptions;
    let arn = subscriptions.unwrap_or_default().remove(0).subscription_arn.context("an ARN")?;
    let pending = Fault::Reword(arn, "PendingConfirmation".to_owned());
    deployed.proxy.for_ever("ListSubscriptionsByTopic", 1, pending);
    let status = deployed.service.run(&["status", "staging"])?;
    let expected =
        json!([{ "endpoint": "ops@example.com", "protocol": "email", "topic_arn": topic }]);
    assert_eq!(status["pending_confirmations"], expected);
    let text = deployed.text(&["status", "staging"])?;
    assert!(text.contains("pending: ops@example.com has not confirmed"), "{text}");
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_deployed_it_is_missing() -> Result<()> {
    let deployed = Deployed::nothing(&MOTO, "nothing").await?;
    for arguments in [&["status", "staging"][..], &["status", "staging", "--watch"]] {
        let said = deployed.service.fails(arguments, 3)?;
        assert!(
            said.contains("neither stack nor function `nothing-staging` is there in us-east-1"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_without_a_function_and_a_function_without_a_stack_are_told() -> Result<()> {
    let stack = Deployed::stacks(&MOTO, "early", &[]).await?;
    let alarm = alarm(&stack).await?;
    let status = stack.service.run(&["status", "staging"])?;
    assert_eq!(status["stack"]["status"], "CREATE_COMPLETE");
    assert_eq!((&status["function"], &status["event_source_mappings"]), (&Value::Null, &json!([])));
    assert_eq!(status["alarms"][0]["name"], alarm);

    let function = Deployed::new(&MOTO, "orphan", &[]).await?;
    let client = aws_sdk_cloudformation::Client::new(&function.config);
    client.delete_stack().stack_name(&function.name).send().await?;
    let status = function.service.run(&["status", "staging"])?;
    assert_eq!(
        (&status["stack"], &status["alarms"], &status["pending_confirmations"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(status["function"]["version"], "1");
    assert_eq!(status["metrics"]["streambot"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_read_is_told_in_its_place() -> Result<()> {
    let deployed = Deployed::new(&MOTO, "guarded", &[]).await?;
    let alarm = alarm(&deployed).await?;
    let denied = |operation: &str| {
        let message = format!("not authorized to perform: {operation}");
        deployed.proxy.for_ever(
            operation,
            1,
            Fault::Refuse(Refusal::new(403, "AccessDeniedException", message)),
        );
    };
    for (operation, part) in [
        ("GetMetricData", "metrics"),
        ("DescribeAlarms", "alarms"),
        ("ListSubscriptionsByTopic", "pending_confirmations"),
        ("ListEventSourceMappings", "event_source_mappings"),
        ("DescribeStacks", "stack"),
    ] {
        denied(operation);
        find_alarm(&deployed, &alarm);
        let status = deployed.service.run(&["status", "staging"])?;
        let why =
            status[part]["unreadable"].as_str().with_context(|| format!("{part} of {status}"))?;
        assert!(
            why.contains(&format!("AccessDeniedException: not authorized to perform: {operation}")),
            "{why}"
        );
        assert_eq!(status["function"]["version"], "1");
    }
    let text = deployed.text(&["status", "staging"])?;
    assert_eq!(text.matches("could not be read: ").count(), 5, "{text}");

    denied("GetFunction");
    let said = deployed.service.fails(&["status", "staging"], 1)?;
    assert!(said.contains("not authorized to perform: DescribeStacks"), "{said}");
    assert!(said.contains("next: allow the action that is named"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_canary_is_told_with_its_share() -> Result<()> {
    let deployed = Deployed::new(&MOTO, "weighed", &[]).await?;
    let lambda = aws_sdk_lambda::Client::new(&deployed.config);
    deployed.service.run(&["staging", "--memory", "256"])?;
    let routing = aws_sdk_lambda::types::AliasRoutingConfiguration::builder()
        .additional_version_weights("2", 0.1);
    let request =
        lambda.update_alias().function_name(&deployed.name).name("current").function_version("1");
    request.routing_config(routing.build()).send().await?;

    let function = &deployed.service.run(&["status", "staging"])?["function"];
    assert_eq!(
        (&function["version"], &function["memory_in_megabytes"]),
        (&json!("1"), &json!(128))
    );
    let canary = &function["canary"];
    assert_eq!((&canary["version"], &canary["weight"]), (&json!("2"), &json!(0.1)));
    assert!(deployed.text(&["status", "staging"])?.contains("10% of the batches go to version 2"));
    Ok(())
}

#[tokio::test]
async fn a_watch_shows_every_change_until_ctrl_c_and_ends_where_all_is_gone() -> Result<()> {
    let deployed = Deployed::new(&MOTO, "watched", &[]).await?;
    let watch = ["status", "staging", "--watch", "--interval", "0"];
    let running = deployed.start(&[&watch[..], &["--output", "json"]].concat())?;
    let memory = |line: String| -> Result<Value> {
        Ok(serde_json::from_str::<Value>(&line)?["function"]["memory_in_megabytes"].clone())
    };
    assert_eq!(memory(running.line()?)?, 128);
    deployed.service.run(&["staging", "--memory", "256"])?;
    while memory(running.line()?)? != 256 {}
    let (status, _) = running.interrupt()?;
    assert_eq!(status.code(), Some(0));

    let running = deployed.start(&watch)?;
    while running.line()? != "e-mail      no subscription waits for a confirmation" {}
    assert_eq!(running.line()?, "", "a line between two looks");
    assert!(running.line()?.starts_with("watched-staging in us-east-1, "));

    let cloudformation = aws_sdk_cloudformation::Client::new(&deployed.config);
    cloudformation.delete_stack().stack_name(&deployed.name).send().await?;
    let lambda = aws_sdk_lambda::Client::new(&deployed.config);
    lambda.delete_function().function_name(&deployed.name).send().await?;
    assert_eq!(running.end()?.code(), Some(3));
    Ok(())
}
