//! The typed, merged, checked result that every front end lowers to.
//!
//! It crosses from master to edge as JSON, but for [`Model::http`], which may be large and is packed. Paths are absolute, sizes are bytes, times are [`Duration`]s, and what
//! may be switched off is an [`Option`]: no consumer has to know that somewhere a zero means "no limit".

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod acme;
mod error_log;
pub mod http;
mod network;
pub mod tls;

pub use error_log::{ErrorLog, ErrorLogs, ErrorTarget};
pub use network::{InvalidNetwork, IpNetwork};

/// How many threads the workers of an application may have together.
pub const MOST_WORKER_THREADS: u16 = 4096;

/// Everything that one running instance is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Sockets to listen on, in the order given; at least one, no two alike.
    pub listeners: Vec<Listener>,
    /// The side that faces clients.
    pub edge: Edge,
    /// Whose word about the client's address and scheme is believed.
    pub forwarded: Forwarded,
    /// Directories served without the application. The longest matching `url` wins.
    pub statics: Vec<Location>,
    /// Where `X-Accel-Redirect` and `X-Sendfile` may point. The longest matching `url` wins.
    pub accel: Vec<Location>,
    /// How files are opened and sent.
    pub files: Files,
    /// Compression of responses; `None` is off.
    pub compress: Option<Compress>,
    /// The applications behind the edge: one by gunicorn's command line, any number by nginx.conf. Locations name them
    /// by their index.
    pub apps: Vec<App>,
    /// Servers and locations of an nginx.conf; `None`: the command line's one server with `statics` and the first
    /// application. It crosses by itself, see [`http::Http::pack`].
    #[serde(skip)]
    pub http: Option<Arc<http::Http>>,
    /// Certificates, and what servers offer to clients that speak TLS.
    #[serde(default)]
    pub tls: tls::Model,
    /// Certificates that come by themselves.
    #[serde(default)]
    pub acme: acme::Model,
    /// Identity and surroundings of the processes.
    pub process: Process,
    /// Access and error log.
    pub logs: Logs,
    /// Restart of the workers when a source file changes; `None` is off.
    pub reload: Option<Reload>,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// The address as the user wrote it, for messages.
    pub text: String,
    /// Length of the kernel's queue of connections not accepted yet.
    pub backlog: u32,
    /// Set `SO_REUSEPORT`, so that another program of the same user may bind the address too.
    pub reuse_port: bool,
    /// What else is asked of the kernel; the default asks nothing.
    #[serde(default, skip_serializing_if = "SocketOptions::is_default")]
    pub options: SocketOptions,
    /// Where an nginx.conf says it, as `FILE:LINE`: for who binds it.
    #[serde(skip)]
    pub place: Option<String>,
}

/// Options of a listening socket, and of the connections that it accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// `TCP_DEFER_ACCEPT`: accepted only when the client has sent something.
    pub deferred: bool,
    /// `TCP_FASTOPEN`: length of its queue.
    pub fastopen: Option<u32>,
    /// `SO_RCVBUF`, bytes.
    pub receive_buffer: Option<u64>,
    /// `SO_SNDBUF`, bytes.
    pub send_buffer: Option<u64>,
    /// `IPV6_V6ONLY`; `None` leaves it to the system.
    pub ipv6_only: Option<bool>,
    /// `SO_KEEPALIVE`; `None` leaves it to the system.
    pub keepalive: Option<KeepAlive>,
}

impl SocketOptions {
    /// Whether nothing is asked.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether and when the kernel asks a silent peer if it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeepAlive {
    /// Yes, by the system's times.
    On,
    /// No.
    Off,
    /// Yes, by these; `None` is the system's.
    Every {
        /// `TCP_KEEPIDLE`
        idle: Option<Duration>,
        /// `TCP_KEEPINTVL`
        interval: Option<Duration>,
        /// `TCP_KEEPCNT`
        count: Option<u32>,
    },
}

/// The address of a listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// IPv4 or IPv6. Port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A socket file, made with the mode that [`Process::umask`] leaves, owned by [`Process::uid`] and gid.
    Unix(PathBuf),
    /// A descriptor that was open and listening when the program started.
    Fd(i32),
}

/// The side that faces clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Event loops; `None` is one per core. See [`Edge::thread_count`].
    pub threads: Option<NonZeroU32>,
    /// Client connections of all threads together. Past it the oldest idle one gives way, then 503.
    pub connections: u32,
    /// What a request may be large.
    pub limits: Limits,
    /// What a client may be slow.
    pub timeouts: Timeouts,
    /// Where bodies wait.
    pub buffers: Buffers,
    /// Say `Server: monoceros` in responses that bring no `Server` of their own.
    pub server_tokens: bool,
    /// HTTP/2 by gunicorn's command line; `None` is HTTP/1 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<Http2>,
}

