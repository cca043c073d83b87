//! The binary: argv → master, edge; nothing else.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Many small allocations on several threads are the edge's whole life; the master hardly notices.
#[global_allocator]
static ALLOCATOR: sys::Allocator = sys::Allocator;

const EMBEDDED: supervisor::Embedded = supervisor::Embedded {
    loader: include_str!("../../../python/monoceros/loader.py"),
    package: include_bytes!(concat!(env!("OUT_DIR"), "/package.zip")),
    extension: include_bytes!(concat!(env!("OUT_DIR"), "/monoceros_worker.so")),
};

fn main() -> ExitCode {
    // A log or a temporary file at its limit is an error that is answered, in the master as in the edge.
    sys::ignore_file_size_signal();
    // Only a master sets the variable: an application that is called `edge` is one all the same.
    let control = std::env::var(supervisor::CONTROL_FD).ok();
    match (std::env::args_os().nth(1), control) {
        (Some(word), Some(control)) if word == "edge" => {
            sys::ignore_orders();
            run_child(&control, edge::run)
        }
        (Some(word), Some(control)) if word == "acme" => run_child(&control, acme::program::run),
        _ => supervisor::run(std::env::args_os(), std::env::vars_os(), EMBEDDED),
    }
}

fn run_child(control: &str, run: fn(OwnedFd) -> ExitCode) -> ExitCode {
    match control.parse().map_err(std::io::Error::other).and_then(sys::inherited_fd) {
        Ok(control) => run(control),
        Err(error) => {
            eprintln!("monoceros: {}={control}: {error}", supervisor::CONTROL_FD);
            ExitCode::FAILURE
        }
    }
}
