//! The edge's main thread: the master's word, the workers' sockets, the life of the event loops.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bridge::control::{ControlSocket, FromEdge, Received, ToEdge};
use buffering::TempSpace;
use config::model::http::Http;
use config::model::tls::{Contents, Secret};
use config::model::{LogLevel, LogTarget, Model};
use handlers::app::{Event, Shared, Worker};
use listen::tls::Ratchet;
use sys::Watched;
use telemetry::error_log::{self, Level};
use telemetry::{AccessFormat, AccessLog, Target};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::apps::Apps;
use crate::challenges::Challenges;
use crate::configuration::Configuration;
use crate::event_loop::{self, Counts, Message, Process, Start};
use crate::on_demand::{OnDemand, Wanted};
use crate::spread::Spread;
use crate::workers::{self, Announced, Heard};

/// Between two looks whether anybody still waits for an application that was removed.
const LOOK_AT_QUEUE: Duration = Duration::from_millis(50);

/// The state of the control loop.
struct Control {
    master: ControlSocket,
    /// Readable when the master has said something.
    watch: Watched,
    process: Arc<Process>,
    access: Option<Arc<AccessLog>>,
    configuration: Arc<Configuration>,
    heard: UnboundedSender<Heard>,
    workers: HashMap<u64, (Arc<Shared>, Arc<Worker>)>,
    /// Our ends of the sockets of all workers, those that boot too.
    sockets: HashMap<u64, Arc<OwnedFd>>,
    /// Workers whose end has been reported as theirs, so that it is not their fault.
    draining: Vec<u64>,
    stopping: bool,
}

/// Runs the edge until the master lets it end.
pub fn run(control: OwnedFd) -> io::Result<()> {
    let master = ControlSocket::to_master(control);
    let first = master.recv::<ToEdge>()?.ok_or_else(|| io::Error::other("the master is gone"))?;
    let ToEdge::Configure { http } = first.message else {
        return Err(io::Error::other("the master's first word is not the configuration"));
    };
    match receive_model(first, http).and_then(|(model, listeners)| start(model, &listeners)) {
        Ok(started) => {
            master.send(&FromEdge::Configured {}, &[])?;
            master.set_nonblocking(true)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())?;
            runtime.block_on(serve(master, started))
        }
        Err(error) => {
            master.send(&FromEdge::Fatal { text: error.to_string() }, &[])?;
            Err(error)
        }
    }
}

/// What is running once the first configuration is taken.
struct Started {
    process: Arc<Process>,
    access: Option<Arc<AccessLog>>,
    configuration: Arc<Configuration>,
    events: UnboundedReceiver<Event>,
    wanted: UnboundedReceiver<Wanted>,
    ended: UnboundedReceiver<usize>,
    loops: usize,
}

/// The model that a `configure` brings, and the listeners.
fn receive_model(received: Received<ToEdge>, http: bool) -> io::Result<(Model, Vec<OwnedFd>)> {
    let mut model: Model = received.body()?;
    let mut fds = received.fds.into_iter();
    if http {
        let file = fds.next().ok_or_else(|| io::Error::other("a configuration without its http block"))?;
        let mut packed = Vec::new();
        // The master goes on with the same file, and with it the place where it is read.
        let mut file = File::from(file);
        file.rewind()?;
        file.read_to_end(&mut packed)?;
        model.http = Some(Arc::new(Http::unpack(&packed).map_err(io::Error::other)?));
    }
    Ok((model, fds.collect()))
}

/// For the descriptors of all connections that there may be, and of what is open beside them.
fn make_room(model: &Model) {
    sys::make_room_for_fds((model.edge.connections as usize).saturating_add(256));
}

/// `$TMPDIR`, and as with Python's tempfile `/tmp` where that is no directory.
fn temp_dir() -> PathBuf {
    let named = std::env::temp_dir();
    if named.is_dir() {
        return named;
    }
    telemetry::warning!("$TMPDIR: {} is no directory; temporary files are made in /tmp", named.display());
    PathBuf::from("/tmp")
}

