//! What stands outside of all blocks, and `events`: processes, their user, logs of errors.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use conf_syntax::Directive;

use super::error_log::ErrorLog;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::units;
use crate::host::Entry;
use crate::model::http::Who;

const MAIN: Context = Context::MAIN;
const EVENTS: Context = Context::EVENTS;
const LOOPS: &str = "every event loop accepts by itself";

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "user",
        MAIN,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| r.user(d)),
        "",
        "Whom the edge and the applications run as, and in which group.",
    )
    .differs("Without it everything keeps the caller's identity."),
    Row::one(
        "worker_processes",
        MAIN,
        Apply::Custom(|r, _, d| r.worker_processes(d)),
        "1",
        "How many event loops there are; `auto` is one per core.",
    )
    .differs("One process has all of them as threads."),
    Row::one(
        "worker_rlimit_nofile",
        MAIN,
        Apply::Custom(|r, _, d| {
            r.main.rlimit_nofile = d.args.first().and_then(|w| r.number(w, "worker_rlimit_nofile"));
        }),
        "",
        "How many files the edge may have open.",
    ),
    Row::one(
        "worker_shutdown_timeout",
        MAIN,
        Apply::Custom(|r, _, d| {
            r.main.shutdown_timeout = d.args.first().and_then(|w| r.millis(w, "worker_shutdown_timeout"));
        }),
        "",
        "How long requests may go on after the server was told to end.",
    ),
    Row::one(
        "pid",
        MAIN,
        Apply::Custom(|r, _, d| {
            r.main.pid =
                d.args.first().map(|w| if w.value == b"off" { None } else { Some(r.full_path(w.value)) });
        }),
        "logs/nginx.pid",
        "The file with the master's process id.",
    ),
    Row::one(
        "daemon",
        MAIN,
        Apply::Custom(|r, _, d| {
            r.main.daemon = d.args.first().and_then(|w| r.flag(w, "daemon"));
        }),
        "on",
        "Detaches from the terminal.",
    ),
    Row::one(
        "env",
        MAIN,
        Apply::Custom(|r, _, d| r.env(d)),
        "TZ",
        "Keeps a variable of the environment, or sets one: `NAME` or `NAME=value`.",
    )
    .repeats()
    .differs("Applications get the whole environment anyway; what is set here is added to it."),
    Row::new(
        "error_log",
        MAIN.or(Context::ALL),
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.error_log(l, d)),
        "logs/error.log error",
        "Where messages go: a path, `stderr`, `syslog:` or `memory:SIZE`, and from which level on. Of what is in memory \
         the last bytes stay. What stands outside of all blocks is the level of applications, too, where their `app` \
         has no [`loglevel`](settings.md#loglevel).",
    )
    .repeats()
    .differs(
        "What is in memory is read without a debugger: each process has a file `memfd:error_log` for it in \
         `/proc/PID/fd`, and `cat` shows it.",
    ),
    Row::one(
        "worker_connections",
        EVENTS,
        Apply::Custom(|r, _, d| r.worker_connections(d)),
        "512",
        "Client connections of one event loop at most.",
    ),
    Row::one(
        "master_process",
        MAIN,
        Apply::Quiet(Argument::Flag, "there is always a master"),
        "on",
        "Runs workers as processes of their own.",
    ),
    Row::one("lock_file", MAIN, Apply::Quiet(Argument::Any, LOOPS), "logs/nginx.lock", "The file of a lock."),
    Row::one(
        "pcre_jit",
        MAIN,
        Apply::Quiet(Argument::Flag, "patterns are compiled as well as they can be"),
        "off",
        "Compiles regular expressions to machine code.",
    ),
    Row::new(
        "thread_pool",
        MAIN,
        Count::between(2, 3),
        Apply::Checked(|r, d| r.thread_pool(d), "files are read without blocking other requests anyway"),
        "default threads=32 max_queue=65536",
        "Threads that read files.",
    )
    .repeats(),
    Row::one(
        "timer_resolution",
        MAIN,
        Apply::Quiet(Argument::Millis, "the time is asked for when it is needed"),
        "",
        "How often the time is asked for.",
    ),
    Row::one(
        "debug_points",
        MAIN,
        Apply::Quiet(Argument::OneOf(&["stop", "abort"]), "it is for debugging nginx itself"),
        "",
        "What happens at an internal error.",
    ),
    Row::one(
        "worker_rlimit_core",
        MAIN,
        Apply::Quiet(Argument::Offset, "the limit stays the caller's"),
        "",
        "Size of core files.",
    ),
    Row::one(
        "worker_priority",
        MAIN,
        Apply::Quiet(Argument::Signed, "the priority stays the caller's"),
        "0",
        "Priority of the workers.",
    ),
    Row::new(
        "worker_cpu_affinity",
        MAIN,
        Count::at_least(1),
        Apply::Checked(|r, d| r.cpu_affinity(d), "the kernel places event loops"),
        "",
        "Binds workers to cores.",
    ),
    Row::one(
        "working_directory",
        MAIN,
        Apply::Quiet(Argument::Any, "no core files are written there"),
        "",
        "Where core files go.",
    ),
    Row::one(
        "ssl_object_cache_inheritable",
        MAIN,
        Apply::Quiet(Argument::Flag, "certificates are read anew at every reload"),
        "on",
        "Keeps certificates over a reload.",
    ),
    Row::one("quic_bpf", MAIN, Apply::NotYet("HTTP/3 comes later"), "off", "Routes QUIC packets."),
    Row::one(
        "load_module",
        MAIN,
        Apply::Checked(
            |r, d| r.load_module(d),
            "what is there needs no loading; a directive of a module that is not there is told of where it stands",
        ),
        "",
        "Loads a module.",
    )
    .repeats(),
    Row::one("ssl_engine", MAIN, Apply::NotYet("the library for TLS knows no engines; remove it"), "", "Hardware for TLS."),
    Row::one(
        "google_perftools_profiles",
        MAIN,
        Apply::NotYet("it is for profiling nginx itself"),
        "",
        "Writes profiles.",
    ),
    Row::one(
        "accept_mutex",
        EVENTS,
        Apply::Quiet(Argument::Flag, LOOPS),
        "off",
        "Lets workers accept in turn.",
    ),
    Row::one(
        "accept_mutex_delay",
        EVENTS,
        Apply::Quiet(Argument::Millis, LOOPS),
        "500ms",
        "How long a turn is waited for.",
    ),
    Row::one(
        "multi_accept",
        EVENTS,
        Apply::Quiet(Argument::Flag, LOOPS),
        "off",
        "Accepts all that waits at once.",
    ),
    Row::one(
        "use",
        EVENTS,
        Apply::Checked(|r, d| r.use_events(d), "epoll is used anyway"),
        "",
        "How events are waited for.",
    ),
    Row::one(
        "debug_connection",
        EVENTS,
        Apply::Custom(|r, _, d| r.debug_connection(d)),
        "",
        "Logs everything about the clients of an address, a network, a name, or `unix:`, whatever the level.",
    )
    .repeats(),
    Row::one(
        "worker_aio_requests",
        EVENTS,
        Apply::Quiet(Argument::Number, "files are read without it"),
        "32",
        "Reads at a time.",
    ),
    Row::one(
        "epoll_events",
        EVENTS,
        Apply::Quiet(Argument::Number, "as many as there are"),
        "512",
        "Events taken at a time.",
    ),
];

