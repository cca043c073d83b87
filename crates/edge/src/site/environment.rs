//! The built-in variables, as far as they need more than the request itself.

use std::fmt::Write as _;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use config::model::http::{FileTest, LogLevel, Part, Root, SecureLink, Value, Variable};
use exchange::{AcceptEncoding, Fields, Request, Response};
use handlers::files::by_path::FileContext;
use listen::tls::Field;
use routing::Environment;
use telemetry::error_log::Level;

use super::facts::{Facts, Left, level};

/// What is known of the response when a variable is asked.
#[derive(Clone, Copy, Default)]
pub struct Sent<'a> {
    /// Its status; 0 before there is one.
    pub status: u16,
    /// Its fields.
    pub fields: Option<&'a Fields>,
    /// The length of its body, where it is known beforehand.
    pub length: Option<u64>,
    /// Bytes of its body that have left.
    pub body: u64,
    /// Bytes that have left in all.
    pub all: u64,
    /// It has left as a whole.
    pub whole: bool,
}

impl<'a> Sent<'a> {
    /// A response of which nothing has left.
    pub fn of(response: &'a Response) -> Self {
        Self {
            status: response.status,
            fields: Some(&response.fields),
            length: response.body.len(),
            ..Self::default()
        }
    }
}

/// A request's facts, and the response as it is now.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The facts.
    pub facts: &'a Facts<'a>,
    /// The response.
    pub sent: Sent<'a>,
}

