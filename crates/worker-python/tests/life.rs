//! The life of molds and workers: settings, hooks, boot failures, signals, reload.

#![allow(clippy::format_push_string, reason = "settings files put together by hand")]

mod support;

use std::fs;

use bridge::control::{FromMold, ToMold};
use serde_json::json;
use support::{Ask, Site, any_python, with_each_python};

const APP: &str =
    "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hi']\n";

#[test]
fn a_settings_file_is_told_with_values_hooks_and_lines() {
    with_each_python(|python| {
        let text = "import os\nfrom pathlib import Path\nworkers = 3\nif True:\n    bind = ['a', 'b']\n\
                    pidfile = Path('/x')\ndef helper():\n    pass\ndef pre_fork(server, worker):\n    pass\n\
                    def post_request(worker, req):\n    pass\non_exit = None\n";
        let site = Site::begin(python, &[("gunicorn.conf.py", text)]);
        let settings = &site.settings;
        assert_eq!(settings.path.as_deref(), Some("gunicorn.conf.py"));
        assert_eq!(settings.hooks, ["post_request", "pre_fork"]);
        let value = |name: &str| settings.values.get(name).cloned().unwrap_or_default();
        assert_eq!(
            (value("workers"), value("bind"), value("pidfile")),
            (json!(3), json!(["a", "b"]), json!("/x"))
        );
        assert!(!settings.values.contains_key("helper") && !settings.values.contains_key("os"));
        assert_eq!(
            (&settings.lines["workers"], &settings.lines["bind"], &settings.lines["pre_fork"]),
            (&json!(3), &json!(5), &json!(9))
        );
        assert!(settings.python.starts_with("3."));
    });
}

#[test]
fn a_settings_file_that_fails_is_named() {
    for (text, words) in [
        ("x = 1\n1/0\n", "Failed to read config file: gunicorn.conf.py"),
        ("raise SystemExit(0)\n", "Failed to read config file: gunicorn.conf.py"),
        (
            "def post_fork(only):\n    pass\n",
            "gunicorn.conf.py:1: post_fork must take 2 arguments (server, worker)",
        ),
    ] {
        let mut site = Site::launch(&any_python(), &[("gunicorn.conf.py", text)]);
        let FromMold::Failed { code: 1, text } = site.receive() else { panic!("{}", site.log()) };
        assert!(text.starts_with(words), "{text}");
        assert_eq!(site.wait().code(), Some(1));
    }
}

#[test]
fn hooks_run_in_their_order_and_process() {
    with_each_python(|python| {
        let mut text = "import os\ndef say(name, pid): print(name, 'mold' if os.getpid() == pid else 'worker', flush=True)\n".to_owned();
        for name in ["on_starting", "on_reload", "when_ready", "on_exit"] {
            text += &format!("def {name}(server): say('{name}', server.pid)\n");
        }
        for name in ["pre_fork", "post_fork", "child_exit", "worker_exit"] {
            text +=
                &format!("def {name}(server, worker): say('{name}', server.pid); assert worker.age == 1\n");
        }
        for name in ["post_worker_init", "worker_int", "worker_abort"] {
            text += &format!("def {name}(worker): say('{name}', worker.ppid)\n");
        }
        text += "def nworkers_changed(server, new, old): print(new, old, server.num_workers, flush=True)\n";
        text +=
            "def pre_request(worker, req): print(req.method, req.path, req.query, req.headers, flush=True)\n";
        text += "def post_request(worker, req, environ, resp): print(resp.status, resp.response_length, resp.sent, worker.nr, flush=True)\n";
        let mut site = Site::begin(python, &[("app.py", APP), ("gunicorn.conf.py", &text)]);
        site.configure(&json!({}), 1);
        assert!(matches!(site.receive(), FromMold::Ready { .. }));
        let mut worker = site.spawn(1);
        assert_eq!(site.get(&mut worker, "/a?b").text(), "hi");
        site.wait_for_log("200 OK None 2 1");
        site.signal(&worker, 15);
        assert_eq!(site.ended(worker.number), (Some(0), None));
        let hook = |name: &str, arguments| ToMold::Hook { name: name.into(), arguments };
        site.send(&hook("nworkers_changed", vec![json!(2), json!(1)]));
        site.send(&hook("on_exit", vec![]));
        assert_eq!(site.receive(), FromMold::HookDone { name: "on_exit".into() });
        let log = site.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('[')).collect();
        assert_eq!(
            lines,
            [
                "1 None 1",
                "on_starting mold",
                "pre_fork mold",
                "post_fork worker",
                "post_worker_init worker",
                "GET /a b [('HOST', 'shop.example')]",
                "200 OK None 2 1",
                "worker_exit worker",
                "child_exit mold",
                "2 1 2",
                "on_exit mold"
            ]
        );
        site.send(&ToMold::Stop {});
        assert_eq!(site.wait().code(), Some(0));
    });
}

