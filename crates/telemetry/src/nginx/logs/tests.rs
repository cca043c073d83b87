use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use config::model::http::{LogEscape, Part, Variable};
use flate2::read::MultiGzDecoder;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn uri() -> LogFormat {
    let line = Value(vec![Part::Variable(Variable::Uri)]);
    LogFormat { name: "uri".to_owned(), escape: LogEscape::Default, line }
}

fn to(path: &Path) -> AccessLog {
    AccessLog {
        target: AccessTarget::File(Value::text(path.as_os_str().as_bytes())),
        format: 0,
        buffer: 0,
        flush: None,
        gzip: None,
        condition: None,
    }
}

/// Each slice holds at settings of its own.
fn opened(settings: &[&[AccessLog]]) -> Arc<AccessLogs> {
    AccessLogs::build(&[uri()], settings.iter().map(|logs| (*logs, None))).unwrap()
}

/// Logs a request for `uri` from the host `host`.
fn log(writer: &mut AccessLogsWriter, settings: SettingsId, now: Instant, uri: &str, host: &str) -> bool {
    writer.log(settings, now, None, &mut |variable, out| {
        out.extend_from_slice(match variable {
            Variable::Uri => uri.as_bytes(),
            Variable::Host => host.as_bytes(),
            _ => return false,
        });
        true
    })
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn locations_share_a_file_and_lines_come_with_the_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.log"), dir.path().join("two.log"));
    let logs = opened(&[&[to(&one)], &[to(&one), to(&two)], &[]]);
    assert_eq!(logs.files.len(), 2);
    assert!(logs.any(1) && !logs.any(2) && !logs.any(3));
    let (mut writer, now) = (logs.writer(), Instant::now());
    let asked: Vec<_> =
        (0..4).map(|settings| log(&mut writer, settings, now, &format!("/{settings}"), "")).collect();
    assert_eq!(asked, [true, false, false, false]);
    assert_eq!(read(&one), "");
    writer.write();
    assert_eq!(read(&one), "/0\n/1\n");
    assert_eq!(read(&two), "/1\n");
}

#[test]
fn a_buffer_waits_until_it_is_full_or_old() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let buffered = |flush| AccessLog { buffer: 8, flush, ..to(&path) };
    for flush in [None, Some(5 * SECOND)] {
        let logs = opened(&[&[to(&path)], &[buffered(flush)]]);
        let (mut writer, now) = (logs.writer(), Instant::now());
        std::fs::write(&path, "").unwrap();
        // The directive without `buffer=` names the same file, and so has its buffer.
        log(&mut writer, 0, now, "/a", "");
        writer.tick(now + Duration::from_millis(4999));
        assert_eq!(read(&path), "");
        writer.tick(now + 5 * SECOND);
        assert_eq!(read(&path), if flush.is_some() { "/a\n" } else { "" });
        log(&mut writer, 1, now, "/b", "");
        log(&mut writer, 1, now, "/c", "");
        assert_eq!(read(&path), if flush.is_some() { "/a\n" } else { "/a\n/b\n/c\n" });
        drop(writer);
        assert_eq!(read(&path), "/a\n/b\n/c\n");
    }
}

#[test]
fn the_first_line_that_is_to_be_written_later_asks_for_a_tick() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.log"), dir.path().join("two.log"));
    let after = |path: &Path, flush| AccessLog { buffer: 1000, flush: Some(flush), ..to(path) };
    let logs = opened(&[&[after(&one, 5 * SECOND)], &[after(&two, SECOND)]]);
    let (mut writer, now) = (logs.writer(), Instant::now());
    assert_eq!(writer.deadline(), None);
    assert!(log(&mut writer, 0, now, "/1", ""));
    assert!(!log(&mut writer, 0, now + SECOND, "/2", ""));
    assert_eq!(writer.deadline(), Some(now + 5 * SECOND));
    assert!(log(&mut writer, 1, now + SECOND, "/3", ""), "sooner");
    assert_eq!(writer.deadline(), Some(now + 2 * SECOND));
    writer.tick(now + 2 * SECOND);
    assert_eq!((read(&one).as_str(), read(&two).as_str()), ("", "/3\n"));
    assert_eq!(writer.deadline(), Some(now + 5 * SECOND));
    writer.tick(now + 5 * SECOND);
    assert_eq!(read(&one), "/1\n/2\n");
    assert_eq!(writer.deadline(), None);
}

#[test]
fn each_gzip_buffer_is_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log.gz");
    let logs = opened(&[&[AccessLog { gzip: Some(1), ..to(&path) }]]);
    let mut writer = logs.writer();
    for uri in ["/one", "/two", "/three"] {
        log(&mut writer, 0, Instant::now(), uri, "");
        writer.flush();
    }
    let packed = std::fs::read(&path).unwrap();
    assert_eq!(packed.windows(3).filter(|bytes| *bytes == [0x1F, 0x8B, 8]).count(), 3);
    let mut text = String::new();
    MultiGzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "/one\n/two\n/three\n");
}

#[test]
fn a_condition_decides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let condition = Some(Value(vec![Part::Variable(Variable::Host)]));
    let logs = opened(&[&[AccessLog { condition, ..to(&path) }]]);
    let mut writer = logs.writer();
    for host in ["", "0", "00", "x"] {
        log(&mut writer, 0, Instant::now(), &format!("/{host}"), host);
    }
    drop(writer);
    assert_eq!(read(&path), "/00\n/x\n");
}

