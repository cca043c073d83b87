//! `gzip`, `brotli`, `zstd`, and files that are compressed already.

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::http::{Precompressed, Proxied};

const ALL: Context = Context::ALL;
const IF: Context = ALL.or(Context::LOCATION_IF);
const WINDOW: &str = "the window is as large as the level needs";
const MEMORY: &str = "memory is allocated as it is needed";
const ONE_LIST: &str =
    "Where several codings are on, one list holds for all of them: the types of each together.";
const ONE_LENGTH: &str = "Where several codings are on, the least length holds for all of them.";

pub(super) const ROWS: &[Row] = &[
    Row::flag("gzip", IF, |l| &mut l.gzip, "off", "Compresses responses with gzip."),
    Row::new(
        "gzip_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.gzip_types, d)),
        "text/html",
        "Media types that are compressed; `*` is all.",
    )
    .repeats()
    .differs(ONE_LIST),
    Row::one(
        "gzip_min_length",
        ALL,
        Apply::Size(|l| &mut l.gzip_min_length),
        "20",
        "Shorter bodies are left alone.",
    )
    .differs(ONE_LENGTH),
    Row::one(
        "gzip_comp_level",
        ALL,
        Apply::Custom(|r, l, d| l.gzip_comp_level = r.within(d, 1, 9)),
        "1",
        "How hard gzip tries: 1 to 9.",
    ),
    Row::flag("gzip_vary", ALL, |l| &mut l.gzip_vary, "off", "Says `Vary: Accept-Encoding`."),
    Row::one(
        "gzip_http_version",
        ALL,
        Apply::Custom(|r, l, d| l.gzip_http10 = r.word(d, &[("1.0", true), ("1.1", false)])),
        "1.1",
        "The least version of HTTP for which responses are compressed.",
    ),
    Row::new(
        "gzip_proxied",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.gzip_proxied(l, d)),
        "off",
        "Which responses are compressed for requests with `Via`.",
    )
    .repeats(),
    Row::new(
        "gzip_disable",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.gzip_disable(l, d)),
        "",
        "Clients whose responses are not compressed, by `User-Agent`.",
    )
    .repeats()
    .differs("`msie6` is accepted and does nothing: such browsers are gone."),
    Row::one(
        "gzip_static",
        ALL,
        Apply::Custom(|r, l, d| l.gzip_static = r.precompressed(d)),
        "off",
        "Answers with `file.gz` where it is there: `on` for clients that take it, `always`.",
    ),
    Row::flag("brotli", IF, |l| &mut l.brotli, "off", "Compresses responses with Brotli."),
    Row::new(
        "brotli_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.brotli_types, d)),
        "text/html",
        "Media types that are compressed; `*` is all.",
    )
    .repeats()
    .differs(ONE_LIST),
    Row::one(
        "brotli_min_length",
        ALL,
        Apply::Size(|l| &mut l.brotli_min_length),
        "20",
        "Shorter bodies are left alone.",
    )
    .differs(ONE_LENGTH),
    Row::one(
        "brotli_comp_level",
        ALL,
        Apply::Custom(|r, l, d| l.brotli_comp_level = r.within(d, 0, 11)),
        "6",
        "How hard Brotli tries: 0 to 11.",
    ),
    Row::one(
        "brotli_static",
        ALL,
        Apply::Custom(|r, l, d| l.brotli_static = r.precompressed(d)),
        "off",
        "Answers with `file.br` where it is there.",
    ),
    Row::flag("zstd", IF, |l| &mut l.zstd, "off", "Compresses responses with Zstandard."),
    Row::new(
        "zstd_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.zstd_types, d)),
        "text/html",
        "Media types that are compressed; `*` is all.",
    )
    .repeats()
    .differs(ONE_LIST),
    Row::one(
        "zstd_min_length",
        ALL,
        Apply::Size(|l| &mut l.zstd_min_length),
        "20",
        "Shorter bodies are left alone.",
    )
    .differs(ONE_LENGTH),
    Row::one(
        "zstd_comp_level",
        ALL,
        Apply::Custom(|r, l, d| l.zstd_comp_level = r.within(d, 1, 19)),
        "1",
        "How hard Zstandard tries: 1 to 19.",
    ),
    Row::one(
        "zstd_static",
        ALL,
        Apply::Custom(|r, l, d| l.zstd_static = r.precompressed(d)),
        "off",
        "Answers with `file.zst` where it is there.",
    ),
    Row::flag("gunzip", ALL, |l| &mut l.gunzip, "off", "Unpacks gzip for clients that do not take it."),
    Row::new(
        "gzip_buffers",
        ALL,
        Count::exactly(2),
        Apply::Quiet(Argument::Buffers, MEMORY),
        "16 8k",
        "Memory of gzip.",
    ),
    Row::new(
        "gunzip_buffers",
        ALL,
        Count::exactly(2),
        Apply::Quiet(Argument::Buffers, MEMORY),
        "16 8k",
        "Memory to unpack gzip.",
    ),
    Row::new(
        "brotli_buffers",
        ALL,
        Count::exactly(2),
        Apply::Quiet(Argument::Buffers, MEMORY),
        "16 8k",
        "Memory of Brotli.",
    ),
    Row::new(
        "zstd_buffers",
        ALL,
        Count::exactly(2),
        Apply::Quiet(Argument::Buffers, MEMORY),
        "16 8k",
        "Memory of Zstandard.",
    ),
    Row::one(
        "gzip_window",
        ALL,
        Apply::Quiet(Argument::Power(512, 32 * 1024), WINDOW),
        "32k",
        "The window of gzip.",
    ),
    Row::one("brotli_window", ALL, Apply::Quiet(Argument::Size, WINDOW), "512k", "The window of Brotli."),
    Row::one(
        "gzip_hash",
        ALL,
        Apply::Quiet(Argument::Power(512, 128 * 1024), MEMORY),
        "64k",
        "Memory of gzip.",
    ),
    Row::one(
        "gzip_no_buffer",
        ALL,
        Apply::Quiet(Argument::Flag, MEMORY),
        "off",
        "Sends what gzip makes at once.",
    ),
    Row::one(
        "postpone_gzipping",
        ALL,
        Apply::Quiet(Argument::Size, MEMORY),
        "0",
        "Bytes that are gathered before gzip begins.",
    ),
];

