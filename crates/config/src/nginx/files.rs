//! Files: where they lie, what a directory answers with, how they are opened and sent.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::units;
use super::values::full_value;
use crate::model::Symlinks;
use crate::model::http::{AutoindexFormat, Content, IfModifiedSince, Matcher, Root, TryFiles, TryLast};

const ALL: Context = Context::ALL;
const IF: Context = ALL.or(Context::LOCATION_IF);

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "root",
        IF,
        Apply::Custom(|r, l, d| r.root(l, d)),
        "html",
        "The directory that paths are appended to.",
    ),
    Row::one(
        "alias",
        Context::LOCATION,
        Apply::Custom(|r, l, d| r.alias(l, d)),
        "",
        "What the location's path stands for; in a regex location the file itself.",
    ),
    Row::new(
        "index",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.index(l, d)),
        "index.html",
        "Files tried for a path that ends in a slash.",
    )
    .repeats(),
    Row::flag(
        "random_index",
        Context::LOCATION,
        |l| &mut l.random_index,
        "off",
        "Answers with any file of a directory.",
    ),
    Row::flag("autoindex", ALL, |l| &mut l.autoindex, "off", "Lists directories that have no index file."),
    Row::one(
        "autoindex_format",
        ALL,
        Apply::Custom(|r, l, d| {
            l.autoindex_format = r.word(
                d,
                &[
                    ("html", AutoindexFormat::Html),
                    ("xml", AutoindexFormat::Xml),
                    ("json", AutoindexFormat::Json),
                    ("jsonp", AutoindexFormat::Jsonp),
                ],
            );
        }),
        "html",
        "The form of a listing.",
    ),
    Row::flag("autoindex_exact_size", ALL, |l| &mut l.autoindex_exact_size, "on", "Lists sizes in bytes."),
    Row::flag(
        "autoindex_localtime",
        ALL,
        |l| &mut l.autoindex_localtime,
        "off",
        "Lists times in the local time zone.",
    ),
    Row::new(
        "try_files",
        Context::SERVER.or(Context::LOCATION),
        Count::at_least(2),
        Apply::Custom(|r, l, d| r.try_files(l, d)),
        "",
        "Answers with the first file that is there, else with the last: a path, `@name` or `=status`.",
    ),
    Row::new(
        "disable_symlinks",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.disable_symlinks(l, d)),
        "off",
        "Whether symbolic links on the way to a file are followed: all, none (`on`), or those that have the owner of \
         what they lead to (`if_not_owner`).",
    ),
    Row::flag("etag", ALL, |l| &mut l.etag, "on", "Makes an `ETag` of a file's time and size."),
    Row::one(
        "if_modified_since",
        ALL,
        Apply::Custom(|r, l, d| {
            l.if_modified_since = r.word(
                d,
                &[
                    ("off", IfModifiedSince::Off),
                    ("exact", IfModifiedSince::Exact),
                    ("before", IfModifiedSince::Before),
                ],
            );
        }),
        "exact",
        "How `If-Modified-Since` is compared.",
    ),
    Row::one(
        "max_ranges",
        ALL,
        Apply::Number(|l| &mut l.max_ranges),
        "",
        "Ranges of one request at most; 0 serves whole files only.",
    ),
    Row::new(
        "open_file_cache",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.open_file_cache(l, d)),
        "off",
        "Keeps files open: `max=1000 inactive=20s`.",
    ),
    Row::one(
        "open_file_cache_valid",
        ALL,
        Apply::Seconds(|l| &mut l.open_file_cache_valid),
        "60s",
        "When what is kept is looked at again.",
    ),
    Row::one(
        "open_file_cache_min_uses",
        ALL,
        Apply::Number(|l| &mut l.open_file_cache_min_uses),
        "1",
        "Uses within `inactive` that keep a file open.",
    ),
    Row::flag(
        "open_file_cache_errors",
        ALL,
        |l| &mut l.open_file_cache_errors,
        "off",
        "Keeps in mind which files are not there.",
    ),
    Row::flag("sendfile", IF, |l| &mut l.sendfile, "off", "Sends files with `sendfile(2)`."),
    Row::flag("log_not_found", ALL, |l| &mut l.log_not_found, "on", "Logs files that are not there."),
    Row::new(
        "empty_gif",
        Context::LOCATION,
        Count::exactly(0),
        Apply::Custom(|_, l, _| l.content = Some(Content::EmptyGif)),
        "",
        "Answers with a transparent pixel.",
    )
