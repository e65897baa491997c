//! The contract of the template: what a stack of Streambot 1.0 and the services on it count on.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};
use streambot_infra::{
    Document, FailureDestination, Parameter, Resource, Streambot, Template, get_att, reference,
};

fn json(document: &Document) -> Json {
    serde_json::to_value(document).unwrap()
}

fn standalone(streambot: Streambot) -> Json {
    json(&streambot.template().build().unwrap())
}

fn composed(streambot: Streambot) -> Json {
    let mut template = Template::new();
    streambot.add_to(&mut template);
    json(&template.build().unwrap())
}

fn names(section: &Json) -> Vec<&str> {
    section.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn parameters_are_all_optional() {
    let template = standalone(Streambot::new());
    let contract = [
        "AlarmEmail",
        "LogBucket",
        "LogPrefix",
        "KinesisStreamArn",
        "NumberOfShards",
        "FunctionName",
    ];
    assert_eq!(names(&template["Parameters"])[..6], contract);
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        assert!(!parameter["Default"].is_null(), "{name} is optional");
    }
    let default = |name: &str| template["Parameters"][name]["Default"].clone();
    for name in [
        "AlarmEmail",
        "LogBucket",
        "LogPrefix",
        "KinesisStreamArn",
        "FunctionName",
        "StreamKeyArn",
        "AlarmKeyArn",
    ] {
        assert_eq!(default(name), "", "{name}");
    }
    assert_eq!(default("NumberOfShards"), 1);
    assert_eq!(default("StreamMode"), "PROVISIONED");
    assert_eq!(default("FailureDestinationType"), "NONE");
    for name in ["ShardLevelMetrics", "EnhancedFanOut", "DashboardEnabled"] {
        assert_eq!(default(name), "false", "{name}");
    }
    // What an update without values must not change on a stream that exists.
    for name in ["RetentionHours", "MaxRecordSizeInKiB"] {
        assert_eq!(default(name), "0", "{name}");
    }
}

#[test]
fn what_is_left_as_it_is_has_no_value() {
    let template = standalone(Streambot::new());
    let stream = &template["Resources"]["Stream"]["Properties"];
    let left = json!({ "Ref": "AWS::NoValue" });
    for property in ["RetentionPeriodHours", "MaxRecordSizeInKiB", "DesiredShardLevelMetrics"] {
        assert_eq!(stream[property]["Fn::If"][2], left, "{property}");
    }
    assert_eq!(
        stream["ShardCount"]["Fn::If"],
        json!(["IsOnDemand", left, { "Ref": "NumberOfShards" }])
    );
    assert_eq!(
        template["Conditions"]["HasRetentionHours"],
        json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "RetentionHours" }, "0"] }] })
    );
}

#[test]
fn resources_of_1_0_keep_their_ids_types_and_paths() {
    let template = standalone(Streambot::new());
    for (logical_id, resource_type, path) in [
        ("Stream", "AWS::Kinesis::Stream", Json::Null),
        ("AlarmSNS", "AWS::SNS::Topic", Json::Null),
        ("ErrorAlarm", "AWS::CloudWatch::Alarm", Json::Null),
        ("ExecutionRole", "AWS::IAM::Role", json!("/lambda/")),
        ("LogPolicy", "AWS::IAM::Policy", Json::Null),
        ("ProviderRole", "AWS::IAM::Role", json!("/kinesis/")),
    ] {
        let resource = &template["Resources"][logical_id];
        assert_eq!(resource["Type"], resource_type, "{logical_id}");
        assert_eq!(resource["Properties"]["Path"], path, "{logical_id}");
    }
}

#[test]
fn outputs_are_those_of_the_contract_in_both_forms() {
    let contract = [
        "KinesisStream",
        "LambdaInvocationRole",
        "LambdaExecutionRole",
        "LambdaExecutionRoleName",
        "KinesisAdminRole",
        "MetricName",
        "LogBucket",
        "LogPrefix",
        "LogGroup",
        "StackRegion",
    ];
    let others = ["AlarmTopic", "StreamConsumer", "FailureDestination", "DashboardName"];
    assert_eq!(names(&standalone(Streambot::new())["Outputs"]), [&contract[..], &others].concat());

    let composed = composed(Streambot::new());
    assert_eq!(names(&composed["Outputs"])[..10], contract);
    assert_eq!(composed["Outputs"]["StreambotStack"]["Value"], json!({ "Ref": "AWS::StackName" }));
}

