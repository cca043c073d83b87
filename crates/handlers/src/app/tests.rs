//! What a worker's death means for a response that has begun. The worker is a thread's end of the bridge; it dies by
//! its socket being closed, which is all that the edge ever sees of a death.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use bridge::edge::{Message, Region, WorkerSocket};
use bridge::worker::{Exchange, Link, Next};
use buffering::{BodyBuffer, BufferedBody};
use exchange::{Body, ChunkStream, Fields, Method, Request};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::sync::mpsc::unbounded_channel;

use super::*;

struct Patient;

impl Watch for Patient {
    fn poll_gone(&mut self, _: &mut Context<'_>, _: bool) -> Poll<()> {
        Poll::Pending
    }

    fn is_known(&self) -> bool {
        false
    }

    fn early_hints(&mut self, _: &Fields) {}
}

struct Stage {
    app: Rc<App>,
    worker: Arc<Worker>,
    /// The worker's end of the socket that its death closes.
    life: Option<OwnedFd>,
    link: Link,
    _socket: WorkerSocket,
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

impl Stage {
    fn new() -> Self {
        let region = Region::create(1, 4).unwrap();
        let (events, _) = unbounded_channel();
        let shared = Shared::new(Arc::clone(&region), 4, events);
        let options = Options {
            timeout: None,
            queue_size: 10,
            queue_timeout: Duration::from_secs(10),
            root_path: String::new(),
            response_memory: 1024 * 1024,
            response_file: 0,
            told: false,
        };
        let app = App::new(Arc::clone(&shared), 0, options, TempSpace::new(std::env::temp_dir(), 1 << 20));
        let (ours, theirs) = pair();
        let socket = WorkerSocket::new(ours).unwrap();
        let link = std::thread::spawn(move || Link::connect(theirs, 1, 2).unwrap());
        let hello = loop {
            match socket.recv() {
                Ok(message) => break message.expect("HELLO"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            std::thread::yield_now();
        };
        assert!(matches!(hello, Message::Hello { claimers: 2, .. }));
        let claimers = region.allocate_claimers(2).unwrap();
        socket.send_welcome(&region, claimers.start).unwrap();
        let (watched, life) = pair();
        let worker = Arc::new(Worker {
            silence: std::sync::Mutex::default(),
            id: 7,
            pid: 1,
            claimers,
            requests: AtomicU64::new(0),
            max_requests: 0,
            socket: Arc::new(watched),
        });
        shared.add_worker(Arc::clone(&worker));
        Self { app, worker, life: Some(life), link: link.join().unwrap(), _socket: socket }
    }

    fn claim(&self) -> Exchange {
        match self.link.claimer(0).unwrap().next() {
            Next::Exchange(exchange) => exchange,
            other => panic!("no request but {other:?}"),
        }
    }

    /// The worker dies in the middle of what it does.
    fn die(&mut self, exchange: Exchange) {
        std::mem::forget(exchange);
        self.life = None;
    }

    fn turn(&self) {
        self.app.turn(Waker::noop());
    }
}

fn request(method: Method) -> Request {
    Request { method, target: b"/".to_vec(), raw_path: b"/".to_vec(), ..Request::default() }
}

fn begin(exchange: &mut Exchange, length: Option<&[u8]>, body: &[u8]) {
    let fields = length.map(|length| (&b"Content-Length"[..], length));
    exchange.head(200, b"OK", fields).unwrap();
    exchange.body(body).unwrap();
    exchange.flush().unwrap();
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What `call` gave, which must be there.
macro_rules! answer {
    ($call:expr) => {
        match poll($call.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("no answer yet"),
        }
    };
}

fn stream_of(answer: Answer) -> Box<dyn ChunkStream> {
    match answer.result.expect("a response").body {
        Body::Stream(stream) => stream,
        other => panic!("not a stream but {other:?}"),
    }
}

/// What a stream brings until it ends or waits.
fn read(stream: &mut dyn ChunkStream) -> (Vec<u8>, Poll<Result<(), &'static str>>) {
    let mut bytes = Vec::new();
    loop {
        match stream.poll_chunk(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(Chunk::Data(data)))) => bytes.extend_from_slice(&data),
            Poll::Ready(Some(Ok(Chunk::Flush))) => {}
            Poll::Ready(Some(Ok(Chunk::File { .. }))) => panic!("no file was sent"),
            Poll::Ready(Some(Err(error))) => return (bytes, Poll::Ready(Err(error.0))),
            Poll::Ready(None) => return (bytes, Poll::Ready(Ok(()))),
            Poll::Pending => return (bytes, Poll::Pending),
        }
    }
}

#[test]
fn a_head_of_a_dead_worker_is_not_handed_on_and_the_request_runs_again() {
    let mut stage = Stage::new();
    let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
    let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut first = stage.claim();
    begin(&mut first, None, b"half of it");
    stage.die(first);
    stage.turn();
    assert!(poll(call.as_mut()).is_pending(), "the socket shows the death before the word of it is there");
    stage.app.worker_gone(&stage.worker);
    assert!(poll(call.as_mut()).is_pending(), "it is queued again");
    let mut second = stage.claim();
    begin(&mut second, None, b"all of it");
    second.end(false).unwrap();
    stage.turn();
    let answer = answer!(call);
    assert_eq!(answer.outcome.attempts, 2);
    let body = answer.result.unwrap().body;
    assert!(matches!(body, Body::Full(ref bytes) if bytes[..] == b"all of it"[..]), "{body:?}");
}

#[test]
fn what_is_not_idempotent_is_refused_and_not_begun() {
    let mut stage = Stage::new();
    let (app, post, mut watch) = (Rc::clone(&stage.app), request(Method::Post), Patient);
    let mut call = pin!(app.call(&post, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut exchange = stage.claim();
    begin(&mut exchange, Some(b"100"), b"half of it");
    stage.die(exchange);
    stage.app.worker_gone(&stage.worker);
    assert!(matches!(answer!(call).result, Err(Failure::WorkerDied)));
    assert_eq!(stage.app.active(), 0);
}

#[test]
fn all_announced_bytes_are_a_whole_response_without_an_end() {
    let mut stage = Stage::new();
    let (app, post, mut watch) = (Rc::clone(&stage.app), request(Method::Post), Patient);
    let mut call = pin!(app.call(&post, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut exchange = stage.claim();
    begin(&mut exchange, Some(b"9"), b"all of it");
    stage.die(exchange);
    stage.app.worker_gone(&stage.worker);
    let answer = answer!(call);
    let body = answer.result.unwrap().body;
    assert!(matches!(body, Body::Full(ref bytes) if bytes[..] == b"all of it"[..]), "{body:?}");
    assert_eq!(answer.outcome.attempts, 1);
}

#[test]
fn what_only_the_log_is_told_has_a_place_only_where_the_log_asks() {
    for told in [false, true] {
        let stage = Stage::new();
        let options = Options { told, ..Options::clone(&stage.app.options.borrow()) };
        stage.app.set_options(options);
        let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
        let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
        assert!(poll(call.as_mut()).is_pending());
        let mut exchange = stage.claim();
        begin(&mut exchange, None, b"some");
        stage.turn();
        let response = answer!(call).result.unwrap();
        assert_eq!(response.logged.is_some(), told);
        exchange.end(false).unwrap();
    }
}

#[test]
fn a_stream_passes_at_once_and_its_announced_length_decides_after_a_death() {
    for (length, last, end) in [
        (Some(&b"9"[..]), &b" of it"[..], Ok(())),
        (Some(b"10"), b" of it", Err("the worker died while it answered")),
        (None, b" of it", Err("the worker died while it answered")),
    ] {
        let mut stage = Stage::new();
        let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
        let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
        assert!(poll(call.as_mut()).is_pending());
        let mut exchange = stage.claim();
        begin(&mut exchange, length, b"all");
        stage.turn();
        let mut stream = stream_of(answer!(call));
        assert_eq!(read(&mut *stream), (b"all".to_vec(), Poll::Pending));
        exchange.body(last).unwrap();
        exchange.flush().unwrap();
        stage.die(exchange);
        stage.app.worker_gone(&stage.worker);
        assert_eq!(read(&mut *stream), (last.to_vec(), Poll::Ready(end)), "{length:?}");
    }
}

#[test]
fn what_a_dead_worker_had_written_is_taken_although_the_buffer_is_full() {
    let mut stage = Stage::new();
    let small = Options { response_memory: 10, ..Options::clone(&stage.app.options.borrow()) };
    stage.app.set_options(small);
    let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
    let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut exchange = stage.claim();
    begin(&mut exchange, None, &[b'x'; 50]);
    for _ in 0..3 {
        exchange.body(&[b'x'; 50]).unwrap();
    }
    exchange.end(false).unwrap();
    stage.turn();
    let mut stream = stream_of(answer!(call));
    stage.die(exchange);
    stage.app.worker_gone(&stage.worker);
    assert_eq!(read(&mut *stream), (vec![b'x'; 200], Poll::Ready(Ok(()))));
}

#[test]
fn a_worker_is_not_held_up_by_a_client_that_takes_nothing() {
    let stage = Stage::new();
    let small =
        Options { response_memory: 10, response_file: 1000, ..Options::clone(&stage.app.options.borrow()) };
    stage.app.set_options(small);
    let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
    let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut exchange = stage.claim();
    begin(&mut exchange, None, &[b'x'; 50]);
    stage.turn();
    let mut stream = stream_of(answer!(call));
    exchange.body(&[b'y'; 50]).unwrap();
    exchange.end(false).unwrap();
    stage.turn();
    assert_eq!(stage.app.temp.used(), 0, "the client may take it yet");
    assert_eq!(stage.app.active(), 1, "what memory has no room for waits with the worker");
    stream.poll_ahead(&mut Context::from_waker(Waker::noop()));
    assert_eq!(stage.app.temp.used(), 100);
    assert_eq!(stage.app.active(), 0, "the worker has been heard to its end");
}

#[test]
fn the_time_of_a_worker_that_hangs_behind_a_large_answer_runs_when_its_ring_is_empty() {
    let stage = Stage::new();
    let limit = Duration::from_millis(200);
    let hasty = Options { timeout: Some(limit), ..Options::clone(&stage.app.options.borrow()) };
    stage.app.set_options(hasty);
    let (app, get, mut watch) = (Rc::clone(&stage.app), request(Method::Get), Patient);
    let mut call = pin!(app.call(&get, &BufferedBody::Empty, ("localhost", 80), &mut watch, None));
    assert!(poll(call.as_mut()).is_pending());
    let mut exchange = stage.claim();
    begin(&mut exchange, None, &vec![b'x'; 100 * 1024]);
    stage.turn();
    let mut stream = stream_of(answer!(call));
    std::thread::sleep(limit + limit / 4);
    stage.app.tick();
    assert!(!exchange.is_cancelled(), "its client may be what it waits for");
    let mut left = 100 * 1024;
    while left > 0 {
        let sent = stream
            .send_foreign(u64::MAX, &mut |pieces| Ok(pieces.iter().fold(0, |all, piece| all + piece.len())));
        left -= sent.expect("large").unwrap();
    }
    stage.app.tick();
    assert!(!exchange.is_cancelled(), "it has time from now on");
    std::thread::sleep(limit + limit / 4);
    stage.app.tick();
    assert!(exchange.is_cancelled());
}

#[test]
fn the_file_of_a_body_is_let_go_when_its_request_has_waited_too_long() {
    let stage = Stage::new();
    let hasty = Options { queue_timeout: Duration::ZERO, ..Options::clone(&stage.app.options.borrow()) };
    stage.app.set_options(hasty);
    let mut buffer = BodyBuffer::new(1, Arc::clone(&stage.app.temp));
    buffer.push(b"more than memory takes").unwrap();
    let body = buffer.finish().unwrap();
    let BufferedBody::File(spilled) = &body else { panic!("not in a file") };
    let file = Arc::downgrade(spilled.file());
    let (app, post, mut watch) = (Rc::clone(&stage.app), request(Method::Post), Patient);
    {
        let mut call = pin!(app.call(&post, &body, ("localhost", 80), &mut watch, None));
        assert!(poll(call.as_mut()).is_pending());
        assert!(file.strong_count() > 1, "a worker may ask for it");
        while poll(call.as_mut()).is_pending() {
            stage.app.tick();
        }
    }
    drop(body);
    assert_eq!(file.strong_count(), 0);
}
