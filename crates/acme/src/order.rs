//! One order, from asking for it to a certificate that was looked at.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::model::acme::{Challenge, Issuer, Order};
use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier, NewOrder,
    OrderStatus,
};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use crate::Failure;
use crate::chain;
use crate::clock::Clock;
use crate::failure::{clean, describe};
use crate::hook::Record;
use crate::issuer::{Authority, again};
use crate::key::{self, Pair};
use crate::store::{Finalized, Store, Stored};
use crate::transport::TransportError;

/// How long an authority may take to look at the answers, or to sign, seconds.
const PATIENCE: u64 = 300;
/// Bytes of a token.
const TOKEN_SIZE: usize = 256;

/// What answers a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// `/.well-known/acme-challenge/TOKEN` on port 80 (RFC 8555 §8.3).
    Http {
        /// Letters, digits, `-` and `_`.
        token: String,
        /// What is to be there.
        content: String,
    },
    /// A certificate, for those who speak `acme-tls/1` (RFC 8737).
    TlsAlpn {
        /// The name that they ask for.
        server_name: String,
        /// The certificate and its key.
        pair: Pair,
    },
    /// A TXT record (RFC 8555 §8.4).
    Dns(Record),
}

/// Who faces clients and authorities.
pub trait Front {
    /// Serves a certificate from now on.
    fn serve(&self, order: &Order, pair: &Pair);

    /// Puts an answer; it is there when this returns. The number is for taking it away.
    fn put(&self, issuer: &Issuer, answer: Answer) -> impl Future<Output = Result<u64, Failure>>;

    /// Takes it away, some time.
    fn take(&self, number: u64);
}

/// Answers that are taken away whatever happens.
struct Answers<'a, F: Front> {
    front: &'a F,
    numbers: Vec<u64>,
}

impl<F: Front> Drop for Answers<'_, F> {
    fn drop(&mut self) {
        for &number in &self.numbers {
            self.front.take(number);
        }
    }
}

/// All that an order needs.
#[derive(Debug)]
pub struct Desk<'a, F, C> {
    /// With whom.
    pub issuer: &'a Issuer,
    /// And by which account.
    pub authority: &'a Authority,
    /// What is ordered.
    pub order: &'a Order,
    /// Where an order that is finalized is kept.
    pub store: &'a Store,
    /// Who answers challenges.
    pub front: &'a F,
    /// The time.
    pub clock: &'a C,
}

