//! Builds what the binary carries for Python: the extension module, and the package as a zip archive.

mod zip;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in [
        "worker-python/src",
        "worker-python/Cargo.toml",
        "bridge/src",
        "bridge/Cargo.toml",
        "sys/src",
        "sys/Cargo.toml",
    ] {
        watch(&root.join("crates").join(input));
    }
    for input in ["python/monoceros", "Cargo.toml", "crates/monoceros/build"] {
        watch(&root.join(input));
    }
    extension(&root, &out)?;
    package(&root.join("python/monoceros"), &out.join("monoceros.zip"))?;
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

/// A second cargo with a target directory of its own: a library for the interpreter cannot be a dependency of a
/// program. It needs no interpreter to build, and follows this build's profile and target.
fn extension(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let release = env::var("PROFILE")? == "release";
    let directory = out.join("extension");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--package", "worker-python", "--lib", "--target", &target])
        .arg("--target-dir")
        .arg(&directory)
        .env("PYO3_NO_PYTHON", "1")
        // Its own debug information would be most of the binary.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo")
        // A check or a clippy run around us must not replace the compiler in there.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR");
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the extension module did not build: {cargo:?}: {status}").into());
    }
    let built = directory.join(target).join(if release { "release" } else { "debug" });
    fs::copy(built.join("libmonoceros_worker.so"), out.join("monoceros_worker.so"))?;
    Ok(())
}

fn package(directory: &Path, archive: &Path) -> Result<(), Box<dyn Error>> {
    let mut files = vec![];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).ok_or("a file name that is not UTF-8")?;
        if path.extension().is_some_and(|e| e == "py") {
            files.push((format!("monoceros/{name}"), fs::read(&path)?));
        }
    }
    // The order of a directory is not the same everywhere; the archive is.
    files.sort();
    fs::write(archive, zip::archive(&files)?)?;
    Ok(())
}
