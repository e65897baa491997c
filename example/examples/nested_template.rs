//! The earthquake service's template with Streambot in a nested stack, as Streambot 1.0 had it. The
//! child is what `streambot-deploy template` prints; upload it to S3 and pass its address as
//! `TemplateURL`.
//!
//! `cargo run -p streambot-example --example nested_template > template.json`

use serde_json::json;
use streambot_infra::{Condition, Output, Parameter, Resource, Template};
use streambot_infra::{get_att, reference, stack_name, sub};

fn main() -> anyhow::Result<()> {
    let optional = |description| Parameter::string().description(description).default("");
    let mut template = Template::new();
    template
        .description("Earthquakes from a Kinesis stream: alerts, and an archive")
        .parameter(
            "TemplateURL",
            Parameter::string().description("S3 address of the template of Streambot"),
        )
        .parameter("AlarmEmail", optional("Optional: email address that alarms are sent to"))
        .parameter(
            "ArchiveBucket",
            optional("Optional: S3 bucket that every record is archived in"),
        )
        .condition("Archive", Condition::not_empty("ArchiveBucket"));

    // The child cannot know the function's name: it is this stack's.
    let parameters = json!({
        "AlarmEmail": reference("AlarmEmail"),
        "FunctionName": stack_name(),
    });
    template
        .resource(
            "StreambotStack",
            Resource::new("AWS::CloudFormation::Stack")
                .delete_with_stack()
                .property("TemplateURL", reference("TemplateURL"))
                .property("Parameters", parameters),
        )
        .output("StreambotStack", Output::new(reference("StreambotStack")));

    let records = sub("arn:${AWS::Partition}:s3:::${ArchiveBucket}/example-records/*");
    let may_archive = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "s3:PutObject", "Resource": records }],
    });
    let execution_role = get_att("StreambotStack", "Outputs.LambdaExecutionRoleName");
    template.resource(
        "ArchivePolicy",
        Resource::new("AWS::IAM::Policy")
            .condition("Archive")
            .property("PolicyName", "archive")
            .property("PolicyDocument", may_archive)
            .property("Roles", json!([execution_role])),
    );

    print!("{}", template.build()?);
    Ok(())
}
