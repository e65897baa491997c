//! The contract of the template: what a stack of Streambot 1.0 and the services on it count on.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};
use streambot_infra::{Document, Parameter, Resource, Streambot, Template, get_att, reference};

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
    assert_eq!(
        names(&template["Parameters"]),
        ["AlarmEmail", "LogBucket", "LogPrefix", "KinesisStreamArn", "NumberOfShards", "FunctionName"]
    );
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        let default = if name == "NumberOfShards" { json!(1) } else { json!("") };
        assert_eq!(parameter["Default"], default, "{name}");
    }
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
    assert_eq!(names(&standalone(Streambot::new())["Outputs"]), contract);

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
    assert_eq!(template["Parameters"], Json::Null);
    assert_eq!(template["Conditions"], Json::Null);
    assert_eq!(template["Resources"]["Stream"]["Properties"]["ShardCount"], 4);
    assert_eq!(
        template["Resources"]["AlarmSNS"]["Properties"]["Subscription"],
        json!([{ "Protocol": "email", "Endpoint": "on-call@example.org" }])
    );
    assert_eq!(template["Outputs"]["LogPrefix"]["Value"], "orders");
}

#[test]
fn an_empty_literal_switches_its_part_off() {
    let template = standalone(Streambot::new().alarm_email("").log_bucket("").function_name(""));
    let resources = template["Resources"].as_object().unwrap();
    assert_eq!(names(&template["Conditions"]), ["CreateStream"]);
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
    assert_eq!(template["Outputs"]["KinesisStream"]["Value"], json!({ "Fn::GetAtt": ["Orders", "Arn"] }));
}

#[test]
fn a_composed_stack_knows_the_functions_name_unless_told_another() {
    let function_of =
        |template: &Json| template["Resources"]["FunctionErrorAlarm"]["Properties"]["Dimensions"][0]["Value"].clone();
    let by_default = composed(Streambot::new());
    assert_eq!(function_of(&by_default), json!({ "Ref": "AWS::StackName" }));
    assert_eq!(by_default["Parameters"]["FunctionName"], Json::Null);
    assert_eq!(function_of(&composed(Streambot::new().function_name("orders"))), json!("orders"));
}

#[test]
fn what_holds_data_outlives_the_stack() {
    let template = standalone(Streambot::new());
    for logical_id in ["Stream", "LogGroup"] {
        let resource = &template["Resources"][logical_id];
        assert_eq!(resource["DeletionPolicy"], "RetainExceptOnCreate", "{logical_id}");
        assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{logical_id}");
    }
}

#[test]
fn each_role_may_do_exactly_this() {
    let template = standalone(Streambot::new());
    let stream = json!([{ "Fn::If": [
        "CreateStream", { "Fn::GetAtt": ["Stream", "Arn"] }, { "Ref": "KinesisStreamArn" }
    ] }]);
    let read = json!({
        "Effect": "Allow",
        "Action": [
            "kinesis:DescribeStream",
            "kinesis:DescribeStreamSummary",
            "kinesis:GetRecords",
            "kinesis:GetShardIterator",
            "kinesis:ListShards",
        ],
        "Resource": stream,
    });
    let write_logs = json!({
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": [{ "Fn::GetAtt": ["LogGroup", "Arn"] }],
    });
    let administer = json!({
        "Effect": "Allow",
        "Action": [
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
        ],
        "Resource": stream,
    });
    for (role, service, statements) in [
        ("ExecutionRole", "lambda.amazonaws.com", json!([read, write_logs])),
        ("InvocationRole", "lambda.amazonaws.com", json!([read])),
        ("ProviderRole", "ec2.amazonaws.com", json!([administer])),
    ] {
        let properties = &template["Resources"][role]["Properties"];
        let trust = &properties["AssumeRolePolicyDocument"];
        let policies = properties["Policies"].as_array().unwrap();
        assert_eq!(policies.len(), 1, "{role}");
        assert_eq!(policies[0]["PolicyDocument"]["Statement"], statements, "{role}");
        assert_eq!(policies[0]["PolicyDocument"]["Version"], "2012-10-17", "{role}");
        assert_eq!(trust["Version"], "2012-10-17", "{role}");
        assert_eq!(
            trust["Statement"],
            json!([{
                "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole"
            }]),
            "{role}"
        );
    }
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
    let anywhere =
        |bucket: Json| json!({ "Fn::Sub": ["arn:${AWS::Partition}:s3:::${Bucket}/*", { "Bucket": bucket }] });
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
    assert_eq!(objects(Streambot::new().log_bucket("acme").log_prefix("")), json!([anywhere(json!("acme"))]));
}

#[test]
fn a_grant_is_a_policy_of_its_own_on_the_role() {
    let streambot = Streambot::new();
    let mut template = Template::new();
    template.parameter("Bucket", Parameter::string());
    streambot.add_to(&mut template);
    template.resource("ArchivePolicy", streambot.execution_role().allow(["s3:PutObject"], [reference("Bucket")]));
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