fn start(model: Model, listeners: &[OwnedFd]) -> io::Result<Started> {
    // While this process may still open what is the super-user's.
    open_error_logs(&model)?;
    let access = open_access_log(&model)?;
    make_room(&model);
    let count = model.edge.thread_count().clamp(1, 256);
    let temp_dir = model.edge.buffers.temp_dir.clone().unwrap_or_else(temp_dir);
    let (events_in, events) = unbounded_channel();
    let (wanted_in, wanted) = unbounded_channel();
    let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
    let process = Arc::new(Process {
        apps: Apps::new(count, events_in),
        challenges: Challenges::default(),
        on_demand: OnDemand::new(wanted_in),
        caches: RwLock::default(),
        temp: TempSpace::new(temp_dir, model.edge.buffers.temp_space),
        inboxes,
        spread: Spread::new(count),
        accepted: AtomicU64::new(0),
        counts: (0..count).map(|_| Counts::default()).collect(),
        begin: Instant::now(),
        limit: AtomicUsize::new(model.edge.connections as usize),
    });
    if let Some(uid) = model.process.uid {
        drop_privileges(&model, uid)?;
    }
    // Before the loops run, so that an error in it stops the start.
    process.apps.open_all(&model)?;
    let configuration = Configuration::open(model, None)?;
    crate::runtime::Runtime::compile(&configuration, vec![])?;
    process.set_caches(&configuration);
    let (ended_in, ended) = unbounded_channel();
    for (index, inbox) in receivers.into_iter().enumerate() {
        // The event loops have copies of the listeners; one more would keep a socket open that a reload takes away.
        let listeners = clone_all(listeners)?;
        let _ = process.send(index, Message::Configure(Arc::clone(&configuration), listeners));
        let start = Start {
            index,
            process: Arc::clone(&process),
            inbox,
            configuration: Arc::clone(&configuration),
            access: access.clone(),
        };
        let ended = ended_in.clone();
        thread::Builder::new().name(format!("edge-{index}")).spawn(move || {
            if let Err(error) = event_loop::run(start) {
                error_log::write(Level::Critical, format_args!("event loop {index} ends: {error}"));
            }
            let _ = ended.send(index);
        })?;
    }
    Ok(Started { process, access, configuration, events, wanted, ended, loops: count })
}

fn drop_privileges(model: &Model, uid: u32) -> io::Result<()> {
    let gid = model.process.gid.unwrap_or_else(|| rustix::process::getgid().as_raw());
    if rustix::process::geteuid().is_root() {
        let identity = sys::Identity { uid, gid, user: None };
        if uid != 0 && model.binds_transparently() {
            sys::drop_privileges_but_raw_sockets(&identity)?;
        } else {
            sys::drop_privileges(&identity)?;
        }
    }
    Ok(())
}

async fn serve(master: ControlSocket, mut started: Started) -> io::Result<()> {
    let (heard_in, mut heard) = unbounded_channel();
    let mut control = Control {
        watch: Watched::new(master.as_fd().try_clone_to_owned()?)?,
        master,
        process: started.process,
        access: started.access,
        configuration: started.configuration,
        heard: heard_in,
        workers: HashMap::new(),
        sockets: HashMap::new(),
        draining: Vec::new(),
        stopping: false,
    };
    let mut loops = started.loops;
    loop {
        tokio::select! {
            message = receive(&control.watch, &control.master) => match message? {
                Some(message) => control.obey(message)?,
                // Without a master nobody replaces a worker or listens to a signal.
                None => return Ok(()),
            },
            Some(heard) = heard.recv() => control.hear(&heard)?,
            Some(event) = started.events.recv() => control.report(event)?,
            Some((demand, name)) = started.wanted.recv() => control.tell(&FromEdge::Wanted { demand, name })?,
            Some(_) = started.ended.recv() => {
                loops -= 1;
                if !control.stopping {
                    return Err(io::Error::other("an event loop ended by itself"));
                }
                if loops == 0 {
                    control.tell(&FromEdge::Stopped {})?;
                    return Ok(());
                }
            }
        }
    }
}

async fn receive(watch: &Watched, master: &ControlSocket) -> io::Result<Option<Received<ToEdge>>> {
    loop {
        let mut ready = watch.readable().await?;
        if let Ok(message) = ready.try_io(|_| master.recv()) {
            return message;
        }
    }
}

impl Control {
    fn tell(&self, message: &FromEdge) -> io::Result<()> {
        self.master.send(message, &[])
    }

    fn all(&self, message: impl Fn() -> io::Result<Message>) -> io::Result<()> {
        for index in 0..self.process.inboxes.len() {
            // A loop that has ended needs no word.
            let _ = self.process.send(index, message()?);
        }
        Ok(())
    }

