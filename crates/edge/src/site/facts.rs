//! What is known of a request beside its own bytes.

use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use config::model::http::{Root, ServerId, SettingsId};
use exchange::Peer;
use handlers::app::Outcome;

use super::Site;
use super::observed::Seen;
use super::proxy::Asked;
use super::slice::Slice;

/// See the module. It changes while the request goes its way, and variables read it: so all of it is in cells.
pub struct Facts<'a> {
    /// The connection is closed without a response because the configuration says so: 444.
    pub closed: Cell<bool>,
    /// What all event loops share.
    pub process: &'a crate::event_loop::Process,
    /// The site that serves.
    pub site: &'a Site,
    /// The connection's number.
    pub connection: u64,
    /// When it began.
    pub connected: Instant,
    /// Requests on it so far.
    pub requests: u64,
    /// When the request began.
    pub begun: Instant,
    /// It was there before the last response had left.
    pub pipelined: bool,
    /// The connection's descriptor, for what the kernel knows of it; it outlives the request.
    pub socket: std::os::fd::RawFd,
    /// What a PROXY protocol header said of the client.
    pub proxied: Option<std::sync::Arc<limits::proxy_protocol::Proxied>>,
    /// What TLS has agreed upon.
    pub tls: Option<std::sync::Arc<listen::tls::Negotiated>>,
    /// Who is at the two ends of the connection, whatever the request says.
    pub ends: Peer,
    /// The server.
    pub server: Cell<ServerId>,
    /// A location is asked on behalf of the client's request.
    pub inner: Cell<bool>,
    /// What holds.
    pub settings: Cell<SettingsId>,
    /// The host that the request is for, lower case, without its port.
    pub host: RefCell<Vec<u8>>,
    /// The port that the client asked for, if it named one.
    pub port: Cell<Option<u16>>,
    /// Ranges may be taken of the body: it is a file's.
    pub ranges: Cell<bool>,
    /// When to ask again, for a 503, in seconds.
    pub retry_after: Cell<Option<u64>>,
    /// The user of Basic authentication.
    pub user: RefCell<Option<Vec<u8>>>,
    /// `set $limit_rate`
    pub limit_rate: RefCell<Option<Vec<u8>>>,
    /// 16 random bytes, made when they are first asked for.
    pub id: Cell<Option<u128>>,
    /// The status of the page that `error_page` asks for, as long as there is none, or that a `return` answers with;
    /// 0: whatever it has.
    pub error_status: Cell<u16>,
    /// `$limit_req_status`
    pub rate_status: Cell<&'static str>,
    /// `$limit_conn_status`
    pub connections_status: Cell<&'static str>,
    /// The client's address before `real_ip_header` changed it.
    pub original: Cell<Option<SocketAddr>>,
    /// What the application's part was.
    pub outcome: Cell<Option<Outcome>>,
    /// When a worker took the request.
    pub pulled: Cell<Option<Instant>>,
    /// The application's answer.
    pub answer: RefCell<Option<Rc<Seen>>>,
    /// The body that was compressed.
    pub compressed: RefCell<Option<Rc<Seen>>>,
    /// `$secure_link_expires`
    pub link_expires: RefCell<Option<Vec<u8>>>,
    /// `$secure_link` is being found out.
    pub link_busy: Cell<bool>,
    /// The application's name.
    pub app: RefCell<Option<String>>,
    /// Bytes of the body that was received.
    pub body_length: Cell<u64>,
    /// How long a body is that came without saying so, once all of it is there.
    pub found_length: Cell<Option<u64>>,
    /// The body, where it lies in memory.
    pub body: RefCell<Option<bytes::Bytes>>,
    /// Some of the body was passed on as it came, and memory does not hold all of it: nobody else can get it.
    pub body_spent: Cell<bool>,
    /// Whom the request was passed on to.
    pub upstream: RefCell<Option<Box<Asked>>>,
    /// The response is another server's, which has weighed the request's conditions itself.
    pub passed: Cell<bool>,
    /// The path comes behind an `alias` as a whole: `try_files` in a pattern location has found it there.
    pub adds_to_alias: Cell<bool>,
    /// The request's conditions were not passed on, whoever answers: what is kept is for others too.
    pub keeps: Cell<bool>,
    /// The part of the answer that is asked for.
    pub slice: Cell<Slice>,
    /// What few requests need.
    pub rare: RefCell<Option<Box<Rare>>>,
}

