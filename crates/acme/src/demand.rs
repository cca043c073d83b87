//! Certificates for names that only clients name.
//!
//! Whoever connects says what name is wanted, so everything here is bounded: names that are looked after at once, how
//! often somebody is asked, how many certificates are ordered in a time, how many there are. Nothing is ordered without
//! a yes, a no is remembered, and a name has one order at a time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bridge::control::FromAcme;
use config::model::acme::{Issuer, Model, OnDemand, Order, is_public_name};
use tokio::sync::Semaphore;

use crate::Failure;
use crate::ask;
use crate::clock::{Clock, SystemClock};
use crate::keeper::Keeper;
use crate::key::Pair;
use crate::order::{Answer, Front};
use crate::program::{Outlet, to_contents};
use crate::store::Store;

/// Names that are looked after at once.
const MOST_NAMES: usize = 256;
/// Questions at once.
const MOST_QUESTIONS: usize = 8;
/// Orders at once.
const MOST_ORDERS: usize = 4;
/// Names that were refused and are remembered.
const MOST_REFUSED: usize = 10_000;
/// How long a no holds, seconds.
const NO_TIME: u64 = 60;
/// How long nobody is asked who could not answer, or after an attempt, seconds.
const SHORT: u64 = 10;
/// How often a certificate that is used is looked after, seconds.
const LOOK: u64 = 6 * 3600;
/// How long no order is tried again, at most, seconds.
const LONGEST: u64 = 3600;
/// How often files that are of no use are looked for, at most.
const SWEEP: Duration = Duration::from_secs(60);
/// Questions: twenty a second, and a hundred at once.
const QUESTIONS: Rate = Rate { each: Duration::from_millis(50), burst: 100 };
/// Orders of new names: at most a hundred in any hour. Let's Encrypt takes three hundred in three.
const ORDERS: Rate = Rate { each: Duration::from_secs(45), burst: 20 };

/// All demands of a configuration.
pub(crate) struct Demands {
    shared: Rc<Shared>,
    known: HashMap<String, Rc<Demand>>,
}

struct Demand {
    settings: OnDemand,
    issuers: Vec<Issuer>,
    directory: PathBuf,
}

struct Shared {
    outlet: Rc<Outlet>,
    ledger: RefCell<Ledger>,
    /// Demand and name.
    running: RefCell<HashSet<(String, String)>>,
    questions: Semaphore,
    orders: Semaphore,
}

/// What came of a name.
enum Outcome {
    /// This certificate, and seconds until it is looked after again.
    Certificate(Pair, u64),
    /// None, and nothing will come for so many seconds.
    Nothing(u64),
}

impl Demands {
    pub(crate) fn new(outlet: Rc<Outlet>) -> Self {
        let shared = Shared {
            outlet,
            ledger: RefCell::new(Ledger::new(Instant::now())),
            running: RefCell::default(),
            questions: Semaphore::new(MOST_QUESTIONS),
            orders: Semaphore::new(MOST_ORDERS),
        };
        Self { shared: Rc::new(shared), known: HashMap::new() }
    }

    /// What is wanted now. What is under way goes on.
    pub(crate) fn take_over(&mut self, model: &Model) {
        // Another configuration may ask somebody else.
        self.shared.ledger.borrow_mut().refused.clear();
        let demands = model.on_demand.iter().filter_map(|settings| {
            let issuers = settings.issuers.iter();
            let issuers: Vec<Issuer> =
                issuers.filter_map(|at| model.issuers.get(*at as usize).cloned()).collect();
            let directory = issuers.first()?.state.join("on_demand");
            let demand = Demand { settings: settings.clone(), issuers, directory };
            Some((settings.name.clone(), Rc::new(demand)))
        });
        self.known = demands.collect();
    }

    /// A client has asked for a name.
    pub(crate) fn wanted(&self, demand: &str, name: &str) {
        let Some(known) = self.known.get(demand).filter(|_| is_public_name(name)) else {
            return self.shared.answer(demand, name, Outcome::Nothing(NO_TIME));
        };
        let key = (demand.to_owned(), name.to_owned());
        let is_full = self.shared.running.borrow().len() >= MOST_NAMES;
        if self.shared.running.borrow().contains(&key) {
            // Its answer comes.
            return;
        }
        if is_full {
            return self.shared.answer(demand, name, Outcome::Nothing(1));
        }
        self.shared.running.borrow_mut().insert(key.clone());
        let (known, shared) = (Rc::clone(known), Rc::clone(&self.shared));
        tokio::task::spawn_local(async move {
            let outcome = shared.look_after(&known, &key.1).await;
            shared.running.borrow_mut().remove(&key);
            shared.answer(&key.0, &key.1, outcome);
        });
    }
}