    fn obey(&mut self, received: Received<ToEdge>) -> io::Result<()> {
        match received.message {
            ToEdge::Configure { http } => {
                let (model, listeners) = receive_model(received, http)?;
                self.configure(model, &listeners)
            }
            ToEdge::Worker { worker, app, claimers, max_requests, .. } => {
                let Some(socket) = received.fds.into_iter().next() else {
                    return Err(io::Error::other("a worker without its socket"));
                };
                // A new generation may bring an application that the edge is not configured for yet.
                let app = self.process.apps.open(&app, claimers.into())?;
                let socket = Arc::new(socket);
                self.sockets.insert(worker, Arc::clone(&socket));
                let announced = Announced { id: worker, app, claimers, max_requests, socket };
                let process = Arc::clone(&self.process);
                tokio::task::spawn_local(workers::follow(process, announced, self.heard.clone()));
                Ok(())
            }
            ToEdge::Drain { worker } => {
                self.draining.push(worker);
                match self.workers.get(&worker) {
                    Some((app, known)) => self.drain(app, known),
                    None => self.tell(&FromEdge::WorkerDrained { worker })?,
                }
                Ok(())
            }
            ToEdge::Exited { worker } => {
                // Whoever follows it reads what it still said, and then its end.
                if let Some(socket) = self.sockets.get(&worker) {
                    // It cannot fail but for a socket that is at its end already.
                    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
                }
                Ok(())
            }
            ToEdge::Abandon { app } => {
                if let Some(app) = self.process.apps.named(&app) {
                    app.abandon();
                }
                Ok(())
            }
            ToEdge::Reopen {} => {
                for error in self.configuration.logs.iter().flat_map(|logs| logs.reopen()) {
                    error_log::write(Level::Error, format_args!("{error}"));
                }
                if let Some(access) = &self.access
                    && let Err(error) = access.reopen()
                {
                    error_log::write(
                        Level::Error,
                        format_args!("the access log can't be opened again: {error}"),
                    );
                }
                if let Some(log) = received.fds.first() {
                    rustix::stdio::dup2_stderr(log)?;
                }
                Ok(())
            }
            ToEdge::Stop { graceful, seconds } => {
                self.stopping = true;
                let limit = if graceful { Duration::from_secs(seconds) } else { Duration::ZERO };
                self.all(|| Ok(Message::Stop(limit)))
            }
            ToEdge::Accept {} => self.all(|| Ok(Message::Accept)),
            ToEdge::Tickets {} => {
                let secret: Secret = received.body()?;
                let ratchet =
                    Ratchet::of_bytes(&secret.0).ok_or_else(|| io::Error::other("half a secret"))?;
                self.configuration.tls.sessions().set_ratchet(ratchet);
                Ok(())
            }
            ToEdge::Certificate { ref name } => {
                if let Err(error) = self.configuration.tls.replace(name, &received.body()?) {
                    error_log::write(Level::Error, format_args!("{error}"));
                }
                Ok(())
            }
            ToEdge::Challenge { number } => {
                match self.process.challenges.put(number, received.body()?) {
                    Ok(()) => self.tell(&FromEdge::ChallengeSet { number })?,
                    Err(error) => error_log::write(Level::Error, format_args!("{error}")),
                }
                Ok(())
            }
            ToEdge::OnDemand { demand, name, again } => {
                let body = received.body.as_deref();
                let contents: Option<Contents> = body.map(serde_json::from_slice).transpose()?;
                let again = Duration::from_secs(again);
                let demands = &self.configuration.model.acme.on_demand;
                let most = demands.iter().find(|known| known.name == demand).map_or(0, |known| known.names);
                if most > 0 {
                    self.process.on_demand.answer((demand, name), contents.as_ref(), again, most as usize);
                }
                Ok(())
            }
            ToEdge::ChallengeGone { number } => {
                self.process.challenges.take(number);
                Ok(())
            }
        }
    }

    /// Lets a worker end with what it runs. Others take what is queued, unless its application was removed: then it
    /// goes on until nobody waits. For how long at most, the master says.
    fn drain(&self, app: &Arc<Shared>, worker: &Arc<Worker>) {
        if self.process.apps.has(app) {
            return app.region.stop_claimers(worker.claimers.clone());
        }
        let (app, worker) = (Arc::clone(app), Arc::clone(worker));
        tokio::task::spawn_local(async move {
            loop {
                // The first wait is for event loops that have not heard of the removal yet.
                tokio::time::sleep(LOOK_AT_QUEUE).await;
                if app.waiting() == 0 || worker.is_gone() {
                    return app.region.stop_claimers(worker.claimers.clone());
                }
            }
        });
    }

