//! Cargo, asked for one executable: built for Lambda by cargo-lambda where it is installed, else by
//! Cargo itself where this machine is of the kind the function runs on. It refuses to judge what
//! was built.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::Message;

use crate::error::{Error, Result};
use crate::function::Architecture;
use crate::progress;
use crate::service::Service;

/// Builds the service's binary for Lambda and reads it.
pub(super) fn for_lambda(service: &Service, profile: &str) -> Result<Vec<u8>> {
    let architecture = service.function.architecture();
    let path = if cargo_lambda_is_installed() {
        with_cargo_lambda(service, profile, architecture)?
    } else if builds_natively(architecture) {
        for_host(service, profile)?
    } else {
        return Err(Error::failed(format!(
            "this machine cannot build for Lambda's {architecture} without cargo-lambda"
        ))
        .hint(
            "install it: `pipx install cargo-lambda` brings Zig, its linker, along (https://www.cargo-lambda.info)",
        ));
    };
    std::fs::read(&path).map_err(|error| {
        Error::failed(format!("reading what was built, {}", path.display())).because(error)
    })
}

/// Builds the service's binary for this machine and tells where it is.
///
/// # Errors
/// Failed where Cargo cannot be run or the build fails; the compiler's own messages are on standard
/// error.
pub(crate) fn for_host(service: &Service, profile: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command
        .args(["build", "--message-format", "json-render-diagnostics"])
        .args(quietly())
        .args(["--profile", profile])
        .args(which(service))
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(not_run)?;
    let mut executable = None;
    if let Some(output) = child.stdout.take() {
        for message in Message::parse_stream(BufReader::new(output)) {
            let message = message
                .map_err(|error| Error::failed("reading Cargo's messages").because(error))?;
            if let Message::CompilerArtifact(artifact) = message
                && artifact.target.is_bin()
                && artifact.target.name == service.bin
            {
                executable = artifact.executable;
            }
        }
    }
    let status = child.wait().map_err(not_run)?;
    match executable {
        Some(path) if status.success() => Ok(path.into_std_path_buf()),
        _ => Err(build_failed(service)),
    }
}

/// Builds with cargo-lambda into a folder of our own, so that what is found there is of this build.
fn with_cargo_lambda(
    service: &Service,
    profile: &str,
    architecture: Architecture,
) -> Result<PathBuf> {
    let folder = service.target_directory.join("streambot").join(&service.name);
    let bootstrap = folder.join("bootstrap");
    remove(&bootstrap)?;
    let status = cargo()
        .args(["lambda", "build", "--output-format", "binary"])
        .args(quietly())
        .arg(match architecture {
            Architecture::X86_64 => "--x86-64",
            Architecture::Arm64 => "--arm64",
        })
        .args(match profile {
            "release" => vec!["--release"],
            _ => vec!["--profile", profile],
        })
        .arg("--lambda-dir")
        .arg(&folder)
        .args(["--flatten", &service.bin])
        .args(which(service))
        // What cargo-lambda prints is no result of ours.
        .stdout(std::io::stderr())
        .status()
        .map_err(not_run)?;
    if status.success() && bootstrap.is_file() { Ok(bootstrap) } else { Err(build_failed(service)) }
}

/// Cargo tells its progress unless this process is not to tell any.
fn quietly() -> Option<&'static str> {
    progress::quiet().then_some("--quiet")
}

fn remove(stale: &Path) -> Result<()> {
    match std::fs::remove_file(stale) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("removing the old {}", stale.display())).because(error))
        }
        _ => Ok(()),
    }
}

fn cargo_lambda_is_installed() -> bool {
    cargo()
        .args(["lambda", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Cargo with nothing to read: cargo-lambda would otherwise ask to install what it misses.
///
/// Nor does it see what `cargo run` and `cargo test` tell a process of its own package: a build
/// script that looks at it, as ring's does, would run anew, and all that depends on it be built
/// anew, whenever builds by hand and by this tool take turns.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn which(service: &Service) -> [&std::ffi::OsStr; 6] {
    [
        "--manifest-path".as_ref(),
        service.manifest_path.as_os_str(),
        "--package".as_ref(),
        service.name.as_ref(),
        "--bin".as_ref(),
        service.bin.as_ref(),
    ]
}

const fn builds_natively(architecture: Architecture) -> bool {
    match architecture {
        Architecture::X86_64 => cfg!(all(target_os = "linux", target_arch = "x86_64")),
        Architecture::Arm64 => cfg!(all(target_os = "linux", target_arch = "aarch64")),
    }
}

fn not_run(error: std::io::Error) -> Error {
    Error::failed("running Cargo").because(error).hint("install Rust from https://rustup.rs")
}

fn build_failed(service: &Service) -> Error {
    Error::failed(format!("binary `{}` of package `{}` was not built", service.bin, service.name))
        .hint("the messages above tell why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_does_not_see_whose_process_runs_it() {
        let cargo = cargo();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION_PRE", "CARGO_MANIFEST_DIR"] {
            assert!(std::env::var_os(name).is_some(), "Cargo no longer tells its tests {name}");
            assert!(cargo.get_envs().any(|variable| variable == (name.as_ref(), None)), "{name}");
        }
    }
}