#[test]
fn the_error_alarm_watches_the_metric_that_is_named_in_the_outputs() {
    let template = standalone(Streambot::new());
    let alarm = &template["Resources"]["ErrorAlarm"]["Properties"];
    assert_eq!(alarm["Namespace"], "streambot");
    assert_eq!(alarm["MetricName"], template["Outputs"]["MetricName"]["Value"]);
    assert_eq!(alarm["Dimensions"], json!([{ "Name": "Status", "Value": "Error" }]));
    assert_eq!(alarm["ComparisonOperator"], "GreaterThanThreshold");
    assert_eq!(alarm["Threshold"], 0);
    assert_eq!(alarm["Period"], 60);
    assert_eq!(alarm["TreatMissingData"], "notBreaching");
}

#[test]
fn a_setting_given_in_code_is_no_parameter_any_more() {
    let template = standalone(
        Streambot::new()
            .alarm_email("on-call@example.org")
            .log_bucket("acme-logs")
            .log_prefix("orders")
            .kinesis_stream_arn("")
            .number_of_shards(4)
            .function_name("orders-production"),
    );
    for name in [
        "AlarmEmail",
        "LogBucket",
        "LogPrefix",
        "KinesisStreamArn",
        "NumberOfShards",
        "FunctionName",
    ] {
        assert_eq!(template["Parameters"][name], Json::Null, "{name}");
    }
    for name in ["CreateStream", "LogToS3", "HasLogPrefix", "HasAlarmEmail", "HasFunctionName"] {
        assert_eq!(template["Conditions"][name], Json::Null, "{name}");
    }
    assert_eq!(template["Outputs"]["LogBucket"]["Value"], "acme-logs");
    assert_eq!(template["Resources"]["Stream"]["Properties"]["ShardCount"]["Fn::If"][2], 4);
    assert_eq!(
        template["Resources"]["AlarmSNS"]["Properties"]["Subscription"],
        json!([{ "Protocol": "email", "Endpoint": "on-call@example.org" }])
    );
    assert_eq!(template["Outputs"]["LogPrefix"]["Value"], "orders");
}

#[test]
fn an_empty_literal_switches_its_part_off() {
    let template = standalone(
        Streambot::new().alarm_email("").alarm_key_arn("").log_bucket("").function_name(""),
    );
    let resources = template["Resources"].as_object().unwrap();
    assert_eq!(template["Conditions"]["LogToS3"], Json::Null);
    assert_eq!(template["Conditions"]["HasLogPrefix"], Json::Null);
    assert!(!resources.contains_key("LogPolicy"));
    assert!(!resources.contains_key("FunctionErrorAlarm"));
    assert!(!resources.contains_key("FunctionThrottleAlarm"));
    assert_eq!(template["Resources"]["AlarmSNS"]["Properties"], Json::Null);
    assert_eq!(template["Outputs"]["LogBucket"]["Value"], "");
}

#[test]
fn an_existing_stream_takes_the_place_of_a_new_one() {
    let mut template = Template::new();
    template.resource("Orders", Resource::new("AWS::Kinesis::Stream").property("ShardCount", 2));
    Streambot::new().kinesis_stream_arn(get_att("Orders", "Arn")).add_to(&mut template);
    let template = json(&template.build().unwrap());

    assert_eq!(template["Resources"]["Stream"], Json::Null);
    assert_eq!(template["Parameters"]["NumberOfShards"], Json::Null);
    assert_eq!(
        template["Outputs"]["KinesisStream"]["Value"],
        json!({ "Fn::GetAtt": ["Orders", "Arn"] })
    );
}

#[test]
fn a_composed_stack_knows_the_functions_name_unless_told_another() {
    let function_of = |template: &Json| {
        template["Resources"]["FunctionErrorAlarm"]["Properties"]["Dimensions"][0]["Value"].clone()
    };
    let by_default = composed(Streambot::new());
    assert_eq!(function_of(&by_default), json!({ "Ref": "AWS::StackName" }));
    assert_eq!(by_default["Parameters"]["FunctionName"], Json::Null);
    assert_eq!(function_of(&composed(Streambot::new().function_name("orders"))), json!("orders"));
}