    /// A new configuration. One that can't be used is refused whole; the old one goes on.
    fn configure(&mut self, model: Model, listeners: &[OwnedFd]) -> io::Result<()> {
        let opened = self.process.apps.open_all(&model).and_then(|()| {
            let configuration = Configuration::open(model, Some(&self.configuration))?;
            crate::runtime::Runtime::compile(&configuration, vec![])?;
            open_error_logs(&configuration.model)?;
            Ok(configuration)
        });
        let configuration = match opened {
            Ok(configuration) => configuration,
            Err(error) => {
                error_log::write(Level::Error, format_args!("the new configuration is not taken: {error}"));
                return self.tell(&FromEdge::Configured {});
            }
        };
        self.process.set_caches(&configuration);
        let model = &configuration.model;
        self.process.limit.store(model.edge.connections as usize, Ordering::Relaxed);
        make_room(model);
        self.all(|| Ok(Message::Configure(Arc::clone(&configuration), clone_all(listeners)?)))?;
        self.process.apps.retain(model);
        configuration.tls.retain(model);
        self.process.on_demand.retain(&model.acme.on_demand);
        self.configuration = configuration;
        self.tell(&FromEdge::Configured {})
    }

    fn hear(&mut self, heard: &Heard) -> io::Result<()> {
        match heard {
            Heard::Ready(app, worker) => {
                self.workers.insert(worker.id, (Arc::clone(app), Arc::clone(worker)));
                if self.draining.contains(&worker.id) {
                    app.region.stop_claimers(worker.claimers.clone());
                }
            }
            Heard::Gone { app, id, worker, .. } => {
                self.workers.remove(id);
                self.sockets.remove(id);
                app.remove_worker(*id);
                if let Some(worker) = worker {
                    release_later(app, worker);
                }
                if self.draining.contains(id) {
                    self.draining.retain(|d| d != id);
                    self.tell(&FromEdge::WorkerDrained { worker: *id })?;
                }
            }
        }
        self.tell(&workers::report(heard))
    }

    fn report(&self, event: Event) -> io::Result<()> {
        match event {
            Event::Recycle { worker } => {
                self.tell(&FromEdge::WorkerRecycle { worker, reason: "max_requests".to_owned() })
            }
            Event::Overran { worker, method, path, seconds } => {
                let graceful = self.workers.get(&worker).is_some_and(|(_, w)| w.claimers.len() > 1);
                self.tell(&FromEdge::WorkerOverran { worker, method, path: shorten(path), seconds, graceful })
            }
            Event::Silent { worker, seconds } => self.tell(&FromEdge::WorkerSilent { worker, seconds }),
            Event::Broken { worker, why } => {
                error_log::write(Level::Error, format_args!("worker {worker}: {why}"));
                self.tell(&FromEdge::WorkerOverran {
                    worker,
                    method: "-".to_owned(),
                    path: "-".to_owned(),
                    seconds: 0.0,
                    graceful: false,
                })
            }
        }
    }
}

/// The claimers of a dead worker are free once every loop has looked after its requests.
fn release_later(app: &Shared, worker: &Arc<Worker>) {
    let region = Arc::clone(&app.region);
    let worker = Arc::clone(worker);
    tokio::task::spawn_local(async move {
        // The loops hold the worker while its message is on the way to them.
        while Arc::strong_count(&worker) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        region.release_claimers(worker.claimers.clone());
    });
}

/// A target may have thousands of bytes; a control message is for one packet.
fn shorten(mut path: String) -> String {
    let mut end = path.len().min(2000);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    path.truncate(end);
    path
}

fn clone_all(fds: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    fds.iter().map(|fd| fd.as_fd().try_clone_to_owned()).collect()
}

/// Messages go where the model says from here on.
fn open_error_logs(model: &Model) -> io::Result<()> {
    match error_log::Logs::of(&model.logs) {
        Some(logs) => error_log::init_nginx(&logs).map_err(io::Error::other)?,
        None => error_log::init(level(model.logs.level)),
    }
    Ok(())
}

fn open_access_log(model: &Model) -> io::Result<Option<Arc<AccessLog>>> {
    let target = match &model.logs.access {
        None => return Ok(None),
        // gunicorn's `-` is standard output; a target of standard error does not exist for it.
        Some(LogTarget::Stdout | LogTarget::Stderr) => Target::Stdout,
        Some(LogTarget::File(path)) => Target::File(path.clone()),
    };
    let format = AccessFormat::compile(&model.logs.access_format).map_err(io::Error::other)?;
    AccessLog::open(target, format).map(Some)
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    }
}
