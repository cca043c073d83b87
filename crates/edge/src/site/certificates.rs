//! Certificates whose files variables name: read when a client asks for them, and kept if the configuration says so.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use config::model::http::{ServerId, Value};
use config::model::tls::{ByVariable, CertificateCache, Tls, Which};
use exchange::Request;
use listen::tls::{Hello, Loaded, Negotiated};
use routing::{Scope, State};
use telemetry::error_log::Level;

use super::environment::{Sent, View};
use super::facts::Facts;
use super::{Site, arrival};
use crate::connection::Ends;
use crate::event_loop::EventLoop;

/// Names are no longer, nor is what a variable holds in the place of a file.
const LONGEST: usize = 64 * 1024;

/// What was read, by the names of certificate and key.
#[derive(Default)]
pub(super) struct Kept(HashMap<(PathBuf, PathBuf), One>);

struct One {
    loaded: Loaded,
    /// When it was read.
    read: Instant,
    /// When it was last asked for.
    used: Instant,
}

impl Site {
    /// The certificates that a client gets who begins a handshake so; `None`, and a line in the log, if one cannot be
    /// used.
    pub fn certificates(
        &self,
        event_loop: &EventLoop,
        ends: &Ends,
        hello: &Hello<'_>,
        tls: &Tls,
    ) -> Option<Vec<Loaded>> {
        let listen = self.listen(ends)?;
        let mut state = self.take_state();
        let named = hello.server_name.and_then(|name| listen.find(name.as_bytes(), &mut state).ok());
        let server = named.unwrap_or(listen.default_server);
        let facts = self.facts_of(event_loop, ends, hello, server);
        let request = Request::default();
        let certificates = tls.by_variable.iter().map(|certificate| {
            let chain = self.path(&certificate.chain, certificate, &facts, &request, &mut state)?;
            let key = self.path(&certificate.key, certificate, &facts, &request, &mut state)?;
            let loaded = match &tls.kept {
                Some(cache) => {
                    self.certificates.borrow_mut().read(chain, key, certificate, cache, Instant::now())
                }
                None => {
                    Loaded::read(&chain, &key, &certificate.passwords).map_err(|fault| (fault, chain, key))
                }
            };
            loaded
                .inspect_err(|(fault, chain, key)| {
                    let (what, path) = match fault.which {
                        Which::Key => ("certificate key", key),
                        _ => ("certificate", chain),
                    };
                    facts.log(
                        Level::Error,
                        None,
                        format_args!("cannot load {what} \"{}\": {}", shown(path), fault.why),
                    );
                })
                .ok()
        });
        let certificates = certificates.collect();
        self.give_state(state);
        certificates
    }

    fn facts_of<'a>(
        &'a self,
        event_loop: &'a EventLoop,
        ends: &Ends,
        hello: &Hello<'_>,
        server: ServerId,
    ) -> Box<Facts<'a>> {
        let mut facts = arrival::facts_of_connection(event_loop, self, -1, ends, Instant::now(), server);
        facts.tls = Some(Arc::new(Negotiated {
            server_name: hello.server_name.map(Into::into),
            ..Negotiated::default()
        }));
        facts
    }

    /// Which file it is; `None`: no name is that long.
    fn path(
        &self,
        value: &Value,
        certificate: &ByVariable,
        facts: &Facts<'_>,
        request: &Request,
        state: &mut State,
    ) -> Option<PathBuf> {
        let view = View { facts, sent: Sent::default() };
        let mut name = Vec::new();
        let scope = Scope { request, environment: &view };
        self.routing.variables.evaluate(value, state, scope, &mut name);
        path_of(name, &certificate.base)
    }
}

/// Which file a name means, or `data:` with what it would hold; `None`: no name is that long.
pub(super) fn path_of(name: Vec<u8>, base: &Path) -> Option<PathBuf> {
    if name.starts_with(b"data:") {
        return (name.len() <= LONGEST).then(|| OsString::from_vec(name).into());
    }
    Some(base.join(Path::new(&OsString::from_vec(name))))
}

impl Kept {
    pub(super) fn read(
        &mut self,
        chain: PathBuf,
        key: PathBuf,
        certificate: &ByVariable,
        cache: &CertificateCache,
        now: Instant,
    ) -> Result<Loaded, (config::model::tls::Fault, PathBuf, PathBuf)> {
        let names = (chain, key);
        if let Some(known) = self.0.get_mut(&names)
            && now.saturating_duration_since(known.read) <= cache.valid
            && now.saturating_duration_since(known.used) <= cache.inactive
        {
            known.used = now;
            return Ok(known.loaded.clone());
        }
        let loaded = match Loaded::read(&names.0, &names.1, &certificate.passwords) {
            Ok(loaded) => loaded,
            Err(fault) => {
                self.0.remove(&names);
                return Err((fault, names.0, names.1));
            }
        };
        if self.0.len() >= cache.max as usize && !self.0.contains_key(&names) {
            self.0.retain(|_, one| now.saturating_duration_since(one.used) <= cache.inactive);
            let oldest = self.0.iter().min_by_key(|(_, one)| one.used).map(|(names, _)| names.clone());
            if self.0.len() >= cache.max as usize
                && let Some(oldest) = oldest
            {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(names, One { loaded: loaded.clone(), read: now, used: now });
        Ok(loaded)
    }
}

/// A name for the log: of a key that stands in a variable, nothing is shown.
pub(super) fn shown(path: &Path) -> String {
    if path.as_os_str().as_bytes().starts_with(b"data:") {
        return "data:".to_owned();
    }
    path.display().to_string()
}
