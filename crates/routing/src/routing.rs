//! All of it, compiled from the model.

use std::cell::OnceCell;
use std::sync::Arc;

use config::model::http::{self as model, Http, ServerId};

use crate::location::{Found, Index, Location, Locations};
use crate::pattern::{MatchError, PatternError};
use crate::rewrite::{Ops, Uses};
use crate::server::Listens;
use crate::variables::{State, Variables};

/// The routing of a configuration. It may be compiled in another thread than the one that uses it.
#[derive(Debug)]
pub struct Routing {
    /// Who answers on which listener.
    pub listens: Listens,
    /// The variables that the configuration defines.
    pub variables: Variables,
    http: Arc<Http>,
    /// Each compiled when the first request comes to it: most of ten thousand servers sleep.
    servers: Vec<OnceCell<Result<Box<Server>, MatchError>>>,
}

/// The blocks of a server.
#[derive(Debug)]
struct Server {
    ops: Ops,
    /// The locations of all levels.
    all: Vec<Location>,
    locations: Locations,
}

/// A location's number in its [`Routing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocationId {
    server: ServerId,
    location: Index,
}

/// A model that cannot be compiled; the configuration's checks let none through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Routing {
    /// Compiles the model, but for what the blocks of a server hold.
    pub fn compile(http: &Arc<Http>) -> Result<Self, RoutingError> {
        let mut routing = Self {
            listens: Listens::compile(&http.listens)?,
            variables: Variables::compile(&http.defined)?,
            http: Arc::clone(http),
            servers: http.servers.iter().map(|_| OnceCell::new()).collect(),
        };
        let uses = routing.uses();
        routing.variables.assume_empty(uses.set.into_iter());
        routing.variables.assume_absent(uses.captured.into_iter());
        Ok(routing)
    }

    /// A server. `None` for a number that the model has not.
    pub fn server(&self, server: ServerId) -> Option<&model::Server> {
        self.http.servers.get(server as usize)
    }

    /// The rewrite directives of a server itself; none of a server that the model has not.
    pub fn ops(&self, server: ServerId) -> Result<Option<&Ops>, MatchError> {
        Ok(self.blocks(server)?.map(|blocks| &blocks.ops))
    }

    /// A location that [`Routing::find`] or [`Routing::named`] found.
    pub fn location(&self, id: LocationId) -> Option<&Location> {
        self.blocks(id.server).ok()??.all.get(id.location as usize)
    }

    /// The location of a path in a server; the groups of a pattern that matched are then in `state`. `None`: the
    /// server's own settings hold.
    pub fn find(
        &self,
        server: ServerId,
        path: &[u8],
        state: &mut State,
    ) -> Result<Option<Found<LocationId>>, MatchError> {
        let Some(blocks) = self.blocks(server)? else { return Ok(None) };
        let found = blocks.locations.find(path, &blocks.all, state)?;
        Ok(found.map(|Found { location, redirect }| Found {
            location: LocationId { server, location },
            redirect,
        }))
    }

    /// The location of a name, with the at sign.
    pub fn named(&self, server: ServerId, name: &[u8]) -> Result<Option<LocationId>, MatchError> {
        let location = self.blocks(server)?.and_then(|blocks| blocks.locations.named(name));
        Ok(location.map(|location| LocationId { server, location }))
    }

    fn blocks(&self, server: ServerId) -> Result<Option<&Server>, MatchError> {
        let (Some(cell), Some(model)) = (self.servers.get(server as usize), self.server(server)) else {
            return Ok(None);
        };
        let compiled = cell.get_or_init(|| Ok(Box::new(Server::compile(model, &self.http.defined)?)));
        compiled.as_ref().map(|blocks| Some(blocks.as_ref())).map_err(Clone::clone)
    }

    /// Which variables `set` sets, and which patterns do.
    fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        for server in &self.http.servers {
            uses.add(&server.rewrite, &self.http.defined);
            uses.add_locations(&server.locations, &self.http.defined);
        }
        uses.captured.extend(self.listens.regexes().flat_map(crate::Regex::variables));
        uses.captured.extend(self.variables.captured());
        uses
    }
}

