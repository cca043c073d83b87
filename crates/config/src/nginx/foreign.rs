//! Directives of nginx's paid edition and of modules that are built into it separately: not known here, but nobody
//! who has them in a file has mistyped.

/// What to write instead of a directive, or whose it is; `None` for one that is unknown to us.
pub(super) fn advice(name: &str) -> Option<&'static str> {
    let is = |pattern: &&str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == *pattern,
    };
    ADVICE.iter().find(|(names, _)| names.iter().any(is)).map(|(_, advice)| *advice)
}

/// The same of a parameter, as it is written: by its name, or by name and value.
pub(super) fn parameter(text: &str) -> Option<&'static str> {
    let name = text.split('=').next().unwrap_or_default();
    PARAMETERS
        .iter()
        .find(|(names, _)| names.contains(&text) || names.contains(&name))
        .map(|(_, advice)| *advice)
}

const PARAMETERS: &[(&[&str], &str)] = &[
    (
        &["type=grpc"],
        "gRPC's health protocol is of nginx's paid edition, and not spoken here; without it servers are asked by HTTP: \
         `uri=/health` and a `match` that wants what they answer",
    ),
    (
        &["type=tcp"],
        "a server that only takes connections is not thereby healthy here: remove it, and `uri=/` is asked by HTTP",
    ),
    (
        &["purger", "purger_files", "purger_sleep", "purger_threshold"],
        "it is of nginx's paid edition: remove it; `proxy_cache_purge` removes what a request names, also with an \
         asterisk at the end",
    ),
    (
        &["status_zone"],
        "it is of nginx's paid edition: remove it; `stub_status` and `upstream_status` are there",
    ),
    (&["sync"], "it is of nginx's paid edition, for several machines: remove it"),
    (&["http3"], "it was never one of nginx's own, which has `quic`; HTTP/3 is not there yet: remove it"),
    (&["spdy"], "SPDY is gone, and HTTP/2 has come in its place: write `http2 on;` in the server"),
    (&["udp"], "it is of `stream`, which is not there yet"),
    (&["setfib", "accept_filter"], "it is of another system than Linux: remove it"),
];