impl<F: Front, C: Clock> Desk<'_, F, C> {
    /// Gets a certificate. `replaces`: the one that it is for.
    pub async fn obtain(&self, replaces: Option<&Stored>) -> Result<Pair, Failure> {
        if let Some(pair) = self.go_on().await? {
            return Ok(pair);
        }
        let mut order = self.new_order(replaces).await?;
        self.authorize(&mut order).await?;
        let key = key::generate(self.order.key)?;
        let request = key::request(&key, &self.order.identifiers)?;
        let finalized = Finalized {
            authority: self.issuer.directory.clone(),
            url: order.url().to_owned(),
            key: STANDARD.encode(key.serialize_der()),
        };
        self.store.keep_finalized(self.order, &finalized)?;
        let transport = &self.authority.transport;
        again(transport, async || order.finalize_csr(&request).await).await?;
        self.fetch(order, &key).await
    }

    /// Goes on with an order that was finalized when the process ended: the authority may have counted it already.
    async fn go_on(&self) -> Result<Option<Pair>, Failure> {
        let Some(finalized) = self.store.finalized(self.order) else { return Ok(None) };
        if finalized.authority != self.issuer.directory {
            return Ok(None);
        }
        let key = STANDARD.decode(&finalized.key).ok().and_then(|der| KeyPair::try_from(der.as_slice()).ok());
        let transport = &self.authority.transport;
        let order =
            again(transport, async || self.authority.account.order(finalized.url.clone()).await).await;
        let (Some(key), Ok(mut order)) = (key, order) else {
            // Whatever became of it, a new one is made.
            self.store.forget_finalized(self.order);
            return Ok(None);
        };
        match order.state().status {
            OrderStatus::Processing | OrderStatus::Valid => {}
            OrderStatus::Ready => {
                let request = key::request(&key, &self.order.identifiers)?;
                again(transport, async || order.finalize_csr(&request).await).await?;
            }
            OrderStatus::Pending | OrderStatus::Invalid => {
                self.store.forget_finalized(self.order);
                return Ok(None);
            }
        }
        telemetry::info!("certificate {}: going on with the order {}", self.order.name, clean(order.url()));
        match self.fetch(order, &key).await {
            // Then not this one.
            Err(Failure::Refused(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn new_order(&self, replaces: Option<&Stored>) -> Result<instant_acme::Order, Failure> {
        let identifiers: Vec<Identifier> =
            self.order.identifiers.iter().map(|text| identifier(text)).collect();
        let transport = &self.authority.transport;
        let leaf =
            replaces.and_then(|stored| stored.pair.chain.first()).map(|der| CertificateDer::from(&der[..]));
        let replaced = leaf.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
        let make = |replaced: Option<CertificateIdentifier<'static>>| {
            let mut new = NewOrder::new(&identifiers);
            if let Some(profile) = &self.issuer.profile {
                new = new.profile(profile);
            }
            match replaced {
                Some(replaced) => new.replaces(replaced),
                None => new,
            }
        };
        if let Some(replaced) = replaced {
            let new = make(Some(replaced.into_owned()));
            match self.authority.account.new_order(&new).await {
                Ok(order) => return Ok(order),
                // Not every authority knows of that, and none knows a certificate of another, or one replaced already.
                Err(error @ instant_acme::Error::Api(_)) => {
                    let failure = Failure::of(&error, transport.retry_after());
                    if matches!(failure, Failure::Limited { .. } | Failure::NoAccount(_)) {
                        return Err(failure);
                    }
                }
                Err(instant_acme::Error::Unsupported(_)) => {}
                // It has taken no notice of it, which the library calls an error.
                Err(instant_acme::Error::Other(error)) if !error.is::<TransportError>() => {}
                Err(error) => return Err(Failure::of(&error, transport.retry_after())),
            }
        }
        let new = make(None);
        again(transport, async || self.authority.account.new_order(&new).await).await
    }

    /// Answers all challenges and waits until the authority has seen that.
    async fn authorize(&self, order: &mut instant_acme::Order) -> Result<(), Failure> {
        let transport = &self.authority.transport;
        let mut answers = Answers { front: self.front, numbers: Vec::new() };
        // What was got once stays; from here on they are there.
        again(transport, async || {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                authorization?;
            }
            Ok(())
        })
        .await?;
        let mut authorizations = order.authorizations();
        let mut kinds = Vec::new();
        loop {
            let mut authorization = match authorizations.next().await {
                None => break,
                Some(Ok(authorization)) => authorization,
                Some(Err(error)) => return Err(Failure::of(&error, transport.retry_after())),
            };
            let name = clean(&authorization.identifier().to_string());
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => {
                    kinds.push(None);
                    continue;
                }
                status => {
                    return Err(Failure::Refused(format!("the authorization for {name} is {status:?}")));
                }
            }
            if !self.order.identifiers.contains(&name.to_ascii_lowercase()) {
                return Err(Failure::Refused(format!(
                    "the authority asks about {name}, which was not ordered"
                )));
            }
            let kind = self.kind(&name);
            let offered: Vec<String> = authorization.challenges.iter().map(|c| shown(&c.r#type)).collect();
            let wildcard = authorization.wildcard;
            let base = match authorization.identifier().identifier {
                Identifier::Dns(name) => name.clone(),
                _ => name.clone(),
            };
            let Some(challenge) = authorization.challenge(wire(kind)) else {
                return Err(Failure::Refused(format!(
                    "{} does not offer {} for {name}, only {}",
                    self.issuer.name,
                    kind.name(),
                    offered.join(", ")
                )));
            };
            if !is_token(&challenge.token) {
                return Err(Failure::Refused("the token of a challenge is malformed".to_owned()));
            }
            let answer = self.answer(kind, &base, &challenge.token, &challenge.key_authorization())?;
            debug_assert!(!wildcard || kind == Challenge::Dns01, "RFC 8555 §7.1.3");
            answers.numbers.push(self.front.put(self.issuer, answer).await?);
            kinds.push(Some(kind));
        }
        // All are there before the authority looks at the first: two may be at one place, and a record takes its time.
        let mut authorizations = order.authorizations();
        for kind in &kinds {
            let Some(Ok(mut authorization)) = authorizations.next().await else { break };
            if let Some(kind) = *kind
                && let Some(mut challenge) = authorization.challenge(wire(kind))
                && challenge.status == ChallengeStatus::Pending
            {
                again(transport, async || challenge.set_ready().await).await?;
            }
        }
        self.wait(order, |status| status != OrderStatus::Pending).await?;
        match order.state().status {
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => Ok(()),
            _ => Err(Failure::Refused(self.why_invalid(order).await)),
        }
    }

    fn answer(
        &self,
        kind: Challenge,
        name: &str,
        token: &str,
        authorization: &instant_acme::KeyAuthorization,
    ) -> Result<Answer, Failure> {
        Ok(match kind {
            Challenge::Http01 => {
                Answer::Http { token: token.to_owned(), content: authorization.as_str().to_owned() }
            }
            Challenge::TlsAlpn01 => {
                let mut digest = [0; 32];
                digest.copy_from_slice(authorization.digest().as_ref());
                let pair = key::challenge(name, &digest, self.clock.now())?;
                let server_name = name.parse().map_or_else(|_| name.to_owned(), reverse_name);
                Answer::TlsAlpn { server_name, pair }
            }
            Challenge::Dns01 => Answer::Dns(Record {
                name: format!("_acme-challenge.{name}"),
                value: authorization.dns_value(),
                domain: name.to_owned(),
            }),
        })
    }

    /// How control over a name is shown.
    fn kind(&self, name: &str) -> Challenge {
        match self.issuer.challenge {
            _ if name.starts_with("*.") => Challenge::Dns01,
            // RFC 8738 §7: an address has no records.
            Challenge::Dns01 if name.parse::<IpAddr>().is_ok() => Challenge::Http01,
            other => other,
        }
    }

    /// Asks for the order's state until it is a certain one.
    async fn wait(
        &self,
        order: &mut instant_acme::Order,
        done: impl Fn(OrderStatus) -> bool,
    ) -> Result<(), Failure> {
        let transport = &self.authority.transport;
        let until = self.clock.now() + PATIENCE;
        let mut pause = Duration::from_millis(250);
        loop {
            again(transport, async || order.refresh().await.map(|_| ())).await?;
            if done(order.state().status) {
                return Ok(());
            }
            let wish = transport.retry_after().map(Duration::from_secs);
            if self.clock.now() >= until {
                return Err(Failure::Unreachable(format!(
                    "{} has not decided after {PATIENCE} seconds",
                    self.issuer.name
                )));
            }
            // It may wish for more than there is patience for, but not for less than a moment.
            let wished = wish.unwrap_or(pause).clamp(Duration::from_millis(250), Duration::from_secs(60));
            self.clock.sleep(wished).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Waits for the certificate, gets it, and looks at it.
    async fn fetch(&self, mut order: instant_acme::Order, key: &KeyPair) -> Result<Pair, Failure> {
        let transport = &self.authority.transport;
        self.wait(&mut order, |status| !matches!(status, OrderStatus::Processing | OrderStatus::Ready))
            .await?;
        // From here on nothing is left to go on with: it is got now, or there is something wrong with it.
        if order.state().status != OrderStatus::Valid {
            self.store.forget_finalized(self.order);
            return Err(Failure::Refused(self.why_invalid(&mut order).await));
        }
        let pem = again(transport, async || order.certificate().await).await?.unwrap_or_default();
        self.store.forget_finalized(self.order);
        let chain = chain::parse(pem.as_bytes()).map_err(Failure::Refused)?;
        let leaf = chain::look(&chain).map_err(Failure::Refused)?;
        let public = key.subject_public_key_info();
        chain::check(&leaf, &self.order.identifiers, &public, self.clock.now()).map_err(Failure::Refused)?;
        Ok(Pair { chain, key: key.serialize_der() })
    }

    /// What the authority says about an order that came to nothing.
    async fn why_invalid(&self, order: &mut instant_acme::Order) -> String {
        let of_order = order.state().error.as_ref().map(describe);
        let mut reasons = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                continue;
            }
            let name = clean(&authorization.identifier().to_string());
            for challenge in &authorization.challenges {
                if let Some(problem) = &challenge.error {
                    reasons.push(format!("{name} by {}: {}", shown(&challenge.r#type), describe(problem)));
                }
            }
        }
        reasons.truncate(10);
        match (reasons.is_empty(), of_order) {
            (false, _) => reasons.join("; "),
            (true, Some(problem)) => problem,
            (true, None) => "the order is invalid, and the authority does not say why".to_owned(),
        }
    }
}

fn identifier(text: &str) -> Identifier {
    match text.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(text.to_owned()),
    }
}

/// RFC 8555 §8.3: base64url, and long enough not to be guessed. It becomes a part of a path.
fn is_token(token: &str) -> bool {
    (16..=TOKEN_SIZE).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

const fn wire(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}

fn shown(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::DeviceAttest01 => "device-attest-01".to_owned(),
        ChallengeType::Unknown(kind) => clean(kind),
        _ => "something new".to_owned(),
    }
}

/// What stands for an address as a server's name (RFC 8738 §6).
fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            labels.join(".") + ".ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_base64url() {
        assert!(is_token("DGyRejmCefe7v4NfDGDKfA"));
        for token in ["", "short", "../../../etc/passwd", "DGyRejmCefe7v4NfDGDKf\n", "DGyRejmCefe7v4NfDGDK/="]
        {
            assert!(!is_token(token), "{token}");
        }
        assert!(!is_token(&"a".repeat(TOKEN_SIZE + 1)));
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(reverse_name([192, 0, 2, 1].into()), "1.2.0.192.in-addr.arpa");
        let six = reverse_name("2001:db8::1".parse().unwrap());
        assert!(six.starts_with("1.0.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"), "{six}");
    }
}
