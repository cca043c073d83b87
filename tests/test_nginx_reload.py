"""HUP with an nginx.conf: the new one is read, checked and bound first; any mistake changes nothing but the log."""

import os
import signal
import socket

from support import Load, wait_until

ONE = "server { listen 127.0.0.1:%PORT%; return 200 one; }"
TWO = "server { listen 127.0.0.1:%PORT%; return 200 two; }"


def answers(server, port="%PORT%"):
    try:
        with server.connect(port, timeout=5) as client:
            return client.request().text
    except OSError:
        return None


def reload(server, conf):
    server.configure(conf)
    server.signal(signal.SIGHUP)


def test_a_new_configuration_is_served_by_the_same_edge(serve_nginx):
    server = serve_nginx(ONE)
    edge = server.edge()
    assert answers(server) == "one"
    reload(server, TWO)
    wait_until(lambda: answers(server) == "two", "the new configuration")
    assert server.edge() == edge


def test_a_mistake_is_logged_and_the_old_configuration_goes_on(serve_nginx):
    server = serve_nginx(ONE)
    reload(server, "server { listen 127.0.0.1:%PORT%; retrun 200 two; }")
    server.wait_log(r'\[emerg\] \d+#\d+: unknown directive "retrun" in .*/nginx\.conf:4')
    assert answers(server) == "one"
    reload(server, TWO)
    wait_until(lambda: answers(server) == "two", "the next one")


def test_the_log_of_a_reload_says_what_to_write_instead(serve_nginx):
    conf = "error_log stderr;\nevents {}\nhttp {\naccess_log off;\nserver { listen 127.0.0.1:%PORT%; return 200 one; }\n}\n"
    server = serve_nginx(conf)
    reload(server, conf.replace("return 200", "retrun 200"))
    server.wait_log(r'\[emerg\] \d+#\d+: unknown directive "retrun" in \S+nginx\.conf:5 \(did you mean `return`\?\)\n')
    by_name = serve_nginx(conf, name="nginx")
    reload(by_name, conf.replace("return 200", "retrun 200"))
    by_name.wait_log(r'\[emerg\] \d+#\d+: unknown directive "retrun" in \S+nginx\.conf:5\n')


def test_a_port_that_is_taken_fails_the_reload_and_not_the_service(serve_nginx):
    server = serve_nginx(ONE)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        reload(server, TWO + f"server {{ listen 127.0.0.1:{port}; return 200 more; }}")
        server.wait_log(rf"\[emerg\] \d+#\d+: bind\(\) to 127\.0\.0\.1:{port} failed \(98: Address already in use\) "
                        rf"in {server.directory}/nginx\.conf:\d+\n")
        assert answers(server) == "one"
    server.signal(signal.SIGHUP)
    wait_until(lambda: answers(server) == "two", "the same again, when the port is free")


def test_a_log_that_cannot_be_opened_fails_the_reload(serve_nginx):
    server = serve_nginx(ONE)
    reload(server, "server { listen 127.0.0.1:%PORT%; access_log %DIR%/nowhere/access.log; return 200 two; }")
    server.wait_log(r'open\(\) ".*/nowhere/access\.log" failed \(2: No such file or directory\)')
    assert answers(server) == "one"


def test_sockets_come_and_go_with_the_configuration(serve_nginx):
    server = serve_nginx(ONE)
    reload(server, "server { listen 127.0.0.1:%PORT1%; listen unix:%DIR%/s; return 200 two; }")
    wait_until(lambda: answers(server, "%PORT1%") == "two", "the new socket")
    wait_until(lambda: answers(server) is None, "the old one to be closed")
    path = server.directory / "s"
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o666
    reload(server, ONE)
    wait_until(lambda: answers(server) == "one", "the first socket again")
    wait_until(lambda: not path.exists(), "the socket file to go")


def test_no_request_fails_while_configurations_change(serve_nginx):
    server = serve_nginx(ONE)
    with Load(server) as load:
        for conf, text in [(TWO, "two"), (ONE, "one"), (TWO, "two")]:
            reload(server, conf)
            wait_until(lambda text=text: load.bodies[-1] == text, f"answers `{text}`")
    assert load.failures == []
    assert set(load.bodies) == {"one", "two"}


def test_the_pid_file_follows_the_configuration(serve_nginx):
    server = serve_nginx("pid %DIR%/a.pid; events {}\nhttp { access_log off;" + ONE + "}")
    first, second = server.directory / "a.pid", server.directory / "b.pid"
    assert int(first.read_text()) == server.process.pid
    reload(server, "pid %DIR%/b.pid; events {}\nhttp { access_log off;" + TWO + "}")
    wait_until(second.exists, "the new pid file")
    assert int(second.read_text()) == server.process.pid
    wait_until(lambda: not first.exists(), "the old one to go")


