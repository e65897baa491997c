//! `stack` against a CloudFormation of this test's own, which answers what LocalStack cannot:
//! change sets of nested stacks, what is replaced, capabilities, and roll-backs.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use support::Service;

/// What the stack that is there says of itself.
const SETTLED: &str = "UPDATE_COMPLETE";

/// A CloudFormation that answers each call by its action, given the calls before it.
struct CloudFormation {
    url: String,
    calls: Arc<Mutex<Vec<String>>>,
}

impl CloudFormation {
    fn answering(
        answer: impl Fn(&str, &[String]) -> Result<String, String> + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let calls = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&calls);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(call) = read(&client) else { continue };
                let answered = answer(&call, &noted);
                noted.push(call);
                let _ = write(client, answered);
            }
        });
        Ok(Self { url, calls })
    }

    /// The calls of one action, as they were sent.
    fn calls(&self, action: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| is(call, action)).cloned().collect()
    }
}

fn is(call: &str, action: &str) -> bool {
    call.starts_with(&format!("Action={action}&"))
}

fn read(mut client: &TcpStream) -> Result<String> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next())
                .unwrap_or("0");
            if body.len() >= length.parse()? {
                return Ok(body.to_owned());
            }
        }
        let length = client.read(&mut buffer)?;
        ensure!(length > 0, "the request ends early");
        request.extend_from_slice(&buffer[..length]);
    }
}

