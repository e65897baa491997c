//! The proxy of the other tests: what it notes, what it breaks, and where it answers as Lambda does
//! and moto does not.

mod support;

use std::io::{Cursor, Write as _};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, LastUpdateStatus, Runtime, State};

use support::proxy::{Call, Fault, Proxy, Refusal};
use support::{REGION, Server};

/// One moto for all tests of this file; each has a function of its own.
static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));

/// A function behind a proxy.
struct Behind {
    proxy: Proxy,
    lambda: aws_sdk_lambda::Client,
    name: &'static str,
}

fn code(text: &str) -> Result<Blob> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bootstrap", zip::write::SimpleFileOptions::default())?;
    zip.write_all(text.as_bytes())?;
    Ok(Blob::new(zip.finish()?.into_inner()))
}

impl Behind {
    /// A function that was just created.
    async fn new(name: &'static str) -> Result<Self> {
        Self::settling(name, 0).await
    }

    /// One whose changes take so many looks.
    async fn settling(name: &'static str, looks: u32) -> Result<Self> {
        let config = MOTO.config(REGION).await;
        let trust = r#"{"Version":"2012-10-17","Statement":[]}"#;
        let role = aws_sdk_iam::Client::new(&config).create_role();
        let role = role
            .role_name(name)
            .assume_role_policy_document(trust)
            .send()
            .await?
            .role
            .context("a role")?;
        let proxy = tokio::task::spawn_blocking(move || -> Result<Proxy> {
            let proxy = Proxy::of(&MOTO)?;
            proxy.settle_after(looks);
            Ok(proxy)
        });
        let proxy = proxy.await??;
        let retries = aws_config::retry::RetryConfig::disabled();
        let config = config.into_builder().endpoint_url(proxy.url()).retry_config(retries).build();
        let lambda = aws_sdk_lambda::Client::new(&config);
        let create =
            lambda.create_function().function_name(name).role(role.arn).handler("bootstrap");
        create
            .runtime(Runtime::Providedal2023)
            .code(FunctionCode::builder().zip_file(code("one")?).build())
            .send()
            .await?;
        Ok(Self { proxy, lambda, name })
    }

    async fn latest(&self) -> Result<aws_sdk_lambda::types::FunctionConfiguration> {
        self.lambda
            .get_function()
            .function_name(self.name)
            .send()
            .await?
            .configuration
            .context("a configuration")
    }

    async fn revision(&self) -> Result<String> {
        self.latest().await?.revision_id.context("a revision")
    }

    async fn publish(&self) -> Result<String> {
        self.lambda
            .publish_version()
            .function_name(self.name)
            .send()
            .await?
            .version
            .context("a version")
    }
}

/// The code of the error that this ended with.
fn refused<T, E: ProvideErrorMetadata>(answer: Result<T, E>) -> String {
    answer
        .err()
        .and_then(|error| error.code().map(str::to_owned))
        .unwrap_or_else(|| "no refusal".to_owned())
}

#[tokio::test]
async fn a_write_with_another_revision_than_the_functions_is_refused() -> Result<()> {
    let behind = Behind::new("revised").await?;
    let Behind { lambda, name, .. } = &behind;
    let first = behind.revision().await?;
    lambda
        .update_function_configuration()
        .function_name(*name)
        .memory_size(256)
        .revision_id(&first)
        .send()
        .await?;
    let second = behind.revision().await?;
    assert_ne!(first, second);

    let outdated = "PreconditionFailedException";
    let configure = lambda.update_function_configuration().function_name(*name).memory_size(512);
    assert_eq!(refused(configure.revision_id(&first).send().await), outdated);
    let upload = lambda.update_function_code().function_name(*name).zip_file(code("two")?);
    assert_eq!(refused(upload.revision_id(&first).send().await), outdated);
    let publish = lambda.publish_version().function_name(*name);
    assert_eq!(refused(publish.clone().revision_id(&first).send().await), outdated);
    assert_eq!(
        refused(publish.clone().code_sha256("other").send().await),
        "InvalidParameterValueException"
    );
    let published = publish.revision_id(&second).send().await?;
    assert_ne!(behind.revision().await?, second, "a version changes the revision of $LATEST too");

    let version = published.version.context("a version")?;
    let alias = lambda
        .create_alias()
        .function_name(*name)
        .name("current")
        .function_version(&version)
        .send()
        .await?;
    let update =
        lambda.update_alias().function_name(*name).name("current").function_version(&version);
    let told = lambda.get_alias().function_name(*name).name("current").send().await?;
    assert_eq!(told.revision_id(), alias.revision_id());
    update.clone().revision_id(alias.revision_id().context("a revision")?).send().await?;
    assert_eq!(
        refused(update.revision_id(alias.revision_id().context("a revision")?).send().await),
        outdated
    );
    Ok(())
}

