//! From what a block says and inherited to the model's settings: nginx's defaults fill what nobody said.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use super::error_log::ErrorLog;
use super::level::Level;
use super::types::Types;
use crate::model::Symlinks;
use crate::model::http::{
    AuthBasic, Autoindex, CacheKind, CacheSettings, Charset, Compression, Family, HeadSettings,
    KeepaliveDisable, LogLevel, Mp4, OpenFileCache, Proxied, ProxySettings, RealIp, RealIpHeader, Refusal,
    Root, SecureLink, Settings, SettingsId, SubFilters, Value,
};

/// A block whose settings are known.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub level: Rc<Level>,
    pub id: SettingsId,
}

/// The tables that settings share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    #[expect(clippy::vec_box, reason = "a list of a million that grows is moved, and they are large")]
    pub settings: Vec<Box<Settings>>,
    pub types: Vec<Rc<Types>>,
    pub error_logs: Vec<Rc<Vec<ErrorLog>>>,
    pub proxies: Vec<ProxySettings>,
    pub caches: Vec<CacheSettings>,
    proxies_by_value: HashMap<ProxySettings, u32>,
    error_logs_by_value: HashMap<Rc<Vec<ErrorLog>>, u32>,
    settings_by_hash: HashMap<u64, Vec<SettingsId>>,
    types_by_place: HashMap<*const Types, u32>,
    types_by_value: HashMap<Rc<Types>, u32>,
    /// Bodies are to be recoded from one set to another: there has to be a `charset_map`.
    pub recodings: BTreeSet<(Vec<u8>, Vec<u8>)>,
    /// `root html`, where nobody says another.
    pub default_root: Vec<u8>,
    /// Where a relative `auth_basic_user_file` lies.
    pub conf_prefix: Vec<u8>,
    /// `logs/access.log`, likewise.
    pub default_access_log: Option<crate::model::http::AccessLog>,
    /// Every file that an `access_log` names.
    pub named_logs: BTreeSet<Vec<u8>>,
}

impl Shared {
    /// The settings of a block within another.
    pub(super) fn settle(&mut self, mut own: Level, parent: Option<&Settled>) -> Settled {
        if let Some(parent) = parent {
            // Most locations of a large file say nothing that is a setting.
            if own.is_empty() && !parent.level.has_own() {
                return parent.clone();
            }
            let has_secret = own.secure_link_secret.is_some();
            own.inherit(&parent.level);
            // Either form takes the place of the other.
            if has_secret {
                (own.secure_link, own.secure_link_md5) = (None, None);
            } else if own.secure_link.is_some() || own.secure_link_md5.is_some() {
                own.secure_link_secret = None;
            }
        }
        let id = self.intern(&own);
        Settled { level: Rc::new(own), id }
    }

    fn intern(&mut self, level: &Level) -> SettingsId {
        let settings = self.settings(level);
        let mut hasher = DefaultHasher::new();
        settings.hash(&mut hasher);
        let same = self.settings_by_hash.entry(hasher.finish()).or_default();
        if let Some(id) = same.iter().find(|id| *self.settings[**id as usize] == settings) {
            return *id;
        }
        let id = self.settings.len() as SettingsId;
        self.settings.push(Box::new(settings));
        same.push(id);
        id
    }

    fn types(&mut self, types: &Rc<Types>) -> u32 {
        if let Some(index) = self.types_by_place.get(&Rc::as_ptr(types)) {
            return *index;
        }
        let next = self.types.len() as u32;
        let index = *self.types_by_value.entry(Rc::clone(types)).or_insert(next);
        // Every table that was asked about is kept alive, so that no other comes to lie at its place.
        if index == next {
            self.types.push(Rc::clone(types));
            self.types_by_place.insert(Rc::as_ptr(types), index);
        }
        index
    }

    fn pass(&mut self, level: &Level, family: Family) -> Option<u32> {
        let settings = super::pass::settle(level, family)?;
        let next = self.proxies.len() as u32;
        let index = *self.proxies_by_value.entry(settings.clone()).or_insert(next);
        if index == next {
            self.proxies.push(settings);
        }
        Some(index)
    }

    /// Few blocks have one, and most of them the same.
    fn cache(&mut self, level: &Level, kind: CacheKind) -> Option<u32> {
        let settings = super::cache::settle(level, kind)?;
        let index = self.caches.iter().position(|other| *other == settings).unwrap_or_else(|| {
            self.caches.push(settings);
            self.caches.len() - 1
        });
        Some(index as u32)
    }