/// Names, or what they begin or end with.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["api", "status", "status_format", "status_zone", "upstream_conf"],
        "it is of nginx's paid edition; `stub_status` and `upstream_status` are there",
    ),
    (
        &["vhost_traffic_status*", "stream_server_traffic_status*"],
        "it is of a separate module, nginx-module-vts; `stub_status` and `upstream_status` are there",
    ),
    (
        &["auth_jwt*"],
        "it is of nginx's paid edition; let the application look at tokens, or `auth_request` one that does",
    ),
    (
        &["auth_oidc", "oidc_provider"],
        "it is of nginx's paid edition; `auth_request` asks a server that signs users in",
    ),
    (&["auth_require"], "it is of nginx's paid edition; `if` with `return 403` can ask a variable"),
    (
        &["keyval", "keyval_zone"],
        "it is of nginx's paid edition; `map` with an `include` takes pairs from a file",
    ),
    (&["num_map"], "it is of nginx's paid edition; `map` knows regular expressions"),
    (
        &["internal_redirect"],
        "it is of nginx's paid edition; `rewrite … last` or `try_files` go on at another location",
    ),
    (
        &[
            "*_allow_upstream",
            "*_bind_dynamic",
            "*_request_dynamic",
            "*ssl_key_log",
            "error_log_tag",
            "f4f*",
            "hls*",
            "license_token",
            "mgmt",
            "mp4_limit_rate*",
            "ntlm",
            "session_log*",
            "stall_threshold",
            "usage_report",
            "zone_sync*",
        ],
        "it is of nginx's paid edition",
    ),
    (&["js_*"], "it is of njs, a separate module: scripts are not run here; the application can do it"),
    (&["otel_*", "opentelemetry*", "opentracing*"], "it is of a separate module; tracing is not there yet"),
    (
        &["more_set_headers", "more_clear_headers"],
        "it is of a separate module, headers-more; `add_header NAME VALUE always`, or `proxy_hide_header`, may do",
    ),
    (
        &["more_set_input_headers", "more_clear_input_headers"],
        "it is of a separate module, headers-more; `proxy_set_header` may do",
    ),
    (&["geoip2*"], "it is of a separate module, geoip2; `geo` takes ranges of addresses from a file"),
    (&["subs_filter*", "replace_filter*"], "it is of a separate module; `sub_filter` may do"),
    (&["fancyindex*"], "it is of a separate module, fancyindex; `autoindex` may do"),
    (
        &["lua_*", "*_by_lua", "*_by_lua_block", "*_by_lua_file"],
        "it is of a separate module, OpenResty's: Lua is not run here; the application can do it",
    ),
    (
        &[
            "set_escape_uri",
            "set_unescape_uri",
            "set_quote_*",
            "set_md5",
            "set_sha1",
            "set_hmac_sha*",
            "set_encode_*",
            "set_decode_*",
            "set_encrypt_session",
            "set_decrypt_session",
            "encrypted_session*",
            "set_random",
            "set_secure_random_*",
            "set_local_today",
            "set_formatted_*",
            "set_hashed_upstream",
            "set_if_empty",
            "set_rotate",
            "set_misc*",
            "array_*",
            "set_form_input*",
        ],
        "it is of a separate module, of OpenResty's set-misc and its like; `map` computes a variable from another, the \
         application the rest",
    ),
    (
        &["rtmp", "rtmp_*", "vod", "vod_*"],
        "it is of a separate module, for video: no live streams are taken or cut here; `mp4` and `flv` serve files",
    ),
    (
        &["auth_ldap*", "ldap_server", "auth_pam*", "auth_gss*", "auth_digest*", "auth_spnego*", "auth_cas*"],
        "it is of a separate module; `auth_request` asks a server that signs users in, `auth_basic` a file of passwords",
    ),
    (
        &["modsecurity*", "ModSecurity*"],
        "it is of a separate module, ModSecurity; there is no firewall for applications here",
    ),
    (
        &["SecRules*", "BasicRule", "MainRule", "CheckRule", "DeniedUrl", "LearningMode", "LibInjection*"],
        "it is of a separate module, naxsi; there is no firewall for applications here",
    ),
    (
        &["pagespeed", "ModPagespeed*"],
        "it is of a separate module, ngx_pagespeed, which is no longer kept: remove it; `gzip` and `expires` stay",
    ),
    (
        &["passenger_*", "rails_env", "rack_env"],
        "it is of Passenger; `app` and `app_pass` run an application",
    ),
    (
        &["upload_progress*", "track_uploads", "report_uploads"],
        "it is of a separate module, upload-progress: remove it",
    ),
    (
        &["upload_*"],
        "it is of a separate module, upload; bodies are buffered before the application sees them, `client_max_body_size` \
         says how large they may be",
    ),
    (
        &["push_stream*", "nchan_*", "push_subscriber*", "push_publisher*", "push_message*"],
        "it is of a separate module; the application can do it, or `proxy_pass` to a server for it",
    ),
    (&["echo*"], "it is of a separate module, echo; `return 200 TEXT` answers with a text"),
    (
        &["redis*", "memc_*", "srcache_*", "drizzle_*", "postgres_*", "mongo", "gridfs"],
        "it is of a separate module; the application asks databases, `app_cache` and `proxy_cache` keep answers",
    ),
    (
        &[
            "check",
            "check_http_send",
            "check_http_expect_alive",
            "check_keepalive_requests",
            "check_shm_size",
            "check_status",
        ],
        "it is of Tengine, or of a separate module; `health_check` asks servers",
    ),
    (
        &["fair", "upstream_fair*", "consistent_hash"],
        "it is of a separate module; `least_conn` and `hash` are there",
    ),
    (&["concat*", "trim*", "footer"], "it is of a separate module"),
    (&["cookie_flag", "set_cookie_flag"], "it is of a separate module; `proxy_cookie_flags` may do"),
    (&["aws_*", "s3_*"], "it is of a separate module; an application signs requests"),
    (
        &["proxy_connect", "proxy_connect_allow", "proxy_connect_address", "proxy_connect_response"],
        "it is of a separate module; there is no proxy for CONNECT here",
    ),
    (
        &["cache_purge*", "*_cache_purge_response*"],
        "it is of a separate module; `proxy_cache_purge` is there",
    ),
    (
        &["testcookie*", "limit_traffic*", "dyn_limit*", "sysguard*"],
        "it is of a separate module; `limit_req` and `limit_conn` are there",
    ),
    (
        &["dav_ext*"],
        "it is of a separate module, dav-ext: PROPFIND and LOCK are not there; `dav_methods` are",
    ),
    (&["limit_zone"], "nginx has no longer had it since 1.7.6; `limit_conn_zone` has come in its place"),
];

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::*;

    #[test]
    fn whole_names_beginnings_and_ends_are_known() {
        assert!(advice("keyval").is_some_and(|text| text.contains("`map`")));
        assert!(advice("js_content").is_some_and(|text| text.contains("njs")));
        assert!(advice("grpc_bind_dynamic").is_some());
        assert!(advice("access_by_lua_block").is_some_and(|text| text.contains("Lua")));
        assert_eq!(advice("keyvals"), None);
        assert_eq!(advice("gzzip"), None);
    }

    /// Every directive that an advice names is one of ours, and none of ours has an advice.
    #[test]
    fn advice_names_what_is_there() {
        for row in &TABLE.rows {
            assert_eq!(advice(row.name), None, "{}", row.name);
        }
        for (_, text) in ADVICE {
            for quoted in text.split('`').skip(1).step_by(2) {
                let name = quoted.split(' ').next().unwrap_or_default();
                assert!(!TABLE.find(name.as_bytes()).is_empty(), "{quoted}");
            }
        }
    }
}
