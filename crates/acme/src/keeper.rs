//! One certificate for as long as it is wanted: served, renewed in time, and gone on with when that fails.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use config::model::acme::{Issuer, Order};
use telemetry::error_log::Level;

use crate::Failure;
use crate::clock::Clock;
use crate::issuer::{Authority, Suggestion};
use crate::key::Pair;
use crate::order::{Desk, Front};
use crate::schedule::{self, Validity, chance, duration};
use crate::store::{Locked, Rest, Store, Stored};

/// The longest sleep, seconds: somebody may set the clock.
const LONGEST_SLEEP: u64 = 3600;
/// How long somebody else's order is waited for before looking again, seconds.
const OTHERS_TIME: u64 = 10;
/// A pause that is longer than any: the clock was wrong when it was noted.
const NEVER: u64 = 9 * 24 * 3600;

/// Who looks after a certificate.
#[derive(Debug)]
pub struct Keeper<F, C> {
    order: Order,
    issuers: Vec<Issuer>,
    store: Store,
    front: Rc<F>,
    clock: C,
    /// One that the disk did not take.
    unkept: Option<Stored>,
    /// The certificate that is served.
    served: Option<Vec<u8>>,
    /// It has been said that there is none.
    is_without: bool,
    /// What an authority thinks of a certificate, and until when that holds.
    suggestion: Option<(Vec<u8>, Suggestion, u64)>,
    /// It has been said that somebody else orders.
    has_told: bool,
}

impl<F: Front, C: Clock> Keeper<F, C> {
    /// `issuers`: at least one. The directory of the first is made.
    pub fn new(order: Order, issuers: Vec<Issuer>, front: Rc<F>, clock: C) -> Result<Self, Failure> {
        let first =
            issuers.first().ok_or_else(|| Failure::Own("a certificate without an issuer".to_owned()))?;
        let store = Store::open(&first.state)?;
        Ok(Self {
            order,
            issuers,
            store,
            front,
            clock,
            unkept: None,
            served: None,
            is_without: false,
            suggestion: None,
            has_told: false,
        })
    }

    /// Keeps it in another directory than that of the first issuer, for a name that is not served before there is one.
    #[must_use]
    pub fn apart(self, store: Store) -> Self {
        Self { store, is_without: true, ..self }
    }

    /// Does what there is to do now, and waits for whoever else does it: the certificate that is there then, if it is
    /// still valid, and the seconds until there may be more to do.
    pub async fn settle(&mut self) -> (Option<Stored>, u64) {
        loop {
            let pause = self.turn().await;
            if pause > 0 && !self.has_told {
                let now = self.clock.now();
                let best = self.best(now).map(|(stored, _)| stored);
                return (best.filter(|stored| stored.leaf.validity.until > now), pause);
            }
            self.clock.sleep(Duration::from_secs(pause)).await;
        }
    }

    /// Does so for ever.
    pub async fn keep(mut self) -> Infallible {
        loop {
            let pause = self.turn().await;
            self.clock.sleep(Duration::from_secs(pause.clamp(1, LONGEST_SLEEP))).await;
        }
    }

    /// Does what there is to do now; the seconds until there may be more.
    pub async fn turn(&mut self) -> u64 {
        let now = self.clock.now();
        self.keep_again();
        let best = self.best(now);
        self.serve(best.as_ref().map(|(stored, _)| stored));
        let renewal = match &best {
            Some((stored, true)) => self.renewal(stored, now).await,
            // Something else is better than nothing, but not for long.
            _ => 0,
        };
        let due = renewal.max(self.rests_until(now));
        if due > now {
            self.has_told = false;
            let again =
                self.suggestion.as_ref().map_or(LONGEST_SLEEP, |(_, _, until)| until.saturating_sub(now));
            return (due - now).min(again);
        }
        match self.store.lock(&self.order) {
            Ok(Locked::Yes(_lock)) => {
                // Somebody else may have got one since.
                let current = self.best(now);
                if current != best {
                    return 0;
                }
                self.has_told = false;
                self.attempt(current.map(|(stored, _)| stored)).await
            }
            Ok(Locked::No(why)) => {
                if !self.has_told {
                    let name = &self.order.name;
                    telemetry::log!(
                        Level::Notice,
                        "certificate {}: somebody else is ordering it ({}); waiting",
                        name,
                        why
                    );
                    self.has_told = true;
                }
                OTHERS_TIME
            }
            Err(error) => {
                telemetry::error!("certificate {}: {}", self.order.name, error);
                schedule::pause(&Failure::from(error), 1, None, now, 0.0)
            }
        }
    }

