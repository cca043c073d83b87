//! One event loop: a thread with a runtime of its own, its connections, its side of the application.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use buffering::TempSpace;
use config::model::Address;
use exchange::Request;
use handlers::app::{App, Shared, Worker};
use protocol::{Deadlines, h1};
use sys::{Alarm, Watched};
use telemetry::error_log::{self, Level, Limit};
use telemetry::{AccessLog, AccessLogs, AccessLogsWriter, AccessWriter};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use crate::accept::{Accepted, accept};
use crate::apps::{Apps, Sides};
use crate::challenges::Challenges;
use crate::configuration::Configuration;
use crate::connection;
use crate::on_demand::OnDemand;
use crate::patience::Patience;
use crate::runtime::Runtime;
use crate::spread::{self, Spread, Trend};
use crate::watch::Watch;

/// How long requests are left to workers that are awake before it is seen whether they went on.
const WATCH_AFTER: Duration = Duration::from_millis(1);

/// Time between two writes to the logs. A single line is there at once; of many each waits so long at most, and they
/// are one write.
const WRITE_EVERY: Duration = Duration::from_millis(1);

/// How long a loop sleeps at most on which nothing goes on.
const QUIET: Duration = Duration::from_secs(1);
/// Thousandths of a processor: next to nothing.
const LOW: u32 = 10;

/// What the control loop tells an event loop.
pub enum Message {
    /// Go on with this configuration and these listeners.
    Configure(Arc<Configuration>, Vec<OwnedFd>),
    /// A connection that another loop accepted.
    Connection(Accepted),
    /// Begin to accept.
    Accept,
    /// The descriptor for a FILE frame of this application's slot is there.
    FileArrived(Arc<Shared>, u16),
    /// A worker of this application is gone.
    WorkerGone(Arc<Shared>, Arc<Worker>),
    /// Stop accepting, finish what is under way, for at most so long; then end.
    Stop(Duration),
}

/// What one loop counts and all loops show. On cache lines of their own, so that loops do not take them from each other.
#[derive(Default)]
#[repr(align(128))]
pub struct Counts {
    /// Requests that were begun so far.
    pub requests: Count,
    /// Requests of whose heads a part has come.
    pub reading: Count,
    /// Requests that are being answered.
    pub writing: Count,
}

/// A number that one thread changes and others read.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one. Only the loop that owns the number may.
    pub fn add(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes one away. Only the loop that owns the number may.
    pub fn take(&self) {
        self.0.store(self.get().wrapping_sub(1), Ordering::Relaxed);
    }
}

/// What all event loops of the process share.
pub struct Process {
    /// The applications' queues.
    pub apps: Apps,
    /// What certification authorities look for.
    pub challenges: Challenges,
    /// Certificates for names that only clients name.
    pub on_demand: OnDemand,
    /// The zones of the configuration, for those that purge.
    pub caches: std::sync::RwLock<Vec<Arc<cache::Zone>>>,
    /// All temporary files.
    pub temp: Arc<TempSpace>,
    /// Where each loop listens for messages.
    pub inboxes: Vec<UnboundedSender<Message>>,
    /// Which of them have the connections.
    pub spread: Spread,
    /// Connections that were accepted so far.
    pub accepted: AtomicU64,
    /// What each loop counts.
    pub counts: Vec<Counts>,
    /// When the process began: the zero of [`Process::millis`].
    pub begin: Instant,
    /// Connections that all loops may have.
    pub limit: AtomicUsize,
}