/// HTTP/2 as gunicorn's settings say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http2 {
    /// Also without TLS, with prior knowledge.
    pub clear_text: bool,
    /// Requests at once on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's body before somebody asks for them.
    pub window: u32,
    /// Bytes of a frame of a client's.
    pub max_frame: u32,
}

impl Edge {
    /// The number of event loops to start on this machine.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            Some(n) => n.get() as usize,
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// What a request may be large. Every limit is finite except that of the body, where the user may lift it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the request line without CR LF; above it 414.
    pub request_line: u32,
    /// Header fields; above it 431.
    pub fields: u32,
    /// Bytes of one field line, name and value, without CR LF; above it 431.
    pub field_size: u32,
    /// Bytes of the whole head, request line and fields; above it 431.
    pub head: u32,
    /// Bytes of the body; above it 413. `None` is no limit.
    pub body: Option<u64>,
    /// Requests on one connection; then it is closed.
    pub keepalive_requests: u64,
}

/// What a client may be slow. None is zero, except `keepalive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// From the first byte of a head (or from accept) to its end; then 408.
    pub header: Duration,
    /// Between two reads of a body; then 408.
    pub body: Duration,
    /// Between two writes that the client takes; then the connection is reset.
    pub send: Duration,
    /// Between two requests; zero closes after every response.
    pub keepalive: Duration,
    /// How long unread bytes of a client are taken and thrown away before the close.
    pub lingering: Duration,
}

/// Where bodies wait: memory first, then an unlinked temporary file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffers {
    /// Bytes of a request body held in memory.
    pub request: u64,
    /// Bytes of a response body held in memory.
    pub response: u64,
    /// Bytes of one response in a temporary file; past it the worker is slowed. Zero never uses a file.
    pub response_temp: u64,
    /// Bytes of all temporary files together.
    pub temp_space: u64,
    /// Directory of the temporary files; `None` is `$TMPDIR`, then `/tmp`.
    pub temp_dir: Option<PathBuf>,
}

/// Whose word about the client's address and scheme is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Peers whose `X-Forwarded-*` are believed. A peer on a Unix socket always is, as with gunicorn.
    pub trusted: Trusted,
    /// The same where clients are connected to the edge themselves (`app_pass`), if fewer are believed there.
    pub direct: Option<Trusted>,
    /// Fields that say "the client came by https", each with the value that says so.
    pub scheme_headers: Vec<SchemeHeader>,
    /// Fields with an underscore in the name (upper case, as `SCRIPT_NAME`) that a trusted peer may set.
    pub forwarder_headers: Vec<String>,
    /// What happens to other fields with an underscore in the name.
    pub header_map: HeaderMap,
}

/// A set of peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trusted {
    /// Everybody (`*`).
    Any,
    /// These networks; an empty list is nobody.
    Networks(Vec<IpNetwork>),
}

impl Trusted {
    /// Whether this peer is believed.
    pub fn contains(&self, peer: std::net::IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Networks(list) => list.iter().any(|n| n.contains(peer)),
        }
    }
}

/// A field that says "the client came by https".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemeHeader {
    /// The field's name in lower case, with dashes.
    pub name: String,
    /// The value that means https; any other means http.
    pub value: String,
}

/// What happens to a field with an underscore in its name, which would collide with its dashed twin in the
/// WSGI environ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderMap {
    /// The field is left out (nginx's `underscores_in_headers off`).
    Drop,
    /// The request is refused with 400.
    Refuse,
    /// The field is passed on.
    Dangerous,
}

/// A URL prefix and the directory it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Begins and ends with `/`, so that `/static/` can never match `/staticfoo` (nginx's alias trap).
    pub url: String,
    /// Absolute; a directory when it was checked.
    pub dir: PathBuf,
}

impl Model {
    /// Whether connections to servers come from addresses of others (`proxy_bind … transparent`).
    pub fn binds_transparently(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.proxy_settings.iter().any(|proxy| proxy.bind_transparent))
    }
}

/// How files are opened and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Symbolic links inside a served directory.
    pub symlinks: Symlinks,
    /// File names tried, in order, for a URL that ends in `/`.
    pub index: Vec<String>,
    /// Use `sendfile(2)` where the connection allows it.
    pub sendfile: bool,
}

/// Symbolic links inside a served directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Symlinks {
    /// Followed as long as they stay inside the directory.
    Beneath,
    /// Followed wherever they lead.
    Follow,
    /// Never followed: 404.
    Deny,
    /// Followed where link and target have the same owner (nginx's `disable_symlinks if_not_owner`).
    IfNotOwner,
}

/// Compression of responses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compress {
    /// Codings in the server's order of preference; at least one, no two alike.
    pub codings: Vec<Coding>,
    /// Media types in lower case without parameters: `text/html`, `text/*`, or `*` alone.
    pub types: Vec<String>,
    /// Bodies known to be shorter than this many bytes are left alone.
    pub min_length: u64,
    /// How hard each coding tries.
    pub levels: Levels,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// Brotli, RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

