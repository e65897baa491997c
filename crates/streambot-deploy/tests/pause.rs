//! `pause` and `resume` against moto: what becomes of the function's mappings, what is not written
//! twice, and what they say.

mod support;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_lambda::types::{EventSourcePosition, FunctionCode, Runtime};
use serde_json::json;

use support::front::Front;
use support::{REGION, Server, Service};

const ROLE: &str = "arn:aws:iam::123456789012:role/lambda/quakes";

/// A function with a version and an alias, and a mapping of the stream to it, without any stack.
async fn function_with_mapping(server: &Server, name: &str) -> Result<String> {
    let config = server.config(REGION).await;
    let lambda = aws_sdk_lambda::Client::new(&config);
    let iam = aws_sdk_iam::Client::new(&config);
    // Another test of this file may have made it.
    let _ = iam
        .create_role()
        .path("/lambda/")
        .role_name("quakes")
        .assume_role_policy_document("{}")
        .send()
        .await;
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    kinesis.create_stream().stream_name(name).shard_count(1).send().await?;
    lambda
        .create_function()
        .function_name(name)
        .role(ROLE)
        .runtime(Runtime::Providedal2023)
        .handler("bootstrap")
        .code(
            FunctionCode::builder()
                .zip_file(aws_sdk_lambda::primitives::Blob::new(*b"PK\x05\x06"))
                .build(),
        )
        .publish(true)
        .send()
        .await?;
    lambda.create_alias().function_name(name).name("current").function_version("1").send().await?;
    let mapping = lambda
        .create_event_source_mapping()
        .function_name(name)
        .event_source_arn(format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}"))
        .starting_position(EventSourcePosition::TrimHorizon)
        .send()
        .await?;
    mapping.uuid.context("a mapping has a UUID")
}

#[tokio::test]
async fn a_mapping_is_paused_and_resumed_once_and_a_second_call_writes_nothing() -> Result<()> {
    let moto = Server::moto()?;
    let front = Front::before(&moto, None)?;
    let service = Service::at("quakes", front.url())?;
    let uuid = function_with_mapping(&moto, "quakes-staging").await?;
    let lambda = aws_sdk_lambda::Client::new(&moto.config(REGION).await);
    let state = async || -> Result<Option<String>> {
        Ok(lambda.get_event_source_mapping().uuid(&uuid).send().await?.state)
    };
    let put = format!("PUT event-source-mappings/{uuid}");
    let mapping = |state: &str, changed: bool| {
        json!({ "function": "quakes-staging", "event_source_mappings": [{
            "uuid": uuid,
            "event_source_arn": "arn:aws:kinesis:us-east-1:123456789012:stream/quakes-staging",
            "state": state,
            "changed": changed,
        }] })
    };

    let paused = run(&service, &["pause", "staging"])?;
    assert_eq!(paused.0, mapping("Disabled", true));
    assert!(paused.1.contains("records wait in the stream until `resume`"), "{}", paused.1);
    assert_eq!(front.writes(), [put.as_str()]);
    assert_eq!(state().await?.as_deref(), Some("Disabled"));

    let again = run(&service, &["pause", "staging"])?;
    assert_eq!(again.0, mapping("Disabled", false));
    assert!(again.1.contains("is paused already"), "{}", again.1);
    assert_eq!(front.writes(), Vec::<String>::new());

    assert_eq!(run(&service, &["resume", "staging"])?.0, mapping("Enabled", true));
    assert_eq!(front.writes(), [put.as_str()]);
    assert_eq!(state().await?.as_deref(), Some("Enabled"));
    assert!(run(&service, &["resume", "staging"])?.1.contains("is enabled already"));
    assert_eq!(front.writes(), Vec::<String>::new());

    let output = service.command(["pause", "staging", "--quiet"]).output()?;
    let said = String::from_utf8(output.stdout)?;
    let source = "arn:aws:kinesis:us-east-1:123456789012:stream/quakes-staging";
    assert_eq!(
        said,
        format!("function: quakes-staging\nevent source mapping: {uuid} of {source} (Disabled)\n")
    );
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn where_there_is_no_mapping_nothing_is_there() -> Result<()> {
    let moto = Server::moto()?;
    let service = Service::new("orders", &moto)?;
    for verb in ["pause", "resume"] {
        let output = service.command([verb, "staging"]).output()?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains("function `orders-staging` has no event source mapping in us-east-1"),
            "{said}"
        );
    }
    Ok(())
}

/// The answer, and what was said on the way.
fn run(service: &Service, arguments: &[&str]) -> Result<(serde_json::Value, String)> {
    let output = service.command(arguments).args(["--output", "json"]).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    Ok((serde_json::from_slice(&output.stdout)?, said))
}
