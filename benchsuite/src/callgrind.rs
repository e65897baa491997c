//! Instructions, counted by Valgrind's callgrind: the same count in every run, however busy the machine is. Valgrind knows
//! AVX2 and hides AVX-512 from the program, and it sees nothing of what the kernel does.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs the command, which must succeed, and returns how many instructions it took from its start to its end.
pub fn instructions(command: &Command) -> Result<u64> {
    let file = std::env::temp_dir().join(format!("benchsuite-callgrind-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(command.get_program()).args(command.get_args());
    let output = valgrind.stdin(Stdio::null()).output().context("failed to run valgrind")?;
    ensure!(output.status.success(), "{valgrind:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    let profile = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))?;
    total(&profile).context("callgrind's profile has no total")
}

fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")))?;
    line.trim().parse().ok()
}
