//! An answer that broke off goes on where it stopped: another server is asked for the same.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use exchange::Name;
use http1::{AnswerTo, ResponseHead};
use protocol::Deadlines;
use xxhash_rust::xxh3::Xxh3;

use crate::body::Broken;
use crate::{AnswerBody, Attempt, Choice, Connection, Lease, Limits, Nobody, Outgoing, OutgoingBody, Pool};

/// Bytes that are read over before others on the loop get their turn.
const TURN: u64 = 1024 * 1024;
/// After so many it is seen whether it is the same answer at all, however many follow.
const FIRST: u64 = 16 * 1024;
/// How long it may take a server to come as far as the one before.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same if nobody knows how far it is to the end: that may be a stream that comes as things happen, whose reader
/// would rather know that it broke off.
const PATIENCE_WITH_STREAMS: Duration = Duration::from_secs(10);

const OTHER: &str = "upstream sent another response than the one that broke off";
const LATE: &str = "upstream took too long to come as far as the one that broke off";

/// The servers that may be asked for the rest of an answer that breaks off, and what for. The request has no body.
pub struct Successor {
    /// Who could still be asked.
    pub choice: Choice,
    /// Their kept connections.
    pub pool: Rc<Pool>,
    /// What holds for each.
    pub limits: Limits,
    /// Of the event loop.
    pub deadlines: Rc<Deadlines>,
    /// The head of the request; see [`Outgoing`].
    pub request: Bytes,
    /// See [`Outgoing`].
    pub to: AnswerTo,
    /// See [`Outgoing`].
    pub keep: bool,
    /// Another is asked where the connection failed; where nothing came for too long.
    pub after: (bool, bool),
    /// None is asked later.
    pub until: Option<Instant>,
}

impl Successor {
    /// For an answer with this head, of which nothing was taken yet.
    pub(crate) fn follow(self, head: &ResponseHead, bytes: &[u8]) -> Box<Following> {
        Box::new(Following {
            successor: self,
            known_by: identity(head, bytes),
            is_bounded: head.content_length.is_some(),
            passed: 0,
            sum: Xxh3::new(),
            first: None,
        })
    }
}

/// A [`Successor`], and how much of which answer it need not get any more.
pub(crate) struct Following {
    successor: Successor,
    known_by: Vec<u8>,
    /// How long it is was said.
    is_bounded: bool,
    /// Bytes of the body that were passed on, and their checksum.
    passed: u64,
    sum: Xxh3,
    /// The same as soon as they were [`FIRST`].
    first: Option<(u64, u128)>,
}

impl Following {
    /// These bytes were passed on.
    pub fn passes(&mut self, data: &[u8]) {
        self.passed += data.len() as u64;
        self.sum.update(data);
        if self.first.is_none() && self.passed >= FIRST {
            self.first = Some((self.passed, self.sum.digest128()));
        }
    }

    /// Whether another may be asked after that.
    pub fn may_follow(&self, broken: Broken) -> bool {
        let (error, timeout) = self.successor.after;
        if broken.is_timeout { timeout } else { error }
    }

    /// The rest of the answer, from the first server that has all of it; each that was asked is chained to `attempt`.
    pub async fn take_up(mut self: Box<Self>, mut attempt: Rc<Attempt>) -> Option<AnswerBody> {
        loop {
            let is_late = self.successor.until.is_some_and(|until| exchange::now() >= until);
            if is_late || !self.successor.choice.use_up() {
                return None;
            }
            let lease = self.successor.choice.lease()?;
            let next = Rc::new(Attempt::new(lease.peer.name.clone()));
            *attempt.next.borrow_mut() = Some(Rc::clone(&next));
            attempt = next;
            let patience = if self.is_bounded { PATIENCE } else { PATIENCE_WITH_STREAMS };
            let asking = tokio::time::timeout(patience, self.ask(lease, &attempt));
            match asking.await.unwrap_or_else(|_| Err(LATE.to_owned())) {
                Ok(mut body) => {
                    body.following = Some(self);
                    return Some(body);
                }
                Err(why) => {
                    attempt.end();
                    *attempt.gave_up.borrow_mut() = Some(why);
                }
            }
        }
    }

    /// What this server has behind what was passed on; else what was wrong.
    async fn ask(&mut self, lease: Lease, attempt: &Rc<Attempt>) -> Result<AnswerBody, String> {
        let Successor { pool, limits, deadlines, request, to, keep, .. } = &self.successor;
        let address = &lease.peer.address;
        let asked = match Connection::to(address, pool, limits, deadlines, &mut Nobody).await {
            Ok((connection, reused)) => {
                attempt.connect_time.set(Some(exchange::now().duration_since(attempt.begun)));
                let outgoing =
                    Outgoing { head: request, body: OutgoingBody::Bytes(&[]), to: *to, keep: *keep };
                connection.ask(reused, outgoing, limits, &mut Nobody, attempt, lease, pool).await
            }
            Err(failure) => Err((failure, lease)),
        };
        let mut answer = match asked {
            Ok(answer) => answer,
            Err((failure, lease)) => {
                attempt.status.set(failure.fault.status());
                if failure.is_of_kept() {
                    pool.forget(&lease.peer.address);
                    self.successor.choice.give_back(&lease);
                } else {
                    lease.failed();
                }
                return Err(format!("{} while {}", failure.fault, failure.action));
            }
        };
        let is_same = !answer.body.ends_unseen() && identity(&answer.head, &answer.bytes) == self.known_by;
        if is_same && self.reads_over(&mut answer.body, attempt).await? {
            return Ok(answer.body);
        }
        answer.body.give_up();
        Err(OTHER.to_owned())
    }

    /// Takes from the body what was passed on already; tells whether it was the same.
    async fn reads_over(&self, body: &mut AnswerBody, attempt: &Attempt) -> Result<bool, String> {
        let stops = self.first.into_iter().chain([(self.passed, self.sum.digest128())]);
        let (mut read, mut sum, mut turn) = (0, Xxh3::new(), 0);
        for (stop, expected) in stops {
            while read < stop {
                let Some(next) = poll_fn(|cx| body.poll_next(cx)).await else { return Ok(false) };
                let mut data = next?;
                let most = usize::try_from(stop - read).unwrap_or(usize::MAX);
                let rest = data.split_off(data.len().min(most));
                if !rest.is_empty() {
                    // It is counted when it is taken.
                    attempt.length.set(attempt.length.get() - rest.len() as u64);
                    body.held.push_front(rest);
                }
                read += data.len() as u64;
                sum.update(&data);
                turn += data.len() as u64;
                if turn >= TURN {
                    turn = 0;
                    tokio::task::yield_now().await;
                }
            }
            if sum.digest128() != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What of a head has to be the same, for the client has the first one's: all but what differs from one server, or one
/// moment, to the next and says nothing of the body. A cache keeps the head, too.
fn identity(head: &ResponseHead, bytes: &[u8]) -> Vec<u8> {
    let mut identity = format!("{} {:?}\n", head.status, head.content_length).into_bytes();
    for line in &head.fields {
        let name = line.name.of(bytes).to_ascii_lowercase();
        let is_own = match line.known {
            Name::Connection | Name::KeepAlive | Name::TransferEncoding | Name::Date | Name::Server => true,
            _ => {
                matches!(name.as_slice(), b"age" | b"via")
                    || (name.starts_with(b"x-") && !name.starts_with(b"x-accel-"))
            }
        };
        if !is_own {
            identity.extend_from_slice(&name);
            identity.push(b':');
            identity.extend_from_slice(line.value.of(bytes));
            identity.push(b'\n');
        }
    }
    identity
}
