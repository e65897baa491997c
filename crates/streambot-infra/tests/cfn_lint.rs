//! cfn-lint has nothing to say about any form of the template, informational checks included.

#![allow(clippy::unwrap_used)]

mod ways;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use ways::{SETTINGS, WAYS, Way};

/// Each setting in each way on its own, all of them in the same way, and in ways that all differ from their neighbours'.
fn combinations() -> Vec<[Way; SETTINGS]> {
    let mut combinations = Vec::new();
    for way in WAYS {
        combinations.push([way; SETTINGS]);
        for setting in 0..SETTINGS {
            let mut alone = [Way::Parameter; SETTINGS];
            alone[setting] = way;
            combinations.push(alone);
        }
    }
    for step in 1..WAYS.len() {
        for start in 0..WAYS.len() {
            combinations.push(std::array::from_fn(|setting| WAYS[(start + setting * step) % WAYS.len()]));
        }
    }
    combinations
}

#[test]
fn cfn_lint_finds_nothing_in_any_combination_of_settings() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cfn-lint");
    fs::create_dir_all(&folder).unwrap();
    let mut files = BTreeSet::new();
    for ways in combinations() {
        for (composed, form) in [(false, "standalone"), (true, "composed")] {
            let template = ways::template(ways, composed).build().unwrap();
            let name = ways.map(|way| format!("{way:?}")).join("-");
            let file = folder.join(format!("{form}-{name}.json"));
            fs::write(&file, template.to_string()).unwrap();
            files.insert(file);
        }
    }

    let cfn_lint = test_tools().join("python/moto/bin/cfn-lint");
    assert!(cfn_lint.exists(), "{} is missing: run ci/setup first", cfn_lint.display());
    let output = Command::new(cfn_lint).args(["--include-checks", "I", "--"]).args(&files).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    assert!(output.status.success(), "cfn-lint ended with {}", output.status);
}

fn test_tools() -> PathBuf {
    match env::var_os("STREAMBOT_TEST_TOOLS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools"),
    }
}
