//! The bundle: the service built for Lambda, its `.env` and its included files in one zip that has the same bytes whenever they are
//! the same. It refuses to know who uploads it.

mod archive;
pub(crate) mod build;
mod executable;

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::aws::Aws;
use crate::cli::BundleArguments;
use crate::error::{Error, Result};
use crate::service::{Service, SettingsFlags};
use crate::stack::StackValues;
use crate::{cli, dotenv, stack};
use archive::Entry;

/// What tells the runtime that the mapping honours a partial answer. A deploy sets ReportBatchItemFailures before new code goes
/// live, so it is true wherever this `.env` is.
const REPORT_BATCH_ITEM_FAILURES: (&str, &str) = ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true");

/// A zip as Lambda takes it.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The zip's bytes: they are uploaded, not the file, which another deploy may have replaced.
    pub(crate) zip: Vec<u8>,
    /// SHA-256 of the zip in base64, as Lambda tells it of a function's code.
    pub(crate) code_sha256: String,
    /// The zip on disk, where it was kept.
    pub(crate) path: Option<PathBuf>,
}

impl Bundle {
    fn new(zip: Vec<u8>) -> Self {
        Self { code_sha256: BASE64_STANDARD.encode(Sha256::digest(&zip)), zip, path: None }
    }
}

/// Whether a bundle leaves its `.env` and zip in the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As `.env` and `build/bundle.zip`.
    Files,
    /// Not at all.
    Nothing,
}

/// Builds the service and packs it; with a stack's values, its `.env` too. Two runs in one package take turns, so the files of two
/// environments never mix.
///
/// # Errors
/// Failed where the build fails, the executable would not run on Lambda, an included file is missing or not the package's, or a
/// file cannot be written.
pub(crate) fn make(
    service: &Service,
    profile: Option<&str>,
    values: Option<&StackValues>,
    keep: Keep,
) -> Result<Bundle> {
    let _lock = lock(service)?;
    let environment = values.map(environment_file);

    eprintln!("building `{}` for {}", service.bin, service.function.architecture());
    let executable = build::for_lambda(service, profile.unwrap_or("release"))?;
    executable::check(&executable, service.function.architecture())?;

    let mut entries = vec![Entry::executable("bootstrap", executable)];
    entries.extend(environment.as_deref().map(|text| Entry::file(".env", text.as_bytes().to_vec())));
    entries.extend(archive::included(&service.package_root, service.function.include())?);
    let mut bundle = Bundle::new(archive::zip(entries)?);

    if keep == Keep::Files {
        if let Some(text) = &environment {
            dotenv::write_atomically(&service.package_root.join(".env"), text.as_bytes())?;
        }
        let path = build_folder(service).join("bundle.zip");
        dotenv::write_atomically(&path, &bundle.zip)?;
        bundle.path = Some(path);
    }
    Ok(bundle)
}

/// The text of the `.env`, with a warning on standard error for each value that is not in it.
fn environment_file(values: &StackValues) -> String {
    for key in &values.masked {
        eprintln!(
            "warning: parameter `{key}` is NoEcho: CloudFormation does not tell its value, and it is not in .env"
        );
    }
    let (report_key, report) = REPORT_BATCH_ITEM_FAILURES;
    let values = values
        .environment
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| *key != report_key)
        .chain([(report_key, report)]);
    let environment = dotenv::render(values);
    for skipped in &environment.skipped {
        eprintln!("warning: {skipped}");
    }
    environment.text
}

fn build_folder(service: &Service) -> PathBuf {
    service.package_root.join("build")
}

/// Takes the package's lock, which lasts as long as the file that is returned is open.
fn lock(service: &Service) -> Result<File> {
    let folder = build_folder(service);
    let path = folder.join("lock");
    let failed = |error: std::io::Error| Error::failed(format!("locking {}", path.display())).because(error);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another streambot-deploy of this package");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// The verb `bundle`: as far as a deploy goes without changing anything on AWS.
///
/// # Errors
/// Those of the service, its stack and its bundle.
pub(crate) async fn run(arguments: BundleArguments) -> Result<()> {
    let flags = SettingsFlags { function: arguments.function, ..SettingsFlags::default() };
    let environment = arguments.environment.as_deref();
    let service = Service::load(&arguments.service, environment, &flags)?;
    let values = match environment {
        None => None,
        Some(environment) => {
            let name = service.stack_name(environment)?;
            let config = Aws::connect(&arguments.aws).await.config;
            let client = aws_sdk_cloudformation::Client::new(&config);
            Some(stack::look_up(&client, &name, &service.prefix).await?)
        }
    };
    let profile = arguments.service.profile.as_deref();
    let bundle = make(&service, profile, values.as_ref(), Keep::Files)?;
    cli::print(&Bundled::from(&bundle), arguments.answer.output)
}

/// What the verb `bundle` answers.
#[derive(Debug, Serialize)]
struct Bundled<'a> {
    bundle: Option<&'a PathBuf>,
    bytes: usize,
    code_sha256: &'a str,
}

impl<'a> From<&'a Bundle> for Bundled<'a> {
    fn from(bundle: &'a Bundle) -> Self {
        Self { bundle: bundle.path.as_ref(), bytes: bundle.zip.len(), code_sha256: &bundle.code_sha256 }
    }
}

impl fmt::Display for Bundled<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.bundle {
            writeln!(formatter, "bundle: {}", path.display())?;
        }
        writeln!(formatter, "bytes: {}", self.bytes)?;
        write!(formatter, "code sha-256: {}", self.code_sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_file_says_that_partial_answers_are_honoured_whatever_the_stack_says() {
        let values = StackValues {
            environment: vec![
                ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES".into(), "false".into()),
                ("StackName".into(), "quakes-staging".into()),
            ],
            masked: Vec::new(),
            execution_role: String::new(),
            source: stack::Source { stream: String::new(), consumer: None, failure_destination: None },
            log_group: None,
            outputs: stack::Outputs::default(),
        };
        assert_eq!(
            environment_file(&values),
            "StackName=\"quakes-staging\"\nSTREAMBOT_REPORT_BATCH_ITEM_FAILURES=\"true\"\n"
        );
    }

    #[test]
    fn a_code_sha256_is_what_lambda_computes() {
        let bundle = Bundle::new(b"abc".to_vec());
        assert_eq!(bundle.code_sha256, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
