//! What AWS refuses to whoever deploys: credentials, rights, the region, the role.

use anyhow::Result;
use serde_json::json;

use crate::WORLD;
use crate::support::REGION;
use crate::support::proxy::{Fault, Refusal};
use crate::support::world::{Declared, failed};

#[test]
fn expired_credentials_are_told_with_what_to_do() -> Result<()> {
    let environment = WORLD.environment("expired")?;
    let message = "The security token included in the request is expired";
    for (operation, code) in
        [("DescribeStacks", "ExpiredToken"), ("GetFunction", "ExpiredTokenException")]
    {
        environment.proxy.for_ever(operation, 1, Fault::Refuse(Refusal::new(403, code, message)));
        let said = environment.fails(Declared::First, 1)?;
        assert!(
            said.contains(message) && said.contains("next: renew the AWS credentials"),
            "{said}"
        );
        environment.proxy.heal();
    }
    assert!(environment.proxy.writes().is_empty());
    Ok(())
}

#[test]
fn missing_credentials_are_told_before_anything_is_asked() -> Result<()> {
    let environment = WORLD.environment("without-credentials")?;
    let home = tempfile::tempdir()?;
    let mut command = environment.command(Declared::First);
    for secret in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        command.env_remove(secret);
    }
    command.env("AWS_CONFIG_FILE", home.path().join("config"));
    command.env("AWS_SHARED_CREDENTIALS_FILE", home.path().join("credentials"));
    let said = failed(&command.output()?, 1)?;
    assert!(said.contains("next: check the credentials"), "{said}");
    assert!(environment.proxy.take().is_empty());
    Ok(())
}

#[test]
fn whichever_action_is_denied_is_named_and_the_deploy_goes_on_once_it_is_allowed() -> Result<()> {
    let environment = WORLD.environment("denied")?;
    let denials = [
        ("DescribeStacks", "cloudformation:DescribeStacks"),
        ("ListStackResources", "cloudformation:ListStackResources"),
        ("GetFunction", "lambda:GetFunction"),
        ("ListEventSourceMappings", "lambda:ListEventSourceMappings"),
        ("CreateFunction", "lambda:CreateFunction"),
        ("PublishVersion", "lambda:PublishVersion"),
        ("CreateAlias", "lambda:CreateAlias"),
        ("CreateEventSourceMapping", "lambda:CreateEventSourceMapping"),
    ];
    for (operation, action) in denials {
        let code =
            if action.starts_with("lambda") { "AccessDeniedException" } else { "AccessDenied" };
        let message = format!(
            "User: arn:aws:iam::123456789012:user/deployer is not authorized to perform: {action} because no \
             identity-based policy allows the {action} action"
        );
        environment.proxy.for_ever(operation, 1, Fault::Refuse(Refusal::new(403, code, message)));
        let said = environment.fails(Declared::First, 1)?;
        assert!(said.contains(action) && said.contains("next: allow"), "{operation}:\n{said}");
        environment.proxy.heal();
    }
    environment.deploy(Declared::First)?;
    assert_eq!(environment.mappings()?.len(), 1);
    Ok(())
}

#[test]
fn a_stack_of_another_region_is_exit_code_3_and_names_the_region_that_was_asked() -> Result<()> {
    let environment = WORLD.environment("elsewhere")?;
    let output = environment.command(Declared::First).env("AWS_REGION", "eu-west-3").output()?;
    let said = failed(&output, 3)?;
    assert!(said.contains("is not there in eu-west-3") && said.contains("--region"), "{said}");
    assert!(environment.proxy.writes().is_empty());
    Ok(())
}

#[test]
fn a_role_that_does_not_exist_is_named_and_nothing_is_left() -> Result<()> {
    let role = "arn:aws:iam::123456789012:role/lambda/nobody";
    let outputs = json!({
        "StreambotStack": { "Value": { "Ref": "AWS::StackName" } },
        "KinesisStream": { "Value": format!("arn:aws:kinesis:{REGION}:123456789012:stream/any") },
        "LambdaExecutionRole": { "Value": role },
    });
    let environment = WORLD.environment_with("roleless", &outputs)?;
    let said = environment.fails(Declared::First, 1)?;
    assert!(said.contains("nobody"), "{said}");
    assert!(environment.state()?["function"].is_null());
    Ok(())
}

#[test]
fn what_a_role_may_not_do_is_told_before_anything_is_changed() -> Result<()> {
    let environment = WORLD.environment("rightless")?;
    environment.proxy.deny("kinesis:GetRecords");
    let said = environment.fails(Declared::First, 1)?;
    assert!(
        said.contains("may not do what its function needs: kinesis:GetRecords on arn:aws:kinesis:"),
        "{said}"
    );
    assert!(environment.proxy.writes().is_empty());
    Ok(())
}

#[test]
fn what_passes_by_itself_is_waited_for() -> Result<()> {
    let environment = WORLD.environment("passing")?;
    let new_role = "The role defined for the function cannot be assumed by Lambda.";
    let busy = "The operation cannot be performed at this time. An update is in progress for resource: arn";
    let in_use = "Cannot update the event source mapping because it is in use.";
    let refuse = |operation: &str, code: &'static str, message: &str| {
        environment.proxy.once(operation, 1, Fault::Refuse(Refusal::new(400, code, message)));
    };
    refuse("CreateFunction", "InvalidParameterValueException", new_role);
    refuse("PublishVersion", "ResourceConflictException", busy);
    refuse("CreateEventSourceMapping", "ResourceInUseException", in_use);
    environment.deploy(Declared::First)?;
    refuse("UpdateFunctionConfiguration", "ResourceConflictException", busy);
    refuse("UpdateFunctionCode", "ResourceConflictException", busy);
    environment.deploy(Declared::Changed)?;
    Ok(())
}