    fn error_log(&mut self, logs: &Rc<Vec<ErrorLog>>) -> u32 {
        let next = self.error_logs.len() as u32;
        let index = *self.error_logs_by_value.entry(Rc::clone(logs)).or_insert(next);
        if index == next {
            self.error_logs.push(Rc::clone(logs));
        }
        index
    }

    fn settings(&mut self, l: &Level) -> Settings {
        let seconds = Duration::from_secs;
        let (root, alias_prefix) =
            l.root.clone().unwrap_or_else(|| (Root::Root(Value::text(self.default_root.clone())), 0));
        let (symlinks, symlinks_from) = l.symlinks.clone().unwrap_or((Symlinks::Follow, None));
        Settings {
            root,
            alias_prefix,
            internal: l.internal.unwrap_or(false),
            default_type: l.default_type.clone().unwrap_or_else(|| b"text/plain".to_vec()),
            types: match &l.types {
                Some(types) => self.types(types),
                None => self.types(&super::types::default_table()),
            },
            index: match &l.index {
                Some(index) => index.to_vec(),
                None => vec![Value::text(*b"index.html")],
            },
            random_index: l.random_index.unwrap_or(false),
            autoindex: autoindex(l),
            try_files: l.try_files.clone(),
            error_pages: l.error_pages.as_ref().map_or_else(Vec::new, |p| p.to_vec()),
            msie_padding: l.msie_padding.unwrap_or(true),
            msie_refresh: l.msie_refresh.unwrap_or(false),
            recursive_error_pages: l.recursive_error_pages.unwrap_or(false),
            intercept_errors: l.intercept_errors.unwrap_or(false),
            app_set_headers: l.app_set_headers.as_ref().map_or_else(Vec::new, |fields| fields.to_vec()),
            symlinks,
            symlinks_from,
            etag: l.etag.unwrap_or(true),
            if_modified_since: l.if_modified_since.unwrap_or_default(),
            max_ranges: l.max_ranges,
            slice: l.slice.unwrap_or(0),
            mp4: Mp4 {
                max_buffer: l.mp4_max_buffer.unwrap_or(10 << 20),
                start_key_frame: l.mp4_start_key_frame.unwrap_or(false),
            },
            open_file_cache: open_file_cache(l),
            sendfile: l.sendfile.unwrap_or(false),
            http2_chunk: l.http2_chunk.map_or(8 * 1024, |n| n as u32),
            log_not_found: l.log_not_found.unwrap_or(true),
            log_subrequest: l.log_subrequest.unwrap_or(false),
            max_body: Some(l.max_body.unwrap_or(1 << 20)).filter(|size| *size > 0),
            body_timeout: l.body_timeout.unwrap_or(seconds(60)),
            body_buffer: l.body_buffer.unwrap_or(16 << 10),
            body_in_file: l.body_in_file.flatten(),
            body_early: l.body_early.as_ref().map_or_else(Vec::new, |values| values.to_vec()),
            subrequest_buffer: l.subrequest_buffer.unwrap_or(4 << 10),
            send_timeout: l.send_timeout.unwrap_or(seconds(60)),
            keepalive_timeout: l.keepalive.unwrap_or(seconds(75)),
            // Zero tells the client nothing.
            keepalive_header: l.keepalive_told.filter(|told| !told.is_zero()),
            keepalive_disable: l.keepalive_disable.unwrap_or(KeepaliveDisable { msie6: true, safari: false }),
            keepalive_requests: l.keepalive_requests.unwrap_or(1000),
            keepalive_time: l.keepalive_time.unwrap_or(seconds(3600)),
            keepalive_min_timeout: l.keepalive_min_timeout.unwrap_or_default(),
            lingering_close: l.lingering_close.unwrap_or_default(),
            lingering_time: l.lingering_time.unwrap_or(seconds(30)),
            lingering_timeout: l.lingering_timeout.unwrap_or(seconds(5)),
            reset_timedout: l.reset_timedout.unwrap_or(false),
            chunked: l.chunked.unwrap_or(true),
            limit_rate: l.limit_rate.clone().filter(|v| v.as_text() != Some(b"0")),
            limit_rate_after: l.limit_rate_after.clone().filter(|v| v.as_text() != Some(b"0")),
            tcp_nodelay: l.tcp_nodelay.unwrap_or(true),
            server_tokens: l.server_tokens.clone().unwrap_or_default(),
            server_name_in_redirect: l.server_name_in_redirect.unwrap_or(false),
            port_in_redirect: l.port_in_redirect.unwrap_or(true),
            absolute_redirect: l.absolute_redirect.unwrap_or(true),
            satisfy: l.satisfy.unwrap_or_default(),
            access: l.access.clone().unwrap_or_default(),
            auth_basic: auth_basic(l, &self.conf_prefix),
            auth_delay: l.auth_delay.unwrap_or_default(),
            auth_request: l.auth_request.clone().filter(|p| p != b"off").map(Value::text),
            auth_request_set: l.auth_request_set.clone().unwrap_or_default(),
            valid_referers: l.valid_referers.as_ref().map(|v| v.as_ref().clone()),
            real_ip: real_ip(l),
            limit_req: l.limit_req.clone().unwrap_or_default(),
            limit_req_refusal: Refusal {
                status: l.limit_req_status.unwrap_or(503) as u16,
                level: l.limit_req_log_level.unwrap_or(LogLevel::Error),
                dry_run: l.limit_req_dry_run.unwrap_or(false),
            },
            limit_conn: l.limit_conn.clone().unwrap_or_default(),
            limit_conn_refusal: Refusal {
                status: l.limit_conn_status.unwrap_or(503) as u16,
                level: l.limit_conn_log_level.unwrap_or(LogLevel::Error),
                dry_run: l.limit_conn_dry_run.unwrap_or(false),
            },
            add_headers: l.add_headers.as_ref().map_or_else(Vec::new, |h| h.to_vec()),
            early_hints: l.early_hints.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
            add_trailers: l.add_trailers.as_ref().map_or_else(Vec::new, |h| h.to_vec()),
            expires: l.expires.clone().flatten(),
            compression: compression(l),
            gzip_static: l.gzip_static.unwrap_or_default(),
            brotli_static: l.brotli_static.unwrap_or_default(),
            zstd_static: l.zstd_static.unwrap_or_default(),
            gunzip: l.gunzip.unwrap_or(false),
            log_file_cache: l.log_file_cache.flatten(),
            access_logs: match &l.access_logs {
                Some(logs) => logs.to_vec(),
                None => self.default_access_log.iter().cloned().collect(),
            },
            error_log: l.error_logs.as_ref().map(|logs| self.error_log(logs)),
            charset: self.charset(l),
            sub_filters: sub_filters(l),
            secure_link: secure_link(l),
            dav: super::dav::settle(l),
            addition: super::subrequests::addition(l),
            ssi: super::subrequests::ssi(l),
            mirror: super::subrequests::mirror(l),
            post_action: l.post_action.clone().filter(|path| !matches!(&path[..], b"" | b"off")),
            user_id: super::user_id::settle(l),
            passes: Family::ALL.map(|family| self.pass(l, family)),
            caches: CacheKind::ALL.map(|kind| self.cache(l, kind)),
        }
    }
}

