//! The binary: argv → master, edge; nothing else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Only the edge allocates enough for it to matter; the master is the same program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == supervisor::EDGE_ARGUMENT) {
        return match supervisor::edge_control() {
            Ok(control) => edge::run(control),
            Err(error) => {
                eprintln!("monoceros: an edge is started by its master only: {error}");
                ExitCode::from(2)
            }
        };
    }
    supervisor::run(&supervisor::Embedded {
        loader: include_str!("../../../python/monoceros/loader.py"),
        package: include_bytes!(concat!(env!("OUT_DIR"), "/package.zip")),
        extension: include_bytes!(concat!(env!("OUT_DIR"), "/monoceros_worker.so")),
    })
}
