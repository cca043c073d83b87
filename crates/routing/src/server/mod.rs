//! Who answers on a listener, by the host that is asked for.

mod host;

use std::collections::HashMap;
use std::net::IpAddr;

use config::model::http::{self as model, ServerId, ServerName};

use crate::names::Names;
use crate::pattern::{MatchError, PatternError, PatternList, Regex};
use crate::variables::State;

pub use host::{Host, InvalidHost, validate_host};

/// Who answers, for each listener of the model.
#[derive(Debug, Default)]
pub struct Listens(Vec<Listen>);

/// Who answers on one listener, or on one of its addresses.
#[derive(Debug)]
pub struct Listen {
    /// Whom a request goes to whose name nobody has.
    pub default_server: ServerId,
    /// A connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// A connection begins with a TLS handshake.
    pub tls: bool,
    /// HTTP/2 may be spoken.
    pub http2: bool,
    names: Names<ServerId>,
    patterns: PatternList,
    pattern_servers: Vec<ServerId>,
    by_address: HashMap<IpAddr, Listen>,
}

impl Listens {
    /// Compiles the model's listens.
    pub fn compile(listens: &[model::Listen]) -> Result<Self, PatternError> {
        listens.iter().map(Listen::compile).collect::<Result<_, _>>().map(Self)
    }

    /// Who answers on connections of listener number `listener`, accepted on the address `local` (`None` on a Unix
    /// socket). `None` if there is no such listener.
    pub fn listen(&self, listener: usize, local: Option<IpAddr>) -> Option<&Listen> {
        let listen = self.0.get(listener)?;
        if listen.by_address.is_empty() {
            return Some(listen);
        }
        let own = local.and_then(|address| listen.by_address.get(&address.to_canonical()));
        Some(own.unwrap_or(listen))
    }

    pub(crate) fn regexes(&self) -> impl Iterator<Item = &Regex> {
        let all = self.0.iter().flat_map(|listen| std::iter::once(listen).chain(listen.by_address.values()));
        all.flat_map(|listen| listen.patterns.regexes())
    }
}

impl Listen {
    fn compile(listen: &model::Listen) -> Result<Self, PatternError> {
        let mut names = Names::new();
        let (mut regexes, mut pattern_servers) = (Vec::new(), Vec::new());
        for (name, server) in &listen.names {
            match name {
                ServerName::Regex(regex) => {
                    regexes.push(Regex::compile(regex)?);
                    pattern_servers.push(*server);
                }
                name => names.add(name, *server),
            }
        }
        let by_address = listen
            .by_address
            .iter()
            .map(|(address, listen)| Ok((address.to_canonical(), Self::compile(listen)?)));
        Ok(Self {
            default_server: listen.default_server,
            proxy_protocol: listen.proxy_protocol,
            tls: listen.tls,
            http2: listen.http2,
            names,
            patterns: PatternList::new(regexes),
            pattern_servers,
            by_address: by_address.collect::<Result<_, _>>()?,
        })
    }

    /// The server of a host (as [`validate_host`] gives it; empty if the request names none): the exact name, else
    /// the longest wildcard in front, else the longest behind, else the first pattern that matches, else the default.
    /// A pattern's groups are then in `state`.
    pub fn find(&self, host: &[u8], state: &mut State) -> Result<ServerId, MatchError> {
        if let Some(server) = self.names.find(host) {
            return Ok(server);
        }
        if host.is_empty() || self.pattern_servers.is_empty() {
            return Ok(self.default_server);
        }
        let found = self.patterns.first(host, state)?;
        Ok(found.map_or(self.default_server, |index| self.pattern_servers[index]))
    }
}