impl Environment for View<'_> {
    fn root(&self) -> Option<(&Root, usize)> {
        Some(self.facts.root())
    }

    fn prefix(&self) -> &[u8] {
        &self.facts.site.http().prefix
    }

    fn variable(&self, variable: &Variable, request: &Request, out: &mut Vec<u8>) -> bool {
        let facts = self.facts;
        let addresses = || facts.proxied.as_ref().map(|proxied| &proxied.addresses);
        let mut text = Text(out);
        match variable {
            Variable::Host => text.bytes(&facts.host.borrow()),
            Variable::ServerName => text.bytes(facts.server_name()),
            Variable::Connection => text.write(format_args!("{}", facts.connection)),
            Variable::ConnectionRequests => text.write(format_args!("{}", facts.requests)),
            Variable::ConnectionTime => text.seconds(facts.connected.elapsed()),
            Variable::RequestTime => text.seconds(facts.begun.elapsed()),
            Variable::Msec => text.seconds(since_1970()),
            Variable::TimeLocal => {
                telemetry::time_local(since_1970().as_secs() as i64, text.0);
                true
            }
            Variable::TimeIso8601 => {
                telemetry::time_iso8601(since_1970().as_secs() as i64, text.0);
                true
            }
            Variable::FastcgiScriptName => facts.script_name(request, text.0),
            Variable::FastcgiPathInfo => facts.path_info(request, text.0),
            Variable::Pid => text.write(format_args!("{}", std::process::id())),
            Variable::DateLocal | Variable::DateGmt => {
                let rare = facts.rare.borrow();
                let format = rare.as_ref().and_then(|rare| rare.timefmt.as_deref());
                let gmt = *variable == Variable::DateGmt;
                telemetry::date(since_1970().as_secs() as i64, format, gmt, text.0)
            }
            Variable::Pipe => text.bytes(if facts.pipelined { b"p" } else { b"." }),
            Variable::Hostname => text.bytes(rustix::system::uname().nodename().to_bytes()),
            Variable::NginxVersion => text.bytes(config::invocation::nginx::built_in::VERSION.as_bytes()),
            Variable::RemoteUser => match &*facts.user.borrow() {
                Some(user) => text.bytes(user),
                None => match basic_user(request) {
                    Some(user) => text.bytes(&user),
                    None => false,
                },
            },
            Variable::RequestId => text.write(format_args!("{:032x}", facts.request_id())),
            Variable::RequestLength => {
                text.write(format_args!("{}", length_of(request, facts.body_length.get())))
            }
            Variable::RequestBody => match &*facts.body.borrow() {
                Some(body) => text.bytes(body),
                None => false,
            },
            Variable::RequestBodyFile => {
                let rare = facts.rare.borrow();
                rare.as_ref().and_then(|rare| rare.body_file.as_ref()).is_some_and(|path| text.bytes(path))
            }
            Variable::RequestCompletion => text.bytes(if self.left().whole { b"OK" } else { b"" }),
            Variable::Status => {
                let status = Some(self.left().status).filter(|status| *status != 0);
                text.write(format_args!("{:03}", status.unwrap_or_else(|| facts.error_status.get())))
            }
            Variable::BodyBytesSent => text.write(format_args!("{}", self.left().body)),
            Variable::BytesSent => text.write(format_args!("{}", self.left().all)),
            Variable::LimitRate => match &*facts.limit_rate.borrow() {
                // In bytes, however it was set; what is no size is none.
                Some(rate) => text.write(format_args!("{}", super::pace::size(rate).unwrap_or_default())),
                None => text.bytes(b"0"),
            },
            Variable::LimitReqStatus => text.some(facts.rate_status.get()),
            Variable::LimitConnStatus => text.some(facts.connections_status.get()),
            Variable::RealipRemoteAddr => match facts.original.get() {
                Some(address) => text.write(format_args!("{}", address.ip().to_canonical())),
                None => routing::request_variable(&Variable::RemoteAddr, request, text.0).unwrap_or(false),
            },
            Variable::RealipRemotePort => match facts.original.get() {
                Some(address) => text.write(format_args!("{}", address.port())),
                None => routing::request_variable(&Variable::RemotePort, request, text.0).unwrap_or(false),
            },
            Variable::InvalidReferer => text.bytes(if facts.has_valid_referer(request) { b"" } else { b"1" }),
            Variable::SentHttp(name) => self.sent_field(name, &mut text),
            Variable::ProxyProtocolTlv(name) => {
                facts.proxied.as_ref().is_some_and(|proxied| proxied.extras.write(name, text.0))
            }
            Variable::SentTrailer(name) => facts.sent_trailer(name, text.0),
            Variable::AppName => facts.app.borrow().as_ref().is_some_and(|name| text.bytes(name.as_bytes())),
            Variable::AppPid => facts.outcome.get().is_some_and(|o| text.write(format_args!("{}", o.pid))),
            Variable::AppAttempts => {
                facts.outcome.get().is_some_and(|o| text.write(format_args!("{}", o.attempts)))
            }
            Variable::AppQueueTime => facts.outcome.get().is_some_and(|o| text.seconds(o.queued)),
            Variable::AppRunTime => facts.run_time().is_some_and(|time| text.seconds(time)),
            Variable::ConnectionsActive => text.write(format_args!("{}", facts.connections().active)),
            Variable::ConnectionsReading => text.write(format_args!("{}", facts.connections().reading)),
            Variable::ConnectionsWriting => text.write(format_args!("{}", facts.connections().writing)),
            Variable::ConnectionsWaiting => text.write(format_args!("{}", facts.connections().waiting)),
            Variable::GzipRatio => {
                let ratio = facts.ratio(self.sent.body);
                ratio.is_some_and(|(whole, part)| text.write(format_args!("{whole}.{part:02}")))
            }
            Variable::SecureLinkExpires => {
                facts.link_expires.borrow().as_ref().is_some_and(|time| text.bytes(time))
            }
            Variable::ProxyProtocolAddr => {
                addresses().is_some_and(|p| text.write(format_args!("{}", p.source.ip())))
            }
            Variable::ProxyProtocolPort => {
                addresses().is_some_and(|p| text.write(format_args!("{}", p.source.port())))
            }
            Variable::ProxyProtocolServerAddr => {
                addresses().is_some_and(|p| text.write(format_args!("{}", p.destination.ip())))
            }
            Variable::ProxyProtocolServerPort => {
                addresses().is_some_and(|p| text.write(format_args!("{}", p.destination.port())))
            }
            Variable::Http2 => match (request.version, request.scheme) {
                (exchange::Version::Http2, exchange::Scheme::Https) => text.bytes(b"h2"),
                (exchange::Version::Http2, exchange::Scheme::Http) => text.bytes(b"h2c"),
                _ => text.bytes(b""),
            },
            Variable::SslAlpnProtocol => match facts.tls.as_ref().and_then(|tls| tls.alpn.as_ref()) {
                Some(name) => text.bytes(name),
                None => false,
            },
            Variable::SslCipher => facts.of_tls(&mut text, |tls, text| suite(tls.suite, text)),
            Variable::SslCiphers => {
                facts.of_tls(&mut text, |tls, text| names(&tls.client_suites, suite, text))
            }
            Variable::SslClientCert => facts.of_certificate(Field::Pem, |pem| {
                let end = pem.len().saturating_sub(1);
                for line in pem[..end].split_inclusive(|byte| *byte == b'\n') {
                    text.bytes(line);
                    if line.ends_with(b"\n") {
                        text.bytes(b"\t");
                    }
                }
            }),
            Variable::SslClientEscapedCert => facts.of_certificate(Field::Pem, |pem| {
                for byte in pem {
                    if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                        text.bytes(&[*byte]);
                    } else {
                        text.write(format_args!("%{byte:02X}"));
                    }
                }
            }),
            Variable::SslClientRawCert => facts.certificate(Field::Pem, &mut text),
            Variable::SslClientFingerprint => facts.certificate(Field::Fingerprint, &mut text),
            Variable::SslClientIDn => facts.certificate(Field::Issuer, &mut text),
            Variable::SslClientIDnLegacy => facts.certificate(Field::IssuerLegacy, &mut text),
            Variable::SslClientSDn => facts.certificate(Field::Subject, &mut text),
            Variable::SslClientSDnLegacy => facts.certificate(Field::SubjectLegacy, &mut text),
            Variable::SslClientSerial => facts.certificate(Field::Serial, &mut text),
            Variable::SslClientVEnd => facts.certificate(Field::End, &mut text),
            Variable::SslClientVRemain => facts.certificate(Field::Remaining, &mut text),
            Variable::SslClientVStart => facts.certificate(Field::Start, &mut text),
            Variable::SslClientVerify => match facts.tls.as_ref().map(|tls| tls.client.as_deref()) {
                None => false,
                Some(None) => text.bytes(b"NONE"),
                Some(Some(client)) => match client.verdict {
                    Ok(()) => text.bytes(b"SUCCESS"),
                    Err(flaw) => text.write(format_args!("FAILED:{flaw}")),
                },
            },
            Variable::SslCurve => match facts.tls.as_ref().and_then(|tls| tls.group) {
                Some(number) => {
                    group(number, text.0);
                    true
                }
                None => false,
            },
            Variable::SslCurves => {
                facts.of_tls(&mut text, |tls, text| names(&tls.client_groups, group, text))
            }
            Variable::SslEarlyData if request.in_early_data => text.bytes(b"1"),
            Variable::SslProtocol => facts.of_tls(&mut text, |tls, text| {
                text.extend_from_slice(if tls.version == 0x0304 { b"TLSv1.3" } else { b"TLSv1.2" });
            }),
            Variable::SslServerName => match facts.tls.as_ref().and_then(|tls| tls.server_name.as_ref()) {
                Some(name) => text.bytes(name.as_bytes()),
                None => false,
            },
            Variable::SslSessionId => facts
                .tls
                .as_ref()
                .is_some_and(|tls| tls.session.iter().all(|byte| text.write(format_args!("{byte:02x}")))),
            Variable::SslSessionReused => {
                facts.of_tls(&mut text, |tls, text| text.push(if tls.resumed { b'r' } else { b'.' }))
            }
            Variable::ContentLength => {
                let asked = facts.upstream.borrow().as_ref().and_then(|asked| asked.body_length);
                let length = asked.or(facts.found_length.get());
                length.is_some_and(|length| text.write(format_args!("{length}")))
            }
            Variable::ProxyAddXForwardedFor => super::proxy::add_forwarded(request, text.0),
            Variable::ProxyHost
            | Variable::ProxyPort
            | Variable::ProxyInternalBodyLength
            | Variable::ProxyInternalChunked
            | Variable::UpstreamCacheStatus
            | Variable::UpstreamCacheLastModified
            | Variable::UpstreamCacheEtag
            | Variable::UpstreamAddr
            | Variable::UpstreamStatus
            | Variable::UpstreamConnectTime
            | Variable::UpstreamHeaderTime
            | Variable::UpstreamResponseTime
            | Variable::UpstreamResponseLength
            | Variable::UpstreamBytesReceived
            | Variable::UpstreamBytesSent
            | Variable::UpstreamHttp(_)
            | Variable::UpstreamCookie(_)
            | Variable::UpstreamTrailer(_) => {
                facts.upstream.borrow().as_ref().is_some_and(|asked| asked.variable(variable, text.0))
            }
            Variable::SliceRange => {
                let part = facts.slice(request, self.sent.status > 0);
                part.is_some_and(|part| text.write(format_args!("bytes={}-{}", part.start, part.last())))
            }
            Variable::UidGot => facts.uid_got(request, text.0),
            Variable::TcpinfoRtt => facts.tcp(&mut text, |info| info.rtt),
            Variable::TcpinfoRttvar => facts.tcp(&mut text, |info| info.rttvar),
            Variable::TcpinfoSndCwnd => facts.tcp(&mut text, |info| info.snd_cwnd),
            Variable::TcpinfoRcvSpace => facts.tcp(&mut text, |info| info.rcv_space),
            _ => false,
        }
    }

    fn made(
        &self,
        variable: &Variable,
        request: &Request,
        text: &mut dyn FnMut(&Value) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        match variable {
            Variable::SecureLink => self.facts.secure_link(request, text, out),
            Variable::UidSet => self.facts.uid_set(request, text, out),
            Variable::RealpathRoot => {
                self.facts.real_path(&text(&Value(vec![Part::Variable(Variable::DocumentRoot)])), out)
            }
            _ => false,
        }
    }

    fn set(&self, variable: &Variable, value: &[u8]) {
        if *variable == Variable::LimitRate {
            *self.facts.limit_rate.borrow_mut() = Some(value.to_vec());
        }
    }

    fn answers_with(&self, status: u16) {
        // The status that a page is for goes before its own.
        if self.facts.error_status.get() == 0 {
            self.facts.error_status.set(status);
        }
    }

    fn file(&self, path: &[u8], test: FileTest, text: &mut dyn FnMut(&Value) -> Vec<u8>) -> bool {
        self.facts.probe(path, test, text)
    }

    fn error(&self, message: &str) {
        self.facts.log(Level::Error, None, format_args!("{message}"));
    }
}

