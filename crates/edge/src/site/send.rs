//! How a request is served from its head to the log: the phases, its response, and what comes behind it.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Instant;

use exchange::{Fields, Request, Response};
use protocol::{Exchange, Refusal, Sent, h1};
use routing::Scope;
use telemetry::error_log::Level;

use super::Site;
use super::environment::{self, View};
use super::visit::Visit;
use crate::connection::{Counted, Ends, Later};
use crate::event_loop::EventLoop;
use crate::log;

/// Serves one request whose head has been read, or refused, to its lines in the logs. What it has to wait for is
/// returned. `begun`: when its first byte came.
#[expect(clippy::too_many_arguments, reason = "all that a request has")]
pub fn serve<'a>(
    event_loop: &'a Rc<EventLoop>,
    site: &'a Site,
    exchange: Exchange<'a>,
    ends: &'a Ends,
    begun: Instant,
    request: &'a mut Request,
    refusal: Option<Refusal>,
    counted: Counted<'a>,
) -> Option<Later<'a>> {
    let mut visit = Visit::new(event_loop, site, exchange, ends, begun, request, refusal.is_some());
    match visit.serve(request, refusal) {
        None => {
            let begun = begin_response(&mut visit);
            if try_finish(&mut visit, request, begun.as_ref()) {
                visit.end();
                return None;
            }
            let under_way = UnderWay { visit: Some(visit), request, status: 0, sent: None };
            Some(Box::pin(finish(under_way, begun, counted)))
        }
        Some(waiting) => Some(Box::pin(async move {
            let mut under_way = UnderWay { visit: Some(visit), request, status: 0, sent: None };
            let UnderWay { visit: Some(visit), request, .. } = &mut under_way else { return };
            visit.serve_rest(request, waiting).await;
            let begun = begin_response(visit);
            if try_finish(visit, request, begun.as_ref()) {
                under_way.end();
            } else {
                Box::pin(finish(under_way, begun, counted)).await;
            }
        })),
    }
}

/// A request that has to wait. If it is cut at the end of all it has its lines in the logs all the same.
struct UnderWay<'v, 's> {
    visit: Option<Visit<'v, 's>>,
    request: &'v mut Request,
    /// Of a response that has begun to leave.
    status: u16,
    /// The response has ended, and only what comes behind it is under way.
    sent: Option<Sent>,
}

impl UnderWay<'_, '_> {
    /// All is said about it.
    fn end(mut self) {
        if let Some(visit) = self.visit.take() {
            visit.end();
        }
    }
}

impl Drop for UnderWay<'_, '_> {
    fn drop(&mut self) {
        if let Some(visit) = &mut self.visit
            && visit.event_loop.is_cutting()
        {
            let words = log::cut(visit.facts.begun, self.sent.is_some());
            visit.facts.log(Level::Warning, Some(self.request), format_args!("{words}"));
            visit.log(self.request, self.status, None, self.sent.as_ref());
        }
    }
}

/// A response of which has left what could; the rest is the visit's.
struct Begun {
    status: u16,
    /// For the logs, where they ask.
    fields: Option<Fields>,
    sent: Result<Sent, h1::Left>,
}

/// Sends what can be sent without waiting. `None`: there is no response.
fn begin_response(visit: &mut Visit<'_, '_>) -> Option<Begun> {
    let fields = visit.wants_fields();
    let response = visit.response.as_deref_mut()?;
    visit.exchange.adapt(response);
    let fields = fields.then(|| {
        let mut fields = response.fields.clone();
        visit.exchange.tell_framing(response, &mut fields);
        fields
    });
    let sent = visit.exchange.try_respond(response, &visit.event_loop.date());
    // One that could not leave as it was is another by now.
    Some(Begun { status: response.status, fields, sent })
}

/// Ends a request whose response has left, where nothing comes behind it; else there is more to do.
fn try_finish(visit: &mut Visit<'_, '_>, request: &Request, begun: Option<&Begun>) -> bool {
    match begun {
        Some(Begun { status, fields, sent: Ok(sent) }) if !visit.has_after() => {
            visit.log(request, *status, fields.as_ref(), Some(sent));
            true
        }
        _ => false,
    }
}

/// Sends the rest of a response, and does what comes behind it.
async fn finish(mut under_way: UnderWay<'_, '_>, begun: Option<Begun>, _counted: Counted<'_>) {
    under_way.status = begun.as_ref().map_or(0, |begun| begun.status);
    let UnderWay { visit: Some(visit), request, sent: kept, .. } = &mut under_way else { return };
    let (status, fields, sent) =
        if let (Some(Begun { fields, sent, .. }), Some(mut response)) = (begun, visit.response.take()) {
            let date = visit.event_loop.date();
            let mut sent = match sent {
                Ok(sent) => sent,
                Err(left) => send_rest(visit, request, &mut response, &date, left).await,
            };
            if let Some(mut tunnel) = visit.take_tunnel()
                && sent.outcome.is_ok()
            {
                sent.body += Box::pin(visit.exchange.tunnel(&mut tunnel)).await;
            }
            (response.status, fields, Some(sent))
        } else {
            visit.exchange.close_after();
            (if visit.facts.closed.get() { 444 } else { visit.unanswered }, None, None)
        };
    *kept = sent;
    if visit.has_after() {
        visit.exchange.depart().await;
        Box::pin(visit.do_after(request, status, kept.as_ref())).await;
    }
    visit.log(request, status, fields.as_ref(), kept.as_ref());
    under_way.end();
}

/// Sends the rest of a response, and reads the values of its trailers when its body has ended.
async fn send_rest(
    visit: &mut Visit<'_, '_>,
    request: &Request,
    response: &mut Response,
    date: &[u8],
    left: h1::Left,
) -> Sent {
    let Some(at_end) = visit.take_trailers() else {
        return visit.exchange.respond_rest(response, date, left).await;
    };
    let head = Response { fields: response.fields.clone(), ..Response::new(response.status) };
    let Visit { exchange, facts, state, .. } = visit;
    let mut sending = std::pin::pin!(exchange.respond_rest(response, date, left));
    poll_fn(|cx| {
        loop {
            let polled = sending.as_mut().poll(cx);
            let Some(body) = at_end.due().filter(|_| polled.is_pending()) else { return polled };
            let sent = environment::Sent { length: None, body, all: body, ..environment::Sent::of(&head) };
            at_end.fill(
                |value| {
                    let view = View { facts, sent };
                    let scope = Scope { request, environment: &view };
                    facts.site.routing.variables.text(value, state, scope).into_owned()
                },
                |name, value| facts.rare().trailers.push(name, value),
            );
        }
    })
    .await
}
