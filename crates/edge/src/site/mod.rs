//! nginx.conf at run time: what one event loop compiles of `model.http`, and the way of a request through it.

mod access;
mod after;
mod answer;
mod application;
mod arrival;
mod certificates;
mod client_body;
mod compose;
mod content;
mod dav;
mod environment;
mod facts;
mod kept;
mod known;
mod locate;
mod log;
mod observed;
mod pace;
mod pieces;
mod place;
mod proxy;
mod refused;
mod send;
mod slice;
mod ssi;
mod subrequest;
mod upstream_status;
mod user_id;
mod visit;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use config::model::Address;
use config::model::http::{DefinedId, Http, Http2, Part, ServerId, SettingsId, Value, Variable};
use config::model::tls::TlsId;
use fnv::FnvHashMap;
use handlers::app::App;
use handlers::files::by_path::{Memory, Types};
use limits::auth_basic::{UserFiles, Verified};
use protocol::{h1, h2};
use routing::{Routing, State};
use upstream::{Pool, Resolver};

use crate::configuration::Configuration;
use crate::connection::Ends;

pub use facts::Facts;
pub use known::Known;
pub use place::Place;
pub(crate) use proxy::Asked;
pub use send::serve;

/// Bytes of small files that a loop keeps in memory for all places together.
const FILE_MEMORY: u64 = 8 * 1024 * 1024;
/// Passwords that were found right, and for how many milliseconds they are remembered.
const VERIFIED: (usize, u64) = (1024, 60_000);
/// Per-request states that a loop keeps.
const STATES: usize = 256;

/// The compiled `http` block of one event loop.
pub struct Site {
    /// No other site of this thread has had it.
    number: u64,
    configuration: Arc<Configuration>,
    /// For those who go on behind the request: it is in an `Rc` of its own.
    shared: OnceCell<Weak<Self>>,
    /// Servers, locations, variables.
    pub routing: Routing,
    /// By [`SettingsId`], each compiled when it is first needed: most of ten thousand servers sleep.
    places: Vec<OnceCell<Rc<Place>>>,
    /// The applications, in the model's order.
    apps: Vec<Rc<App>>,
    listeners: FnvHashMap<Address, usize>,
    /// What holds on a fresh connection of each listener.
    heads: Vec<Rc<h1::Settings>>,
    types: Vec<Rc<Types>>,
    memory: Rc<Memory>,
    compressed: filters::nginx::Shared,
    user_files: RefCell<UserFiles>,
    /// Certificates whose files variables name.
    certificates: RefCell<certificates::Kept>,
    verified: RefCell<Verified>,
    #[expect(clippy::vec_box, reason = "a state is not moved about")]
    states: RefCell<Vec<Box<State>>>,
    /// Idle connections to the groups of servers, in the model's order.
    pools: Vec<Rc<Pool>>,
    /// Who is asked for names, by how the configuration has them.
    resolvers: RefCell<HashMap<config::model::http::Resolver, Rc<Resolver>>>,
    /// For what must not be kept.
    no_pool: Rc<Pool>,
    /// A variable of the configuration that is called `$uid_reset`.
    uid_reset: Option<Value>,
}

impl Site {
    /// Compiles the configuration. The error is one that only shows here.
    pub fn compile(
        configuration: &Arc<Configuration>,
        http: &Arc<Http>,
        apps: &[Rc<App>],
    ) -> io::Result<Rc<Self>> {
        let routing = Routing::compile(http).map_err(io::Error::other)?;
        let model = &configuration.model;
        let listeners = model.listeners.iter().enumerate().map(|(i, l)| (l.address.clone(), i)).collect();
        let heads = http.listens.iter().map(|listen| {
            let server = &http.servers[listen.default_server as usize];
            Rc::new(place::h1_settings(&server.head, &http.settings[server.settings as usize], true))
        });
        let heads = heads.collect();
        let site = Rc::new(Self {
            number: known::next_number(),
            configuration: Arc::clone(configuration),
            shared: OnceCell::new(),
            routing,
            places: http.settings.iter().map(|_| OnceCell::new()).collect(),
            apps: apps.to_vec(),
            listeners,
            heads,
            types: http.types.iter().map(|types| Rc::new(types.clone())).collect(),
            memory: Memory::new(FILE_MEMORY),
            compressed: filters::nginx::Shared::new(&http.charset_maps, &http.settings),
            user_files: RefCell::default(),
            certificates: RefCell::default(),
            verified: RefCell::new(Verified::new(VERIFIED.0, VERIFIED.1).map_err(io::Error::other)?),
            states: RefCell::default(),
            pools: configuration.groups.iter().map(|group| Rc::new(Pool::of(group))).collect(),
            resolvers: RefCell::default(),
            no_pool: Rc::new(Pool::new(None)),
            uid_reset: http
                .defined
                .iter()
                .position(|defined| defined.name == "uid_reset")
                .map(|id| Value(vec![Part::Variable(Variable::Defined(id as DefinedId))])),
        });
        let _ = site.shared.set(Rc::downgrade(&site));
        Ok(site)
    }

    /// Itself, for who goes on behind the request.
    fn shared(&self) -> Option<Rc<Self>> {
        self.shared.get().and_then(Weak::upgrade)
    }

    /// The model that this was compiled from.
    pub fn http(&self) -> &Http {
        // A site is only compiled from a model that has it.
        self.configuration.model.http.as_ref().expect("a site without its model")
    }

    /// What a fresh connection to this address is served with; `None` when nobody listens there any more.
    pub fn head_of(&self, address: &Address) -> Option<&Rc<h1::Settings>> {
        self.heads.get(self.listener_at(address)?)
    }

