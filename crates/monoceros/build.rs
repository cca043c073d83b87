//! Makes what the binary carries: the Python package as a zip archive, and the extension module.
//!
//! The extension is built by a cargo of its own with a target directory of its own (the outer cargo holds the
//! lock of the other), always optimised: a worker's speed should not depend on how the edge is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root =
        manifest.ancestors().nth(2).expect("crates/monoceros stands two levels below the root").to_path_buf();
    let out = PathBuf::from(variable("OUT_DIR"));

    let python = root.join("python/monoceros");
    println!("cargo::rerun-if-changed={}", python.display());
    fs::write(out.join("package.zip"), archive(&python)).expect("the archive can be written");

    for name in ["worker-python", "bridge", "sys"] {
        println!("cargo::rerun-if-changed={}", root.join("crates").join(name).join("src").display());
        println!("cargo::rerun-if-changed={}", root.join("crates").join(name).join("Cargo.toml").display());
    }
    let library = build_extension(&root, &out.join("worker"));
    fs::copy(library, out.join("monoceros_worker.so")).expect("the extension can be copied");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn build_extension(root: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--release", "--package", "worker-python", "--locked"])
        .arg("--target-dir")
        .arg(target)
        // The stable ABI needs no interpreter at build time, and no Python that happens to be there may matter.
        .env("PYO3_NO_PYTHON", "1");
    // What the outer cargo says about the outer build is not meant for this one.
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET_")
            || ["RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "CLIPPY_CONF_DIR", "RUSTFLAGS"]
                .contains(&name.as_str())
        {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the extension module does not build");
    target.join("release/libmonoceros_worker.so")
}

/// An uncompressed zip archive of the package, which Python's zipimport reads.
fn archive(package: &Path) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir(package)
        .expect("the Python package is there")
        .map(|entry| {
            entry.expect("its folder can be read").file_name().into_string().expect("its names are text")
        })
        .filter(|name| Path::new(name).extension().is_some_and(|e| e == "py") && name != "loader.py")
        .collect();
    names.sort();
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for name in &names {
        let contents = fs::read(package.join(name)).expect("its files can be read");
        let name = format!("monoceros/{name}");
        let size = u32::try_from(contents.len()).expect("a source file below 4 GiB");
        let offset = u32::try_from(zip.len()).expect("an archive below 4 GiB");
        // What local header and directory entry have in common: version, flags, method (stored), time and date
        // (1980-01-01, so that the same source gives the same archive), checksum, sizes, lengths.
        let mut common = vec![10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(&contents).to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(&contents);
        directory.extend(b"PK\x01\x02\x0a\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length) = (zip.len() as u32, directory.len() as u32);
    let count = (names.len() as u16).to_le_bytes();
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend(count);
    zip.extend(count);
    zip.extend(length.to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
