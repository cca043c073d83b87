//! All of it, compiled from the model.

use config::model::http::{HeadSettings, Http, ServerId, SettingsId};

use crate::location::{Found, Location, LocationId, Locations};
use crate::pattern::{MatchError, PatternError};
use crate::rewrite::{Ops, Uses};
use crate::server::Listens;
use crate::variables::{State, Variables};

/// The routing of a configuration.
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
