//! What nginx has and is not there yet: known by name, so that nobody takes it for a mistake in writing.
//!
//! What does something by itself is an error. What only says how another directive does its work is not: where
//! that other stands it is the error, and where it does not, the rest changes nothing in nginx either.

use super::table::{Apply, Argument, Context, Count, Row};

/// Most of nginx's http modules.
const HTTP: Context = Context::ALL.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT);

/// The rows of all names below.
pub(super) fn rows() -> Vec<Row> {
    let any = Count::at_least(0);
    let row = |name, contexts, apply, doc| Row::new(name, contexts, any, apply, "", doc).repeats();
    let all = |groups: &'static [(&'static str, &'static [&'static str])]| {
        groups.iter().flat_map(|(why, names)| names.iter().map(move |name| (*why, *name)))
    };
    let errors = all(ERRORS).map(|(why, name)| {
        let contexts = if matches!(name, "stream" | "mail") { Context::MAIN } else { HTTP };
        row(name, contexts, Apply::NotYet(why), "")
    });
    let switches = all(SWITCHES).map(|(why, name)| row(name, HTTP, Apply::OnlyOff(why), ""));
    let inner = all(INNER).map(|(why, name)| row(name, Context::LATER, Apply::NotYet(why), ""));
    let events = all(EVENTS).map(|(why, name)| row(name, Context::EVENTS, Apply::NotYet(why), ""));
    let options = all(OPTIONS).map(|(why, name)| row(name, HTTP, Apply::Quiet(Argument::Any, why), ""));
    errors.chain(switches).chain(inner).chain(events).chain(options).collect()
}

/// What does something.
const ERRORS: &[(&str, &[&str])] = &[
    ("CONNECT comes later", &["tunnel_pass"]),
    ("Perl comes later", &["perl", "perl_modules", "perl_require", "perl_set"]),
    ("TCP and UDP come later", &["stream"]),
    ("XSLT comes later", &["xslt_stylesheet"]),
    (
        "geoip comes later; `geo` is there",
        &["geoip_city", "geoip_country", "geoip_org", "geoip_proxy", "geoip_proxy_recursive"],
    ),
    ("it is for other systems", &["degradation", "degrade"]),
    ("ECH is not there", &["ssl_ech_file"]),
    (
        "knowing browsers comes later; `map $http_user_agent` is there",
        &["ancient_browser", "ancient_browser_value", "modern_browser", "modern_browser_value"],
    ),
    ("mail comes later", &["mail"]),
    ("memcached comes later", &["memcached_pass"]),
];

/// What does something unless it is `off`.
const SWITCHES: &[(&str, &[&str])] = &[
    ("HTTP/3 comes later", &["http3"]),
    ("changing images comes later", &["image_filter"]),
    ("answers about certificates of clients are not asked for; `ssl_crl` is there", &["ssl_ocsp"]),
];

/// What stands in blocks that are not read.
const INNER: &[(&str, &[&str])] = &[
    (
        "TCP and UDP come later",
        &[
            "pass",
            "preread_buffer_size",
            "preread_timeout",
            "proxy_download_rate",
            "proxy_downstream_buffer",
            "proxy_half_close",
            "proxy_protocol_timeout",
            "proxy_requests",
            "proxy_responses",
            "proxy_ssl",
            "proxy_ssl_alpn",
            "proxy_upload_rate",
            "proxy_upstream_buffer",
            "ssl_alpn",
            "ssl_handshake_timeout",
            "ssl_preread",
        ],
    ),
    (
        "mail comes later",
        &[
            "auth_http",
            "auth_http_header",
            "auth_http_pass_client_cert",
            "auth_http_timeout",
            "imap_auth",
            "imap_capabilities",
            "imap_client_buffer",
            "max_errors",
            "pop3_auth",
            "pop3_capabilities",
            "protocol",
            "proxy",
            "proxy_buffer",
            "proxy_pass_error_message",
            "proxy_protocol",
            "proxy_smtp_auth",
            "proxy_timeout",
            "smtp_auth",
            "smtp_capabilities",
            "smtp_client_buffer",
            "smtp_greeting_delay",
            "starttls",
            "timeout",
            "xclient",
        ],
    ),
];

/// Of `events`.
const EVENTS: &[(&str, &[&str])] = &[(
    "it is of another system than Linux",
    &[
        "acceptex_read",
        "devpoll_changes",
        "devpoll_events",
        "eventport_events",
        "iocp_threads",
        "kqueue_changes",
        "kqueue_events",
        "post_acceptex",
    ],
)];

/// What changes nothing without another directive, which is an error.
const OPTIONS: &[(&str, &[&str])] = &[
    (
        "it needs HTTP/3, which is not there yet",
        &[
            "http3_hq",
            "http3_max_concurrent_streams",
            "http3_stream_buffer_size",
            "quic_active_connection_id_limit",
            "quic_gso",
            "quic_host_key",
            "quic_retry",
        ],
    ),
    (
        "it needs `image_filter`, which is not there yet",
        &[
            "image_filter_buffer",
            "image_filter_interlace",
            "image_filter_jpeg_quality",
            "image_filter_sharpen",
            "image_filter_transparency",
            "image_filter_webp_quality",
        ],
    ),
    ("it needs `ssl_ocsp`, which is not there yet", &["ssl_ocsp_cache", "ssl_ocsp_responder"]),
    (
        "it needs `memcached_pass`, which is not there yet",
        &[
            "memcached_bind",
            "memcached_buffer_size",
            "memcached_connect_timeout",
            "memcached_gzip_flag",
            "memcached_next_upstream",
            "memcached_next_upstream_timeout",
            "memcached_next_upstream_tries",
            "memcached_read_timeout",
            "memcached_send_timeout",
            "memcached_socket_keepalive",
        ],
    ),
    (
        "it needs `tunnel_pass`, which is not there yet",
        &[
            "tunnel_bind",
            "tunnel_buffer_size",
            "tunnel_connect_timeout",
            "tunnel_next_upstream",
            "tunnel_next_upstream_timeout",
            "tunnel_next_upstream_tries",
            "tunnel_read_timeout",
            "tunnel_send_lowat",
            "tunnel_send_timeout",
            "tunnel_socket_keepalive",
            "tunnel_socket_rcvbuf",
            "tunnel_socket_sndbuf",
        ],
    ),
    (
        "it needs `xslt_stylesheet`, which is not there yet",
        &[
            "xml_entities",
            "xml_external_entities",
            "xslt_last_modified",
            "xslt_param",
            "xslt_string_param",
            "xslt_types",
        ],
    ),
];