impl Process {
    /// Milliseconds since the process began.
    pub fn millis(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    /// These caches are there from now on.
    pub fn set_caches(&self, configuration: &Configuration) {
        *self.caches.write().unwrap_or_else(PoisonError::into_inner) = configuration.caches.zones().to_vec();
    }

    /// Removes what carries one of these tags from all caches; tells how much that was. Takes as long as it takes.
    pub fn purge_tags(&self, tags: &[u8]) -> u64 {
        let zones = self.caches.read().unwrap_or_else(PoisonError::into_inner).clone();
        zones.iter().map(|zone| zone.purge(cache::Purge::Tags(tags.to_vec()))).sum()
    }

    /// What `stub_status` shows.
    pub fn connections(&self) -> handlers::fixed::Connections {
        let active = self.spread.all_connections() as u64;
        let sum = |of: fn(&Counts) -> &Count| self.counts.iter().map(|counts| of(counts).get()).sum::<u64>();
        let writing = sum(|counts| &counts.writing).min(active);
        let reading = sum(|counts| &counts.reading).min(active - writing);
        let accepted = self.accepted.load(Ordering::Relaxed);
        handlers::fixed::Connections {
            active,
            accepted,
            handled: accepted,
            requests: sum(|counts| &counts.requests),
            reading,
            writing,
            waiting: active - writing - reading,
        }
    }

    /// Tells a loop something; gives it back when the loop has ended.
    pub fn send(&self, index: usize, message: Message) -> Result<(), Message> {
        self.inboxes[index].send(message).map_err(|e| e.0)
    }

    fn is_full(&self) -> bool {
        self.spread.all_connections() >= self.limit.load(Ordering::Relaxed)
    }
}

/// What a loop is started with.
pub struct Start {
    /// Its number.
    pub index: usize,
    /// What it shares.
    pub process: Arc<Process>,
    /// Its messages.
    pub inbox: UnboundedReceiver<Message>,
    /// The configuration.
    pub configuration: Arc<Configuration>,
    /// The access log, if there is one.
    pub access: Option<Arc<AccessLog>>,
}

/// The state of one event loop.
pub struct EventLoop {
    /// Its number.
    pub index: usize,
    /// What all loops share.
    pub process: Arc<Process>,
    /// Its side of the applications.
    sides: Rc<Sides>,
    /// The configuration that new requests are served with.
    pub runtime: RefCell<Rc<Runtime>>,
    /// Time-outs of all its connections.
    pub deadlines: Rc<Deadlines>,
    /// Buffers between requests.
    pub pool: Rc<h1::Pool>,
    /// Request objects between requests.
    #[expect(clippy::vec_box, reason = "a request that is on its way is not moved about")]
    pub requests: RefCell<Vec<Box<Request>>>,
    /// Its buffer of the access log.
    pub access: RefCell<Option<AccessWriter>>,
    /// Its buffers of nginx.conf's access logs.
    pub logs: RefCell<Option<AccessLogsWriter>>,
    /// Lines wait that a log is to have at once.
    pub lines: Notify,
    /// Accept errors are logged at most so often.
    pub accept_errors: Limit,
    date: RefCell<(Instant, [u8; 29])>,
    acceptors: RefCell<Vec<JoinHandle<()>>>,
    /// The first connection has come.
    begun: Notify,
    /// The time of what is still under way is over.
    cutting: Cell<bool>,
    /// What is done for groups of servers; of the first loop only.
    watch: RefCell<Watch>,
}

thread_local! {
    static PARKING: RefCell<Option<Rc<Sides>>> = const { RefCell::new(None) };
}

/// Runs a loop on this thread until it is stopped.
pub fn run(start: Start) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        // Not more: large files are sent in pieces, and whoever takes the next one is heard of between.
        .event_interval(61)
        .on_thread_unpark(exchange::begin_turn)
        .on_thread_park(|| {
            PARKING.with_borrow(|sides| {
                if let Some(sides) = sides {
                    sides.before_park();
                }
            });
        })
        .build_local(LocalOptions::default())?;
    let result = runtime.block_on(async move {
        let inbox = start.inbox;
        let event_loop = EventLoop::new(start.index, start.process, &start.configuration, start.access)?;
        PARKING.set(Some(Rc::clone(&event_loop.sides)));
        event_loop.spawn_services([Alarm::new()?, Alarm::new()?]);
        event_loop.watch_servers(&start.configuration);
        event_loop.messages(inbox).await;
        io::Result::Ok(())
    });
    // Before the thread's last park, which must not touch what the runtime has dropped.
    PARKING.set(None);
    runtime.shutdown_background();
    result
}

