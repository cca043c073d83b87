//! What `nginx -V` says of modules: which of those that nginx's `configure` knows are here. The table of directives
//! decides, so that neither can say what the other does not.

use super::table::{LATER, TABLE};

/// Modules that nginx has when it was told to, each with a directive of its own.
const ASKED_FOR: &[(&str, &str)] = &[
    ("http_addition_module", "add_before_body"),
    ("http_auth_request_module", "auth_request"),
    ("http_dav_module", "dav_methods"),
    ("http_flv_module", "flv"),
    ("http_geoip_module", "geoip_country"),
    ("http_gunzip_module", "gunzip"),
    ("http_gzip_static_module", "gzip_static"),
    ("http_image_filter_module", "image_filter"),
    ("http_mp4_module", "mp4"),
    ("http_perl_module", "perl"),
    ("http_random_index_module", "random_index"),
    ("http_realip_module", "set_real_ip_from"),
    ("http_secure_link_module", "secure_link"),
    ("http_slice_module", "slice"),
    ("http_ssl_module", "ssl_certificate"),
    ("http_stub_status_module", "stub_status"),
    ("http_sub_module", "sub_filter"),
    ("http_v2_module", "http2"),
    ("http_v3_module", "http3"),
    ("http_xslt_module", "xslt_stylesheet"),
    ("mail", "mail"),
    ("stream", "stream"),
];

/// Modules that nginx has unless it was told not to.
const USUAL: &[(&str, &str)] = &[
    ("http-cache", "proxy_cache_path"),
    ("http_access_module", "allow"),
    ("http_auth_basic_module", "auth_basic"),
    ("http_autoindex_module", "autoindex"),
    ("http_browser_module", "modern_browser"),
    ("http_charset_module", "charset"),
    ("http_empty_gif_module", "empty_gif"),
    ("http_fastcgi_module", "fastcgi_pass"),
    ("http_geo_module", "geo"),
    ("http_grpc_module", "grpc_pass"),
    ("http_gzip_module", "gzip"),
    ("http_limit_conn_module", "limit_conn"),
    ("http_limit_req_module", "limit_req"),
    ("http_map_module", "map"),
    ("http_memcached_module", "memcached_pass"),
    ("http_mirror_module", "mirror"),
    ("http_proxy_module", "proxy_pass"),
    ("http_referer_module", "valid_referers"),
    ("http_rewrite_module", "rewrite"),
    ("http_scgi_module", "scgi_pass"),
    ("http_split_clients_module", "split_clients"),
    ("http_ssi_module", "ssi"),
    ("http_tunnel_module", "tunnel_pass"),
    ("http_upstream_hash_module", "hash"),
    ("http_upstream_ip_hash_module", "ip_hash"),
    ("http_upstream_keepalive_module", "keepalive"),
    ("http_upstream_least_conn_module", "least_conn"),
    ("http_upstream_least_time_module", "least_time"),
    ("http_upstream_random_module", "random"),
    ("http_upstream_sticky_module", "sticky"),
    ("http_upstream_zone_module", "zone"),
    ("http_userid_module", "userid"),
    ("http_uwsgi_module", "uwsgi_pass"),
];

/// `--with-…` for what is here and would not be in every nginx, `--without-…` for what is not and would be.
pub fn configure_arguments() -> impl Iterator<Item = String> {
    let with = ASKED_FOR.iter().filter(|(_, directive)| is_here(directive));
    let without = USUAL.iter().filter(|(_, directive)| !is_here(directive));
    with.map(|(module, _)| format!("--with-{module}"))
        .chain(without.map(|(module, _)| format!("--without-{module}")))
}

fn is_here(directive: &str) -> bool {
    TABLE.find(directive.as_bytes()).iter().any(|index| TABLE.rows[*index].feature != LATER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_told_by_a_directive_that_is_known() {
        for (module, directive) in ASKED_FOR.iter().chain(USUAL) {
            assert!(!TABLE.find(directive.as_bytes()).is_empty(), "{module}: `{directive}`");
        }
    }

    #[test]
    fn what_is_here_and_what_is_not_is_said() {
        let arguments: Vec<_> = configure_arguments().collect();
        let has = |argument: &str| arguments.iter().any(|a| a == argument);
        assert!(has("--with-http_dav_module") && has("--with-http_v2_module"));
        assert!(has("--without-http_tunnel_module") && has("--without-http_memcached_module"));
        assert!(!has("--with-mail") && !has("--with-http_perl_module"));
        assert!(!has("--without-http_gzip_module") && has("--without-http_browser_module"));
    }
}
