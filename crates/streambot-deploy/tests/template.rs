//! What `template` prints: both forms whole, in both syntaxes, which say the same.

mod support;

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value;

use support::{streambot_deploy, tool};

fn template(form: &str, output: &str) -> Result<String> {
    let output =
        streambot_deploy().args(["template", "--form", form, "--output", output]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What CloudFormation's own YAML reader, which cfn-lint has, makes of a text.
fn read_yaml(text: &str) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("template.yaml");
    std::fs::write(&file, text)?;
    let output = Command::new(tool("python/moto/bin/python")?)
        .args(["-c", "import json, sys, cfnlint.decode; print(json.dumps(cfnlint.decode.decode(sys.argv[1])[0]))"])
        .arg(&file)
        .stderr(Stdio::inherit())
        .output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn both_forms_are_these() -> Result<()> {
    insta::assert_snapshot!("nested.yaml", template("nested", "yaml")?);
    insta::assert_snapshot!("composed.yaml", template("composed", "yaml")?);
    insta::assert_snapshot!("nested.json", template("nested", "json")?);
    insta::assert_snapshot!("composed.json", template("composed", "json")?);
    Ok(())
}

#[test]
fn both_syntaxes_say_the_same() -> Result<()> {
    for form in ["nested", "composed"] {
        let json: Value = serde_json::from_str(&template(form, "json")?)?;
        assert_eq!(read_yaml(&template(form, "yaml")?)?, json, "{form}");
    }
    Ok(())
}

#[test]
fn the_nested_form_as_json_is_what_is_printed_unasked() -> Result<()> {
    let output = streambot_deploy().arg("template").output()?;
    assert_eq!(String::from_utf8(output.stdout)?, template("nested", "json")?);
    Ok(())
}