.repeats(),
    Row::new(
        "flv",
        Context::LOCATION,
        Count::exactly(0),
        Apply::Custom(|_, l, _| l.content = Some(Content::Flv)),
        "",
        "Serves Flash videos; with an argument `start` from this byte on, behind a head.",
    )
.repeats(),
    Row::new(
        "mp4",
        Context::LOCATION,
        Count::exactly(0),
        Apply::Custom(|_, l, _| l.content = Some(Content::Mp4)),
        "",
        "Serves MPEG-4 videos; with arguments `start` and `end`, in seconds, what lies between, as a video of its own.",
    )
.repeats()
    .differs("All of a video's tracks are sent, not the first two."),
    Row::one(
        "mp4_buffer_size",
        ALL,
        Apply::Quiet(Argument::Size, "an index is read at once"),
        "512k",
        "",
    ),
    Row::one(
        "mp4_max_buffer_size",
        ALL,
        Apply::Size(|l| &mut l.mp4_max_buffer),
        "10m",
        "Bytes that the index of a video may have, for a part of it to be sent.",
    ),
    Row::flag(
        "mp4_start_key_frame",
        ALL,
        |l| &mut l.mp4_start_key_frame,
        "off",
        "A part begins with a key frame; what of it is before `start` is not shown.",
    ),
    Row::new(
        "stub_status",
        Context::SERVER.or(Context::LOCATION),
        Count::between(0, 1),
        Apply::Custom(|_, l, _| l.content = Some(Content::StubStatus)),
        "",
        "Answers with the numbers of connections and requests.",
    )
.repeats(),
    Row::one(
        "sendfile_max_chunk",
        ALL,
        Apply::Quiet(Argument::Size, "a call sends 1 MiB at most, then others have their turn"),
        "2m",
        "Bytes of one `sendfile`.",
    ),
    Row::one(
        "tcp_nopush",
        ALL,
        Apply::Quiet(Argument::Flag, "head and file leave in full packets anyway"),
        "off",
        "Sends full packets.",
    ),
    Row::one(
        "aio",
        ALL,
        Apply::Checked(|r, d| r.aio(d), "files are read without blocking other requests anyway"),
        "off",
        "How files are read.",
    ),
    Row::one(
        "aio_write",
        ALL,
        Apply::Quiet(Argument::Flag, "files are written without blocking other requests anyway"),
        "off",
        "How files are written.",
    ),
    Row::one(
        "directio",
        ALL,
        Apply::Quiet(Argument::Offset, "files go through the page cache"),
        "off",
        "Reads files past the page cache.",
    ),
    Row::one(
        "directio_alignment",
        ALL,
        Apply::Quiet(Argument::Offset, "files go through the page cache"),
        "512",
        "Alignment of `directio`.",
    ),
    Row::one(
        "read_ahead",
        ALL,
        Apply::Quiet(Argument::Size, "the kernel decides"),
        "0",
        "Bytes that the kernel reads ahead.",
    ),
    Row::one(
        "open_file_cache_events",
        ALL,
        Apply::Quiet(Argument::Flag, "there are no such events on Linux"),
        "off",
        "Watches files with kqueue.",
    ),
];

impl<'a> Reader<'a> {
    fn root(&mut self, level: &mut Level, directive: Directive<'a>) {
        self.root_or_alias(level, directive, false);
    }

    fn alias(&mut self, level: &mut Level, directive: Directive<'a>) {
        self.root_or_alias(level, directive, true);
    }

    fn root_or_alias(&mut self, level: &mut Level, directive: Directive<'a>, is_alias: bool) {
        let Some(word) = directive.args.first() else { return };
        let name = directive.name.text().into_owned();
        if let Some((other, _)) = &level.root {
            let other = if matches!(other, Root::Alias(_)) { "alias" } else { "root" };
            self.error(
                directive.name.span,
                format!("\"{name}\" directive is duplicate, \"{other}\" directive was specified earlier"),
            );
            return;
        }
        for variable in ["document_root", "realpath_root"] {
            let text = word.text();
            if text.contains(&format!("${variable}")) || text.contains(&format!("${{{variable}}}")) {
                let message = format!("the ${variable} variable cannot be used in the \"{name}\" directive");
                self.error(word.span, message);
                return;
            }
        }
        if !is_alias {
            let path = word.value.strip_suffix(b"/").unwrap_or(word.value);
            // The root of the file system, as nginx has it: every path begins with a slash.
            let value = self.value_of(path, word, 0);
            let value = if word.value == b"/" { value } else { full_value(value, &self.prefix) };
            level.root = Some((Root::Root(value), 0));
            return;
        }
        let value = self.value(word);
        let value = full_value(value, &self.prefix);
        let prefix = match self.location.as_ref().map(|l| (&l.matcher, l.name.len())) {
            Some((Matcher::Named(_), _)) => {
                self.error(
                    directive.name.span,
                    "the \"alias\" directive cannot be used inside the named location",
                );
                return;
            }
            // The alias is the file itself, also in what lies within.
            Some((Matcher::Regex(_), _)) => usize::MAX,
            Some((_, length)) => length,
            None => 0,
        };
        level.root = Some((Root::Alias(value), prefix));
    }