/// What stands outside of `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainSettings {
    /// `user`: name, and group if one was named.
    pub user: Option<(String, Option<String>)>,
    /// `worker_processes`; `None` is `auto`.
    pub worker_processes: Option<NonZeroU32>,
    /// `worker_connections`; `None` is nginx's 512.
    pub worker_connections: Option<u32>,
    /// `worker_rlimit_nofile`
    pub rlimit_nofile: Option<u64>,
    /// `worker_shutdown_timeout`
    pub shutdown_timeout: Option<Duration>,
    /// `pid`: outside `None` it was not said, inside `None` it is off.
    pub pid: Option<Option<PathBuf>>,
    /// `daemon`, if it is said.
    pub daemon: Option<bool>,
    /// `env`: names to keep, and with a value names to set.
    pub env: Vec<(String, Option<String>)>,
    /// `error_log`; empty if none was named, which is `logs/error.log` with level `error`.
    pub error_logs: Vec<ErrorLog>,
    /// `debug_connection`
    pub debug_connections: Vec<Who>,
    /// `client_body_temp_path`: the first that is named.
    pub temp_path: Option<PathBuf>,
}

impl Default for MainSettings {
    fn default() -> Self {
        Self {
            user: None,
            worker_processes: NonZeroU32::new(1),
            worker_connections: None,
            rlimit_nofile: None,
            shutdown_timeout: None,
            pid: None,
            daemon: None,
            env: Vec::new(),
            error_logs: Vec::new(),
            debug_connections: Vec::new(),
            temp_path: None,
        }
    }
}

