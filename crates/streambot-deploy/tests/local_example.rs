//! The example service under `streambot-deploy local`, built by it, on the records that lie beside
//! it.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn the_example_succeeds_on_every_record_and_counts_its_alerts() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example");
    let output = Command::new(env!("CARGO_BIN_EXE_streambot-deploy"))
        .arg("local")
        .arg("--manifest-path")
        .arg(example.join("Cargo.toml"))
        .arg("--records")
        .arg(example.join("records.ndjson"))
        .args(["--partition-key", "/net", "--shards", "4", "--output", "json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["records"], 1707);
    assert_eq!(summary["succeeded"], 1707);
    assert_eq!(summary["discarded"], 0);
    assert_eq!(summary["metrics"]["Alerts"]["total"], 85, "{}", summary["metrics"]);
    let shards = summary["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 4);
    for field in ["records", "succeeded", "invocations"] {
        let sum: u64 = shards.iter().map(|shard| shard[field].as_u64().unwrap()).sum();
        assert_eq!(summary[field], sum, "{field}");
    }
}