fn write(mut client: TcpStream, answer: Result<String, String>) -> Result<()> {
    let (status, body) = match answer {
        Ok(body) => ("200 OK", body),
        Err(error) => {
            ("400 Bad Request", format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"))
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    Ok(client.write_all(format!("{head}{body}").as_bytes())?)
}

fn result(action: &str, body: &str) -> Result<String, String> {
    Ok(format!("<{action}Response><{action}Result>{body}</{action}Result></{action}Response>"))
}

fn error(code: &str, message: &str) -> Result<String, String> {
    Err(format!("<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"))
}

fn arn(stack: &str) -> String {
    format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{stack}/1")
}

fn stack(status: &str, reason: &str) -> Result<String, String> {
    result(
        "DescribeStacks",
        &format!(
            "<Stacks><member><StackName>quakes-staging</StackName><StackId>{}</StackId><CreationTime>2026-01-01T00:00:00Z\
             </CreationTime><StackStatus>{status}</StackStatus><StackStatusReason>{reason}</StackStatusReason>\
             </member></Stacks>",
            arn("quakes-staging")
        ),
    )
}

/// One resource's change, with a property and what is known of a replacement.
fn change(action: &str, id: &str, kind: &str, more: &str) -> String {
    format!(
        "<member><Type>Resource</Type><ResourceChange><Action>{action}</Action><LogicalResourceId>{id}</LogicalResourceId>\
         <ResourceType>{kind}</ResourceType>{more}</ResourceChange></member>"
    )
}

const REPLACED: &str = "<Replacement>True</Replacement><Details><member><Target><Attribute>Properties</Attribute>\
                        <Name>Name</Name></Target></member></Details>";

/// A stack that nests another, in which a stream will be replaced.
fn nesting(call: &str, _: &[String]) -> Result<String, String> {
    let action = call.split(['=', '&']).nth(1).unwrap_or_default();
    match action {
        "DescribeStacks" => stack(SETTLED, ""),
        "GetTemplateSummary" => result(
            action,
            "<Capabilities><member>CAPABILITY_IAM</member></Capabilities><CapabilitiesReason>The following resource(s) \
             require capabilities: [AWS::IAM::Role]</CapabilitiesReason><ResourceTypes><member>AWS::CloudFormation::Stack\
             </member></ResourceTypes>",
        ),
        "CreateChangeSet"
            if call.contains("IncludeNestedStacks=true") && call.contains("refuses-nested") =>
        {
            error("ValidationError", "IncludeNestedStacks is not supported")
        }
        "CreateChangeSet" if !call.contains("CAPABILITY_NAMED_IAM") => error(
            "InsufficientCapabilitiesException",
            "Requires capabilities : [CAPABILITY_NAMED_IAM]",
        ),
        "CreateChangeSet" => result(
            action,
            &format!("<Id>arn:change-set</Id><StackId>{}</StackId>", arn("quakes-staging")),
        ),
        "DescribeChangeSet" => {
            let changes = match call.contains("nested-change-set") {
                true => change("Modify", "Stream", "AWS::Kinesis::Stream", REPLACED),
                false => change(
                    "Modify",
                    "Child",
                    "AWS::CloudFormation::Stack",
                    "<ChangeSetId>arn:nested-change-set</ChangeSetId><Replacement>False</Replacement>",
                ),
            };
            let id = arn("quakes-staging");
            result(
                action,
                &format!(
                    "<StackId>{id}</StackId><Status>CREATE_COMPLETE</Status><Changes>{changes}</Changes>"
                ),
            )
        }
        "DescribeStackEvents" | "ExecuteChangeSet" | "DeleteChangeSet" => result(action, ""),
        other => error("InvalidAction", other),
    }
}

fn run(cloudformation: &CloudFormation, arguments: &[&str], exit_code: i32) -> Result<String> {
    let service = Service::at("quakes", cloudformation.url.clone())?;
    service.file("stack.json", "{\"Resources\":{}}")?;
    service.file("refusing.json", "{\"Resources\":{},\"Description\":\"refuses-nested\"}")?;
    let verb = ["stack", "staging", "--back-off", "0.01"];
    let output = service.command(verb).args(arguments).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(exit_code),
        "{:?}, not {exit_code}:\n{said}",
        output.status.code()
    );
    Ok(said)
}

#[test]
fn what_is_replaced_within_a_nested_stack_and_what_must_be_acknowledged_is_shown_before_the_question()
-> Result<()> {
    let cloudformation = CloudFormation::answering(nesting)?;
    let said = run(&cloudformation, &["--template", "stack.json"], 4)?;
    let expected = "  ~ change Child (AWS::CloudFormation::Stack)\n    ± replace Stream (AWS::Kinesis::Stream): Name\n  \
                    requires CAPABILITY_IAM, CAPABILITY_NAMED_IAM\n    The following resource(s) require capabilities: \
                    [AWS::IAM::Role]\nerror: not confirmed: change 2 resources of stack `quakes-staging`, replacing \
                    `Child/Stream`?\n";
    assert!(said.contains(expected), "{said}");
    let made = cloudformation.calls("CreateChangeSet");
    assert!(made.iter().all(|call| call.contains("IncludeNestedStacks=true")), "{made:?}");
    assert_eq!(cloudformation.calls("ExecuteChangeSet").len(), 0);
    assert_eq!(cloudformation.calls("DeleteChangeSet").len(), 1);
    Ok(())
}

#[test]
fn a_server_without_change_sets_of_nested_stacks_gets_a_plain_one() -> Result<()> {
    let cloudformation = CloudFormation::answering(nesting)?;
    run(&cloudformation, &["--template", "refusing.json"], 4)?;
    let made = cloudformation.calls("CreateChangeSet");
    let last = made.last().context("a change set is made")?;
    assert!(!last.contains("IncludeNestedStacks"), "{last}");
    assert!(
        last.contains(
            "Capabilities.member.1=CAPABILITY_IAM&Capabilities.member.2=CAPABILITY_NAMED_IAM"
        ),
        "{last}"
    );
    Ok(())
}

/// An event of a stack; the newest stand first in an answer.
fn event(number: u8, stack: &str, id: &str, kind: &str, status: &str, reason: &str) -> String {
    let physical = if kind == "AWS::CloudFormation::Stack" { arn(id) } else { id.to_owned() };
    format!(
        "<member><EventId>{stack}-{number}</EventId><StackId>{}</StackId><StackName>{stack}</StackName>\
         <LogicalResourceId>{id}</LogicalResourceId><PhysicalResourceId>{physical}</PhysicalResourceId>\
         <ResourceType>{kind}</ResourceType><Timestamp>2026-01-01T00:00:{number:02}Z</Timestamp>\
         <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>",
        arn(stack)
    )
}

/// The stack's update fails within the nested one, and is undone.
fn rolling_back(call: &str, before: &[String]) -> Result<String, String> {
    const STACK: &str = "AWS::CloudFormation::Stack";
    const EMBEDDED: &str = "Embedded stack was not successfully updated";
    if !is(call, "DescribeStackEvents") {
        return nesting(call, before);
    }
    let executed = before.iter().any(|call| is(call, "ExecuteChangeSet"));
    let old = |stack: &str| event(1, stack, "Old", "AWS::SQS::Queue", "UPDATE_FAILED", "long ago");
    let mut events: Vec<String> = match (executed, call.contains("Child")) {
        (false, _) => vec![old("quakes-staging")],
        (true, false) => vec![
            old("quakes-staging"),
            event(
                10,
                "quakes-staging",
                "quakes-staging",
                STACK,
                "UPDATE_IN_PROGRESS",
                "User Initiated",
            ),
            event(11, "quakes-staging", "Child", STACK, "UPDATE_IN_PROGRESS", ""),
            event(11, "quakes-staging", "Queue", "AWS::SQS::Queue", "UPDATE_IN_PROGRESS", "")
                .replace("-11<", "-11b<"),
            event(14, "quakes-staging", "Child", STACK, "UPDATE_FAILED", EMBEDDED),
            event(
                15,
                "quakes-staging",
                "Queue",
                "AWS::SQS::Queue",
                "UPDATE_FAILED",
                "Resource update cancelled",
            ),
            event(
                16,
                "quakes-staging",
                "quakes-staging",
                STACK,
                "UPDATE_ROLLBACK_IN_PROGRESS",
                "failed: [Child, Queue]",
            ),
            event(
                17,
                "quakes-staging",
                "quakes-staging",
                STACK,
                "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
                "",
            ),
            event(18, "quakes-staging", "quakes-staging", STACK, "UPDATE_ROLLBACK_COMPLETE", ""),
        ],
        (true, true) => vec![
            old("Child"),
            event(
                12,
                "Child",
                "Stream",
                "AWS::Kinesis::Stream",
                "UPDATE_FAILED",
                "the name is taken",
            ),
            event(
                13,
                "Child",
                "Child",
                STACK,
                "UPDATE_FAILED",
                "The following resource(s) failed to update: [Stream].",
            ),
        ],
    };
    events.reverse();
    result("DescribeStackEvents", &format!("<StackEvents>{}</StackEvents>", events.concat()))
}

#[test]
fn a_rolled_back_update_tells_its_root_cause_and_nothing_of_the_noise() -> Result<()> {
    let cloudformation = CloudFormation::answering(rolling_back)?;
    let said = run(&cloudformation, &["--template", "stack.json", "--yes"], 1)?;
    let report = &said[said.find("error: ").context("an error is told")?..];
    let expected = "error: stack `quakes-staging` was not updated (UPDATE_ROLLBACK_COMPLETE)\n  \
                    because: Child/Stream (AWS::Kinesis::Stream): the name is taken\n  \
                    next: the stack is as it was before: mend the template and try again\n";
    assert_eq!(report, expected);
    assert!(
        said.contains(" Child/Stream (AWS::Kinesis::Stream) UPDATE_FAILED: the name is taken\n"),
        "{said}"
    );
    assert!(!said.contains("long ago"), "{said}");
    assert_eq!(cloudformation.calls("DeleteChangeSet").len(), 0);
    Ok(())
}

#[test]
fn a_stack_that_someone_must_mend_says_how() -> Result<()> {
    for (status, part) in [
        (
            "UPDATE_ROLLBACK_FAILED",
            "aws cloudformation continue-update-rollback --stack-name quakes-staging",
        ),
        ("DELETE_FAILED", "aws cloudformation delete-stack --stack-name quakes-staging"),
    ] {
        let cloudformation =
            CloudFormation::answering(move |_, _| stack(status, "the role is gone"))?;
        let said = run(&cloudformation, &["--template", "stack.json", "--yes"], 1)?;
        let expected = format!(
            "error: stack `quakes-staging` cannot be changed ({status})\n  because: the role is gone\n"
        );
        assert!(said.contains(&expected) && said.contains(part), "{said}");
        assert_eq!(cloudformation.calls("CreateChangeSet").len(), 0);
    }
    Ok(())
}

#[test]
fn a_change_set_whose_making_was_not_answered_is_gone_on_with() -> Result<()> {
    let cloudformation =
        CloudFormation::answering(|call, before| match is(call, "CreateChangeSet") {
            true => error("AlreadyExistsException", "ChangeSet streambot-1 already exists"),
            false => rolling_back(call, before),
        })?;
    let said = run(&cloudformation, &["--template", "stack.json", "--yes"], 1)?;
    assert!(said.contains("was not updated (UPDATE_ROLLBACK_COMPLETE)"), "{said}");
    assert_eq!(cloudformation.calls("CreateChangeSet").len(), 1);
    Ok(())
}

#[test]
fn a_change_set_that_cannot_be_executed_is_taken_away() -> Result<()> {
    let cloudformation =
        CloudFormation::answering(|call, before| match is(call, "ExecuteChangeSet") {
            true => error("InsufficientCapabilitiesException", "no"),
            false => nesting(call, before),
        })?;
    let said = run(&cloudformation, &["--template", "stack.json", "--yes"], 1)?;
    assert!(said.contains("error: executing the change set of stack `quakes-staging`\n"), "{said}");
    assert_eq!(cloudformation.calls("DeleteChangeSet").len(), 1);
    Ok(())
}

/// A stack that never came up, and of which a bucket cannot be deleted.
fn stuck(call: &str, before: &[String]) -> Result<String, String> {
    const STACK: &str = "AWS::CloudFormation::Stack";
    if is(call, "DescribeStacks") {
        return stack("ROLLBACK_FAILED", "");
    }
    if is(call, "DeleteStack") {
        return result("DeleteStack", "");
    }
    if !is(call, "DescribeStackEvents") {
        return nesting(call, before);
    }
    let mut events =
        vec![event(1, "quakes-staging", "quakes-staging", STACK, "ROLLBACK_FAILED", "long ago")];
    if before.iter().any(|call| is(call, "DeleteStack")) {
        events.extend([
            event(
                2,
                "quakes-staging",
                "quakes-staging",
                STACK,
                "DELETE_IN_PROGRESS",
                "User Initiated",
            ),
            event(
                3,
                "quakes-staging",
                "Archive",
                "AWS::S3::Bucket",
                "DELETE_FAILED",
                "the bucket is not empty",
            ),
            event(
                4,
                "quakes-staging",
                "quakes-staging",
                STACK,
                "DELETE_FAILED",
                "failed to delete: [Archive]",
            ),
        ]);
    }
    events.reverse();
    result("DescribeStackEvents", &format!("<StackEvents>{}</StackEvents>", events.concat()))
}

#[test]
fn a_stack_that_cannot_be_deleted_says_what_keeps_it() -> Result<()> {
    let cloudformation = CloudFormation::answering(stuck)?;
    let said = run(&cloudformation, &["--template", "stack.json"], 4)?;
    assert!(
        said.contains("(ROLLBACK_FAILED) and holds what its roll-back could not delete: delete it"),
        "{said}"
    );
    assert_eq!(cloudformation.calls("DeleteStack").len(), 0);
    let said = run(&cloudformation, &["--template", "stack.json", "--yes"], 1)?;
    let expected = "error: stack `quakes-staging` was not deleted (DELETE_FAILED)\n  \
                    because: Archive (AWS::S3::Bucket): the bucket is not empty\n  next: mend what keeps its resources";
    assert!(said.contains(expected), "{said}");
    assert_eq!(cloudformation.calls("CreateChangeSet").len(), 0);
    Ok(())
}