impl Shared {
    fn charset(&mut self, l: &Level) -> Option<Charset> {
        const TYPES: [&[u8]; 6] = [
            b"text/html",
            b"text/xml",
            b"text/plain",
            b"text/vnd.wap.wml",
            b"application/javascript",
            b"application/rss+xml",
        ];
        let (charset, source) = (unless_off(l.charset.as_ref()), unless_off(l.source_charset.as_ref()));
        if charset.is_none() && source.is_none() {
            return None;
        }
        if let Some(source) = source.as_ref().and_then(Value::as_text)
            && let Some(charset) = charset.as_ref().and_then(Value::as_text)
            && !source.eq_ignore_ascii_case(charset)
        {
            self.recodings.insert((source.to_ascii_lowercase(), charset.to_ascii_lowercase()));
        }
        Some(Charset {
            charset,
            source,
            types: match &l.charset_types {
                Some(types) => types.as_ref().clone(),
                None => Some(TYPES.map(<[u8]>::to_vec).to_vec()),
            },
            replace: l.override_charset.unwrap_or(false),
        })
    }
}

/// What holds before a location is known.
pub(super) fn head_settings(l: &Level) -> HeadSettings {
    let (large_buffers, large_buffer_size) = l.large_buffers.unwrap_or((4, 8192));
    HeadSettings {
        header_timeout: l.header_timeout.unwrap_or(Duration::from_secs(60)),
        header_buffer: l.header_buffer.unwrap_or(1024),
        large_buffers,
        large_buffer_size,
        max_headers: l.max_headers.unwrap_or(1000).min(u64::from(u32::MAX)) as u32,
        ignore_invalid: l.ignore_invalid.unwrap_or(true),
        underscores: l.underscores.unwrap_or(false),
        merge_slashes: l.merge_slashes.unwrap_or(true),
        http2: super::http2::settle(l),
        verify_client: l.ssl_verify_client.unwrap_or_default(),
    }
}