#[test]
fn a_variable_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut path = Value::text(format!("{}/", dir.path().display()));
    path.0.extend([Part::Variable(Variable::Host), Part::Text(b".log".into())]);
    let target = AccessTarget::File(path);
    let logs = opened(&[&[AccessLog { target, ..to(dir.path()) }]]);
    let (mut writer, now) = (logs.writer(), Instant::now());
    let hosts: Vec<_> = (0..128).map(|n| format!("h{n}")).collect();
    for round in 0..2 {
        for host in &hosts {
            assert!(!log(&mut writer, 0, now, &format!("/{round}"), host));
        }
        log(&mut writer, 0, now, "/", "../outside");
        log(&mut writer, 0, now, "/", "no directory/x");
    }
    for host in &hosts {
        assert_eq!(read(&dir.path().join(format!("{host}.log"))), "/0\n/1\n");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), hosts.len());
    assert!(!dir.path().parent().unwrap().join("outside.log").exists());
    // After rotation the name is followed.
    let (name, moved) = (dir.path().join("h127.log"), dir.path().join("h127.log.1"));
    std::fs::rename(&name, &moved).unwrap();
    assert!(logs.reopen().iter().all(|error| !error.log.contains("h127")));
    log(&mut writer, 0, now, "/2", "h127");
    assert_eq!((read(&moved).as_str(), read(&name).as_str()), ("/0\n/1\n", "/2\n"));
}

#[test]
fn reopen_follows_the_name_and_empties_buffers() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    let logs = opened(&[&[AccessLog { buffer: 1 << 20, ..to(&path) }]]);
    let (mut writer, now) = (logs.writer(), Instant::now());
    log(&mut writer, 0, now, "/one", "");
    writer.flush();
    log(&mut writer, 0, now, "/two", "");
    std::fs::rename(&path, &moved).unwrap();
    logs.reopen();
    writer.tick(now);
    assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("/one\n", "/two\n"));
}

#[test]
fn loops_write_whole_lines_whatever_configuration_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            // As after a reload: two sets of logs, one file.
            let mut writer = opened(&[&[to(&path)]]).writer();
            scope.spawn(move || {
                let now = Instant::now();
                for n in 0..3000 {
                    log(&mut writer, 0, now, &format!("/{thread}/{n:0>width$}", width = 1 + n % 60), "");
                    if n % 7 == 0 {
                        writer.write();
                    }
                }
            });
        }
    });
    let (text, mut next) = (read(&path), [0; 4]);
    for line in text.lines() {
        let (thread, n) = line.strip_prefix('/').and_then(|line| line.split_once('/')).expect(line);
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *next);
        *next += 1;
    }
    assert_eq!(next, [3000; 4]);
}

#[test]
fn a_full_disk_hurts_nobody() {
    let logs = opened(&[&[to(Path::new("/dev/full"))]]);
    let (mut writer, now) = (logs.writer(), Instant::now());
    let before = logs.files[0].file.lost();
    for _ in 0..3 {
        log(&mut writer, 0, now, "/", "");
        writer.write();
    }
    assert_eq!(logs.files[0].file.lost() - before, 3);
}

fn syslog(server: String) -> AccessLog {
    let syslog = Syslog { server, facility: 23, severity: 6, tag: "nginx".to_owned(), nohostname: true };
    AccessLog { target: AccessTarget::Syslog(syslog), ..to(Path::new("")) }
}

/// What follows the time.
fn message(datagram: &[u8]) -> &str {
    let text = std::str::from_utf8(datagram).unwrap();
    let (priority, rest) = text.split_at(5);
    assert_eq!(priority, "<190>");
    rest.get(15..).unwrap()
}

#[test]
fn a_line_is_a_datagram() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(10 * SECOND)).unwrap();
    let logs = opened(&[&[syslog(server.local_addr().unwrap().to_string())]]);
    log(&mut logs.writer(), 0, Instant::now(), "/a b", "");
    let mut datagram = [0; 200];
    let len = server.recv(&mut datagram).unwrap();
    assert_eq!(message(&datagram[..len]), " nginx: /a b");
}

#[test]
fn a_local_server_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let logs = opened(&[&[syslog(format!("unix:{}", path.display()))]]);
    let mut writer = logs.writer();
    // Nobody is there: dropped.
    log(&mut writer, 0, Instant::now(), "/lost", "");
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_nonblocking(true).unwrap();
    let mut datagram = [0; 200];
    // A socket is tried for again once a second.
    let (begin, mut tries) = (Instant::now(), 0);
    let len = loop {
        log(&mut writer, 0, Instant::now(), "/again", "");
        match server.recv(&mut datagram) {
            Ok(len) => break len,
            Err(_) if begin.elapsed() < 10 * SECOND => tries += 1,
            Err(error) => panic!("{error} after {tries}"),
        }
    };
    assert_eq!(message(&datagram[..len]), " nginx: /again");
}

#[test]
fn the_files_of_a_configuration_are_named_once() {
    assert_eq!(access_log_files(&Http::default()), Vec::<PathBuf>::new());
    assert_eq!(constant(&to(Path::new("/dev/stdout")).target), Some(Target::Stdout));
    assert_eq!(constant(&to(Path::new("/dev/stderr")).target), Some(Target::Stderr));
    assert_eq!(constant(&syslog("127.0.0.1:514".to_owned()).target), None);
    let missing = to(Path::new("/no such directory/a.log"));
    let error = AccessLogs::build(&[uri()], std::iter::once((&[missing][..], None))).unwrap_err();
    assert!(error.to_string().starts_with("/no such directory/a.log: "), "{error}");
}