#[test]
fn what_holds_data_outlives_the_stack() {
    let template = standalone(Streambot::new());
    for logical_id in ["Stream", "LogGroup", "FailureBucket", "FailureQueue"] {
        let resource = &template["Resources"][logical_id];
        assert_eq!(resource["DeletionPolicy"], "RetainExceptOnCreate", "{logical_id}");
        assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{logical_id}");
    }
    let asked = standalone(Streambot::new().delete_data_with_stack());
    for logical_id in ["Stream", "LogGroup", "FailureBucket", "FailureQueue"] {
        assert_eq!(asked["Resources"][logical_id]["DeletionPolicy"], "Delete", "{logical_id}");
    }
}

/// What a role may do, one line an action and resource, and the condition there is.
///
/// Rights that it does not read must not exist: those of managed policies, and of policies that
/// several roles share.
fn rights(template: &Json, role: &str) -> Vec<String> {
    let properties = &template["Resources"][role]["Properties"];
    let known = ["AssumeRolePolicyDocument", "Path", "Policies"];
    assert!(
        names(properties).iter().all(|name| known.contains(name)),
        "{role}: {:?}",
        names(properties)
    );
    for (logical_id, resource) in template["Resources"].as_object().unwrap() {
        match resource["Type"].as_str().unwrap() {
            "AWS::IAM::Policy" => {
                let properties = &resource["Properties"];
                assert_eq!(properties["Roles"].as_array().map(Vec::len), Some(1), "{logical_id}");
                let known = ["PolicyDocument", "PolicyName", "Roles"];
                assert!(names(properties).iter().all(|name| known.contains(name)), "{logical_id}");
            }
            other => assert!(
                !other.starts_with("AWS::IAM::") || other == "AWS::IAM::Role",
                "{logical_id}: {other}"
            ),
        }
    }
    let inline =
        properties["Policies"].as_array().unwrap().iter().map(|policy| &policy["PolicyDocument"]);
    let attached = template["Resources"].as_object().unwrap().values().filter(|resource| {
        resource["Type"] == "AWS::IAM::Policy"
            && resource["Properties"]["Roles"] == json!([{ "Ref": role }])
    });
    let mut rights = Vec::new();
    for document in inline.chain(attached.map(|policy| &policy["Properties"]["PolicyDocument"])) {
        assert_eq!(document["Version"], "2012-10-17", "{role}");
        for statement in document["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow", "{role}");
            let known = ["Action", "Condition", "Effect", "Resource"];
            assert!(
                names(statement).iter().all(|name| known.contains(name)),
                "{role}: {statement}"
            );
            for action in statement["Action"].as_array().unwrap() {
                for resource in statement["Resource"].as_array().unwrap() {
                    let condition =
                        statement.get("Condition").map(|condition| format!(" if {condition}"));
                    let action = action.as_str().unwrap();
                    rights.push(format!("{action} on {resource}{}", condition.unwrap_or_default()));
                }
            }
        }
    }
    rights.sort();
    rights
}

fn on(resource: Json, actions: &[&str]) -> Vec<String> {
    actions.iter().map(|action| format!("{action} on {resource}")).collect()
}

const READ: [&str; 5] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
];
const ADMINISTER: [&str; 15] = [
    "kinesis:DecreaseStreamRetentionPeriod",
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:DisableEnhancedMonitoring",
    "kinesis:EnableEnhancedMonitoring",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:IncreaseStreamRetentionPeriod",
    "kinesis:ListShards",
    "kinesis:ListTagsForStream",
    "kinesis:MergeShards",
    "kinesis:PutRecord",
    "kinesis:PutRecords",
    "kinesis:SplitShard",
    "kinesis:UpdateShardCount",
];

/// Asserts that each role may do exactly this, whichever order it is said in.
fn assert_rights(
    streambot: Streambot,
    execution: &[Vec<String>],
    invocation: &[Vec<String>],
    provider: &[Vec<String>],
) {
    let template = standalone(streambot);
    for (role, expected) in
        [("ExecutionRole", execution), ("InvocationRole", invocation), ("ProviderRole", provider)]
    {
        let mut expected = expected.concat();
        expected.sort();
        assert_eq!(rights(&template, role), expected, "{role}");
    }
}

/// No part that a parameter could switch on.
fn plain() -> Streambot {
    Streambot::new()
        .kinesis_stream_arn("")
        .log_bucket("")
        .stream_key_arn("")
        .enhanced_fan_out(false)
        .failure_destination(FailureDestination::None)
}

fn arn(logical_id: &str) -> Json {
    json!({ "Fn::GetAtt": [logical_id, "Arn"] })
}

