use super::*;

fn event(target: &[u8], log: impl FnOnce(&AccessEvent<'_>)) {
    log(&AccessEvent {
        remote: None,
        local: None,
        scheme: "http",
        method: b"GET",
        target,
        path: target,
        query: b"",
        version: "HTTP/1.1",
        status: 200,
        bytes: 0,
        duration: Duration::ZERO,
        queued: None,
        attempts: 0,
        pid: 1,
        time: 0,
        request_fields: &(),
        response_fields: &(),
    });
}

#[test]
fn threads_write_whole_lines_and_the_rest_on_drop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(Target::File(path.clone()), AccessFormat::compile("%(r)s").unwrap()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut writer = log.writer();
            scope.spawn(move || {
                let now = Instant::now();
                for n in 0..5000 {
                    let target = format!("/{thread}/{n}");
                    event(target.as_bytes(), |event| {
                        writer.log(event, now);
                    });
                }
            });
        }
    });
    let text = std::fs::read_to_string(path).unwrap();
    let mut next = [0; 4];
    for line in text.lines() {
        let path = line.strip_prefix("GET /").and_then(|l| l.strip_suffix(" HTTP/1.1")).expect(line);
        let (thread, n) = path.split_once('/').unwrap();
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<u32>().unwrap(), *next);
        *next += 1;
    }
    assert_eq!(next, [5000; 4]);
    assert_eq!(log.lost(), 0);
}

#[test]
fn a_line_waits_at_most_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(Target::File(path.clone()), AccessFormat::default()).unwrap();
    let mut writer = log.writer();
    let now = Instant::now();
    assert_eq!(writer.deadline(), None);
    event(b"/", |event| {
        writer.log(event, now);
    });
    writer.tick(now + FLUSH_AFTER.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(writer.deadline(), Some(now + FLUSH_AFTER));
    writer.tick(now + FLUSH_AFTER);
    assert_ne!(std::fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(writer.deadline(), None);
}

#[test]
fn reopen_follows_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    let log = AccessLog::open(Target::File(path.clone()), AccessFormat::compile("%(U)s").unwrap()).unwrap();
    let mut writer = log.writer();
    event(b"/one", |event| {
        writer.log(event, Instant::now());
    });
    writer.flush();
    std::fs::rename(&path, &moved).unwrap();
    log.reopen().unwrap();
    event(b"/two", |event| {
        writer.log(event, Instant::now());
    });
    drop(writer);
    assert_eq!(std::fs::read_to_string(moved).unwrap(), "/one\n");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "/two\n");
}

#[test]
fn a_fifo_without_a_reader_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from(0o600)).unwrap();
    let error = AccessLog::open(Target::File(path), AccessFormat::default()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NXIO.raw_os_error()));
}
