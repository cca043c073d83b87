use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use exchange::Body;

use super::*;

struct Site {
    temp: tempfile::TempDir,
    server: FileServer,
    now: Instant,
}

impl Site {
    fn new(options: FileOptions) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("dir/empty")).unwrap();
        let server = FileServer::new(&root, options).unwrap();
        let site = Self { temp, server, now: Instant::now() };
        site.put("small.txt", b"0123456789");
        site.put("large.bin", &large());
        site.put("dir/index.html", b"<p>index");
        site.put(".hidden", b"dot");
        site.put("empty.css", b"");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("root").join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.put_at(name, content, 784_111_777);
    }

    fn put_at(&self, name: &str, content: &[u8], seconds: u64) {
        fs::write(self.path(name), content).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        File::options()
            .write(true)
            .open(self.path(name))
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    }

    fn outcome(&self, method: Method, path: &str, lines: &[(&str, &str)]) -> Option<Response> {
        let request = request(method, &format!("/static/{path}"), lines);
        match self.server.serve(&request, path.as_bytes(), self.now) {
            Outcome::Response(response) => Some(response),
            Outcome::NotFound => None,
        }
    }

    fn get(&self, path: &str, lines: &[(&str, &str)]) -> Response {
        self.outcome(Method::Get, path, lines).unwrap_or_else(|| panic!("{path} is there"))
    }
}

fn large() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

fn request(method: Method, path: &str, lines: &[(&str, &str)]) -> Request {
    let mut request = Request { method, path: path.into(), ..Request::default() };
    for (name, value) in lines {
        request.fields.push(name.as_bytes(), value.as_bytes());
    }
    request
}

fn bytes(body: &Body) -> Vec<u8> {
    match body {
        Body::Empty => Vec::new(),
        Body::Full(bytes) => bytes.to_vec(),
        Body::File(body) => {
            let mut out = Vec::new();
            for piece in &body.pieces {
                out.extend_from_slice(&piece.prefix);
                let mut part = vec![0; piece.len as usize];
                body.file.read_exact_at(&mut part, piece.start).unwrap();
                out.extend_from_slice(&part);
            }
            out.extend_from_slice(&body.suffix);
            out
        }
        Body::Stream(_) => panic!("files do not stream"),
    }
}

fn field(response: &Response, name: Name) -> String {
    response.fields.first(name).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
}

