//! What holds in one place of the configuration, all of it merged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{IpNetwork, Value};
use crate::model::Symlinks;
use crate::model::tls::Verify;

/// What holds before a location is known: of the default server of the address, until the name is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeadSettings {
    /// `client_header_timeout`
    pub header_timeout: Duration,
    /// `client_header_buffer_size`, bytes.
    pub header_buffer: u64,
    /// `large_client_header_buffers`: how many.
    pub large_buffers: u32,
    /// `large_client_header_buffers`: bytes of each; no line is longer.
    pub large_buffer_size: u64,
    /// `max_headers`
    pub max_headers: u32,
    /// `ignore_invalid_headers`
    pub ignore_invalid: bool,
    /// `underscores_in_headers`
    pub underscores: bool,
    /// `merge_slashes`
    pub merge_slashes: bool,
    /// HTTP/2.
    #[serde(default)]
    pub http2: Http2,
    /// `ssl_verify_client`
    #[serde(default)]
    pub verify_client: Verify,
}

/// What holds for HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Http2 {
    /// `http2`
    pub enabled: bool,
    /// `http2_max_concurrent_streams`
    pub max_concurrent_streams: u32,
    /// `http2_body_preread_size`, bytes.
    pub preread: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { enabled: false, max_concurrent_streams: 128, preread: 64 * 1024 }
    }
}

/// `satisfy`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Satisfy {
    /// Each kind of access control must allow.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// `server_tokens`
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerTokens {
    /// Name and version.
    #[default]
    On,
    /// The name only.
    Off,
    /// Nothing.
    None,
    /// This.
    Text(Value),
}

/// Where files lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Root {
    /// `root`: the path is appended.
    Root(Value),
    /// `alias`: the path behind the location's is appended; in a regex location it is the file itself.
    Alias(Value),
}

/// `if_modified_since`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IfModifiedSince {
    /// The time must be the same.
    #[default]
    Exact,
    /// Never.
    Off,
    /// The response must not be younger.
    Before,
}

/// `error_page`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ErrorPage {
    /// Which statuses.
    pub statuses: Vec<u16>,
    /// `=200`; `Some(0)` is `=`: the status of what the path leads to.
    pub status: Option<u16>,
    /// A path, a named location (`@name`), or a URL.
    pub target: Value,
    /// Arguments that stand in the target, when it has no variables.
    pub args: Option<Vec<u8>>,
}

/// `try_files`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TryFiles {
    /// Paths, and whether each must be a directory (it ends in a slash).
    pub tries: Vec<(Value, bool)>,
    /// What comes when there is none of them.
    pub last: TryLast,
}

/// The end of a `try_files`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TryLast {
    /// `=404`
    Status(u16),
    /// `@name` or a path, with arguments if it has some.
    Uri(Value),
}

/// `autoindex_format`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub enum AutoindexFormat {
    #[default]
    Html,
    Xml,
    Json,
    Jsonp,
}

/// `autoindex` and its company.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Autoindex {
    /// `autoindex_format`
    pub format: AutoindexFormat,
    /// `autoindex_exact_size`
    pub exact_size: bool,
    /// `autoindex_localtime`
    pub localtime: bool,
}

/// `allow` and `deny`: the first that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccessRule {
    /// Whom it is about.
    pub who: Who,
    /// `deny`
    pub deny: bool,
}

/// Whom an access rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Who {
    /// `all`
    All,
    /// `unix:`
    Unix,
    /// An address or network.
    Network(IpNetwork),
}

/// `auth_basic`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuthBasic {
    /// The realm; `off` by a variable switches it off.
    pub realm: Value,
    /// `auth_basic_user_file`
    pub user_file: Value,
    /// Where it lies if a variable makes it relative.
    pub below: Vec<u8>,
}

/// `limit_req zone=…`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LimitReq {
    /// Index into the zones.
    pub zone: u32,
    /// Requests above the rate that are taken.
    pub burst: u64,
    /// Of those, so many are not delayed; `nodelay` is all.
    pub delay: u64,
}

/// `limit_conn zone n`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LimitConn {
    /// Index into the zones.
    pub zone: u32,
    /// So many at a time.
    pub limit: u32,
}

