//! An edge and workers in one process, each with a mapping of its own.

use std::sync::Arc;

use bridge::edge::{BodyPart, EdgeThread, Message, PublishError, Region, RequestFrame, SlotId, WorkerSocket};
use bridge::worker::Link;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// Shakes hands with a worker of so many threads.
pub fn connect(region: &Arc<Region>, claimers: u16) -> (WorkerSocket, Link, std::ops::Range<u16>) {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let socket = WorkerSocket::new(ours).unwrap();
    let worker = std::thread::spawn(move || Link::connect(theirs, 1, claimers.into()).unwrap());
    let Message::Hello { claimers: count, .. } = wait_for(&socket) else { panic!("no HELLO") };
    assert_eq!(count, u32::from(claimers));
    let range = region.allocate_claimers(claimers).unwrap();
    socket.send_welcome(region, range.start).unwrap();
    (socket, worker.join().unwrap(), range)
}

/// The next message, within ten seconds.
pub fn wait_for(socket: &WorkerSocket) -> Message {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match socket.recv() {
            Ok(message) => return message.expect("the worker is gone"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(std::time::Instant::now() < deadline, "no message");
        std::thread::yield_now();
    }
}

/// Publishes a request for a path.
pub fn publish(edge: &mut EdgeThread, path: &[u8], body: BodyPart<'_>) -> Result<SlotId, PublishError> {
    publish_with(edge, path, body, |_| {})
}

/// The same; `before` is done before a worker can have it.
pub fn publish_with(
    edge: &mut EdgeThread,
    path: &[u8],
    body: BodyPart<'_>,
    before: impl FnOnce(SlotId),
) -> Result<SlotId, PublishError> {
    let fields: [(&[u8], &[u8]); 2] = [(b"Host", b"example.org"), (b"Accept", b"*/*")];
    let request = RequestFrame {
        version: 11,
        is_https: false,
        server_port: 80,
        remote_port: 1234,
        content_length: None,
        method: b"GET",
        target: path,
        path,
        query: b"",
        script_name: b"",
        remote_address: b"127.0.0.1",
        server_name: b"example.org",
        fields: &mut fields.iter().copied(),
    };
    edge.publish_with(request, body, before)
}
