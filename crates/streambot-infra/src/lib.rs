//! The CloudFormation template of a Kinesis stream consumed by AWS Lambda, as Rust data: values in,
//! JSON out. This crate calls nothing, not AWS either, and knows neither Lambda's runtime nor how a
//! stack is deployed.
//!
//! [`Streambot`] is the whole: the stream, the roles, the log group, the alarms, and the outputs
//! that `streambot-deploy` reads. It comes as a [template of its own](Streambot::template), to be
//! the child of a service's stack, or [added to](Streambot::add_to) the service's own [`Template`],
//! beside resources of any type:
//!
//! ```
//! use serde_json::json;
//! use streambot_infra::{Output, Parameter, Resource, Streambot, Template, get_att, reference};
//!
//! // Every setting is a parameter of the template until it is given one here.
//! let streambot = Streambot::new().log_bucket("acme-logs").number_of_shards(4);
//!
//! let mut template = Template::new();
//! template.description("Orders, counted by customer");
//! streambot.add_to(&mut template);
//!
//! template.resource(
//!     "Customers",
//!     Resource::new("AWS::DynamoDB::Table")
//!         .retain()
//!         .property("BillingMode", "PAY_PER_REQUEST")
//!         .property("AttributeDefinitions", json!([{ "AttributeName": "id", "AttributeType": "S" }]))
//!         .property("KeySchema", json!([{ "AttributeName": "id", "KeyType": "HASH" }])),
//! );
//! template.resource(
//!     "CountPolicy",
//!     streambot
//!         .execution_role()
//!         .allow(["dynamodb:UpdateItem"], [get_att("Customers", "Arn")]),
//! );
//! template.parameter("MostWrites", Parameter::number().default(10_000));
//! template.resource(
//!     "BusyAlarm",
//!     Resource::new("AWS::CloudWatch::Alarm")
//!         .property("Namespace", "AWS/DynamoDB")
//!         .property("MetricName", "ConsumedWriteCapacityUnits")
//!         .property("Dimensions", json!([{ "Name": "TableName", "Value": reference("Customers") }]))
//!         .property("Statistic", "Sum")
//!         .property("Period", 60)
//!         .property("EvaluationPeriods", 5)
//!         .property("Threshold", reference("MostWrites"))
//!         .property("ComparisonOperator", "GreaterThanThreshold")
//!         .property("AlarmActions", json!([streambot.alarm_topic().arn()])),
//! );
//! template.output("CustomerTable", Output::new(reference("Customers")));
//!
//! print!("{}", template.build()?);
//! # Ok::<(), streambot_infra::TemplateError>(())
//! ```
//!
//! Wherever a template takes a value, it takes an [`Intrinsic`] too: [`reference()`], [`get_att`],
//! [`sub`], [`join`], [`select`], [`split`], [`if_`], [`import_value`] or a pseudo parameter such
//! as [`region`]. Two Streambots fit in one template, each with a [prefix](Streambot::prefixed).
//! [`Template::build`] refuses a template in which one of them leads nowhere.

mod alarms;
mod dashboard;
mod failure;
mod logs;
mod roles;
mod setting;
mod settings;
mod stream;
mod streambot;
mod template;
mod validation;
mod value;

pub use alarms::AlarmTopic;
pub use failure::FailureDestination;
pub use roles::Role;
pub use stream::{Stream, StreamMode};
pub use streambot::Streambot;
pub use template::{Condition, Document, Output, Parameter, Resource, Template};
pub use validation::TemplateError;
pub use value::{
    Intrinsic, Value, account_id, get_att, if_, import_value, join, no_value, partition, reference,
    region, select, split, stack_id, stack_name, sub, sub_with, url_suffix,
};

/// The README's template builds.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