#[test]
fn a_later_generation_runs_on_reload() {
    let conf =
        "def on_starting(server): print('starting')\ndef on_reload(server): print('reload', flush=True)\n";
    let mut site = Site::begin(&any_python(), &[("app.py", APP), ("gunicorn.conf.py", conf)]);
    site.configure(&json!({}), 2);
    assert!(matches!(site.receive(), FromMold::Ready { .. }));
    assert_eq!(site.log(), "reload\n");
}

#[test]
fn boot_failures_have_gunicorns_codes_and_words() {
    with_each_python(|python| {
        let cases = [
            ("import nothing_such\n", "app", 3, "No module named 'nothing_such'"),
            ("def application(:\n", "app", 3, "SyntaxError"),
            ("raise RuntimeError('at import')\n", "app", 3, "RuntimeError: at import"),
            ("", "app", 4, "Failed to find attribute 'application' in 'app'."),
            ("x = 1\n", "app:x", 4, "Application object must be callable"),
            ("def f(a): pass\n", "app:f()", 4, "f() missing 1 required positional argument: 'a'"),
            ("def f(a): pass\n", "app:f(1)", 4, "Failed to find application object"),
            ("def f(a): pass\n", "app:f(x)", 4, "Failed to parse arguments as literal values"),
            ("async def application(scope, receive, send): pass\n", "app", 4, "is an ASGI application"),
            (
                "class A:\n    async def __call__(self, scope, receive, send): pass\na = A()\n",
                "app:a",
                4,
                "is an ASGI application",
            ),
            ("", "app.py", 4, "did you mean 'app:application'?"),
        ];
        for (text, target, code, words) in cases {
            let settings = json!({ "wsgi_app": target });
            let mut site = Site::start(python, &[("app.py", text)], &settings);
            assert!(site.try_spawn(1).is_none(), "{target}");
            assert_eq!(site.ended(1), (Some(code), None), "{text}{target}");
            let log = site.log();
            assert!(log.contains(words), "{log}");
            assert!(!log.contains("/proc/self/fd"), "a traceback of ours: {log}");
        }
        let mut site = Site::begin(python, &[("app.py", "import nothing_such\n")]);
        site.configure(&json!({"preload_app": true}), 1);
        let FromMold::Failed { code: 1, text } = site.receive() else { panic!("{}", site.log()) };
        assert!(text.contains("nothing_such"));
        assert_eq!(site.wait().code(), Some(1));
    });
}

#[test]
fn factories_and_surroundings_are_as_the_settings_say() {
    let app = "import os, sys\ndef make(word, *, end):\n    def application(environ, start_response):\n        \
               start_response('200 OK', [])\n        return [(word + os.environ['A'] + end + str(sys.argv) + sys.path[0][-3:]).encode()]\n    return application\n";
    let settings = json!({"wsgi_app": "app:make('x', end='z')", "raw_env": ["A=b=c"], "pythonpath": ["lib"], "preload_app": true});
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", app)], &settings);
        let mut worker = site.spawn(1);
        assert_eq!(site.get(&mut worker, "/").text(), "xb=cz['monoceros', 'app']lib");
    });
}

#[test]
fn signals_end_a_worker_as_gunicorns() {
    with_each_python(|python| {
        for threads in [1, 3] {
            let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
            for (signal, outcome) in [
                (15, (Some(0), None)),
                (2, (Some(0), None)),
                (3, (Some(0), None)),
                (6, (Some(1), None)),
                (9, (None, Some(9))),
            ] {
                let mut worker = site.spawn(threads);
                assert_eq!(site.get(&mut worker, "/").text(), "hi");
                site.signal(&worker, signal);
                assert_eq!(
                    site.ended(worker.number),
                    outcome,
                    "signal {signal}, {threads} threads\n{}",
                    site.log()
                );
            }
            let log = site.log();
            assert!(log.contains("most recent call first") && log.contains("worker.py"), "{log}");
        }
    });
}

