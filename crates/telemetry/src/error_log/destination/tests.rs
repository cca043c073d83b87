use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use super::*;

fn syslog(server: &UdpSocket) -> Destination {
    let server = server.local_addr().unwrap().to_string();
    Destination::Syslog(Syslog {
        server,
        facility: 23,
        severity: 6,
        tag: "nginx".to_owned(),
        nohostname: true,
    })
}

/// What follows the time and the process.
fn messages(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
fn each_log_has_its_own_level() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let to = |name: &str, level| (Destination::File(path(name)), level);
    let logs = Logs {
        main: vec![to("main", LogLevel::Error), to("all", LogLevel::Info)],
        others: vec![vec![to("shop", LogLevel::Warn), to("all", LogLevel::Crit)], vec![]],
        debug: false,
    };
    let open = Open::new(&logs).unwrap();
    assert_eq!(open.least(), Level::Info);
    let write = |level, log, text: &str| {
        open.write(level, Some(&Context { log, ..Context::default() }), format_args!("{text}"), None);
    };
    open.write(Level::Debug, None, format_args!("too little"), None);
    open.write(Level::Notice, None, format_args!("one"), None);
    write(Level::Error, None, "two");
    write(Level::Warning, Some(0), "three");
    write(Level::Emerg, Some(0), "four");
    write(Level::Emerg, Some(1), "silent");
    assert_eq!(messages(&path("main")), ["two"]);
    assert_eq!(messages(&path("all")), ["one", "two", "four"]);
    assert_eq!(messages(&path("shop")), ["three", "four"]);
}

#[test]
fn a_client_may_be_written_about_whatever_the_level() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let main = vec![(Destination::File(path.clone()), LogLevel::Emerg)];
    let open = Open::new(&Logs { main, debug: true, ..Logs::default() }).unwrap();
    assert_eq!(open.least(), Level::Debug);
    for (debug, text) in [(true, "one"), (false, "two")] {
        open.write(
            Level::Debug,
            Some(&Context { debug, ..Context::default() }),
            format_args!("{text}"),
            None,
        );
    }
    assert_eq!(messages(&path), ["one"]);
}

#[test]
fn syslog_gets_the_severity_of_the_message() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let open = Open::new(&Logs { main: vec![(syslog(&server), LogLevel::Warn)], ..Logs::default() }).unwrap();
    open.write(Level::Info, None, format_args!("filtered"), None);
    open.write(Level::Critical, None, format_args!("boot failed"), Some("Traceback\nValueError"));
    let mut received = Vec::new();
    for _ in 0..3 {
        let mut datagram = [0; 300];
        let len = server.recv(&mut datagram).unwrap();
        received.push(String::from_utf8(datagram[..len].to_vec()).unwrap());
    }
    assert!(received.iter().all(|message| message.starts_with("<186>")), "{received:?}");
    assert!(received[0].contains(" nginx: ") && received[0].contains(" [crit] "), "{received:?}");
    assert!(received[0].ends_with(": boot failed") && received[2].ends_with(" nginx: ValueError"));
}

#[test]
fn a_log_that_cannot_be_opened_is_named() {
    let main = vec![(Destination::File("/no such directory/e.log".into()), LogLevel::Error)];
    let error = Open::new(&Logs { main, ..Logs::default() }).unwrap_err();
    assert!(error.to_string().starts_with("/no such directory/e.log: "), "{error}");
}
