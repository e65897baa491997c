//! What `build` refuses, and how it says so.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use streambot_infra::{
    Condition, Output, Parameter, Resource, Streambot, Template, get_att, if_, reference, sub,
    sub_with,
};

fn queue() -> Resource {
    Resource::new("AWS::SQS::Queue")
}

fn refusal(fill: impl FnOnce(&mut Template)) -> String {
    let mut template = Template::new();
    fill(&mut template);
    template.build().unwrap_err().to_string()
}

#[test]
fn a_reference_to_what_is_not_there_names_both_ends() {
    let wrong = [
        queue().property("QueueName", reference("Name")),
        queue().property("QueueName", sub("${AWS::StackName}-${Name}")),
        queue().property("Tags", json!([{ "Key": "k", "Value": reference("Name") }])),
        queue().property("QueueName", if_("Long", reference("Name"), "short")),
    ];
    for resource in wrong {
        let refusal = refusal(|template| {
            template.condition("Long", Condition::equals("a", "b")).resource("Queue", resource);
        });
        assert_eq!(
            refusal,
            "resource `Queue` refers to `Name`, and the template has no parameter or resource of that name: \
             add it or correct the name"
        );
    }
}

#[test]
fn an_attribute_is_one_of_a_resource() {
    let wrong = [
        queue().property("QueueName", get_att("Name", "Arn")),
        queue().property("QueueName", json!({ "Fn::GetAtt": "Name.Arn" })),
        queue().property("QueueName", sub("${Name.Arn}")),
        queue().depends_on("Name"),
    ];
    for resource in wrong {
        let refusal = refusal(|template| {
            template.parameter("Name", Parameter::string()).resource("Queue", resource);
        });
        assert!(
            refusal
                .starts_with("resource `Queue` refers to `Name`, and the template has no resource"),
            "{refusal}"
        );
    }
}

#[test]
fn a_condition_must_be_there_wherever_it_is_named() {
    let from_resource = refusal(|template| {
        template.resource("Queue", queue().condition("Wanted"));
    });
    assert!(from_resource.starts_with("resource `Queue` refers to `Wanted`"), "{from_resource}");

    let from_output = refusal(|template| {
        template
            .resource("Queue", queue())
            .output("QueueUrl", Output::new(reference("Queue")).condition("Wanted"));
    });
    assert!(from_output.starts_with("output `QueueUrl` refers to `Wanted`"), "{from_output}");

    let from_function = refusal(|template| {
        template.resource("Queue", queue().property("DelaySeconds", if_("Wanted", 1, 2)));
    });
    assert!(from_function.starts_with("resource `Queue` refers to `Wanted`"), "{from_function}");
}

#[test]
fn a_condition_cannot_look_at_a_resource() {
    let refusal = refusal(|template| {
        template.resource("Queue", queue()).condition("Wanted", Condition::not_empty("Queue"));
    });
    assert_eq!(
        refusal,
        "condition `Wanted` refers to `Queue`, and the template has no parameter of that name: \
         add it or correct the name"
    );
}

#[test]
fn an_output_of_what_is_not_there_is_refused() {
    let refusal = refusal(|template| {
        template.resource("Queue", queue()).output("TopicArn", Output::new(reference("Topic")));
    });
    assert!(refusal.starts_with("output `TopicArn` refers to `Topic`"), "{refusal}");
}

#[test]
fn names_that_clash_are_both_named() {
    let ids = refusal(|template| {
        template.parameter("Queue", Parameter::string()).resource("Queue", queue());
    });
    assert_eq!(
        ids,
        "parameter `Queue` and resource `Queue` have the same name: rename one of them"
    );

    let outputs = refusal(|template| {
        template.output("StreambotStack", Output::new("mine"));
        Streambot::new().add_to(template);
    });
    assert_eq!(
        outputs,
        "output `StreambotStack` and output `StreambotStack` have the same name: rename one of them"
    );

    let twice = refusal(|template| {
        Streambot::new().add_to(template);
        Streambot::new().add_to(template);
    });
    assert!(twice.ends_with("have the same name: rename one of them"), "{twice}");
}

#[test]
fn resources_that_wait_for_each_other_are_listed() {
    let refusal = refusal(|template| {
        template
            .resource("First", queue().property("QueueName", get_att("Second", "QueueName")))
            .resource("Second", queue().property("QueueName", sub("${Third}")))
            .resource("Third", queue().depends_on("First"));
    });
    assert_eq!(
        refusal,
        "resources wait for each other in a circle, First → Second → Third → First: break it at one of them"
    );
}

#[test]
fn limits_are_cloudformations() {
    let resources = |count: usize| {
        move |template: &mut Template| {
            for number in 0..count {
                template.resource(format!("Queue{number}"), queue());
            }
        }
    };
    let mut full = Template::new();
    resources(500)(&mut full);
    assert!(full.build().is_ok());
    assert_eq!(
        refusal(resources(501)),
        "the template has 501 resources, and CloudFormation takes 500: move some to a nested stack"
    );
    assert_eq!(refusal(|_| {}), "the template has no resource: add at least one");
    assert_eq!(
        refusal(|template| {
            template.resource("my-queue", queue());
        }),
        "resource `my-queue` is no valid name: use 1 to 255 letters and digits of ASCII"
    );
}

#[test]
fn what_only_looks_like_a_reference_is_let_through() {
    let mut template = Template::new();
    template.parameter("Name", Parameter::string()).resource("Queue", queue()).resource(
        "Policy",
        Resource::new("AWS::IAM::Policy")
            .property("Literal", sub("${!NotAName} costs $5 {or so}"))
            .property("OwnName", sub_with("${Mine}/${Queue.Arn}", [("Mine", "x")]))
            .property("Statement", json!({ "Condition": "a policy's own" })),
    );
    assert_eq!(template.build().map(drop), Ok(()));
}