const SLOW: &str = "import time\ndef application(environ, start_response):\n    print('running', flush=True)\n    \
                    end = time.monotonic() + 1\n    while time.monotonic() < end: time.sleep(0.01)\n    \
                    start_response('200 OK', [])\n    return [b'done']\n";

#[test]
fn a_request_that_runs_is_finished_before_a_graceful_end() {
    with_each_python(|python| {
        for (threads, by_signal) in [(1, true), (2, true), (1, false), (2, false)] {
            let mut site = Site::start(python, &[("app.py", SLOW)], &json!({}));
            let worker = site.spawn(threads);
            let id = site.publish(&Ask::default());
            site.wait_for_log("running");
            if by_signal {
                site.signal(&worker, 15);
            } else {
                worker.stop();
            }
            let mut answer = support::Answer::default();
            while !site.read(id, &mut answer) {
                std::thread::yield_now();
            }
            assert_eq!((answer.text(), answer.failed), ("done", false));
            assert_eq!(site.ended(worker.number), (Some(0), None));
        }
    });
}

#[test]
fn a_stuck_request_is_shown_with_its_stack() {
    with_each_python(|python| {
        for threads in [1, 2] {
            // It is still stuck when the signal comes, however late that is.
            let stuck = SLOW.replace("+ 1\n", "+ 60\n");
            let mut site = Site::start(python, &[("app.py", &stuck)], &json!({}));
            let worker = site.spawn(threads);
            site.publish(&Ask::default());
            site.wait_for_log("running");
            site.signal(&worker, 6);
            assert_eq!(site.ended(worker.number), (Some(1), None));
            let log = site.log();
            assert!(log.contains("app.py\", line") && log.contains("in application"), "{log}");
        }
    });
}

#[test]
fn the_log_is_reopened_everywhere() {
    let mut site = Site::start(&any_python(), &[("app.py", APP)], &json!({}));
    let new = site.path("new");
    let settings = json!({"errorlog": new.to_str().unwrap()});
    let mut site2 = Site::start(&any_python(), &[("app.py", APP)], &settings);
    let worker = site2.spawn(1);
    site2.send(&ToMold::Reopen {});
    site2.signal(&worker, 15);
    site2.ended(worker.number);
    let text = fs::read_to_string(&new).unwrap();
    assert!(text.contains("Worker exiting"), "{text}");
    assert!(!site2.log().contains("Worker exiting"));
    let worker = site.spawn(1);
    site.send(&ToMold::Reopen {});
    site.signal(&worker, 15);
    assert_eq!(site.ended(worker.number), (Some(0), None));
}

#[test]
fn reload_tells_of_changes_and_waits_out_a_broken_start() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", "1/0\n")], &json!({"reload": true}));
        let mut worker = site.spawn(1);
        let answer = site.get(&mut worker, "/");
        assert_eq!(answer.status, 500);
        assert!(answer.text().contains("ZeroDivisionError"), "{}", answer.text());
        fs::write(site.path("app.py"), APP).unwrap();
        let FromMold::Changed { worker: 1, path: Some(path) } = site.receive() else {
            panic!("{}", site.log())
        };
        assert!(path.ends_with("app.py"));
        // A later generation that does not boot leaves the one before to serve.
        let mut site = Site::begin(python, &[("app.py", "1/0\n")]);
        site.configure(&json!({"reload": true}), 2);
        assert!(matches!(site.receive(), FromMold::Ready { .. }));
        assert!(site.try_spawn(1).is_none());
        assert_eq!(site.ended(1), (Some(3), None));
    });
}

#[test]
fn workers_inherit_nothing_of_the_molds() {
    let mut site = Site::start(&any_python(), &[("app.py", APP)], &json!({}));
    let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let first = site.spawn(1);
    let before = count(first.pid);
    let third = (0..2).map(|_| site.spawn(1)).last().unwrap();
    assert_eq!(count(third.pid), before, "a worker has descriptors of its siblings");
}