#[test]
fn each_role_may_do_exactly_this() {
    let read = on(arn("Stream"), &READ);
    let write_logs = on(arn("LogGroup"), &["logs:CreateLogStream", "logs:PutLogEvents"]);
    assert_rights(plain(), &[read.clone(), write_logs], &[read], &[on(arn("Stream"), &ADMINISTER)]);
}

#[test]
fn each_role_may_do_exactly_this_with_a_consumer_a_key_a_bucket_traces_and_a_vpc() {
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1";
    let own = r#" if {"StringEquals":{"s3:ResourceAccount":{"Ref":"AWS::AccountId"}}}"#;
    let objects = json!({ "Fn::Sub": ["${Bucket}/*", { "Bucket": arn("FailureBucket") }] });
    let read = [
        on(arn("Stream"), &READ),
        on(json!({ "Fn::GetAtt": ["Consumer", "ConsumerARN"] }), &["kinesis:SubscribeToShard"]),
        on(json!(key), &["kms:Decrypt"]),
    ]
    .concat();
    let write = [
        on(arn("LogGroup"), &["logs:CreateLogStream", "logs:PutLogEvents"]),
        vec![
            format!("s3:PutObject on {objects}{own}"),
            format!("s3:ListBucket on {}{own}", arn("FailureBucket")),
        ],
        on(json!(key), &["kms:GenerateDataKey"]),
        on(json!("*"), &["xray:PutTelemetryRecords", "xray:PutTraceSegments"]),
        on(
            json!("*"),
            &[
                "ec2:AssignPrivateIpAddresses",
                "ec2:CreateNetworkInterface",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSubnets",
                "ec2:UnassignPrivateIpAddresses",
            ],
        ),
    ]
    .concat();
    let administer =
        [on(arn("Stream"), &ADMINISTER), on(json!(key), &["kms:Decrypt", "kms:GenerateDataKey"])]
            .concat();
    assert_rights(
        plain()
            .enhanced_fan_out(true)
            .stream_key_arn(key)
            .failure_destination(FailureDestination::S3)
            .tracing()
            .vpc(),
        &[read.clone(), write],
        &[read],
        &[administer],
    );
}

#[test]
fn a_failure_queue_may_be_written_by_the_function_only() {
    let read = on(arn("Stream"), &READ);
    let write = [
        on(arn("LogGroup"), &["logs:CreateLogStream", "logs:PutLogEvents"]),
        on(arn("FailureQueue"), &["sqs:SendMessage"]),
    ]
    .concat();
    assert_rights(
        plain().failure_destination(FailureDestination::Sqs),
        &[read.clone(), write],
        &[read],
        &[on(arn("Stream"), &ADMINISTER)],
    );
}

#[test]
fn what_a_parameter_switches_on_brings_its_rights_along() {
    let template = standalone(Streambot::new());
    let statements = &template["Resources"]["ExecutionRole"]["Properties"]["Policies"][0]["PolicyDocument"]
        ["Statement"];
    let conditions: Vec<&Json> = statements
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|statement| statement["Fn::If"].get(0))
        .collect();
    assert_eq!(
        conditions,
        [
            "HasConsumer",
            "HasStreamKey",
            "FailuresToS3",
            "FailuresToS3",
            "FailuresToS3",
            "FailuresToSqs"
        ]
    );
}

#[test]
fn only_the_service_of_a_role_can_assume_it() {
    let template = standalone(Streambot::new());
    for (role, service) in [
        ("ExecutionRole", "lambda.amazonaws.com"),
        ("InvocationRole", "lambda.amazonaws.com"),
        ("ProviderRole", "ec2.amazonaws.com"),
    ] {
        assert_eq!(
            template["Resources"][role]["Properties"]["AssumeRolePolicyDocument"],
            json!({ "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole"
            }] }),
            "{role}"
        );
    }
}

