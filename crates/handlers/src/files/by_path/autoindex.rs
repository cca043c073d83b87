//! `autoindex`: the names in a directory.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use config::model::http::{Autoindex, AutoindexFormat, LogLevel};
use exchange::{Request, Response, http_date};

use super::index::{directory_fails, on_disk};
use super::{FileContext, Outcome, Place, escape};

/// Characters of a name that the list in HTML shows.
const WIDTH: usize = 50;
const MAX_CALLBACK: usize = 128;

/// A name and what is told of it.
struct Item {
    name: Vec<u8>,
    kind: ItemKind,
    modified: u64,
    size: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Directory,
    File,
    Other,
}

/// Lists a directory.
pub fn list(
    settings: &Autoindex,
    utf8: bool,
    request: &Request,
    place: Place<'_>,
    context: &mut dyn FileContext,
) -> Outcome {
    let mut callback = &b""[..];
    if settings.format == AutoindexFormat::Jsonp {
        callback = argument(&request.query, b"callback").unwrap_or_default();
        if let Some(complaint) = unfit(callback) {
            let name = String::from_utf8_lossy(callback);
            context.log(LogLevel::Info, format_args!("client sent {complaint} callback name: \"{name}\""));
            return Outcome::Status(400);
        }
    }
    let path = place.path.strip_suffix(b"/").unwrap_or(place.path);
    let items = match read(path, context) {
        Ok(items) => items,
        Err(error) => return directory_fails(&error, path, context),
    };
    let (media_type, body) = match settings.format {
        AutoindexFormat::Html => {
            let offset = if settings.localtime { i64::from(context.utc_offset()) } else { 0 };
            ("text/html", html(&items, place.uri, settings.exact_size, offset, utf8))
        }
        AutoindexFormat::Xml => ("text/xml; charset=utf-8", xml(&items)),
        AutoindexFormat::Jsonp if !callback.is_empty() => ("application/javascript", jsonp(&items, callback)),
        AutoindexFormat::Json | AutoindexFormat::Jsonp => ("application/json", json(&items)),
    };
    Outcome::Response(Response::text(200, media_type, body))
}

/// All names but those that begin with a dot: directories first, then by their bytes.
fn read(path: &[u8], context: &mut dyn FileContext) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in fs::read_dir(on_disk(path))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let stat = match fs::metadata(entry.path()) {
            // A link that leads nowhere is told as what it is.
            Err(error) if leads_nowhere(&error) => entry.metadata(),
            result => result,
        };
        match stat {
            Ok(stat) => items.push(Item::new(name.into_encoded_bytes(), &stat)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let path = entry.path();
                context.log(LogLevel::Crit, format_args!("stat() \"{}\" failed ({error})", path.display()));
            }
            // It was taken away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    items.sort_by(|a, b| {
        let directory_last = |item: &Item| item.kind != ItemKind::Directory;
        directory_last(a).cmp(&directory_last(b)).then_with(|| a.name.cmp(&b.name))
    });
    Ok(items)
}

fn leads_nowhere(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

impl Item {
    fn new(name: Vec<u8>, stat: &Metadata) -> Self {
        let kind = match stat {
            stat if stat.is_dir() => ItemKind::Directory,
            stat if stat.is_file() => ItemKind::File,
            _ => ItemKind::Other,
        };
        Self { name, kind, modified: stat.mtime().max(0) as u64, size: stat.len() }
    }
}

impl ItemKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Other => "other",
        }
    }
}

