//! The earthquake service's template: Streambot and the service's own resources in one stack.
//!
//! `cargo run -p streambot-example --example template > template.json`

use streambot_infra::{Condition, Parameter, Streambot, Template, sub};

fn main() -> anyhow::Result<()> {
    let streambot = Streambot::new();
    let mut template = Template::new();
    template.description("Earthquakes from a Kinesis stream: alerts, and an archive");
    streambot.add_to(&mut template);

    // Parameters and outputs reach the function's environment under their names.
    template
        .parameter(
            "ArchiveBucket",
            Parameter::string()
                .description("Optional: S3 bucket that every record is archived in")
                .default(""),
        )
        .condition("Archive", Condition::not_empty("ArchiveBucket"));

    let records = sub("arn:${AWS::Partition}:s3:::${ArchiveBucket}/example-records/*");
    template.resource(
        "ArchivePolicy",
        streambot.execution_role().allow(["s3:PutObject"], [records]).condition("Archive"),
    );

    print!("{}", template.build()?);
    Ok(())
}
