//! cfn-lint and checkov have nothing to say about any form of the template, but for what its
//! metadata gives a reason for.

#![allow(clippy::unwrap_used)]

mod ways;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value as Json;
use ways::{SETTINGS, WAYS, Way};

/// How many templates are looked at: a minute's work for cfn-lint.
const COMBINATIONS: usize = 200;

/// All settings in the same way, each in each way on its own, and others that a fixed seed draws:
/// as files in `folder`.
fn combinations(folder: &Path) -> BTreeSet<String> {
    let mut combinations: Vec<[Way; SETTINGS]> = Vec::new();
    for way in WAYS {
        combinations.push([way; SETTINGS]);
        for setting in 0..SETTINGS {
            let mut alone = [Way::Parameter; SETTINGS];
            alone[setting] = way;
            combinations.push(alone);
        }
    }
    let mut files = BTreeSet::new();
    let mut seed: u64 = 2026;
    let drawn = std::iter::repeat_with(|| {
        std::array::from_fn(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            WAYS[(seed >> 33) as usize % WAYS.len()]
        })
    });
    for ways in combinations.into_iter().chain(drawn) {
        let (form, template) = match files.len() {
            COMBINATIONS => break,
            count if count % 8 == 7 => ("two", ways::two_in_one(ways)),
            count if count % 2 == 1 => ("composed", ways::template(ways, true)),
            _ => ("standalone", ways::template(ways, false)),
        };
        let name: String = ways.map(|way| format!("{way:?}")[..1].to_owned()).concat();
        let file = folder.join(format!("{form}-{name}.json"));
        fs::write(&file, template.build().unwrap().to_string()).unwrap();
        files.insert(file.display().to_string());
    }
    files
}

/// An empty folder of this name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn cfn_lint_finds_nothing_in_any_combination_of_settings() {
    let files = Vec::from_iter(combinations(&folder("cfn-lint")));
    let cfn_lint = tool("python/moto/bin/cfn-lint");
    // What `-c I` includes is checked on top of the default. Two at once, on two halves.
    let running: Vec<_> = files
        .chunks(files.len().div_ceil(2))
        .map(|files| {
            let mut command = Command::new(&cfn_lint);
            command.args(["--include-checks", "I", "--"]).args(files);
            std::thread::spawn(move || command.output().unwrap())
        })
        .collect();
    for thread in running {
        let output = thread.join().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
        assert!(output.status.success(), "cfn-lint ended with {}", output.status);
    }
}

#[test]
fn checkov_finds_nothing_that_has_no_reason_in_any_combination_of_settings() {
    let folder = folder("checkov");
    combinations(&folder);
    let output = Command::new(tool("python/checkov/bin/checkov"))
        .args([
            "--framework",
            "cloudformation",
            "--skip-download",
            "--output",
            "json",
            "--directory",
        ])
        .arg(&folder)
        .output()
        .unwrap();
    let report: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let found = |kind: &str| -> Vec<Json> {
        let checks = report["results"][kind].as_array().unwrap().iter();
        // The resources that a template is wired to here are not Streambot's.
        checks
            .filter(|check| !check["resource"].as_str().unwrap().contains(".My"))
            .cloned()
            .collect()
    };
    let failed: Vec<String> = found("failed_checks")
        .iter()
        .map(|check| format!("{} {}", check["check_id"], check["resource"]))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for skipped in found("skipped_checks") {
        let reason = skipped["check_result"]["suppress_comment"].as_str().unwrap_or_default();
        assert!(
            reason.len() > 20,
            "{} has no reason at {}",
            skipped["check_id"],
            skipped["resource"]
        );
    }
    assert!(report["summary"]["passed"].as_u64().unwrap() > 200, "{}", report["summary"]);
    assert_eq!(report["summary"]["parsing_errors"], 0);
}

fn tool(path: &str) -> PathBuf {
    let tools = match env::var_os("STREAMBOT_TEST_TOOLS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools"),
    };
    let tool = tools.join(path);
    assert!(tool.exists(), "{} is missing: run ci/setup first", tool.display());
    tool
}