    /// The same for the address of a connection.
    pub fn head(&self, ends: &Ends) -> Option<&Rc<h1::Settings>> {
        self.heads.get(self.listener(ends)?)
    }

    /// Whether a connection to this address begins with a PROXY protocol header.
    pub fn is_proxied(&self, address: &Address, local: Option<IpAddr>) -> bool {
        let Some(listen) = self.listener_at(address).and_then(|at| self.http().listens.get(at)) else {
            return false;
        };
        let own = listen.by_address.iter().find(|(ip, _)| Some(*ip) == local.map(|ip| ip.to_canonical()));
        own.map_or(listen, |(_, listen)| listen).proxy_protocol
    }

    /// What HTTP/2 is spoken with on a fresh connection to this address; `None` where only HTTP/1 is.
    pub fn http2(&self, address: &Address, local: Option<IpAddr>) -> Option<h2::Settings> {
        let listen = self.http().listens.get(self.listener_at(address)?)?;
        let own = listen.by_address.iter().find(|(ip, _)| Some(*ip) == local.map(|ip| ip.to_canonical()));
        let listen = own.map_or(listen, |(_, listen)| listen);
        let http2 = &self.http().servers[listen.default_server as usize].head.http2;
        (listen.http2 || http2.enabled).then(|| http2_settings(http2))
    }

    /// Who answers at the address of a connection.
    pub fn listen(&self, ends: &Ends) -> Option<&routing::Listen> {
        let local = ends.peer.local.map(|local| local.ip());
        self.routing.listens.listen(self.listener(ends)?, local)
    }

    /// The error log that holds before there is a request.
    pub fn error_log(&self, ends: &Ends) -> Option<u32> {
        let server = self.routing.server(self.listen(ends)?.default_server)?;
        self.http().settings.get(server.settings as usize)?.error_log
    }

    /// The server that a client names in its handshake.
    fn server_of_handshake(&self, ends: &Ends, name: Option<&str>) -> Option<ServerId> {
        let listen = self.listen(ends)?;
        let Some(name) = name else { return Some(listen.default_server) };
        let mut state = self.take_state();
        let found = listen.find(name.as_bytes(), &mut state).unwrap_or(listen.default_server);
        self.give_state(state);
        Some(found)
    }

    /// What a client is offered that names this server in its handshake, and whether HTTP/2 is.
    pub fn offer(&self, ends: &Ends, name: Option<&str>) -> Option<(TlsId, bool)> {
        let listen = self.listen(ends)?;
        let servers = &self.http().servers;
        let server = &servers[self.server_of_handshake(ends, name)? as usize];
        let tls = server.tls.or(servers[listen.default_server as usize].tls)?;
        Some((tls, listen.http2 || server.head.http2.enabled))
    }

    /// Whether a server trusts the same clients as the address's default server.
    fn trusts_as_default(&self, ends: &Ends, server: ServerId) -> bool {
        let trusted = |server: ServerId| {
            let tls = self.http().servers.get(server as usize)?.tls?;
            Some(&self.configuration.model.tls.offers.get(tls as usize)?.clients)
        };
        self.listen(ends).is_some_and(|listen| {
            listen.default_server == server || trusted(listen.default_server) == trusted(server)
        })
    }

    /// What HTTP/2 is spoken with on a connection whose client has named this server.
    pub fn http2_within_tls(&self, ends: &Ends, name: Option<&str>) -> Option<h2::Settings> {
        let server = self.server_of_handshake(ends, name)?;
        Some(http2_settings(&self.http().servers[server as usize].head.http2))
    }

    /// Whether everything is logged about a client (`debug_connection`).
    fn debugs(&self, client: Option<SocketAddr>) -> bool {
        let logs = self.configuration.model.logs.nginx.as_ref();
        logs.is_some_and(|logs| logs.debugs(client.map(|client| client.ip())))
    }

    /// The index of a listener.
    fn listener_at(&self, address: &Address) -> Option<usize> {
        self.listeners.get(address).copied()
    }

    /// The index of the listener of a connection.
    fn listener(&self, ends: &Ends) -> Option<usize> {
        ends.listener.get(self.number, || self.listener_at(&ends.address))
    }

    /// What holds with these settings.
    pub fn place(&self, id: SettingsId, head: &config::model::http::HeadSettings) -> Rc<Place> {
        let place = self.places[id as usize].get_or_init(|| Rc::new(Place::compile(self, id, head)));
        Rc::clone(place)
    }

    /// An application's name, by its index.
    fn app_name(&self, index: u32) -> String {
        self.configuration.model.apps.get(index as usize).map(|app| app.name.clone()).unwrap_or_default()
    }

    /// Closes connections to other servers that are of no use any more. To be called now and then.
    pub fn tick(&self) {
        for pool in &self.pools {
            pool.sweep();
        }
    }

    /// Asks these servers for names.
    fn resolver(&self, model: &config::model::http::Resolver) -> Rc<Resolver> {
        let mut resolvers = self.resolvers.borrow_mut();
        if let Some(resolver) = resolvers.get(model) {
            return Rc::clone(resolver);
        }
        let resolver = Rc::new(Resolver::new(model));
        resolvers.insert(model.clone(), Rc::clone(&resolver));
        resolver
    }

    fn take_state(&self) -> Box<State> {
        self.states.borrow_mut().pop().unwrap_or_default()
    }

    fn give_state(&self, mut state: Box<State>) {
        let mut states = self.states.borrow_mut();
        if states.len() < STATES {
            state.clear();
            states.push(state);
        }
    }
}

fn http2_settings(http2: &Http2) -> h2::Settings {
    h2::Settings {
        max_concurrent_streams: http2.max_concurrent_streams,
        preread: http2.preread,
        max_frame: h2::SMALLEST_MAX_FRAME,
        connects: true,
    }
}
