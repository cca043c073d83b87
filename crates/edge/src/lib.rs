//! One edge process: it owns every client connection.
//!
//! The main thread ([`control`]) talks with the master and with the workers' sockets; one event loop per
//! core ([`event_loop`]) accepts connections ([`accept`]) and serves them ([`connection`]), each request in
//! nginx's phases. What the configuration says is compiled once ([`runtime`]).
#![forbid(unsafe_code)]

mod accept;
mod apps;
mod challenges;
mod configuration;
mod connection;
mod control;
mod event_loop;
mod forwarded;
mod http2;
mod intake;
mod log;
mod ocsp;
mod on_demand;
mod pages;
mod patience;
mod phases;
mod runtime;
mod site;
mod spread;
mod tls;
mod watch;
mod workers;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Runs an edge until its master lets it end. `control` is the edge's end of the master's socket.
pub fn run(control: OwnedFd) -> ExitCode {
    match control::run(control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::error_log::write(
                telemetry::error_log::Level::Critical,
                format_args!("the edge ends: {error}"),
            );
            ExitCode::FAILURE
        }
    }
}
