//! `stack` against LocalStack, which has change sets and nests stacks: what it shows, what it
//! leaves there, and what it says when a change fails.
//!
//! LocalStack differs from AWS where a test says so. It tells neither capabilities nor which
//! properties change, it has no change sets of nested stacks, it does not update nested stacks, and
//! it undoes nothing: a stack whose creation fails stays in CREATE_FAILED, which AWS knows only
//! where the roll-back was disabled.

mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use support::{REGION, Server, Service, streambot_deploy};

/// One LocalStack for all tests of this file; each has a stack of its own.
static LOCALSTACK: LazyLock<Server> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("localstack-of-stack");
    std::fs::create_dir_all(&folder).expect("a folder");
    Server::localstack(&folder).expect("LocalStack starts")
});

/// AWS as a test sees it, and the service it is about.
struct Stack {
    service: Service,
    name: String,
    cloudformation: aws_sdk_cloudformation::Client,
    s3: aws_sdk_s3::Client,
}

impl Stack {
    /// The stack of `package` in staging.
    async fn of(package: &str) -> Result<Self> {
        let config = LOCALSTACK.config(REGION).await;
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        Ok(Self {
            service: Service::new(package, &LOCALSTACK)?,
            name: format!("{package}-staging"),
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
        })
    }

    fn template(&self, template: &Value) -> Result<()> {
        self.service.file("stack.json", &template.to_string())
    }

    /// `stack staging --template stack.json`, whatever comes of it.
    fn attempt(&self, arguments: &[&str]) -> Result<Output> {
        let verb = [
            "stack",
            "staging",
            "--template",
            "stack.json",
            "--back-off",
            "0.05",
            "--output",
            "json",
        ];
        Ok(self.service.command(verb).args(arguments).output()?)
    }