impl<'a> Reader<'a> {
    /// A number between two others.
    pub(super) fn within(&mut self, directive: Directive<'a>, least: u64, most: u64) -> Option<u64> {
        let (word, name) = (directive.args.first()?, directive.name.text());
        let number = self.number(word, &name)?;
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.error(word.span, format!("value must be between {least} and {most}"));
        None
    }

    fn precompressed(&mut self, directive: Directive<'a>) -> Option<Precompressed> {
        let words =
            [("off", Precompressed::Off), ("on", Precompressed::On), ("always", Precompressed::Always)];
        self.word(directive, &words)
    }

    fn gzip_proxied(&mut self, level: &mut Level, directive: Directive<'a>) {
        const WORDS: [(&str, Proxied); 9] = [
            ("off", Proxied::Off),
            ("expired", Proxied::Expired),
            ("no-cache", Proxied::NoCache),
            ("no-store", Proxied::NoStore),
            ("private", Proxied::Private),
            ("no_last_modified", Proxied::NoLastModified),
            ("no_etag", Proxied::NoEtag),
            ("auth", Proxied::Auth),
            ("any", Proxied::Any),
        ];
        for word in directive.args {
            match WORDS.iter().find(|(name, _)| word.value.eq_ignore_ascii_case(name.as_bytes())) {
                Some((_, proxied)) => {
                    let list = level.gzip_proxied.get_or_insert_default();
                    if list.contains(proxied) {
                        let text = word.text().into_owned();
                        self.warning(word.span, format!("duplicate value \"{text}\""));
                    } else {
                        list.push(*proxied);
                    }
                }
                None => self.not_one_of(word, &WORDS.map(|(name, _)| name)),
            }
        }
    }

    fn gzip_disable(&mut self, level: &mut Level, directive: Directive<'a>) {
        for word in directive.args {
            if word.value == b"msie6" {
                level.gzip_disable.get_or_insert_default();
            } else if word.value == b"degradation" {
                self.invalid_parameter(word);
            } else {
                let regex = self.regex(word.value, true, word, 0);
                level.gzip_disable.get_or_insert_default().push(regex);
            }
        }
    }
}
