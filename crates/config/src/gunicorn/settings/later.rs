//! Settings whose feature is not there yet: only their defaults pass.

use super::{Kind, MANY, Section, Setting};

const ASGI: &str = "ASGI is not there yet";
const DIRTY: &str = "dirty arbiters are not there yet";
const PASTE: &str =
    "PasteDeploy is not there yet; write a module that calls `paste.deploy.loadapp` and name it";
const CONTROL: &str = "there is no control socket yet";

pub(super) const ROWS: &[Setting] = &[
    Setting::new("asgi_loop", Section::Workers, Kind::Words(&["auto", "asyncio", "uvloop"]))
        .flags(&["--asgi-loop"])
        .default("auto")
        .doc("The event loop of ASGI workers.")
        .not_yet(ASGI),
    Setting::new("asgi_lifespan", Section::Workers, Kind::Words(&["auto", "on", "off"]))
        .flags(&["--asgi-lifespan"])
        .default("auto")
        .doc("ASGI's lifespan protocol.")
        .not_yet(ASGI),
    Setting::new("asgi_disconnect_grace_period", Section::Workers, Kind::Seconds(true))
        .flags(&["--asgi-disconnect-grace-period"])
        .default("3")
        .doc("How long an ASGI application may go on after its client has left.")
        .not_yet(ASGI),
    Setting::new("websocket_max_message_size", Section::Workers, Kind::Int(0, MANY))
        .flags(&["--websocket-max-message-size"])
        .default("16777216")
        .doc("Bytes of a message that an ASGI application gets by WebSocket.")
        .no_effect(ASGI),
    Setting::new("http_parser", Section::Workers, Kind::Words(&["auto", "fast", "python"]))
        .flags(&["--http-parser"])
        .default("auto")
        .doc("The HTTP parser of gunicorn's ASGI workers.")
        .not_yet("there is one parser here, in the edge"),
    Setting::new("paste", Section::Mechanics, Kind::Text)
        .flags(&["--paste", "--paster"])
        .doc("A PasteDeploy file to load the application from.")
        .not_yet(PASTE),
    Setting::new("raw_paste_global_conf", Section::Mechanics, Kind::List)
        .flags(&["--paste-global"])
        .meta("CONF")
        .default("")
        .doc("A variable for the PasteDeploy file.")
        .not_yet(PASTE),
    Setting::new("keyfile", Section::Ssl, Kind::Path)
        .flags(&["--keyfile"])
        .meta("FILE")
        .doc("The private key; without it, it is in the file of the certificate."),
    Setting::new("certfile", Section::Ssl, Kind::Path)
        .flags(&["--certfile"])
        .meta("FILE")
        .doc("The certificate and those that lead to the root: all listeners speak TLS."),
    Setting::new("ssl_version", Section::Ssl, Kind::Text)
        .flags(&["--ssl-version"])
        .default("2")
        .doc("Ignored by gunicorn as well.")
        .no_effect("TLS 1.2 and 1.3 are spoken; gunicorn ignores it as well"),
    Setting::new("cert_reqs", Section::Ssl, Kind::Int(0, 2))
        .flags(&["--cert-reqs"])
        .default("0")
        .doc("Whether clients show a certificate: 0 no, 1 they may, 2 they must. A handshake without a good one fails."),
    Setting::new("ca_certs", Section::Ssl, Kind::Path)
        .flags(&["--ca-certs"])
        .meta("FILE")
        .doc("Authorities of clients' certificates."),
    Setting::new("suppress_ragged_eofs", Section::Ssl, Kind::Flag(true))
        .flags(&["--suppress-ragged-eofs"])
        .default("true")
        .doc("Take a connection that ends without TLS's farewell for ended.")
        .no_effect("a client that leaves without a farewell is taken for gone, and nothing is logged"),
    Setting::new("do_handshake_on_connect", Section::Ssl, Kind::Flag(true))
        .flags(&["--do-handshake-on-connect"])
        .default("false")
        .doc("Do the TLS handshake at once.")
        .no_effect("workers have nothing to do with handshakes"),
    Setting::new("ciphers", Section::Ssl, Kind::Text)
        .flags(&["--ciphers"])
        .doc("Cipher suites of TLS 1.2, in OpenSSL's language.")
        .differs("There are ECDHE with AES-GCM and ChaCha20; others are left out."),
    Setting::new("dirty_apps", Section::Dirty, Kind::List)
        .flags(&["--dirty-app"])
        .default("")
        .doc("Applications of the dirty arbiter.")
        .not_yet(DIRTY),
    Setting::new("dirty_workers", Section::Dirty, Kind::Int(0, MANY))
        .flags(&["--dirty-workers"])
        .default("0")
        .doc("Workers of the dirty arbiter.")
        .not_yet(DIRTY),
    Setting::new("dirty_timeout", Section::Dirty, Kind::Seconds(true))
        .flags(&["--dirty-timeout"])
        .default("300")
        .doc("How long a dirty worker may take.")
        .not_yet(DIRTY),
    Setting::new("dirty_threads", Section::Dirty, Kind::Int(0, MANY))
        .flags(&["--dirty-threads"])
        .default("1")
        .doc("Threads of a dirty worker.")
        .not_yet(DIRTY),
    Setting::new("dirty_graceful_timeout", Section::Dirty, Kind::Seconds(true))
        .flags(&["--dirty-graceful-timeout"])
        .default("30")
        .doc("How long a dirty worker may take to end.")
        .not_yet(DIRTY),
    dirty_hook("on_dirty_starting", 1),
    dirty_hook("dirty_post_fork", 2),
    dirty_hook("dirty_worker_init", 1),
    dirty_hook("dirty_worker_exit", 2),
    Setting::new("control_socket", Section::Control, Kind::Path)
        .flags(&["--control-socket"])
        .doc("Where gunicorn's control program finds the master.")
        .not_yet(CONTROL),
    Setting::new("control_socket_mode", Section::Control, Kind::Octal)
        .flags(&["--control-socket-mode"])
        .meta("INT")
        .default("0600")
        .doc("Permissions of the control socket.")
        .not_yet(CONTROL),
    Setting::new("control_socket_disable", Section::Control, Kind::Flag(true))
        .flags(&["--no-control-socket"])
        .default("false")
        .doc("Make no control socket.")
        .no_effect("there is no control socket yet, so there is none to switch off"),
];

const fn dirty_hook(name: &'static str, arguments: u8) -> Setting {
    Setting::new(name, Section::Dirty, Kind::Hook(arguments))
        .doc("A hook of the dirty arbiter.")
        .not_yet(DIRTY)
}
