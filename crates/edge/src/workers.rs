//! The sockets of the workers, as the control loop sees them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bridge::control::FromEdge;
use bridge::edge::{Message as WorkerMessage, WorkerSocket};
use handlers::app::{Shared, Worker};
use sys::Watched;
use telemetry::error_log::{self, Level};
use tokio::sync::mpsc::UnboundedSender;

use crate::event_loop::{Message, Process};

/// A worker that the master has announced.
pub struct Announced {
    /// The master's number for it.
    pub id: u64,
    /// The application that it runs.
    pub app: Arc<Shared>,
    /// How many threads it may claim with.
    pub claimers: u16,
    /// It is replaced after so many requests; 0 is never.
    pub max_requests: u64,
    /// Our end of its socket.
    pub socket: Arc<OwnedFd>,
}

/// What a worker's socket told the control loop.
pub enum Heard {
    /// It has booted.
    Ready(Arc<Shared>, Arc<Worker>),
    /// It is gone.
    Gone {
        /// The application that it ran.
        app: Arc<Shared>,
        /// The master's number for it.
        id: u64,
        /// `None` if it had not even said hello.
        worker: Option<Arc<Worker>>,
        /// Whether it has had a request.
        used: bool,
        /// Requests that the application had finished by then.
        finished: u64,
    },
}

/// Follows one worker's socket to its end.
pub async fn follow(process: Arc<Process>, announced: Announced, heard: UnboundedSender<Heard>) {
    let mut worker = None;
    if let Err(error) = converse(&process, &announced, &heard, &mut worker).await {
        error_log::write(Level::Error, format_args!("worker {}: {error}", announced.id));
    }
    let mut used = false;
    // Before the loops take its requests over: whatever is finished behind those is not of before its death.
    let finished = announced.app.finished();
    if let Some(worker) = &worker {
        // In this order: what it has finished is counted before it is no longer its own.
        used =
            announced.app.region.has_claimed(&worker.claimers) || worker.requests.load(Ordering::Relaxed) > 0;
        // Its requests are taken over before its claimers can be given to another.
        for index in 0..process.inboxes.len() {
            let _ = process.send(index, Message::WorkerGone(Arc::clone(&announced.app), Arc::clone(worker)));
        }
    }
    let _ =
        heard.send(Heard::Gone { app: Arc::clone(&announced.app), id: announced.id, worker, used, finished });
}

async fn converse(
    process: &Arc<Process>,
    announced: &Announced,
    heard: &UnboundedSender<Heard>,
    worker: &mut Option<Arc<Worker>>,
) -> std::io::Result<()> {
    let watch = Watched::new(announced.socket.try_clone()?)?;
    let socket = WorkerSocket::new(announced.socket.try_clone()?)?;
    loop {
        let mut ready = watch.readable().await?;
        let message = match ready.try_io(|_| socket.recv()) {
            Err(_would_block) => continue,
            Ok(message) => message?,
        };
        let Some(message) = message else { return Ok(()) };
        match message {
            WorkerMessage::Hello { pid, claimers } => {
                if claimers == 0 || claimers > u32::from(announced.claimers) || worker.is_some() {
                    return Err(std::io::Error::other("it claims more threads than it was given"));
                }
                let range = announced.app.region.allocate_claimers(announced.claimers).map_err(|_| {
                    std::io::Error::other("there are more worker threads than the bridge has room for")
                })?;
                let first = range.start;
                let known = worker.insert(Arc::new(Worker {
                    id: announced.id,
                    pid,
                    claimers: range,
                    requests: AtomicU64::new(0),
                    max_requests: announced.max_requests,
                    socket: Arc::clone(&announced.socket),
                    silence: Mutex::default(),
                }));
                // Before it can claim anything: a claimer that nobody knows is one of a dead worker.
                announced.app.add_worker(Arc::clone(known));
                socket.send_welcome(&announced.app.region, first)?;
            }
            WorkerMessage::Ready => {
                if let Some(worker) = worker {
                    let _ = heard.send(Heard::Ready(Arc::clone(&announced.app), Arc::clone(worker)));
                }
            }
            WorkerMessage::File { slot, ticket, fd } => {
                announced.app.put_file(slot, ticket, fd);
                let index = usize::from(announced.app.thread_of(slot));
                if index < process.inboxes.len() {
                    let _ = process.send(index, Message::FileArrived(Arc::clone(&announced.app), slot));
                }
            }
            WorkerMessage::Purge { number, tags } => {
                // The worker waits; other messages of its threads wait with it, so that it cannot ask for more at once
                // than is done.
                let process = Arc::clone(process);
                let removed = tokio::task::spawn_blocking(move || process.purge_tags(&tags)).await;
                socket.send_purged(number, removed.unwrap_or(0))?;
            }
            WorkerMessage::Give { slot, ticket } => {
                if let Some(file) = announced.app.body_file(slot, ticket) {
                    socket.send_body(slot, ticket, file.as_fd())?;
                }
            }
        }
    }
}

/// What the master is told of it.
pub fn report(heard: &Heard) -> FromEdge {
    match heard {
        Heard::Ready(_, worker) => FromEdge::WorkerReady { worker: worker.id },
        Heard::Gone { id, used, finished, .. } => {
            FromEdge::WorkerGone { worker: *id, used: *used, finished: *finished }
        }
    }
}
