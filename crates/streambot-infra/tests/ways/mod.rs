//! Every way in which Streambot's settings can be given, and both forms of the template that
//! result.

use streambot_infra::{
    Condition, FailureDestination, Parameter, Resource, StreamMode, Streambot, Template, get_att,
    if_, import_value, reference,
};

/// How one setting is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// Not at all: it stays a parameter.
    Parameter,
    /// As a literal.
    Literal,
    /// As the empty literal, which switches its part off; for a number, the smallest.
    Empty,
    /// As another part of the same template.
    Wired,
}

pub(crate) const WAYS: [Way; 4] = [Way::Parameter, Way::Literal, Way::Empty, Way::Wired];
pub(crate) const SETTINGS: usize = 16;

/// A template with its settings given in these ways; composed with resources to wire them to, or
/// standing alone.
pub(crate) fn template(ways: [Way; SETTINGS], composed: bool) -> Template {
    let streambot = streambot("", ways);
    let mut template = if composed { Template::new() } else { streambot.template() };
    if composed {
        streambot.add_to(&mut template);
    }
    add_wired(&mut template, ways);
    template
}

/// Two Streambots in one template, wired to the same parts of it.
pub(crate) fn two_in_one(ways: [Way; SETTINGS]) -> Template {
    let mut template = Template::new();
    for name in ["Orders", "Payments"] {
        streambot(name, ways).add_to(&mut template);
    }
    add_wired(&mut template, ways);
    template
}

fn streambot(name: &str, ways: [Way; SETTINGS]) -> Streambot {
    let [email, bucket, prefix, stream, shards, function, others @ ..] = ways;
    let mut streambot = with_others(Streambot::prefixed(name), others);
    streambot = match email {
        Way::Parameter => streambot,
        Way::Literal => streambot.alarm_email("on-call@example.org"),
        Way::Empty => streambot.alarm_email(""),
        Way::Wired => streambot.alarm_email(reference("MyEmail")),
    };
    streambot = match bucket {
        Way::Parameter => streambot,
        Way::Literal => streambot.log_bucket("acme-logs"),
        Way::Empty => streambot.log_bucket(""),
        Way::Wired => streambot.log_bucket(reference("MyBucket")),
    };
    streambot = match prefix {
        Way::Parameter => streambot,
        Way::Literal => streambot.log_prefix("orders/live"),
        Way::Empty => streambot.log_prefix(""),
        Way::Wired => streambot.log_prefix(reference("MyPrefix")),
    };
    streambot = match stream {
        Way::Parameter => streambot,
        Way::Literal => {
            streambot.kinesis_stream_arn("arn:aws:kinesis:eu-west-1:123456789012:stream/orders")
        }
        Way::Empty => streambot.kinesis_stream_arn(""),
        Way::Wired => streambot.kinesis_stream_arn(get_att("MyStream", "Arn")),
    };
    streambot = match shards {
        Way::Parameter => streambot,
        Way::Literal => streambot.number_of_shards(4),
        Way::Empty => streambot.number_of_shards(1),
        Way::Wired => streambot.number_of_shards(if_("Busy", 8, 1)),
    };
    match function {
        Way::Parameter => streambot,
        Way::Literal => streambot.function_name("orders-production"),
        Way::Empty => streambot.function_name(""),
        Way::Wired => streambot.function_name(reference("MyFunction")),
    }
}

