//! What happens meanwhile: another deploy, Lambda's own time, a kill or a full disk while files are
//! written.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::WORLD;
use crate::support::proxy::{Call, Fault};
use crate::support::world::{Declared, STREAMBOT, failed};
use crate::support::{Service, dotenv, unzip};

/// What two deploys leave that ran one after the other.
fn after(environment: &str, deploys: [Declared; 2]) -> Result<Value> {
    let environment = WORLD.environment(environment)?;
    for declared in deploys {
        environment.deploy(declared)?;
    }
    environment.state()
}

#[test]
fn of_two_deploys_at_once_one_wins_and_the_other_says_so() -> Result<()> {
    let wanted = after("calm", [Declared::First, Declared::Other])?;
    for operation in ["UpdateFunctionCode", "PublishVersion"] {
        let environment = WORLD.environment(&format!("two-{operation}"))?;
        environment.deploy(Declared::First)?;
        environment.proxy.once(operation, 1, Fault::HoldBefore);
        let slow = environment.held(Declared::Code)?;
        let answer = environment.deploy(Declared::Other)?;
        environment.proxy.release();
        let said = failed(&slow.wait_with_output()?, 1)?;
        assert!(said.contains("someone else changed"), "{operation}:\n{said}");
        assert_eq!(environment.state()?, wanted, "{operation}");
        assert_eq!(answer["code_sha256"], environment.code()?);
    }
    Ok(())
}

#[test]
fn a_deploy_whose_alias_someone_else_has_moved_does_not_move_it_back() -> Result<()> {
    let environment = WORLD.environment("two-UpdateAlias")?;
    environment.deploy(Declared::First)?;
    environment.proxy.once("UpdateAlias", 1, Fault::HoldBefore);
    let slow = environment.held(Declared::Code)?;
    let answer = environment.deploy(Declared::Other)?;
    environment.proxy.release();
    let said = failed(&slow.wait_with_output()?, 1)?;
    assert!(said.contains("someone else changed"), "{said}");
    assert_eq!(answer["code_sha256"], environment.code()?);
    assert_eq!(environment.mappings()?.len(), 1);
    Ok(())
}

#[test]
fn a_rollback_during_a_deploy_is_not_undone() -> Result<()> {
    let environment = WORLD.environment("rolled-back")?;
    environment.deploy(Declared::First)?;
    environment.deploy(Declared::Code)?;
    environment.proxy.once("UpdateAlias", 1, Fault::HoldBefore);
    let slow = environment.held(Declared::Other)?;
    let rolled_back = environment.rollback()?;
    ensure!(rolled_back.status.success(), "{}", String::from_utf8_lossy(&rolled_back.stderr));
    environment.proxy.release();
    let said = failed(&slow.wait_with_output()?, 1)?;
    assert!(
        said.contains("someone else changed")
            && said.contains("alias `current` was changed meanwhile"),
        "{said}"
    );
    assert_eq!(environment.state()?["aliases"]["Aliases"][0]["FunctionVersion"], "1");
    Ok(())
}

#[test]
fn two_first_deploys_at_once_leave_one_function_with_one_mapping() -> Result<()> {
    for operation in ["CreateFunction", "CreateAlias", "CreateEventSourceMapping"] {
        let environment = WORLD.environment(&format!("two-{operation}"))?;
        environment.proxy.once(operation, 1, Fault::HoldBefore);
        let slow = environment.held(Declared::First)?;
        environment.deploy(Declared::First)?;
        environment.proxy.release();
        let slow = slow.wait_with_output()?;
        if !slow.status.success() {
            failed(&slow, 1)?;
        }
        let calm = WORLD.environment(&format!("one-{operation}"))?;
        calm.deploy(Declared::First)?;
        assert_eq!(environment.state()?, calm.state()?, "{operation}");
    }
    Ok(())
}

