//! A response with a field that cannot be sent does not leave without it.

mod common;

use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use exchange::{Request, Response};
use listen::{Socket, Stream};
use protocol::{Deadlines, h2};

use common::settings;

#[tokio::test(flavor = "current_thread")]
async fn on_http2_it_is_an_error_as_on_http1() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let [ours, theirs] = [ours, theirs].map(|end| {
        end.set_nonblocking(true).unwrap();
        tokio::net::UnixStream::from_std(end).unwrap()
    });
    let serve = async {
        let own =
            h2::Settings { max_concurrent_streams: 10, preread: 65_536, max_frame: 16_384, connects: false };
        let stream = Stream::Plain(Socket::Unix(ours));
        let deadlines = Deadlines::new();
        let begun = h2::Connection::begin(
            stream,
            BytesMut::new(),
            Rc::new(settings()),
            &own,
            &deadlines,
            Instant::now(),
        );
        let mut connection = begun.await.unwrap();
        let mut exchange = connection.accept().await.unwrap();
        let mut request = Request::default();
        exchange.read_head(&mut request).unwrap();
        let mut response = Response::text(200, "text/plain", "the body");
        response.fields.push(b"x-broken", b"a\nb");
        let sent = exchange.respond(&mut response, b"Mon, 30 Nov 2026 00:00:00 GMT").await;
        assert_eq!((response.status, sent.outcome), (500, Ok(())), "so it is logged");
        drop(exchange);
        let _ = connection.accept().await;
    };
    let ask = async {
        let (mut client, connection) = ::h2::client::handshake(theirs).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = http::Request::get("http://a.example/").body(()).unwrap();
        let answer = client.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), 500);
        let mut body = answer.into_body();
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"Internal Server Error\n");
        drop((client, body));
        driven.abort();
    };
    tokio::join!(serve, ask);
}
