//! What one block says, and how a block inherits from the one around it.
//!
//! Everything is an [`Option`]: `None` was not said. Inheriting is nginx's: what a block says itself replaces what
//! it would inherit, also of directives that add up (`add_header`, `allow`, `error_page`, `limit_req`, …).

use std::rc::Rc;
use std::time::Duration;

use conf_syntax::Span;

use super::cache::CacheLevel;
use super::dav::DavMethods;
use super::error_log::ErrorLog;
use super::headers::Inherits;
use super::pass::PassLevel;
use super::tls::NamedFile;
use super::types::Types;
use super::user_id::UserIdFlags;
use crate::model::Symlinks;
use crate::model::http::{
    AccessLog, AccessRule, AddHeader, AutoindexFormat, BodyFile, CACHE_KINDS, Content, ErrorPage, Expires,
    FAMILIES, IfModifiedSince, KeepaliveDisable, LimitConn, LimitReq, LingeringClose, LogFileCache, LogLevel,
    Precompressed, Proxied, RealIpHeader, Regex, Resolver, Root, Satisfy, ServerTokens, TryFiles, UserIdMode,
    ValidReferers, Value, Who,
};
use crate::model::tls::{CertificateCache, Protocol, Secret, SessionCache, Verify};

/// The fields of a request that is passed on, each with its value.
pub(super) type SetHeaders = Rc<Vec<(Vec<u8>, Value)>>;

macro_rules! level {
    (inherited { $($i:ident: $it:ty,)* } own { $($o:ident: $ot:ty,)* }) => {
        /// What a block says.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Level {
            $(pub $i: Option<$it>,)*
            $(pub $o: Option<$ot>,)*
            /// What is said of caches, by their kind.
            pub caches: [Option<Rc<CacheLevel>>; CACHE_KINDS],
            /// What is said of other servers, by their kind.
            pub passes: [Option<Rc<PassLevel>>; FAMILIES],
        }

        impl Level {
            /// Takes from the block around what this one does not say.
            pub(super) fn inherit(&mut self, parent: &Self) {
                $(if self.$i.is_none() {
                    self.$i.clone_from(&parent.$i);
                })*
                inherit(&mut self.caches, &parent.caches, CacheLevel::inherit);
                inherit(&mut self.passes, &parent.passes, PassLevel::inherit);
            }

            /// Whether it says nothing.
            pub(super) fn is_empty(&self) -> bool {
                true $(&& self.$i.is_none())*
                    && self.caches.iter().all(Option::is_none)
                    && self.passes.iter().all(Option::is_none)
                    && !self.has_own()
            }

            /// Whether it says something that is not inherited.
            pub(super) fn has_own(&self) -> bool {
                false $(|| self.$o.is_some())*
            }
        }
    };
}

/// Inherits what is kept by kinds.
fn inherit<T: Clone>(own: &mut [Option<Rc<T>>], parent: &[Option<Rc<T>>], one: impl Fn(&mut T, &T)) {
    for (own, parent) in own.iter_mut().zip(parent) {
        match (own, parent) {
            (own @ None, _) => own.clone_from(parent),
            (Some(own), Some(parent)) => one(Rc::make_mut(own), parent),
            (Some(_), None) => {}
        }
    }
}