/// How hard each coding tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// 1 to 19.
    pub zstd: u32,
    /// 0 to 11.
    pub br: u32,
    /// 1 to 9.
    pub gzip: u32,
}

/// The application behind the edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Its name in nginx.conf, by which it is known over reloads; on gunicorn's command line always `application`.
    pub name: String,
    /// What to import.
    pub target: Target,
    /// How it is called.
    pub kind: Kind,
    /// How a worker runs requests.
    pub worker_class: WorkerClass,
    /// Worker processes; at least 1.
    pub workers: u32,
    /// Threads of a worker; at least 1, and 1 for [`WorkerClass::Sync`].
    pub threads: u32,
    /// A request that runs longer is answered with 504 and its worker replaced; `None` lets it run.
    pub timeout: Option<Duration>,
    /// How long requests may go on after a worker was told to end.
    pub graceful_timeout: Duration,
    /// How long a mold or a worker may take to be ready; `None` lets it.
    pub boot_timeout: Option<Duration>,
    /// A worker is replaced after this many requests; `None` is never.
    pub max_requests: Option<u64>,
    /// A random number from 0 to this is added to `max_requests` for each worker.
    pub max_requests_jitter: u64,
    /// Import the application before forking.
    pub preload: bool,
    /// A worker whose resident memory passes this many bytes is replaced; `None` is never.
    pub max_rss: Option<u64>,
    /// Requests that may wait for a worker; above it 503.
    pub queue_size: u32,
    /// How long a request may wait for a worker; then 503.
    pub queue_timeout: Duration,
    /// `SCRIPT_NAME`: empty, or begins with `/` and does not end with it.
    pub root_path: String,
    /// Hooks that the settings file defines, by gunicorn's names.
    pub hooks: Vec<String>,
    /// With an nginx.conf: whose word is believed where the application itself is asked. `None`: it is the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Box<Forwarded>>,
}

/// What to import: `module:object` or `module:factory(arguments)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Dotted module name.
    pub module: String,
    /// A name in the module; when `arguments` is there, the function that makes the application.
    pub object: String,
    /// What stands between the brackets of a factory call, Python literals not yet evaluated.
    pub arguments: Option<String>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.module, self.object)?;
        self.arguments.as_ref().map_or(Ok(()), |a| write!(f, "({a})"))
    }
}

/// How the application is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PEP 3333.
    Wsgi,
}

/// How a worker runs requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerClass {
    /// One request at a time, on the main thread.
    Sync,
    /// A pool of threads.
    Gthread,
}

/// Identity and surroundings of the processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// User name or number as given; `None` keeps that of the caller.
    pub user: Option<String>,
    /// Group name or number as given.
    pub group: Option<String>,
    /// The user's number; `None` keeps that of the caller.
    pub uid: Option<u32>,
    /// The group's number: of `group`, else the user's own; `None` keeps that of the caller.
    pub gid: Option<u32>,
    /// Bits taken from the mode of socket files and of files that workers make.
    pub umask: u32,
    /// Give the processes the user's supplementary groups.
    pub initgroups: bool,
    /// The working directory.
    pub chdir: PathBuf,
    /// Detach from the terminal.
    pub daemon: bool,
    /// Where the master writes its process id.
    pub pidfile: Option<PathBuf>,
    /// The name that `ps` shows.
    pub proc_name: String,
    /// Variables added to the environment of the application, in order.
    pub raw_env: Vec<(String, String)>,
    /// Directories put in front of `sys.path`.
    pub pythonpath: Vec<PathBuf>,
    /// The interpreter; `None` is `$VIRTUAL_ENV/bin/python`, then `python3` and `python` on `$PATH`.
    pub python: Option<PathBuf>,
    /// The settings file or `python:` module that was read.
    pub settings: Option<String>,
}

/// Access and error log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// `None` is no access log.
    pub access: Option<LogTarget>,
    /// gunicorn's format atoms, `%(h)s` and so on; the telemetry crate compiles it.
    pub access_format: String,
    /// Messages of all processes.
    pub error: LogTarget,
    /// nginx's `error_log`s, which say where messages go in nginx's form; `None` is gunicorn's form, to `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx: Option<ErrorLogs>,
    /// The least severity that is logged.
    pub level: LogLevel,
    /// Send what the application prints to the error log.
    pub capture_output: bool,
    /// A daemon keeps the caller's standard output and error.
    pub stdio_inheritance: bool,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, opened for appending, opened again on USR1.
    File(PathBuf),
}

/// Severity, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Python's names for them")]
pub enum LogLevel {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// Restart of the workers when a source file changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Files watched beside the imported modules; a directory stands for every file in it.
    pub extra_files: Vec<PathBuf>,
    /// Glob patterns of templates below the working directory; empty watches none.
    pub templates: Vec<String>,
}