    /// The certificate that is there, and whether it is for exactly what is wanted.
    fn best(&self, now: u64) -> Option<(Stored, bool)> {
        let kept = self.store.certificate(&self.order, now);
        let unkept = self.unkept.clone().map(|stored| (stored, true));
        [kept, unkept].into_iter().flatten().max_by_key(|(stored, own)| (*own, stored.leaf.validity.from))
    }

    fn serve(&mut self, best: Option<&Stored>) {
        match best {
            Some(stored) if self.served.as_ref() != stored.pair.chain.first() => {
                self.front.serve(&self.order, &stored.pair);
                self.served = stored.pair.chain.first().cloned();
            }
            None if !self.is_without => {
                self.is_without = true;
                telemetry::log!(
                    Level::Notice,
                    "certificate {}: until one is issued, one is served that no client trusts",
                    self.order.name
                );
            }
            _ => {}
        }
    }

    /// When it is to be renewed.
    async fn renewal(&mut self, stored: &Stored, now: u64) -> u64 {
        let leaf = &stored.pair.chain[0];
        let seed = chance(&[leaf]);
        let known = self.suggestion.as_ref().filter(|(of, _, until)| of == leaf && *until > now);
        let suggestion = if let Some((_, suggestion, _)) = known {
            *suggestion
        } else {
            let suggestion = self.ask(leaf).await;
            self.suggestion = Some((leaf.clone(), suggestion, now + suggestion.again));
            suggestion
        };
        schedule::renewal(stored.leaf.validity, suggestion.window, seed)
    }

    /// Asks the authorities, of which only the one that has issued it knows it.
    async fn ask(&self, leaf: &[u8]) -> Suggestion {
        let mut again = LONGEST_SLEEP;
        for issuer in &self.issuers {
            let accounts = Store::of(&issuer.state);
            // Nobody has an account with it yet, so it has issued nothing.
            if !Authority::is_known(issuer, &accounts) {
                continue;
            }
            if let Ok(authority) = Authority::open(issuer, &accounts).await {
                let suggestion = authority.suggestion(leaf).await;
                if suggestion.window.is_some() {
                    return suggestion;
                }
                again = again.max(suggestion.again);
            }
        }
        Suggestion { window: None, again }
    }

    /// Until when all authorities are left alone.
    fn rests_until(&self, now: u64) -> u64 {
        let note = self.store.note(&self.order);
        let rests = self.issuers.iter().map(|issuer| note.get(&issuer.directory).map_or(0, |rest| rest.next));
        rests.map(|next| if next > now + NEVER { 0 } else { next }).min().unwrap_or(0)
    }

