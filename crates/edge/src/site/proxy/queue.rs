//! A request that finds no server, and may wait for one: `queue`.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use exchange::Request;
use telemetry::error_log::Level;
use tokio::time::{Instant, sleep};
use upstream::{Choice, Lease, Waits};

use super::super::kept::Keeping;
use super::super::visit::{Step, Visit};
use super::Unanswered;
use super::outgoing::Target;
use super::place::ProxyPlace;

/// A server that was thought to be down is one that can be asked when its time is over, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

impl Visit<'_, '_> {
    /// A server, if there comes to be one while the request may wait.
    pub(super) async fn wait_for_server(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        target: &Target,
        choice: &mut Choice,
        keeping: Option<&Keeping>,
        is_first: bool,
    ) -> Result<Lease, (Step, Unanswered)> {
        let words = match choice.queue_up() {
            Waits::No => "no live upstreams",
            Waits::Full => "no live upstreams, and as many requests wait for one as may",
            Waits::Here(queued, limit) => {
                // As for a request that has been sent.
                let alone =
                    self.alone || place.settings.ignore_client_abort || Keeping::is_cacheable(keeping);
                let until = Instant::now() + limit;
                let mut pause = Box::pin(sleep(LOOK_AGAIN.min(limit)));
                let found = poll_fn(|cx| {
                    loop {
                        if let Poll::Ready(lease) = queued.poll_lease(choice, cx) {
                            return Poll::Ready(Some(Ok(lease)));
                        }
                        if pause.as_mut().poll(cx).is_pending() {
                            break;
                        }
                        let now = Instant::now();
                        if now >= until {
                            return Poll::Ready(Some(Err("no upstream became live in time")));
                        }
                        pause.as_mut().reset(until.min(now + LOOK_AGAIN));
                    }
                    if alone { Poll::Pending } else { self.exchange.poll_client(cx).map(|_| None) }
                })
                .await;
                match found {
                    Some(Ok(lease)) => return Ok(lease),
                    Some(Err(words)) => words,
                    None => {
                        self.exchange.close_after();
                        let words = format_args!("client closed connection while it waited for an upstream");
                        self.log_upstream(Level::Info, request, target, &target.group.name, None, words);
                        return Err((Step::Gone, Unanswered::Client));
                    }
                }
            }
        };
        let attempt = self.begin_attempt(target.group.name.clone(), is_first);
        attempt.status.set(502);
        attempt.end();
        let action = Some("connecting to upstream");
        let group = &target.group.name;
        self.log_upstream(Level::Error, request, target, group, action, format_args!("{words}"));
        Err((Step::Page(502), Unanswered::Error))
    }
}