/// A mapping is only ever replaced where that is asked for; between its end and the next one's
/// beginning there is none.
#[test]
fn a_replacement_that_is_interrupted_is_finished_by_the_next_deploy() -> Result<()> {
    let interruptions = [
        ("DeleteEventSourceMapping", Fault::ResetAfter),
        ("DeleteEventSourceMapping", Fault::HoldAfter),
        ("DeleteEventSourceMapping", Fault::Freeze),
        ("CreateEventSourceMapping", Fault::ResetAfter),
        ("CreateEventSourceMapping", Fault::HoldAfter),
    ];
    for (index, (operation, fault)) in interruptions.into_iter().enumerate() {
        let environment = WORLD.environment(&format!("replaced-{index}"))?;
        environment.deploy(Declared::First)?;
        let (stream, role) = (
            environment.mappings()?[0]["EventSourceArn"].take(),
            environment.state()?["function"]["Role"].take(),
        );
        let consumer = format!("{}/consumer/fanned:1", stream.as_str().context("an ARN")?);
        environment.tell(&json!({
            "StreambotStack": { "Value": { "Ref": "AWS::StackName" } },
            "KinesisStream": { "Value": stream },
            "StreamConsumer": { "Value": consumer },
            "LambdaExecutionRole": { "Value": role },
        }))?;
        environment.fails(Declared::First, 4)?;

        let killed = matches!(fault, Fault::HoldAfter | Fault::Freeze);
        environment.proxy.once(operation, 1, fault);
        let mut replacement = environment.command(Declared::First);
        replacement.arg("--replace-mapping");
        if killed {
            let mut child = environment.held_of(replacement)?;
            child.kill()?;
            child.wait()?;
        } else {
            let output = replacement.output()?;
            ensure!(
                output.status.success(),
                "{operation}:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        environment.proxy.heal();
        environment.deploy(Declared::First)?;
        let mappings = environment.mappings()?;
        let [mapping] = mappings.as_slice() else { panic!("one mapping, not {mappings:#?}") };
        assert_eq!(mapping["EventSourceArn"], consumer.as_str(), "{operation}");
    }
    Ok(())
}

#[test]
fn a_deploy_waits_for_what_takes_lambda_its_time() -> Result<()> {
    let wanted = after("at-once", [Declared::First, Declared::Changed])?;
    let environment = WORLD.environment("slowly")?;
    environment.proxy.settle_after(1);
    environment.deploy(Declared::First)?;
    environment.deploy(Declared::Changed)?;
    let refused =
        environment.proxy.take().into_iter().filter(|call| call.write && call.status >= Some(400));
    let refused: Vec<Call> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // A run that finds changes of an interrupted one under way waits for them.
    environment.proxy.once("UpdateFunctionCode", 1, Fault::HoldAfter);
    let mut killed = environment.held(Declared::Settings)?;
    killed.kill()?;
    killed.wait()?;
    environment.proxy.heal();
    environment.deploy(Declared::Changed)?;
    let (latest, wanted) = (environment.state()?["function"].take(), &wanted["function"]);
    assert_eq!(latest["State"], wanted["State"]);
    assert_eq!(latest["MemorySize"], wanted["MemorySize"]);
    assert_eq!(environment.deploy(Declared::Changed)?["code_sha256"], environment.code()?);
    Ok(())
}

/// A package of its own with a file that its bundle includes, and an environment whose values its
/// `.env` holds.
struct Package {
    service: Service,
}

impl Package {
    fn new(name: &str) -> Result<Self> {
        let service = Service::new(name, &WORLD.moto)?;
        service.settings("include = [\"payload\"]")?;
        let outputs = json!({ "StreambotStack": { "Value": STREAMBOT } });
        let template =
            json!({ "Resources": { "Topic": { "Type": "AWS::SNS::Topic" } }, "Outputs": outputs });
        WORLD.stack(&format!("{name}-disk"), &template.to_string())?;
        Ok(Self { service })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.service.path(path)
    }

    fn folder(&self) -> PathBuf {
        self.service.path("")
    }

    /// Builds the bundle and writes both files.
    fn bundle(&self) -> Command {
        self.service.command(["bundle", "disk", "--profile", "dev"])
    }
}

/// What the package's `.env` and bundle are made of; nothing where one of them is not there. A
/// half-written one is an error.
fn whole(folder: &Path) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (text, zip) = (folder.join(".env"), folder.join("build/bundle.zip"));
    if !text.exists() || !zip.exists() {
        return Ok(None);
    }
    let (text, files) = (std::fs::read(text)?, unzip(&zip)?);
    ensure!(dotenv(&text)?.len() > 2, "{}", String::from_utf8_lossy(&text));
    let (_, _, packed) =
        files.into_iter().find(|(name, _, _)| name == "payload").context("the payload")?;
    Ok(Some((text, packed)))
}

/// The files beside `.env` and beside the bundle.
fn names(folder: &Path) -> Result<BTreeSet<OsString>> {
    let listed = [folder.to_owned(), folder.join("build")].into_iter().map(std::fs::read_dir);
    let entries = listed.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    Ok(entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?)
}

#[test]
fn a_kill_while_files_are_written_leaves_whole_ones() -> Result<()> {
    let package = Package::new("killed")?;
    // Large enough that its writing takes a while, and not to be packed.
    let payload = |release: u8| -> Vec<u8> {
        (0..6_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ release).collect()
    };
    let bundle = |release: u8| -> Result<Command> {
        std::fs::write(package.path("payload"), payload(release))?;
        Ok(package.bundle())
    };
    let output = bundle(0)?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut text, mut packed) = whole(&package.folder())?.context("both are there")?;
    let mut interrupted = 0;
    for step in 1..=12 {
        let before = names(&package.folder())?;
        let mut child = bundle(step)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Each file is written beside its place first.
        while child.try_wait()?.is_none() && names(&package.folder())? == before {}
        // Another moment of the writing each time.
        std::thread::sleep(Duration::from_micros(500) * u32::from(step - 1));
        interrupted += u32::from(child.try_wait()?.is_none());
        let _ = child.kill();
        child.wait()?;
        let (text_now, packed_now) = whole(&package.folder())?.context("both are there")?;
        assert!(text_now == text, "the values are the same");
        assert!(packed_now == packed || packed_now == payload(step), "old or new, step {step}");
        (text, packed) = (text_now, packed_now);
    }
    assert!(interrupted > 0, "every run had ended before it was killed");
    Ok(())
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_files() -> Result<()> {
    let package = Package::new("full")?;
    std::fs::write(package.path("payload"), "old")?;
    let output = package.bundle().output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = whole(&package.folder())?;
    std::fs::write(package.path("payload"), "new")?;
    // A limit on the size of files stands for the disk; its signal is ignored, so that writing
    // fails.
    let bundle = package.bundle();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"])
        .arg(bundle.get_program());
    limited.args(bundle.get_args()).current_dir(package.folder()).env_clear();
    limited
        .envs(std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("AWS_")));
    limited.envs(bundle.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bundle.zip"), "{said}");
    assert_eq!(whole(&package.folder())?, before);
    Ok(())
}
