//! An HTTP/2 connection: each of its requests goes its way in a task of its own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use protocol::h2::{Connection, Ended, Exchange, Settings};
use protocol::{Exchange as AnyExchange, h1};
use telemetry::error_log::{self, Level};
use tokio::sync::oneshot;

use crate::connection::{self, Ends};
use crate::event_loop::EventLoop;

/// Serves a connection to its end, from the preface on, and to that of its last request, which may be behind it: what a
/// connection counts for (a graceful end waits for it), its requests count for, as in nginx.
pub async fn serve(event_loop: &Rc<EventLoop>, connection: h1::Connection, own: Settings, ends: Ends) {
    let settings = event_loop.runtime.borrow().head(&ends.address);
    let (stream, input) = connection.into_stream();
    let begun = Connection::begin(stream, input, settings, &own, &event_loop.deadlines, ends.since);
    let Some(mut connection) = begun.await else { return };
    let ends = Rc::new(ends);
    let (under_way, over) = oneshot::channel::<Infallible>();
    let under_way = Rc::new(under_way);
    while let Some(exchange) = connection.accept().await {
        // Most requests are done at once: they need no task.
        let mut request = Box::pin(request(Rc::clone(event_loop), exchange, Rc::clone(&ends)));
        let begun = poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx)));
        if begun.await.is_pending() {
            let under_way = Rc::clone(&under_way);
            tokio::task::spawn_local(async move {
                request.await;
                drop(under_way);
            });
        }
    }
    tell_end(&ends, &connection.close().await);
    drop(under_way);
    // It tells that all who could say something are gone.
    let _ = over.await;
}

fn tell_end(ends: &Ends, ended: &Ended) {
    let words = match ended {
        Ended::Quietly => return,
        Ended::Flood => "http2 flood detected".to_owned(),
        Ended::Error(code) => format!("client broke HTTP/2: {code}"),
    };
    let client = ends.peer.remote.map_or_else(|| "unix:".to_owned(), |r| r.ip().to_canonical().to_string());
    let context = error_log::Context {
        connection: ends.number,
        action: Some("processing HTTP/2 connection"),
        client: Some(client.as_bytes()),
        ..error_log::Context::default()
    };
    error_log::write_with(Level::Info, &context, format_args!("{words}"));
}

/// One request and its response.
async fn request(event_loop: Rc<EventLoop>, mut exchange: Exchange, ends: Rc<Ends>) {
    let mut request = event_loop.requests.borrow_mut().pop().unwrap_or_default();
    let begun = exchange::now();
    let refusal = exchange.read_head(&mut request).err();
    let any = AnyExchange::Http2(&mut exchange);
    let runtime = event_loop.runtime();
    if let Some(later) = connection::answer(&event_loop, &runtime, any, &ends, begun, &mut request, refusal) {
        later.await;
    }
    connection::give_back(&event_loop, request);
    if exchange.is_early() {
        Box::pin(exchange.linger()).await;
    }
}
