//! The application, its workers, and the queue in front of them.

use super::{Kind, MANY, Section, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("config", Section::ConfigFile, Kind::Text)
        .flags(&["-c", "--config"])
        .meta("CONFIG")
        .default("./gunicorn.conf.py")
        .doc(
            "The settings file: a path that ends in `.py`, `file:PATH`, or `python:MODULE`. Without the flag, \
             `gunicorn.conf.py` of the directory that the program was started in is read if it exists.",
        )
        .differs("A path that does not end in `.py` is a configuration in nginx's language (see [directives](directives.md))."),
    Setting::new("wsgi_app", Section::ConfigFile, Kind::Text).meta("APP_MODULE").doc(
        "The application when the command line names none: `module:name`, `module:factory(arguments)`, or \
         `module` alone for the name `application`.",
    ),
    Setting::new("python", Section::ConfigFile, Kind::Path)
        .flags(&["--python"])
        .doc(
            "The Python interpreter that runs the settings file and the application, 3.9 or later. Without it: \
             `python` of the active virtual environment, then `python3` and `python` on the search path.",
        )
        .ours()
        .command_line_only(),
    Setting::new("bind", Section::Socket, Kind::List)
        .flags(&["-b", "--bind"])
        .meta("ADDRESS")
        .default("127.0.0.1:8000")
        .env("PORT")
        .doc(
            "Where to listen: `HOST:PORT`, `[IPV6]:PORT`, `:PORT` for every IPv4 address, `unix:PATH`, or `fd://N` \
             for a socket that is already open. Repeat it to listen in several places. `$PORT` alone makes the \
             default `0.0.0.0:$PORT`.",
        )
        .differs("An address that is listed twice, and a number alone, are errors."),
    Setting::new("backlog", Section::Socket, Kind::Int(1, 1 << 20))
        .flags(&["--backlog"])
        .default("2048")
        .doc("How many connections the kernel keeps that have not been accepted yet. It lowers this to `net.core.somaxconn`."),
    Setting::new("workers", Section::Workers, Kind::Int(1, 10_000))
        .flags(&["-w", "--workers"])
        .default("1")
        .env("WEB_CONCURRENCY")
        .doc(
            "Worker processes that run the application. They never wait for a client, so that they can be fewer \
             than behind another server: as many as cores is a good start, more when the application waits for a \
             database.",
        )
        .differs("Zero is an error."),
    Setting::new("worker_class", Section::Workers, Kind::Text)
        .flags(&["-k", "--worker-class"])
        .default("sync")
        .doc(
            "How a worker runs requests: `sync` (one at a time on its main thread) or `gthread` (a pool of `threads` \
             threads). `sync` with `threads` above 1 is `gthread`.",
        )
        .differs("`asgi`, `gevent` and `tornado`, and classes of other packages, are not there yet."),
    Setting::new("threads", Section::Workers, Kind::Int(1, 10_000))
        .flags(&["--threads"])
        .default("1")
        .doc("Threads of each worker that run requests.")
        .differs("There is room for 4096 threads of all workers of an application together: `workers` × `threads` beyond that is an error."),
    Setting::new("worker_connections", Section::Workers, Kind::Int(0, MANY))
        .flags(&["--worker-connections"])
        .default("1000")
        .doc("How many requests an event-loop worker runs at once; `sync` and `gthread` workers do not look at it.")
        .differs("Workers hold no client connections here: see `edge_connections` for those."),
    Setting::new("max_requests", Section::Workers, Kind::Int(0, u64::MAX))
        .flags(&["--max-requests"])
        .default("0")
        .doc("Replace a worker after this many requests, against leaks; 0 is never. No client notices: the next worker is ready first."),
    Setting::new("max_requests_jitter", Section::Workers, Kind::Int(0, u64::MAX))
        .flags(&["--max-requests-jitter"])
        .default("0")
        .doc("A random number from 0 to this is added to each worker's `max_requests`, so that they are not replaced all at once."),
    Setting::new("timeout", Section::Workers, Kind::Seconds(true))
        .flags(&["-t", "--timeout"])
        .default("30")
        .doc(
            "A request that runs longer than this is answered with 504, its Python stack is logged, and its worker \
             is replaced; 0 lets requests run for ever.",
        )
        .differs(
            "It is the time of the one request, whatever the worker class, and does not count what the client \
             takes. Fractions and the units `ms`, `s`, `m`, `h` are allowed.",
        ),
    Setting::new("graceful_timeout", Section::Workers, Kind::Seconds(true))
        .flags(&["--graceful-timeout"])
        .default("30")
        .doc("How long requests may go on after their worker was told to end, at a reload, a stop or a replacement; then it is killed."),
    Setting::new("boot_timeout", Section::Workers, Kind::Seconds(true))
        .flags(&["--boot-timeout"])
        .default("120")
        .doc(
            "How long a worker, or with `preload_app` the process that forks them, may take to load the application; \
             then its Python stacks are logged and it is killed. The first start fails with exit code 3; at a reload \
             the old workers go on. 0 lets it take for ever.",
        )
        .ours(),
    Setting::new("keepalive", Section::Workers, Kind::Seconds(true))
        .flags(&["--keep-alive", "--keepalive-timeout"])
        .default("75")
        .doc("How long an idle connection is kept for the client's next request; 0 closes after every response.")
        .differs(
            "75, as nginx has it, instead of 2: gunicorn's was made for standing behind nginx, while browsers face \
             this one. `--keepalive-timeout` is a second name.",
        ),
    Setting::new("max_worker_rss", Section::Workers, Kind::Size)
        .flags(&["--max-worker-rss"])
        .default("0")
        .doc("Replace a worker whose resident memory passes this, once its requests are done; 0 is never. Less blunt than `max_requests` against leaks.")
        .ours(),
    Setting::new("queue_size", Section::Queue, Kind::Int(1, 1 << 20))
        .flags(&["--queue-size"])
        .default("2048")
        .doc("How many complete requests may wait for a free worker. One more is answered with 503 and `Retry-After` at once.")
        .ours(),
    Setting::new("queue_timeout", Section::Queue, Kind::Seconds(false))
        .flags(&["--queue-timeout"])
        .default("30")
        .doc("How long a request may wait for a free worker; then it is answered with 503 and `Retry-After`.")
        .ours(),
    Setting::new("edge_threads", Section::Clients, Kind::Text)
        .flags(&["--edge-threads"])
        .meta("INT|auto")
        .default("auto")
        .doc("Event loops that serve the client connections; `auto` is one per core. As nginx's `worker_processes`.")
        .ours(),
    Setting::new("edge_connections", Section::Clients, Kind::Int(16, 10_000_000))
        .flags(&["--edge-connections"])
        .default("10000")
        .doc(
            "Client connections of all event loops together; the limit of open files is raised to fit. As nginx's \
             `worker_connections` times `worker_processes`.",
        )
        .ours(),
];