/// How a limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// `limit_req_status`, `limit_conn_status`
    pub status: u16,
    /// `limit_req_log_level`, `limit_conn_log_level`
    pub level: LogLevel,
    /// `limit_req_dry_run`, `limit_conn_dry_run`
    pub dry_run: bool,
}

/// nginx's levels of the error log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "syslog's names for them")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warn,
    #[default]
    Error,
    Crit,
    Alert,
    Emerg,
}

/// `set_real_ip_from` and its company.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RealIp {
    /// Who is believed.
    pub from: Vec<Who>,
    /// Where the address stands.
    pub header: RealIpHeader,
    /// `real_ip_recursive`
    pub recursive: bool,
}

/// `real_ip_header`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RealIpHeader {
    /// `X-Real-IP`
    XRealIp,
    /// `X-Forwarded-For`: the last address, or with `recursive` the last that is not believed.
    XForwardedFor,
    /// `proxy_protocol`
    ProxyProtocol,
    /// Any other field.
    Field(Vec<u8>),
}

/// `add_header`, `add_trailer`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddHeader {
    /// The field's name.
    pub name: Vec<u8>,
    /// Its value; none is sent when it is empty.
    pub value: Value,
    /// With every status, not only the usual ones.
    pub always: bool,
}

/// `expires`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expires {
    /// `epoch`
    Epoch,
    /// `max`
    Max,
    /// So many seconds from now; may be negative.
    Access(i64),
    /// `modified +…`: from the file's time.
    Modified(i64),
    /// `@15h30m`: the next time that the clock shows so many seconds after midnight.
    Daily(u32),
    /// One of the above, or `off`, in a variable.
    Variable(Value),
    /// `modified` with the time in a variable.
    ModifiedVariable(Value),
}

/// `gzip` and its company; `brotli` and `zstd` with the same words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compression {
    /// `gzip on`
    pub gzip: bool,
    /// `brotli on`
    pub brotli: bool,
    /// `zstd on`
    pub zstd: bool,
    /// `gzip_types`, … ; `None` is `*`. text/html is always among them.
    pub types: Option<Vec<Vec<u8>>>,
    /// `gzip_min_length`: by `Content-Length`.
    pub min_length: u64,
    /// `gzip_comp_level`
    pub gzip_level: u32,
    /// `brotli_comp_level`
    pub brotli_level: u32,
    /// `zstd_comp_level`
    pub zstd_level: u32,
    /// `gzip_vary`
    pub vary: bool,
    /// `gzip_http_version 1.0`
    pub http10: bool,
    /// `gzip_proxied`: for requests that a proxy passed on (`Via`).
    pub proxied: Vec<Proxied>,
    /// `gzip_disable`: by `User-Agent`.
    pub disable: Vec<super::Regex>,
}

/// `gzip_proxied`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub enum Proxied {
    Off,
    Expired,
    NoCache,
    NoStore,
    Private,
    NoLastModified,
    NoEtag,
    Auth,
    Any,
}

/// `gzip_static`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precompressed {
    /// Files as they are.
    #[default]
    Off,
    /// The compressed one beside it, for clients that take it.
    On,
    /// The compressed one for everybody.
    Always,
}

/// `access_log`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccessLog {
    /// Where to.
    pub target: AccessTarget,
    /// Index into the formats.
    pub format: u32,
    /// `buffer=`: bytes that are gathered; 0 writes each line.
    pub buffer: u64,
    /// `flush=`
    pub flush: Option<Duration>,
    /// `gzip=`: the level.
    pub gzip: Option<u32>,
    /// `if=`: only where this is neither empty nor `0`.
    pub condition: Option<Value>,
}

/// Where an access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccessTarget {
    /// A file; absolute, or with variables.
    File(Value),
    /// `syslog:server=…`
    Syslog(Syslog),
}

/// A syslog server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Syslog {
    /// `address:port` or `unix:path`.
    pub server: String,
    /// 0 to 23.
    pub facility: u8,
    /// 0 to 7.
    pub severity: u8,
    /// The tag.
    pub tag: String,
    /// Without the machine's name.
    pub nohostname: bool,
}

/// `open_file_cache`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenFileCache {
    /// `max=`
    pub max: u32,
    /// `inactive=`
    pub inactive: Duration,
    /// `open_file_cache_valid`
    pub valid: Duration,
    /// `open_file_cache_min_uses`
    pub min_uses: u32,
    /// `open_file_cache_errors`
    pub errors: bool,
}

