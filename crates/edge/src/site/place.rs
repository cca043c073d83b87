//! What holds in one place of the configuration, compiled.

use std::rc::Rc;

use config::model::http::{
    CACHE_KINDS, CacheSettings, FAMILIES, Family, HeadSettings, LingeringClose, ServerTokens, Settings,
    SettingsId,
};
use filters::nginx::{NginxFilters, Types};
use handlers::files::by_path::PathFiles;
use limits::access::Access;
use limits::connections::ConnectionLimits;
use limits::rate::RateLimits;
use limits::realip::RealIp;
use limits::referer::ValidReferers;
use protocol::h1;
use routing::Regex;

use super::Site;
use super::proxy::ProxyPlace;

/// See the module.
pub struct Place {
    /// Whose it is.
    pub id: SettingsId,
    /// For the HTTP/1 driver.
    pub h1: Rc<h1::Settings>,
    /// Files.
    pub files: PathFiles,
    /// What responses pass through.
    pub filters: NginxFilters,
    /// `allow`, `deny`
    pub access: Option<Access>,
    /// `limit_req`
    pub rate: Option<RateLimits>,
    /// `limit_conn`
    pub connections: Option<ConnectionLimits>,
    /// `set_real_ip_from`
    pub real_ip: Option<RealIp>,
    /// `valid_referers`, its patterns, and at the index of each name what it is if it is a pattern.
    pub referers: Option<(ValidReferers, Vec<Regex>, Vec<Option<Regex>>)>,
    /// `gzip_disable`
    pub gzip_disable: Vec<Regex>,
    /// `addition_types`, where something is added.
    pub addition_types: Option<Types>,
    /// `ssi_types`, where there are pages.
    pub ssi_types: Option<Types>,
    /// What is kept of answers, by the kind of who gives them.
    pub caches: [Option<Rc<CacheSettings>>; CACHE_KINDS],
    /// How requests are passed on, where they are, by the kind of who answers.
    pub passes: [Option<Rc<ProxyPlace>>; FAMILIES],
}

impl Place {
    /// Compiles settings. They were checked, so what cannot be compiled none the less is left out with a line in
    /// the log.
    pub fn compile(site: &Site, id: SettingsId, head: &HeadSettings) -> Self {
        let http = site.http();
        let settings = &http.settings[id as usize];
        let types = Rc::clone(&site.types[settings.types as usize]);
        let zones = &site.configuration.zones;
        let regexes = |regexes: &[config::model::http::Regex]| -> Vec<Regex> {
            regexes.iter().filter_map(|regex| told(Regex::compile(regex))).collect()
        };
        Self {
            id,
            h1: Rc::new(h1_settings(head, settings, false)),
            files: PathFiles::new(settings, types, Rc::clone(&site.memory)),
            filters: NginxFilters::sharing(settings, &site.compressed),
            access: (!settings.access.is_empty()).then(|| Access::new(&settings.access)),
            rate: (!settings.limit_req.is_empty())
                .then(|| told(zones.rate_limits(&settings.limit_req, settings.limit_req_refusal)))
                .flatten(),
            connections: (!settings.limit_conn.is_empty())
                .then(|| told(zones.connection_limits(&settings.limit_conn, settings.limit_conn_refusal)))
                .flatten(),
            real_ip: settings.real_ip.as_ref().map(RealIp::new),
            referers: settings.valid_referers.as_ref().map(|valid| {
                let names = valid.names.iter().map(|(name, _)| match name {
                    config::model::http::ServerName::Regex(regex) => told(Regex::compile(regex)),
                    _ => None,
                });
                (ValidReferers::new(valid), regexes(&valid.regexes), names.collect())
            }),
            gzip_disable: regexes(&settings.compression.disable),
            addition_types: settings.addition.as_ref().map(|addition| Types::new(addition.types.as_ref())),
            caches: settings.caches.map(|at| {
                at.and_then(|at| http.cache_settings.get(at as usize)).map(|cache| Rc::new(cache.clone()))
            }),
            passes: Family::ALL.map(|family| {
                settings.passes[family as usize]
                    .and_then(|at| http.proxy_settings.get(at as usize))
                    .map(|pass| Rc::new(ProxyPlace::compile(family, pass)))
            }),
            ssi_types: settings.ssi.as_ref().map(|ssi| Types::new(ssi.types.as_ref())),
        }
    }
}

pub(super) fn told<T>(result: Result<T, impl std::fmt::Display>) -> Option<T> {
    result
        .inspect_err(|error| {
            telemetry::error_log::write(telemetry::error_log::Level::Critical, format_args!("{error}"));
        })
        .ok()
}

/// What the HTTP/1 driver is told. `fresh`: on a connection whose location is not known yet the length of a body is
/// nobody's business.
pub fn h1_settings(head: &HeadSettings, settings: &Settings, fresh: bool) -> h1::Settings {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    h1::Settings {
        limits: http1::Limits {
            request_line: size(head.large_buffer_size.max(head.header_buffer)),
            fields: head.max_headers as usize,
            field_size: size(head.large_buffer_size.max(head.header_buffer)),
            head: size(head.header_buffer + u64::from(head.large_buffers) * head.large_buffer_size),
            ..http1::Limits::default()
        },
        policy: http1::Policy {
            // Where names that are not valid count, those with underscores do too.
            underscore_fields: if head.underscores || !head.ignore_invalid {
                http1::UnderscoreFields::Keep
            } else {
                http1::UnderscoreFields::Drop
            },
            plain_names_only: head.ignore_invalid,
            bare_lf: true,
            ..http1::Policy::default()
        },
        max_body: if fresh { None } else { settings.max_body },
        header_timeout: head.header_timeout,
        body_timeout: settings.body_timeout,
        send_timeout: settings.send_timeout,
        keepalive_timeout: settings.keepalive_timeout,
        keepalive_header: settings.keepalive_header,
        keepalive_time: settings.keepalive_time,
        keepalive_min_timeout: settings.keepalive_min_timeout,
        lingering: match settings.lingering_close {
            LingeringClose::Off => h1::Lingering::Off,
            LingeringClose::On => h1::Lingering::On,
            LingeringClose::Always => h1::Lingering::Always,
        },
        lingering_time: settings.lingering_time,
        lingering_timeout: settings.lingering_timeout,
        reset_timedout: settings.reset_timedout,
        chunked: settings.chunked,
        nodelay: settings.tcp_nodelay,
        merge_slashes: head.merge_slashes,
        keepalive_requests: settings.keepalive_requests,
        sendfile: settings.sendfile,
        http2_chunk: settings.http2_chunk as usize,
        server: server_token(&settings.server_tokens),
    }
}

/// What `Server` says, and the pages of errors.
pub fn server_token(tokens: &ServerTokens) -> Option<Rc<str>> {
    match tokens {
        ServerTokens::On => Some(concat!("monoceros/", env!("CARGO_PKG_VERSION")).into()),
        ServerTokens::Off => Some("monoceros".into()),
        ServerTokens::None => None,
        ServerTokens::Text(value) => {
            value.as_text().filter(|text| !text.is_empty()).map(|text| String::from_utf8_lossy(text).into())
        }
    }
}
