//! The bundle: the service built for Lambda, its `.env` and its included files in one zip that has
//! the same bytes whenever they are the same. It refuses to know who uploads it.

mod archive;
pub(crate) mod build;
mod executable;
mod place;
mod ready;
mod size;

use std::fmt;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::aws::{Aws, AwsArguments};
use crate::error::{Error, Result};
use crate::function::FunctionSettings;
use crate::service::{Service, ServiceArguments, SettingsFlags};
use crate::stack::StackValues;
use crate::verb::{self, AnswerArguments};
use crate::{dotenv, progress, stack};
use archive::Entry;
pub(crate) use place::{Code, place};
pub(crate) use size::{size, size_change};

/// What `bundle --help` says at its end.
pub(crate) const AFTER_HELP: &str = "\
Example, one zip for two environments; a deploy puts the environment's own .env into it:
  streambot-deploy bundle
  streambot-deploy deploy staging --bundle build/bundle.zip
  streambot-deploy deploy production --bundle build/bundle.zip

The same service, included files and .env make the same bytes. An executable that would not start on
Lambda, and 250 MB or more unzipped, are refused; then the last build/bundle.zip stays.

Exit codes:
  0  done
  1  failed
  2  bad usage or settings
  3  the stack is not there";

/// What tells the runtime that the mapping honours a partial answer. A deploy sets
/// ReportBatchItemFailures before new code goes live, so it is true wherever this `.env` is.
const REPORT_BATCH_ITEM_FAILURES: (&str, &str) = ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true");

/// The function's timeout in seconds, for an invocation whose deadline is past when its event
/// arrives. Lambda does not tell it.
const FUNCTION_TIMEOUT: &str = "STREAMBOT_FUNCTION_TIMEOUT";

/// A zip as Lambda takes it.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The zip's bytes: they are uploaded, not the file, which another deploy may have replaced.
    pub(crate) zip: Vec<u8>,
    /// SHA-256 of the zip in base64, as Lambda tells it of a function's code.
    pub(crate) code_sha256: String,
    /// Bytes of all its files together, before they were packed.
    pub(crate) unzipped: u64,
    /// How many entries it has.
    pub(crate) files: usize,
    /// The zip on disk, where it was kept.
    pub(crate) path: Option<PathBuf>,
}

impl Bundle {
    pub(crate) fn new(zip: Vec<u8>, unzipped: u64, files: usize) -> Self {
        Self {
            code_sha256: BASE64_STANDARD.encode(Sha256::digest(&zip)),
            zip,
            unzipped,
            files,
            path: None,
        }
    }

    /// Packs entries which Lambda would take.
    fn pack(entries: Vec<Entry>) -> Result<Self> {
        let sizes = entries.iter().map(|entry| (entry.name(), entry.contents().len() as u64));
        let (unzipped, files) = (size::unzipped(sizes, size::UNZIPPED)?, entries.len());
        Ok(Self::new(archive::zip(entries)?, unzipped, files))
    }
}

/// Where a bundle leaves its `.env` and zip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// In the package, as `.env` and `build/bundle.zip`.
    Files,
    /// In a new temporary folder, as `.env` and `bundle.zip`, to be looked at.
    Temporary,
}

/// Builds the service and packs it; with a stack's values, its `.env` too. Two runs in one package
/// take turns, so the files of two environments never mix.
///
/// # Errors
/// Failed where the build fails, the executable would not run on Lambda, an included file is
/// missing or not the package's, all of it is too large for Lambda, or a file cannot be written.
pub(crate) fn make(
    service: &Service,
    profile: Option<&str>,
    values: Option<&StackValues>,
    keep: Keep,
) -> Result<Bundle> {
    let _lock = lock(service)?;
    let environment = values.map(|values| environment_file(values, service.function.timeout()));

    progress::say(format!("building `{}` for {}", service.bin, service.function.architecture()));
    let executable = build::for_lambda(service, profile.unwrap_or("release"))?;
    executable::check("what was built", &executable, service.function.architecture())?;

    let mut entries = vec![Entry::executable("bootstrap", executable)];
    entries.extend(environment.as_deref().map(environment_entry));
    entries.extend(archive::included(&service.package_root, service.function.include())?);
    let mut bundle = Bundle::pack(entries)?;

    let path = build_folder(service).join("bundle.zip");
    let before = path.metadata().map(|before| before.len()).ok();
    bundle.path = Some(match keep {
        Keep::Files => {
            write(&bundle, &path, &service.package_root.join(".env"), environment.as_deref())?;
            path
        }
        Keep::Temporary => keep_aside(&bundle, environment.as_deref())?,
    });
    say_size(&bundle, before);
    Ok(bundle)
}

