//! The verb `init`: a new service in a folder of its own, whole or not at all. It refuses to know
//! what a service does; what it writes lies in `init/templates`.

mod dependencies;
mod files;
mod workspace;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::stack_name;
use crate::verb::{self, Output};
use dependencies::Dependencies;
use files::File;
use workspace::Workspace;

/// What `init --help` says at its end.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streambot-deploy init quakes
  streambot-deploy init quakes --path-dependencies=../streambot

The service compiles, passes its tests, runs under `local` on its sample records and deploys
as it is. Inside a Cargo workspace it becomes a member. A failure leaves nothing behind.

Exit codes:
  0  done
  1  failed
  2  bad usage: a name that Cargo or AWS refuse or the workspace has, a folder that exists,
     no checkout of Streambot";

/// The environment that the service is told to deploy to.
const ENVIRONMENT: &str = "production";

/// Names that are Rust's, or Cargo's for folders and the standard library's for crates, or those of
/// the service's own dependencies.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super",
    "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
    "alloc", "build", "core", "deps", "examples", "incremental", "std", "test",
    "serde", "streambot-infra", "streambot-runtime", "tokio", "tracing",
];

/// What a new service is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The service's name: letters, digits and hyphens. Its folder, package, stack and function are
    /// named after it
    name: String,

    /// Depend on the crates of a checkout of Streambot [default of PATH: the checkout around this
    /// folder]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true)]
    path_dependencies: Option<Option<PathBuf>>,

    /// How the result is printed on standard output
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Writes the service.
///
/// # Errors
/// Bad usage where the name is refused, its folder exists, or there is no checkout to depend on;
/// failed where a file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let name = &arguments.name;
    check_name(name)?;
    let here = std::env::current_dir()
        .and_then(|here| here.canonicalize())
        .map_err(|error| Error::failed("finding the working directory").because(error))?;
    let folder = here.join(name);
    if folder.symlink_metadata().is_ok() {
        return Err(Error::usage(format!("{} exists", folder.display()))
            .hint("choose another name, or remove it"));
    }
    let dependencies =
        Dependencies::find(arguments.path_dependencies.as_ref().map(Option::as_deref), &here)?;
    let workspace = Workspace::around(&folder)?;
    if let Some(workspace) = &workspace
        && workspace.has_package(name)?
    {
        let message =
            format!("the workspace of {} has a package `{name}`", workspace.manifest.display());
        return Err(Error::usage(message).hint("choose another name"));
    }
    let place = Place::of(&folder, workspace.as_ref());
    let next = next(name, &place.example(name), dependencies.tool());
    let files = files::of(name, &place, &dependencies, &next)?;
    write(&here, &folder, &files, workspace.as_ref())?;

    let answer = Answer {
        folder: name,
        files: files.iter().map(|file| file.path).collect(),
        member_of: workspace.as_ref().map(|workspace| workspace.manifest.as_path()),
        notes: workspace
            .iter()
            .filter_map(Workspace::note)
            .chain(place.notes(name, &dependencies))
            .collect(),
        next,
    };
    verb::print(&answer, arguments.output)
}

/// Where a service is put.
#[derive(Debug)]
struct Place<'a> {
    folder: &'a Path,
    /// The folder that GitHub will know as the repository.
    repository: &'a Path,
    workspace: Option<&'a Workspace>,
}

impl<'a> Place<'a> {
    /// The repository is Git's; where there is none yet, it is taken to be the workspace, or the
    /// service alone.
    fn of(folder: &'a Path, workspace: Option<&'a Workspace>) -> Self {
        let repository = folder.ancestors().skip(1).find(|folder| folder.join(".git").exists());
        let of_workspace = || workspace.and_then(|workspace| workspace.manifest.parent());
        Self { folder, repository: repository.or_else(of_workspace).unwrap_or(folder), workspace }
    }

    /// What the example is called that prints the stack: the examples of a workspace need names of
    /// their own.
    fn example(&self, name: &str) -> String {
        if self.workspace.is_some() { format!("{name}-template") } else { "template".to_owned() }
    }

    /// What is left to do by hand for the workflow.
    fn notes(&self, name: &str, dependencies: &Dependencies) -> Vec<String> {
        let repository = self.repository.display();
        let moved = (self.repository != self.folder).then(|| {
            format!(
                "move .github/workflows/deploy.yml to {repository}/.github/workflows/{name}.yml, where GitHub reads it"
            )
        });
        let checkout = match dependencies {
            Dependencies::Checkout(checkout) if !checkout.starts_with(self.repository) => {
                Some(format!(
                    "the workflow finds Streambot where it is on this machine: have it check out {} there, or depend on \
                 published crates",
                    checkout.display()
                ))
            }
            _ => None,
        };
        moved.into_iter().chain(checkout).collect()
    }
}

fn check_name(name: &str) -> Result<()> {
    stack_name(name, ENVIRONMENT)?;
    if RESERVED.contains(&name) {
        return Err(Error::usage(format!(
            "`{name}` cannot be a service's name: Cargo, Rust or a dependency has it"
        ))
        .hint("choose another name"));
    }
    Ok(())
}