impl EventLoop {
    fn new(
        index: usize,
        process: Arc<Process>,
        configuration: &Arc<Configuration>,
        access: Option<Arc<AccessLog>>,
    ) -> io::Result<Rc<Self>> {
        let sides = Rc::new(Sides::default());
        let model = &configuration.model;
        let apps = sides.of(&process.apps, index, model, &process.temp, spawn_driver)?;
        let logs = configuration.logs.as_ref().map(AccessLogs::writer);
        Ok(Rc::new(Self {
            index,
            sides,
            runtime: RefCell::new(Runtime::compile(configuration, apps)?),
            logs: RefCell::new(logs),
            process,
            deadlines: Deadlines::new(),
            pool: Rc::default(),
            requests: RefCell::default(),
            access: RefCell::new(access.map(|a| a.writer())),
            lines: Notify::new(),
            begun: Notify::new(),
            cutting: Cell::new(false),
            accept_errors: Limit::new(),
            date: RefCell::new((Instant::now(), date_now())),
            acceptors: RefCell::default(),
            watch: RefCell::default(),
        }))
    }

    /// Writes the lines of access logs that are to be in their files at once.
    pub fn write_lines(&self) {
        if let Some(access) = &mut *self.access.borrow_mut() {
            access.flush();
        }
        if let Some(logs) = &mut *self.logs.borrow_mut() {
            logs.write();
        }
    }

    fn tick_logs(&self) {
        if let Some(logs) = &mut *self.logs.borrow_mut() {
            logs.tick(Instant::now());
        }
    }

    /// Goes on with what a configuration wants to be done for groups of servers.
    fn watch_servers(&self, configuration: &Arc<Configuration>) {
        if self.index == 0 {
            let mut watch = self.watch.borrow_mut();
            watch.end();
            *watch = Watch::begin(configuration, &self.deadlines);
        }
    }

