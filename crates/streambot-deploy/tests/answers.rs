//! What the verbs that change something answer, word for word: as text for people, and as JSON for
//! scripts.

mod support;

use anyhow::{Result, ensure};

use support::Server;
use support::deployed::Deployed;
use support::proxy::Call;

/// What a verb prints on standard output, with what differs from run to run named instead.
fn answer(deployed: &Deployed, arguments: &[&str], output: &str) -> Result<String> {
    let done = deployed.service.command(arguments).args(["--output", output]).output()?;
    ensure!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    let mut text = String::from_utf8(done.stdout)?;
    let known = &deployed.answer;
    for (value, name) in [
        (&known["event_source_mappings"][0]["uuid"], "[uuid]"),
        (&known["event_source_mappings"][0]["event_source_arn"], "[stream]"),
        (&known["code_sha256"], "[sha-256]"),
        (&known["role"], "[role]"),
    ] {
        text = text.replace(value.as_str().unwrap_or_default(), name);
    }
    // moto ends the names of a stack's resources with twelve characters of its own.
    if let Some(at) = text.find("-LogGroup-") {
        let end = at + "-LogGroup-".len();
        text.replace_range(end..end + 12, "[id]");
    }
    Ok(text)
}

#[tokio::test]
async fn of_every_verb_that_changes_something() -> Result<()> {
    let moto = Server::moto()?;
    let deployed = Deployed::new(&moto, "quakes", &[]).await?;
    let both = |name: &str, arguments: &[&str]| -> Result<()> {
        for output in ["text", "json"] {
            insta::assert_snapshot!(
                format!("{name}.{output}"),
                answer(&deployed, arguments, output)?
            );
        }
        Ok(())
    };
    deployed.proxy.take();
    both("deploy", &["deploy", "staging", "--profile", "dev"])?;
    // Two unchanged deploys: each reads stack, function and mappings at once, then the Streambot
    // stack, and writes nothing.
    let calls = deployed.proxy.take();
    assert!(calls.iter().all(|call| !call.write), "{calls:?}");
    assert_eq!(Call::depth(&calls), 2 * 2);
    let changed = [
        "staging",
        "--profile",
        "dev",
        "--dry-run",
        "--memory",
        "256",
        "--environment-variable",
        "TOKEN=secret",
        "--batch-size",
        "10",
        "--log-group",
        "elsewhere",
        "--log-retention-days",
        "7",
    ];
    both("dry-run", &changed)?;
    deployed.service.run(&["staging", "--memory", "256"])?;
    insta::assert_snapshot!("rollback.text", answer(&deployed, &["rollback", "staging"], "text")?);
    insta::assert_snapshot!(
        "rollback.json",
        answer(&deployed, &["rollback", "staging", "--to", "2"], "json")?
    );
    both("pause", &["pause", "staging"])?;
    both("resume", &["resume", "staging"])?;
    insta::assert_snapshot!(
        "destroy.json",
        answer(&deployed, &["destroy", "staging", "--yes"], "json")?
    );
    deployed.service.run(&["staging"])?;
    let gone = answer(&deployed, &["destroy", "staging", "--yes"], "text")?;
    // The mapping is another one by now.
    let gone: Vec<_> =
        gone.lines().filter(|line| !line.starts_with("removed: event source mapping")).collect();
    insta::assert_snapshot!("destroy.text", gone.join("\n"));
    Ok(())
}
