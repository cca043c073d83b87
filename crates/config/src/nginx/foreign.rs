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
        &["api", "status", "status_format", "status_zone", "upstream_conf", "vhost_traffic_status*"],
        "it is of nginx's paid edition or of a separate module; `stub_status` and `upstream_status` are there",
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
        "it is of a separate module; `add_header NAME VALUE always`, or `proxy_hide_header`, may do",
    ),
    (
        &["more_set_input_headers", "more_clear_input_headers"],
        "it is of a separate module; `proxy_set_header` may do",
    ),
    (&["geoip2*"], "it is of a separate module; `geo` takes ranges of addresses from a file"),
    (&["subs_filter*"], "it is of a separate module; `sub_filter` may do"),
    (&["fancyindex*"], "it is of a separate module; `autoindex` may do"),
    (
        &["lua_*", "*_by_lua", "*_by_lua_block", "*_by_lua_file"],
        "it is of a separate module: Lua is not run here; the application can do it",
    ),
    (
        &["modsecurity*", "SecRules*"],
        "it is of a separate module; there is no firewall for applications here",
    ),
    (&["pagespeed"], "it is of a separate module, which is no longer kept"),
    (&["passenger_*", "rails_env"], "it is of Passenger; `app` and `app_pass` run an application"),
    (&["upload_*", "push_stream*", "nchan_*", "echo*"], "it is of a separate module"),
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
