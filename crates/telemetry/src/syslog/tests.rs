use std::net::UdpSocket;
use std::time::Duration;

use super::*;

fn syslog(server: &str) -> Syslog {
    Syslog { server: server.to_owned(), facility: 1, severity: 6, tag: "web".to_owned(), nohostname: false }
}

#[test]
fn a_message_names_priority_time_host_and_tag() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let peer = Peer::new(&syslog(&server.local_addr().unwrap().to_string())).unwrap();
    let mut datagram = [0; 300];
    for (severity, priority) in [(0, "<8>"), (6, "<14>"), (7, "<15>")] {
        peer.send_at(severity, 1_795_427_022, b"words");
        let len = server.recv(&mut datagram).unwrap();
        let text = std::str::from_utf8(&datagram[..len]).unwrap();
        let time = String::from_utf8(clock::written(1_795_427_022).syslog.to_vec()).unwrap();
        let host = rustix::system::uname().nodename().to_str().unwrap().to_lowercase();
        assert_eq!(text, format!("{priority}{time} {host} web: words"));
    }
}

#[test]
fn dropped_messages_are_told_once_a_minute() {
    let peer = Peer::new(&syslog("unix:/no such directory/log")).unwrap();
    let told: Vec<_> = (0..130)
        .filter_map(|second| peer.attempt(6, second, b"x").map(|(dropped, _)| (second, dropped)))
        .collect();
    assert_eq!(told, [(0, 1), (60, 60), (120, 60)]);
}

#[test]
fn a_server_that_is_behind_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let server = UnixDatagram::bind(&path).unwrap();
    let peer = Peer::new(&syslog(&format!("unix:{}", path.display()))).unwrap();
    let why = (0..100_000).find_map(|_| peer.attempt(6, 0, b"x"));
    assert_eq!(why.map(|(dropped, why)| (dropped, why.kind())), Some((1, io::ErrorKind::WouldBlock)));
    // The same socket goes on when there is room again.
    server.recv(&mut [0; 100]).unwrap();
    peer.send(0, b"last");
    server.set_nonblocking(true).unwrap();
    let mut datagram = [0; 300];
    let mut last = 0;
    while let Ok(len) = server.recv(&mut datagram) {
        last = len;
    }
    assert!(datagram[..last].ends_with(b": last"));
}

#[test]
fn an_address_may_lack_its_port() {
    assert_eq!(resolve("192.0.2.1").unwrap().to_string(), "192.0.2.1:514");
    assert_eq!(resolve("192.0.2.1:1000").unwrap().to_string(), "192.0.2.1:1000");
    assert_eq!(resolve("[2001:db8::1]").unwrap().to_string(), "[2001:db8::1]:514");
    assert_eq!(resolve("[2001:db8::1]:1000").unwrap().to_string(), "[2001:db8::1]:1000");
}