    /// Tries the authorities in turn; the seconds until the next attempt.
    async fn attempt(&mut self, current: Option<Stored>) -> u64 {
        let mut note = self.store.note(&self.order);
        for issuer in self.issuers.clone() {
            let rest = note.get(&issuer.directory).cloned().unwrap_or_default();
            if rest.next > self.clock.now() && rest.next <= self.clock.now() + NEVER {
                continue;
            }
            match self.obtain(&issuer, current.as_ref()).await {
                Ok(pair) => {
                    self.succeeded(&issuer, pair);
                    return 0;
                }
                Err(failure) => {
                    let failures = rest.failures.saturating_add(1);
                    let now = self.clock.now();
                    let validity = current.as_ref().map(|stored| stored.leaf.validity);
                    let seed = chance(&[
                        self.order.name.as_bytes(),
                        &failures.to_be_bytes(),
                        &std::process::id().to_be_bytes(),
                    ]);
                    let pause = schedule::pause(&failure, failures, validity, now, seed);
                    self.tell(&issuer, &failure, validity, pause);
                    let rest = Rest { failures, next: now + pause, error: failure.to_string() };
                    note.insert(issuer.directory.clone(), rest);
                    if let Err(error) = self.store.keep_note(&self.order, &note) {
                        telemetry::error!("certificate {}: {}", self.order.name, error);
                        return pause;
                    }
                }
            }
        }
        self.rests_until(self.clock.now()).saturating_sub(self.clock.now())
    }