/// What holds in a location, a server outside of its locations, or an `if`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Where files lie.
    pub root: Root,
    /// The path of the location whose `alias` that is: so many bytes of the path are replaced. [`usize::MAX`] is all of
    /// it: the `alias` of a regex location is the file itself, also in what lies within.
    pub alias_prefix: usize,
    /// `internal`: only for requests that come from within.
    pub internal: bool,
    /// `default_type`
    pub default_type: Vec<u8>,
    /// Index into the tables of types.
    pub types: u32,
    /// `index`
    pub index: Vec<Value>,
    /// `random_index`
    pub random_index: bool,
    /// `autoindex`; `None` is off.
    pub autoindex: Option<Autoindex>,
    /// `try_files`
    pub try_files: Option<TryFiles>,
    /// `error_page`
    pub error_pages: Vec<ErrorPage>,
    /// `msie_padding`
    pub msie_padding: bool,
    /// `msie_refresh`
    pub msie_refresh: bool,
    /// `recursive_error_pages`
    pub recursive_error_pages: bool,
    /// An application's or upstream's own error pages are replaced too (`proxy_intercept_errors`, `app_intercept_errors`).
    pub intercept_errors: bool,
    /// `app_set_header`
    pub app_set_headers: Vec<(Vec<u8>, Value)>,
    /// `disable_symlinks`, and how far gunicorn's command line lets files lead out.
    pub symlinks: Symlinks,
    /// `disable_symlinks … from=`
    pub symlinks_from: Option<Value>,
    /// `etag`
    pub etag: bool,
    /// `if_modified_since`
    pub if_modified_since: IfModifiedSince,
    /// `max_ranges`
    pub max_ranges: Option<u64>,
    /// `slice`, bytes; 0 is off.
    pub slice: u64,
    /// How parts of videos are made.
    pub mp4: Mp4,
    /// `open_file_cache`; `None` is off.
    pub open_file_cache: Option<OpenFileCache>,
    /// `sendfile`
    pub sendfile: bool,
    /// `http2_chunk_size`, bytes.
    pub http2_chunk: u32,
    /// `log_not_found`
    pub log_not_found: bool,
    /// `log_subrequest`
    pub log_subrequest: bool,
    /// `client_max_body_size`; `None` is no limit.
    pub max_body: Option<u64>,
    /// `client_body_timeout`
    pub body_timeout: Duration,
    /// `client_body_buffer_size`
    pub body_buffer: u64,
    /// `client_body_in_file_only`; `None` is off.
    pub body_in_file: Option<BodyFile>,
    /// `client_body_early_read`: the body is read before anything is done, if one of them says so. A server's.
    pub body_early: Vec<Value>,
    /// `subrequest_output_buffer_size`
    pub subrequest_buffer: u64,
    /// `send_timeout`
    pub send_timeout: Duration,
    /// `keepalive_timeout`; zero closes.
    pub keepalive_timeout: Duration,
    /// The second number of `keepalive_timeout`: `Keep-Alive: timeout=`.
    pub keepalive_header: Option<Duration>,
    /// `keepalive_disable`
    pub keepalive_disable: KeepaliveDisable,
    /// `keepalive_requests`
    pub keepalive_requests: u64,
    /// `keepalive_time`
    pub keepalive_time: Duration,
    /// `keepalive_min_timeout`
    pub keepalive_min_timeout: Duration,
    /// `lingering_close`: never, when needed, always.
    pub lingering_close: LingeringClose,
    /// `lingering_time`
    pub lingering_time: Duration,
    /// `lingering_timeout`
    pub lingering_timeout: Duration,
    /// `reset_timedout_connection`
    pub reset_timedout: bool,
    /// `chunked_transfer_encoding`
    pub chunked: bool,
    /// `limit_rate`: bytes a second; a value that is 0 is no limit.
    pub limit_rate: Option<Value>,
    /// `limit_rate_after`
    pub limit_rate_after: Option<Value>,
    /// `tcp_nodelay`
    pub tcp_nodelay: bool,
    /// `server_tokens`
    pub server_tokens: ServerTokens,
    /// `server_name_in_redirect`
    pub server_name_in_redirect: bool,
    /// `port_in_redirect`
    pub port_in_redirect: bool,
    /// `absolute_redirect`
    pub absolute_redirect: bool,
    /// `satisfy`
    pub satisfy: Satisfy,
    /// `allow`, `deny`
    pub access: Vec<AccessRule>,
    /// `auth_basic`; `None` is off.
    pub auth_basic: Option<AuthBasic>,
    /// `auth_delay`
    pub auth_delay: Duration,
    /// `auth_request`: the path that is asked.
    pub auth_request: Option<Value>,
    /// `auth_request_set`
    pub auth_request_set: Vec<(u32, Value)>,
    /// `valid_referers`
    pub valid_referers: Option<ValidReferers>,
    /// `set_real_ip_from` …
    pub real_ip: Option<RealIp>,
    /// `limit_req`
    pub limit_req: Vec<LimitReq>,
    /// How it refuses.
    pub limit_req_refusal: Refusal,
    /// `limit_conn`
    pub limit_conn: Vec<LimitConn>,
    /// How it refuses.
    pub limit_conn_refusal: Refusal,
    /// `add_header`
    pub add_headers: Vec<AddHeader>,
    /// `add_trailer`
    pub add_trailers: Vec<AddHeader>,
    /// `early_hints`: if one of them is neither empty nor `0`.
    pub early_hints: Vec<Value>,
    /// `expires`
    pub expires: Option<Expires>,
    /// `gzip` and others.
    pub compression: Compression,
    /// `gzip_static`
    pub gzip_static: Precompressed,
    /// `brotli_static`
    pub brotli_static: Precompressed,
    /// `zstd_static`
    pub zstd_static: Precompressed,
    /// `gunzip`
    pub gunzip: bool,
    /// `access_log`; empty is off.
    pub access_logs: Vec<AccessLog>,
    /// `open_log_file_cache`; `None` is off.
    pub log_file_cache: Option<LogFileCache>,
    /// `error_log`; index into the model's error logs. `None` is the main one.
    pub error_log: Option<u32>,
    /// `charset`, `source_charset`
    pub charset: Option<Charset>,
    /// `sub_filter` and others.
    pub sub_filters: Option<SubFilters>,
    /// `secure_link`
    pub secure_link: Option<SecureLink>,
    /// `dav_methods`; `None` is off.
    pub dav: Option<Box<Dav>>,
    /// `add_before_body`, `add_after_body`
    pub addition: Option<Box<Addition>>,
    /// `ssi`; `None` is off.
    pub ssi: Option<Box<Ssi>>,
    /// `mirror`; `None` is off.
    pub mirror: Option<Box<Mirror>>,
    /// `post_action`
    pub post_action: Option<Vec<u8>>,
    /// `userid`; `None` is off.
    pub user_id: Option<Box<UserId>>,
    /// Where requests are passed on, or could be: the index of how, in [`Http::proxy_settings`](super::Http), by
    /// [`Family`](super::Family).
    pub passes: [Option<u32>; super::FAMILIES],
    /// What is kept of answers, by [`CacheKind`](super::CacheKind): indexes into
    /// [`Http::cache_settings`](super::Http).
    pub caches: [Option<u32>; super::CACHE_KINDS],
}

