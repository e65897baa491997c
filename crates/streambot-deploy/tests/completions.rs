//! What shells complete and what `man` shows: each knows every verb.

mod support;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use support::streambot_deploy;

fn printed(arguments: &[&str]) -> Result<String> {
    let output = streambot_deploy().args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The verbs that the short help lists.
fn verbs() -> Result<Vec<String>> {
    let help = printed(&["-h"])?;
    let (_, listed) = help.split_once("Commands:\n").context("a list of verbs")?;
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let verbs = lines
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let verbs: Vec<_> = verbs.filter(|verb| *verb != "help").map(str::to_owned).collect();
    ensure!(verbs.len() >= 15, "{verbs:?}");
    Ok(verbs)
}

#[test]
fn each_shell_completes_every_verb() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = printed(&["completions", shell])?;
        for verb in verbs()? {
            assert!(script.contains(&verb), "{shell} does not know {verb}");
        }
    }
    Ok(())
}

#[test]
fn bash_reads_its_completions_and_completes_a_verb() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("completions");
    std::fs::write(&script, printed(&["completions", "bash"])?)?;
    let complete = r#"
        source "$1"
        completes=$(complete -p streambot-deploy)
        completes=${completes#*-F }
        COMP_WORDS=(streambot-deploy roll) COMP_CWORD=1
        ${completes%% *} streambot-deploy roll streambot-deploy
        echo "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", complete, "bash"]).arg(&script).output()?;
    assert_eq!(
        String::from_utf8(output.stdout)?.trim(),
        "rollback",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn the_manual_has_a_page_for_every_verb_and_the_main_page_names_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pages = folder.path().join("man1");
    let told = printed(&["man", pages.to_str().context("a path")?])?;
    let main = printed(&["man"])?;
    for verb in verbs()? {
        let page = std::fs::read_to_string(pages.join(format!("streambot-deploy-{verb}.1")))?;
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Exit codes:"), "{page}");
        assert!(main.contains(&verb), "the main page does not name {verb}");
    }
    assert_eq!(std::fs::read_to_string(pages.join("streambot-deploy.1"))?, main);
    assert_eq!(told.lines().count(), verbs()?.len() + 1);
    Ok(())
}