impl View<'_> {
    /// What has left, by the response if there is one, else by the one that has left already.
    fn left(&self) -> Left {
        let Sent { status, body, all, whole, .. } = self.sent;
        let own = Left { status, body, all, whole };
        if status > 0 {
            return own;
        }
        self.facts.rare.borrow().as_ref().and_then(|rare| rare.sent).unwrap_or(own)
    }

    /// A field of the response by its variable's name. Those that the connection adds are known to it alone.
    fn sent_field(&self, name: &[u8], text: &mut Text<'_>) -> bool {
        let Some(fields) = self.sent.fields else { return false };
        if name == b"connection" && self.sent.status == 101 {
            return text.bytes(b"upgrade");
        }
        let found = joined(fields, name, text.0);
        if !found
            && name == b"content_length"
            && let Some(length) = self.sent.length
        {
            return text.write(format_args!("{length}"));
        }
        found
    }
}

/// Letters of either case, an underscore for a dash.
pub(super) fn is_variable_of(name: &[u8], field: &[u8]) -> bool {
    name.len() == field.len()
        && field.iter().zip(name).all(|(a, b)| a.to_ascii_lowercase() == *b || (*a == b'-' && *b == b'_'))
}

/// All fields of a variable's name, with commas between them; whether there are any.
pub(super) fn joined(fields: &Fields, name: &[u8], out: &mut Vec<u8>) -> bool {
    let mut found = false;
    for (_, _, value) in fields.iter().filter(|(_, field, _)| is_variable_of(name, field)) {
        if std::mem::replace(&mut found, true) {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
    found
}

/// The end of a text that grows.
struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.0.extend_from_slice(bytes);
        true
    }

    /// Not found when it is empty.
    fn some(&mut self, text: &str) -> bool {
        !text.is_empty() && self.bytes(text.as_bytes())
    }

    fn write(&mut self, what: std::fmt::Arguments<'_>) -> bool {
        let mut text = String::new();
        let _ = text.write_fmt(what);
        self.bytes(text.as_bytes())
    }

    fn seconds(&mut self, time: std::time::Duration) -> bool {
        self.write(format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()))
    }
}

fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A cipher suite as OpenSSL calls it.
fn suite(number: u16, out: &mut Vec<u8>) {
    name_or_number(config::tls::suite_name(number), number, out);
}

/// A group as OpenSSL calls it.
fn group(number: u16, out: &mut Vec<u8>) {
    name_or_number(config::tls::group_name(number), number, out);
}

fn name_or_number(name: Option<&str>, number: u16, out: &mut Vec<u8>) {
    match name {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => out.extend_from_slice(format!("0x{number:04x}").as_bytes()),
    }
}

/// All of them, with colons between.
fn names(numbers: &[u16], show: fn(u16, &mut Vec<u8>), out: &mut Vec<u8>) {
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        show(*number, out);
    }
}

/// The user that Basic authentication names, whether or not anybody asks for a password.
fn basic_user(request: &Request) -> Option<Vec<u8>> {
    let value = request.fields.first(exchange::Name::Authorization)?;
    limits::auth_basic::Credentials::parse(value).map(|credentials| credentials.user().to_vec())
}

/// Line, fields and body: as they came, or as they would have come in HTTP/1.
fn length_of(request: &Request, body: u64) -> u64 {
    // What is no request line is not counted, as in nginx.
    if !request.line.is_empty() {
        return 0;
    }
    if request.head_length > 0 {
        return request.head_length as u64 + body;
    }
    let line = request.method.as_bytes().len() + request.target.len() + request.version.as_str().len() + 4;
    let fields: usize = request.fields.iter().map(|(_, name, value)| name.len() + value.len() + 4).sum();
    (line + fields + 2) as u64 + body
}

