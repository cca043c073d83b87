//! Servers and locations: what the edge does with a request, in nginx's terms.
//!
//! Everything is merged: a location's [`Settings`] hold what it inherited, so nobody looks at a parent. What many
//! places share stands once in a table of [`Http`] and is named by its index there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

mod cache;
mod proxy;
mod settings;
mod variable;

pub use cache::*;
pub use proxy::*;
pub use settings::*;
pub use variable::{Part, Value, Variable};

use super::IpNetwork;

/// Index into [`Http::settings`].
pub type SettingsId = u32;
/// Index into [`Http::servers`].
pub type ServerId = u32;
/// Index into [`Http::defined`].
pub type DefinedId = u32;

/// All of the `http` block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Http {
    /// For each of the model's listeners, in their order, who answers there.
    pub listens: Vec<Listen>,
    /// In the order of the file.
    pub servers: Vec<Server>,
    /// Variables that the configuration itself defines.
    pub defined: Vec<Defined>,
    /// What holds in a location, a server outside of its locations, or an `if`.
    pub settings: Vec<Box<Settings>>,
    /// Tables of MIME types by extension (lower case, without the dot).
    #[serde(with = "pairs")]
    pub types: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// `log_format`s; the first is `combined`.
    pub log_formats: Vec<LogFormat>,
    /// `limit_req_zone` and `limit_conn_zone`.
    pub zones: Vec<Zone>,
    /// `charset_map`s.
    pub charset_maps: Vec<CharsetMap>,
    /// Groups of servers that requests are passed on to.
    pub upstreams: Vec<Upstream>,
    /// What [`Content::Proxy`] names.
    pub proxies: Vec<ProxyPass>,
    /// `health_check`s.
    pub health_checks: Vec<HealthCheck>,
    /// `match`es.
    pub matches: Vec<HealthMatch>,
    /// What [`Settings::proxy`] names.
    pub proxy_settings: Vec<ProxySettings>,
    /// Where a `root` or `alias` lies that a variable makes relative.
    pub prefix: Vec<u8>,
    /// `proxy_cache_path`
    pub caches: Vec<CacheZone>,
    /// What [`Settings::caches`] names.
    pub cache_settings: Vec<CacheSettings>,
    /// Files of access logs that nothing is written to, as beside an `access_log off`: they are made all the same.
    pub unwritten_logs: Vec<Vec<u8>>,
}

/// What was packed is not what this program packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackError(postcard::Error);

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the http block cannot be packed or unpacked: {}", self.0)
    }
}

impl std::error::Error for PackError {}

impl Http {
    /// As it crosses from master to edge, which are always the same program: names of fields would be most of it.
    pub fn pack(&self) -> Result<Vec<u8>, PackError> {
        postcard::to_stdvec(self).map_err(PackError)
    }

    /// What [`Http::pack`] has packed.
    pub fn unpack(packed: &[u8]) -> Result<Self, PackError> {
        postcard::from_bytes(packed).map_err(PackError)
    }
}

/// Who answers on one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// Whom a request goes to whose name nobody has.
    pub default_server: ServerId,
    /// Names, in the order of the file.
    pub names: Vec<(ServerName, ServerId)>,
    /// A connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// A connection begins with a TLS handshake.
    pub tls: bool,
    /// HTTP/2 may be spoken.
    pub http2: bool,
    /// A wildcard address serves several; these answer only where the connection's own address is this one
    /// (a `listen` of the same port with an address of its own).
    pub by_address: Vec<(IpAddr, Listen)>,
}

/// A name of a server. All but the pattern are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerName {
    /// `www.example.com`; the empty name is for requests without `Host`.
    Exact(Vec<u8>),
    /// `*.example.com`: any name that ends in `.example.com`.
    Leading(Vec<u8>),
    /// `.example.com`: the name itself and any that ends in it behind a dot.
    Dotted(Vec<u8>),
    /// `www.example.*`: any name that begins with `www.example.`
    Trailing(Vec<u8>),
    /// `~^(?<user>.+)\.example\.net$`
    Regex(Regex),
}

/// A regular expression, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Regex {
    /// In PCRE's language.
    pub pattern: Vec<u8>,
    /// Letters match in either case.
    pub caseless: bool,
    /// Which variable each named group sets.
    pub names: Vec<(String, DefinedId)>,
}

