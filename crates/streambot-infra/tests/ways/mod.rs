//! Every way in which Streambot's settings can be given, and both forms of the template that result.

use streambot_infra::{Condition, Parameter, Resource, Streambot, Template, get_att, if_, reference};

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
pub(crate) const SETTINGS: usize = 6;

/// A template with its settings given in these ways; composed with resources to wire them to, or standing alone.
pub(crate) fn template(ways: [Way; SETTINGS], composed: bool) -> Template {
    let streambot = streambot(ways);
    let mut template = if composed { Template::new() } else { streambot.template() };
    if composed {
        streambot.add_to(&mut template);
    }
    add_wired(&mut template, ways);
    template
}

fn streambot([email, bucket, prefix, stream, shards, function]: [Way; SETTINGS]) -> Streambot {
    let mut streambot = Streambot::new();
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
        Way::Literal => streambot.kinesis_stream_arn("arn:aws:kinesis:eu-west-1:123456789012:stream/orders"),
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

fn add_wired(template: &mut Template, [email, bucket, prefix, stream, shards, function]: [Way; SETTINGS]) {
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
    if shards == Way::Wired && matches!(stream, Way::Parameter | Way::Empty) {
        template
            .parameter("Load", Parameter::string().default("low"))
            .condition("Busy", Condition::equals(reference("Load"), "high"));
    }
    if function == Way::Wired {
        template.parameter("MyFunction", Parameter::string());
    }
}
