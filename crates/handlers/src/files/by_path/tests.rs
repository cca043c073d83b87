use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use config::model::http::AutoindexFormat;
use exchange::Fields;

use super::*;

/// An answer to every question, and the log.
struct Here {
    accept: String,
    values: Vec<u8>,
    log: Vec<(LogLevel, String)>,
}

impl FileContext for Here {
    fn value(&mut self, _: &Value) -> Vec<u8> {
        self.values.clone()
    }

    fn accepted(&mut self) -> AcceptEncoding {
        let mut fields = Fields::new();
        fields.push(b"Accept-Encoding", self.accept.as_bytes());
        AcceptEncoding::of(&fields)
    }

    fn utc_offset(&mut self) -> i32 {
        3600
    }

    fn log(&mut self, level: LogLevel, text: fmt::Arguments<'_>) {
        self.log.push((level, text.to_string()));
    }
}

struct Site {
    temp: tempfile::TempDir,
    files: PathFiles,
    memory: Rc<Memory>,
    here: Here,
    now: Instant,
}

impl Site {
    fn new(change: impl FnOnce(&mut PathFiles)) -> Self {
        Self::with_cache(None, change)
    }

    fn with_cache(cache: Option<&OpenFileCache>, change: impl FnOnce(&mut PathFiles)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let memory = Memory::new(1 << 20);
        let types = [("html", "text/html"), ("txt", "text/plain")];
        let types = types.map(|(extension, name)| (extension.as_bytes().to_vec(), name.as_bytes().to_vec()));
        let mut files = PathFiles {
            types: Rc::new(types.into()),
            default_type: b"application/octet-stream".to_vec(),
            index: vec![Value::text("index.html")],
            random_index: false,
            autoindex: None,
            charset: None,
            symlinks: Symlinks::Follow,
            symlinks_from: None,
            etag: true,
            ranges: true,
            log_not_found: true,
            precompressed: Coding::ALL.map(|coding| (coding, Precompressed::Off)),
            vary: false,
            known: RefCell::new(KnownFiles::new(cache, Rc::clone(&memory))),
            random: RandomState::new(),
            drawn: Cell::new(0),
        };
        change(&mut files);
        let here = Here { accept: String::new(), values: Vec::new(), log: Vec::new() };
        let site = Self { temp, files, memory, here, now: Instant::now() };
        fs::create_dir_all(site.path("/dir/empty")).unwrap();
        site.put("/small.txt", b"0123456789");
        site.put("/large.bin", &vec![b'x'; 100_000]);
        site.put("/dir/index.html", b"<p>index");
        site.put("/empty.html", b"");
        site
    }

    fn path(&self, uri: &str) -> PathBuf {
        PathBuf::from(format!("{}{uri}", self.temp.path().to_str().unwrap()))
    }

    fn put(&self, uri: &str, content: &[u8]) {
        fs::write(self.path(uri), content).unwrap();
        self.date(uri);
    }

    fn date(&self, uri: &str) {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let file = File::options().write(true).open(self.path(uri)).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }

    fn ask(&mut self, method: Method, uri: &str) -> Outcome {
        let request = Request { method, path: uri.into(), ..Request::default() };
        let path = self.path(uri).into_os_string().into_encoded_bytes();
        let place = Place { path: &path, uri: uri.as_bytes() };
        self.files.serve(&request, place, self.now, &mut self.here)
    }

    fn get(&mut self, uri: &str) -> Response {
        match self.ask(Method::Get, uri) {
            Outcome::Response(response) => response,
            other => panic!("{uri}: {other:?}"),
        }
    }

    fn status(&mut self, uri: &str) -> u16 {
        match self.ask(Method::Get, uri) {
            Outcome::Response(response) => response.status,
            Outcome::Status(status) => status,
            other => panic!("{uri}: {other:?}"),
        }
    }