fn with_others(streambot: Streambot, ways: [Way; SETTINGS - 6]) -> Streambot {
    let [mode, hours, key, size, metrics, fan_out, failure, alarm_key, thresholds, dashboard] =
        ways;
    let mut streambot = match mode {
        Way::Parameter => streambot,
        Way::Literal => {
            streambot.stream_mode(StreamMode::OnDemand).tracing().vpc().tag("team", "orders")
        }
        Way::Empty => streambot.stream_mode(StreamMode::Provisioned).delete_data_with_stack(),
        Way::Wired => streambot.stream_mode(reference("MyMode")),
    };
    streambot = match hours {
        Way::Parameter => streambot,
        Way::Literal => streambot.retention_hours(48),
        Way::Empty => streambot.retention_hours(0),
        Way::Wired => streambot.retention_hours(reference("MyHours")),
    };
    streambot = match key {
        Way::Parameter => streambot,
        Way::Literal => streambot.stream_key_arn(
            "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ),
        Way::Empty => streambot.stream_key_arn(""),
        Way::Wired => streambot.stream_key_arn(import_value("MyKeyArn")),
    };
    streambot = match size {
        Way::Parameter => streambot,
        Way::Literal => streambot.max_record_size_in_kib(2048),
        Way::Empty => streambot.max_record_size_in_kib(0),
        Way::Wired => streambot.max_record_size_in_kib(reference("MySize")),
    };
    streambot = match metrics {
        Way::Parameter => streambot,
        Way::Literal => streambot.shard_level_metrics(true),
        Way::Empty => streambot.shard_level_metrics(false),
        Way::Wired => streambot.shard_level_metrics(reference("MyMetrics")),
    };
    streambot = match fan_out {
        Way::Parameter => streambot,
        Way::Literal => streambot.enhanced_fan_out(true),
        Way::Empty => streambot.enhanced_fan_out(false),
        Way::Wired => streambot.enhanced_fan_out(reference("MyFanOut")),
    };
    streambot = match failure {
        Way::Parameter => streambot,
        Way::Literal => {
            streambot.failure_destination(FailureDestination::S3).failure_retention_days(7)
        }
        Way::Empty => streambot.failure_destination(FailureDestination::Sqs),
        Way::Wired => streambot.failure_destination(reference("MyDestination")),
    };
    streambot = match alarm_key {
        Way::Parameter => streambot,
        Way::Literal => streambot.alarm_key_arn(
            "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ),
        Way::Empty => streambot.alarm_key_arn(""),
        Way::Wired => streambot.alarm_key_arn(import_value("MyKeyArn")),
    };
    streambot = match thresholds {
        Way::Parameter => streambot,
        Way::Literal => streambot
            .iterator_age_threshold(60_000)
            .write_throughput_threshold(5)
            .log_retention_days(7),
        Way::Empty => streambot.function_error_threshold(0).function_throttle_threshold(0),
        Way::Wired => streambot.iterator_age_threshold(reference("MyThreshold")),
    };
    match dashboard {
        Way::Parameter => streambot,
        Way::Literal => streambot.dashboard(true),
        Way::Empty => streambot.dashboard(false),
        Way::Wired => streambot.dashboard(reference("MyDashboard")),
    }
}

fn add_wired(template: &mut Template, ways: [Way; SETTINGS]) {
    let [
        email,
        bucket,
        prefix,
        stream,
        shards,
        function,
        mode,
        hours,
        _,
        size,
        metrics,
        fan_out,
        failure,
        ..,
    ] = ways;
    let [.., thresholds, dashboard] = ways;
    if email == Way::Wired {
        template.parameter("MyEmail", Parameter::string());
    }
    if bucket == Way::Wired {
        template.resource("MyBucket", Resource::new("AWS::S3::Bucket").retain());
    }
    if prefix == Way::Wired {
        template.parameter("MyPrefix", Parameter::string());
    }
    if stream == Way::Wired {
        template.resource(
            "MyStream",
            Resource::new("AWS::Kinesis::Stream")
                .retain()
                .property("RetentionPeriodHours", 24)
                .property("ShardCount", 1),
        );
    }
    // An existing stream has its shards already, so nothing would refer to the condition.
    let made_here = matches!(stream, Way::Parameter | Way::Empty);
    if shards == Way::Wired && made_here && mode != Way::Literal {
        template
            .parameter("Load", Parameter::string().default("low"))
            .condition("Busy", Condition::equals(reference("Load"), "high"));
    }
    if function == Way::Wired {
        template.parameter("MyFunction", Parameter::string());
    }
    let choices = [
        ("MyMode", mode, &["PROVISIONED", "ON_DEMAND"][..], made_here),
        ("MyMetrics", metrics, &["false", "true"], made_here),
        ("MyFanOut", fan_out, &["false", "true"], true),
        ("MyDestination", failure, &["NONE", "S3", "SQS"], true),
        ("MyDashboard", dashboard, &["false", "true"], true),
    ];
    for (name, _, values, _) in
        choices.into_iter().filter(|(_, way, _, needed)| *way == Way::Wired && *needed)
    {
        template.parameter(name, Parameter::string().allowed_values(values.iter().copied()));
    }
    let numbers = [
        ("MyHours", hours, 24, made_here),
        ("MySize", size, 1024, made_here),
        ("MyThreshold", thresholds, 0, true),
    ];
    for (name, _, least, _) in
        numbers.into_iter().filter(|(_, way, _, needed)| *way == Way::Wired && *needed)
    {
        template.parameter(name, Parameter::number().min_value(least).max_value(8760));
    }
}
