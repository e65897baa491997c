//! What machine the figures are of.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

/// The processor, memory, kernel, compiler and date, in one line.
pub fn name() -> Result<String> {
    let processors = read("/proc/cpuinfo")?;
    let models: Vec<&str> =
        processors.lines().filter_map(|line| value_of(line, "model name")).collect();
    let memory = read("/proc/meminfo")?;
    let kib: f64 = memory
        .lines()
        .find_map(|line| value_of(line, "MemTotal"))
        .and_then(|value| value.trim_end_matches(" kB").parse().ok())
        .context("/proc/meminfo has no MemTotal")?;
    Ok(format!(
        "{}, {} cores, {:.0} GiB, Linux {}; {}, Node {}; {}",
        models.first().context("/proc/cpuinfo has no model name")?,
        models.len(),
        kib / f64::from(1 << 20),
        read("/proc/sys/kernel/osrelease")?.trim(),
        said_by("rustc", &["--version"])?,
        said_by("node", &["--version"])?,
        said_by("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])?,
    ))
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