#[tokio::test]
async fn the_revision_that_a_change_answers_is_not_the_one_it_ends_with() -> Result<()> {
    let behind = Behind::new("stale").await?;
    let change =
        behind.lambda.update_function_configuration().function_name(behind.name).memory_size(256);
    let answer = change.send().await?;
    assert_eq!(answer.last_update_status(), Some(&LastUpdateStatus::InProgress));
    assert_ne!(answer.revision_id, behind.latest().await?.revision_id);
    Ok(())
}

#[tokio::test]
async fn nothing_new_makes_no_new_version() -> Result<()> {
    let behind = Behind::new("published").await?;
    // moto makes two versions where the first one was not of the function as it was created.
    behind
        .lambda
        .update_function_configuration()
        .function_name(behind.name)
        .memory_size(256)
        .send()
        .await?;
    assert_eq!(behind.publish().await?, "1");
    assert_eq!(behind.publish().await?, "1");
    behind
        .lambda
        .update_function_code()
        .function_name(behind.name)
        .zip_file(code("two")?)
        .send()
        .await?;
    assert_eq!(behind.publish().await?, "2");
    assert_eq!(behind.publish().await?, "2");
    behind
        .lambda
        .create_alias()
        .function_name(behind.name)
        .name("current")
        .function_version("1")
        .send()
        .await?;
    let again = behind
        .lambda
        .create_alias()
        .function_name(behind.name)
        .name("current")
        .function_version("2");
    assert_eq!(refused(again.send().await), "ResourceConflictException");
    let delete = behind.lambda.delete_function().function_name(behind.name);
    assert_eq!(refused(delete.clone().qualifier("1").send().await), "ResourceConflictException");
    delete.qualifier("2").send().await?;
    Ok(())
}

#[tokio::test]
async fn a_mapping_is_known_by_the_name_it_was_made_with_and_is_not_doubled() -> Result<()> {
    let behind = Behind::new("mapped").await?;
    let kinesis = aws_sdk_kinesis::Client::new(&MOTO.config(REGION).await);
    kinesis.create_stream().stream_name("mapped").shard_count(1).send().await?;
    let stream = format!("arn:aws:kinesis:{REGION}:123456789012:stream/mapped");
    let version = behind.publish().await?;
    let alias = behind
        .lambda
        .create_alias()
        .function_name("mapped")
        .name("current")
        .function_version(version);
    let alias = alias.send().await?.alias_arn.context("an ARN")?;

    let create = behind.lambda.create_event_source_mapping().event_source_arn(&stream);
    let of_function = create.clone().function_name("mapped").send().await?;
    let of_alias = create.clone().function_name(&alias).send().await?;
    assert_eq!(of_alias.function_arn(), Some(alias.as_str()));
    let double = create.clone().function_name("mapped:current").send().await;
    let message =
        double.as_ref().err().and_then(|error| error.message()).unwrap_or_default().to_owned();
    assert_eq!(refused(double), "ResourceConflictException");
    assert!(
        message.contains("already exists") && message.contains(of_alias.uuid().context("UUID")?),
        "{message}"
    );

    let listed = async |function: &str| -> Result<Vec<Option<String>>> {
        let answer =
            behind.lambda.list_event_source_mappings().function_name(function).send().await?;
        Ok(answer
            .event_source_mappings
            .unwrap_or_default()
            .into_iter()
            .map(|mapping| mapping.uuid)
            .collect())
    };
    assert_eq!(listed("mapped").await?, std::slice::from_ref(&of_function.uuid));
    assert_eq!(listed("mapped:current").await?, std::slice::from_ref(&of_alias.uuid));
    behind.lambda.delete_event_source_mapping().uuid(of_alias.uuid.context("UUID")?).send().await?;
    let update =
        behind.lambda.update_event_source_mapping().uuid(of_function.uuid.clone().context("UUID")?);
    update.function_name(&alias).send().await?;
    assert_eq!(listed("mapped").await?, []);
    assert_eq!(listed("mapped:current").await?, [of_function.uuid]);

    let consumer = format!("{stream}/consumer/fanned:1");
    let fanned = create.clone().event_source_arn(&consumer).function_name("mapped:current");
    let of_consumer = fanned.send().await?;
    assert_eq!(of_consumer.event_source_arn(), Some(consumer.as_str()));
    let list = behind.lambda.list_event_source_mappings().event_source_arn(consumer).send().await?;
    assert_eq!(list.event_source_mappings().len(), 1);

    let unknown =
        create.event_source_arn(format!("{stream}-not")).function_name("mapped").send().await;
    assert_eq!(refused(unknown), "InvalidParameterValueException");
    Ok(())
}

