//! All of it, compiled from the model.

use config::model::http::{HeadSettings, Http, ServerId, SettingsId};

use crate::location::{Found, Location, LocationId, Locations};
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
    servers: Vec<Server>,
    locations: Vec<Location>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// `$server_name`
    pub name: Vec<u8>,
    /// What is needed before a location is known.
    pub head: HeadSettings,
    /// What holds outside of locations, and while the server's own rewrites run.
    pub settings: SettingsId,
    /// The rewrite directives of the block itself.
    pub ops: Ops,
    locations: Locations,
}

/// A model that cannot be compiled; the configuration's checks let none through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutingError {
    /// A pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Routing {
    /// Compiles the model.
    pub fn compile(http: &Http) -> Result<Self, RoutingError> {
        let mut locations = Vec::new();
        let mut servers = Vec::with_capacity(http.servers.len());
        for server in &http.servers {
            servers.push(Server {
                name: server.name.clone(),
                head: server.head.clone(),
                settings: server.settings,
                ops: Ops::compile(&server.rewrite, &http.defined)?,
                locations: Locations::compile(&server.locations, &http.defined, &mut locations)?,
            });
        }
        let mut routing = Self {
            listens: Listens::compile(&http.listens)?,
            variables: Variables::compile(&http.defined)?,
            servers,
            locations,
        };
        let uses = routing.uses();
        routing.variables.assume_empty(uses.set.into_iter());
        routing.variables.assume_absent(uses.captured.into_iter());
        Ok(routing)
    }

    /// A server. `None` for a number that the model has not.
    pub fn server(&self, server: ServerId) -> Option<&Server> {
        self.servers.get(server as usize)
    }

    /// A location that [`Routing::find`] or [`Routing::named`] found.
    pub fn location(&self, location: LocationId) -> Option<&Location> {
        self.locations.get(location as usize)
    }

    /// The location of a path in a server; the groups of a pattern that matched are then in `state`. `None`: the
    /// server's own settings hold.
    pub fn find(&self, server: &Server, path: &[u8], state: &mut State) -> Result<Option<Found>, MatchError> {
        server.locations.find(path, &self.locations, state)
    }

    /// The location of a name, with the at sign.
    pub fn named(&self, server: &Server, name: &[u8]) -> Option<LocationId> {
        server.locations.named(name)
    }

    /// Which variables `set` sets, and which patterns do.
    fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        let blocks = self.servers.iter().map(|server| &server.locations);
        let nested = self.locations.iter().map(Location::nested);
        let patterns = blocks.chain(nested).flat_map(Locations::regexes).chain(self.listens.regexes());
        uses.captured.extend(patterns.flat_map(crate::Regex::variables));
        uses.captured.extend(self.variables.captured());
        let ops = self.servers.iter().map(|server| &server.ops);
        ops.chain(self.locations.iter().map(|location| &location.ops)).for_each(|ops| ops.uses(&mut uses));
        uses
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

    fn http() -> Http {
        let mut shop = location(Matcher::Regex(regex(r"^/shop/(?<b>\w+)")), 5);
        shop.content = Content::App(3);
        shop.rewrite = vec![
            Op::Set { variable: defined("a"), value: value("$b-$1-$c") },
            Op::Set { variable: defined("d"), value: value("") },
        ];
        let locations = ModelLocations { regexes: vec![shop], ..ModelLocations::default() };
        let named = |name: &&str| Defined { name: (*name).to_owned(), source: Source::Stored };
        let names = vec![(ServerName::Regex(regex(r"^(?<c>\w+)\.example$")), 1)];
        Http {
            listens: vec![Listen { default_server: 0, names, ..Listen::default() }],
            servers: vec![server(ModelLocations::default()), server(locations)],
            defined: DEFINED.iter().map(named).collect(),
            ..Http::default()
        }
    }

    #[test]
    fn a_request_goes_all_the_way() {
        let (routing, mut state, edge) = (Routing::compile(&http()).unwrap(), State::new(), Edge::default());
        let mut request = request("/shop/shoes", "/shop/shoes", "");
        let listen = routing.listens.listen(0, None).unwrap();
        let server = routing.server(listen.find(b"my.example", &mut state).unwrap()).unwrap();
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
        let mut http = http();
        http.listens[0].names.push((ServerName::Regex(regex("(")), 0));
        let error = Routing::compile(&http).unwrap_err();
        assert!(error.to_string().starts_with("\"(\" is no regular expression"), "{error}");
    }

    #[test]
    fn routing_can_be_handed_to_its_thread() {
        let routing = std::thread::spawn(|| Routing::compile(&http()).unwrap()).join().unwrap();
        let server = routing.server(1).unwrap();
        assert!(routing.find(server, b"/shop/shoes", &mut State::new()).unwrap().is_some());
    }
}
