//! `log_format`, `access_log`, and what all logs share: syslog.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use conf_syntax::{Directive, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use super::values::full_value;
use crate::gunicorn::nearest::nearest;
use crate::model::http::{
    AccessLog, AccessTarget, LogEscape, LogFileCache, LogFormat, Part, Syslog, Value, Variable,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "log_format",
        Context::HTTP,
        Count::at_least(2),
        Apply::Custom(|r, _, d| r.log_format(d)),
        "combined",
        "The form of a line: a name, perhaps `escape=json` or `escape=none`, and texts that are joined.",
    )
    .repeats(),
    Row::new(
        "access_log",
        Context::ALL.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT),
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.access_log(l, d)),
        "logs/access.log combined",
        "Where requests are logged: a path or `syslog:`, a format, `buffer=`, `gzip=`, \
             `flush=`, `if=`; or `off`.",
    )
    .repeats(),
    Row::flag("log_subrequest", Context::ALL, |l| &mut l.log_subrequest, "off", "Logs subrequests too."),
    Row::new(
        "open_log_file_cache",
        Context::ALL,
        Count::between(1, 4),
        Apply::Custom(|r, l, d| r.open_log_file_cache(l, d)),
        "off",
        "Keeps log files open whose names have variables: `max=`, `inactive=`, `min_uses=`, `valid=`; or `off`.",
    ),
];

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

/// nginx's format where no other is named.
pub(super) fn combined() -> LogFormat {
    let text = |t: &str| Part::Text(t.as_bytes().to_vec());
    let field = |name: &str| Part::Variable(Variable::Http(name.as_bytes().to_vec()));
    let line = vec![
        Part::Variable(Variable::RemoteAddr),
        text(" - "),
        Part::Variable(Variable::RemoteUser),
        text(" ["),
        Part::Variable(Variable::TimeLocal),
        text("] \""),
        Part::Variable(Variable::Request),
        text("\" "),
        Part::Variable(Variable::Status),
        text(" "),
        Part::Variable(Variable::BodyBytesSent),
        text(" \""),
        field("referer"),
        text("\" \""),
        field("user_agent"),
        text("\""),
    ];
    LogFormat { name: "combined".to_owned(), escape: LogEscape::Default, line: Value(line) }
}

/// Where requests are logged if nobody says so.
pub(super) fn default_log(path: &Path) -> AccessLog {
    let target = AccessTarget::File(Value::text(path.as_os_str().as_bytes()));
    AccessLog { target, format: 0, buffer: 0, flush: None, gzip: None, condition: None }
}

