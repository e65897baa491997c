//! Bundles against moto, AWS's API in memory: what is packed and refused, what a ready zip becomes,
//! and what is left on disk.

mod support;

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use support::{REGION, Server, Service, dotenv, unzip};

/// One moto for all tests of this file; each has stacks of its own.
static MOTO: LazyLock<Server> = LazyLock::new(|| Server::moto().expect("moto starts"));

/// Creates a stack that is its own Streambot, with outputs that no real one needs to stand behind.
async fn stack(name: &str) -> Result<()> {
    let template = json!({
        "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } },
        "Outputs": {
            "StreambotStack": { "Value": { "Ref": "AWS::StackName" } },
            "KinesisStream": { "Value": format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}") },
            "LambdaExecutionRole": { "Value": "arn:aws:iam::123456789012:role/lambda/role" },
        },
    });
    create(name, &template).await
}

async fn create(name: &str, template: &Value) -> Result<()> {
    let config = MOTO.config(REGION).await;
    aws_sdk_cloudformation::Client::new(&config)
        .create_stack()
        .stack_name(name)
        .template_body(template.to_string())
        .capabilities(aws_sdk_cloudformation::types::Capability::CapabilityIam)
        .send()
        .await?;
    Ok(())
}

/// Creates the stack of a service that can be deployed.
async fn deployable(name: &str) -> Result<()> {
    let output = support::streambot_deploy().arg("template").output()?;
    ensure!(output.status.success());
    let mut template: Value = serde_json::from_slice(&output.stdout)?;
    template["Outputs"]["StreambotStack"] = json!({ "Value": { "Ref": "AWS::StackName" } });
    create(name, &template).await
}

/// An executable that passes: the header of a static one for this machine's processor, with nothing
/// in it.
fn bootstrap() -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    header[18] = 62;
    header[20] = 1;
    header
}

/// Writes a zip of files with their modes, as another tool would: unsorted, with the time of today.
fn write_zip(path: &Path, files: &[(&str, u32, &[u8])]) -> Result<()> {
    let mut zip = ZipWriter::new(std::fs::File::create(path)?);
    let time = zip::DateTime::from_date_and_time(2026, 11, 24, 12, 0, 0)?;
    for (name, mode, contents) in files {
        zip.start_file(
            *name,
            SimpleFileOptions::default().unix_permissions(*mode).last_modified_time(time),
        )?;
        zip.write_all(contents)?;
    }
    zip.finish()?;
    Ok(())
}

