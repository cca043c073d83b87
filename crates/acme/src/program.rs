//! The process that orders certificates: a child of the master, which hands its certificates and answers to the edge.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge::control::{ControlSocket, FromAcme, Received, ToAcme};
use config::model::acme::{Answer as Posted, Issuer, Mandate, Model, Order};
use config::model::tls::{Contents, Der, KeyForm, Secret};
use config::model::{LogLevel, Logs};
use sys::Watched;
use telemetry::error_log::{self, Level};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Failure;
use crate::clock::SystemClock;
use crate::demand::Demands;
use crate::hook::{self, Action, Record};
use crate::keeper::Keeper;
use crate::key::{self, Pair};
use crate::order::{Answer, Front};
use crate::store::Store;

/// How long the edge may take to put an answer in its place: it may be starting anew.
const EDGE_TIME: Duration = Duration::from_secs(60);
/// How long a keeper rests that could not begin.
const BAD_BEGIN: Duration = Duration::from_secs(60);

/// Runs until the master is gone. `control` is this side of its socket.
pub fn run(control: OwnedFd) -> ExitCode {
    match try_run(control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::critical!("the process for certificates ends: {}", error);
            ExitCode::FAILURE
        }
    }
}

/// The certificate that is there for an order, else one for the time until there is one.
pub fn contents(order: &Order, issuers: &[Issuer]) -> Option<Contents> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let first = issuers.get(*order.issuers.first()? as usize)?;
    let pair = match Store::of(&first.state).certificate(order, now) {
        Some((stored, _)) => stored.pair,
        None => key::temporary(&order.identifiers, now).ok()?,
    };
    Some(to_contents(&pair))
}

pub(crate) fn to_contents(pair: &Pair) -> Contents {
    Contents {
        chain: pair.chain.iter().cloned().map(Der).collect(),
        key: Secret(pair.key.clone()),
        form: KeyForm::Pkcs8,
        ocsp: None,
    }
}

fn try_run(control: OwnedFd) -> io::Result<()> {
    let master = ControlSocket::to_master(control);
    let Some(first) = master.recv::<ToAcme>()? else { return Ok(()) };
    let mandate: Mandate = first.body()?;
    // While this process may still open what is the super-user's.
    open_logs(&mandate.logs)?;
    if let Some(uid) = mandate.uid
        && rustix::process::geteuid().is_root()
    {
        let gid = mandate.gid.unwrap_or_else(|| rustix::process::getgid().as_raw());
        sys::drop_privileges(&sys::Identity { uid, gid, user: None })?;
    }
    master.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(master, mandate))
}

/// What goes to the master.
type Letter = (FromAcme, Option<serde_json::Value>);

async fn serve(master: ControlSocket, first: Mandate) -> io::Result<()> {
    let watch = Watched::new(master.as_fd().try_clone_to_owned()?)?;
    let master = Rc::new(master);
    let (letters, outbox) = mpsc::unbounded_channel();
    tokio::task::spawn_local(send(Rc::clone(&master), outbox));
    let outlet = Rc::new(Outlet {
        letters,
        // Not a number that the process before this one has used.
        next: Cell::new(
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64) << 8,
        ),
        waiting: RefCell::default(),
        records: RefCell::default(),
        served: RefCell::default(),
    });
    let mut keepers = Keepers { outlet: Rc::clone(&outlet), running: HashMap::new() };
    keepers.take_over(&first.acme);
    let mut demands = Demands::new(Rc::clone(&outlet));
    demands.take_over(&first.acme);
    loop {
        let mut ready = watch.readable().await?;
        let Ok(received) = ready.try_io(|_| master.recv::<ToAcme>()) else { continue };
        // Without a master nobody wants a certificate.
        let Some(Received { message, body, fds }) = received? else { return Ok(()) };
        match message {
            ToAcme::Configure {} => {
                let body = body.ok_or_else(|| io::Error::other("a configuration without its body"))?;
                let mandate: Mandate = serde_json::from_slice(&body)?;
                if let Err(error) = open_logs(&mandate.logs) {
                    telemetry::error!("{}", error);
                }
                keepers.take_over(&mandate.acme);
                demands.take_over(&mandate.acme);
            }
            ToAcme::Wanted { demand, name } => demands.wanted(&demand, &name),
            ToAcme::ChallengeSet { number } => {
                if let Some(waiting) = outlet.waiting.borrow_mut().remove(&number) {
                    let _ = waiting.send(());
                }
            }
            ToAcme::Reopen {} => {
                if let Some(log) = fds.first() {
                    rustix::stdio::dup2_stderr(log)?;
                }
            }
        }
    }
}

/// Sends, and waits while the master does not take it.
async fn send(master: Rc<ControlSocket>, mut letters: mpsc::UnboundedReceiver<Letter>) {
    while let Some((message, body)) = letters.recv().await {
        loop {
            let sent = match &body {
                Some(body) => master.send_with_body(&message, body, &[]),
                None => master.send(&message, &[]),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => break,
            }
        }
    }
}

/// The way to clients and authorities: by the master to the edge, or by a program to the DNS.
#[derive(Debug)]
pub(crate) struct Outlet {
    letters: mpsc::UnboundedSender<Letter>,
    next: Cell<u64>,
    /// Answers of which the edge has not said that they are there.
    waiting: RefCell<HashMap<u64, oneshot::Sender<()>>>,
    /// Records that are in the DNS, with the program that takes them out.
    records: RefCell<HashMap<u64, (Vec<String>, Record)>>,
    /// By the names of orders.
    served: RefCell<HashMap<String, Pair>>,
}

