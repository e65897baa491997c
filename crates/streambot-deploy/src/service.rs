//! Which service this is: Cargo's metadata and `[package.metadata.streambot]`, layered with an
//! environment's own settings and the command line's into one [`Service`]. It refuses to know AWS
//! and what the settings are used for.

mod layers;

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use clap::Args;

use crate::error::{Error, Result};
use crate::event_source::EventSourceSettings;
use crate::function::FunctionSettings;
use layers::{Layers, ServiceSettings};

/// Which service is meant and how it is built, alike for every verb that builds.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ServiceArguments {
    #[command(flatten)]
    pub(crate) package: PackageArguments,

    /// Binary of the package to use [default: the package's default-run, or its only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) bin: Option<String>,

    /// Cargo profile to build with [default: release, or dev for `local`]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
}

/// Which package is the service.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct PackageArguments {
    /// The service's Cargo.toml [default: the nearest one, from this folder upwards]
    #[arg(long, value_name = "PATH")]
    pub(crate) manifest_path: Option<PathBuf>,

    /// Package of the workspace to use [default: the manifest's own, or the only one with a binary]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) package: Option<String>,
}

/// Settings given on the command line; they win over the manifest's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingsFlags {
    #[command(flatten, next_help_heading = "Function")]
    pub(crate) function: FunctionSettings,

    #[command(flatten, next_help_heading = "Event source mapping")]
    pub(crate) event_source: EventSourceSettings,
}

/// A Cargo package that is a Streambot service, with the settings that hold for one environment.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// The package's name.
    pub(crate) name: String,
    /// The package's description, which becomes the function's; empty where it has none.
    pub(crate) description: String,
    /// Absolute path of the package's Cargo.toml.
    pub(crate) manifest_path: PathBuf,
    /// Folder of the package: `.env`, `build/` and included files live here.
    pub(crate) package_root: PathBuf,
    /// Name of the binary target that becomes the function's `bootstrap`.
    pub(crate) bin: String,
    /// Where Cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
    /// Settings of the function and its bundle.
    pub(crate) function: FunctionSettings,
    /// The streams the function consumes, at least one, each with the settings of its event source
    /// mapping.
    pub(crate) event_sources: Vec<EventSource>,
    /// What stands before the names of the stack's outputs, where its template holds several
    /// Streambots; empty where not.
    pub(crate) prefix: String,
}

/// A stream that the function consumes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventSource {
    /// Which one.
    pub(crate) origin: Origin,
    /// Settings of its event source mapping.
    pub(crate) settings: EventSourceSettings,
}

/// Where the ARN of a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The service's own Streambot in its stack.
    Stack,
    /// The Streambot with this prefix in the service's stack.
    Prefix(String),
    /// This stream, or consumer of one.
    Arn(String),
}

impl Origin {
    /// The name that tells an event source from the others.
    fn name(&self) -> &str {
        match self {
            Self::Stack => "the stack's own",
            Self::Prefix(name) | Self::Arn(name) => name,
        }
    }
}

impl Service {
    /// Finds the service and layers its settings: `[package.metadata.streambot]`, then
    /// `[package.metadata.streambot.environments.<environment>]`, then `flags`; a later one wins.
    ///
    /// # Errors
    /// Bad usage where there is no such package or binary, where the choice is not clear, and where
    /// a setting is unknown or out of its range: the error names the key, the file and what is
    /// allowed.
    pub(crate) fn load(
        arguments: &ServiceArguments,
        environment: Option<&str>,
        flags: &SettingsFlags,
    ) -> Result<Self> {
        let manifest_path = find_manifest(arguments.package.manifest_path.as_deref())?;
        let metadata =
            MetadataCommand::new().manifest_path(&manifest_path).no_deps().exec().map_err(
                |error| {
                    Error::usage(format!("reading the package of {}", manifest_path.display()))
                        .because(error)
                },
            )?;
        let package =
            choose_package(&metadata, &manifest_path, arguments.package.package.as_deref())?;
        let bin = choose_bin(package, arguments.bin.as_deref())?;
        let ServiceSettings { function, event_sources, stack } =
            Layers::read(&package.metadata, package.manifest_path.as_str())?
                .settings(environment, flags)?;
        function.check()?;
        for event_source in &event_sources {
            event_source.settings.check()?;
        }

        let manifest_path = package.manifest_path.clone().into_std_path_buf();
        Ok(Self {
            name: package.name.to_string(),
            description: package.description.clone().unwrap_or_default(),
            package_root: manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            manifest_path,
            bin,
            target_directory: metadata.target_directory.into_std_path_buf(),
            function,
            event_sources,
            prefix: stack.prefix.unwrap_or_default(),
        })
    }