#[test]
fn every_star_has_a_reason_in_its_metadata() {
    let template = standalone(Streambot::new().tracing().vpc());
    for (logical_id, resource) in template["Resources"].as_object().unwrap() {
        let properties = resource["Properties"].to_string();
        if [r#""Resource":["*"]"#, r#""Resource":"*""#, r#""Principal":"*""#]
            .iter()
            .any(|star| properties.contains(star))
        {
            assert!(resource["Metadata"]["Reason"].is_string(), "{logical_id}");
        }
    }
}

#[test]
fn a_failure_queue_forgets_before_the_stream_does() {
    let template = standalone(Streambot::new());
    let queue = &template["Resources"]["FailureQueue"]["Properties"];
    assert_eq!(queue["SqsManagedSseEnabled"], true);
    // The shortest retention of a stream, in seconds.
    assert!(queue["MessageRetentionPeriod"].as_u64().unwrap() <= 24 * 3600);
}

#[test]
fn two_streambots_share_no_name_but_those_of_the_template() {
    let mut template = Template::new();
    for prefix in ["Orders", "Payments"] {
        Streambot::prefixed(prefix).add_to(&mut template);
    }
    let template = json(&template.build().unwrap());
    for section in ["Parameters", "Conditions", "Resources", "Outputs"] {
        let orders =
            names(&template[section]).into_iter().filter_map(|name| name.strip_prefix("Orders"));
        let payments =
            names(&template[section]).into_iter().filter_map(|name| name.strip_prefix("Payments"));
        assert!(orders.eq(payments), "{section}");
    }
    // Else the one's errors would ring the other's alarm.
    let metric = |prefix: &str| template["Outputs"][format!("{prefix}MetricName")]["Value"].clone();
    assert_eq!(metric("Orders"), json!({ "Fn::Sub": "${AWS::StackName}-Orders" }));
    assert_ne!(metric("Orders"), metric("Payments"));
}

#[test]
fn tags_are_on_what_can_be_tagged_in_place() {
    let template = standalone(Streambot::new().tag("team", "orders").enhanced_fan_out(true));
    let tags = json!([{ "Key": "team", "Value": "orders" }]);
    for logical_id in [
        "Stream",
        "AlarmSNS",
        "ErrorAlarm",
        "LogGroup",
        "ExecutionRole",
        "FailureBucket",
        "FailureQueue",
    ] {
        assert_eq!(template["Resources"][logical_id]["Properties"]["Tags"], tags, "{logical_id}");
    }
    assert_eq!(
        template["Resources"]["Consumer"]["Properties"]["Tags"],
        Json::Null,
        "a new tag would replace it"
    );
}

#[test]
fn log_objects_may_be_put_under_the_prefix_only() {
    fn objects(streambot: Streambot) -> Json {
        let template = standalone(streambot);
        let policy = &template["Resources"]["LogPolicy"]["Properties"];
        let statement = &policy["PolicyDocument"]["Statement"][0];
        assert_eq!(policy["Roles"], json!([{ "Ref": "ExecutionRole" }]));
        assert_eq!(statement["Action"], json!(["s3:PutObject"]));
        statement["Resource"].clone()
    }
    let within = |bucket: Json, prefix: Json| {
        json!({ "Fn::Sub": [
            "arn:${AWS::Partition}:s3:::${Bucket}/${Prefix}/*", { "Bucket": bucket, "Prefix": prefix }
        ] })
    };
    let anywhere = |bucket: Json| json!({ "Fn::Sub": ["arn:${AWS::Partition}:s3:::${Bucket}/*", { "Bucket": bucket }] });
    let bucket = || json!({ "Ref": "LogBucket" });

    assert_eq!(
        objects(Streambot::new()),
        json!([{ "Fn::If": [
            "HasLogPrefix", within(bucket(), json!({ "Ref": "LogPrefix" })), anywhere(bucket())
        ] }])
    );
    assert_eq!(
        objects(Streambot::new().log_bucket("acme").log_prefix("orders")),
        json!([within(json!("acme"), json!("orders"))])
    );
    assert_eq!(
        objects(Streambot::new().log_bucket("acme").log_prefix("")),
        json!([anywhere(json!("acme"))])
    );
}

#[test]
fn a_grant_is_a_policy_of_its_own_on_the_role() {
    let streambot = Streambot::new();
    let mut template = Template::new();
    template.parameter("Bucket", Parameter::string());
    streambot.add_to(&mut template);
    template.resource(
        "ArchivePolicy",
        streambot.execution_role().allow(["s3:PutObject"], [reference("Bucket")]),
    );
    let template = json(&template.build().unwrap());

    assert_eq!(
        template["Resources"]["ArchivePolicy"],
        json!({
            "Type": "AWS::IAM::Policy",
            "Properties": {
                "PolicyName": "ArchivePolicy",
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Effect": "Allow",
                        "Action": ["s3:PutObject"],
                        "Resource": [{ "Ref": "Bucket" }],
                    }],
                },
                "Roles": [{ "Ref": "ExecutionRole" }],
            },
        })
    );
}