/// A dry run with temporary files in `folder`: what it says, and what it kept there.
fn dry_run(
    service: &Service,
    environment: &str,
    bundle: &str,
    folder: &Path,
) -> Result<(String, PathBuf)> {
    let output = service
        .command([environment, "--dry-run", "--bundle", bundle, "--output", "json"])
        .env("TMPDIR", folder)
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    let told = said
        .split(" are in ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .context("a folder is told")?;
    let kept = PathBuf::from(told);
    ensure!(kept.starts_with(folder), "{kept:?}");
    Ok((said, kept))
}

#[tokio::test]
async fn a_ready_zip_gets_the_environments_values_and_keeps_all_else_as_it_is() -> Result<()> {
    let service = Service::new("promoted", &MOTO)?;
    stack("promoted-staging").await?;
    stack("promoted-production").await?;
    let zip = service.path("app.zip");
    let values = b"StackName=\"promoted-staging\"\nTOKEN=\"hush\"\n";
    let executable = bootstrap();
    write_zip(
        &zip,
        &[
            ("models/a", 0o640, b"a"),
            ("bootstrap", 0o755, &executable),
            (".env", 0o600, values),
            ("run.sh", 0o755, b"r"),
        ],
    )?;
    let given = std::fs::read(&zip)?;

    let folder = tempfile::tempdir()?;
    let (said, kept) = dry_run(&service, "production", "app.zip", folder.path())?;
    assert!(
        said.contains("warning: `TOKEN` in the .env of app.zip is no value of the stack"),
        "{said}"
    );
    assert!(!said.contains("hush") && !said.contains("building"), "{said}");
    let files = unzip(&kept.join("bundle.zip"))?;
    let shape: Vec<_> =
        files.iter().map(|(name, mode, contents)| (name.as_str(), *mode, contents.len())).collect();
    assert_eq!(
        shape[1..],
        [("bootstrap", 0o755, 64), ("models/a", 0o640, 1), ("run.sh", 0o755, 1)]
    );
    let (name, mode, environment) = &files[0];
    assert_eq!((name.as_str(), *mode), (".env", 0o644));
    assert_eq!(*environment, std::fs::read(kept.join(".env"))?);
    let has = |key: &str, value: &str| -> Result<bool> {
        Ok(dotenv(environment)?.contains(&(key.to_owned(), value.to_owned())))
    };
    assert!(
        has("StackName", "promoted-production")?
            && has("STREAMBOT_REPORT_BATCH_ITEM_FAILURES", "true")?
    );

    // The same again, and the same after it was deployed elsewhere: the same bytes.
    let (_, again) = dry_run(&service, "production", "app.zip", folder.path())?;
    let (_, staging) = dry_run(&service, "staging", "app.zip", folder.path())?;
    let through_staging = staging.join("bundle.zip").to_string_lossy().into_owned();
    let (said, back) = dry_run(&service, "production", &through_staging, folder.path())?;
    assert!(!said.contains("warning: `"), "{said}");
    let bytes = std::fs::read(kept.join("bundle.zip"))?;
    assert_ne!(std::fs::read(&through_staging)?, bytes);
    for same in [again, back] {
        assert_eq!(std::fs::read(same.join("bundle.zip"))?, bytes);
    }

    assert_eq!(std::fs::read(&zip)?, given);
    assert!(!service.path(".env").exists() && !service.path("build").exists());
    Ok(())
}

#[tokio::test]
async fn a_zip_built_without_an_environment_becomes_what_is_built_with_it() -> Result<()> {
    let service = Service::new("twice", &MOTO)?;
    service.settings("include = [\"models\"]")?;
    service.file("models/one.txt", "1")?;
    stack("twice-staging").await?;
    service.run(&["bundle"])?;
    std::fs::copy(service.path("build/bundle.zip"), service.path("app.zip"))?;
    let folder = tempfile::tempdir()?;
    let (_, kept) = dry_run(&service, "staging", "app.zip", folder.path())?;
    service.run(&["bundle", "staging"])?;
    assert!(
        std::fs::read(kept.join("bundle.zip"))? == std::fs::read(service.path("build/bundle.zip"))?
    );
    Ok(())
}

#[tokio::test]
async fn a_ready_zip_that_could_not_run_is_refused_before_aws_is_changed() -> Result<()> {
    let service = Service::new("unready", &MOTO)?;
    stack("unready-staging").await?;
    service.file("text.zip", "no zip at all")?;
    write_zip(&service.path("empty.zip"), &[("readme", 0o644, b"r")])?;
    write_zip(&service.path("plain.zip"), &[("bootstrap", 0o644, &bootstrap())])?;
    write_zip(&service.path("script.zip"), &[("bootstrap", 0o755, b"#!/bin/sh\n")])?;
    write_zip(&service.path("whole.zip"), &[("bootstrap", 0o755, &bootstrap())])?;
    write_zip(
        &service.path("huge.zip"),
        &[("bootstrap", 0o755, &bootstrap()), ("model", 0o644, &[0; 5])],
    )?;
    let mut huge = std::fs::read(service.path("huge.zip"))?;
    let entry =
        huge.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").context("the last entry")?;
    huge[entry + 24..entry + 28].copy_from_slice(&(300u32 << 20).to_le_bytes());
    std::fs::write(service.path("huge.zip"), huge)?;
    let made = Command::new("mkfifo").arg(service.path("pipe.zip")).status()?;
    ensure!(made.success());
    for (file, exit_code, told) in [
        ("none.zip", 2, "reading the bundle none.zip"),
        ("src", 2, "src is a folder, not a zip"),
        ("pipe.zip", 2, "pipe.zip is a named pipe, not a zip"),
        ("text.zip", 1, "reading the bundle text.zip"),
        ("empty.zip", 1, "the bundle empty.zip has no `bootstrap`"),
        ("huge.zip", 1, "the bundle has 300.0 MB (314572864 bytes) unzipped"),
        ("plain.zip", 1, "`bootstrap` of the bundle plain.zip is no executable file"),
        ("script.zip", 1, "`bootstrap` of the bundle script.zip is no 64-bit Linux executable"),
    ] {
        let said = service.fails(&["staging", "--bundle", file], exit_code)?;
        assert!(said.contains(&format!("error: {told}")), "{said}");
    }
    let said =
        service.fails(&["staging", "--bundle", "whole.zip", "--architecture", "arm64"], 1)?;
    assert!(said.contains("`bootstrap` of the bundle whole.zip is not for arm64"), "{said}");
    let lambda = aws_sdk_lambda::Client::new(&MOTO.config(REGION).await);
    assert!(lambda.get_function().function_name("unready-staging").send().await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_dry_run_leaves_the_package_as_it_is_and_its_files_in_a_temporary_folder() -> Result<()> {
    let service = Service::new("tried", &MOTO)?;
    stack("tried-staging").await?;
    let folder = tempfile::tempdir()?;
    let output = service
        .command(["staging", "--dry-run", "--profile", "dev"])
        .env("TMPDIR", folder.path())
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    assert!(!service.path(".env").exists() && !service.path("build/bundle.zip").exists());
    let kept: Vec<_> = std::fs::read_dir(folder.path())?.collect::<Result<_, _>>()?;
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(
        said.contains(&format!("the bundle and its .env are in {}", kept.path().display())),
        "{said}"
    );
    let files = unzip(&kept.path().join("bundle.zip"))?;
    assert_eq!(files[0].2, std::fs::read(kept.path().join(".env"))?);
    Ok(())
}

#[test]
fn a_bundle_tells_its_sizes_and_what_changed_since_the_last_one() -> Result<()> {
    let service = Service::new("sized", &MOTO)?;
    let told = |output: std::process::Output| -> Result<(Value, String)> {
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{said}");
        let line = said
            .lines()
            .find(|line| line.contains("] bundle: "))
            .context("a line tells the size")?
            .to_owned();
        Ok((serde_json::from_slice(&output.stdout)?, line))
    };
    let (first, line) = told(service.attempt(&["bundle"])?)?;
    assert!(line.contains(" unzipped, zipped ") && !line.contains("since"), "{line}");
    let zip = service.path("build/bundle.zip");
    assert_eq!(first["bundle"], zip.canonicalize()?.to_string_lossy().as_ref());
    assert_eq!(first["bytes"], std::fs::metadata(&zip)?.len());
    assert_eq!(first["files"], 1);
    let unzipped = first["unzipped_bytes"].as_u64().context("bytes")?;
    assert_eq!(unzipped, unzip(&zip)?[0].2.len() as u64);

    let (_, line) = told(service.attempt(&["bundle"])?)?;
    assert!(line.ends_with(", as at the last bundle"), "{line}");

    service.file("noise", &noise(100 * 1024))?;
    let (second, line) = told(service.attempt(&["bundle", "--include", "noise"])?)?;
    assert!(line.contains(", +") && line.ends_with(" kB since the last bundle"), "{line}");
    assert_eq!(
        (&second["files"], &second["unzipped_bytes"]),
        (&json!(2), &json!(unzipped + 100 * 1024))
    );

    let output = service.command(["bundle", "--profile", "dev", "--quiet"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let names: Vec<_> =
        text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    assert_eq!(names, ["bundle", "bytes", "unzipped bytes", "files", "code sha-256"]);
    assert!(!String::from_utf8(output.stderr)?.contains("bundle: "));
    Ok(())
}

/// Text that hardly gets smaller when it is packed.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or(0))
    };
    (0..bytes).map(next).collect()
}

#[test]
fn what_cannot_be_included_is_told_by_its_path_and_leaves_the_last_bundle() -> Result<()> {
    let service = Service::new("picky", &MOTO)?;
    service.run(&["bundle"])?;
    let before = std::fs::read(service.path("build/bundle.zip"))?;
    service.file("models/one.txt", "1")?;
    service.file("bootstrap", "#!/bin/sh\n")?;
    symlink("nowhere", service.path("dangling"))?;
    symlink("circle", service.path("circle"))?;
    symlink("/etc/hostname", service.path("outside"))?;
    symlink("models", service.path("folder"))?;
    let made = Command::new("mkfifo").arg(service.path("pipe")).status()?;
    ensure!(made.success());
    for (path, exit_code, told) in [
        ("nothing", 1, "including `nothing`"),
        ("dangling", 1, "including `dangling`"),
        ("circle", 1, "including `circle`"),
        ("outside", 2, "`outside` is outside the package"),
        ("../x", 2, "`../x` is outside the package"),
        ("folder", 2, "`folder` is a symbolic link to a folder"),
        ("pipe", 2, "`pipe` is a named pipe, which no bundle can hold"),
        ("bootstrap", 2, "the bundle would hold `bootstrap` twice"),
    ] {
        let said = service.fails(&["bundle", "--include", path], exit_code)?;
        assert!(said.contains(&format!("error: {told}")) && said.contains("\n  next: "), "{said}");
    }
    assert!(std::fs::read(service.path("build/bundle.zip"))? == before);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_leaves_the_last_bundle_and_its_environment_whole() -> Result<()> {
    let service = Service::new("full", &MOTO)?;
    stack("full-staging").await?;
    service.run(&["bundle", "staging"])?;
    let (zip, environment) = (service.path("build/bundle.zip"), service.path(".env"));
    let before = std::fs::read(&environment)?;
    std::fs::write(&environment, "OLD=\"1\"\n")?;
    // The build folder becomes a disk of its own that the last bundle fits on, and the next one
    // does not beside it.
    let script = r#"
        cp build/bundle.zip saved.zip
        mount -t tmpfs -o size=$(($(stat -c %s saved.zip) * 3 / 2)) tmpfs build || exit 99
        cp saved.zip build/bundle.zip
        "$@"; status=$?
        cmp saved.zip build/bundle.zip || exit 98
        test "$(ls build)" = "bundle.zip
lock" || { ls build; exit 97; }
        exit $status
    "#;
    let tool = service.command(["x"; 0]);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(tool.get_program()).args(["bundle", "staging", "--profile", "dev"]);
    command.current_dir(service.path(""));
    for (name, value) in tool.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output()?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        said.contains("error: writing /") && said.contains("build/bundle.zip\n  because: "),
        "{said}"
    );
    assert!(said.contains("next: make room on that disk"), "{said}");
    assert_eq!(std::fs::read_to_string(&environment)?, "OLD=\"1\"\n");

    service.run(&["bundle", "staging"])?;
    assert_eq!(std::fs::read(&environment)?, before);
    assert!(zip.exists());
    Ok(())
}

/// A zip of more than a request takes, which holds what does not get smaller.
fn large_zip(service: &Service) -> Result<()> {
    let mut zip = ZipWriter::new(std::fs::File::create(service.path("large.zip"))?);
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("bootstrap", options.unix_permissions(0o755))?;
    zip.write_all(&bootstrap())?;
    zip.start_file("model", options)?;
    let mut state = 1u64;
    let mut block = vec![0; 1024 * 1024];
    for _ in 0..51 {
        for bytes in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.copy_from_slice(&state.to_le_bytes());
        }
        zip.write_all(&block)?;
    }
    zip.finish()?;
    Ok(())
}

#[tokio::test]
async fn a_bundle_too_large_for_a_request_goes_through_the_bucket_once() -> Result<()> {
    let service = Service::new("large", &MOTO)?;
    deployable("large-staging").await?;
    large_zip(&service)?;
    let said = service.fails(&["staging", "--bundle", "large.zip"], 2)?;
    assert!(said.contains("error: the bundle has 51.0 MB (5"), "{said}");
    assert!(
        said.contains("less than 50.0 MB (52428800 bytes) in a request")
            && said.contains("--bucket"),
        "{said}"
    );
    let said = service.fails(&["staging", "--bundle", "large.zip", "--bucket", "nobodys"], 1)?;
    assert!(
        said.contains("because: NoSuchBucket") && said.contains("create the bucket in us-east-1"),
        "{said}"
    );

    let config = MOTO.config(REGION).await;
    let settings = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
    let s3 = aws_sdk_s3::Client::from_conf(settings);
    s3.create_bucket().bucket("artifacts").send().await?;
    let deploy = |environment: &str| -> Result<(Value, String)> {
        let output =
            service.attempt(&[environment, "--bundle", "large.zip", "--bucket", "artifacts"])?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{said}");
        Ok((serde_json::from_slice(&output.stdout)?, said))
    };
    let (answer, said) = deploy("staging")?;
    assert!(said.contains("uploading 51.0 MB to s3://artifacts/streambot/"), "{said}");
    let objects = s3.list_objects_v2().bucket("artifacts").send().await?;
    let [object] = objects.contents() else { panic!("{objects:?}") };
    let key = object.key().context("a key")?;
    assert!(
        key.starts_with("streambot/")
            && key.ends_with(".zip")
            && key.len() == "streambot/.zip".len() + 64,
        "{key}"
    );

    let lambda = aws_sdk_lambda::Client::new(&config);
    let function =
        lambda.get_function_configuration().function_name("large-staging").send().await?;
    assert_eq!(Some(function.code_size()), object.size());
    assert_eq!(answer["code_sha256"], function.code_sha256().context("hash")?);

    // The function is made again: its code is in the bucket already.
    let mappings = lambda.list_event_source_mappings().send().await?;
    for mapping in mappings.event_source_mappings() {
        lambda.delete_event_source_mapping().set_uuid(mapping.uuid.clone()).send().await?;
    }
    lambda.delete_function().function_name("large-staging").send().await?;
    let (again, said) = deploy("staging")?;
    assert!(said.contains(&format!("the bundle is in s3://artifacts/{key} already")), "{said}");
    assert_eq!(again["code_sha256"], answer["code_sha256"]);
    Ok(())
}