impl Settings {
    /// Whether what other locations answer may become a part of responses.
    pub const fn composes(&self) -> bool {
        self.addition.is_some() || self.ssi.is_some()
    }
}

/// `dav_methods` and its company.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each method is on or off by itself")]
pub struct Dav {
    /// PUT
    pub put: bool,
    /// DELETE
    pub delete: bool,
    /// MKCOL
    pub mkcol: bool,
    /// COPY
    pub copy: bool,
    /// MOVE
    pub moves: bool,
    /// `create_full_put_path`
    pub full_path: bool,
    /// `min_delete_depth`
    pub min_delete_depth: u64,
    /// `dav_access`: the mode of files.
    pub access: u32,
}

/// `add_before_body`, `add_after_body`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Addition {
    /// What is asked for the beginning; empty is nothing.
    pub before: Vec<u8>,
    /// What is asked for the end.
    pub after: Vec<u8>,
    /// `addition_types`; `None` is `*`.
    pub types: Option<Vec<Vec<u8>>>,
}

/// `ssi` and its company.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ssi {
    /// `ssi_last_modified`
    pub last_modified: bool,
    /// `ssi_min_file_chunk`, bytes.
    pub min_file_chunk: u64,
    /// `ssi_silent_errors`
    pub silent_errors: bool,
    /// `ssi_types`; `None` is `*`.
    pub types: Option<Vec<Vec<u8>>>,
    /// `ssi_value_length`, bytes.
    pub value_length: u64,
}

