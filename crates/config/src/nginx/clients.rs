//! Clients: what they may send and how slow they may be, connections, redirects, names.

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::units;
use crate::model::http::{BodyFile, LingeringClose, ServerTokens};

const ALL: Context = Context::ALL;
const HEAD: Context = Context::HTTP.or(Context::SERVER);
const IF: Context = ALL.or(Context::LOCATION_IF);
const MEMORY: &str = "memory is allocated as it is needed";

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "client_header_timeout",
        HEAD,
        Apply::Millis(|l| &mut l.header_timeout),
        "60s",
        "How long the head of a request may take.",
    ),
    Row::one(
        "client_header_buffer_size",
        HEAD,
        Apply::Size(|l| &mut l.header_buffer),
        "1k",
        "Bytes of a usual head.",
    ),
    Row::new(
        "large_client_header_buffers",
        HEAD,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.large_client_header_buffers(l, d)),
        "4 8k",
        "How many larger buffers a head may take, and bytes of each: no line may be longer.",
    ),
    Row::one("max_headers", HEAD, Apply::Number(|l| &mut l.max_headers), "1000", "Fields of a request at most."),
    Row::flag("ignore_invalid_headers", HEAD, |l| &mut l.ignore_invalid, "on", "Leaves out fields whose names have something else in them than letters, digits and dashes.")
        .differs("A name that HTTP does not allow at all (RFC 9110, 5.1) is refused with 400."),
    Row::flag("underscores_in_headers", HEAD, |l| &mut l.underscores, "off", "Takes names of fields with underscores as valid."),
    Row::flag("merge_slashes", HEAD, |l| &mut l.merge_slashes, "on", "Takes slashes that follow each other as one."),
    Row::one("client_max_body_size", ALL, Apply::Offset(|l| &mut l.max_body), "1m", "Bytes of a body at most; 0 is no limit."),
    Row::one("client_body_timeout", ALL, Apply::Millis(|l| &mut l.body_timeout), "60s", "How long a client may send nothing of a body."),
    Row::one("client_body_buffer_size", ALL, Apply::Size(|l| &mut l.body_buffer), "16k", "Bytes of a body that are held in memory."),
    Row::new(
        "client_body_temp_path",
        ALL,
        Count::between(1, 4),
        Apply::Custom(|r, _, d| r.temp_path(d)),
        "the system's directory for temporary files",
        "Where bodies lie that are too large for memory.",
    )
    .differs(
        "One directory serves everything: the first that is named. There are no levels below it: files have no names, \
             but for those of `client_body_in_file_only`.",
    ),
    Row::one(
        "client_body_in_file_only",
        ALL,
        Apply::Custom(|r, l, d| {
            l.body_in_file =
                r.word(d, &[("off", None), ("on", Some(BodyFile::Keep)), ("clean", Some(BodyFile::Clean))]);
        }),
        "off",
        "Puts every body into a file with a name (`$request_body_file`): `on` keeps it, `clean` removes it when the \
             request is over.",
    ),
    Row::new(
        "client_body_early_read",
        HEAD,
        Count::at_least(1),
        Apply::Custom(|r, l, d| {
            let values = d.args.iter().map(|word| r.value(word)).collect();
            l.body_early = Some(std::rc::Rc::new(values));
        }),
        "",
        "The body of a request is read before a location is looked for, if one of these is neither empty nor `0`.",
    ),
    Row::one(
        "client_body_in_single_buffer",
        ALL,
        Apply::Quiet(Argument::Flag, "a body in memory is one piece when somebody asks for it"),
        "off",
        "Keeps a body in one piece.",
    ),
    Row::one(
        "send_timeout",
        ALL,
        Apply::Millis(|l| &mut l.send_timeout),
        "60s",
        "How long a client may take nothing of a response.",
    ),
    Row::new(
        "keepalive_timeout",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.keepalive_timeout(l, d)),
        "75s",
        "How long an idle connection stays open; 0 closes after each response. The \
             second is told to the client.",
    ),
    Row::one(
        "keepalive_min_timeout",
        ALL,
        Apply::Millis(|l| &mut l.keepalive_min_timeout),
        "0",
        "How long an idle connection stays open at least while the server ends.",
    ),
    Row::one(
        "keepalive_requests",
        ALL,
        Apply::Number(|l| &mut l.keepalive_requests),
        "1000",
        "Requests on one connection at most.",
    ),
    Row::one(
        "keepalive_time",
        ALL,
        Apply::Millis(|l| &mut l.keepalive_time),
        "1h",
        "How old a connection may get.",
    ),
    Row::new(
        "keepalive_disable",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.keepalive_disable(l, d)),
        "msie6",
        "Browsers whose connections are closed: old versions of Internet Explorer after POST, `safari` on a Mac; \
             `none` is nobody.",
    )
