//! Who we are to servers, where variables say it.

use std::collections::VecDeque;
use std::time::Instant;

use config::model::http::Identity;
use config::model::tls::Which;
use exchange::Request;
use listen::tls::Loaded;
use telemetry::error_log::Level;
use upstream::Tls;

use super::super::certificates::{Kept, path_of, shown};
use super::super::visit::Visit;
use super::place::ProxyPlace;

/// So many of one place are remembered.
const MOST: usize = 64;

/// Those that one place was, and how TLS is spoken as each; the one that was last is the first. What is asked for as
/// somebody goes by his connections and sessions only.
#[derive(Default)]
pub struct Identities {
    kept: Kept,
    spoken: VecDeque<(Loaded, Tls)>,
}

impl Identities {
    fn showing(&mut self, loaded: Loaded, nobody: &Tls) -> Tls {
        let known = self.spoken.iter().position(|(one, _)| one.is_same(&loaded));
        let one = known.and_then(|at| self.spoken.remove(at)).unwrap_or_else(|| {
            let tls = nobody.showing(&loaded);
            (loaded, tls)
        });
        let tls = one.1.clone();
        self.spoken.push_front(one);
        self.spoken.truncate(MOST);
        tls
    }
}

impl Visit<'_, '_> {
    /// How TLS is spoken as who the request says; `Err`: it cannot be.
    pub(super) fn tls_as(&mut self, request: &Request, place: &ProxyPlace, nobody: &Tls) -> Result<Tls, u16> {
        let Some(Identity::Named(named)) = &place.settings.tls.identity else { return Ok(nobody.clone()) };
        let chain = self.value(&named.chain, request);
        if chain.is_empty() {
            return Ok(nobody.clone());
        }
        let key = self.value(&named.key, request);
        let paths = path_of(chain, &named.base).zip(path_of(key, &named.base));
        let Some((chain, key)) = paths else {
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("the name of a certificate is too long"),
            );
            return Err(500);
        };
        let mut identities = place.identities.borrow_mut();
        let loaded = match &place.settings.tls.kept {
            Some(cache) => identities.kept.read(chain, key, named, cache, Instant::now()),
            None => Loaded::read(&chain, &key, &named.passwords).map_err(|fault| (fault, chain, key)),
        };
        match loaded {
            Ok(loaded) => Ok(identities.showing(loaded, nobody)),
            Err((fault, chain, key)) => {
                let (what, path) = match fault.which {
                    Which::Key => ("certificate key", key),
                    _ => ("certificate", chain),
                };
                let words = format_args!("cannot load {what} \"{}\": {}", shown(&path), fault.why);
                self.facts.log(Level::Error, Some(request), words);
                Err(500)
            }
        }
    }
}