/// Reads a zip that was built before and puts the stack's `.env` into it, so that one is built once
/// and then deployed to one environment after another. All else in it stays as it is, and the same
/// zip and values make the same bytes. The zip and the package are not written to: [`Keep::Files`]
/// keeps nothing.
///
/// # Errors
/// Usage where there is no such file; failed where it is no zip that Lambda could start on the
/// architecture of `function`, or too large.
pub(crate) fn read(
    path: &Path,
    function: &FunctionSettings,
    values: &StackValues,
    keep: Keep,
) -> Result<Bundle> {
    progress::say(format!("reading the bundle {}", path.display()));
    let mut entries = ready::read(path, function.architecture())?;
    let environment = environment_file(values, function.timeout());
    if let Some(at) = entries.iter().position(|entry| entry.name() == ".env") {
        let replaced = entries.swap_remove(at);
        for key in missing_keys(replaced.contents(), &environment) {
            progress::warn(format!(
                "`{key}` in the .env of {} is no value of the stack, and is left out",
                path.display()
            ));
        }
    }
    entries.push(environment_entry(&environment));
    let mut bundle = Bundle::pack(entries)?;

    if keep == Keep::Temporary {
        bundle.path = Some(keep_aside(&bundle, Some(&environment))?);
    }
    say_size(&bundle, None);
    Ok(bundle)
}

/// The keys of the `.env` `before` that the one `now` does not have. What is no `.env` at all has
/// none.
fn missing_keys(before: &[u8], now: &str) -> Vec<String> {
    let keys = |text: &[u8]| -> Vec<String> {
        dotenvy::from_read_iter(text).map_while(Result::ok).map(|(key, _)| key).collect()
    };
    let now = keys(now.as_bytes());
    keys(before).into_iter().filter(|key| !now.contains(key)).collect()
}

fn environment_entry(text: &str) -> Entry {
    Entry::file(".env", text.as_bytes().to_vec())
}

/// Writes the zip and its `.env`, both or none.
fn write(
    bundle: &Bundle,
    path: &Path,
    environment_path: &Path,
    environment: Option<&str>,
) -> Result<()> {
    let environment = environment.map(|text| (environment_path, text.as_bytes()));
    let files: Vec<_> = environment.into_iter().chain([(path, bundle.zip.as_slice())]).collect();
    dotenv::write_atomically(&files)
}

/// Writes them to a folder that outlives the process, for whoever wants to look into them, and
/// tells where the zip is.
fn keep_aside(bundle: &Bundle, environment: Option<&str>) -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("streambot-").tempdir();
    let folder =
        folder.map_err(|error| Error::failed("making a temporary folder").because(error))?;
    let path = folder.path().join("bundle.zip");
    write(bundle, &path, &folder.path().join(".env"), environment)?;
    progress::say(format!("the bundle and its .env are in {}", folder.keep().display()));
    Ok(path)
}

/// Tells how large the bundle is, and how that differs from the `before` of the last one.
fn say_size(bundle: &Bundle, before: Option<u64>) {
    let now = bundle.zip.len() as u64;
    let zipped =
        before.map_or_else(|| size(now), |before| size_change(before, now, "the last bundle"));
    progress::say(format!("bundle: {} unzipped, zipped {zipped}", size(bundle.unzipped)));
}

