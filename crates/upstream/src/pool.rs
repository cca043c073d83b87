//! Connections that wait for the next request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use config::model::http::{Keepalive, UpstreamAddress};

use crate::{Connection, Group, Route};

/// The idle connections of one event loop to one group.
pub struct Pool {
    keepalive: Option<Keepalive>,
    /// The one that was used last stands first.
    idle: RefCell<VecDeque<Idle>>,
    /// Where the group counts those of all event loops, and as how many these count there.
    total: Arc<AtomicU64>,
    shown: Cell<u64>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Pool {
    /// Keeps as many as `keepalive` says; without it none.
    pub fn new(keepalive: Option<Keepalive>) -> Self {
        Self::counted(keepalive, Arc::default())
    }

    /// That of a group.
    pub fn of(group: &Group) -> Self {
        Self::counted(group.keepalive.clone(), Arc::clone(&group.idle))
    }

    fn counted(keepalive: Option<Keepalive>, total: Arc<AtomicU64>) -> Self {
        Self { keepalive, idle: RefCell::default(), total, shown: Cell::new(0) }
    }

    /// Whether connections are kept at all.
    pub fn keeps(&self) -> bool {
        self.keepalive.is_some()
    }

    /// One to this address that is still good, and on which the same protocol is spoken, in TLS in the same way or not.
    /// It comes from the same address: `proxy_bind` may name a client's, and the server believe it.
    /// For a request that is not `repeatable` the system is asked as well whether it is: the event loop may not have
    /// heard of its end yet.
    pub fn take(
        &self,
        address: &UpstreamAddress,
        route: &Route,
        repeatable: bool,
    ) -> Option<Box<Connection>> {
        let timeout = self.keepalive.as_ref()?.timeout;
        let mut idle = self.idle.borrow_mut();
        let is_wanted = |idle: &Idle| {
            idle.connection.address == *address
                && idle.connection.family == route.family
                && idle.connection.bind == route.bind
                && idle.connection.via == route.via
        };
        while let Some(at) = idle.iter().position(is_wanted) {
            let mut found = idle.remove(at)?;
            let stream = &mut found.connection.stream;
            let is_quiet = if repeatable { stream.seems_quiet() } else { stream.is_quiet() };
            if is_quiet && exchange::now().duration_since(found.since) < timeout {
                return Some(found.connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has ended, or closes it.
    pub(crate) fn give(&self, connection: Box<Connection>) {
        let Some(keepalive) = &self.keepalive else { return };
        if connection.requests >= keepalive.requests
            || exchange::now().duration_since(connection.opened) > keepalive.time
        {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        while idle.len() >= keepalive.connections as usize {
            idle.pop_back();
        }
        idle.push_front(Idle { connection, since: exchange::now() });
    }

    /// Closes those to this address: the server was gone when one of them was used, and may be so for all. Whoever asks it
    /// again finds out by a new one.
    pub fn forget(&self, address: &UpstreamAddress) {
        self.idle.borrow_mut().retain(|idle| idle.connection.address != *address);
    }

    /// Closes those that the servers have closed, and those that have been idle too long. To be called now and then.
    pub fn sweep(&self) {
        let Some(keepalive) = &self.keepalive else { return };
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            idle.since.elapsed() < keepalive.timeout && idle.connection.stream.seems_quiet()
        });
        self.show(idle.len() as u64);
    }

    fn show(&self, count: u64) {
        let before = self.shown.replace(count);
        if before != count {
            self.total.fetch_add(count.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.show(0);
    }
}