impl<'a> Reader<'a> {
    fn user(&mut self, directive: Directive<'a>) {
        let Some(name) = directive.args.first() else { return };
        let group = directive.args.get(1);
        let text = name.text().into_owned();
        if self.machine.user(&text).is_none() && !text.bytes().all(|b| b.is_ascii_digit()) {
            self.error(name.span, format!("getpwnam(\"{text}\") failed"))
                .help("there is no such user on this machine");
            return;
        }
        let group = group.map(|w| (w, w.text().into_owned()));
        if let Some((word, group)) = &group
            && self.machine.group(group).is_none()
            && !group.bytes().all(|b| b.is_ascii_digit())
        {
            self.error(word.span, format!("getgrnam(\"{group}\") failed"))
                .help("there is no such group on this machine");
            return;
        }
        if self.machine.identity().0 != 0 {
            let message = "the \"user\" directive makes sense only if the master process runs with super-user \
                           privileges, ignored";
            self.warning(directive.name.span, message);
        }
        self.main.user = Some((text, group.map(|(_, g)| g)));
    }

    fn worker_processes(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if word.value == b"auto" {
            self.main.worker_processes = None;
            return;
        }
        let number = units::number(word.value).and_then(|n| u32::try_from(n).ok());
        if number == Some(0) {
            self.warning(word.span, "\"worker_processes 0\" leaves nobody to answer requests, taken for 1")
                .help("write a number, or `auto`");
        }
        let number = number.map(|n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        if number.is_none() {
            self.error(word.span, "\"worker_processes\" directive invalid value")
                .help("write a number, or `auto`");
        }
        self.main.worker_processes = number.or(self.main.worker_processes);
    }

    fn worker_connections(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let number = self.number(word, "worker_connections").map(|n| n.min(u64::from(u32::MAX)) as u32);
        if number == Some(0) {
            self.error(word.span, "0 worker_connections are not enough for 0 listening sockets")
                .help("write how many clients an event loop may have at once, as `1024`");
        }
        self.main.worker_connections = number;
    }

    fn use_events(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if word.value == b"epoll" {
            self.note(directive.name.span, "`use` changes nothing here: epoll is used anyway");
            return;
        }
        let text = word.text().into_owned();
        let help = match word.value {
            b"kqueue" | b"eventport" | b"/dev/poll" | b"devpoll" => {
                "it is of another system than Linux; remove it"
            }
            b"poll" | b"select" | b"rtsig" | b"io_uring" => "epoll is used; remove it",
            _ => "epoll is used, and need not be named; remove it",
        };
        self.error(word.span, format!("invalid event type \"{text}\"")).help(help);
    }

    /// nginx refuses a file that is not there. Here nothing is loaded, and whoever comes from nginx may have none of its
    /// files any more; but a slip in writing is to be seen.
    fn load_module(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let path = self.full_path(word.value);
        if self.machine.entry(&path) == Entry::File {
            let why = "what is there needs no loading; a directive of a module that is not there is told of where it stands";
            self.note(directive.name.span, format!("`load_module` changes nothing here: {why}"));
            return;
        }
        self.warning(word.span, format!("\"{}\" is not there, and nothing is loaded", path.display()))
            .help("modules need no loading: remove it, unless nginx is to read this file too");
    }

    /// Masks of processors, or `auto` and one.
    fn cpu_affinity(&mut self, directive: Directive<'a>) {
        let mut is_right = true;
        for (at, word) in directive.args.iter().enumerate() {
            if at == 0 && word.value == b"auto" {
                continue;
            }
            let wrong = word.value.iter().find(|byte| !matches!(byte, b'0' | b'1'));
            if let Some(byte) = wrong {
                let shown = byte.escape_ascii();
                self.error(word.span, format!("invalid character \"{shown}\" in \"worker_cpu_affinity\""))
                    .help("write `auto`, or for each worker a mask of processors, as `0101 1010`");
                is_right = false;
            }
        }
        if is_right {
            let why = "the kernel places event loops";
            self.note(directive.name.span, format!("`worker_cpu_affinity` changes nothing here: {why}"));
        }
    }

    /// `aio`, of files
    pub(super) fn aio(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        match word.value {
            b"on" | b"off" | b"threads" => {}
            b"threads=" => {
                self.error(word.span, "unknown thread pool \"\"")
                    .help("write `threads`, or name a `thread_pool`");
                return;
            }
            value if value.starts_with(b"threads=") => {
                let pool = &value[b"threads=".len()..];
                // Which one a variable names shows in time.
                if pool != b"default" && !pool.contains(&b'$') {
                    self.pools_used.push((word.span, pool.to_vec()));
                }
            }
            _ => {
                self.error(word.span, "\"aio\" directive invalid value")
                    .help("write `threads`, `on` or `off`");
                return;
            }
        }
        let why = "files are read without blocking other requests anyway";
        self.note(directive.name.span, format!("`aio` changes nothing here: {why}"));
    }

    /// Once everything is read: a pool may be used before it is defined.
    pub(super) fn check_pools(&mut self) {
        for (span, pool) in std::mem::take(&mut self.pools_used) {
            if !self.thread_pools.contains(&pool) {
                let name = String::from_utf8_lossy(&pool).into_owned();
                self.error(span, format!("unknown thread pool \"{name}\""))
                    .help(format!("write `threads`, or `thread_pool {name} threads=32;` outside of `http`"));
            }
        }
    }

    fn thread_pool(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(name) = words.next() else { return };
        let (mut is_right, mut has_threads) = (true, false);
        for word in words {
            let value = |key: &[u8]| word.value.strip_prefix(key);
            let (what, value) = match (value(b"threads="), value(b"max_queue=")) {
                (Some(value), _) => ("threads", value),
                (_, Some(value)) => ("max_queue", value),
                // nginx does not look at it.
                _ => {
                    let text = word.text().into_owned();
                    self.warning(
                        word.span,
                        format!("unknown parameter \"{text}\" of \"thread_pool\", ignored"),
                    )
                    .help("write `threads=32`, and perhaps `max_queue=65536`");
                    continue;
                }
            };
            has_threads |= what == "threads";
            let number = units::number(value).filter(|number| what != "threads" || *number > 0);
            if number.is_none() {
                let text = word.text().into_owned();
                self.error(word.span, format!("invalid {what} value \"{text}\""))
                    .help(format!("write a number, as `{what}=32`"));
                is_right = false;
            }
        }
        if !has_threads {
            self.error(directive.head(), "\"thread_pool\" must have \"threads\" parameter")
                .help("write `threads=32`, or remove the directive: it changes nothing here");
            is_right = false;
        }
        if self.thread_pools.iter().any(|pool| pool == name.value) {
            let text = name.text().into_owned();
            self.error(name.span, format!("duplicate thread pool \"{text}\"")).help("remove one of them");
            return;
        }
        self.thread_pools.push(name.value.to_vec());
        if is_right {
            let why = "files are read without blocking other requests anyway";
            self.note(directive.name.span, format!("`thread_pool` changes nothing here: {why}"));
        }
    }

    fn env(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let text = word.text().into_owned();
        self.main.env.push(match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        });
    }

    fn debug_connection(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let found = self.who(word, "debug_connection");
        self.main.debug_connections.extend(found);
    }

    pub(super) fn temp_path(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        for level in directive.args.skip(1) {
            if !matches!(units::number(level.value), Some(1..=3)) {
                self.error(level.span, format!("invalid value \"{}\"", level.text()))
                    .help("levels of directories are 1, 2 or 3");
                return;
            }
        }
        let path = self.full_path(word.value);
        match &self.main.temp_path {
            Some(first) if *first != path => {
                let first = first.display().to_string();
                self.note(word.span, format!("bodies lie in `{first}` everywhere"));
            }
            _ => self.main.temp_path = Some(path),
        }
    }
}