impl Facts<'_> {
    /// What is known of a connection by TLS only.
    fn of_tls(&self, text: &mut Text<'_>, show: impl FnOnce(&listen::tls::Negotiated, &mut Vec<u8>)) -> bool {
        let Some(tls) = &self.tls else { return false };
        show(tls, text.0);
        true
    }

    /// What the client's certificate says.
    fn certificate(&self, field: Field, text: &mut Text<'_>) -> bool {
        let client = self.tls.as_ref().and_then(|tls| tls.client.as_ref());
        client.is_some_and(|client| client.write(field, text.0))
    }

    fn of_certificate(&self, field: Field, show: impl FnOnce(&[u8])) -> bool {
        let mut value = Vec::new();
        let client = self.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let is_there = client.is_some_and(|client| client.write(field, &mut value));
        if is_there {
            show(&value);
        }
        is_there
    }

    /// `$server_name`
    fn server_name(&self) -> &[u8] {
        self.site.routing.server(self.server.get()).map_or(b"", |server| &server.name)
    }

    /// `$sent_trailer_…`: what is added here, and what another server's answer ended with where that is passed on.
    fn sent_trailer(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let http = self.site.http();
        let family = self.upstream.borrow().as_ref().map(|asked| asked.family);
        let pass = family.and_then(|f| http.settings[self.settings.get() as usize].passes[f as usize]);
        let passes = || {
            pass.and_then(|at| http.proxy_settings.get(at as usize)).is_some_and(|proxy| proxy.pass_trailers)
        };
        let passed = match &*self.upstream.borrow() {
            Some(asked) if passes() => asked.trailer(name, out),
            _ => false,
        };
        let rare = self.rare.borrow();
        let Some(own) = rare.as_ref().map(|rare| &rare.trailers).filter(|own| !own.is_empty()) else {
            return passed;
        };
        let from = out.len();
        if passed {
            out.extend_from_slice(b", ");
        }
        if joined(own, name, out) {
            return true;
        }
        out.truncate(from);
        passed
    }

    /// From the worker's taking the request to the end of its answer, which may not have come yet.
    fn run_time(&self) -> Option<std::time::Duration> {
        let pulled = self.pulled.get()?;
        let end = self.answer.borrow().as_ref().and_then(|seen| seen.end.get());
        Some(end.unwrap_or_else(Instant::now).saturating_duration_since(pulled))
    }

    /// How many times smaller the body has become: the whole number and hundredths, rounded.
    fn ratio(&self, sent: u64) -> Option<(u64, u64)> {
        let before = self.compressed.borrow().as_ref()?.bytes.get();
        let hundredths = u128::from(before) * 1000 / u128::from((sent > 0).then_some(sent)?);
        let hundredths = u64::try_from((hundredths + 5) / 10).unwrap_or(u64::MAX);
        Some((hundredths / 100, hundredths % 100))
    }

    fn tcp(&self, text: &mut Text<'_>, which: fn(&sys::TcpInfo) -> u32) -> bool {
        let info = self.ends.remote.and_then(|_| sys::tcp_info(self.socket));
        info.is_some_and(|info| text.write(format_args!("{}", which(&info))))
    }

    /// `$secure_link`
    fn secure_link(
        &self,
        request: &Request,
        text: &mut dyn FnMut(&Value) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        let settings = &self.site.http().settings[self.settings.get() as usize];
        match &settings.secure_link {
            None => false,
            Some(SecureLink::Secret(secret)) => {
                let link = limits::secure_link::check_secret(&request.target, secret);
                link.is_some_and(|link| Text(out).bytes(link))
            }
            Some(SecureLink::Checksum { link, md5 }) => {
                if self.link_busy.replace(true) {
                    let what = format_args!("cycle while evaluating variable \"secure_link\"");
                    self.log(Level::Error, Some(request), what);
                    return false;
                }
                let link = text(link);
                *self.link_expires.borrow_mut() = limits::secure_link::expires(&link).map(<[u8]>::to_vec);
                // It usually contains `$secure_link_expires`.
                let md5 = text(md5);
                self.link_busy.set(false);
                let checked = limits::secure_link::check(&link, &md5, since_1970().as_secs() as i64);
                Text(out).some(checked.link.as_str())
            }
        }
    }

    /// `$realpath_root`
    fn real_path(&self, root: &[u8], out: &mut Vec<u8>) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let root = std::path::Path::new(std::ffi::OsStr::from_bytes(root));
        match std::fs::canonicalize(root) {
            Ok(path) => Text(out).bytes(path.as_os_str().as_bytes()),
            Err(error) => {
                let root = root.display();
                self.log(Level::Critical, None, format_args!("realpath() \"{root}\" failed ({error})"));
                false
            }
        }
    }

    fn request_id(&self) -> u128 {
        if let Some(id) = self.id.get() {
            return id;
        }
        let id = fresh_id();
        self.id.set(Some(id));
        id
    }

    /// Looks as files are looked for: by `disable_symlinks` and through `open_file_cache`.
    fn probe(&self, path: &[u8], test: FileTest, text: &mut dyn FnMut(&Value) -> Vec<u8>) -> bool {
        use handlers::files::by_path::Kind;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        let Some(place) = self.place() else { return false };
        let mut looking = Looking { facts: self, text };
        let Some(look) = place.files.probe(path, Instant::now(), &mut looking) else { return false };
        match test {
            FileTest::File => look.kind == Kind::File,
            FileTest::Directory => look.kind == Kind::Directory,
            FileTest::Exists => true,
            FileTest::Executable => {
                let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
                std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
            }
        }
    }

    /// Whether `valid_referers` of the place has nothing against the request.
    fn has_valid_referer(&self, request: &Request) -> bool {
        let Some(place) = self.place() else { return true };
        let Some((valid, patterns, names)) = &place.referers else { return true };
        let matches = |pattern: limits::referer::Pattern, text: &[u8]| {
            let regex = match pattern {
                limits::referer::Pattern::Referer(at) => patterns.get(at),
                limits::referer::Pattern::ServerName(at) => names.get(at).and_then(Option::as_ref),
            };
            regex.is_some_and(|regex| regex.is_match(text).unwrap_or(false))
        };
        valid.is_valid(request.fields.first(exchange::Name::Referer), matches)
    }
}

/// For a look at a file in the middle of the rewrite phase.
struct Looking<'a> {
    facts: &'a Facts<'a>,
    text: &'a mut dyn FnMut(&Value) -> Vec<u8>,
}

impl FileContext for Looking<'_> {
    fn value(&mut self, value: &Value) -> Vec<u8> {
        (self.text)(value)
    }

    fn accepted(&mut self) -> AcceptEncoding {
        AcceptEncoding::of(&Fields::new())
    }

    fn utc_offset(&mut self) -> i32 {
        telemetry::utc_offset()
    }

    fn log(&mut self, at: LogLevel, text: std::fmt::Arguments<'_>) {
        self.facts.log(level(at), None, text);
    }
}

/// Not to be guessed from others that were seen.
fn fresh_id() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    // Each state has keys of its own, from the system's random numbers.
    let half = || u128::from(RandomState::new().hash_one(Instant::now()));
    half() << 64 | half()
}