    /// The event source that is named, by its prefix or ARN; without a name, the only one.
    ///
    /// # Errors
    /// Bad usage where there is none of that name, or several and none is named.
    pub(crate) fn event_source(&self, named: Option<&str>) -> Result<&EventSource> {
        let found = match (named, &self.event_sources[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|source| source.origin.name() == name),
        };
        found.ok_or_else(|| {
            let names: Vec<_> =
                self.event_sources.iter().map(|source| source.origin.name()).collect();
            let message = match named {
                Some(name) => format!("service `{}` has no event source `{name}`", self.name),
                None => format!("service `{}` has {} event sources", self.name, names.len()),
            };
            Error::usage(message)
                .hint(format!("choose one with --event-source: {}", names.join(", ")))
        })
    }

    /// `<package name>-<environment>`, the name of the service's stack and of its function.
    ///
    /// # Errors
    /// Bad usage where CloudFormation or Lambda refuse such a name: a stack's name is up to 128
    /// letters, digits and hyphens and starts with a letter, a function's is up to 64 characters.
    pub(crate) fn stack_name(&self, environment: &str) -> Result<String> {
        stack_name(&self.name, environment)
    }
}

/// `<package>-<environment>`, checked as [`Service::stack_name`] says.
///
/// # Errors
/// Bad usage where CloudFormation or Lambda refuse the name.
pub(crate) fn stack_name(package: &str, environment: &str) -> Result<String> {
    let name = format!("{package}-{environment}");
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if environment.is_empty() || !starts_well || !name.chars().all(allowed) {
        return Err(Error::usage(format!(
            "the stack's name would be `{name}`, which CloudFormation refuses"
        ))
        .hint(
            "package and environment may hold letters, digits and hyphens, and start with a letter",
        ));
    }
    if name.len() > 64 {
        return Err(Error::usage(format!(
            "the function's name would be `{name}`, {} characters long",
            name.len()
        ))
        .hint("Lambda allows 64: shorten the package's or the environment's name"));
    }
    Ok(name)
}

/// The manifest named, or the nearest one from the working directory upwards.
fn find_manifest(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return path.canonicalize().map_err(|error| {
            Error::usage(format!("reading the manifest {}", path.display()))
                .because(error)
                .hint("--manifest-path is the path of a Cargo.toml")
        });
    }
    let here = std::env::current_dir()
        .map_err(|error| Error::failed("finding the working directory").because(error))?;
    here.ancestors()
        .map(|folder| folder.join("Cargo.toml"))
        .find(|manifest| manifest.is_file())
        .ok_or_else(|| {
            Error::usage(format!("no Cargo.toml in {} or above it", here.display()))
                .hint("run this in the service's folder, or give --manifest-path")
        })
}

fn choose_package<'a>(
    metadata: &'a Metadata,
    manifest_path: &Path,
    named: Option<&str>,
) -> Result<&'a Package> {
    let packages = metadata.workspace_packages();
    if let Some(name) = named {
        return packages.into_iter().find(|package| package.name.as_str() == name).ok_or_else(
            || {
                Error::usage(format!("no package `{name}` in {}", metadata.workspace_root))
                    .hint(format!("its packages are: {}", package_names(metadata, |_| true)))
            },
        );
    }
    let own = packages
        .iter()
        .find(|package| same_file(package.manifest_path.as_std_path(), manifest_path));
    if let Some(package) = own {
        return Ok(package);
    }
    let runnable: Vec<_> = packages.into_iter().filter(|package| has_bin(package)).collect();
    match runnable.as_slice() {
        [package] => Ok(package),
        [] => {
            Err(Error::usage(format!("{} has no package with a binary", manifest_path.display()))
                .hint("a service is a package with a `src/main.rs`"))
        }
        _ => Err(Error::usage(format!(
            "{} has more than one package with a binary",
            manifest_path.display()
        ))
        .hint(format!("choose one with --package: {}", package_names(metadata, has_bin)))),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| one == other)
}

fn has_bin(package: &Package) -> bool {
    package.targets.iter().any(cargo_metadata::Target::is_bin)
}

fn package_names(metadata: &Metadata, keep: impl Fn(&Package) -> bool) -> String {
    let mut names: Vec<_> = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| keep(package))
        .map(|package| package.name.to_string())
        .collect();
    names.sort();
    names.join(", ")
}