impl Server {
    fn compile(server: &model::Server, defined: &[model::Defined]) -> Result<Self, PatternError> {
        let mut all = Vec::new();
        let locations = Locations::compile(&server.locations, defined, &mut all)?;
        Ok(Self { ops: Ops::compile(&server.rewrite, defined)?, all, locations })
    }
}

#[cfg(test)]
mod tests {
    use config::model::http::{
        Content, Defined, Listen, Locations as ModelLocations, Matcher, Op, ServerName, Source, Variable,
    };

    use super::*;
    use crate::testing::{DEFINED, Edge, defined, location, regex, request, server, value, variable};
    use crate::{Outcome, Scope};

    fn http() -> Arc<Http> {
        let mut shop = location(Matcher::Regex(regex(r"^/shop/(?<b>\w+)")), 5);
        shop.content = Content::App(3);
        shop.rewrite = vec![
            Op::Set { variable: defined("a"), value: value("$b-$1-$c") },
            Op::Set { variable: defined("d"), value: value("") },
        ];
        let locations = ModelLocations { regexes: vec![shop], ..ModelLocations::default() };
        let named = |name: &&str| Defined { name: (*name).to_owned(), source: Source::Stored };
        let names = vec![(ServerName::Regex(regex(r"^(?<c>\w+)\.example$")), 1)];
        Arc::new(Http {
            listens: vec![Listen { default_server: 0, names, ..Listen::default() }],
            servers: vec![server(ModelLocations::default()), server(locations)],
            defined: DEFINED.iter().map(named).collect(),
            ..Http::default()
        })
    }

    #[test]
    fn a_request_goes_all_the_way() {
        let (routing, mut state, edge) = (Routing::compile(&http()).unwrap(), State::new(), Edge::default());
        let mut request = request("/shop/shoes", "/shop/shoes", "");
        let listen = routing.listens.listen(0, None).unwrap();
        let server = listen.find(b"my.example", &mut state).unwrap();
        let found = routing.find(server, &request.path, &mut state).unwrap().unwrap();
        let location = routing.location(found.location).unwrap();
        assert_eq!(location.content, Content::App(3));
        let rewritten = routing.variables.run(&location.ops, &mut request, &mut state, &edge).unwrap();
        assert_eq!(rewritten.outcome, Outcome::Continue);
        let scope = Scope { request: &request, environment: &edge };
        assert_eq!(*routing.variables.text(&value("$a"), &mut state, scope), *b"shoes-shoes-my");
    }

    #[test]
    fn only_what_set_sets_alone_is_empty_before() {
        let (routing, edge, request) =
            (Routing::compile(&http()).unwrap(), Edge::default(), request("/", "/", ""));
        let is_found = |name: &str| {
            let scope = Scope { request: &request, environment: &edge };
            routing.variables.variable(&variable(name), &mut State::new(), scope, &mut Vec::new())
        };
        assert!(is_found("a") && is_found("d"));
        assert!(!is_found("b") && !is_found("c"));
        assert!(matches!(variable("args"), Variable::Args));
    }

    #[test]
    fn a_pattern_that_is_none_is_reported() {
        let mut http = Arc::unwrap_or_clone(http());
        http.servers.push(server(ModelLocations {
            regexes: vec![location(Matcher::Regex(regex("(")), 0)],
            ..ModelLocations::default()
        }));
        let routing = Routing::compile(&Arc::new(http.clone())).unwrap();
        let error = routing.find(2, b"/", &mut State::new()).unwrap_err();
        assert!(error.to_string().contains("\"(\""), "{error}");
        assert!(routing.find(1, b"/", &mut State::new()).is_ok(), "the other servers go on");
        http.listens[0].names.push((ServerName::Regex(regex("(")), 0));
        let error = Routing::compile(&Arc::new(http)).unwrap_err();
        assert!(error.to_string().starts_with("\"(\" is no regular expression"), "{error}");
    }

    #[test]
    fn routing_can_be_handed_to_its_thread() {
        let routing = std::thread::spawn(|| Routing::compile(&http()).unwrap()).join().unwrap();
        assert!(routing.find(1, b"/shop/shoes", &mut State::new()).unwrap().is_some());
    }
}
