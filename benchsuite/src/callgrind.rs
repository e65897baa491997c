//! Instructions, counted by Valgrind's callgrind: the same count in every run, however busy the
//! machine is. It knows AVX2 and hides AVX-512 from the program, it takes each byte that `rep
//! movsb` copies for one instruction, and it sees nothing of what the kernel does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The command under callgrind, which writes its profile to `profile` when the command ends.
pub fn under(command: &Command, profile: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.display()));
    valgrind.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).env_clear();
    valgrind.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        valgrind.current_dir(folder);
    }
    valgrind
}

/// Runs the command, which must succeed, and returns how many instructions it took from its start
/// to its end.
pub fn instructions(command: &Command) -> Result<u64> {
    let profile = std::env::temp_dir().join(format!("benchsuite-callgrind-{}", std::process::id()));
    let mut valgrind = under(command, &profile);
    let output = valgrind.output().context("failed to run valgrind")?;
    ensure!(
        output.status.success(),
        "{valgrind:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    total(&profile)
}

/// How many instructions a profile counts in all; the profile is removed.
pub fn total(profile: &Path) -> Result<u64> {
    let text = fs::read_to_string(profile)
        .with_context(|| format!("failed to read {}", profile.display()))?;
    fs::remove_file(profile).with_context(|| format!("failed to remove {}", profile.display()))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")));
    line.and_then(|line| line.trim().parse().ok()).context("callgrind's profile has no total")
}