impl Shared {
    fn answer(&self, demand: &str, name: &str, outcome: Outcome) {
        let (body, again) = match outcome {
            Outcome::Certificate(pair, again) => (serde_json::to_value(to_contents(&pair)).ok(), again),
            Outcome::Nothing(again) => (None, again),
        };
        let (demand, name) = (demand.to_owned(), name.to_owned());
        self.outlet.tell(FromAcme::OnDemand { demand, name, again }, body);
    }

    async fn look_after(&self, demand: &Demand, name: &str) -> Outcome {
        let order = Order {
            name: name.to_owned(),
            identifiers: vec![name.to_owned()],
            key: demand.settings.key,
            issuers: Vec::new(),
        };
        let now = SystemClock.now();
        let stored = Store::of(&demand.directory).own(&order).filter(|it| it.leaf.validity.until > now);
        if let Some(stored) = &stored {
            // It is served whatever comes of asking whether it may be renewed.
            self.answer(&demand.settings.name, name, Outcome::Certificate(stored.pair.clone(), LOOK));
        }
        let outcome = match self.may(demand, name, stored.is_none()).await {
            Ok(()) => self.obtain(demand, order).await,
            Err(again) => Outcome::Nothing(again),
        };
        match (outcome, stored) {
            (Outcome::Nothing(again), Some(stored)) => {
                Outcome::Certificate(stored.pair, again.clamp(NO_TIME, LOOK))
            }
            (Outcome::Nothing(again), None) => {
                self.ledger.borrow_mut().refuse(name, now + again, now);
                Outcome::Nothing(again)
            }
            (outcome, _) => outcome,
        }
    }

    /// Whether a certificate may be ordered; the error is for how many seconds not.
    async fn may(&self, demand: &Demand, name: &str, is_new: bool) -> Result<(), u64> {
        let whom = &demand.settings.ask;
        if is_new {
            self.ledger.borrow_mut().may_ask(name, SystemClock.now(), Instant::now())?;
        }
        let Ok(_permit) = self.questions.acquire().await else { return Err(SHORT) };
        let (asked, asked_for) = (whom.clone(), name.to_owned());
        let said = tokio::task::spawn_blocking(move || ask::ask(&asked, &asked_for)).await;
        match said.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(true) => {}
            Ok(false) => {
                telemetry::info!("certificate {}: {} says that there is to be none", name, whom);
                return Err(NO_TIME);
            }
            Err(why) => {
                telemetry::error!(
                    "certificate {}: {} does not say whether there may be one, so there is none: {}",
                    name,
                    whom,
                    crate::failure::clean(&why)
                );
                return Err(SHORT);
            }
        }
        if !is_new {
            return Ok(());
        }
        let most = demand.settings.names;
        if !self.has_room(demand) {
            telemetry::error!("certificate {}: {} names have one already, so it gets none", name, most);
            return Err(NO_TIME);
        }
        self.ledger.borrow_mut().orders.take(Instant::now()).map_err(|pause| {
            telemetry::error!(
                "certificate {}: too many were ordered lately; this one may be in {} seconds",
                name,
                pause.as_secs() + 1
            );
            pause.as_secs() + 1
        })
    }

    fn has_room(&self, demand: &Demand) -> bool {
        let store = Store::of(&demand.directory);
        let most = demand.settings.names as usize;
        // Those that are under way have a file soon.
        if store.count() + self.ledger.borrow().under_way < most {
            return true;
        }
        let mut ledger = self.ledger.borrow_mut();
        if !ledger.may_sweep(Instant::now()) {
            return false;
        }
        store.sweep(SystemClock.now());
        store.count() + ledger.under_way < most
    }

    /// Orders it, or renews it, if it is time to.
    async fn obtain(&self, demand: &Demand, order: Order) -> Outcome {
        let _counted = Counted::new(&self.ledger);
        let Ok(_permit) = self.orders.acquire().await else { return Outcome::Nothing(SHORT) };
        let front = Rc::new(Apart(Rc::clone(&self.outlet)));
        let name = order.name.clone();
        let keeper = Store::open(&demand.directory).map_err(Failure::from);
        let keeper = keeper.and_then(|store| {
            Keeper::new(order, demand.issuers.clone(), front, SystemClock).map(|keeper| keeper.apart(store))
        });
        match keeper {
            Ok(mut keeper) => match keeper.settle().await {
                (Some(stored), pause) => Outcome::Certificate(stored.pair, pause.clamp(NO_TIME, LOOK)),
                (None, pause) => Outcome::Nothing(pause.clamp(SHORT, LONGEST)),
            },
            Err(failure) => {
                telemetry::error!("certificate {}: {}", name, failure);
                Outcome::Nothing(NO_TIME)
            }
        }
    }
}