/// The text of the `.env`, with a warning on standard error for each value that is not in it.
fn environment_file(values: &StackValues, timeout: u32) -> String {
    for key in &values.masked {
        progress::warn(format!(
            "parameter `{key}` is NoEcho: CloudFormation does not tell its value, and it is not in .env"
        ));
    }
    let timeout = timeout.to_string();
    let own = [REPORT_BATCH_ITEM_FAILURES, (FUNCTION_TIMEOUT, timeout.as_str())];
    let values = values
        .environment
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| own.iter().all(|(own, _)| own != key))
        .chain(own);
    let environment = dotenv::render(values);
    for skipped in &environment.skipped {
        progress::warn(skipped);
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
    let failed =
        |error: std::io::Error| Error::failed(format!("locking {}", path.display())).because(error);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress::say("waiting for another streambot-deploy of this package");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(file)
}

/// What a bundle is told.
#[derive(Debug, Args)]
pub(crate) struct BundleArguments {
    /// Environment whose stack values go into the bundle's .env [default: none, and no .env]
    pub(crate) environment: Option<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArguments,

    #[command(flatten)]
    pub(crate) service: ServiceArguments,

    #[command(flatten)]
    pub(crate) aws: AwsArguments,

    #[command(flatten, next_help_heading = "Function")]
    pub(crate) function: FunctionSettings,
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
    verb::print(&Bundled::from(&bundle), arguments.answer.output)
}

/// What the verb `bundle` answers.
#[derive(Debug, Serialize)]
struct Bundled<'a> {
    bundle: Option<&'a PathBuf>,
    bytes: usize,
    unzipped_bytes: u64,
    files: usize,
    code_sha256: &'a str,
}

impl<'a> From<&'a Bundle> for Bundled<'a> {
    fn from(bundle: &'a Bundle) -> Self {
        let Bundle { zip, code_sha256, unzipped, files, path } = bundle;
        Self {
            bundle: path.as_ref(),
            bytes: zip.len(),
            unzipped_bytes: *unzipped,
            files: *files,
            code_sha256,
        }
    }
}

impl fmt::Display for Bundled<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.bundle {
            writeln!(formatter, "bundle: {}", path.display())?;
        }
        writeln!(formatter, "bytes: {}", self.bytes)?;
        writeln!(formatter, "unzipped bytes: {}", self.unzipped_bytes)?;
        writeln!(formatter, "files: {}", self.files)?;
        write!(formatter, "code sha-256: {}", self.code_sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_as_text_and_as_json() {
        let path = PathBuf::from("/quakes/build/bundle.zip");
        let bundle = Bundle {
            code_sha256: "hash".to_owned(),
            path: Some(path),
            ..Bundle::new(vec![0; 4096], 10_240, 2)
        };
        insta::assert_snapshot!("text", Bundled::from(&bundle));
        insta::assert_json_snapshot!("json", Bundled::from(&bundle));
    }

    #[test]
    fn the_environment_file_holds_the_runtimes_own_settings_whatever_the_stack_says() {
        let values = StackValues {
            environment: vec![
                ("STREAMBOT_REPORT_BATCH_ITEM_FAILURES".into(), "false".into()),
                ("StackName".into(), "quakes-staging".into()),
                ("STREAMBOT_FUNCTION_TIMEOUT".into(), "1".into()),
            ],
            masked: Vec::new(),
            execution_role: String::new(),
            source: stack::Source {
                stream: String::new(),
                consumer: None,
                failure_destination: None,
            },
            log_group: None,
            prefix: String::new(),
            outputs: stack::Outputs::default(),
        };
        assert_eq!(
            environment_file(&values, 90),
            "StackName=\"quakes-staging\"\nSTREAMBOT_REPORT_BATCH_ITEM_FAILURES=\"true\"\n\
             STREAMBOT_FUNCTION_TIMEOUT=\"90\"\n"
        );
    }

    #[test]
    fn a_code_sha256_is_what_lambda_computes() {
        let bundle = Bundle::new(b"abc".to_vec(), 3, 1);
        assert_eq!(bundle.code_sha256, "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }

    #[test]
    fn what_the_stack_does_not_have_of_a_replaced_environment_is_known_by_its_keys() {
        let before = b"StackName=\"quakes-staging\"\nTOKEN=\"secret\"\nTopic=a\n";
        assert_eq!(
            missing_keys(before, "StackName=\"quakes-production\"\nTopic=\"b\"\n"),
            ["TOKEN"]
        );
        assert_eq!(missing_keys(b"\xff\xfe \0", "A=\"1\"\n"), [""; 0]);
    }
}
