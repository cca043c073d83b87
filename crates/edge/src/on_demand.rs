//! Certificates for names that only clients name: what has come of asking for them, and who waits for it.
//!
//! Whether a name may have one is decided in another process (`acme::demand`). Here it is asked once for a name, however
//! many clients want it, and what it says is remembered, a no as well, so that what clients send costs little.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::model::acme::{self, is_public_name};
use config::model::tls::Contents;
use listen::tls::Loaded;
use telemetry::error_log::{self, Level};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// How long a client waits in its handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without an answer for so long, it is asked again.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Clients that wait at once.
const MOST_CLIENTS: usize = 1024;
/// Names without a certificate that an answer is awaited for at once.
const MOST_ASKED: usize = 256;
/// Names of which it is remembered that they have none.
const MOST_REFUSED: usize = 10_000;

/// A demand's name, and the name that a client has asked for.
pub type Wanted = (String, String);

/// All names of a process.
pub struct OnDemand {
    names: Mutex<Names>,
    ask: UnboundedSender<Wanted>,
}

#[derive(Default)]
struct Names {
    certificates: HashMap<Wanted, Held>,
    /// Until when nobody is asked again.
    refused: HashMap<Wanted, Instant>,
    asked: HashMap<Wanted, Asked>,
    /// How many wait.
    clients: usize,
}

struct Held {
    certificate: Loaded,
    /// When it is to be looked after.
    again: Instant,
    used: Instant,
}

/// A question that has no answer yet.
struct Asked {
    since: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What is known of a name at once.
enum Now {
    Certificate(Loaded),
    Nothing,
    Wait(oneshot::Receiver<()>),
}

impl OnDemand {
    /// Questions go to `ask`.
    pub fn new(ask: UnboundedSender<Wanted>) -> Self {
        Self { names: Mutex::default(), ask }
    }

    /// The certificate for a name that a client has asked for. Waits if there may come one; `None`: there is none.
    pub async fn certificate(&self, demand: &acme::OnDemand, name: &str) -> Option<Loaded> {
        if !is_public_name(name) {
            return None;
        }
        let wanted = (demand.name.clone(), name.to_owned());
        match self.look(&wanted, Instant::now()) {
            Now::Certificate(certificate) => return Some(certificate),
            Now::Nothing => return None,
            Now::Wait(answer) => {
                let _client = Client(self);
                // Whatever comes, what is known then counts.
                let _ = tokio::time::timeout(PATIENCE, answer).await;
            }
        }
        self.lock().certificates.get(&wanted).map(|held| held.certificate.clone())
    }

    fn look(&self, wanted: &Wanted, now: Instant) -> Now {
        let mut names = self.lock();
        let names = &mut *names;
        if let Some(held) = names.certificates.get_mut(wanted) {
            held.used = now;
            if held.again <= now && names.asked.len() < 2 * MOST_ASKED && !names.asked.contains_key(wanted) {
                names.asked.insert(wanted.clone(), Asked { since: now, waiting: Vec::new() });
                self.ask(wanted);
            }
            // Also an old one, while a new one is ordered.
            return Now::Certificate(held.certificate.clone());
        }
        match names.refused.get(wanted) {
            Some(until) if *until > now => return Now::Nothing,
            Some(_) => drop(names.refused.remove(wanted)),
            None => {}
        }
        if names.clients >= MOST_CLIENTS {
            return Now::Nothing;
        }
        let is_late = |asked: &Asked| now.saturating_duration_since(asked.since) >= ANSWER_TIME;
        if names.asked.get(wanted).is_none_or(is_late) {
            if names.asked.len() >= MOST_ASKED {
                names.asked.retain(|_, asked| !is_late(asked));
            }
            if names.asked.len() >= MOST_ASKED {
                return Now::Nothing;
            }
            names.asked.insert(wanted.clone(), Asked { since: now, waiting: Vec::new() });
            self.ask(wanted);
        }
        let Some(asked) = names.asked.get_mut(wanted) else { return Now::Nothing };
        // Those that are gone.
        asked.waiting.retain(|waiting| !waiting.is_closed());
        let (sender, receiver) = oneshot::channel();
        asked.waiting.push(sender);
        names.clients += 1;
        Now::Wait(receiver)
    }

    fn ask(&self, wanted: &Wanted) {
        // It fails when everything ends.
        let _ = self.ask.send(wanted.clone());
    }