/// A server block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `$server_name`: the first name as it was written.
    pub name: Vec<u8>,
    /// What it offers by TLS; `None`: as the default server of the address.
    pub tls: Option<super::tls::TlsId>,
    /// What is needed before a location is known.
    pub head: HeadSettings,
    /// What holds outside of locations, and while the server's own rewrites run.
    pub settings: SettingsId,
    /// The rewrite directives of the block itself.
    pub rewrite: Vec<Op>,
    /// Its locations.
    pub locations: Locations,
}

/// The locations of a server, or within a location.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Locations {
    /// `= uri`, `uri` and `^~ uri`, in the order of the file.
    pub prefixes: Vec<Location>,
    /// `~` and `~*`, in the order of the file.
    pub regexes: Vec<Location>,
    /// `@name`; only in a server.
    pub named: Vec<Location>,
}

/// A location block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Which paths it is for.
    pub matcher: Matcher,
    /// What holds in it.
    pub settings: SettingsId,
    /// Its rewrite directives.
    pub rewrite: Vec<Op>,
    /// Who answers.
    pub content: Content,
    /// In a `limit_except`, what holds for the other methods.
    pub limit_except: Option<Box<LimitExcept>>,
    /// Locations within it.
    pub locations: Locations,
    /// `location /path/` with a handler that passes requests on: `/path` is answered with a redirect to it.
    pub auto_redirect: bool,
}

/// Which paths a location is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Matcher {
    /// `= uri`
    Exact(Vec<u8>),
    /// `uri`, `^~ uri`
    Prefix {
        /// The beginning of the path.
        uri: Vec<u8>,
        /// No regex location is asked when this is the longest prefix.
        without_regex: bool,
    },
    /// `~ pattern`
    Regex(Regex),
    /// `@name`, with the at sign.
    Named(Vec<u8>),
}

/// `limit_except`: what holds for all methods but those named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitExcept {
    /// Methods that are not limited. GET allows HEAD.
    pub methods: Vec<String>,
    /// What holds for all others.
    pub settings: SettingsId,
    /// Who answers the others, if the block says so.
    pub content: Option<Content>,
}

/// Who makes the response.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// Files: `index`, `random_index`, `autoindex`, then the file itself.
    #[default]
    Files,
    /// `app_pass`: the application of this number.
    App(u32),
    /// The application of this number, at an address of its own: `bind`. Whoever connects may say for whom it speaks.
    Bound(u32),
    /// `proxy_pass`: the one of this number.
    Proxy(u32),
    /// `stub_status`
    StubStatus,
    /// `upstream_status`
    UpstreamStatus,
    /// `empty_gif`
    EmptyGif,
    /// `flv`: files, from `start=` on behind a head of their own.
    Flv,
    /// `mp4`: files, from `start=` to `end=` with an index of their own.
    Mp4,
}

/// One step of the rewrite phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// `set $variable value`
    Set {
        /// The variable.
        variable: DefinedId,
        /// Its value.
        value: Value,
    },
    /// `return`
    Return {
        /// The status; 444 closes without an answer.
        status: u16,
        /// The body, or where a redirect leads.
        text: Option<Value>,
    },
    /// `rewrite`
    Rewrite(Box<Rewrite>),
    /// `break`
    Break,
    /// `if`
    If(Box<If>),
}

/// `rewrite regex replacement [flag]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewrite {
    /// What the path must match.
    pub regex: Regex,
    /// The new path, with `?` and arguments if it has some; without the final `?`.
    pub replacement: Value,
    /// The request's own arguments are appended (the replacement does not end in `?`).
    pub keep_args: bool,
    /// What comes after it.
    pub flag: RewriteFlag,
}

/// What a `rewrite` that matched leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RewriteFlag {
    /// The next directive.
    None,
    /// A new search for a location.
    Last,
    /// The end of the rewrite phase, in the same location.
    Break,
    /// A redirect with 302 (also when the replacement begins with `http://`, `https://` or `$scheme`).
    Redirect,
    /// A redirect with 301.
    Permanent,
}

/// `if (condition) { … }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct If {
    /// When.
    pub condition: Condition,
    /// From then on this holds.
    pub settings: SettingsId,
    /// From then on this answers, if the block says so.
    pub content: Option<Content>,
    /// What is done.
    pub ops: Vec<Op>,
}

/// The condition of an `if`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// `($variable)`: neither empty nor `0`.
    True(Variable),
    /// `($variable = text)`, `!=`
    Equals {
        /// Left.
        variable: Variable,
        /// Right.
        value: Value,
        /// `!=`
        negated: bool,
    },
    /// `($variable ~ pattern)`, `~*`, `!~`, `!~*`
    Matches {
        /// Left.
        variable: Variable,
        /// Right.
        regex: Regex,
        /// `!~`, `!~*`
        negated: bool,
    },
    /// `(-f path)`, `-d`, `-e`, `-x` and their opposites.
    File {
        /// Which.
        test: FileTest,
        /// The path.
        path: Value,
        /// `!-f` …
        negated: bool,
    },
}