impl Outlet {
    pub(crate) fn tell(&self, message: FromAcme, body: Option<serde_json::Value>) {
        // It fails when everything ends.
        let _ = self.letters.send((message, body));
    }

    fn serve_by_name(&self, name: &str, pair: &Pair) {
        if let Ok(body) = serde_json::to_value(to_contents(pair)) {
            self.tell(FromAcme::Certificate { name: name.to_owned() }, Some(body));
        }
    }

    async fn post(&self, number: u64, posted: &Posted) -> Result<(), Failure> {
        let body = serde_json::to_value(posted).map_err(|error| Failure::Own(error.to_string()))?;
        let (is_set, set) = oneshot::channel();
        self.waiting.borrow_mut().insert(number, is_set);
        self.tell(FromAcme::Challenge { number }, Some(body));
        let outcome = tokio::time::timeout(EDGE_TIME, set).await;
        self.waiting.borrow_mut().remove(&number);
        if !matches!(outcome, Ok(Ok(()))) {
            self.take(number);
            return Err(Failure::Own("the edge has not taken the answer to the challenge".to_owned()));
        }
        Ok(())
    }
}

impl Front for Outlet {
    fn serve(&self, order: &Order, pair: &Pair) {
        self.served.borrow_mut().insert(order.name.clone(), pair.clone());
        self.serve_by_name(&order.name, pair);
    }

    async fn put(&self, issuer: &Issuer, answer: Answer) -> Result<u64, Failure> {
        let number = self.next.get();
        self.next.set(number + 1);
        match answer {
            Answer::Http { token, content } => self.post(number, &Posted::Http { token, content }).await?,
            Answer::TlsAlpn { server_name, pair } => {
                let contents = to_contents(&pair);
                self.post(number, &Posted::TlsAlpn { server_name, contents }).await?;
            }
            Answer::Dns(record) => {
                let hook = issuer.dns_hook.clone();
                // Also one that fails may have put something.
                self.records.borrow_mut().insert(number, (hook.clone(), record.clone()));
                let run = tokio::task::spawn_blocking(move || {
                    hook::run(&hook, Action::Present, &record, hook::TIME)
                });
                let outcome = run.await.unwrap_or_else(|error| Err(Failure::Own(error.to_string())));
                if let Err(failure) = outcome {
                    self.take(number);
                    return Err(failure);
                }
            }
        }
        Ok(number)
    }

    fn take(&self, number: u64) {
        let Some((hook, record)) = self.records.borrow_mut().remove(&number) else {
            self.tell(FromAcme::ChallengeGone { number }, None);
            return;
        };
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = hook::run(&hook, Action::Cleanup, &record, hook::TIME) {
                telemetry::error!("{}", failure);
            }
        });
    }
}

/// One keeper for each certificate.
struct Keepers {
    outlet: Rc<Outlet>,
    running: HashMap<String, Running>,
}

struct Running {
    order: Order,
    issuers: Vec<Issuer>,
    task: JoinHandle<()>,
}

impl Keepers {
    /// What is wanted now. Those that are wanted as before are not disturbed.
    fn take_over(&mut self, model: &Model) {
        let mut before = std::mem::take(&mut self.running);
        for order in &model.certificates {
            let issuers: Vec<Issuer> =
                order.issuers.iter().filter_map(|at| model.issuers.get(*at as usize).cloned()).collect();
            let order = Order { issuers: Vec::new(), ..order.clone() };
            let name = order.name.clone();
            let known = before.remove(&name).filter(|running| {
                (&running.order, &running.issuers) == (&order, &issuers) && !running.task.is_finished()
            });
            if let Some(known) = known {
                // The master may have read an older one from the disk.
                if let Some(pair) = self.outlet.served.borrow().get(&name) {
                    self.outlet.serve_by_name(&name, pair);
                }
                self.running.insert(name, known);
                continue;
            }
            self.outlet.served.borrow_mut().remove(&name);
            let task =
                tokio::task::spawn_local(keep(order.clone(), issuers.clone(), Rc::clone(&self.outlet)));
            self.running.insert(name, Running { order, issuers, task });
        }
        for (name, running) in before {
            // What it has put is taken away as it is dropped.
            running.task.abort();
            if !self.running.contains_key(&name) {
                self.outlet.served.borrow_mut().remove(&name);
            }
        }
    }
}

async fn keep(order: Order, issuers: Vec<Issuer>, outlet: Rc<Outlet>) {
    loop {
        match Keeper::new(order.clone(), issuers.clone(), Rc::clone(&outlet), SystemClock) {
            Ok(keeper) => match keeper.keep().await {},
            Err(failure) => {
                telemetry::error!("certificate {}: {}", order.name, failure);
                tokio::time::sleep(BAD_BEGIN).await;
            }
        }
    }
}

fn open_logs(logs: &Logs) -> io::Result<()> {
    match error_log::Logs::of(logs) {
        Some(logs) => error_log::init_nginx(&logs).map_err(io::Error::other)?,
        None => error_log::init(match logs.level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warning => Level::Warning,
            LogLevel::Error => Level::Error,
            LogLevel::Critical => Level::Critical,
        }),
    }
    Ok(())
}
