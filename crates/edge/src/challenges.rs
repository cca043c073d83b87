//! Answers for certification authorities (RFC 8555 §8): what they look for before they give a certificate.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use config::model::acme::Answer;
use exchange::{Request, Response};
use listen::tls::{Choice, Hello, Offer};

/// Where an authority looks by plain HTTP.
const PLACE: &[u8] = b"/.well-known/acme-challenge/";
/// What an authority speaks that looks by TLS (RFC 8737).
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// All answers of a process.
#[derive(Default)]
pub struct Challenges {
    /// Most of the time there are none.
    any: AtomicBool,
    known: RwLock<HashMap<u64, Known>>,
}

enum Known {
    Http { token: String, content: String },
    Tls { server_name: String, offer: Offer },
}

impl Challenges {
    /// Puts an answer. The error is for the log.
    pub fn put(&self, number: u64, answer: Answer) -> Result<(), String> {
        let known = match answer {
            Answer::Http { token, content } => Known::Http { token, content },
            Answer::TlsAlpn { server_name, contents } => {
                let offer = Offer::of_one(&contents, &[PROTOCOL])?;
                Known::Tls { server_name: server_name.to_ascii_lowercase(), offer }
            }
        };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(number, known);
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes one away.
    pub fn take(&self, number: u64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&number);
        self.any.store(!known.is_empty(), Ordering::Release);
    }

    /// The answer to a request, if it asks for one that is there.
    pub fn response(&self, request: &Request) -> Option<Response> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let asked = request.raw_path.strip_prefix(PLACE)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let content = known.values().find_map(|known| match known {
            Known::Http { token, content } if token.as_bytes() == asked => Some(content),
            _ => None,
        })?;
        Some(Response::text(200, "application/octet-stream", content.clone()))
    }

    /// How to go on with a client that speaks the authorities' protocol, and nothing else.
    pub fn choose(&self, hello: &Hello<'_>) -> Option<Choice> {
        if !self.any.load(Ordering::Acquire) || hello.alpn != [PROTOCOL] {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().find_map(|known| match known {
            Known::Tls { server_name, offer } if hello.server_name == Some(server_name) => {
                Some(Choice::Offer(offer.clone()))
            }
            _ => None,
        })
    }
}