/// What is asked about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileTest {
    /// `-f`: a regular file.
    File,
    /// `-d`: a directory.
    Directory,
    /// `-e`: anything.
    Exists,
    /// `-x`: executable.
    Executable,
}

/// A variable that the configuration defines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Defined {
    /// Without the dollar sign, lower case.
    pub name: String,
    /// Where its value comes from.
    pub source: Source,
}

/// Where a defined variable's value comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// `set`, named captures and `auth_request_set`: what was stored last in this request; empty before. One that has
    /// the name of a variable that is there by itself (`$args`, `$limit_rate`) is only ever set, and sets that.
    Stored,
    /// `map`
    Map(Box<Map>),
    /// `geo`
    Geo(Box<Geo>),
    /// `split_clients`
    SplitClients(Box<SplitClients>),
}

/// `map value $variable { … }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// What is looked up, in lower case.
    pub input: Value,
    /// `hostnames`: keys may be wildcards.
    pub hostnames: bool,
    /// `volatile`: asked anew each time.
    pub volatile: bool,
    /// What nothing else matches.
    pub default: Value,
    /// Strings, lower case.
    pub exact: Vec<(Vec<u8>, Value)>,
    /// With `hostnames`: `*.example.com` and `.example.com`.
    pub leading: Vec<(ServerName, Value)>,
    /// With `hostnames`: `www.example.*`.
    pub trailing: Vec<(ServerName, Value)>,
    /// Patterns in the order of the file.
    pub regexes: Vec<(Regex, Value)>,
}

impl Map {
    /// What is looked up, and all that may come of it.
    pub fn texts(&self) -> impl Iterator<Item = &Value> {
        let names = self.leading.iter().chain(&self.trailing).map(|(_, text)| text);
        let exact = self.exact.iter().map(|(_, text)| text);
        [&self.input, &self.default]
            .into_iter()
            .chain(exact)
            .chain(names)
            .chain(self.regexes.iter().map(|(_, text)| text))
    }
}

/// `geo [$address] $variable { … }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geo {
    /// Whose address; `None` is the client's.
    pub address: Option<Variable>,
    /// Of networks the longest that contains it decides.
    pub networks: Vec<(IpNetwork, Vec<u8>)>,
    /// With `ranges`: first and last address, in order.
    pub ranges: Vec<(IpAddr, IpAddr, Vec<u8>)>,
    /// What nothing else matches.
    pub default: Vec<u8>,
    /// `proxy`: behind these the address is taken from X-Forwarded-For.
    pub proxies: Vec<IpNetwork>,
    /// `proxy_recursive`
    pub proxy_recursive: bool,
    /// `volatile`: asked anew each time.
    pub volatile: bool,
}

/// `split_clients value $variable { … }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitClients {
    /// What is hashed.
    pub input: Value,
    /// Hundredths of a percent (1 to 10,000) for each value; `None` is `*`, the rest.
    pub parts: Vec<(Option<u32>, Value)>,
}

/// `log_format`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogFormat {
    /// Its name.
    pub name: String,
    /// How variables are escaped.
    pub escape: LogEscape,
    /// The line, without its end.
    pub line: Value,
}

/// `escape=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEscape {
    /// `"`, `\` and what is not printable as `\xXX`; an empty variable is `-`.
    #[default]
    Default,
    /// As in a JSON string.
    Json,
    /// Not at all.
    None,
}

/// Shared memory of a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// What is counted apart; requests with an empty key are not counted.
    pub key: Value,
    /// In bytes.
    pub size: u64,
    /// `limit_req_zone`: thousandths of a request each second. `None`: `limit_conn_zone`.
    pub rate: Option<u64>,
}

/// JSON's objects have text for keys: a table of bytes crosses as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Table = BTreeMap<Vec<u8>, Vec<u8>>;

    pub fn serialize<S: Serializer>(tables: &[Table], serializer: S) -> Result<S::Ok, S::Error> {
        let tables: Vec<Vec<_>> = tables.iter().map(|table| table.iter().collect()).collect();
        tables.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Table>, D::Error> {
        let tables = Vec::<Vec<(Vec<u8>, Vec<u8>)>>::deserialize(deserializer)?;
        Ok(tables.into_iter().map(|table| table.into_iter().collect()).collect())
    }
}