#[test]
fn whole_files_from_memory_and_from_disk() {
    let site = Site::new(FileOptions::default());
    for _ in 0..2 {
        let small = site.get("small.txt", &[]);
        assert_eq!((small.status, bytes(&small.body)), (200, b"0123456789".to_vec()));
        assert!(matches!(small.body, Body::Full(_)));
        assert_eq!(field(&small, Name::ContentType), "text/plain; charset=utf-8");
        assert_eq!(field(&small, Name::LastModified), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(field(&small, Name::ETag), format!("\"{:x}.0-a\"", 784_111_777));
        assert_eq!(field(&small, Name::AcceptRanges), "bytes");
        assert!(!small.fields.has(Name::Vary));
        let large_one = site.get("large.bin", &[]);
        assert!(matches!(large_one.body, Body::File(_)));
        assert_eq!(bytes(&large_one.body), large());
        assert!(site.get("empty.css", &[]).body.is_empty());
        assert_eq!(bytes(&site.get(".hidden", &[]).body), b"dot");
    }
    assert_eq!(site.outcome(Method::Head, "small.txt", &[]).unwrap().body.len(), Some(10));
    let empty = site.outcome(Method::Head, "empty.css", &[]).unwrap();
    assert_eq!(field(&empty, Name::ContentLength), "0", "HEAD of an empty file has a length");
}

#[test]
fn other_methods_are_refused_where_something_is() {
    let site = Site::new(FileOptions::default());
    for method in [Method::Post, Method::Options, Method::Delete, Method::Other(b"get"[..].into())] {
        let refused = site.outcome(method.clone(), "small.txt", &[]).unwrap();
        assert_eq!((refused.status, field(&refused, Name::Allow)), (405, "GET, HEAD".into()));
        assert!(site.outcome(method, "none", &[]).is_none());
    }
}

#[test]
fn directories() {
    let site = Site::new(FileOptions::default());
    assert_eq!(bytes(&site.get("dir/", &[]).body), b"<p>index");
    assert_eq!(field(&site.get("dir/", &[]), Name::ContentType), "text/html; charset=utf-8");
    assert_eq!(site.get("", &[]).status, 403);
    assert_eq!(site.get("dir/empty/", &[]).status, 403);
    assert!(site.outcome(Method::Get, "small.txt/", &[]).is_none());
    assert!(site.outcome(Method::Get, "none/", &[]).is_none());

    let to = |path: &str, query: &str| {
        let mut request = request(Method::Get, path, &[]);
        request.query = query.into();
        match site.server.serve(&request, b"dir", site.now) {
            Outcome::Response(response) if response.status == 301 => field(&response, Name::Location),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(to("/static/dir", ""), "/static/dir/");
    assert_eq!(to("/static/dir", "a=b&c"), "/static/dir/?a=b&c");
    assert_eq!(to("/a b/\u{e9}?\r\n", "x\r\ny"), "/a%20b/%C3%A9%3F%0D%0A/?x%0D%0Ay");
    assert_eq!(to("//evil.example/dir", ""), "/evil.example/dir/");
    assert_eq!(to("/\\evil.example/dir", ""), "/%5Cevil.example/dir/");
}

#[test]
fn nothing_leads_out() {
    let site = Site::new(FileOptions::default());
    fs::write(site.temp.path().join("secret"), "secret").unwrap();
    symlink("../secret", site.path("link")).unwrap();
    symlink("..", site.path("up")).unwrap();
    let long = "x/".repeat(3000);
    for path in [
        "../secret",
        "dir/../../secret",
        "..",
        "dir/..",
        "/etc/passwd",
        "//etc/passwd",
        "link",
        "up/secret",
        "small.txt\0",
        "\0",
        "small.txt/../small.txt",
        &long,
    ] {
        assert!(site.outcome(Method::Get, path, &[]).is_none(), "{path:?}");
    }
    // Once decoded, a percent sign is a percent sign.
    assert!(site.outcome(Method::Get, "%2e%2e/secret", &[]).is_none());
}

#[test]
fn what_is_no_file_does_not_block() {
    let site = Site::new(FileOptions::default());
    rustix::fs::mkfifoat(rustix::fs::CWD, site.path("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    assert!(site.outcome(Method::Get, "fifo", &[]).is_none());
    assert!(site.outcome(Method::Get, "socket", &[]).is_none());
}

#[test]
fn ranges_single_and_multiple() {
    let site = Site::new(FileOptions::default());
    let part = site.get("small.txt", &[("Range", "bytes=2-4")]);
    assert_eq!((part.status, bytes(&part.body)), (206, b"234".to_vec()));
    assert_eq!(field(&part, Name::ContentRange), "bytes 2-4/10");

    for (path, content) in [("small.txt", b"0123456789".to_vec()), ("large.bin", large())] {
        let parts = site.get(path, &[("Range", "bytes=1-2,-3")]);
        let media_type = field(&parts, Name::ContentType);
        let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let size = content.len();
        let original = field(&site.get(path, &[]), Name::ContentType);
        let mut expected = Vec::new();
        for (range, part) in
            [("1-2".to_owned(), &content[1..3]), (format!("{}-{}", size - 3, size - 1), &content[size - 3..])]
        {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {original}\r\nContent-Range: bytes {range}/{size}\r\n\r\n"
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(part);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert_eq!((parts.status, bytes(&parts.body)), (206, expected));
        assert_eq!(parts.body.len(), Some(bytes(&parts.body).len() as u64));
    }

    let refused = site.get("small.txt", &[("Range", "bytes=10-")]);
    assert_eq!((refused.status, field(&refused, Name::ContentRange)), (416, "bytes */10".into()));
    let etag = field(&site.get("small.txt", &[]), Name::ETag);
    assert_eq!(site.get("small.txt", &[("Range", "bytes=0-1"), ("If-Range", &etag)]).status, 206);
    assert_eq!(site.get("small.txt", &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]).status, 200);
    assert_eq!(site.outcome(Method::Head, "small.txt", &[("Range", "bytes=0-1")]).unwrap().status, 200);
}

#[test]
fn conditions() {
    let site = Site::new(FileOptions::default());
    let etag = field(&site.get("small.txt", &[]), Name::ETag);
    let same = site.get("small.txt", &[("If-None-Match", &etag), ("Range", "bytes=0-1")]);
    assert_eq!((same.status, same.body.is_empty()), (304, true));
    assert_eq!(field(&same, Name::ETag), etag);
    assert!(!same.fields.has(Name::ContentType));
    assert_eq!(site.get("small.txt", &[("If-Match", "\"x\"")]).status, 412);
}

#[test]
fn precompressed_forms() {
    let site = Site::new(FileOptions::default());
    site.put("app.js", b"plain");
    site.put("app.js.br", b"brotli");
    site.put("app.js.gz", b"gzip");
    site.put_at("app.js.zst", b"outdated", 784_111_000);
    let with = |accept: &str| site.get("app.js", &[("Accept-Encoding", accept)]);
    for (accept, coding, content) in [
        ("gzip, br, zstd", "br", &b"brotli"[..]),
        ("gzip, br;q=0.5", "gzip", b"gzip"),
        ("zstd", "", b"plain"),
        ("identity", "", b"plain"),
    ] {
        let response = with(accept);
        assert_eq!(
            (field(&response, Name::ContentEncoding).as_str(), &bytes(&response.body)[..]),
            (coding, content)
        );
        assert_eq!(field(&response, Name::ContentType), "text/javascript; charset=utf-8");
        assert_eq!(field(&response, Name::Vary), "Accept-Encoding");
    }
    let tags = ["br", "gzip", ""].map(|accept| field(&with(accept), Name::ETag));
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    let br = [("Accept-Encoding", "br"), ("If-None-Match", &tags[0]), ("If-None-Match", &tags[2])];
    assert_eq!(site.get("app.js", &br[..2]).status, 304);
    assert_eq!(site.get("app.js", &[br[0], br[2]]).status, 200);
    assert_eq!(field(&site.get("app.js.br", &[]), Name::ContentEncoding), "");
}

#[test]
fn changes_are_seen_after_the_valid_period() {
    let mut site = Site::new(FileOptions::default());
    let later = Duration::from_secs(1);
    assert!(site.outcome(Method::Get, "new.txt", &[]).is_none());
    let etag = field(&site.get("small.txt", &[]), Name::ETag);
    site.put_at("small.txt", b"changed", 784_111_888);
    site.put("new.txt", b"new");
    assert_eq!(field(&site.get("small.txt", &[]), Name::ETag), etag, "believed for a second");
    assert!(site.outcome(Method::Get, "new.txt", &[]).is_none());
    site.now += later;
    assert_eq!(bytes(&site.get("small.txt", &[]).body), b"changed");
    assert_eq!(bytes(&site.get("new.txt", &[]).body), b"new");
    fs::remove_file(site.path("small.txt")).unwrap();
    site.now += later;
    assert!(site.outcome(Method::Get, "small.txt", &[]).is_none());
    // The whole directory gives way to another, as a build does that begins with rm -rf.
    fs::rename(site.path(""), site.temp.path().join("old")).unwrap();
    fs::create_dir(site.path("")).unwrap();
    site.put("new.txt", b"of another build");
    site.now += later;
    assert_eq!(bytes(&site.get("new.txt", &[]).body), b"of another build");
}

#[test]
fn the_date_of_a_file_just_written_is_no_strong_validator() {
    let site = Site::new(FileOptions::default());
    let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    site.put_at("now.txt", b"0123456789", ahead);
    let date = field(&site.get("now.txt", &[]), Name::LastModified);
    let ranged =
        |path: &str, date: &str| site.get(path, &[("Range", "bytes=0-1"), ("If-Range", date)]).status;
    assert_eq!(ranged("now.txt", &date), 200);
    assert_eq!(ranged("small.txt", "Sun, 06 Nov 1994 08:49:37 GMT"), 206);
}

#[test]
fn a_whole_file_says_which_it_is_and_a_changed_one_is_another() {
    let mut site = Site::new(FileOptions::default());
    let identity = |site: &Site, path, lines: &[_]| site.get(path, lines).of_file;
    let old = identity(&site, "large.bin", &[]).expect("an old file");
    assert_eq!(identity(&site, "large.bin", &[]), Some(Rc::clone(&old)));
    assert_eq!(identity(&site, "large.bin", &[("Range", "bytes=1-2")]), None);
    assert_eq!(identity(&site, "dir", &[]), None);
    site.put("large.bin", &large());
    site.now += Duration::from_secs(2);
    let new = identity(&site, "large.bin", &[]).expect("an old date again");
    assert_eq!((new.inode, new.size, new.modified), (old.inode, old.size, old.modified));
    assert_ne!(new, old, "although size and date are the same");
    fs::write(site.path("large.bin"), large()).unwrap();
    site.now += Duration::from_secs(2);
    assert_eq!(identity(&site, "large.bin", &[]), None, "it may be written again within this second");
}

#[test]
fn memory_is_bounded() {
    let site = Site::new(FileOptions { max_memory: 4000, ..FileOptions::default() });
    for n in 0..50 {
        let name = format!("f{n}");
        site.put(&name, &[b'x'; 500]);
        assert_eq!(bytes(&site.get(&name, &[]).body).len(), 500);
    }
    let held = site.server.state.borrow().cache.memory();
    assert!(held > 0 && held <= 4000, "{held}");
}

fn accel(site: &Site) -> Accel {
    let root = site.temp.path().join("root");
    let server = |dir: PathBuf| FileServer::new(&dir, FileOptions::default()).unwrap();
    Accel::new([
        ("/internal/".to_owned(), server(root.clone())),
        ("/internal/dir/".to_owned(), server(root.join("dir/empty"))),
    ])
}

fn pointing(name: &str, value: &str) -> Response {
    let mut app = Response::text(200, "text/html", "ignored");
    for (name, value) in [
        (name, value),
        ("Content-Disposition", "attachment"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("ETag", "\"app\""),
        ("Vary", "Cookie, accept-encoding"),
        ("X-Own", "1"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        app.fields.push(name.as_bytes(), value.as_bytes());
    }
    app
}

#[test]
fn the_application_points_at_files() {
    let site = Site::new(FileOptions::default());
    let accel = accel(&site);
    let obey = |method: Method, lines: &[(&str, &str)], app: Response| match accel.apply(
        &request(method, "/download", lines),
        app,
        site.now,
    ) {
        AccelAnswer::File(response) => response,
        other => panic!("{other:?}"),
    };
    let absolute = site.path("small.txt");
    for (name, value) in
        [("X-Accel-Redirect", "/internal//./sm%61ll.txt?x"), ("X-Sendfile", absolute.to_str().unwrap())]
    {
        let file = obey(Method::Get, &[], pointing(name, value));
        assert_eq!((file.status, bytes(&file.body)), (200, b"0123456789".to_vec()));
        assert_eq!(field(&file, Name::ContentType), "text/html");
        assert_ne!(field(&file, Name::ETag), "\"app\"");
        assert_eq!(file.fields.all(Name::SetCookie).count(), 2);
        assert_eq!(file.fields.all(Name::ETag).count(), 1);
        assert_eq!(file.fields.named(b"content-disposition"), Some(&b"attachment"[..]));
        assert_eq!(file.fields.named(b"x-content-type-options"), Some(&b"nosniff"[..]));
        assert_eq!(file.fields.named(b"x-own").is_some(), name == "X-Sendfile");
        assert!(!file.fields.has(Name::XAccelRedirect) && !file.fields.has(Name::XSendfile));

        let etag = field(&file, Name::ETag);
        let part = obey(Method::Get, &[("Range", "bytes=0-1")], pointing(name, value));
        assert_eq!((part.status, bytes(&part.body)), (206, b"01".to_vec()));
        let same = obey(Method::Get, &[("If-None-Match", &etag)], pointing(name, value));
        assert_eq!((same.status, same.fields.has(Name::ContentType)), (304, false));
        let post =
            obey(Method::Post, &[("Range", "bytes=0-1"), ("If-None-Match", "*")], pointing(name, value));
        assert_eq!((post.status, post.body.len()), (200, Some(10)));
    }
}

#[test]
fn the_application_cannot_point_elsewhere() {
    let site = Site::new(FileOptions::default());
    fs::write(site.temp.path().join("secret"), "secret").unwrap();
    symlink("../secret", site.path("link")).unwrap();
    let accel = accel(&site);
    let root = site.temp.path().to_str().unwrap();
    for (name, value) in [
        ("X-Accel-Redirect", "/other/small.txt"),
        ("X-Accel-Redirect", "/internal/../secret"),
        ("X-Accel-Redirect", "/internal/%2e%2e/secret"),
        ("X-Accel-Redirect", "/internal/%zz"),
        ("X-Accel-Redirect", "/internal/%00"),
        ("X-Accel-Redirect", "/internal/link"),
        ("X-Accel-Redirect", "/internal/dir"),
        ("X-Accel-Redirect", "/internal/dir/index.html"),
        ("X-Accel-Redirect", "@named"),
        ("X-Accel-Redirect", "http://a/internal/small.txt"),
        ("X-Accel-Redirect", ""),
        ("X-Sendfile", "small.txt"),
        ("X-Sendfile", &format!("{root}/secret")),
        ("X-Sendfile", &format!("{root}/root/../secret")),
        ("X-Sendfile", &format!("{root}/rootless")),
        ("X-Sendfile", &format!("{root}/root/link")),
    ] {
        match accel.apply(&request(Method::Get, "/", &[]), pointing(name, value), site.now) {
            AccelAnswer::Refused(response, _) => assert_eq!(response.status, 404),
            other => panic!("{name}: {value}: {other:?}"),
        }
    }
    let mut two = pointing("X-Accel-Redirect", "/internal/small.txt");
    two.fields.push(b"x-accel-redirect", b"/internal/large.bin");
    assert!(matches!(accel.apply(&request(Method::Get, "/", &[]), two, site.now), AccelAnswer::Refused(..)));
    let plain = Response::text(200, "text/html", "own");
    assert!(matches!(
        accel.apply(&request(Method::Get, "/", &[]), plain, site.now),
        AccelAnswer::Untouched(_)
    ));
    let pass = pointing("X-Sendfile", "/x");
    let nowhere = Accel::default().apply(&request(Method::Get, "/", &[]), pass, site.now);
    assert!(matches!(nowhere, AccelAnswer::Untouched(response) if response.fields.has(Name::XSendfile)));
}
