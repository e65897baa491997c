//! What `--help` says, word for word: a change to the command line shows here before a user sees
//! it.

mod support;

use anyhow::{Result, ensure};

use support::streambot_deploy;

fn help(arguments: &[&str]) -> Result<String> {
    let output = streambot_deploy().args(arguments).env("COLUMNS", "100").output()?;
    ensure!(output.status.success());
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn of_the_whole_and_of_every_verb() -> Result<()> {
    insta::assert_snapshot!("streambot-deploy", help(&["--help"])?);
    for verb in [
        "deploy",
        "stack",
        "status",
        "logs",
        "rollback",
        "pause",
        "resume",
        "replay",
        "destroy",
        "bundle",
        "template",
        "local",
        "init",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(verb, help(&[verb, "--help"])?);
    }
    Ok(())
}

#[test]
fn a_call_without_an_environment_is_bad_usage() -> Result<()> {
    for arguments in [
        &[][..],
        &["deploy"],
        &["--no-such-flag"],
        &["--region"],
        &["--region", "eu-west-1", "local"],
    ] {
        let output = streambot_deploy().args(arguments).output()?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    Ok(())
}

#[test]
fn a_reader_that_stops_early_is_no_failure() -> Result<()> {
    let mut child =
        streambot_deploy().arg("template").stdout(std::process::Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    assert!(child.wait()?.success());
    Ok(())
}