/// What to do with the service, in its folder: run it here, create its stack, deploy it.
fn next(name: &str, example: &str, tool: &str) -> [String; 3] {
    [
        format!("{tool} local --records records.ndjson --partition-key /net"),
        format!(
            "cargo run --quiet --example {example} > {name}.template && \
             {tool} stack {ENVIRONMENT} --template {name}.template"
        ),
        format!("{tool} deploy {ENVIRONMENT}"),
    ]
}

/// Writes all files, or none of them: they are written aside, and their folder is then renamed.
fn write(here: &Path, folder: &Path, files: &[File], workspace: Option<&Workspace>) -> Result<()> {
    let failed = |error| Error::failed(format!("writing {}", folder.display())).because(error);
    let aside =
        tempfile::Builder::new().prefix(".streambot-init-").tempdir_in(here).map_err(failed)?;
    let written = aside.path().join("service");
    for file in files {
        let path = written.join(file.path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        std::fs::write(&path, &file.contents).map_err(failed)?;
    }
    std::fs::rename(&written, folder).map_err(failed)?;
    workspace.map_or(Ok(()), Workspace::write).map_err(|error| {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => error,
            Err(_) => error.hint(format!("remove {} by hand", folder.display())),
        }
    })
}

/// What was written, and what to do with it.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    folder: &'a str,
    /// Relative to the folder.
    files: Vec<&'static str>,
    /// The Cargo.toml of the workspace that the service is a member of.
    member_of: Option<&'a Path>,
    notes: Vec<String>,
    /// Commands, to be run in the folder.
    next: [String; 3],
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder;
        for file in &self.files {
            writeln!(formatter, "wrote: {folder}/{file}")?;
        }
        if let Some(manifest) = self.member_of {
            writeln!(formatter, "member of: {}", manifest.display())?;
        }
        for note in &self.notes {
            writeln!(formatter, "note: {note}")?;
        }
        write!(formatter, "next: cd {folder}")?;
        self.next.iter().try_for_each(|command| write!(formatter, "\nnext: {command}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event_source::EventSourceSettings;
    use crate::function::FunctionSettings;
    use crate::service::{PackageArguments, Service, ServiceArguments, SettingsFlags};

    #[test]
    fn the_settings_in_comments_are_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let files = files::of(
            "quakes",
            &Place::of(folder.path(), None),
            &Dependencies::Registry,
            &next("quakes", "template", ""),
        )
        .unwrap();
        let load = |uncommented: bool| {
            for file in &files {
                let path = folder.path().join(file.path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let is_setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
                let text = file.contents.lines().map(|line| match Some(line).filter(is_setting) {
                    Some(line) if uncommented => &line[2..],
                    _ => line,
                });
                std::fs::write(path, text.collect::<Vec<_>>().join("\n")).unwrap();
            }
            let package = PackageArguments {
                manifest_path: Some(folder.path().join("Cargo.toml")),
                package: None,
            };
            let arguments = ServiceArguments { package, ..ServiceArguments::default() };
            Service::load(&arguments, None, &SettingsFlags::default()).unwrap()
        };
        let silent = load(false);
        assert_eq!(silent.function, FunctionSettings::default());
        assert_eq!(silent.event_sources[0].settings, EventSourceSettings::default());

        let service = load(true);
        let (function, default) = (&service.function, FunctionSettings::default());
        assert!(function.memory.is_some() && function.keep_versions.is_some());
        assert_eq!(function.memory(), default.memory());
        assert_eq!(function.timeout(), default.timeout());
        assert_eq!(function.architecture(), default.architecture());
        assert_eq!(function.ephemeral_storage(), default.ephemeral_storage());
        assert_eq!(function.include(), default.include());
        assert_eq!(function.environment_variables(), default.environment_variables());
        assert_eq!(function.keep_versions(), default.keep_versions());

        let (mapping, default) =
            (&service.event_sources[0].settings, EventSourceSettings::default());
        assert!(mapping.batch_size.is_some() && mapping.tumbling_window_in_seconds.is_some());
        assert_eq!(mapping.batch_size(), default.batch_size());
        assert_eq!(
            mapping.maximum_batching_window_in_seconds(),
            default.maximum_batching_window_in_seconds()
        );
        assert_eq!(mapping.parallelization_factor(), default.parallelization_factor());
        assert_eq!(mapping.starting_position(), default.starting_position());
        assert_eq!(
            mapping.maximum_record_age_in_seconds(),
            default.maximum_record_age_in_seconds()
        );
        assert_eq!(mapping.maximum_retry_attempts(), default.maximum_retry_attempts());
        assert_eq!(
            mapping.bisect_batch_on_function_error(),
            default.bisect_batch_on_function_error()
        );
        assert_eq!(mapping.tumbling_window_in_seconds(), default.tumbling_window_in_seconds());
    }

    #[test]
    fn a_name_is_one_that_cargo_and_aws_take() {
        for name in ["quakes", "a", "Quakes-2", &"a".repeat(53)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "2quakes",
            "-quakes",
            "my_quakes",
            "my quakes",
            "a/b",
            "..",
            "quäkes",
            "fn",
            "test",
            "serde",
        ] {
            assert_eq!(check_name(name).map_err(|error| error.exit_code()), Err(2), "{name}");
        }
        assert!(check_name(&"a".repeat(54)).is_err());
    }
}