/// An order that is under way.
struct Counted<'a>(&'a RefCell<Ledger>);

impl<'a> Counted<'a> {
    fn new(ledger: &'a RefCell<Ledger>) -> Self {
        ledger.borrow_mut().under_way += 1;
        Self(ledger)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().under_way -= 1;
    }
}

/// The way to authorities; certificates go another.
#[derive(Debug)]
struct Apart(Rc<Outlet>);

impl Front for Apart {
    fn serve(&self, _: &Order, _: &Pair) {}

    async fn put(&self, issuer: &Issuer, answer: Answer) -> Result<u64, Failure> {
        self.0.put(issuer, answer).await
    }

    fn take(&self, number: u64) {
        self.0.take(number);
    }
}

/// What is counted and remembered.
#[derive(Debug)]
struct Ledger {
    questions: Bucket,
    orders: Bucket,
    /// Until when, seconds since 1970.
    refused: HashMap<String, u64>,
    swept: Option<Instant>,
    under_way: usize,
}

impl Ledger {
    fn new(now: Instant) -> Self {
        Self {
            questions: Bucket::new(QUESTIONS, now),
            orders: Bucket::new(ORDERS, now),
            refused: HashMap::new(),
            swept: None,
            under_way: 0,
        }
    }

    /// The error is for how many seconds not.
    fn may_ask(&mut self, name: &str, now: u64, moment: Instant) -> Result<(), u64> {
        if let Some(left) = self.refused.get(name).and_then(|until| until.checked_sub(now))
            && left > 0
        {
            return Err(left);
        }
        self.questions.take(moment).map_err(|pause| pause.as_secs() + 1)
    }

    fn refuse(&mut self, name: &str, until: u64, now: u64) {
        if self.refused.len() >= MOST_REFUSED {
            self.refused.retain(|_, until| *until > now);
        }
        if self.refused.len() >= MOST_REFUSED {
            // Whoever sends so many has them asked anew, as often as may be asked.
            self.refused.clear();
        }
        self.refused.insert(name.to_owned(), until);
    }

    fn may_sweep(&mut self, now: Instant) -> bool {
        let may = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        if may {
            self.swept = Some(now);
        }
        may
    }
}

/// How often something may be.
#[derive(Debug, Clone, Copy)]
struct Rate {
    each: Duration,
    burst: u32,
}

/// What is left of that.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// When it is full again.
    full: Instant,
}

impl Bucket {
    const fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full: now }
    }

    /// Takes one; the error is how long until there is one.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let next = self.full.max(now) + self.rate.each;
        let most = self.rate.each * self.rate.burst;
        match next.saturating_duration_since(now).checked_sub(most) {
            Some(late) if !late.is_zero() => Err(late),
            _ => {
                self.full = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_a_hundred_are_ordered_in_any_hour() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(ORDERS, begin);
        let mut taken = Vec::new();
        for second in 0..3 * 3600 {
            let now = begin + Duration::from_secs(second);
            while bucket.take(now).is_ok() {
                taken.push(second);
            }
        }
        assert_eq!(taken.iter().filter(|second| **second == 0).count(), 20, "some at once");
        for start in 0..2 * 3600 {
            let within = taken.iter().filter(|second| (start..start + 3600).contains(*second)).count();
            assert!(within <= 100, "{within} from {start}");
        }
        let now = begin + Duration::from_secs(3 * 3600);
        let late = std::iter::repeat_with(|| bucket.take(now)).find_map(Result::err);
        assert!(late.is_some_and(|late| late <= ORDERS.each), "{late:?}");
    }

    #[test]
    fn a_no_is_remembered_and_a_flood_is_not_asked_about() {
        let moment = Instant::now();
        let mut ledger = Ledger::new(moment);
        ledger.may_ask("a.example", 100, moment).unwrap();
        ledger.refuse("a.example", 160, 100);
        assert_eq!(ledger.may_ask("a.example", 130, moment), Err(30));
        ledger.may_ask("a.example", 160, moment).unwrap();
        let asked =
            (0..1000).filter(|n| ledger.may_ask(&format!("{n}.example"), 160, moment).is_ok()).count();
        assert_eq!(asked, 98);
        for n in 0..3 * MOST_REFUSED {
            ledger.refuse(&format!("{n}.example"), 1000, 100);
        }
        assert!(ledger.refused.len() <= MOST_REFUSED);
    }

    #[test]
    fn files_are_swept_once_in_a_while() {
        let moment = Instant::now();
        let mut ledger = Ledger::new(moment);
        assert!(ledger.may_sweep(moment));
        assert!(!ledger.may_sweep(moment + Duration::from_secs(59)));
        assert!(ledger.may_sweep(moment + Duration::from_secs(60)));
    }
}