fn html(items: &[Item], uri: &[u8], exact_size: bool, offset: i64, utf8: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + items.len() * 160);
    out.extend_from_slice(b"<html>\r\n<head><title>Index of ");
    escape::html(&mut out, uri);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape::html(&mut out, uri);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for item in items {
        let is_directory = item.kind == ItemKind::Directory;
        out.extend_from_slice(b"<a href=\"");
        escape::component(&mut out, &item.name);
        out.extend_from_slice(if is_directory { b"/\">" } else { b"\">" });
        name_column(&mut out, &item.name, is_directory, utf8);
        let modified = item.modified.saturating_add_signed(offset);
        let date = http_date(modified);
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let [day, month, year, time] = [&date[5..7], &date[8..11], &date[12..16], &date[17..22]];
        for part in [b" ", day, b"-", month, b"-", year, b" ", time, b" "] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(size_column(item, exact_size).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
    out
}

/// The name, cut after so many characters, and the end of its link, filled up with spaces.
fn name_column(out: &mut Vec<u8>, name: &[u8], is_directory: bool, utf8: bool) {
    let text = if utf8 { std::str::from_utf8(name).ok() } else { None };
    let mut length = text.map_or(name.len(), |text| text.chars().count());
    if length > WIDTH {
        let shown = WIDTH - 3;
        let end = match text {
            Some(text) => text.char_indices().nth(shown).map_or(name.len(), |(at, _)| at),
            None => shown,
        };
        escape::html(out, &name[..end]);
        out.extend_from_slice(b"..&gt;</a>");
        return;
    }
    escape::html(out, name);
    if is_directory && length < WIDTH {
        out.push(b'/');
        length += 1;
    }
    out.extend_from_slice(b"</a>");
    out.resize(out.len() + WIDTH - length, b' ');
}

fn size_column(item: &Item, exact: bool) -> String {
    const UNITS: [(u64, char); 3] = [(1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
    match (item.kind, exact) {
        (ItemKind::Directory, true) => format!("{:>19}", "-"),
        (ItemKind::Directory, false) => format!("{:>7}", "-"),
        (_, true) => format!("{:>19}", item.size),
        (_, false) => {
            let fits = |&&(unit, _): &&(u64, char)| item.size >= unit && (unit > 1024 || item.size > 9999);
            match UNITS.iter().find(fits) {
                Some((unit, letter)) => {
                    let rounded = item.size / unit + u64::from(item.size % unit >= unit / 2);
                    format!("{rounded:>6}{letter}")
                }
                None => format!("{:>7}", item.size),
            }
        }
    }
}

fn json(items: &[Item]) -> Vec<u8> {
    let mut out = b"[".to_vec();
    for (n, item) in items.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"\r\n{ \"name\":\"" } else { b",\r\n{ \"name\":\"" });
        escape::json(&mut out, &item.name);
        out.extend_from_slice(format!("\", \"type\":\"{}\", \"mtime\":\"", item.kind.word()).as_bytes());
        out.extend_from_slice(&http_date(item.modified));
        out.push(b'"');
        if item.kind == ItemKind::File {
            out.extend_from_slice(format!(", \"size\":{}", item.size).as_bytes());
        }
        out.extend_from_slice(b" }");
    }
    out.extend_from_slice(b"\r\n]");
    out
}

fn jsonp(items: &[Item], callback: &[u8]) -> Vec<u8> {
    [b"/* callback */\r\n", callback, b"(", &json(items)[..], b");"].concat()
}

fn xml(items: &[Item]) -> Vec<u8> {
    let mut out = b"<?xml version=\"1.0\"?>\r\n<list>\r\n".to_vec();
    for item in items {
        let word = item.kind.word();
        out.extend_from_slice(format!("<{word} mtime=\"{}\"", iso8601(item.modified)).as_bytes());
        if item.kind == ItemKind::File {
            out.extend_from_slice(format!(" size=\"{}\"", item.size).as_bytes());
        }
        out.push(b'>');
        escape::html(&mut out, &item.name);
        out.extend_from_slice(format!("</{word}>\r\n").as_bytes());
    }
    out.extend_from_slice(b"</list>\r\n");
    out
}

/// `1994-11-06T08:49:37Z`
fn iso8601(seconds: u64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let date = http_date(seconds);
    let text = std::str::from_utf8(&date).unwrap_or_default();
    let month = MONTHS.find(&text[8..11]).unwrap_or_default() / 3 + 1;
    format!("{}-{month:02}-{}T{}Z", &text[12..16], &text[5..7], &text[17..25])
}