    fn redirect(&mut self, uri: &str) -> String {
        match self.ask(Method::Get, uri) {
            Outcome::Redirect(uri) => String::from_utf8(uri).unwrap(),
            other => panic!("{uri}: {other:?}"),
        }
    }
}

fn text(body: &Body) -> Vec<u8> {
    match body {
        Body::Empty => Vec::new(),
        Body::Full(bytes) => bytes.to_vec(),
        Body::File(body) => {
            let mut out = vec![0; body.len() as usize];
            body.file.read_exact_at(&mut out, body.pieces[0].start).unwrap();
            out
        }
        Body::Stream(_) => panic!("a file is no stream"),
    }
}

fn field(response: &Response, name: Name) -> &str {
    response.fields.first(name).map_or("", |value| std::str::from_utf8(value).unwrap())
}

#[test]
fn a_file_comes_whole_with_its_fields() {
    let mut site = Site::new(|_| {});
    let response = site.get("/small.txt");
    assert_eq!(text(&response.body), b"0123456789");
    let fields: Vec<_> = response
        .fields
        .iter()
        .map(|(_, name, value)| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect();
    assert_eq!(
        fields,
        [
            "Content-Type: text/plain",
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
            "ETag: \"2ebc98a1-a\"",
            "Accept-Ranges: bytes"
        ]
    );
    let response = site.get("/large.bin");
    assert_eq!(field(&response, Name::ContentType), "application/octet-stream");
    assert_eq!(text(&response.body).len(), 100_000);
    assert!(matches!(site.get("/empty.html").body, Body::Empty));
    assert!(site.here.log.is_empty());
}

#[test]
fn settings_take_fields_away() {
    let mut site = Site::new(|files| {
        (files.etag, files.ranges) = (false, false);
        files.default_type.clear();
    });
    let response = site.get("/large.bin");
    assert_eq!(response.fields.len(), 1, "{:?}", response.fields);
    assert!(response.fields.has(Name::LastModified));
}

#[test]
fn refusals_and_their_words() {
    let mut site = Site::new(|_| {});
    site.put("/secret", b"x");
    fs::set_permissions(site.path("/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let readable = File::open(site.path("/secret")).is_ok();
    let root = site.temp.path().to_str().unwrap().to_owned();
    let long = format!("/{}", "n".repeat(300));
    for (uri, status, errno) in [
        ("/none", 404, "2: No such file or directory"),
        ("/small.txt/x", 404, "20: Not a directory"),
        (&long, 404, "36: File name too long"),
    ] {
        assert_eq!(site.status(uri), status, "{uri}");
        let expected = (LogLevel::Error, format!("open() \"{root}{uri}\" failed ({errno})"));
        assert_eq!(site.here.log.pop(), Some(expected));
    }
    // The superuser may read everything.
    if !readable {
        assert_eq!(site.status("/secret"), 403);
    }
    site.here.log.clear();
    site.files.log_not_found = false;
    assert_eq!(site.status("/none"), 404);
    assert!(site.here.log.is_empty());
    let fifo = site.path("/fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(site.status("/fifo"), 404);
    assert_eq!(site.here.log.pop(), Some((LogLevel::Crit, format!("\"{root}/fifo\" is not a regular file"))));
}

#[test]
fn methods_by_what_is_there() {
    let mut site = Site::new(|_| {});
    let mut ask = |method, uri| match site.ask(method, uri) {
        Outcome::Status(status) => status,
        Outcome::Directory => 301,
        Outcome::Redirect(_) => 1,
        Outcome::Response(response) => response.status,
    };
    assert_eq!(ask(Method::Put, "/small.txt"), 405);
    assert_eq!(ask(Method::Put, "/dir/"), 405);
    assert_eq!(ask(Method::Post, "/small.txt"), 405);
    assert_eq!(ask(Method::Post, "/none"), 404);
    assert_eq!(ask(Method::Post, "/dir"), 301);
    assert_eq!(ask(Method::Get, "/dir"), 301);
    assert_eq!(ask(Method::Post, "/dir/"), 1);
    assert_eq!(ask(Method::Head, "/small.txt"), 200);
}

#[test]
fn head_of_an_empty_file_has_a_length() {
    let mut site = Site::new(|_| {});
    let length = |site: &mut Site, method, uri| match site.ask(method, uri) {
        Outcome::Response(response) => response.fields.only(Name::ContentLength).map(<[u8]>::to_vec),
        _ => panic!("no response"),
    };
    assert_eq!(length(&mut site, Method::Head, "/empty.html"), Some(b"0".to_vec()));
    // Of one that has just been changed it is not known for sure which it is.
    fs::write(site.path("/empty.html"), b"").unwrap();
    assert_eq!(length(&mut site, Method::Head, "/empty.html"), Some(b"0".to_vec()));
    // Of these the body says it.
    assert_eq!(length(&mut site, Method::Get, "/empty.html"), None);
    assert_eq!(length(&mut site, Method::Head, "/small.txt"), None);
}

#[test]
fn a_changed_file_is_seen_at_once() {
    let mut site = Site::new(|_| {});
    for round in 0..20 {
        let content = format!("round {}", round % 10);
        fs::write(site.path("/small.txt"), &content).unwrap();
        assert_eq!(text(&site.get("/small.txt").body), content.as_bytes(), "{round}");
    }
    fs::remove_file(site.path("/small.txt")).unwrap();
    assert_eq!(site.status("/small.txt"), 404);
    fs::create_dir(site.path("/small.txt")).unwrap();
    assert!(matches!(site.ask(Method::Get, "/small.txt"), Outcome::Directory));
    fs::remove_dir(site.path("/small.txt")).unwrap();
    site.put("/small.txt", b"again");
    assert_eq!(text(&site.get("/small.txt").body), b"again");
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut site = Site::new(|_| {});
    let _ = (site.get("/small.txt"), site.get("/large.bin"), site.get("/empty.html"));
    assert_eq!(site.memory.used(), 10);
    site.put("/small.txt", b"012");
    let _ = site.get("/small.txt");
    assert_eq!(site.memory.used(), 3);
    site.now += Duration::from_secs(61);
    let _ = site.get("/large.bin");
    assert_eq!(site.memory.used(), 0, "nobody asked for a minute");
}

fn cache() -> OpenFileCache {
    OpenFileCache {
        max: 10,
        inactive: Duration::from_secs(20),
        valid: Duration::from_secs(60),
        min_uses: 1,
        errors: false,
    }
}

#[test]
fn open_file_cache_believes_for_its_time() {
    let mut site = Site::with_cache(Some(&cache()), |_| {});
    assert_eq!(text(&site.get("/small.txt").body), b"0123456789");
    assert_eq!(text(&site.get("/large.bin").body).len(), 100_000);
    fs::remove_file(site.path("/small.txt")).unwrap();
    fs::remove_file(site.path("/large.bin")).unwrap();
    for _ in 0..6 {
        site.now += Duration::from_secs(9);
        assert_eq!(text(&site.get("/small.txt").body), b"0123456789");
        assert_eq!(text(&site.get("/large.bin").body).len(), 100_000);
    }
    site.now += Duration::from_secs(9);
    assert_eq!(site.status("/small.txt"), 404, "63 seconds after it was looked at");
    site.put("/small.txt", b"new");
    assert_eq!(site.status("/small.txt"), 200, "errors are not kept");
}

#[test]
fn open_file_cache_keeps_errors_when_it_is_told_to() {
    let mut site = Site::with_cache(Some(&OpenFileCache { errors: true, ..cache() }), |_| {});
    assert_eq!(site.status("/new"), 404);
    site.put("/new", b"x");
    assert_eq!(site.status("/new"), 404);
    site.now += Duration::from_secs(60);
    assert_eq!(site.status("/new"), 200);
}

#[test]
fn open_file_cache_believes_what_was_used_often_enough() {
    let mut site = Site::with_cache(Some(&OpenFileCache { min_uses: 3, ..cache() }), |_| {});
    for round in 0..5 {
        fs::write(site.path("/small.txt"), round.to_string()).unwrap();
        let seen = text(&site.get("/small.txt").body);
        assert_eq!(seen, round.min(2).to_string().as_bytes(), "round {round}");
    }
}

#[test]
fn the_first_index_that_is_there() {
    let mut site = Site::new(|files| {
        files.index = ["none.html", "index.html", "/last"].map(Value::text).to_vec();
    });
    assert_eq!(site.redirect("/dir/"), "/dir/index.html");
    assert_eq!(site.redirect("/dir/empty/"), "/last");
    let root = site.temp.path().to_str().unwrap().to_owned();
    assert_eq!(site.status("/none/"), 404);
    let expected = format!("\"{root}/none/none.html\" is not found (2: No such file or directory)");
    assert_eq!(site.here.log.pop(), Some((LogLevel::Error, expected)));
    assert_eq!(site.status("/small.txt/"), 404, "a file is no directory");
    site.files.index.pop();
    site.here.log.clear();
    assert_eq!(site.status("/dir/empty/"), 403);
    let expected = format!("directory index of \"{root}/dir/empty/\" is forbidden");
    assert_eq!(site.here.log, [(LogLevel::Error, expected)]);
}

#[test]
fn an_index_with_variables_is_asked_for() {
    let mut site = Site::new(|files| {
        files.index =
            vec![Value(vec![config::model::http::Part::Variable(config::model::http::Variable::Host)])];
    });
    site.here.values = b"index.html".to_vec();
    assert_eq!(site.redirect("/dir/"), "/dir/index.html");
    site.here.values = b"/elsewhere".to_vec();
    assert_eq!(site.redirect("/dir/"), "/elsewhere");
}

#[test]
fn any_index_is_one_of_the_files() {
    let mut site = Site::new(|files| files.random_index = true);
    for name in ["a", "b", ".hidden"] {
        site.put(&format!("/dir/{name}"), b"x");
    }
    symlink("a", site.path("/dir/link")).unwrap();
    symlink("nowhere", site.path("/dir/broken")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        seen.insert(site.redirect("/dir/"));
    }
    let seen: Vec<_> = seen.iter().map(|uri| &uri["/dir/".len()..]).collect();
    assert_eq!(seen, ["a", "b", "index.html", "link"]);
    assert_eq!(site.status("/dir/empty/"), 403, "none there, and no other index");
    assert_eq!(site.status("/none/"), 404);
}

#[test]
fn a_list_has_directories_first_and_no_dots() {
    let list = |format| Some(Autoindex { format, exact_size: true, localtime: false });
    let mut site = Site::new(|files| {
        files.index.clear();
        files.autoindex = list(AutoindexFormat::Json);
    });
    fs::create_dir(site.path("/zdir")).unwrap();
    site.put("/.hidden", b"x");
    symlink("nowhere", site.path("/broken")).unwrap();
    let response = site.get("/");
    assert_eq!(field(&response, Name::ContentType), "application/json");
    let json = String::from_utf8(text(&response.body)).unwrap();
    let names: Vec<_> = json.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(names, ["dir", "zdir", "broken", "empty.html", "large.bin", "small.txt"]);
    assert!(json.contains("\"name\":\"broken\", \"type\":\"other\""));
    for (format, media_type) in
        [(AutoindexFormat::Html, "text/html"), (AutoindexFormat::Xml, "text/xml; charset=utf-8")]
    {
        site.files.autoindex = list(format);
        assert_eq!(field(&site.get("/"), Name::ContentType), media_type);
    }
    assert_eq!(site.status("/none/"), 404);
    assert!(site.here.log[0].1.starts_with("opendir() "), "{:?}", site.here.log);
    assert!(matches!(site.ask(Method::Post, "/"), Outcome::Status(403)));
}

#[test]
fn precompressed_files_by_choice_and_always() {
    let mut site = Site::new(|files| {
        files.precompressed = [
            (Coding::Zstd, Precompressed::On),
            (Coding::Br, Precompressed::Off),
            (Coding::Gzip, Precompressed::On),
        ];
    });
    site.put("/small.txt.gz", b"gzipped");
    site.put("/small.txt.br", b"brotli");
    let asked = |site: &mut Site, accept: &str| {
        site.here.accept = accept.into();
        let response = site.get("/small.txt");
        assert_eq!(field(&response, Name::ContentType), "text/plain");
        let vary = field(&response, Name::Vary).to_owned();
        (
            String::from_utf8(text(&response.body)).unwrap(),
            field(&response, Name::ContentEncoding).to_owned(),
            vary,
        )
    };
    let expect = |body: &str, coding: &str, vary: &str| (body.to_owned(), coding.to_owned(), vary.to_owned());
    assert_eq!(asked(&mut site, "gzip, br, zstd"), expect("gzipped", "gzip", ""));
    assert_eq!(asked(&mut site, "br"), expect("0123456789", "", ""));
    assert_eq!(asked(&mut site, "gzip;q=0"), expect("0123456789", "", ""));
    site.files.vary = true;
    assert_eq!(asked(&mut site, "br"), expect("0123456789", "", "Accept-Encoding"));
    assert_eq!(asked(&mut site, "gzip"), expect("gzipped", "gzip", "Accept-Encoding"));
    site.files.precompressed[2].1 = Precompressed::Always;
    assert_eq!(asked(&mut site, ""), expect("gzipped", "gzip", ""));
    site.put("/small.txt.zst", b"zstd");
    assert_eq!(asked(&mut site, "zstd"), expect("zstd", "zstd", "Accept-Encoding"));
    let response = site.get("/small.txt.gz");
    assert!(!response.fields.has(Name::ContentEncoding), "asked for by name it is a file as any other");
    assert_eq!(field(&response, Name::ContentType), "application/octet-stream");
    assert!(matches!(site.ask(Method::Post, "/small.txt"), Outcome::Status(405)));
}

#[test]
fn the_media_type_is_that_of_the_uri() {
    let mut site = Site::new(|_| {});
    let path = site.path("/small.txt").into_os_string().into_encoded_bytes();
    for (uri, expected) in
        [("/a.HTML", "text/html"), ("/a.txt", "text/plain"), ("/a", "application/octet-stream")]
    {
        let place = Place { path: &path, uri: uri.as_bytes() };
        let outcome = site.files.serve(&Request::default(), place, site.now, &mut site.here);
        let Outcome::Response(response) = outcome else { panic!("{outcome:?}") };
        assert_eq!(field(&response, Name::ContentType), expected);
    }
}

#[test]
fn links_as_far_as_they_may_be_followed() {
    let mut site = Site::new(|_| {});
    symlink("small.txt", site.path("/link")).unwrap();
    symlink("dir", site.path("/linked")).unwrap();
    symlink("/proc/self/status", site.path("/foreign")).unwrap();
    let root = site.temp.path().to_str().unwrap().to_owned();
    let mut tried = |mode, from: Option<&str>| {
        site.files.symlinks = mode;
        site.files.symlinks_from = from.map(Value::text);
        ["/small.txt", "/link", "/linked/index.html"].map(|uri| site.status(uri))
    };
    assert_eq!(tried(Symlinks::Follow, None), [200, 200, 200]);
    let denied = tried(Symlinks::Deny, Some(&root));
    // What a linked directory is called differs by system: no directory, or a link too many.
    assert!(matches!(denied, [200, 403, 403 | 404]), "{denied:?}");
    assert_eq!(tried(Symlinks::IfNotOwner, Some(&root)), [200, 200, 200]);
    assert_eq!(tried(Symlinks::Deny, Some(&format!("{root}/linked")))[2], 200, "before that all are free");
    assert_eq!(tried(Symlinks::Deny, Some(&format!("{root}/")))[0], 200);
    assert_eq!(tried(Symlinks::Beneath, Some(&root)), [200, 200, 200]);
    symlink(site.path("/small.txt"), site.path("/absolute")).unwrap();
    assert_eq!(site.status("/absolute"), 200, "it leads back inside");
    assert_eq!(site.status("/foreign"), 403, "a link out of the directory");
    site.here.log.clear();
    site.files.symlinks = Symlinks::Deny;
    assert_eq!(site.status("/link"), 403);
    let expected = format!("openat() \"{root}/link\" failed (40: Too many levels of symbolic links)");
    assert_eq!(site.here.log, [(LogLevel::Error, expected)]);
}

#[test]
fn links_that_have_the_owner_of_what_they_lead_to() {
    let mut site = Site::new(|settings| settings.symlinks = Symlinks::IfNotOwner);
    let foreign_directory = if rustix::process::geteuid().is_root() {
        // Root's are the files; somebody else's the links.
        let theirs = |name: &str, target: &str| {
            symlink(target, site.path(name)).unwrap();
            std::os::unix::fs::lchown(site.path(name), Some(1), None).unwrap();
        };
        theirs("/foreign", "small.txt");
        theirs("/foreign-dir", "dir");
        "/foreign-dir/index.html"
    } else {
        symlink("/etc/passwd", site.path("/foreign")).unwrap();
        symlink("/etc", site.path("/foreign-dir")).unwrap();
        "/foreign-dir/passwd"
    };
    symlink("small.txt", site.path("/own")).unwrap();
    symlink("own", site.path("/own-twice")).unwrap();
    symlink("dir", site.path("/own-dir")).unwrap();
    symlink("none", site.path("/dangling")).unwrap();
    symlink("round", site.path("/round")).unwrap();
    for (uri, expected) in [
        ("/small.txt", 200),
        ("/own", 200),
        ("/own-twice", 200),
        ("/own-dir/index.html", 200),
        ("/foreign", 403),
        (foreign_directory, 403),
        ("/dangling", 404),
        ("/round", 403),
        ("/small.txt/more", 404),
    ] {
        assert_eq!(site.status(uri), expected, "{uri}");
    }
}

#[test]
fn where_links_begin_to_count() {
    let free = |from: &str| {
        let links = Links::new(Symlinks::Deny, b"/a/b/c", Some(from.as_bytes()));
        (links.is_free(), format!("{links:?}").contains("free: 0"))
    };
    for (from, expected) in [
        ("", (false, true)),
        ("/a", (false, false)),
        ("/a/", (false, false)),
        ("/a/b/c", (true, true)),
        ("/x", (false, true)),
        ("/a/bb", (false, true)),
        ("/a/b/c/d", (false, true)),
    ] {
        assert_eq!(free(from), expected, "{from}");
    }
    let halfway = Links::new(Symlinks::Deny, b"/a/bcd", Some(b"/a/b"));
    assert!(format!("{halfway:?}").contains("free: 0"), "not at a slash");
}

#[test]
fn probing_tells_what_is_there() {
    let mut site = Site::new(|_| {});
    let mut probe = |uri: &str| {
        let path = site.path(uri).into_os_string().into_encoded_bytes();
        site.files.probe(&path, site.now, &mut site.here)
    };
    assert_eq!(probe("/small.txt"), Some(Look { kind: Kind::File, executable: false }));
    assert_eq!(probe("/dir").map(|look| look.kind), Some(Kind::Directory));
    assert_eq!(probe("/dir/").map(|look| look.kind), Some(Kind::Directory));
    assert_eq!(probe("/none"), None);
    assert_eq!(probe("/small.txt/"), None);
    assert!(site.here.log.is_empty());
}
