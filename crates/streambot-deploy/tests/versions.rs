//! Versions of a function against moto: how many stay, going back, and canaries that do well, do
//! badly or are interrupted.

mod support;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use serde_json::{Value, json};

use support::proxy::Proxy;
use support::{REGION, Server, Service, streambot_deploy};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));
static AWS: LazyLock<Proxy> = LazyLock::new(|| Proxy::of(&MOTO).expect("the proxy starts"));

/// A service that is deployed in an environment `staging`.
struct Deployed {
    service: Service,
    function: String,
    lambda: aws_sdk_lambda::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
}

impl Deployed {
    async fn new(name: &str) -> Result<Self> {
        let config = MOTO.config(REGION).await;
        let function = format!("{name}-staging");
        let output = streambot_deploy().args(["template", "--form", "composed"]).output()?;
        ensure!(output.status.success());
        aws_sdk_cloudformation::Client::new(&config)
            .create_stack()
            .stack_name(&function)
            .template_body(String::from_utf8(output.stdout)?)
            .capabilities(aws_sdk_cloudformation::types::Capability::CapabilityIam)
            .send()
            .await?;
        let service = Service::at(name, AWS.url())?;
        service.run(&["staging"])?;
        Ok(Self {
            service,
            function,
            lambda: aws_sdk_lambda::Client::new(&config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(
                &config.into_builder().endpoint_url(AWS.url()).build(),
            ),
        })
    }

    /// The version the alias names, and the one that gets a share.
    async fn alias(&self) -> Result<(String, Option<(String, f64)>)> {
        let alias =
            self.lambda.get_alias().function_name(&self.function).name("current").send().await?;
        let weights = alias
            .routing_config
            .and_then(|routing| routing.additional_version_weights)
            .unwrap_or_default();
        Ok((alias.function_version.context("a version")?, weights.into_iter().next()))
    }

    async fn versions(&self) -> Result<Vec<String>> {
        let answer =
            self.lambda.list_versions_by_function().function_name(&self.function).send().await?;
        Ok(answer
            .versions()
            .iter()
            .filter_map(|version| version.version().map(str::to_owned))
            .collect())
    }

    /// Waits until a canary of `version` runs.
    async fn until_canary(&self, version: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.alias().await?.1.is_none_or(|(known, _)| known != version) {
            ensure!(Instant::now() < deadline, "no canary of version {version}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Counts an invocation of `version`, as Lambda does.
    async fn invoked(&self, version: &str) -> Result<()> {
        let dimension =
            |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
        let datum = MetricDatum::builder()
            .metric_name("Invocations")
            .dimensions(dimension("FunctionName", &self.function))
            .dimensions(dimension("Resource", &format!("{}:current", self.function)))
            .dimensions(dimension("ExecutedVersion", version))
            .value(1.0)
            .build();
        self.cloudwatch.put_metric_data().namespace("AWS/Lambda").metric_data(datum).send().await?;
        Ok(())
    }

    /// Counts an invocation of `version` that left a record undone, as the runtime does.
    async fn record_undone(&self, version: &str) -> Result<()> {
        let dimension =
            |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
        let datum = MetricDatum::builder()
            .metric_name(&self.function)
            .dimensions(dimension("Status", "Error"))
            .dimensions(dimension("ExecutedVersion", version))
            .value(1.0)
            .build();
        self.cloudwatch.put_metric_data().namespace("streambot").metric_data(datum).send().await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_newest_versions_are_kept_and_the_live_one() -> Result<()> {
    let deployed = Deployed::new("keeper").await?;
    for memory in ["129", "130"] {
        deployed.service.run(&["staging", "--memory", memory])?;
    }
    deployed.service.run(&["staging", "--memory", "131", "--keep-versions", "2"])?;
    assert_eq!(deployed.versions().await?, ["$LATEST", "3", "4"]);
    deployed.service.run(&["rollback", "staging"])?;
    assert_eq!(deployed.alias().await?, ("3".to_owned(), None));
    Ok(())
}

#[tokio::test]
async fn a_rollback_moves_the_alias_and_the_next_deploy_moves_it_on() -> Result<()> {
    let deployed = Deployed::new("returner").await?;
    let said = deployed.service.fails(&["rollback", "staging"], 2)?;
    assert!(said.contains("error: there is no version before 1, which is live"), "{said}");
    for memory in ["129", "130"] {
        deployed.service.run(&["staging", "--memory", memory])?;
    }
    let answer = deployed.service.run(&["rollback", "staging"])?;
    assert_eq!(
        answer,
        json!({ "function": "returner-staging", "alias": "current", "from": "3", "canary": null, "to": "2", "moved": true })
    );
    assert_eq!(deployed.alias().await?.0, "2");
    let answer = deployed.service.run(&["rollback", "staging", "--to", "2"])?;
    assert_eq!(answer["moved"], false);
    assert_eq!(deployed.service.run(&["rollback", "staging", "--to", "1"])?["to"], "1");
    let said = deployed.service.fails(&["rollback", "staging", "--to", "9"], 2)?;
    assert!(said.contains("the versions are 1, 2, 3"), "{said}");
    let said = deployed.service.fails(&["rollback", "nowhere"], 3)?;
    assert!(
        said.contains(
            "function `returner-nowhere` with an alias `current` is not there in us-east-1"
        ),
        "{said}"
    );

    deployed.service.run(&["staging", "--memory", "130"])?;
    let function = deployed
        .lambda
        .get_function()
        .function_name("returner-staging")
        .qualifier("current")
        .send()
        .await?;
    assert_eq!(
        function.configuration.and_then(|configuration| configuration.memory_size),
        Some(130)
    );
    Ok(())
}

#[tokio::test]
async fn a_canary_that_does_well_gets_all_and_one_that_fails_gets_none() -> Result<()> {
    let deployed = Deployed::new("canary").await?;
    let run = |memory: &'static str, canary: &'static str| {
        let mut command =
            deployed.service.command(["staging", "--memory", memory, "--canary", canary]);
        tokio::task::spawn_blocking(move || {
            command.args(["--profile", "dev", "--output", "json"]).output()
        })
    };
    let (output, invoked) = tokio::join!(run("129", "50%/2s"), async {
        deployed.until_canary("2").await?;
        deployed.invoked("2").await
    });
    invoked?;
    let output = output??;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    assert!(said.contains("version 2 of `canary-staging` gets its share: 50%/2s"), "{said}");
    assert!(said.contains("version 2 of `canary-staging` gets all batches"), "{said}");
    assert_eq!(deployed.alias().await?, ("2".to_owned(), None));

    let (failed, undone) = tokio::join!(run("130", "10%/60s"), async {
        deployed.until_canary("3").await?;
        assert_eq!(deployed.alias().await?, ("2".to_owned(), Some(("3".to_owned(), 0.1))));
        deployed.record_undone("3").await
    });
    undone?;
    let failed = failed??;
    let said = String::from_utf8(failed.stderr)?;
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(
        said.contains(
            "error: version 3 of `canary-staging` gets no batches any more, version 2 gets them all"
        ),
        "{said}"
    );
    assert!(said.contains("1 left a record undone"), "{said}");
    assert_eq!(deployed.alias().await?, ("2".to_owned(), None));

    let output = run("131", "10%/1s").await??;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("because: it was not invoked in its time"), "{said}");
    assert_eq!(deployed.alias().await?, ("2".to_owned(), None));
    Ok(())
}

#[tokio::test]
async fn an_interrupted_canary_is_picked_up_by_the_next_run_or_ended_by_a_rollback() -> Result<()> {
    let deployed = Deployed::new("patient").await?;
    let interrupt = async |memory: &str, version: &str| -> Result<()> {
        let arguments = ["staging", "--memory", memory, "--canary", "10%/3s", "--profile", "dev"];
        let mut run =
            deployed.service.command(arguments).stderr(std::process::Stdio::null()).spawn()?;
        deployed.until_canary(version).await?;
        run.kill()?;
        run.wait()?;
        Ok(())
    };
    interrupt("129", "2").await?;
    assert_eq!(deployed.alias().await?.0, "1");
    deployed.invoked("2").await?;
    let answer: Value = deployed.service.run(&["staging", "--memory", "129"])?;
    assert_eq!(answer["version"], "2");
    assert_eq!(deployed.alias().await?, ("2".to_owned(), None));

    interrupt("130", "3").await?;
    let answer = deployed.service.run(&["rollback", "staging"])?;
    assert_eq!((&answer["canary"], &answer["to"]), (&json!("3"), &json!("2")));
    assert_eq!(deployed.alias().await?, ("2".to_owned(), None));

    // What is declared is live, and a canary of something else still runs.
    interrupt("131", "4").await?;
    let answer = deployed.service.run(&["staging", "--memory", "129"])?;
    assert_eq!(
        deployed.alias().await?,
        (answer["version"].as_str().context("a version")?.to_owned(), None)
    );
    Ok(())
}