    /// What has come of asking. `most`: how many names may have certificates.
    pub fn answer(&self, wanted: Wanted, contents: Option<&Contents>, again: Duration, most: usize) {
        let loaded = contents.map(Loaded::of_contents).transpose();
        let certificate = loaded.unwrap_or_else(|why| {
            error_log::write(Level::Error, format_args!("certificate {}: {why}", wanted.1));
            None
        });
        let now = Instant::now();
        let again = now.checked_add(again).unwrap_or(now);
        let mut names = self.lock();
        let asked = names.asked.remove(&wanted);
        match (certificate, names.certificates.get_mut(&wanted)) {
            (Some(certificate), _) => {
                names.make_room(most);
                names.certificates.insert(wanted, Held { certificate, again, used: now });
            }
            // The one that is there goes on.
            (None, Some(held)) => held.again = again,
            (None, None) => {
                if names.refused.len() >= MOST_REFUSED {
                    // They are asked about again; how often that is done is bounded elsewhere.
                    names.refused.clear();
                }
                names.refused.insert(wanted, again);
            }
        }
        for waiting in asked.into_iter().flat_map(|asked| asked.waiting) {
            let _ = waiting.send(());
        }
    }

    /// From now on only these demands are there. What was refused may be allowed now.
    pub fn retain(&self, demands: &[acme::OnDemand]) {
        let is_wanted = |(demand, _): &Wanted| demands.iter().any(|known| known.name == *demand);
        let mut names = self.lock();
        names.refused.clear();
        names.certificates.retain(|wanted, _| is_wanted(wanted));
        names.asked.retain(|wanted, _| is_wanted(wanted));
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Forgets what was used the longest ago: it is on the disk.
    fn make_room(&mut self, most: usize) {
        if self.certificates.len() >= most
            && let Some(oldest) =
                self.certificates.iter().min_by_key(|(_, held)| held.used).map(|(wanted, _)| wanted.clone())
        {
            self.certificates.remove(&oldest);
        }
    }
}

/// One that waits.
struct Client<'a>(&'a OnDemand);

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.0.lock().clients -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn names() -> (OnDemand, UnboundedReceiver<Wanted>) {
        let (ask, asked) = unbounded_channel();
        (OnDemand::new(ask), asked)
    }

    fn wanted(name: &str) -> Wanted {
        ("d".to_owned(), name.to_owned())
    }

    fn count(asked: &mut UnboundedReceiver<Wanted>) -> usize {
        std::iter::from_fn(|| asked.try_recv().ok()).count()
    }

    #[test]
    fn a_name_is_asked_about_once_and_a_no_is_remembered() {
        let (names, mut asked) = names();
        let now = Instant::now();
        let waiting: Vec<_> = (0..10).map(|_| names.look(&wanted("a.example"), now)).collect();
        assert!(waiting.iter().all(|now| matches!(now, Now::Wait(_))));
        assert_eq!(count(&mut asked), 1);
        names.answer(wanted("a.example"), None, Duration::from_secs(60), 10);
        assert!(matches!(names.look(&wanted("a.example"), Instant::now()), Now::Nothing));
        assert_eq!(count(&mut asked), 0);
        let later = Instant::now() + Duration::from_secs(61);
        assert!(matches!(names.look(&wanted("a.example"), later), Now::Wait(_)));
        assert_eq!(count(&mut asked), 1);
    }

    #[test]
    fn what_is_remembered_of_hostile_names_is_bounded() {
        let (names, mut asked) = names();
        let now = Instant::now();
        for n in 0..50_000 {
            drop(names.look(&wanted(&format!("{n}.example")), now));
        }
        assert_eq!(count(&mut asked), MOST_ASKED);
        assert!(names.lock().asked.len() <= MOST_ASKED);
        for n in 0..50_000 {
            names.answer(wanted(&format!("{n}.example")), None, Duration::from_secs(60), 10);
        }
        let known = names.lock();
        assert!(
            known.refused.len() <= MOST_REFUSED && known.asked.is_empty() && known.certificates.is_empty()
        );
    }

    #[test]
    fn clients_that_wait_are_bounded_and_leave() {
        let (names, mut asked) = names();
        let demand = acme::OnDemand {
            name: "d".to_owned(),
            ask: acme::Ask::Url("http://127.0.0.1:1/".to_owned()),
            key: acme::Key::P256,
            issuers: vec![0],
            names: 10,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for name in ["localhost", "192.0.2.1", "*.a.example", "a.example."] {
                assert!(names.certificate(&demand, name).await.is_none());
            }
            assert_eq!(count(&mut asked), 0, "there is nothing to ask");
            let mut waiting: Vec<_> =
                (0..MOST_CLIENTS).map(|_| Box::pin(names.certificate(&demand, "a.example"))).collect();
            for one in &mut waiting {
                assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err(), "it waits");
            }
            assert_eq!(names.lock().clients, MOST_CLIENTS);
            assert!(names.certificate(&demand, "a.example").await.is_none(), "one too many");
            waiting.truncate(1);
            assert_eq!(names.lock().clients, 1);
            names.answer(wanted("a.example"), None, Duration::from_secs(60), 10);
            assert!(waiting.remove(0).await.is_none(), "told at once");
            assert_eq!((names.lock().clients, count(&mut asked)), (0, 1));
        });
    }
}