    /// What runs beside the connections: the ticker, the driver of the bridge, the flush of the log.
    fn spawn_services(self: &Rc<Self>, [deadlines, looks]: [Alarm; 2]) {
        tokio::task::spawn_local(Rc::clone(&self.deadlines).tick(deadlines));
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                let due = this.logs.borrow().as_ref().and_then(AccessLogsWriter::deadline);
                // Behind the tasks that have their turn now.
                tokio::select! {
                    () = this.lines.notified() => {}
                    () = at(due) => this.tick_logs(),
                }
                this.write_lines();
                tokio::time::sleep(WRITE_EVERY).await;
            }
        });
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut load = Load::new();
            let mut patience = Patience::default();
            loop {
                this.wait_for_look(&load, &looks).await;
                let (busy, intervals) = load.look();
                // Whoever has no time left is what the workers wait for.
                patience.note(busy < spread::FULL && this.sides.have_queue());
                this.process.spread.note(this.index, busy, intervals, &mut load.trend);
                let runtime = Rc::clone(&this.runtime.borrow());
                this.sides.tick(&runtime.apps);
                if let Some(site) = &runtime.site {
                    site.tick();
                }
                if let Some(access) = &mut *this.access.borrow_mut() {
                    access.tick(Instant::now());
                }
                this.tick_logs();
            }
        });
    }

    /// Until it is time to look around again: soon where something goes on. A loop that is woken for nothing is not
    /// only a waste; a scheduler that sees a processor do nothing between two requests moves to it what is better off
    /// where it is.
    async fn wait_for_look(&self, load: &Load, alarm: &Alarm) {
        let is_quiet = if self.process.spread.connections(self.index) == 0 {
            !self.sides.are_busy()
        } else {
            load.is_low() && self.sides.are_none()
        };
        if is_quiet {
            tokio::select! {
                () = alarm.after(QUIET) => {}
                () = self.begun.notified() => {}
            }
        } else {
            alarm.after(spread::INTERVAL).await;
        }
    }

    /// Goes on with another configuration; one that can't be used is refused whole.
    fn configure(&self, configuration: &Arc<Configuration>) -> io::Result<()> {
        let model = &configuration.model;
        let process = &self.process;
        let apps = self.sides.of(&process.apps, self.index, model, &process.temp, spawn_driver)?;
        *self.runtime.borrow_mut() = Runtime::compile(configuration, apps)?;
        *self.logs.borrow_mut() = configuration.logs.as_ref().map(AccessLogs::writer);
        self.deadlines.renew();
        Ok(())
    }

    async fn messages(self: &Rc<Self>, mut inbox: UnboundedReceiver<Message>) {
        let mut listeners = Vec::new();
        let mut accepting = false;
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Configure(configuration, new) => {
                    match self.configure(&configuration) {
                        Ok(()) => self.watch_servers(&configuration),
                        Err(error) => error_log::write(
                            Level::Error,
                            format_args!("the new configuration is not taken: {error}"),
                        ),
                    }
                    let model = &configuration.model;
                    let addresses = model.listeners.iter().map(|l| Arc::new(l.address.clone()));
                    listeners = addresses.zip(new).collect();
                    if accepting {
                        self.listen(std::mem::take(&mut listeners));
                    }
                }
                Message::Connection(accepted) => self.serve(accepted),
                Message::Accept => {
                    accepting = true;
                    self.listen(std::mem::take(&mut listeners));
                }
                Message::WorkerGone(shared, worker) => self.worker_gone(&shared, &worker),
                Message::FileArrived(shared, slot) => self.file_arrived(&shared, slot),
                Message::Stop(limit) => {
                    self.stop_listening();
                    self.drain(limit, &mut inbox).await;
                    return;
                }
            }
        }
    }

    fn worker_gone(&self, shared: &Arc<Shared>, worker: &Worker) {
        if let Some(app) = self.sides.side_of(shared) {
            app.worker_gone(worker);
        }
    }

    fn file_arrived(&self, shared: &Arc<Shared>, slot: u16) {
        if let Some(app) = self.sides.side_of(shared) {
            app.file_arrived(slot);
        }
    }

    fn listen(self: &Rc<Self>, listeners: Vec<(Arc<Address>, OwnedFd)>) {
        self.stop_listening();
        for (address, listener) in listeners {
            let task = tokio::task::spawn_local(accept(Rc::clone(self), address, listener));
            self.acceptors.borrow_mut().push(task);
        }
    }

    fn stop_listening(&self) {
        for task in self.acceptors.borrow_mut().drain(..) {
            task.abort();
        }
    }

    /// Lets connections finish what is under way.
    async fn drain(self: &Rc<Self>, limit: Duration, inbox: &mut UnboundedReceiver<Message>) {
        let end = tokio::time::Instant::now() + limit;
        self.deadlines.end_idle();
        while self.process.spread.connections(self.index) > 0 && tokio::time::Instant::now() < end {
            let wait = tokio::time::sleep(Duration::from_millis(10));
            tokio::select! {
                () = wait => {}
                message = inbox.recv() => match message {
                    Some(Message::WorkerGone(shared, worker)) => self.worker_gone(&shared, &worker),
                    Some(Message::FileArrived(shared, slot)) => self.file_arrived(&shared, slot),
                    Some(Message::Connection(accepted)) => self.serve(accepted),
                    Some(Message::Stop(limit)) if limit.is_zero() => break,
                    Some(_) => {}
                    None => break,
                },
            }
        }
        let left = self.process.spread.connections(self.index);
        if left > 0 {
            let words = if left == 1 { "connection was" } else { "connections were" };
            error_log::write(Level::Warning, format_args!("{left} {words} cut at the end"));
            self.cutting.set(true);
        }
        if let Some(access) = &mut *self.access.borrow_mut() {
            access.flush();
        }
        if let Some(logs) = &mut *self.logs.borrow_mut() {
            logs.flush();
        }
    }

    /// Gives a connection to another loop, if there is a place for it; else it is served here.
    pub fn hand_over(self: &Rc<Self>, accepted: Accepted, place: Option<usize>) {
        let Some(place) = place else { return self.serve(accepted) };
        // What cannot be sent is ours: the other loop has ended, and this one soon will.
        if let Err(Message::Connection(back)) = self.process.send(place, Message::Connection(accepted)) {
            self.serve(back);
        }
    }

    /// Begins to serve a connection on this loop.
    pub fn serve(self: &Rc<Self>, accepted: Accepted) {
        // One that comes from another loop is counted there still.
        let is_new = accepted.requests == 0;
        let refused = is_new && self.process.is_full() && !self.deadlines.end_oldest_idle();
        if self.process.spread.begin(self.index) == 0 {
            self.begun.notify_one();
        }
        let this = Rc::clone(self);
        // In a box: the task of an idle connection keeps a place for what it began with.
        let accepted = Box::new(accepted);
        tokio::task::spawn_local(async move {
            connection::serve(&this, accepted, refused).await;
            this.process.spread.end(this.index);
        });
    }

    /// Whether what is still under way is cut now.
    pub fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    /// The configuration that new requests are served with.
    pub fn runtime(&self) -> Rc<Runtime> {
        Rc::clone(&self.runtime.borrow())
    }

    /// What this loop counts.
    pub fn counts(&self) -> &Counts {
        &self.process.counts[self.index]
    }

    /// The value of `Date`, made once a second.
    pub fn date(&self) -> [u8; 29] {
        let mut date = self.date.borrow_mut();
        let now = exchange::now();
        if now.duration_since(date.0) >= Duration::from_millis(500) {
            *date = (now, date_now());
        }
        date.1
    }
}