level! {
    inherited {
        // Before a location is known.
        header_timeout: Duration,
        header_buffer: u64,
        large_buffers: (u32, u64),
        max_headers: u64,
        ignore_invalid: bool,
        underscores: bool,
        merge_slashes: bool,
        http2: bool,
        http2_streams: u64,
        http2_preread: u64,
        http2_chunk: u64,
        // TLS.
        ssl_certificates: Rc<Vec<NamedFile>>,
        // Those of `ssl_conf_command`.
        ssl_conf_certificates: Rc<Vec<NamedFile>>,
        ssl_conf_keys: Rc<Vec<NamedFile>>,
        ssl_certificate_keys: Rc<Vec<NamedFile>>,
        ssl_password_file: NamedFile,
        ssl_protocols: Vec<Protocol>,
        // Those that are not spoken, named where no other is.
        ssl_unspoken: (String, Span, Option<Span>),
        ssl_min_protocol: Protocol,
        ssl_max_protocol: Protocol,
        ssl_ciphers: Vec<u16>,
        ssl_ciphersuites: Vec<u16>,
        ssl_prefer_server_ciphers: bool,
        ssl_groups: Vec<u16>,
        ssl_reject_handshake: bool,
        ssl_buffer_size: u64,
        ssl_session_cache: Option<SessionCache>,
        ssl_session_timeout: Duration,
        ssl_session_tickets: bool,
        ssl_early_data: bool,
        ssl_session_ticket_keys: Rc<Vec<Secret>>,
        ssl_verify_client: Verify,
        ssl_client_certificate: NamedFile,
        ssl_trusted_certificate: NamedFile,
        ssl_crl: NamedFile,
        ssl_verify_depth: u64,
        ssl_stapling: bool,
        ssl_stapling_verify: bool,
        ssl_stapling_responder: String,
        ssl_certificate_cache: Option<CertificateCache>,
        ssl_certificate_compression: bool,
        ssl_stapling_file: NamedFile,
        // Files.
        root: (Root, usize),
        internal: bool,
        default_type: Vec<u8>,
        types: Rc<Types>,
        index: Rc<Vec<Value>>,
        random_index: bool,
        autoindex: bool,
        autoindex_format: AutoindexFormat,
        autoindex_exact_size: bool,
        autoindex_localtime: bool,
        symlinks: (Symlinks, Option<Value>),
        etag: bool,
        if_modified_since: IfModifiedSince,
        max_ranges: u64,
        slice: u64,
        mp4_max_buffer: u64,
        mp4_start_key_frame: bool,
        open_file_cache: Option<(u32, Duration)>,
        open_file_cache_valid: Duration,
        open_file_cache_min_uses: u64,
        open_file_cache_errors: bool,
        sendfile: bool,
        log_not_found: bool,
        // Errors.
        error_pages: Rc<Vec<ErrorPage>>,
        recursive_error_pages: bool,
        msie_padding: bool,
        msie_refresh: bool,
        intercept_errors: bool,
        app_set_headers: SetHeaders,
        // Clients.
        max_body: u64,
        body_timeout: Duration,
        body_buffer: u64,
        body_in_file: Option<BodyFile>,
        body_early: Rc<Vec<Value>>,
        log_file_cache: Option<LogFileCache>,
        subrequest_buffer: u64,
        send_timeout: Duration,
        keepalive: Duration,
        keepalive_told: Duration,
        keepalive_disable: KeepaliveDisable,
        keepalive_requests: u64,
        keepalive_time: Duration,
        keepalive_min_timeout: Duration,
        lingering_close: LingeringClose,
        lingering_time: Duration,
        lingering_timeout: Duration,
        reset_timedout: bool,
        chunked: bool,
        limit_rate: Value,
        limit_rate_after: Value,
        tcp_nodelay: bool,
        server_tokens: ServerTokens,
        server_name_in_redirect: bool,
        port_in_redirect: bool,
        absolute_redirect: bool,
        // Access.
        satisfy: Satisfy,
        access: Vec<AccessRule>,
        auth_basic: Value,
        auth_basic_user_file: Value,
        auth_delay: Duration,
        // A path as it is, without variables.
        auth_request: Vec<u8>,
        auth_request_set: Vec<(u32, Value)>,
        valid_referers: Rc<ValidReferers>,
        real_ip_from: Vec<Who>,
        real_ip_header: RealIpHeader,
        real_ip_recursive: bool,
        secure_link: Value,
        secure_link_md5: Value,
        secure_link_secret: Vec<u8>,
        // Limits.
        limit_req: Vec<LimitReq>,
        limit_req_status: u64,
        limit_req_log_level: LogLevel,
        limit_req_dry_run: bool,
        limit_conn: Vec<LimitConn>,
        limit_conn_status: u64,
        limit_conn_log_level: LogLevel,
        limit_conn_dry_run: bool,
        // Fields of the response.
        add_headers: Rc<Vec<AddHeader>>,
        add_trailers: Rc<Vec<AddHeader>>,
        add_header_inherit: Inherits,
        add_trailer_inherit: Inherits,
        early_hints: Rc<Vec<Value>>,
        expires: Option<Expires>,
        // Bodies of the response.
        gzip: bool,
        gzip_types: Rc<Option<Vec<Vec<u8>>>>,
        gzip_min_length: u64,
        gzip_comp_level: u64,
        gzip_vary: bool,
        gzip_http10: bool,
        gzip_proxied: Vec<Proxied>,
        gzip_disable: Vec<Regex>,
        gzip_static: Precompressed,
        brotli: bool,
        brotli_types: Rc<Option<Vec<Vec<u8>>>>,
        brotli_min_length: u64,
        brotli_comp_level: u64,
        brotli_static: Precompressed,
        zstd: bool,
        zstd_types: Rc<Option<Vec<Vec<u8>>>>,
        zstd_min_length: u64,
        zstd_comp_level: u64,
        zstd_static: Precompressed,
        gunzip: bool,
        charset: Value,
        source_charset: Value,
        charset_types: Rc<Option<Vec<Vec<u8>>>>,
        override_charset: bool,
        sub_filters: Rc<Vec<(Value, Value)>>,
        sub_filter_once: bool,
        sub_filter_types: Rc<Option<Vec<Vec<u8>>>>,
        sub_filter_last_modified: bool,
        // Methods that change files.
        dav_methods: DavMethods,
        create_full_put_path: bool,
        min_delete_depth: u64,
        dav_access: u32,
        // Requests within requests.
        add_before_body: Vec<u8>,
        add_after_body: Vec<u8>,
        addition_types: Rc<Option<Vec<Vec<u8>>>>,
        ssi: bool,
        ssi_last_modified: bool,
        ssi_min_file_chunk: u64,
        ssi_silent_errors: bool,
        ssi_types: Rc<Option<Vec<Vec<u8>>>>,
        ssi_value_length: u64,
        mirror: Rc<Vec<Vec<u8>>>,
        mirror_request_body: bool,
        post_action: Vec<u8>,
        // Identifiers of clients; `None` in the option is `off`.
        userid: Option<UserIdMode>,
        userid_service: u64,
        userid_name: Vec<u8>,
        userid_domain: Vec<u8>,
        userid_path: Vec<u8>,
        userid_expires: Option<Duration>,
        userid_flags: UserIdFlags,
        userid_p3p: Vec<u8>,
        userid_mark: Option<u8>,
        // Names.
        resolver: Resolver,
        resolver_timeout: Duration,
        // Logs.
        access_logs: Rc<Vec<AccessLog>>,
        log_subrequest: bool,
        error_logs: Rc<Vec<ErrorLog>>,
    }
    own {
        content: Content,
        try_files: TryFiles,
        // For checks once the block has ended.
        referers_of_server: (),
        referers_at: Span,
        access_log_off: (),
        secure_link_at: Span,
    }
}
