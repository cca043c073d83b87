//! Holds the levels of DESIGN: a crate uses crates of lower levels only, never one of its own level.
//!
//! Reads `cargo metadata` and prints every edge that breaks the rule, and every workspace crate that has
//! no level. Run from the checkout: `cargo run -p layers`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

/// Crate and level; the docs (`docs/ARCHITECTURE.md`) show the same table with each crate's job.
const LEVELS: &[(&str, u8)] = &[
    ("conf-syntax", 0),
    ("gateway", 0),
    ("http1", 0),
    ("sys", 0),
    ("bridge", 1),
    ("config", 1),
    ("exchange", 2),
    ("listen", 2),
    ("telemetry", 2),
    ("buffering", 3),
    ("cache", 3),
    ("limits", 3),
    ("protocol", 3),
    ("routing", 3),
    ("acme", 4),
    ("filters", 4),
    ("handlers", 4),
    ("upstream", 4),
    ("admin", 5),
    ("edge", 5),
    ("supervisor", 5),
    ("worker-python", 5),
    ("monoceros", 6),
];

/// Crates that are no part of the program.
const TOOLS: &[&str] = &["layers"];

fn main() -> ExitCode {
    match violations() {
        Ok(found) if found.is_empty() => {
            println!("layers: every crate uses lower levels only");
            ExitCode::SUCCESS
        }
        Ok(found) => {
            for line in found {
                eprintln!("layers: {line}");
            }
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("layers: {why}");
            ExitCode::FAILURE
        }
    }
}

fn violations() -> Result<Vec<String>, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|e| format!("cargo metadata did not start: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let levels: BTreeMap<&str, u8> = LEVELS.iter().copied().collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if TOOLS.contains(&name) {
            continue;
        }
        let Some(&level) = levels.get(name) else {
            found.push(format!("`{name}` has no level; give it one in tools/layers/src/main.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_test_only = dependency["kind"].as_str() == Some("dev");
            if let Some(&below) = levels.get(used).filter(|_| dependency["path"].is_string() && !is_test_only)
                && below >= level
            {
                found.push(format!("`{name}` (level {level}) uses `{used}` (level {below})"));
            }
        }
    }
    Ok(found)
}