/// `mirror`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mirror {
    /// What is asked with each request.
    pub paths: Vec<Vec<u8>>,
    /// `mirror_request_body`
    pub body: bool,
}

/// `keepalive_disable`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeepaliveDisable {
    /// After a POST of old versions of Internet Explorer.
    pub msie6: bool,
    /// After each request of Safari on a Mac.
    pub safari: bool,
}

/// `userid` and its company.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserId {
    /// Who gets an identifier, and of which form.
    pub mode: UserIdMode,
    /// `userid_service`
    pub service: Option<u32>,
    /// `userid_name`
    pub name: Vec<u8>,
    /// `userid_expires`; `None` is the browser's session, [`Duration::MAX`] as long as dates go.
    pub expires: Option<Duration>,
    /// What `userid_domain`, `userid_path` and `userid_flags` put behind it: `; path=/`.
    pub attributes: Vec<u8>,
    /// `userid_p3p`
    pub p3p: Vec<u8>,
    /// `userid_mark`
    pub mark: Option<u8>,
}

/// `userid`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UserIdMode {
    /// Nobody gets one; what clients bring is known to `$uid_got`.
    Log,
    /// `v1`: the first form, its numbers least byte first.
    V1,
    /// `on`
    On,
}

/// `client_body_in_file_only`: what becomes of the file when the request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BodyFile {
    /// It stays, and whoever reads it removes it.
    Keep,
    /// It is removed.
    Clean,
}

/// `open_log_file_cache`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogFileCache {
    /// So many names are known.
    pub max: u32,
    /// One that was not used for so long is forgotten, and its file closed.
    pub inactive: Duration,
    /// How often it is looked whether the name still means the open file.
    pub valid: Duration,
    /// A file stays open from so many lines on.
    pub min_uses: u64,
}

/// `lingering_close`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub enum LingeringClose {
    Off,
    #[default]
    On,
    Always,
}

/// `valid_referers`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValidReferers {
    /// `none`: no `Referer` at all.
    pub none: bool,
    /// `blocked`: one without `http://` or `https://`.
    pub blocked: bool,
    /// `server_names` and names; each with the beginning of a path, if one was given.
    pub names: Vec<(super::ServerName, Vec<u8>)>,
    /// Patterns, of what follows `http://` or `https://`.
    pub regexes: Vec<super::Regex>,
}

/// `charset` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Charset {
    /// Appended to `Content-Type`.
    pub charset: Option<Value>,
    /// `source_charset`: what bodies come in.
    pub source: Option<Value>,
    /// `charset_types`; `None` is `*`.
    pub types: Option<Vec<Vec<u8>>>,
    /// `override_charset`
    pub replace: bool,
}

/// `charset_map`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CharsetMap {
    /// A set of single bytes.
    pub from: Vec<u8>,
    /// Another, or `utf-8`.
    pub to: Vec<u8>,
    /// Which byte of the first is what in the second; in UTF-8 one character of up to three bytes.
    pub pairs: Vec<(u8, Vec<u8>)>,
}

/// `sub_filter`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubFilters {
    /// What is replaced, in either case of letters, by what.
    pub pairs: Vec<(Value, Value)>,
    /// `sub_filter_once`
    pub once: bool,
    /// `sub_filter_types`; `None` is `*`.
    pub types: Option<Vec<Vec<u8>>>,
    /// `sub_filter_last_modified`
    pub last_modified: bool,
}

/// `secure_link`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SecureLink {
    /// `secure_link` and `secure_link_md5`
    Checksum {
        /// Checksum and expiry of the request.
        link: Value,
        /// What the checksum is of.
        md5: Value,
    },
    /// `secure_link_secret`
    Secret(Vec<u8>),
}

/// `mp4_…`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mp4 {
    /// `mp4_max_buffer_size`, bytes
    pub max_buffer: u64,
    /// `mp4_start_key_frame`
    pub start_key_frame: bool,
}