/// Until then; without a time for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn spawn_driver(app: &Rc<App>) -> io::Result<JoinHandle<()>> {
    let bell = Watched::new(app.bell()?)?;
    Ok(tokio::task::spawn_local(drive(Rc::clone(app), bell)))
}

/// Takes in what workers write, for as long as the loop runs.
async fn drive(app: Rc<App>, bell: Watched) {
    let mut watch = pin!(tokio::time::sleep(Duration::ZERO));
    let mut watching = false;
    poll_fn(|cx| {
        app.turn(cx.waker());
        while let Poll::Ready(ready) = bell.poll_read_ready(cx) {
            let Ok(mut ready) = ready else { return Poll::Ready(()) };
            ready.clear_ready();
            app.turn(cx.waker());
        }
        while app.is_watching() {
            if !watching {
                watching = true;
                watch.as_mut().reset(tokio::time::Instant::now() + WATCH_AFTER);
            }
            if watch.as_mut().poll(cx).is_pending() {
                break;
            }
            watching = false;
            app.catch_up();
        }
        Poll::Pending
    })
    .await;
}

/// What this thread's load was lately.
struct Load {
    at: Instant,
    used: Duration,
    /// Thousandths of a processor.
    busy: u32,
    trend: Trend,
}

impl Load {
    fn new() -> Self {
        Self { at: Instant::now(), used: processor_time(), busy: 0, trend: Trend::default() }
    }

    /// Whether the thread had next to nothing to do.
    fn is_low(&self) -> bool {
        self.busy < LOW
    }

    /// The share of a processor that this thread had since the last call, in thousandths, and how many intervals that
    /// is ago.
    fn look(&mut self) -> (u32, u32) {
        let (now, used) = (Instant::now(), processor_time());
        let elapsed = now.duration_since(self.at).as_micros().max(1);
        let busy = used.saturating_sub(self.used).as_micros() * 1000 / elapsed;
        (self.at, self.used) = (now, used);
        self.busy = u32::try_from(busy).unwrap_or(u32::MAX);
        (self.busy, u32::try_from(elapsed / spread::INTERVAL.as_micros()).unwrap_or(u32::MAX).max(1))
    }
}

/// What this thread has had of a processor since it began.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn date_now() -> [u8; 29] {
    exchange::http_date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}
