//! Both forms of the template, whole: a change to either shows in review.

#![allow(clippy::unwrap_used)]

use streambot_infra::{Streambot, Template};

#[test]
fn standalone() {
    let document = Streambot::new().template().build().unwrap();
    insta::assert_snapshot!(document.to_string());
}

#[test]
fn composed_with_settings_fixed_in_code() {
    let mut template = Template::new();
    Streambot::new()
        .alarm_email("on-call@example.org")
        .log_bucket("acme-logs")
        .log_prefix("orders")
        .kinesis_stream_arn("")
        .number_of_shards(4)
        .add_to(&mut template);
    insta::assert_snapshot!(template.build().unwrap().to_string());
}
