//! Accepting connections, and spreading them over the event loops.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use config::model::Address;
use listen::tls::{Negotiated, Session};
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, acceptfrom_with, sockopt};
use sys::Watched;
use telemetry::error_log::{self, Level};

use crate::event_loop::EventLoop;
use crate::spread;

/// Connections taken from one listener before others on the loop get their turn: a millisecond's worth. When a crowd
/// comes, the system's queue must not fill meanwhile: whoever finds it full is silent for a second before it tries again.
const BATCH: usize = 256;
/// A loop keeps what it accepts as long as it has at most this many more than the emptiest.
const IMBALANCE: usize = 2;

/// So many connections more than an interval ago are a crowd: one loop more is active before all of it is on the first.
const CROWD: usize = 512;

/// A connection that no loop has yet.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// The client's address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where it was accepted; its index may change with a reload, its address does not.
    pub address: Arc<Address>,
    /// Its number among all connections, from 1: nginx's `$connection`.
    pub number: u64,
    /// When it was accepted.
    pub since: Instant,
    /// Requests that another loop has served on it.
    pub requests: u64,
    /// What a PROXY protocol header said, if another loop has read it.
    pub proxied: Option<Arc<limits::proxy_protocol::Proxied>>,
    /// Its TLS, if another loop has begun it.
    pub tls: Option<(Box<Session>, Arc<Negotiated>)>,
}

/// Accepts until the loop stops listening, whenever the loop is one of those that are active.
pub async fn accept(event_loop: Rc<EventLoop>, address: Arc<Address>, mut listener: OwnedFd) {
    loop {
        event_loop.process.spread.activated(event_loop.index).await;
        let watched = match Watched::new(listener) {
            Ok(watched) => watched,
            Err(error) => {
                error_log::write(Level::Error, format_args!("a listening socket can't be watched: {error}"));
                return;
            }
        };
        while_active(&event_loop, &address, &watched).await;
        // Not watched any more, so that new connections do not wake this loop for nothing.
        listener = watched.into_inner();
    }
}

async fn while_active(event_loop: &Rc<EventLoop>, at: &Arc<Address>, listener: &Watched) {
    let is_tcp = sockopt::socket_domain(listener.get_ref()).is_ok_and(|d| d != AddressFamily::UNIX);
    let spread = &event_loop.process.spread;
    let (mut interval, mut before) = (Instant::now(), spread.connections(event_loop.index));
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        if event_loop.index >= event_loop.process.spread.active() {
            return;
        }
        for _ in 0..BATCH {
            let accepted = acceptfrom_with(listener.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
            match accepted {
                Ok((socket, address)) => {
                    let peer = is_tcp.then(|| address.and_then(|a| to_socket_addr(&a))).flatten();
                    if is_tcp {
                        // Responses are written whole; waiting for more would only delay them.
                        let _ = sockopt::set_tcp_nodelay(&socket, true);
                    }
                    let number = event_loop.process.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                    let (address, since) = (Arc::clone(at), Instant::now());
                    let open = spread.connections(event_loop.index);
                    if since.duration_since(interval) > spread::INTERVAL {
                        (interval, before) = (since, open);
                    }
                    if open >= before + CROWD {
                        before = open;
                        spread.grow();
                    }
                    let (requests, proxied, tls) = (0, None, None);
                    let accepted = Accepted { socket, peer, address, number, since, requests, proxied, tls };
                    hand_out(event_loop, accepted);
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(error) => {
                    let error: io::Error = error.into();
                    error_log::write_limited(
                        &event_loop.accept_errors,
                        Level::Error,
                        format_args!("a connection can't be accepted: {error}"),
                    );
                    // Out of descriptors or memory: an idle connection gives way, and others get time to end.
                    event_loop.deadlines.end_oldest_idle();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn hand_out(event_loop: &Rc<EventLoop>, accepted: Accepted) {
    let place = event_loop.process.spread.better_place(event_loop.index, IMBALANCE);
    event_loop.hand_over(accepted, place);
}

fn to_socket_addr(address: &SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address.clone()).ok()
}