    async fn obtain(&self, issuer: &Issuer, current: Option<&Stored>) -> Result<Pair, Failure> {
        let accounts = Store::open(&issuer.state)?;
        for is_last in [false, true] {
            let outcome = match Authority::open(issuer, &accounts).await {
                Ok(authority) => {
                    let desk = Desk {
                        issuer,
                        authority: &authority,
                        order: &self.order,
                        store: &self.store,
                        front: &*self.front,
                        clock: &self.clock,
                    };
                    desk.obtain(current).await
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Err(Failure::NoAccount(why)) if !is_last => {
                    telemetry::warning!(
                        "{} does not know the account ({}); a new one is made",
                        issuer.name,
                        why
                    );
                    Authority::forget(issuer, &accounts);
                }
                other => return other,
            }
        }
        Err(Failure::NoAccount("no account".to_owned()))
    }

    fn succeeded(&mut self, issuer: &Issuer, pair: Pair) {
        let Ok(leaf) = crate::chain::look(&pair.chain) else { return };
        let now = self.clock.now();
        telemetry::log!(
            Level::Notice,
            "certificate {}: issued by {}; it {}",
            self.order.name,
            issuer.name,
            leaf.validity.left_in_words(now)
        );
        self.unkept = Some(Stored { pair, leaf });
        self.store.forget_note(&self.order);
        self.keep_again();
    }

    /// Keeps what the disk did not take.
    fn keep_again(&mut self) {
        let Some(stored) = &self.unkept else { return };
        match self.store.keep(&self.order, &stored.pair) {
            Ok(()) => self.unkept = None,
            Err(error) => telemetry::error!(
                "certificate {}: it is served, but it can't be kept: {}",
                self.order.name,
                error
            ),
        }
    }

    fn tell(&self, issuer: &Issuer, failure: &Failure, current: Option<Validity>, pause: u64) {
        let in_use = match current {
            Some(validity) => format!("the one in use {}", validity.left_in_words(self.clock.now())),
            None => "there is none yet".to_owned(),
        };
        telemetry::error!(
            "certificate {}: {} has not issued it: {}; {}; next attempt in {}",
            self.order.name,
            issuer.name,
            failure,
            in_use,
            duration(pause)
        );
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::path::Path;

    use config::model::acme::{Challenge, Key};

    use super::*;
    use crate::key;
    use crate::order::Answer;

    const NOW: u64 = 1_700_000_000;

    #[derive(Clone)]
    struct Hand(Rc<Cell<u64>>);

    impl Clock for Hand {
        fn now(&self) -> u64 {
            self.0.get()
        }

        async fn sleep(&self, time: Duration) {
            self.0.set(self.0.get() + time.as_secs().max(1));
        }
    }

    #[derive(Default)]
    struct Window(RefCell<Vec<Pair>>);

    impl Front for Window {
        fn serve(&self, _: &Order, pair: &Pair) {
            self.0.borrow_mut().push(pair.clone());
        }

        async fn put(&self, _: &Issuer, _: Answer) -> Result<u64, Failure> {
            Err(Failure::Own("nobody asks".into()))
        }

        fn take(&self, _: u64) {}
    }

    fn issuer(state: &Path, directory: &str) -> Issuer {
        Issuer {
            name: "ca".into(),
            directory: directory.into(),
            contact: vec![],
            account_key: None,
            challenge: Challenge::Http01,
            external_account: None,
            profile: None,
            trusted: None,
            verify: false,
            state: state.into(),
            accepted_terms: true,
            dns_hook: vec![],
        }
    }

    fn order() -> Order {
        Order {
            name: "a.example".into(),
            identifiers: vec!["a.example".into()],
            key: Key::P256,
            issuers: vec![0],
        }
    }

    fn keeper(state: &Path, clock: &Hand, front: &Rc<Window>) -> Keeper<Window, Hand> {
        // Nobody listens there.
        let issuers =
            vec![issuer(state, "https://127.0.0.1:1/dir"), issuer(state, "https://127.0.0.1:2/dir")];
        Keeper::new(order(), issuers, Rc::clone(front), clock.clone()).unwrap()
    }

    fn run(future: impl Future) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    }

    #[test]
    fn while_no_authority_answers_the_old_one_goes_on() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let (clock, front) = (Hand(Rc::new(Cell::new(NOW))), Rc::new(Window::default()));
            let mut keeper = keeper(directory.path(), &clock, &front);
            // It is valid for seven days.
            let pair = key::temporary(&order().identifiers, NOW).unwrap();
            keeper.store.keep(&order(), &pair).unwrap();
            let pause = keeper.turn().await;
            assert_eq!(front.0.borrow().as_slice(), std::slice::from_ref(&pair));
            assert!(pause > 0 && pause <= LONGEST_SLEEP);
            assert!(keeper.store.note(&order()).is_empty(), "nothing to do for days");
            clock.0.set(NOW + 6 * 86400);
            let mut last = 0;
            for turns in 1..=12 {
                let pause = keeper.turn().await;
                let note = keeper.store.note(&order());
                assert_eq!(note.len(), 2, "both were asked");
                assert_eq!(note["https://127.0.0.1:1/dir"].failures, turns);
                last = pause;
                clock.sleep(Duration::from_secs(pause)).await;
            }
            assert!(last <= 6 * 3600, "{last}");
            // A restart does not forget to wait.
            let mut again = self::keeper(directory.path(), &clock, &front);
            clock.0.set(clock.now() - 1);
            assert!(again.turn().await > 0);
            // Even when it has expired: a client that takes it is better off than with none.
            clock.0.set(NOW + 30 * 86400);
            keeper.turn().await;
            assert!(front.0.borrow().iter().all(|served| *served == pair));
        });
    }

    #[test]
    fn what_another_instance_has_got_is_taken() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let (clock, front) = (Hand(Rc::new(Cell::new(NOW))), Rc::new(Window::default()));
            let mut keeper = keeper(directory.path(), &clock, &front);
            let Locked::Yes(lock) = keeper.store.lock(&order()).unwrap() else { panic!() };
            assert_eq!(keeper.turn().await, OTHERS_TIME);
            assert!(keeper.store.note(&order()).is_empty(), "it has not tried itself");
            let pair = key::temporary(&order().identifiers, NOW).unwrap();
            keeper.store.keep(&order(), &pair).unwrap();
            drop(lock);
            keeper.turn().await;
            assert_eq!(front.0.borrow().last(), Some(&pair));
            assert!(keeper.store.note(&order()).is_empty());
        });
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_stop_it_for_ever() {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let (clock, front) = (Hand(Rc::new(Cell::new(NOW))), Rc::new(Window::default()));
            let mut keeper = keeper(directory.path(), &clock, &front);
            clock.0.set(NOW + 20 * 365 * 86400);
            keeper.turn().await;
            clock.0.set(NOW);
            keeper.turn().await;
            assert_eq!(keeper.store.note(&order())["https://127.0.0.1:1/dir"].failures, 2);
        });
    }
}