def test_the_pid_file_stays_when_another_path_leads_to_it(serve_nginx):
    server = serve_nginx("pid %DIR%/a.pid; events {}\nhttp { access_log off;" + ONE + "}")
    (server.directory / "link").symlink_to(server.directory)
    reload(server, "pid %DIR%/link/a.pid; events {}\nhttp { access_log off;" + TWO + "}")
    wait_until(lambda: answers(server) == "two", "the new configuration")
    assert int((server.directory / "a.pid").read_text()) == server.process.pid


def test_a_pid_file_that_cannot_be_written_fails_the_reload(serve_nginx):
    server = serve_nginx("pid %DIR%/a.pid; events {}\nhttp { access_log off;" + ONE + "}")
    (server.directory / "b.pid").mkdir()
    for path, why in (("none/a.pid", r"2: No such file or directory"), ("b.pid", r"21: Is a directory")):
        reload(server, f"pid %DIR%/{path}; events {{}}\nhttp {{ access_log off;" + TWO + "}")
        server.wait_log(rf'\[emerg\] \d+#\d+: open\(\) "{server.directory}/{path}" failed \({why}\)\n')
    assert int((server.directory / "a.pid").read_text()) == server.process.pid
    assert answers(server) == "one"


def test_usr1_opens_the_logs_again(serve_nginx):
    server = serve_nginx("error_log %DIR%/error.log notice; events {}\nhttp { access_log off;" + ONE + "}")
    log, moved = server.directory / "error.log", server.directory / "error.log.1"
    assert log.exists(), "from the start on"
    os.rename(log, moved)
    server.signal(signal.SIGUSR1)
    wait_until(log.exists, "a new file")
    reload(server, "retrun;")
    wait_until(lambda: "retrun" in log.read_text(), "the mistake in the new file")
    assert "retrun" not in moved.read_text()


def test_an_application_comes_with_a_reload(serve_nginx):
    app = """
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"app"]
    """
    server = serve_nginx(ONE, files={"shop.py": app}, python=True)
    assert server.workers() == []
    reload(server, "app shop { wsgi shop:application; directory %DIR%; workers 2; }"
                   "server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }")
    wait_until(lambda: answers(server) == "app", "the application")
    assert len(server.workers()) == 2
    reload(server, ONE)
    wait_until(lambda: answers(server) == "one", "the plain configuration")
    wait_until(lambda: server.workers() == [], "the workers to end")


def test_an_application_that_does_not_load_changes_nothing(serve_nginx):
    server = serve_nginx(ONE, files={"broken.py": "import nothing_of_that_name\n"}, python=True)
    reload(server, "app shop { wsgi broken:application; directory %DIR%; }"
                   "server { listen 127.0.0.1:%PORT%; location / { app_pass shop; } }")
    server.wait_log("Generation 2 did not boot; the old one goes on serving")
    assert answers(server) == "one"


def test_ten_thousand_servers_start_and_reload(serve_nginx):
    def servers(word):
        locations = " ".join(
            f"location /{name}/ {{ root /srv/{name}; expires 1h; }}" for name in ("static", "media", "files", "old")
        )
        return "\n".join(
            f"server {{ listen 127.0.0.1:%PORT%; server_name site{n}.example; root /srv/site{n}; {locations}"
            f' location ~ "^/[0-9]{{4}}/" {{ return 200 "{word} {n}"; }} }}'
            for n in range(10_000)
        )

    def said(server, n):
        with server.connect("%PORT%", timeout=30) as client:
            return client.request(target="/2026/", host=f"site{n}.example").text

    server = serve_nginx(servers("first"))
    assert said(server, 9_999) == "first 9999"
    reload(server, servers("second"))
    wait_until(lambda: said(server, 9_999) == "second 9999", "the new configuration", timeout=60)
    assert said(server, 17) == "second 17"


def test_a_reload_says_what_it_has_changed_and_warns_again(serve_nginx):
    conf = """
        server { listen 127.0.0.1:%%PORT%%; server_name one; return 200 one; }
        server { listen 127.0.0.1:%%PORT%%; server_name one; return 200 two; }
        %s
    """
    site = serve_nginx(conf % "")
    out = site.directory / "stdout.log"
    wait_until(lambda: "Logs: " in out.read_text(), "what is said at the start")
    assert 'conflicting server name "one"' in site.log()
    before = len(out.read_text())
    site.configure(conf % "server { listen 127.0.0.1:%PORT1%; server_name three; }")
    site.signal(signal.SIGHUP)
    wait_until(lambda: "Servers: one, one, three" in out.read_text()[before:], "what is new")
    news = out.read_text()[before:]
    assert f"Listening at: http://127.0.0.1:{site.ports['%PORT%']}, http://127.0.0.1:{site.ports['%PORT1%']}" in news
    assert 'conflicting server name "one"' in news and "Applications:" not in news