fn unless_off(value: Option<&Value>) -> Option<Value> {
    value.filter(|v| v.as_text() != Some(b"off")).cloned()
}

fn autoindex(l: &Level) -> Option<Autoindex> {
    l.autoindex.unwrap_or(false).then(|| Autoindex {
        format: l.autoindex_format.unwrap_or_default(),
        exact_size: l.autoindex_exact_size.unwrap_or(true),
        localtime: l.autoindex_localtime.unwrap_or(false),
    })
}

fn open_file_cache(l: &Level) -> Option<OpenFileCache> {
    let (max, inactive) = l.open_file_cache.flatten()?;
    Some(OpenFileCache {
        max,
        inactive,
        valid: l.open_file_cache_valid.unwrap_or(Duration::from_secs(60)),
        min_uses: l.open_file_cache_min_uses.unwrap_or(1).min(u64::from(u32::MAX)) as u32,
        errors: l.open_file_cache_errors.unwrap_or(false),
    })
}

/// Without a file of users nginx asks nobody.
fn auth_basic(l: &Level, below: &[u8]) -> Option<AuthBasic> {
    let realm = unless_off(l.auth_basic.as_ref())?;
    Some(AuthBasic { realm, user_file: l.auth_basic_user_file.clone()?, below: below.to_vec() })
}

fn real_ip(l: &Level) -> Option<RealIp> {
    Some(RealIp {
        from: l.real_ip_from.clone()?,
        header: l.real_ip_header.clone().unwrap_or(RealIpHeader::XRealIp),
        recursive: l.real_ip_recursive.unwrap_or(false),
    })
}

fn compression(l: &Level) -> Compression {
    let (gzip, brotli, zstd) = (l.gzip.unwrap_or(false), l.brotli.unwrap_or(false), l.zstd.unwrap_or(false));
    let html = Rc::new(Some(vec![b"text/html".to_vec()]));
    // One list and one length for all codings that are on; the reference says so.
    let codings = [
        (gzip || !(brotli || zstd), &l.gzip_types, l.gzip_min_length),
        (brotli, &l.brotli_types, l.brotli_min_length),
        (zstd, &l.zstd_types, l.zstd_min_length),
    ];
    let on = codings.iter().filter(|(on, ..)| *on);
    let mut types: Option<Vec<Vec<u8>>> = Some(Vec::new());
    for (_, list, _) in on.clone() {
        let list = list.as_ref().unwrap_or(&html).as_ref();
        types = types.zip(list.as_ref()).map(|(mut all, list)| {
            let new: Vec<_> = list.iter().filter(|t| !all.contains(t)).cloned().collect();
            all.extend(new);
            all
        });
    }
    Compression {
        gzip,
        brotli,
        zstd,
        types,
        min_length: on.map(|(_, _, length)| length.unwrap_or(20)).min().unwrap_or(20),
        gzip_level: l.gzip_comp_level.unwrap_or(1) as u32,
        brotli_level: l.brotli_comp_level.unwrap_or(6) as u32,
        zstd_level: l.zstd_comp_level.unwrap_or(1) as u32,
        vary: l.gzip_vary.unwrap_or(false),
        http10: l.gzip_http10.unwrap_or(false),
        proxied: l.gzip_proxied.clone().unwrap_or_else(|| vec![Proxied::Off]),
        disable: l.gzip_disable.clone().unwrap_or_default(),
    }
}

fn sub_filters(l: &Level) -> Option<SubFilters> {
    Some(SubFilters {
        pairs: l.sub_filters.as_ref()?.to_vec(),
        once: l.sub_filter_once.unwrap_or(true),
        types: match &l.sub_filter_types {
            Some(types) => types.as_ref().clone(),
            None => Some(vec![b"text/html".to_vec()]),
        },
        last_modified: l.sub_filter_last_modified.unwrap_or(false),
    })
}

fn secure_link(l: &Level) -> Option<SecureLink> {
    if let Some(secret) = &l.secure_link_secret {
        return Some(SecureLink::Secret(secret.clone()));
    }
    Some(SecureLink::Checksum { link: l.secure_link.clone()?, md5: l.secure_link_md5.clone()? })
}
