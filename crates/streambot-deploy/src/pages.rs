//! What the pages say: every command line in them is one that the parser takes, and every setting
//! one that is read. What they say is printed is for ci/readme and ci/newcomer to see.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::service::{PackageArguments, Service, ServiceArguments, SettingsFlags};

/// The README, those of the crates and the example, and the guides, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readmes = [
        "README.md",
        "example/README.md",
        "crates/streambot-deploy/README.md",
        "crates/streambot-infra/README.md",
    ];
    let guides = root.join("crates/streambot-runtime/src/guide").read_dir().unwrap();
    let paths =
        readmes.iter().map(|page| root.join(page)).chain(guides.map(|guide| guide.unwrap().path()));
    paths.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The code blocks of a page in this language, without pictures.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    // Every second part is in a block: its language, a line's end, its content.
    let blocks = page.split("```").skip(1).step_by(2).filter(|block| !block.contains('►'));
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// The arguments of each call of `streambot-deploy` in shell commands.
fn calls(commands: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for line in commands.lines() {
        let Some(words) = shlex::split(&line.replace("; ", " ; ")) else {
            assert!(
                !line.contains("streambot-deploy ") && !line.contains("cargo streambot "),
                "no shell command: {line}"
            );
            continue;
        };
        let is_end = |word: &String| matches!(word.as_str(), "|" | "&&" | ";" | ">" | ">>");
        for command in words.split(is_end) {
            let command = command.strip_prefix(&["$".to_owned()]).unwrap_or(command);
            match command {
                [tool, arguments @ ..] if tool == "streambot-deploy" => {
                    calls.push(arguments.to_vec())
                }
                [cargo, tool, arguments @ ..] if cargo == "cargo" && tool == "streambot" => {
                    calls.push(arguments.to_vec())
                }
                _ => {}
            }
        }
    }
    calls
}

fn is_taken(place: &str, arguments: &[String]) {
    let words = std::iter::once("streambot-deploy").chain(arguments.iter().map(String::as_str));
    if let Err(error) = Cli::command().try_get_matches_from(words)
        && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
    {
        panic!("{place}: {arguments:?}: {error}");
    }
}

#[test]
fn every_command_line_of_the_pages_is_taken() {
    let mut count = 0;
    for (path, page) in pages() {
        for block in ["text", "console"].iter().flat_map(|language| blocks(&page, language)) {
            for call in calls(block) {
                is_taken(&path.display().to_string(), &call);
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn every_example_of_the_help_is_taken() {
    for verb in Cli::command().get_subcommands() {
        let help = verb.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        // What stands beside an example, after spaces, tells what it is for.
        let examples = help.lines().filter_map(|line| line.trim_start().split("  ").next());
        let calls = calls(&examples.collect::<Vec<_>>().join("\n"));
        assert!(!calls.is_empty(), "{} has no example", verb.get_name());
        calls.iter().for_each(|call| is_taken(verb.get_name(), call));
    }
}

#[test]
fn every_setting_of_the_pages_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let manifest_path = folder.path().join("Cargo.toml");
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), "").unwrap();
    let mut count = 0;
    for (path, page) in pages() {
        for settings in
            blocks(&page, "toml").into_iter().filter(|block| !block.starts_with("[alias]"))
        {
            let package =
                if settings.starts_with("[package]") { "" } else { "[package]\nname = \"page\"\n" };
            std::fs::write(&manifest_path, format!("{package}{settings}\n[workspace]\n")).unwrap();
            let package =
                PackageArguments { manifest_path: Some(manifest_path.clone()), package: None };
            let arguments = ServiceArguments { package, ..ServiceArguments::default() };
            if let Err(error) =
                Service::load(&arguments, Some("production"), &SettingsFlags::default())
            {
                panic!("{}: {}\n{settings}", path.display(), error.report());
            }
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let mut count = 0;
    for (path, page) in pages() {
        let targets = page
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target);
        // What leads elsewhere, and what rustdoc checks.
        let files = targets.filter(|target| {
            !target.contains("::") && !target.contains(' ') && !target.starts_with("http")
        });
        for target in files
            .filter_map(|target| target.split('#').next())
            .filter(|file| !file.is_empty() && *file != "crate")
        {
            assert!(path.with_file_name(target).exists(), "{}: {target}", path.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn a_call_is_found_in_a_line_of_shell() {
    let line = "$ tail -f a.ndjson | streambot-deploy local --records - > 'b c'; cargo streambot template # prints it";
    assert_eq!(calls(line), [vec!["local", "--records", "-"], vec!["template"]]);
}
