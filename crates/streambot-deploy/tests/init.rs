//! What `init` writes, where, and what it refuses. That the service passes its tests, runs and
//! deploys is seen by ci/newcomer.

mod support;

use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use support::{cargo, streambot_deploy, workspace};

/// A folder to make services in.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn file(&self, path: &str, contents: &str) -> Result<()> {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(std::fs::write(path, contents)?)
    }

    /// The names of what is in a folder, sorted.
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.path(folder).read_dir()? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn init(&self, folder: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = streambot_deploy();
        Ok(command.arg("init").args(arguments).current_dir(self.path(folder)).output()?)
    }

    /// Makes a service that depends on this checkout, and gives the answer.
    fn service(&self, folder: &str, name: &str) -> Result<Value> {
        let dependencies = format!("--path-dependencies={}", workspace().display());
        let output = self.init(folder, &[name, &dependencies, "--output", "json"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

#[test]
fn a_workflow_tests_pull_requests_and_deploys_main() -> Result<()> {
    let place = Place::new()?;
    place.service("", "quakes")?;
    let workflow = std::fs::read_to_string(place.path("quakes/.github/workflows/deploy.yml"))?;
    let workflow: Value = serde_saphyr::from_str(&workflow)?;
    assert_eq!(workflow["on"]["push"]["branches"], json!(["main"]));
    assert_eq!(workflow["defaults"]["run"]["working-directory"], ".");
    assert_eq!(workflow["jobs"]["deploy"]["concurrency"], "quakes-production");
    assert_eq!(workflow["jobs"]["deploy"]["needs"], "test");
    let steps = workflow["jobs"]["deploy"]["steps"].as_array().context("steps")?;
    let deploys = "streambot-deploy deploy production --stack quakes.template --yes";
    assert_eq!(steps.last().map(|step| &step["run"]), Some(&json!(deploys)));
    let text = workflow.to_string();
    assert!(!text.contains("{name}") && !text.contains("{install}"), "{text}");
    Ok(())
}

#[test]
fn inside_a_workspace_it_becomes_a_member_once() -> Result<()> {
    let place = Place::new()?;
    let manifest =
        "[workspace]\nresolver = \"3\"\nmembers = [\n    # One a line.\n    \"tools/*\",\n]\n";
    place.file("Cargo.toml", manifest)?;
    place.file("services/README.md", "")?;
    place.file("tools/README.md", "")?;

    let answer = place.service("services", "quakes")?;
    for file in answer["files"].as_array().context("files")? {
        assert!(
            place.path("services/quakes").join(file.as_str().context("a path")?).is_file(),
            "{file}"
        );
    }
    let edited = std::fs::read_to_string(place.path("Cargo.toml"))?;
    assert_eq!(
        edited,
        manifest.replace("    \"tools/*\",\n", "    \"tools/*\",\n    \"services/quakes\",\n")
    );
    assert_eq!(answer["member_of"], json!(place.path("Cargo.toml").canonicalize()?));
    assert!(
        answer["notes"][0].as_str().context("a note")?.contains("panic = \"unwind\""),
        "{answer}"
    );
    let member = std::fs::read_to_string(place.path("services/quakes/Cargo.toml"))?;
    assert!(!member.contains("[profile"), "{member}");
    let workflow =
        std::fs::read_to_string(place.path("services/quakes/.github/workflows/deploy.yml"))?;
    assert!(workflow.contains("working-directory: \"services/quakes\""), "{workflow}");

    let twice = place.init("", &["quakes"])?;
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8(twice.stderr)?.contains("has a package `quakes`"));
    assert!(!place.path("quakes").exists());

    place.service("tools", "counter")?;
    assert_eq!(std::fs::read_to_string(place.path("Cargo.toml"))?, edited);

    let mut command = cargo();
    command
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(place.path("services"));
    let metadata: Value = serde_json::from_slice(&command.output()?.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let mut names: Vec<_> =
        packages.iter().filter_map(|package| package["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["counter", "quakes"]);
    Ok(())
}

#[test]
fn what_is_refused_leaves_nothing_behind() -> Result<()> {
    let place = Place::new()?;
    place.file("Cargo.toml", "[workspace]\nmembers = []\n")?;
    place.file("there/file", "")?;
    std::os::unix::fs::symlink("nowhere", place.path("dangling"))?;
    let before = place.list("")?;
    for (arguments, told) in [
        (&["my_quakes"][..], "which CloudFormation refuses"),
        (&["2quakes"], "which CloudFormation refuses"),
        (&["services/quakes"], "which CloudFormation refuses"),
        (&["test"], "`test` cannot be a service's name"),
        (&["there"], "there exists"),
        (&["dangling"], "dangling exists"),
        (&["quakes", "--path-dependencies"], "is in no checkout of Streambot"),
        (&["quakes", "--path-dependencies=there"], "there is no checkout of Streambot"),
    ] {
        let output = place.init("", arguments)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(told), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
        assert_eq!(place.list("")?, before);
    }
    place.file("Cargo.toml", "[workspace")?;
    assert_eq!(place.init("", &["quakes"])?.status.code(), Some(2));
    assert_eq!(place.list("")?, before);
    Ok(())
}

#[test]
fn without_a_checkout_it_depends_on_this_version_and_tells_what_to_do_next() -> Result<()> {
    let place = Place::new()?;
    let output = place.init("", &["quakes"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!("init", String::from_utf8(output.stdout)?);
    let manifest = std::fs::read_to_string(place.path("quakes/Cargo.toml"))?;
    assert!(manifest.contains("streambot-runtime = \"0.1\"\n"), "{manifest}");
    assert!(manifest.contains("panic = \"unwind\""), "{manifest}");
    assert!(!place.path("quakes/.cargo").exists());
    Ok(())
}