fn choose_bin(package: &Package, named: Option<&str>) -> Result<String> {
    let bins: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.is_bin())
        .map(|target| target.name.as_str())
        .collect();
    if let Some(name) = named.or(package.default_run.as_deref()) {
        return match bins.iter().find(|bin| **bin == name) {
            Some(bin) => Ok((*bin).to_owned()),
            None => Err(Error::usage(format!("package `{}` has no binary `{name}`", package.name))
                .hint(format!("its binaries are: {}", bins.join(", ")))),
        };
    }
    match bins.as_slice() {
        [bin] => Ok((*bin).to_owned()),
        [] => Err(Error::usage(format!("package `{}` has no binary", package.name))
            .hint("a service is a package with a `src/main.rs`")),
        _ => Err(Error::usage(format!("package `{}` has more than one binary", package.name))
            .hint(format!("choose one with --bin, or set `default-run`: {}", bins.join(", ")))),
    }
}
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A workspace of packages, each with the names of its binaries.
    fn workspace(packages: &[(&str, &[&str], &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(
            root.join("Cargo.toml"),
            "[workspace]\nresolver = \"3\"\nmembers = [\"*\"]\n",
        )
        .unwrap();
        for (name, bins, keys) in packages {
            let sources = root.join(name).join("src/bin");
            std::fs::create_dir_all(&sources).unwrap();
            let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{keys}\n");
            std::fs::write(root.join(name).join("Cargo.toml"), manifest).unwrap();
            std::fs::write(root.join(name).join("src/lib.rs"), "").unwrap();
            for bin in *bins {
                std::fs::write(sources.join(format!("{bin}.rs")), "fn main() {}").unwrap();
            }
        }
        folder
    }

    fn load(
        workspace: &tempfile::TempDir,
        manifest: &str,
        package: Option<&str>,
        bin: Option<&str>,
    ) -> Result<Service> {
        let arguments = ServiceArguments {
            package: PackageArguments {
                manifest_path: Some(workspace.path().join(manifest)),
                package: package.map(str::to_owned),
            },
            bin: bin.map(str::to_owned),
            profile: None,
        };
        Service::load(&arguments, None, &SettingsFlags::default())
    }

    #[test]
    fn a_stack_name_is_package_and_environment_where_aws_allows_it() {
        assert_eq!(stack_name("quakes", "staging").unwrap(), "quakes-staging");
        for (package, environment) in [
            ("quakes", ""),
            ("snake_case", "staging"),
            ("quakes", "a b"),
            ("quakes", "é"),
            ("1quakes", "staging"),
        ] {
            let error = stack_name(package, environment).unwrap_err();
            assert!(error.to_string().contains("which CloudFormation refuses"), "{error}");
        }
        assert!(stack_name(&"q".repeat(56), "staging").is_ok());
        assert!(
            stack_name(&"q".repeat(57), "staging")
                .unwrap_err()
                .to_string()
                .contains("65 characters")
        );
    }

    #[test]
    fn the_package_of_the_manifest_or_the_only_one_with_a_binary_is_the_service() {
        let workspace = workspace(&[("library", &[], ""), ("service", &["main-loop"], "")]);
        for (manifest, package) in [
            ("service/Cargo.toml", None),
            ("Cargo.toml", None),
            ("library/Cargo.toml", Some("service")),
        ] {
            let service = load(&workspace, manifest, package, None).unwrap();
            assert_eq!((service.name.as_str(), service.bin.as_str()), ("service", "main-loop"));
            assert!(service.package_root.ends_with("service"));
            assert!(service.target_directory.ends_with("target"));
        }
        let error = load(&workspace, "library/Cargo.toml", None, None).unwrap_err();
        assert_eq!(error.to_string(), "package `library` has no binary");
        let report = load(&workspace, "Cargo.toml", Some("nothing"), None).unwrap_err().report();
        assert!(report.contains("its packages are: library, service"), "{report}");
    }

    #[test]
    fn a_choice_that_is_not_clear_names_what_there_is() {
        let workspace =
            workspace(&[("one", &["a", "b"], ""), ("two", &["c", "d"], "default-run = \"d\"")]);
        let report = load(&workspace, "Cargo.toml", None, None).unwrap_err().report();
        assert!(report.contains("choose one with --package: one, two"), "{report}");
        let report = load(&workspace, "one/Cargo.toml", None, None).unwrap_err().report();
        assert!(report.contains("choose one with --bin, or set `default-run`: a, b"), "{report}");
        assert_eq!(load(&workspace, "one/Cargo.toml", None, Some("b")).unwrap().bin, "b");
        assert_eq!(load(&workspace, "two/Cargo.toml", None, None).unwrap().bin, "d");
        assert_eq!(load(&workspace, "two/Cargo.toml", None, Some("c")).unwrap().bin, "c");
        let report = load(&workspace, "two/Cargo.toml", None, Some("e")).unwrap_err().report();
        assert!(
            report.contains("package `two` has no binary `e`") && report.contains("c, d"),
            "{report}"
        );
    }

    #[test]
    fn a_manifest_that_is_not_there_is_bad_usage() {
        let error = find_manifest(Some(Path::new("/nowhere/Cargo.toml"))).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("/nowhere/Cargo.toml"), "{error}");
    }
}
