//! Names asked for while serving: a small client of DNS (RFC 1035) with a memory.
//!
//! Nothing that comes is trusted: an answer counts if its number, its question and its sender are those of the query,
//! whose number is random and whose port the kernel chose. Names in it may only point back, and only so often.

mod message;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::model::http::Resolver as Model;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use message::{Found, Kind, Parsed};

/// Names that are remembered.
const MEMORY: usize = 4096;
/// How long one server is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer over UDP, and over TCP.
const DATAGRAM: usize = 4096;
/// `CNAME`s that are followed.
const CHAIN: usize = 10;
/// Servers of a service that are looked up.
const TARGETS: usize = 256;

/// Why a name has no address. The numbers are DNS's, and that of `ETIMEDOUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The server understood nothing (1).
    Format,
    /// The server failed (2), or said what is no answer.
    Failed,
    /// There is no such name, or it has no address (3).
    NotFound,
    /// The server does not do that (4).
    Unimplemented,
    /// The server does not want to (5).
    Refused,
    /// Nobody answered.
    Timeout,
    /// It is no name.
    Invalid,
}

impl Unresolved {
    /// As nginx's log has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Format => "1: Format error",
            Self::Failed => "2: Server failure",
            Self::NotFound | Self::Invalid => "3: Host not found",
            Self::Unimplemented => "4: Unimplemented",
            Self::Refused => "5: Operation refused",
            Self::Timeout => "110: Operation timed out",
        }
    }

    const fn of(code: u8) -> Self {
        match code {
            1 => Self::Format,
            3 => Self::NotFound,
            4 => Self::Unimplemented,
            5 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

/// A server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its weight; 0 is the least.
    pub weight: u16,
    /// Others come before it.
    pub backup: bool,
}

type Outcome = Result<Rc<[IpAddr]>, Unresolved>;

/// Asks servers for the addresses of names, for one event loop.
pub struct Resolver {
    model: Model,
    known: RefCell<HashMap<String, Known>>,
}

/// What is known of a name: while it is being asked for, those that come later wait for the same answer.
struct Known {
    answer: Rc<OnceCell<Outcome>>,
    until: Option<Instant>,
}

impl Resolver {
    /// One with these servers.
    pub fn new(model: &Model) -> Self {
        Self { model: model.clone(), known: RefCell::default() }
    }

    /// The addresses of a name; at least one.
    pub async fn resolve(&self, name: &str, limit: Duration) -> Outcome {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !message::is_name(&name) {
            return Err(Unresolved::Invalid);
        }
        let answer = self.known(&name);
        if let Some(outcome) = answer.get() {
            // Not always the same first. Whoever has asked gets the order of the answer.
            return outcome.clone().map(rotated);
        }
        let asked = timeout(limit, answer.get_or_init(|| self.ask(&name))).await;
        match asked {
            Ok(outcome) => outcome.clone(),
            Err(_) => Err(Unresolved::Timeout),
        }
    }

    /// The addresses of a name and how long they hold, whatever is remembered.
    pub async fn look_up(&self, name: &str, limit: Duration) -> Result<(Rc<[IpAddr]>, Duration), Unresolved> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !message::is_name(&name) {
            return Err(Unresolved::Invalid);
        }
        let (outcome, ttl) =
            timeout(limit, self.ask_both(&name)).await.unwrap_or((Err(Unresolved::Timeout), 0));
        Ok((outcome?, self.holds(ttl)))
    }

    /// The servers of a service (RFC 2782) and how long that holds. A `service` without dots is one over TCP.
    pub async fn services(
        &self,
        host: &str,
        service: &str,
        limit: Duration,
    ) -> Result<(Vec<Service>, Duration), Unresolved> {
        let name = if service.contains('.') {
            format!("{service}.{host}").to_ascii_lowercase()
        } else {
            format!("_{service}._tcp.{host}").to_ascii_lowercase()
        };
        if !message::is_name(&name) {
            return Err(Unresolved::Invalid);
        }
        timeout(limit, self.ask_services(name)).await.unwrap_or(Err(Unresolved::Timeout))
    }

    async fn ask_services(&self, mut name: String) -> Result<(Vec<Service>, Duration), Unresolved> {
        let mut ttl = u32::MAX;
        for _ in 0..CHAIN {
            let targets = match self.ask_servers(&name, Kind::Srv).await? {
                Found::Targets(targets, valid) => {
                    ttl = ttl.min(valid);
                    targets
                }
                Found::Alias(target, valid) => {
                    (name, ttl) = (target, ttl.min(valid));
                    continue;
                }
                Found::Addresses(..) => return Err(Unresolved::Failed),
            };
            let first = targets.iter().map(|target| target.priority).min();
            let (mut services, mut why) = (Vec::new(), Unresolved::NotFound);
            for target in targets.into_iter().take(TARGETS) {
                match self.ask_both(&target.name).await {
                    (Ok(found), valid) => {
                        ttl = ttl.min(valid);
                        let mut found = found.to_vec();
                        found.sort_unstable();
                        services.extend(found.iter().map(|ip| Service {
                            address: SocketAddr::new(*ip, target.port),
                            weight: target.weight,
                            backup: Some(target.priority) != first,
                        }));
                    }
                    // The others serve none the less.
                    (Err(error), _) => why = error,
                }
            }
            if services.is_empty() {
                return Err(why);
            }
            return Ok((services, self.holds(ttl)));
        }
        Err(Unresolved::Failed)
    }

    fn holds(&self, ttl: u32) -> Duration {
        self.model.valid.unwrap_or(Duration::from_secs(u64::from(ttl)))
    }

    fn known(&self, name: &str) -> Rc<OnceCell<Outcome>> {
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        let is_over = |known: &Known| known.until.is_some_and(|until| until <= now);
        if known.len() >= MEMORY {
            known.retain(|_, known| !is_over(known) && known.answer.initialized());
            // Names that clients choose must not grow without end.
            if known.len() >= MEMORY {
                known.clear();
            }
        }
        let entry = known
            .entry(name.to_owned())
            .and_modify(|known| {
                if is_over(known) {
                    *known = Known { answer: Rc::default(), until: None };
                }
            })
            .or_insert_with(|| Known { answer: Rc::default(), until: None });
        Rc::clone(&entry.answer)
    }

    async fn ask(&self, name: &str) -> Outcome {
        let (outcome, ttl) = self.ask_both(name).await;
        let valid = match (&outcome, self.model.valid) {
            (Ok(_), Some(valid)) => valid,
            (Ok(_), None) => Duration::from_secs(u64::from(ttl)),
            // What failed is asked for anew by the next.
            (Err(_), _) => Duration::ZERO,
        };
        if let Some(known) = self.known.borrow_mut().get_mut(name) {
            known.until = Some(Instant::now() + valid);
        }
        outcome
    }

    /// The addresses of both kinds, through all names that stand for the first.
    async fn ask_both(&self, name: &str) -> (Outcome, u32) {
        let (mut name, mut ttl) = (name.to_owned(), u32::MAX);
        for _ in 0..CHAIN {
            let (mut addresses, mut alias, mut error) = (Vec::new(), None, Unresolved::NotFound);
            for answer in self.ask_kinds(&name).await.into_iter().flatten() {
                match answer {
                    Ok(Found::Addresses(found, valid)) => {
                        ttl = ttl.min(valid);
                        addresses.extend(found);
                    }
                    Ok(Found::Alias(target, valid)) => {
                        alias.get_or_insert((target, valid));
                    }
                    Ok(Found::Targets(..)) => {}
                    Err(why) => error = why,
                }
            }
            if !addresses.is_empty() {
                return (Ok(addresses.into()), ttl);
            }
            let Some((target, valid)) = alias else { return (Err(error), 0) };
            (name, ttl) = (target, ttl.min(valid));
        }
        (Err(Unresolved::Failed), 0)
    }

    async fn ask_kinds(&self, name: &str) -> [Option<Result<Found, Unresolved>>; 2] {
        let four = async { if self.model.ipv4 { Some(self.ask_servers(name, Kind::A).await) } else { None } };
        let six =
            async { if self.model.ipv6 { Some(self.ask_servers(name, Kind::Aaaa).await) } else { None } };
        tokio::join!(four, six).into()
    }

    /// Asks one server after the other, over and over: whoever waits says how long.
    async fn ask_servers(&self, name: &str, kind: Kind) -> Result<Found, Unresolved> {
        let servers = &self.model.servers;
        let first = random() as usize % servers.len().max(1);
        let mut last = Unresolved::Timeout;
        for round in 0..16 {
            for at in 0..servers.len() {
                let server = servers[(first + at) % servers.len()];
                match timeout(PATIENCE, ask_server(server, name, kind)).await {
                    Ok(Ok(Ok(found))) => return Ok(found),
                    Ok(Ok(Err(Unresolved::NotFound))) => return Err(Unresolved::NotFound),
                    // It says something of the server and not of the name: another may be better.
                    Ok(Ok(Err(error))) => last = error,
                    Ok(Err(_)) | Err(_) => last = Unresolved::Timeout,
                }
            }
            if last != Unresolved::Timeout {
                return Err(last);
            }
            // A port where nobody listens answers at once.
            if round > 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Err(last)
    }
}

async fn ask_server(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Result<Found, Unresolved>> {
    let id = random();
    let query = message::query(id, name, kind);
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match message::parse(&buffer[..length], id, name, kind) {
            Parsed::Other => {}
            Parsed::Truncated => return by_tcp(server, id, &query, name, kind).await,
            Parsed::Error(code) => return Ok(Err(Unresolved::of(code))),
            Parsed::Broken => return Ok(Err(Unresolved::Failed)),
            Parsed::Found(found) => return Ok(Ok(found)),
        }
    }
}

/// An answer that is too long for a datagram.
async fn by_tcp(
    server: SocketAddr,
    id: u16,
    query: &[u8],
    name: &str,
    kind: Kind,
) -> io::Result<Result<Found, Unresolved>> {
    let mut stream = TcpStream::connect(server).await?;
    let framed = [&(query.len() as u16).to_be_bytes()[..], query].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Ok(match message::parse(&buffer, id, name, kind) {
        Parsed::Found(found) => Ok(found),
        Parsed::Error(code) => Err(Unresolved::of(code)),
        Parsed::Other | Parsed::Truncated | Parsed::Broken => Err(Unresolved::Failed),
    })
}

fn rotated(addresses: Rc<[IpAddr]>) -> Rc<[IpAddr]> {
    if addresses.len() < 2 {
        return addresses;
    }
    let mut addresses = addresses.to_vec();
    let first = usize::from(random()) % addresses.len();
    addresses.rotate_left(first);
    addresses.into()
}

fn random() -> u16 {
    getrandom::u32().unwrap_or_else(|_| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(Instant::now()) as u32
    }) as u16
}
