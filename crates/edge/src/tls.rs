//! Handshakes: which server's offer a client gets, and what becomes of the connection.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use config::model::Model;
use config::model::tls::{Contents, TlsId};
use listen::tls::{Begun, Choice, Failure, Hello, Offer, Sessions, Store, handshake};
use listen::{Socket, Stream};
use telemetry::error_log::{self, Level};

use crate::connection::Ends;
use crate::event_loop::EventLoop;

/// What may be spoken within, the best first.
const HTTP1: [&[u8]; 3] = [b"http/1.1", b"http/1.0", b"http/0.9"];
const HTTP2: [&[u8]; 4] = [b"h2", b"http/1.1", b"http/1.0", b"http/0.9"];

/// What servers offer, made when it is first asked for: most of ten thousand servers sleep.
#[derive(Default)]
pub struct Offers {
    store: Arc<Store>,
    sessions: Arc<Sessions>,
    /// Without and with HTTP/2.
    made: Vec<[OnceLock<Choice>; 2]>,
}

impl Offers {
    /// The offers of a model. Certificates of an earlier configuration that are the same are kept.
    pub fn open(model: &Model, before: Option<&Self>) -> Result<Self, String> {
        let store = before.map_or_else(Arc::default, |before| Arc::clone(&before.store));
        let sessions = before.map_or_else(Arc::default, |before| Arc::clone(&before.sessions));
        store.put_all(&model.tls.certificates)?;
        Ok(Self { store, sessions, made: model.tls.offers.iter().map(|_| Default::default()).collect() })
    }

    /// All certificates.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// All sessions that may go on.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// From now on only certificates of this model are wanted.
    pub fn retain(&self, model: &Model) {
        let names: std::collections::HashSet<&str> =
            model.tls.certificates.iter().map(|certificate| certificate.name.as_str()).collect();
        self.store.retain(|name| names.contains(name));
    }

    /// Another certificate under a name of the model's.
    pub fn replace(&self, name: &str, contents: &Contents) -> Result<(), String> {
        self.store.put(name, contents)
    }

    /// How to go on with a client that gets this offer.
    pub fn choose(&self, model: &Model, id: TlsId, http2: bool) -> Choice {
        let (Some(offers), Some(tls)) = (self.made.get(id as usize), model.tls.offers.get(id as usize))
        else {
            return Choice::Reject;
        };
        if tls.reject {
            return Choice::Reject;
        }
        let made = offers[usize::from(http2)].get_or_init(|| {
            let certificates = &model.tls.certificates;
            let names: Vec<&str> = tls
                .certificates
                .iter()
                .filter_map(|at| Some(&*certificates.get(*at as usize)?.name))
                .collect();
            let protocols: &[&[u8]] = if http2 { &HTTP2 } else { &HTTP1 };
            match Offer::new(tls, &names, protocols, &self.store, &self.sessions) {
                Ok(offer) => Choice::Offer(offer),
                Err(error) => {
                    error_log::write(Level::Critical, format_args!("{error}"));
                    Choice::Reject
                }
            }
        });
        made.clone()
    }
}

/// Shakes hands on a fresh connection where that is how one begins, and notes in `ends` what came of it. `input`: what
/// has been read already. `None`: there is nothing to go on with.
pub async fn secure(
    event_loop: &Rc<EventLoop>,
    socket: Socket,
    input: BytesMut,
    ends: &mut Ends,
    limit: Duration,
) -> Option<(Stream, BytesMut)> {
    let deadline = event_loop.deadlines.register();
    deadline.set(limit);
    deadline.set_fresh(true);
    // Whoever does not get on with it makes room first.
    deadline.set_idle(Some(Duration::ZERO));
    let choose = async |hello: &Hello<'_>| match event_loop.process.challenges.choose(hello) {
        Some(for_authority) => for_authority,
        None => event_loop.runtime().choose(event_loop, ends, hello).await,
    };
    match handshake(socket, input, choose, |cx| deadline.is_past(cx)).await {
        Ok(Begun::Tls(stream, negotiated)) => {
            ends.tls = Some(Arc::from(negotiated));
            Some((stream, BytesMut::new()))
        }
        Ok(Begun::Plain(stream, input)) => {
            ends.plain = true;
            Some((stream, input))
        }
        Err(failure) => {
            tell(ends, &failure);
            None
        }
    }
}

fn tell(ends: &Ends, failure: &Failure) {
    if !error_log::enabled(Level::Info) {
        return;
    }
    let client = ends.peer.remote.map_or_else(|| "unix:".to_owned(), |r| r.ip().to_canonical().to_string());
    let context = error_log::Context {
        connection: ends.number,
        action: Some("SSL handshaking"),
        client: Some(client.as_bytes()),
        ..error_log::Context::default()
    };
    let words = match failure {
        Failure::Gone => "peer closed connection in SSL handshake".to_owned(),
        Failure::Timeout => "client timed out".to_owned(),
        Failure::Rejected => "the handshake is rejected".to_owned(),
        Failure::Failed(why) => format!("the handshake failed: {why}"),
    };
    error_log::write_with(Level::Info, &context, format_args!("{words}"));
}
