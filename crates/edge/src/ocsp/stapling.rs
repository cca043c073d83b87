//! Answers about the certificates that are shown, which are sent along with them (stapling): fetched ahead, in the
//! background. No handshake waits for one, and none fails without one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::model::tls::{ResponderUrl, Stapling};
use listen::tls::ocsp::{Status, Trust};
use listen::tls::{Shown, Store};
use telemetry::error_log::{self, Level};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use upstream::Resolver;

use super::responder::{self, Names};
use crate::configuration::Configuration;

/// How often it is seen whether something is to be asked.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// So many are asked at once.
const AT_ONCE: usize = 8;
/// The first time without an answer after one that was none; each further one takes twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest such time, nginx's.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// An answer is renewed so long before it ends, and not sooner than so long after it came; nginx's.
const AHEAD: Duration = Duration::from_secs(300);
/// Until the certificate is another one.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// It is renewed at least so often, nginx's.
const OFTEN: Duration = Duration::from_secs(3600);

/// Keeps answers for all certificates that want one.
pub async fn keep(configuration: Arc<Configuration>) {
    let certificates = configuration.model.tls.certificates.iter();
    let all: Vec<Rc<Kept>> = certificates
        .filter_map(|certificate| {
            Some(Rc::new(Kept::new(&certificate.name, certificate.stapling.as_deref()?)))
        })
        .collect();
    let mut asked = JoinSet::new();
    while !all.is_empty() {
        while asked.try_join_next().is_some() {}
        let store = configuration.tls.store();
        for kept in &all {
            if asked.len() >= AT_ONCE {
                break;
            }
            if let Some(shown) = kept.is_due(store) {
                let (kept, store) = (Rc::clone(kept), Arc::clone(store));
                kept.is_asked.set(true);
                asked.spawn_local(async move { kept.renew(&store, shown).await });
            }
        }
        sleep(LOOK_AROUND).await;
    }
}

/// A certificate for which there is to be an answer.
struct Kept {
    name: String,
    stapling: Stapling,
    names: Names,
    /// The certificate that was last looked at.
    shown: RefCell<Option<Shown>>,
    due: Cell<Instant>,
    /// How long to wait after the next failure.
    wait: Cell<Duration>,
    is_asked: Cell<bool>,
}

impl Kept {
    fn new(name: &str, stapling: &Stapling) -> Self {
        let resolver = stapling.resolver.as_ref().map(Resolver::new);
        Self {
            name: name.to_owned(),
            names: Names { resolver, limit: stapling.resolver_timeout },
            stapling: stapling.clone(),
            shown: RefCell::default(),
            due: Cell::new(Instant::now()),
            wait: Cell::new(FIRST_WAIT),
            is_asked: Cell::new(false),
        }
    }

    /// The certificate, if it is time to ask.
    fn is_due(&self, store: &Store) -> Option<Shown> {
        if self.is_asked.get() {
            return None;
        }
        let shown = store.shown(&self.name)?;
        let mut known = self.shown.borrow_mut();
        if known.as_ref() != Some(&shown) {
            // Renewed, or the first look; a reload finds an answer that is there already.
            let until = store.stapled_until(&self.name);
            self.due.set(Instant::now() + until.map_or(Duration::ZERO, until_renewal));
            self.wait.set(FIRST_WAIT);
            *known = Some(shown.clone());
        }
        (self.due.get() <= Instant::now()).then_some(shown)
    }

    async fn renew(&self, store: &Store, shown: Shown) {
        let wait = match self.ask(&shown).await {
            Ok((answer, until)) => {
                store.staple(&self.name, &shown, answer, until);
                self.wait.set(FIRST_WAIT);
                until_renewal(until)
            }
            Err(Failure::Never(why)) => {
                error_log::write(
                    Level::Warning,
                    format_args!("\"ssl_stapling\" ignored, {why}, certificate {}", self.name),
                );
                NEVER
            }
            Err(Failure::Now { why, responder }) => {
                error_log::write(
                    Level::Error,
                    format_args!(
                        "{why} while requesting certificate status, responder: {responder}, certificate: {}",
                        self.name
                    ),
                );
                let wait = self.wait.get();
                self.wait.set((wait * 2).min(LONGEST_WAIT));
                wait
            }
        };
        self.due.set(Instant::now() + wait);
        self.is_asked.set(false);
    }

    /// An answer that the certificate is good, and until when it holds.
    async fn ask(&self, shown: &Shown) -> Result<(Vec<u8>, i64), Failure> {
        let inquiry = shown.inquiry(&self.stapling.issuers).map_err(|why| Failure::Never(why.to_string()))?;
        let never = |why: &str| Failure::Never(why.to_owned());
        let responder = self.stapling.responder.as_deref().or(inquiry.responder());
        let responder = responder.ok_or_else(|| never("no OCSP responder URL in the certificate"))?;
        let url = ResponderUrl::parse(responder)
            .ok_or_else(|| never("invalid URL prefix in OCSP responder in the certificate"))?;
        let asked = async {
            let answer = responder::ask(&url, &inquiry.request_path(), &self.names).await?;
            let trust = if self.stapling.verify { Trust::Issuer } else { Trust::Anybody };
            let verdict = inquiry.check(&answer, trust, now()).map_err(|wrong| wrong.to_string())?;
            match verdict.status {
                Status::Good => Ok((answer, verdict.until)),
                other => Err(format!("certificate status \"{}\" in the OCSP response", other.as_str())),
            }
        };
        asked.await.map_err(|why| Failure::Now { why, responder: responder.to_owned() })
    }
}

/// Why there is no answer.
enum Failure {
    /// Nobody can be asked about this certificate.
    Never(String),
    /// It may be another time.
    Now { why: String, responder: String },
}

/// When an answer is to be asked for again that holds until then.
fn until_renewal(until: i64) -> Duration {
    let left = Duration::from_secs(until.saturating_sub(now()).max(0) as u64);
    left.saturating_sub(AHEAD).clamp(AHEAD, OFTEN)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
