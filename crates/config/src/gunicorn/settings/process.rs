//! Processes: development, identity, surroundings, hooks.

use super::{Kind, Section, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("reload", Section::Debugging, Kind::Flag(true))
        .flags(&["--reload"])
        .default("false")
        .doc("For development: restart the workers when a file of an imported module changes. A version that does not start leaves the old one serving."),
    Setting::new("reload_engine", Section::Debugging, Kind::Words(&["auto", "poll", "inotify"]))
        .flags(&["--reload-engine"])
        .default("auto")
        .doc("How changes are found: `poll` looks at every file once a second, and `auto` is the same.")
        .differs("`inotify` is not there yet."),
    Setting::new("reload_extra_files", Section::Debugging, Kind::List)
        .flags(&["--reload-extra-file"])
        .meta("FILES")
        .default("")
        .doc("More files that `reload` watches: paths, or patterns with `*`, `?`, `[…]`. Repeat it for more."),
    Setting::new("reload_templates", Section::Debugging, Kind::Commas)
        .flags(&["--reload-templates"])
        .meta("PATTERNS")
        .default("off")
        .doc(
            "Let `reload` watch templates too: patterns below the working directory with commas, or `on` for \
             `**/templates/**`.",
        )
        .ours(),
    Setting::new("spew", Section::Debugging, Kind::Flag(true))
        .flags(&["--spew"])
        .default("false")
        .doc("Trace every line that the server executes.")
        .not_yet("use `python -m trace`, or a profiler"),
    Setting::new("check_config", Section::Debugging, Kind::Flag(true))
        .flags(&["--check-config"])
        .default("false")
        .doc("Check all settings and load the application, then exit: 0 when all is well, else 1."),
    Setting::new("print_config", Section::Debugging, Kind::Flag(true))
        .flags(&["--print-config"])
        .default("false")
        .doc("Print every setting with its value and where that comes from, check as with `check_config`, then exit."),
    Setting::new("preload_app", Section::Mechanics, Kind::Flag(true))
        .flags(&["--preload"])
        .default("false")
        .doc("Import the application once, before the workers are forked: they start faster and share memory."),
    Setting::new("reuse_port", Section::Mechanics, Kind::Flag(true))
        .flags(&["--reuse-port"])
        .default("false")
        .doc("Set `SO_REUSEPORT` on listening sockets, so that another instance may listen at the same address."),
    Setting::new("chdir", Section::Mechanics, Kind::Path)
        .flags(&["--chdir"])
        .meta("DIR")
        .default(".")
        .doc("The working directory: the application is imported from here, and relative paths of other settings start here."),
    Setting::new("daemon", Section::Mechanics, Kind::Flag(true))
        .flags(&["-D", "--daemon"])
        .default("false")
        .doc("Detach from the terminal and run in the background."),
    Setting::new("raw_env", Section::Mechanics, Kind::List)
        .flags(&["-e", "--env"])
        .meta("ENV")
        .default("")
        .doc("A variable for the application's environment, as `-e DEBUG=0`. Repeat it for more."),
    Setting::new("pidfile", Section::Mechanics, Kind::Path)
        .flags(&["-p", "--pid"])
        .meta("FILE")
        .doc("Write the master's process id to this file, and remove it at the end."),
    Setting::new("worker_tmp_dir", Section::Mechanics, Kind::Path)
        .flags(&["--worker-tmp-dir"])
        .meta("DIR")
        .doc("The directory of gunicorn's heartbeat files.")
        .no_effect("workers have no heartbeat file here"),
    Setting::new("user", Section::Mechanics, Kind::Owner)
        .flags(&["-u", "--user"])
        .meta("USER")
        .doc("The user, by name or number, that edge and workers run as. Needs root.")
        .differs("Its group is the user's own unless `group` says otherwise; gunicorn keeps that of the caller, often root's."),
    Setting::new("group", Section::Mechanics, Kind::Owner)
        .flags(&["-g", "--group"])
        .meta("GROUP")
        .doc("The group, by name or number, that edge and workers run as. Needs root."),
    Setting::new("umask", Section::Mechanics, Kind::Octal)
        .flags(&["-m", "--umask"])
        .meta("INT")
        .default("0")
        .doc("Permission bits that are taken away from socket files and files that workers make, in octal, as `0o027` or `027`.")
        .differs("In gunicorn only socket files have it; what the application writes has the mask that the program was started with."),
    Setting::new("initgroups", Section::Mechanics, Kind::Flag(true))
        .flags(&["--initgroups"])
        .default("false")
        .doc("Give edge and workers all groups that `user` is a member of."),
    Setting::new("pythonpath", Section::Mechanics, Kind::Commas)
        .flags(&["--pythonpath"])
        .meta("DIRS")
        .doc("Directories that are put in front of Python's search path, with commas; the last one comes first."),
    Setting::new("proc_name", Section::Naming, Kind::Text)
        .flags(&["-n", "--name"])
        .doc("The name of this instance in `ps` and `top`. Without it `default_proc_name`."),
    Setting::new("default_proc_name", Section::Naming, Kind::Text)
        .default("gunicorn")
        .doc("What `proc_name` is when it is not set; the application's name replaces it when the command line has one."),
    hook("on_starting", 1, "Runs in the mold before the application is first loaded.")
        .differs("With `preload_app` too it runs before the application is loaded."),
    hook("on_reload", 1, "Runs in the new mold at a reload (HUP). One that raises fails the reload.")
        .differs("One that raises ends gunicorn."),
    hook("when_ready", 1, "Runs in the mold when the first workers are ready.")
        .differs("In gunicorn there are no workers yet."),
    hook("pre_fork", 2, "Runs in the mold before a worker is forked."),
    hook("post_fork", 2, "Runs in a worker after it has been forked."),
    hook("post_worker_init", 1, "Runs in a worker after it has loaded the application, which is `worker.wsgi`: what the hook puts there is called."),
    hook("worker_int", 1, "Runs in a worker that got INT or QUIT."),
    hook("worker_abort", 1, "Runs in a worker that got ABRT, most often because of `timeout`.").differs(
        "A worker with threads gets none at `timeout`: its other requests have `graceful_timeout` to finish in. The hook \
         runs when the request that overran has not ended by then.",
    ),
    hook("pre_exec", 1, "Runs before a new master is executed.")
        .no_effect("by gunicorn's command line USR2 starts no new master (HUP takes new settings and code, a restart another program), and the one that it starts with an nginx.conf asks nobody"),
    hook("pre_request", 2, "Runs in a worker before it calls the application. One that raises is a 500."),
    hook("post_request", 4, "Runs in a worker after a response. May take 2, 3 or 4 arguments. With `worker.alive = False` it has the worker replaced when its requests are done."),
    hook("child_exit", 2, "Runs in the mold after a worker has ended.").differs("One that raises is logged, and ends gunicorn."),
    hook("worker_exit", 2, "Runs in a worker that is about to end."),
    hook("nworkers_changed", 3, "Runs in the mold when the number of workers is set (before `on_starting`, with the old number None, and at each reload) or changed (TTIN, TTOU)."),
    hook("on_exit", 1, "Runs in the mold before the instance ends."),
    hook("ssl_context", 2, "Makes the TLS context.").not_yet("TLS is spoken by the edge, which runs no Python; certfile, keyfile and ciphers say what it needs"),
];

const fn hook(name: &'static str, arguments: u8, doc: &'static str) -> Setting {
    Setting::new(name, Section::Hooks, Kind::Hook(arguments)).doc(doc)
}
