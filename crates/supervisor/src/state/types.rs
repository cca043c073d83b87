//! What happens to the master and what it does.

use std::fmt;
use std::time::Duration;

/// What one generation is told, as far as the master decides by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Worker processes.
    pub(crate) workers: u32,
    /// Threads of a worker.
    pub(crate) threads: u32,
    /// How long a worker may go on after it was told to end.
    pub(crate) graceful_timeout: Duration,
    /// How long a mold or a worker may take to be ready.
    pub(crate) boot_timeout: Option<Duration>,
    /// Resident memory in bytes past which a worker is replaced.
    pub(crate) max_rss: Option<u64>,
}

/// How signals are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As gunicorn answers them.
    Gunicorn,
    /// As nginx does.
    Nginx,
}

/// What a configuration holds, as far as the master decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    /// How many applications need a mold.
    pub(crate) applications: usize,
    /// How long requests may go on at the end; `None` is for the applications to say, and without them there is no
    /// limit.
    pub(crate) shutdown_timeout: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The configuration of a cycle is read and may be tried.
    Read { cycle: u64, outline: Outline },
    /// It cannot be used; why has been logged.
    Refused { cycle: u64 },
    /// The settings of a generation are merged and checked, its sockets bound.
    Configured { generation: u64, plan: Plan },
    /// A mold can fork workers.
    MoldReady { generation: u64 },
    /// A mold, or what its settings led to, cannot go on.
    MoldFailed { generation: u64, code: u8, text: String },
    /// A mold's process ended.
    MoldGone { generation: u64, status: Status },
    /// A worker was forked.
    WorkerSpawned { worker: u64, pid: u32 },
    /// A worker claims requests.
    WorkerReady { worker: u64 },
    /// The last request of a draining worker ended.
    WorkerDrained { worker: u64 },
    /// The edge lost its socket to a worker. `work` is what it knows of it, if it has known it.
    WorkerGone { worker: u64, work: Option<Work> },
    /// A worker's process ended.
    WorkerExited { worker: u64, status: Status },
    /// The edge wants a worker replaced.
    WorkerRecycle { worker: u64, reason: String },
    /// It had no request for longer than `timeout`, and has not waited for one.
    WorkerSilent { worker: u64, seconds: f64 },
    /// A request passed `timeout`. `graceful`: others are in flight in the same worker.
    WorkerOverran { worker: u64, method: String, path: String, seconds: f64, graceful: bool },
    /// A worker's resident memory in bytes.
    Resident { worker: u64, bytes: u64 },
    /// A watched file changed, as a worker of this generation saw it.
    Changed { generation: u64, worker: u64, path: String },
    /// The edge took its first configuration.
    EdgeConfigured,
    /// Why the edge will end.
    EdgeFatal { text: String },
    /// The edge has no connection left.
    EdgeStopped,
    /// The edge's process ended.
    EdgeGone { status: Status },
    /// The hook `on_exit` returned.
    HookDone,
    /// The program that was to take over has ended: whoever rests for it goes on.
    SuccessorGone,
    /// A signal for the master.
    Signal(Signal),
}

/// What a worker that is gone has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// It has had a request, which may be what it died of.
    pub(crate) used: bool,
    /// Requests that its application has finished so far, by whichever worker.
    pub(crate) finished: u64,
}

/// Signals that mean something to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Stop, finish requests.
    Term,
    /// Stop at once.
    Int,
    /// Stop at once.
    Quit,
    /// Reload.
    Hup,
    /// One worker more.
    Ttin,
    /// One worker less.
    Ttou,
    /// Reopen logs.
    Usr1,
    /// A binary upgrade.
    Usr2,
    /// Workers end, the master stays.
    Winch,
}

/// How to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// Requests are finished within `graceful_timeout`.
    Graceful,
    /// At once.
    Quick,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Whoever waited for it is dead too.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(9) => f.write_str("was killed by SIGKILL (perhaps out of memory)"),
            Self::Signal(number) => match signal_name(number) {
                Some(name) => write!(f, "was ended by {name}"),
                None => write!(f, "was ended by signal {number}"),
            },
            Self::Unknown => f.write_str("ended"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL (illegal instruction)",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        10 => "SIGUSR1",
        11 => "SIGSEGV (a crash in native code)",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU (out of processor time)",
        31 => "SIGSYS (a forbidden system call)",
        _ => return None,
    })
}

/// Severity of a line in the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the configuration anew and report [`Event::Read`] or [`Event::Refused`].
    Read { cycle: u64 },
    /// Start the mold of a cycle's application, lead it through its settings and report [`Event::Configured`] on the
    /// way.
    StartMold { cycle: u64, application: usize, generation: u64 },
    /// Ask a mold to end.
    StopMold { generation: u64 },
    /// Have a mold that hangs write its stacks and end.
    AbortMold { generation: u64 },
    /// End a mold.
    KillMold { generation: u64 },
    /// Forget a cycle's configuration and the sockets that only it has bound.
    Discard { cycle: u64 },
    /// Make the socket pair, give one end to the edge and one to the mold.
    SpawnWorker { generation: u64, worker: u64, age: u64, threads: u32 },
    /// Tell the edge to let a worker finish and then end it.
    Drain { worker: u64 },
    /// Let the edge know that nobody will take requests any more that wait for this application of the current cycle.
    Abandon { application: usize },
    /// Let the edge know that a worker is dead.
    TellExited { worker: u64 },
    /// Send a signal to a worker.
    SignalWorker { worker: u64, signal: i32 },
    /// The worker is gone for good.
    Forget { worker: u64 },
    /// Start the edge and configure it for the current cycle, or the first one.
    StartEdge,
    /// Hand this cycle's model and sockets to the edge; it is the current one from now on.
    ConfigureEdge { cycle: u64 },
    /// Let the edge accept connections.
    Accept,
    /// Tell the edge to end.
    StopEdge { graceful: bool, seconds: u64 },
    /// End the edge.
    KillEdge,
    /// Run a hook in a mold.
    Hook { generation: u64, name: &'static str, arguments: Vec<i64> },
    /// Start the program anew, with the sockets, beside this one.
    ChangeBinary,
    /// Open log files again, here and everywhere.
    ReopenLogs,
    /// Tell what is served where.
    Announce,
    /// Write a line.
    Log { level: Level, text: String },
    /// End the master.
    Exit { code: u8 },
}
