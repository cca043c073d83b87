//! A response that could go on for ever lets others on the event loop have their turn.

mod common;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use exchange::{Body, Chunk, ChunkStream, Name, Response, SendForeign, StreamError};
use listen::{Socket, Stream};
use protocol::{Deadlines, h1};

use common::settings;

/// Sent from where it lies, 64 KiB at a time; the client takes all of it.
struct Endless(Rc<Cell<u64>>);

impl ChunkStream for Endless {
    fn send_foreign(&mut self, _: u64, _: &mut SendForeign<'_>) -> Option<io::Result<usize>> {
        let sent = self.0.get() + 65_536;
        assert!(sent < 100 << 20, "it never lets go");
        self.0.set(sent);
        Some(Ok(65_536))
    }

    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_sent_without_a_copy_is_sent_in_turns() {
    let (ours, _client) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = tokio::net::UnixStream::from_std(ours).unwrap();
    ours.writable().await.unwrap();
    let stream = Stream::Plain(Socket::Unix(ours));
    let (pool, deadlines) = (Rc::new(h1::Pool::default()), Deadlines::new());
    let mut connection =
        h1::Connection::new(stream, Rc::new(settings()), pool, &deadlines, 0, Instant::now());
    let sent = Rc::new(Cell::new(0));
    let mut response = Response::new(200);
    response.fields.push_known(Name::ContentLength, b"1000000000000");
    response.body = Body::Stream(Box::new(Endless(Rc::clone(&sent))));
    let mut responding = pin!(connection.respond(&mut response, b"Mon, 30 Nov 2026 00:00:00 GMT"));
    let mut cx = Context::from_waker(Waker::noop());
    for turns in 1..4 {
        assert!(responding.as_mut().poll(&mut cx).is_pending());
        assert_eq!(sent.get(), turns * (512 << 10));
    }
}