impl<'a> Reader<'a> {
    fn log_format(&mut self, directive: Directive<'a>) {
        let Some(name) = directive.args.first() else { return };
        let mut escape = LogEscape::Default;
        let mut skip = 1;
        if let Some(word) = directive.args.get(1)
            && let Some(text) = word.value.strip_prefix(b"escape=")
        {
            skip = 2;
            escape = match text {
                b"default" => LogEscape::Default,
                b"json" => LogEscape::Json,
                b"none" => LogEscape::None,
                _ => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    self.error(word.span, format!("unknown log format escaping \"{text}\""))
                        .help("write `escape=default`, `escape=json` or `escape=none`");
                    return;
                }
            };
        }
        let mut line = Value::default();
        for word in directive.args.skip(skip) {
            let part = self.value(word);
            if part.variables().any(|v| matches!(v, Variable::Capture(_))) {
                self.error(
                    word.span,
                    "a log format cannot use what a regular expression matched by its number",
                )
                .help("name the group, as in `(?<name>…)`, and write `$name`");
            }
            line.0.extend(part.0);
        }
        let text = name.text().into_owned();
        if self.log_formats.iter().any(|f| f.name == text) {
            self.error(name.span, format!("duplicate \"log_format\" name \"{text}\""));
            return;
        }
        self.log_formats.push(LogFormat { name: text, escape, line });
    }

    fn access_log(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(target) = directive.args.first() else { return };
        if target.value == b"off" {
            if let Some(word) = directive.args.get(1) {
                self.invalid_parameter(word).help("`off` stands alone");
            }
            level.access_log_off = Some(());
            level.access_logs = Some(Rc::new(Vec::new()));
            return;
        }
        let Some(log) = self.access_log_of(target, directive) else { return };
        if let AccessTarget::File(path) = &log.target
            && let Some(path) = path.as_text()
        {
            self.shared.named_logs.insert(path.to_vec());
        }
        // `off` beside other logs of the same block wins, in nginx too.
        if level.access_log_off.is_none() {
            Rc::make_mut(level.access_logs.get_or_insert_default()).push(log);
        }
    }

    fn access_log_of(&mut self, word: Word<'a>, directive: Directive<'a>) -> Option<AccessLog> {
        let target = if word.value.starts_with(b"syslog:") {
            AccessTarget::Syslog(self.syslog(word)?)
        } else {
            let value = self.value(word);
            AccessTarget::File(full_value(value, &self.prefix))
        };
        let format = match directive.args.get(1) {
            None => 0,
            Some(name) => self.format_named(name)?,
        };
        let mut log = AccessLog { target, format, buffer: 0, flush: None, gzip: None, condition: None };
        for word in directive.args.skip(2) {
            let text = word.value;
            let shown = |from: usize| String::from_utf8_lossy(&text[from..]).into_owned();
            if text.starts_with(b"buffer=") {
                let Some(size) = units::size(&text[7..]).filter(|n| *n > 0) else {
                    self.error(word.span, format!("invalid buffer size \"{}\"", shown(7)))
                        .help("write `buffer=32k`");
                    return None;
                };
                log.buffer = size;
            } else if text.starts_with(b"flush=") {
                let Some(time) = units::millis(&text[6..]).filter(|t| !t.is_zero()) else {
                    self.error(word.span, format!("invalid flush time \"{}\"", shown(6)))
                        .help("write `flush=5s`");
                    return None;
                };
                log.flush = Some(time);
            } else if text == b"gzip" || text.starts_with(b"gzip=") {
                let level = text.get(5..).map_or(Some(1), units::number).filter(|n| (1..=9).contains(n));
                let Some(level) = level else {
                    self.error(word.span, format!("invalid compression level \"{}\"", shown(5)))
                        .help("write `gzip=1` to `gzip=9`");
                    return None;
                };
                log.gzip = Some(level as u32);
            } else if text.starts_with(b"if=") {
                log.condition = Some(self.value_of(&text[3..], word, 3));
            } else {
                self.invalid_parameter(word)
                    .help("it is one of `buffer=32k`, `flush=5s`, `gzip=1` and `if=$variable`");
                return None;
            }
        }
        if log.gzip.is_some() && log.buffer == 0 {
            log.buffer = 64 << 10;
        }
        self.check_buffer(&log, word).then_some(log)
    }

    fn open_log_file_cache(&mut self, level: &mut Level, directive: Directive<'a>) {
        let seconds = std::time::Duration::from_secs;
        let (mut max, mut is_off) = (None, false);
        let mut cache = LogFileCache { max: 0, inactive: seconds(10), valid: seconds(60), min_uses: 1 };
        for word in directive.args {
            let (name, value) = match word.value.iter().position(|byte| *byte == b'=') {
                Some(at) => word.value.split_at(at + 1),
                None => (word.value, &[][..]),
            };
            let number = units::number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            match (name, number, units::seconds(value)) {
                (b"off", ..) => is_off = true,
                (b"max=", Some(number), _) => max = Some(number),
                (b"min_uses=", Some(number), _) => cache.min_uses = number.into(),
                (b"inactive=", _, Some(time)) => cache.inactive = time,
                (b"valid=", _, Some(time)) => cache.valid = time,
                _ => {
                    let text = word.text().into_owned();
                    self.error(word.span, format!("invalid \"open_log_file_cache\" parameter \"{text}\""))
                        .help("write `max=1000 inactive=20s valid=1m min_uses=2`, or `off`");
                    return;
                }
            }
        }
        match max {
            _ if is_off => level.log_file_cache = Some(None),
            Some(max) => level.log_file_cache = Some(Some(LogFileCache { max, ..cache })),
            None => {
                self.error(directive.head(), "\"open_log_file_cache\" must have \"max\" parameter");
            }
        }
    }

    fn check_buffer(&mut self, log: &AccessLog, word: Word<'a>) -> bool {
        let message = match &log.target {
            _ if log.flush.is_some() && log.buffer == 0 => {
                format!("no buffer is defined for access_log \"{}\"", word.text())
            }
            _ if log.buffer == 0 => return true,
            AccessTarget::Syslog(_) => "logs to syslog cannot be buffered".to_owned(),
            AccessTarget::File(path) if path.as_text().is_none() => {
                "buffered logs cannot have variables in name".to_owned()
            }
            AccessTarget::File(path) => {
                let buffer = (log.buffer, log.flush, log.gzip);
                let path = path.as_text().unwrap_or_default().to_vec();
                if *self.log_buffers.entry(path).or_insert(buffer) == buffer {
                    return true;
                }
                format!("access_log \"{}\" already defined with conflicting parameters", word.text())
            }
        };
        self.error(word.span, message);
        false
    }

    fn format_named(&mut self, word: Word<'a>) -> Option<u32> {
        let name = word.text();
        let found = self.log_formats.iter().position(|f| f.name.eq_ignore_ascii_case(&name));
        if found.is_none() {
            let near = nearest(&name, self.log_formats.iter().map(|f| f.name.as_str()));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if word.value.contains(&b'=') => {
                    "a format comes before parameters: `access_log path combined …`".to_owned()
                }
                None => "a `log_format` stands before the logs that use it".to_owned(),
            };
            self.error(word.span, format!("unknown log format \"{name}\"")).help(help);
        }
        found.map(|i| i as u32)
    }

    /// `syslog:server=…,facility=…,severity=…,tag=…,nohostname`
    pub(super) fn syslog(&mut self, word: Word<'a>) -> Option<Syslog> {
        let text = word.text().into_owned();
        let mut syslog = Syslog {
            server: String::new(),
            facility: 23,
            severity: 6,
            tag: "nginx".to_owned(),
            nohostname: false,
        };
        for part in text.trim_start_matches("syslog:").split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let wrong = match name {
                "server" if !syslog.server.is_empty() => Some("duplicate syslog \"server\"".to_owned()),
                "server" => match self.syslog_server(value) {
                    Ok(server) => {
                        syslog.server = server;
                        None
                    }
                    Err(why) => Some(format!("{why} in syslog server \"{value}\"")),
                },
                "facility" => match FACILITIES.iter().position(|f| *f == value) {
                    Some(n) => {
                        syslog.facility = n as u8;
                        None
                    }
                    None => Some(format!("unknown syslog facility \"{value}\"")),
                },
                "severity" => match SEVERITIES.iter().position(|s| *s == value) {
                    Some(n) => {
                        syslog.severity = n as u8;
                        None
                    }
                    None => Some(format!("unknown syslog severity \"{value}\"")),
                },
                "tag" if value.len() > 32 => Some("syslog tag length exceeds 32".to_owned()),
                "tag" if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                    Some("syslog \"tag\" only allows alphanumeric characters and underscore".to_owned())
                }
                "tag" => {
                    value.clone_into(&mut syslog.tag);
                    None
                }
                "nohostname" if value.is_empty() => {
                    syslog.nohostname = true;
                    None
                }
                _ => Some(format!("unknown syslog parameter \"{part}\"")),
            };
            if let Some(message) = wrong {
                self.error(word.span, message)
                    .help("write `syslog:server=127.0.0.1:514,facility=local7,tag=nginx,severity=info`");
                return None;
            }
        }
        if syslog.server.is_empty() {
            self.error(word.span, "no syslog server specified").help("write `syslog:server=127.0.0.1:514`");
            return None;
        }
        Some(syslog)
    }

    /// The address with its port, or `unix:` and a path.
    fn syslog_server(&self, text: &str) -> Result<String, &'static str> {
        const PORT: u16 = 514;
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(text.to_owned()) } else { Err("invalid path") };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.to_string());
        }
        if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, PORT).to_string());
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().map_err(|_| "invalid port")?),
            None => (text, PORT),
        };
        if name.is_empty() {
            return Err("no host");
        }
        let found = self.machine.resolve(name, port).map_err(|_| "host not found")?;
        found.first().map(ToString::to_string).ok_or("host not found")
    }
}