.repeats(),
    Row::one(
        "lingering_close",
        ALL,
        Apply::Custom(|r, l, d| {
            l.lingering_close = r.word(
                d,
                &[
                    ("off", LingeringClose::Off),
                    ("on", LingeringClose::On),
                    ("always", LingeringClose::Always),
                ],
            );
        }),
        "on",
        "Whether what a client still sends is read before a connection is closed.",
    ),
    Row::one("lingering_time", ALL, Apply::Millis(|l| &mut l.lingering_time), "30s", "How long that may take."),
    Row::one("lingering_timeout", ALL, Apply::Millis(|l| &mut l.lingering_timeout), "5s", "How long the client may send nothing meanwhile."),
    Row::flag("reset_timedout_connection", ALL, |l| &mut l.reset_timedout, "off", "Resets connections whose client takes nothing of the response, and those that `return 444` closes.")
        .differs("A response whose end is the connection's is always cut with a reset, so that half of it cannot be taken for the whole."),
    Row::flag("chunked_transfer_encoding", ALL, |l| &mut l.chunked, "on", "Sends bodies of unknown length in chunks."),
    Row::one("limit_rate", IF, Apply::Custom(|r, l, d| r.rate(&mut l.limit_rate, d)), "0", "Bytes a second of a response at most; 0 is no limit."),
    Row::one("limit_rate_after", IF, Apply::Custom(|r, l, d| r.rate(&mut l.limit_rate_after, d)), "0", "Bytes of a response before `limit_rate` begins."),
    Row::flag("tcp_nodelay", ALL, |l| &mut l.tcp_nodelay, "on", "Sends small packets at once."),
    Row::one(
        "server_tokens",
        ALL,
        Apply::Custom(|r, l, d| r.server_tokens(l, d)),
        "on",
        "What `Server` and error pages say: `on`, `off`, `build`, a text, or nothing.",
    ),
    Row::flag(
        "server_name_in_redirect",
        ALL,
        |l| &mut l.server_name_in_redirect,
        "off",
        "Redirects to the first `server_name`, not to the client's `Host`.",
    ),
    Row::flag("port_in_redirect", ALL, |l| &mut l.port_in_redirect, "on", "Names the port in redirects."),
    Row::flag("absolute_redirect", ALL, |l| &mut l.absolute_redirect, "on", "Redirects to whole URLs."),
    Row::one(
        "connection_pool_size",
        HEAD,
        Apply::Quiet(Argument::Pool, MEMORY),
        "512",
        "Memory of a connection.",
    ),
    Row::one("request_pool_size", HEAD, Apply::Quiet(Argument::Pool, MEMORY), "4k", "Memory of a request."),
    Row::new(
        "output_buffers",
        ALL,
        Count::exactly(2),
        Apply::Quiet(Argument::Buffers, MEMORY),
        "2 32k",
        "Buffers to read files.",
    ),
    Row::one(
        "postpone_output",
        ALL,
        Apply::Quiet(Argument::Size, "small pieces leave together anyway"),
        "1460",
        "Bytes that are gathered before they leave.",
    ),
    Row::one(
        "send_lowat",
        ALL,
        Apply::Quiet(Argument::Size, "there is no such thing on Linux"),
        "0",
        "Room in the socket before something is sent.",
    ),
    Row::one(
        "subrequest_output_buffer_size",
        ALL,
        Apply::Size(|l| &mut l.subrequest_buffer),
        "4k",
        "Bytes at most of an answer that becomes a variable: `set` of SSI's `include`.",
    ),
    Row::one(
        "server_names_hash_max_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, "tables grow as they must"),
        "512",
        "Size of a table.",
    ),
    Row::one(
        "server_names_hash_bucket_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, "tables grow as they must"),
        "64",
        "Size of a bucket.",
    ),
    Row::one(
        "variables_hash_max_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, "tables grow as they must"),
        "1024",
        "Size of a table.",
    ),
    Row::one(
        "variables_hash_bucket_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, "tables grow as they must"),
        "64",
        "Size of a bucket.",
    ),
];

impl<'a> Reader<'a> {
    fn large_client_header_buffers(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([number, size]) = directive.args.array() else { return };
        let count = units::number(number.value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        let bytes = units::size(size.value).filter(|n| *n > 0);
        if let (Some(count), Some(bytes)) = (count, bytes) {
            level.large_buffers = Some((count, bytes));
        } else {
            let wrong = if count.is_none() { number } else { size };
            self.error(wrong.span, "\"large_client_header_buffers\" directive invalid value")
                .help("write how many and how large: `4 8k`");
        }
    }

    fn keepalive_timeout(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(timeout) = directive.args.first().and_then(|w| self.millis(w, "keepalive_timeout")) else {
            return;
        };
        level.keepalive = Some(timeout);
        // Where nothing is said of what to tell the client, it is told what the level around says, as in nginx.
        if let Some(time) = directive.args.get(1).and_then(|word| self.seconds(word, "keepalive_timeout")) {
            level.keepalive_told = Some(time);
        }
    }

    fn keepalive_disable(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut disable = level.keepalive_disable.unwrap_or_default();
        for word in directive.args {
            match word.value {
                b"none" => {}
                b"msie6" => disable.msie6 = true,
                b"safari" => disable.safari = true,
                _ => return self.not_one_of(word, &["none", "msie6", "safari"]),
            }
        }
        level.keepalive_disable = Some(disable);
    }

    /// Bytes a second, in a variable perhaps.
    pub(super) fn rate(&mut self, slot: &mut Option<crate::model::http::Value>, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let value = self.value(word);
        *slot = match value.as_text().map(units::size) {
            None => Some(value),
            // What runs later need not know units.
            Some(Some(bytes)) => Some(crate::model::http::Value::text(bytes.to_string())),
            Some(None) => {
                let name = directive.name.text().into_owned();
                self.error(word.span, format!("\"{name}\" directive invalid value"))
                    .help("write bytes as `1024`, or as `8k` or `1m`");
                None
            }
        };
    }

    fn server_tokens(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        level.server_tokens = Some(match word.value {
            b"on" | b"build" => ServerTokens::On,
            b"off" => ServerTokens::Off,
            b"" => ServerTokens::None,
            // A word that was mistyped would otherwise be what every response says.
            text if !text.contains(&b'$') && !text.contains(&b'/') => {
                self.not_one_of(word, &["on", "off", "build"]);
                return;
            }
            _ => ServerTokens::Text(self.value(word)),
        });
    }
}