    fn index(&mut self, level: &mut Level, directive: Directive<'a>) {
        let count = directive.args.len();
        for (i, word) in directive.args.iter().enumerate() {
            if word.value.is_empty() {
                self.error(word.span, "index \"\" in \"index\" directive is invalid");
                continue;
            }
            if word.value.starts_with(b"/") && i + 1 != count {
                let text = word.text().into_owned();
                self.warning(
                    word.span,
                    format!("only the last index in \"index\" directive should be absolute: \"{text}\""),
                );
            }
            let value = self.value(word);
            Rc::make_mut(level.index.get_or_insert_default()).push(value);
        }
    }

    fn try_files(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(last) = directive.args.last() else { return };
        let mut tries = Vec::new();
        for word in directive.args.iter().take(directive.args.len() - 1) {
            let (text, is_directory) = match word.value.strip_suffix(b"/") {
                Some(text) => (text, true),
                None => (word.value, false),
            };
            tries.push((self.value_of(text, word, 0), is_directory));
        }
        let last = match last.value.strip_prefix(b"=") {
            None => TryLast::Uri(self.value(last)),
            Some(code) => {
                let Some(code) = units::number(code).filter(|c| *c <= 999) else {
                    let text = last.text().into_owned();
                    self.error(last.span, format!("invalid code \"{text}\""))
                        .help("write a status as `=404`");
                    return;
                };
                TryLast::Status(code as u16)
            }
        };
        level.try_files = Some(TryFiles { tries, last });
    }

    fn disable_symlinks(&mut self, level: &mut Level, directive: Directive<'a>) {
        let (mut mode, mut from) = (None, None);
        for word in directive.args {
            match word.value {
                b"off" => mode = Some(Symlinks::Follow),
                b"on" => mode = Some(Symlinks::Deny),
                b"if_not_owner" => mode = Some(Symlinks::IfNotOwner),
                text if text.starts_with(b"from=") => {
                    from = Some(self.value_of(&text[5..], word, 5));
                }
                _ => {
                    self.invalid_parameter(word)
                        .help("write `off`, or `on` or `if_not_owner` and perhaps `from=$document_root`");
                    return;
                }
            }
        }
        let Some(mode) = mode else {
            let message = "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter";
            self.error(directive.head(), message);
            return;
        };
        if directive.args.len() == 2 && from.is_none() {
            let words: Vec<_> = directive.args.iter().map(|w| w.text().into_owned()).collect();
            self.error(directive.head(), format!("duplicate parameters \"{}\"", words.join(" ")));
        } else if from.is_some() && mode == Symlinks::Follow {
            self.error(directive.head(), "\"from=\" cannot be used with \"off\" parameter");
        }
        level.symlinks = Some((mode, from));
    }

    fn open_file_cache(&mut self, level: &mut Level, directive: Directive<'a>) {
        let (mut max, mut inactive, mut is_off) = (None, std::time::Duration::from_secs(60), false);
        for word in directive.args {
            let number =
                |text: &[u8]| units::number(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            match word.value {
                b"off" => is_off = true,
                text if text.starts_with(b"max=") && number(&text[4..]).is_some() => max = number(&text[4..]),
                text if text.starts_with(b"inactive=") && units::seconds(&text[9..]).is_some() => {
                    inactive = units::seconds(&text[9..]).unwrap_or(inactive);
                }
                _ => {
                    let text = word.text().into_owned();
                    self.error(word.span, format!("invalid \"open_file_cache\" parameter \"{text}\""))
                        .help("write `max=1000 inactive=20s`, or `off`");
                    return;
                }
            }
        }
        level.open_file_cache = match max {
            _ if is_off => Some(None),
            Some(max) => Some(Some((max, inactive))),
            None => {
                self.error(directive.head(), "\"open_file_cache\" must have the \"max\" parameter");
                None
            }
        };
    }
}

/// Where the default root lies.
pub(super) fn default_root(prefix: &std::path::Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    prefix.join("html").as_os_str().as_bytes().to_vec()
}