/// An argument of the query, as it came; its name in either case.
fn argument<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|&b| b == b'&').find_map(|pair| {
        let (key, value) = pair.split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// What is wrong with the name of a callback.
fn unfit(callback: &[u8]) -> Option<&'static str> {
    if callback.len() > MAX_CALLBACK {
        return Some("too long");
    }
    let fit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    (!callback.iter().all(fit)).then_some("invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, kind: ItemKind, size: u64) -> Item {
        Item { name: name.as_bytes().to_vec(), kind, modified: 784_111_777, size }
    }

    #[test]
    fn sizes_stand_in_columns() {
        for (size, exact, rounded) in [
            (0, "                  0", "      0"),
            (9999, "               9999", "   9999"),
            (10_000, "              10000", "    10K"),
            (10_752, "              10752", "    11K"),
            (1_048_575, "            1048575", "  1024K"),
            (1_048_576, "            1048576", "     1M"),
            (1_610_612_736, "         1610612736", "     2G"),
        ] {
            let item = item("x", ItemKind::File, size);
            assert_eq!((&size_column(&item, true)[..], &size_column(&item, false)[..]), (exact, rounded));
        }
        let directory = item("x", ItemKind::Directory, 4096);
        assert_eq!(size_column(&directory, true), "                  -");
        assert_eq!(size_column(&directory, false), "      -");
    }

    #[test]
    fn html_keeps_the_look_that_scripts_parse() {
        let long = "n".repeat(51);
        let items = [
            item("d&d", ItemKind::Directory, 0),
            item("a b.txt", ItemKind::File, 12),
            item(&long, ItemKind::File, 1),
        ];
        let text = String::from_utf8(html(&items, b"/<x>/", true, 3600, false)).unwrap();
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(lines[1], "<head><title>Index of /&lt;x&gt;/</title></head>");
        assert_eq!(lines[3], "<h1>Index of /&lt;x&gt;/</h1><hr><pre><a href=\"../\">../</a>");
        let fill = |n| " ".repeat(n);
        assert_eq!(
            lines[4],
            format!("<a href=\"d%26d/\">d&amp;d/</a>{} 06-Nov-1994 09:49                   -", fill(46))
        );
        assert_eq!(
            lines[5],
            format!("<a href=\"a%20b.txt\">a b.txt</a>{} 06-Nov-1994 09:49                  12", fill(43))
        );
        assert_eq!(
            lines[6],
            format!("<a href=\"{long}\">{}..&gt;</a> 06-Nov-1994 09:49                   1", "n".repeat(47))
        );
        assert_eq!(lines[7..], ["</pre><hr></body>", "</html>", ""]);
    }

    #[test]
    fn characters_are_counted_where_names_are_utf8() {
        let column = |utf8| {
            let mut out = Vec::new();
            name_column(&mut out, "ä".repeat(51).as_bytes(), false, utf8);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(column(true), format!("{}..&gt;</a>", "ä".repeat(47)));
        assert_eq!(column(false).matches('ä').count(), 23, "47 bytes");
    }

    #[test]
    fn json_and_xml_escape_names() {
        let items = [item("d", ItemKind::Directory, 0), item("a\"<\n\u{1}", ItemKind::File, 3)];
        assert_eq!(
            String::from_utf8(json(&items)).unwrap(),
            "[\r\n{ \"name\":\"d\", \"type\":\"directory\", \"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\" },\r\n\
             { \"name\":\"a\\\"<\\n\\u0001\", \"type\":\"file\", \
             \"mtime\":\"Sun, 06 Nov 1994 08:49:37 GMT\", \"size\":3 }\r\n]"
        );
        assert_eq!(
            String::from_utf8(xml(&items)).unwrap(),
            "<?xml version=\"1.0\"?>\r\n<list>\r\n<directory mtime=\"1994-11-06T08:49:37Z\">d</directory>\r\n\
             <file mtime=\"1994-11-06T08:49:37Z\" size=\"3\">a&quot;&lt;\n\u{1}</file>\r\n</list>\r\n"
        );
        assert_eq!(json(&[]), b"[\r\n]");
        assert_eq!(jsonp(&[], b"f.g"), b"/* callback */\r\nf.g([\r\n]);");
    }

    #[test]
    fn callbacks_are_names() {
        assert_eq!(argument(b"a=1&Callback=f&callback=g", b"callback"), Some(&b"f"[..]));
        assert_eq!(argument(b"xcallback=f&callback", b"callback"), None);
        assert_eq!(unfit(b"a.b_C9"), None);
        assert_eq!(unfit(b""), None);
        assert_eq!(unfit(b"alert(1)"), Some("invalid"));
        assert_eq!(unfit(&[b'a'; 129]), Some("too long"));
    }
}