/// See [`Facts::rare`].
#[derive(Debug, Default)]
pub struct Rare {
    /// The client's identifier, once somebody has asked for it.
    pub user_id: Option<super::user_id::Identifiers>,
    /// What became of the response, for those that are asked behind it.
    pub sent: Option<Left>,
    /// Whom the request was passed on to that was asked within this one last.
    pub asked: Option<Box<Asked>>,
    /// The file that the body is in.
    pub body_file: Option<Box<[u8]>>,
    /// Fields behind the body of the response.
    pub trailers: exchange::Fields,
    /// Those whose values are not known before it has ended.
    pub at_end: Option<Rc<filters::nginx::AtEnd>>,
    /// `timefmt` of a page.
    pub timefmt: Option<Vec<u8>>,
}

/// What has left of a response.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub body: u64,
    /// Bytes in all.
    pub all: u64,
    /// It has left as a whole.
    pub whole: bool,
}

impl<'a> Facts<'a> {
    /// Where files of this request lie, and how much of the path an `alias` replaces.
    pub fn root(&self) -> (&'a Root, usize) {
        let settings = &self.site.http().settings[self.settings.get() as usize];
        let replaced = if self.adds_to_alias.get() { 0 } else { settings.alias_prefix };
        (&settings.root, replaced)
    }
}

impl Facts<'_> {
    /// What few requests need, to be changed.
    pub fn rare(&self) -> RefMut<'_, Rare> {
        RefMut::map(self.rare.borrow_mut(), |rare| &mut **rare.get_or_insert_default())
    }

    /// The compiled settings of the place that the request is in.
    pub fn place(&self) -> Option<Rc<super::Place>> {
        let server = self.site.routing.server(self.server.get())?;
        Some(self.site.place(self.settings.get(), &server.head))
    }

    /// A line for the error log, with what tells whose request it is about.
    pub fn log(
        &self,
        level: telemetry::error_log::Level,
        request: Option<&exchange::Request>,
        message: std::fmt::Arguments<'_>,
    ) {
        self.log_about(level, request, None, None, message);
    }

    /// The same with what was going on, and who was to answer.
    pub fn log_about(
        &self,
        level: telemetry::error_log::Level,
        request: Option<&exchange::Request>,
        action: Option<&'static str>,
        upstream: Option<&[u8]>,
        message: std::fmt::Arguments<'_>,
    ) {
        use telemetry::error_log::{self, Context};
        if !error_log::enabled(level) {
            return;
        }
        let settings = self.site.http().settings.get(self.settings.get() as usize);
        let peer = request.and_then(|r| r.peer.remote).or(self.ends.remote);
        let client = peer.map_or_else(|| "unix:".to_owned(), |p| p.ip().to_canonical().to_string());
        let server = self.site.routing.server(self.server.get());
        let mut line = Vec::new();
        if let Some(request) = request {
            routing::request_variable(&config::model::http::Variable::Request, request, &mut line);
        }
        // As in nginx whoever was asked last is named in all that comes after.
        let last = match upstream {
            None if request.is_some() => {
                self.upstream.try_borrow().ok().and_then(|asked| asked.as_ref()?.last())
            }
            _ => None,
        };
        let context = Context {
            log: settings.and_then(|s| s.error_log),
            debug: self.site.debugs(self.ends.remote),
            connection: self.connection,
            action,
            upstream: upstream.or(last.as_deref()),
            client: Some(client.as_bytes()),
            server: server.map(|s| s.name.as_slice()),
            request: (!line.is_empty()).then_some(line.as_slice()),
            subrequest: request.filter(|_| self.inner.get()).map(|request| request.path.as_slice()),
            host: request.and_then(|r| r.fields.first(exchange::Name::Host)),
            referrer: request.and_then(|r| r.fields.first(exchange::Name::Referer)),
        };
        error_log::write_with(level, &context, message);
    }

    /// Whether a server was asked.
    pub fn passed_on(&self) -> bool {
        self.upstream.borrow().as_ref().is_some_and(|asked| !asked.attempts.is_empty())
    }

    /// A line for whoever looks for a defect.
    pub fn debug(&self, message: std::fmt::Arguments<'_>) {
        self.log(telemetry::error_log::Level::Debug, None, message);
    }

    /// Connections of all event loops.
    pub fn connections(&self) -> handlers::fixed::Connections {
        self.process.connections()
    }
}

/// nginx's levels as the log has them.
pub fn level(level: config::model::http::LogLevel) -> telemetry::error_log::Level {
    use config::model::http::LogLevel;
    use telemetry::error_log::Level;
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Notice => Level::Notice,
        LogLevel::Warn => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Crit => Level::Critical,
        LogLevel::Alert => Level::Alert,
        LogLevel::Emerg => Level::Emerg,
    }
}