#[tokio::test]
async fn a_change_takes_its_time_and_others_are_refused_meanwhile() -> Result<()> {
    let behind = Behind::settling("slow", 2).await?;
    assert_eq!(behind.latest().await?.state(), Some(&State::Pending));
    assert_eq!(behind.latest().await?.state(), Some(&State::Pending));
    assert_eq!(behind.latest().await?.state(), Some(&State::Active));
    let change =
        behind.lambda.update_function_configuration().function_name(behind.name).memory_size(256);
    change.clone().send().await?;
    assert_eq!(refused(change.send().await), "ResourceConflictException");
    let latest = behind.latest().await?;
    assert_eq!(
        (latest.state(), latest.last_update_status()),
        (Some(&State::Active), Some(&LastUpdateStatus::InProgress))
    );
    assert_eq!(behind.latest().await?.last_update_status(), Some(&LastUpdateStatus::Successful));
    Ok(())
}

#[tokio::test]
async fn a_fault_befalls_the_call_that_was_named_and_all_are_noted() -> Result<()> {
    let behind = Behind::new("broken").await?;
    let (proxy, lambda) = (&behind.proxy, &behind.lambda);
    proxy.take();
    proxy.once("GetFunction", 2, Fault::Refuse(Refusal::throttled()));
    proxy.once("GetFunction", 3, Fault::ResetBefore);
    proxy.once("UpdateFunctionConfiguration", 1, Fault::ResetAfter);
    let get = async || refused(lambda.get_function().function_name("broken").send().await);
    assert_eq!(get().await, "no refusal");
    assert_eq!(get().await, "TooManyRequestsException");
    assert!(lambda.get_function().function_name("broken").send().await.is_err());
    let change = lambda.update_function_configuration().function_name("broken").memory_size(256);
    assert!(change.send().await.is_err());
    assert_eq!(
        behind.latest().await?.memory_size(),
        Some(256),
        "the change was made, and its answer lost"
    );
    let silent = lambda.get_function().function_name("broken");
    proxy.once("GetFunction", 1, Fault::Silence);
    let waited = tokio::time::timeout(Duration::from_millis(100), silent.send()).await;
    assert!(waited.is_err());
    proxy.heal();

    let calls = proxy.take();
    let noted: Vec<_> = calls
        .iter()
        .map(|call| (call.operation.as_str(), call.occurrence, call.write, call.status))
        .collect();
    let read = |number, status| ("GetFunction", number, false, status);
    let expected = [
        read(1, Some(200)),
        read(2, Some(429)),
        read(3, None),
        ("UpdateFunctionConfiguration", 1, true, None),
        read(4, Some(200)),
        read(5, None),
    ];
    assert_eq!(noted, expected);
    Ok(())
}

#[tokio::test]
async fn calls_at_once_are_one_round_trip() -> Result<()> {
    let behind = Behind::new("counted").await?;
    behind.proxy.take();
    behind.proxy.delay(Duration::from_millis(50));
    let get = async || behind.latest().await;
    tokio::try_join!(get(), get(), get())?;
    get().await?;
    let calls = behind.proxy.take();
    assert_eq!((calls.len(), Call::depth(&calls)), (4, 2));
    Ok(())
}

#[tokio::test]
async fn a_role_may_do_all_but_what_is_denied() -> Result<()> {
    let proxy = Proxy::of(&MOTO)?;
    proxy.deny("kinesis:GetRecords");
    let config = MOTO.config(REGION).await.into_builder().endpoint_url(proxy.url()).build();
    let iam = aws_sdk_iam::Client::new(&config);
    let simulate =
        iam.simulate_principal_policy().policy_source_arn("arn:aws:iam::123456789012:role/any");
    let answer = simulate
        .action_names("kinesis:ListShards")
        .action_names("kinesis:GetRecords")
        .send()
        .await?;
    let told = answer.evaluation_results().iter();
    let told: Vec<_> =
        told.map(|result| (result.eval_action_name(), result.eval_decision().as_str())).collect();
    assert_eq!(told, [("kinesis:ListShards", "allowed"), ("kinesis:GetRecords", "implicitDeny")]);
    Ok(())
}
