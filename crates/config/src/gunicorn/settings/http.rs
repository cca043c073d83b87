//! What clients may send, how slowly, where it waits, and whose word is believed.

use super::{Kind, MANY, Section, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("limit_request_line", Section::Security, Kind::Int(0, 1 << 20))
        .flags(&["--limit-request-line"])
        .default("4094")
        .doc("Bytes of the request line: method, target and version. A longer one is answered with 414. 0 leaves it to `limit_request_head`.")
        .differs("May be larger than 8190, up to `limit_request_head`."),
    Setting::new("limit_request_fields", Section::Security, Kind::Int(0, 32_768))
        .flags(&["--limit-request-fields"])
        .default("100")
        .doc("Header fields of a request; more are answered with 431. 0 means the most, 32768."),
    Setting::new("limit_request_field_size", Section::Security, Kind::Int(0, 1 << 20))
        .flags(&["--limit-request-field_size"])
        .default("8190")
        .doc("Bytes of one header field, name and value. A larger one is answered with 431. 0 leaves it to `limit_request_head`."),
    Setting::new("limit_request_head", Section::Security, Kind::Size)
        .flags(&["--limit-request-head"])
        .default("64k")
        .doc("Bytes of the request line and all header fields together; more are answered with 431. From 1k to 1m.")
        .ours(),
    Setting::new("client_max_body_size", Section::Security, Kind::Size)
        .flags(&["--client-max-body-size"])
        .default("1m")
        .doc("Bytes of a request's body; a larger one is answered with 413 before the application sees it. 0 lifts the limit.")
        .differs("gunicorn has no such limit; 1m is nginx's. Raise it where users upload files.")
        .ours(),
    Setting::new("client_header_timeout", Section::Clients, Kind::Seconds(false))
        .flags(&["--client-header-timeout"])
        .default("60")
        .doc("How long a client may take for the whole head of a request; then 408.")
        .ours(),
    Setting::new("client_body_timeout", Section::Clients, Kind::Seconds(false))
        .flags(&["--client-body-timeout"])
        .default("60")
        .doc("How long a client may take between two pieces of a request's body; then 408.")
        .ours(),
    Setting::new("send_timeout", Section::Clients, Kind::Seconds(false))
        .flags(&["--send-timeout"])
        .default("60")
        .doc("How long a client may take between two pieces of a response; then the connection is closed.")
        .ours(),
    Setting::new("keepalive_requests", Section::Clients, Kind::Int(1, u64::MAX))
        .flags(&["--keepalive-requests"])
        .default("1000")
        .doc("Requests on one connection; then it is closed, which gives its memory back.")
        .ours(),
    Setting::new("lingering_timeout", Section::Clients, Kind::Seconds(false))
        .flags(&["--lingering-timeout"])
        .default("5")
        .doc("After an error, how long what the client still sends is thrown away before the connection is closed, so that it can read the answer.")
        .ours(),
    Setting::new("server_tokens", Section::Clients, Kind::Switch)
        .flags(&["--server-tokens"])
        .default("on")
        .doc("Send `Server: monoceros` in responses without a `Server` field of the application's own. The version is never told.")
        .ours(),
    Setting::new("client_body_buffer_size", Section::Buffering, Kind::Size)
        .flags(&["--client-body-buffer-size"])
        .default("16k")
        .doc("Bytes of a request's body that are held in memory; what is larger goes to a temporary file.")
        .ours(),
    Setting::new("response_buffer_size", Section::Buffering, Kind::Size)
        .flags(&["--response-buffer-size"])
        .default("64k")
        .doc("Bytes of a response that are held in memory for a slow client; what is larger goes to a temporary file. At least 4k.")
        .ours(),
    Setting::new("response_max_temp_file_size", Section::Buffering, Kind::Size)
        .flags(&["--response-max-temp-file-size"])
        .default("1024m")
        .doc("Bytes of one response in a temporary file; past it the worker is slowed to the client's pace. 0 never uses a file. As nginx's `proxy_max_temp_file_size`.")
        .ours(),
    Setting::new("max_temp_space", Section::Buffering, Kind::Size)
        .flags(&["--max-temp-space"])
        .default("4g")
        .doc("Bytes of all temporary files together. An upload that does not fit any more is answered with 503; a response that does not fit slows its worker.")
        .ours(),
    Setting::new("tmp_upload_dir", Section::Buffering, Kind::Path).meta("DIR").doc(
        "Where temporary files of request and response bodies are made; they have no name there. Without it \
         `$TMPDIR`, then `/tmp`.",
    ),
    Setting::new("secure_scheme_headers", Section::Mechanics, Kind::Dict)
        .default(r#"{"X-FORWARDED-PROTOCOL":"ssl","X-FORWARDED-PROTO":"https","X-FORWARDED-SSL":"on"}"#)
        .doc(
            "Header fields by which a trusted proxy says that the client came over https, each with the value that \
             means so. Two that contradict each other are answered with 400.",
        ),
    Setting::new("forwarded_allow_ips", Section::Mechanics, Kind::Commas)
        .flags(&["--forwarded-allow-ips"])
        .default("127.0.0.1,::1")
        .env("FORWARDED_ALLOW_IPS")
        .doc(
            "Addresses and networks of proxies whose `X-Forwarded-*` fields are believed, with commas; `*` believes \
             everybody. A peer on a Unix socket is always believed. In an `app` block of an nginx.conf it holds for \
             `app_pass` as it does for the app's own `bind`; but `*` only if the block itself says it, because a \
             settings file says it for the sake of a proxy in front of gunicorn, and here clients connect themselves.",
        )
        .differs(
            "What `X-Forwarded-For` of such a proxy says becomes `REMOTE_ADDR`. The fields of others (`X-Forwarded-…`, \
             `Forwarded`, `X-Real-IP`) do not reach the application, which could not tell them from a proxy's; \
             gunicorn hands them on.",
        ),
    Setting::new("forwarder_headers", Section::Mechanics, Kind::Commas)
        .flags(&["--forwarder-headers"])
        .default("SCRIPT_NAME,PATH_INFO")
        .doc("Header fields with an underscore in their name that pass when a trusted proxy (`forwarded_allow_ips`) sends them."),
    Setting::new("header_map", Section::Mechanics, Kind::Words(&["drop", "refuse", "dangerous"]))
        .flags(&["--header-map"])
        .default("drop")
        .doc(
            "What happens to header fields with an underscore in their name, which an application could not tell \
             from their twins with a dash: left out (`drop`), answered with 400 (`refuse`), or passed on \
             (`dangerous`). As nginx's `underscores_in_headers`.",
        ),
    Setting::new("root_path", Section::Mechanics, Kind::Text)
        .flags(&["--root-path"])
        .env("SCRIPT_NAME")
        .default("")
        .doc("The URL prefix that the application is mounted under, as `/shop`; it becomes `SCRIPT_NAME` and is taken off the front of `PATH_INFO`. Without it `SCRIPT_NAME` of `raw_env` counts.")
        .differs("A path that does not begin with it is passed on as it is; where `SCRIPT_NAME` is a variable gunicorn answers 500."),
    Setting::new("proxy_protocol", Section::Mechanics, Kind::OptionalWord(&["off", "auto", "v1", "v2"]))
        .flags(&["--proxy-protocol"])
        .meta("MODE")
        .default("off")
        .doc("Expect the PROXY protocol in front of every connection.")
        .not_yet("the PROXY protocol is not there yet; let the balancer send X-Forwarded-For"),
    Setting::new("proxy_allow_ips", Section::Mechanics, Kind::Commas)
        .flags(&["--proxy-allow-from"])
        .default("127.0.0.1,::1")
        .doc("Addresses that may use the PROXY protocol.")
        .not_yet("the PROXY protocol is not there yet"),
    Setting::new("protocol", Section::Mechanics, Kind::Words(&["http", "uwsgi"]))
        .flags(&["--protocol"])
        .default("http")
        .doc("The protocol of client connections.")
        .not_yet("only `http` is there; in nginx write `proxy_pass` instead of `uwsgi_pass`"),
    Setting::new("uwsgi_allow_ips", Section::Mechanics, Kind::Commas)
        .flags(&["--uwsgi-allow-from"])
        .default("127.0.0.1,::1")
        .doc("Addresses that may use the uwsgi protocol.")
        .not_yet("the uwsgi protocol is not there"),
    Setting::new("permit_obsolete_folding", Section::Mechanics, Kind::Flag(true))
        .flags(&["--permit-obsolete-folding"])
        .default("false")
        .doc("Accept header fields that go on in the next line.")
        .not_yet("it weakens the framing of requests (RFC 9112 section 5.2) and is refused"),
    Setting::new("strip_header_spaces", Section::Mechanics, Kind::Flag(true))
        .flags(&["--strip-header-spaces"])
        .default("false")
        .doc("Accept white space between a field's name and its colon.")
        .not_yet("it allows request smuggling (RFC 9112 section 5.1) and is refused"),
    Setting::new("permit_unconventional_http_method", Section::Mechanics, Kind::Flag(true))
        .flags(&["--permit-unconventional-http-method"])
        .default("false")
        .doc("Accept methods with characters that gunicorn finds unusual.")
        .not_yet("every method that RFC 9110 allows is accepted already, others weaken the framing and are refused"),
    Setting::new("permit_unconventional_http_version", Section::Mechanics, Kind::Flag(true))
        .flags(&["--permit-unconventional-http-version"])
        .default("false")
        .doc("Accept versions other than 1.0 and 1.1.")
        .not_yet("it weakens the framing of requests (RFC 9112 section 2.3) and is refused"),
    Setting::new("casefold_http_method", Section::Mechanics, Kind::Flag(true))
        .flags(&["--casefold-http-method"])
        .default("false")
        .doc("Turn methods into upper case.")
        .not_yet("methods are case-sensitive (RFC 9110 section 9.1); a proxy in front would see another method than the application"),
    Setting::new("http_protocols", Section::Http2, Kind::Commas)
        .flags(&["--http-protocols"])
        .default("h1")
        .doc("Versions of HTTP that are offered within TLS: `h1`, or `h2,h1`.")
        .differs("With a certificate that comes by itself (`domain`, `tls`) both are offered if nobody says otherwise; \
            HTTP/1 always is."),
    Setting::new("http2_cleartext", Section::Http2, Kind::Words(&["off", "prior-knowledge", "upgrade", "both"]))
        .flags(&["--http2-cleartext"])
        .default("off")
        .doc("HTTP/2 without TLS, with `h2` among `http_protocols`.")
        .differs("With prior knowledge only: RFC 9113 has done away with the upgrade."),
    Setting::new("http2_max_concurrent_streams", Section::Http2, Kind::Int(0, MANY))
        .flags(&["--http2-max-concurrent-streams"])
        .default("100")
        .doc("Requests at once on one HTTP/2 connection."),
    Setting::new("http2_initial_window_size", Section::Http2, Kind::Int(0, MANY))
        .flags(&["--http2-initial-window-size"])
        .default("65535")
        .doc("Bytes that a client may send on an HTTP/2 stream before it is told to go on."),
    Setting::new("http2_max_frame_size", Section::Http2, Kind::Int(16_384, 16_777_215))
        .flags(&["--http2-max-frame-size"])
        .default("16384")
        .doc("Bytes of an HTTP/2 frame."),
    Setting::new("http2_max_header_list_size", Section::Http2, Kind::Int(0, MANY))
        .flags(&["--http2-max-header-list-size"])
        .default("65536")
        .doc("Bytes of all header fields of an HTTP/2 request.")
        .no_effect("`limit_request_head` holds for both versions of HTTP"),
];