    /// What it answers and what it tells meanwhile.
    fn run(&self, arguments: &[&str]) -> Result<(Value, String)> {
        let output = self.attempt(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{arguments:?} failed:\n{said}");
        Ok((serde_json::from_slice(&output.stdout)?, said))
    }

    /// It fails, and this is what it says.
    fn fails(&self, arguments: &[&str], exit_code: i32) -> Result<String> {
        let output = self.attempt(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(exit_code),
            "{:?}, not {exit_code}:\n{said}",
            output.status.code()
        );
        ensure!(output.stdout.is_empty(), "a failure has no result");
        Ok(said)
    }

    /// `stack staging --template stack.json` on a terminal, where `keys` are typed at the question:
    /// its exit code, and what was shown.
    fn answers(&self, keys: &str) -> Result<(Option<i32>, String)> {
        // `exec`: a shell left in between is interrupted too, and dash then answers 130 for itself.
        let program = env!("CARGO_BIN_EXE_streambot-deploy");
        let call = format!("exec {program} stack staging --template stack.json --back-off 0.05");
        let settings = self.service.command::<&str>([]);
        let mut terminal = Command::new("script");
        for (name, value) in settings.get_envs() {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let mut child = terminal
            .args(["--quiet", "--return", "--command", &call, "/dev/null"])
            .current_dir(self.service.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut shown = Vec::new();
        let mut output = child.stdout.take().context("piped")?;
        let mut input = child.stdin.take().context("piped")?;
        let mut asked = false;
        let mut buffer = [0; 4096];
        loop {
            let length = output.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            shown.extend_from_slice(&buffer[..length]);
            if !asked && shown.windows(5).any(|bytes| bytes == b"[y/N]") {
                asked = true;
                input.write_all(keys.as_bytes())?;
            }
        }
        Ok((child.wait()?.code(), String::from_utf8_lossy(&shown).replace("\r\n", "\n")))
    }

    async fn described(&self) -> Option<aws_sdk_cloudformation::types::Stack> {
        let answer =
            self.cloudformation.describe_stacks().stack_name(&self.name).send().await.ok()?;
        answer.stacks().first().cloned()
    }

    /// The status of the stack, where there is one.
    async fn status(&self) -> Option<String> {
        Some(self.described().await?.stack_status()?.as_str().to_owned())
    }

    /// The stack's id. By its name, LocalStack finds one that was deleted too.
    async fn id(&self) -> Result<String> {
        self.described().await.and_then(|stack| stack.stack_id).context("the stack is there")
    }

    async fn change_sets(&self) -> Result<usize> {
        let answer =
            self.cloudformation.list_change_sets().stack_name(self.id().await?).send().await?;
        let left = answer.summaries().iter().filter(|summary| {
            // LocalStack keeps those that were executed, where AWS keeps them as the stack's
            // history too.
            summary.execution_status().is_none_or(|status| !status.as_str().starts_with("EXECUTE_"))
        });
        Ok(left.count())
    }

    async fn resources(&self) -> Result<Vec<String>> {
        let answer =
            self.cloudformation.list_stack_resources().stack_name(self.id().await?).send().await?;
        let mut ids: Vec<_> = answer
            .stack_resource_summaries()
            .iter()
            .filter_map(|resource| resource.logical_resource_id())
            .collect();
        ids.sort_unstable();
        Ok(ids.into_iter().map(str::to_owned).collect())
    }
}

/// What is told, without the times.
fn lines(said: &str) -> Vec<&str> {
    said.lines().map(|line| line.split_once(" s] ").map_or(line, |(_, line)| line)).collect()
}

fn queue(delay: u32) -> Value {
    json!({ "Type": "AWS::SQS::Queue", "Properties": { "DelaySeconds": delay } })
}

/// LocalStack refuses a rule for a function's permission on a function that is not there, at once.
fn broken() -> Value {
    json!({ "Type": "AWS::Lambda::Permission", "Properties": {
        "FunctionName": "not-there", "Action": "lambda:InvokeFunction", "Principal": "sns.amazonaws.com",
    } })
}

#[tokio::test]
async fn a_stack_is_created_changed_and_left_alone() -> Result<()> {
    let stack = Stack::of("converging").await?;
    let parameters =
        json!({ "Delay": { "Type": "Number" }, "Size": { "Type": "Number", "Default": 1024 } });
    let template = |resources: Value| {
        json!({
            "Parameters": parameters,
            "Resources": resources,
            // To LocalStack, a resource that names a parameter is always a changed one.
            "Outputs": { "Delay": { "Value": { "Ref": "Delay" } } },
        })
    };
    stack.template(&template(json!({ "Queue": queue(1) })))?;
    let (answer, said) = stack.run(&["--yes", "--parameter", "Delay=5"])?;
    assert_eq!(answer["result"], "created");
    assert_eq!(answer["status"], "CREATE_COMPLETE");
    assert_eq!(answer["stack"], "converging-staging");
    assert_eq!(
        answer["changes"],
        json!([{ "action": "add", "logical_id": "Queue", "type": "AWS::SQS::Queue" }])
    );
    let told = lines(&said);
    let place = |line: &str| {
        told.iter().position(|told| *told == line).with_context(|| format!("{line}: {said}"))
    };
    let places = [
        place("reading stack `converging-staging`")?,
        place("making a change set of stack `converging-staging`")?,
        place("  + add Queue (AWS::SQS::Queue)")?,
        place("converging-staging (AWS::CloudFormation::Stack) CREATE_IN_PROGRESS")?,
        place("Queue (AWS::SQS::Queue) CREATE_COMPLETE")?,
        place("converging-staging (AWS::CloudFormation::Stack) CREATE_COMPLETE")?,
    ];
    assert!(places.is_sorted(), "{said}");

    let (answer, _) = stack.run(&[])?;
    assert_eq!(answer["result"], "unchanged");
    assert_eq!(answer["changes"], json!([]));
    assert_eq!(stack.change_sets().await?, 0);

    stack.template(&template(json!({ "Queue": queue(2), "Other": queue(1) })))?;
    let (answer, said) = stack.run(&["--yes", "--quiet"])?;
    assert_eq!(answer["result"], "updated");
    assert_eq!(said, "");
    assert_eq!(stack.resources().await?, ["Other", "Queue"]);
    let described = stack.described().await.context("the stack is there")?;
    let value = |key: &str| {
        described
            .parameters()
            .iter()
            .find(|parameter| parameter.parameter_key() == Some(key))
            .and_then(|it| it.parameter_value())
    };
    assert_eq!((value("Delay"), value("Size")), (Some("5"), Some("1024")));

    stack.template(&template(json!({ "Queue": queue(2) })))?;
    let said = stack.fails(&[], 4)?;
    assert!(said.contains("  - remove Other (AWS::SQS::Queue)\n"), "{said}");
    let question =
        "not confirmed: change 1 resource of stack `converging-staging`, removing `Other`?";
    assert!(
        said.contains(question) && said.contains("say yes with --yes; nothing was changed"),
        "{said}"
    );
    assert_eq!(stack.change_sets().await?, 0);
    assert_eq!(stack.resources().await?, ["Other", "Queue"]);
    stack.run(&["--yes"])?;
    assert_eq!(stack.resources().await?, ["Queue"]);
    Ok(())
}

#[tokio::test]
async fn a_new_stack_that_is_not_confirmed_leaves_nothing_behind() -> Result<()> {
    let stack = Stack::of("shy").await?;
    stack.template(&json!({ "Resources": { "Queue": queue(5) } }))?;
    let said = stack.fails(&[], 4)?;
    assert!(said.contains("not confirmed: create stack `shy-staging` with 1 resource?"), "{said}");
    assert_eq!(stack.status().await, None);

    // A change set that someone else made is theirs, and so is the stack that waits for it.
    let other =
        stack.cloudformation.create_change_set().stack_name(&stack.name).change_set_name("theirs");
    let body = json!({ "Resources": { "Queue": queue(5) } }).to_string();
    other
        .change_set_type(aws_sdk_cloudformation::types::ChangeSetType::Create)
        .template_body(body)
        .send()
        .await?;
    stack.fails(&[], 4)?;
    assert_eq!(stack.status().await.as_deref(), Some("REVIEW_IN_PROGRESS"));
    assert_eq!(stack.change_sets().await?, 1);
    let (answer, _) = stack.run(&["--yes"])?;
    assert_eq!(answer["result"], "created");
    Ok(())
}

#[tokio::test]
async fn who_is_asked_may_say_no_interrupt_or_say_yes() -> Result<()> {
    let stack = Stack::of("asked").await?;
    stack.template(&json!({ "Resources": { "Queue": queue(5) } }))?;
    for (keys, code, part) in [
        ("n\n", 4, "error: not confirmed: create stack `asked-staging` with 1 resource?"),
        ("\u{3}", 4, "error: interrupted before stack `asked-staging` was changed"),
    ] {
        let (exit_code, said) = stack.answers(keys)?;
        assert_eq!(exit_code, Some(code), "{said}");
        assert!(said.contains(part), "{said}");
        assert_eq!(stack.status().await, None);
    }
    let (exit_code, said) = stack.answers("y\n")?;
    assert_eq!(exit_code, Some(0), "{said}");
    assert_eq!(stack.status().await.as_deref(), Some("CREATE_COMPLETE"));
    assert!(said.contains("\u{1b}[32m  + add Queue (AWS::SQS::Queue)\u{1b}[0m"), "{said}");
    // The tree as it was at the end stays on the terminal.
    let tree = "  \u{1b}[32m✓\u{1b}[0m asked-staging (AWS::CloudFormation::Stack) \u{1b}[32mCREATE_COMPLETE\u{1b}[0m";
    let resource =
        "    \u{1b}[32m✓\u{1b}[0m Queue (AWS::SQS::Queue) \u{1b}[32mCREATE_COMPLETE\u{1b}[0m";
    assert!(said.contains(tree) && said.contains(resource), "{said}");

    stack.template(&json!({ "Resources": { "Other": queue(5) } }))?;
    let (exit_code, said) = stack.answers("n\n")?;
    assert_eq!(exit_code, Some(4), "{said}");
    assert!(said.contains("\u{1b}[31m  - remove Queue (AWS::SQS::Queue)\u{1b}[0m"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_the_call_is_said_before_anything_is_made() -> Result<()> {
    let stack = Stack::of("wrong").await?;
    let missing = stack.fails(&[], 2)?;
    assert!(
        missing.contains("error: reading the template stack.json\n  because: No such file"),
        "{missing}"
    );

    stack.template(&json!({
        "Parameters": { "Name": { "Type": "String" } },
        "Resources": { "Queue": queue(5) },
    }))?;
    let said = stack.fails(&["--yes"], 2)?;
    assert!(
        said.contains("parameter `Name` has no value\n  next: give it one: --parameter Name=…"),
        "{said}"
    );
    let said = stack.fails(&["--yes", "--parameter", "Nmae=x"], 2)?;
    assert!(said.contains("has no parameter `Nmae`\n  next: its parameters are `Name`"), "{said}");
    let said = stack.fails(&["--yes", "--parameter", "Name"], 2)?;
    assert!(said.contains("write `Name=value`"), "{said}");

    let nested = json!({ "Type": "AWS::CloudFormation::Stack", "Properties": { "TemplateURL": "child.json" } });
    stack.template(&json!({ "Resources": { "Child": nested } }))?;
    stack.service.file("child.json", "{\"Resources\":{}}")?;
    let said = stack.fails(&["--yes"], 2)?;
    assert!(
        said.contains("the template stack.json nests child.json\n  next: name a bucket"),
        "{said}"
    );
    let said = stack.fails(&["--yes", "--bucket", "not-there"], 1)?;
    assert!(said.contains("uploading the template child.json to bucket `not-there`"), "{said}");
    assert!(said.contains("next: create the bucket, or name another one with --bucket"), "{said}");
    assert_eq!(stack.status().await, None);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_told_by_its_root_cause_alone() -> Result<()> {
    let stack = Stack::of("failing").await?;
    let waits = json!({ "Type": "AWS::SQS::Queue", "DependsOn": "Broken" });
    stack.template(
        &json!({ "Resources": { "Queue": queue(5), "Broken": broken(), "After": waits } }),
    )?;
    let said = stack.fails(&["--yes"], 1)?;
    let expected = "error: stack `failing-staging` was not created (CREATE_FAILED)\n  \
                    because: Broken (AWS::Lambda::Permission): An error occurred";
    assert_eq!(reasons(&said, expected)?, 1, "{said}");
    assert!(said.contains("\n  next: mend the template and try again"), "{said}");

    let stack = Stack::of("failing-later").await?;
    stack.template(&json!({ "Resources": { "Queue": queue(5) } }))?;
    stack.run(&["--yes"])?;
    stack.template(&json!({ "Resources": { "Queue": queue(6), "Broken": broken() } }))?;
    let said = stack.fails(&["--yes"], 1)?;
    let expected = "error: stack `failing-later-staging` was not updated (UPDATE_FAILED)\n  \
                    because: Broken (AWS::Lambda::Permission): An error occurred";
    assert_eq!(reasons(&said, expected)?, 1, "{said}");
    Ok(())
}

/// How many causes a report tells that begins so.
fn reasons(said: &str, beginning: &str) -> Result<usize> {
    let report = &said[said.find("error: ").context("an error is told")?..];
    ensure!(report.starts_with(beginning), "{report}");
    Ok(report.matches("\n  because: ").count())
}

#[tokio::test]
async fn nested_templates_and_large_ones_go_through_the_bucket_once() -> Result<()> {
    let stack = Stack::of("nesting").await?;
    stack.s3.create_bucket().bucket("nesting-templates").send().await?;
    let parent = format!(
        "Resources:\n  Child:\n    Type: AWS::CloudFormation::Stack\n    Properties:\n      TemplateURL: below/streambot.template\n  \
         Queue:\n    Type: AWS::SQS::Queue\n# {}\n",
        "a large template ".repeat(4000)
    );
    stack.service.file("stack.json", &parent)?;
    let template = streambot_deploy().arg("template").output()?.stdout;
    stack.service.file("below/streambot.template", &String::from_utf8(template)?)?;
    let bucket = ["--yes", "--bucket", "nesting-templates"];
    let (answer, said) = stack.run(&bucket)?;
    assert_eq!(answer["result"], "created");
    assert!(said.contains(" Child/Stream (AWS::Kinesis::Stream) CREATE_COMPLETE\n"), "{said}");
    let uploads = said.matches("uploading ").count();
    assert_eq!(uploads, 2, "{said}");
    let objects = stack.s3.list_objects_v2().bucket("nesting-templates").send().await?;
    for object in objects.contents() {
        let key = object.key().context("a key")?;
        assert!(
            key.starts_with("streambot/") && key.ends_with(".template") && key.len() == 83,
            "{key}"
        );
    }
    assert_eq!(objects.contents().len(), 2);

    let (answer, said) = stack.run(&bucket)?;
    assert_eq!(answer["result"], "unchanged");
    assert!(!said.contains("uploading"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_failure_within_a_nested_stack_is_told_where_it_came_about() -> Result<()> {
    let stack = Stack::of("deep").await?;
    stack.s3.create_bucket().bucket("deep-templates").send().await?;
    let nested = json!({ "Type": "AWS::CloudFormation::Stack", "Properties": { "TemplateURL": "child.json" } });
    stack.template(&json!({ "Resources": { "Child": nested, "Queue": queue(5) } }))?;
    stack.service.file("child.json", &json!({ "Resources": { "Inner": broken() } }).to_string())?;
    let said = stack.fails(&["--yes", "--bucket", "deep-templates"], 1)?;
    let expected = "error: stack `deep-staging` was not created (CREATE_FAILED)\n  \
                    because: Child/Inner (AWS::Lambda::Permission): An error occurred";
    assert_eq!(reasons(&said, expected)?, 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_stack_that_is_being_changed_is_waited_for() -> Result<()> {
    let stack = Stack::of("busy").await?;
    stack.s3.create_bucket().bucket("busy-templates").send().await?;
    let child = json!({ "Resources": { "Inner": queue(1) } }).to_string();
    stack
        .s3
        .put_object()
        .bucket("busy-templates")
        .key("child")
        .body(child.into_bytes().into())
        .send()
        .await?;
    let url = format!("{}/busy-templates/child", LOCALSTACK.url());
    let nested =
        json!({ "Type": "AWS::CloudFormation::Stack", "Properties": { "TemplateURL": url } });
    // LocalStack looks at a nested stack after five seconds, so this one is being created for as
    // long.
    let body = json!({ "Resources": { "Child": nested, "Queue": queue(1) } });
    stack
        .cloudformation
        .create_stack()
        .stack_name(&stack.name)
        .template_body(body.to_string())
        .send()
        .await?;

    stack.template(&body)?;
    let said = stack.fails(&["--wait-timeout", "0.01"], 1)?;
    assert!(
        said.contains("error: stack `busy-staging` is being changed (CREATE_IN_PROGRESS)"),
        "{said}"
    );
    let (answer, said) = stack.run(&[])?;
    assert!(
        said.contains("waiting: stack `busy-staging` is being changed (CREATE_IN_PROGRESS)\n"),
        "{said}"
    );
    assert_eq!(answer["result"], "unchanged");
    Ok(())
}

#[tokio::test]
async fn a_stack_that_never_came_up_is_deleted_and_created_anew() -> Result<()> {
    let stack = Stack::of("fallen").await?;
    // LocalStack rolls back only where a macro is not there; AWS does wherever a resource fails.
    let call = stack.cloudformation.create_stack().stack_name(&stack.name);
    let body =
        json!({ "Transform": ["NoSuchMacro"], "Resources": { "Queue": queue(5) } }).to_string();
    call.template_body(body)
        .capabilities(aws_sdk_cloudformation::types::Capability::CapabilityAutoExpand)
        .send()
        .await?;
    assert_eq!(stack.status().await.as_deref(), Some("ROLLBACK_COMPLETE"));

    stack.template(&json!({ "Resources": { "Queue": queue(5) } }))?;
    let said = stack.fails(&[], 4)?;
    assert!(
        said.contains(
            "stack `fallen-staging` never came up (ROLLBACK_COMPLETE) and holds nothing: delete it"
        ),
        "{said}"
    );
    assert_eq!(stack.status().await.as_deref(), Some("ROLLBACK_COMPLETE"));

    let (answer, said) = stack.run(&["--yes"])?;
    assert_eq!(answer["result"], "created");
    assert!(
        said.contains("fallen-staging (AWS::CloudFormation::Stack) DELETE_COMPLETE\n"),
        "{said}"
    );
    assert_eq!(stack.resources().await?, ["Queue"]);
    Ok(())
}

/// LocalStack takes a function and cannot start it without Docker, so the deploy ends there; its
/// stack is made by then.
#[tokio::test]
async fn a_deploy_makes_the_stack_first_where_it_is_given_a_template() -> Result<()> {
    let stack = Stack::of("deployed").await?;
    let output = streambot_deploy().args(["template", "--form", "composed"]).output()?;
    stack.service.file("stack.json", &String::from_utf8(output.stdout)?)?;
    let said = stack.service.fails(&["staging", "--stack", "stack.json"], 4)?;
    assert!(said.contains("not confirmed"), "{said}");
    let said = stack
        .service
        .fails(&["staging", "--stack", "stack.json", "--yes", "--back-off", "0.05"], 1)?;
    assert!(said.contains("error: function `deployed-staging` did not come up (Failed)"), "{said}");
    let answer =
        stack.cloudformation.describe_stacks().stack_name("deployed-staging").send().await?;
    assert_eq!(
        answer.stacks()[0].stack_status().map(|status| status.as_str()),
        Some("CREATE_COMPLETE")
    );

    let said = stack.service.fails(&["staging", "--stack", "stack.json", "--dry-run"], 2)?;
    assert!(said.contains("--dry-run and --stack exclude each other"), "{said}");
    let said = stack.service.fails(&["staging", "--parameter", "A=1"], 2)?;
    assert!(said.contains("--parameter is given without --stack"), "{said}");
    Ok(())
}
