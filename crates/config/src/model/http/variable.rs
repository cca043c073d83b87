//! Variables and the texts that contain them.

use serde::{Deserialize, Serialize};

use super::DefinedId;

/// A text that may contain variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Value(pub Vec<Part>);

/// A piece of a [`Value`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// As it stands.
    Text(Vec<u8>),
    /// What the variable is when asked.
    Variable(Variable),
}

impl Value {
    /// A text without variables.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        Self(if text.is_empty() { vec![] } else { vec![Part::Text(text)] })
    }

    /// The text, if there is no variable in it.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }
}

macro_rules! variables {
    (
        plain { $($plain:ident = $name:literal, $doc:literal;)* }
        families { $($family:ident = $prefix:literal, $family_doc:literal;)* }
    ) => {
        /// Something that a request is asked for by name.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Variable {
            $(#[doc = $doc] $plain,)*
            $(#[doc = $family_doc] $family(Vec<u8>),)*
            /// `$1` to `$9`: a group of the last regular expression that matched.
            Capture(u8),
            /// One that the configuration defines.
            Defined(DefinedId),
        }

        impl Variable {
            /// Every variable that is there by itself, or the prefix of a family of them, and what it is.
            pub const ALL: &[(&str, &str)] = &[$(($name, $doc),)* $((concat!($prefix, "…"), $family_doc),)*];

            /// The variable of this name (lower case, without the dollar sign), if it is there by itself.
            pub fn built_in(name: &str) -> Option<Self> {
                match name {
                    $($name => return Some(Self::$plain),)*
                    _ => {}
                }
                $(if let Some(rest) = name.strip_prefix($prefix) && !rest.is_empty() {
                    return Some(Self::$family(rest.as_bytes().to_vec()));
                })*
                None
            }
        }
    };
}

variables! {
    plain {
        Args = "args", "The arguments in the request line";
        QueryString = "query_string", "The same as `$args`";
        BinaryRemoteAddr = "binary_remote_addr", "The client's address, 4 or 16 bytes";
        BodyBytesSent = "body_bytes_sent", "Bytes of the body that were sent";
        BytesSent = "bytes_sent", "Bytes that were sent";
        Connection = "connection", "The connection's number";
        ConnectionRequests = "connection_requests", "Requests on this connection so far";
        ConnectionTime = "connection_time", "Seconds since the connection began, with milliseconds";
        ContentLength = "content_length", "The request's `Content-Length`";
        ContentType = "content_type", "The request's `Content-Type`";
        DocumentRoot = "document_root", "`root` or `alias` for this request";
        DocumentUri = "document_uri", "The same as `$uri`";
        Host = "host", "The host of the request line, else of `Host`, else the server's name; lower case, without port";
        Hostname = "hostname", "The machine's name";
        Https = "https", "`on` over TLS, else empty";
        IsArgs = "is_args", "`?` if there are arguments, else empty";
        LimitRate = "limit_rate", "Bytes a second at most; can be set";
        Msec = "msec", "Seconds since 1970, with milliseconds";
        NginxVersion = "nginx_version", "The version of nginx whose language this is";
        Pid = "pid", "The process that serves";
        Pipe = "pipe", "`p` if the request was pipelined, else `.`";
        ProxyProtocolAddr = "proxy_protocol_addr", "The client's address of the PROXY protocol header";
        ProxyProtocolPort = "proxy_protocol_port", "The client's port of it";
        ProxyProtocolServerAddr = "proxy_protocol_server_addr", "The server's address of it";
        ProxyProtocolServerPort = "proxy_protocol_server_port", "The server's port of it";
        RealipRemoteAddr = "realip_remote_addr", "The client's address before `real_ip_header` changed it";
        RealipRemotePort = "realip_remote_port", "The client's port before `real_ip_header` changed it";
        RealpathRoot = "realpath_root", "`$document_root` with its symbolic links resolved";
        RemoteAddr = "remote_addr", "The client's address";
        RemotePort = "remote_port", "The client's port";
        RemoteUser = "remote_user", "The user of Basic authentication";
        Request = "request", "The whole request line";
        RequestBody = "request_body", "The body, if it is in memory";
        RequestBodyFile = "request_body_file", "The file that the body is in; without `client_body_in_file_only` its name is gone";
        RequestCompletion = "request_completion", "`OK` if the request was served to its end, else empty";
        RequestFilename = "request_filename", "The file for the request, by `root` or `alias` and the path";
        RequestId = "request_id", "16 random bytes in hexadecimal, one value for each request";
        RequestLength = "request_length", "Bytes of the request: line, fields and body";
        RequestMethod = "request_method", "The method";
        RequestPort = "request_port", "The port that the client asked for";
        IsRequestPort = "is_request_port", "`:` if the client asked for a port, else empty";
        RequestTime = "request_time", "Seconds since the first byte of the request, with milliseconds";
        RequestUri = "request_uri", "Path and arguments as they were sent";
        Scheme = "scheme", "`http` or `https`";
        ServerAddr = "server_addr", "The address that the client connected to";
        ServerName = "server_name", "The name of the server that serves";
        ServerPort = "server_port", "The port that the client connected to";
        Http2 = "http2", "`h2` for HTTP/2 over TLS, `h2c` without; else empty";
        ServerProtocol = "server_protocol", "`HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`";
        Status = "status", "The response's status";
        SslAlpnProtocol = "ssl_alpn_protocol", "The protocol that ALPN has chosen";
        SslCipher = "ssl_cipher", "The cipher suite, by OpenSSL's name";
        SslCiphers = "ssl_ciphers", "The suites that the client offers, colons between them";
        SslClientCert = "ssl_client_cert", "The client's certificate, PEM, with a tab before all lines but the first";
        SslClientEscapedCert = "ssl_client_escaped_cert", "The same, URL-encoded";
        SslClientFingerprint = "ssl_client_fingerprint", "Its SHA-1";
        SslClientIDn = "ssl_client_i_dn", "Its issuer, by RFC 2253";
        SslClientIDnLegacy = "ssl_client_i_dn_legacy", "Its issuer, with slashes";
        SslClientRawCert = "ssl_client_raw_cert", "The client's certificate, PEM";
        SslClientSDn = "ssl_client_s_dn", "Its subject, by RFC 2253";
        SslClientSDnLegacy = "ssl_client_s_dn_legacy", "Its subject, with slashes";
        SslClientSerial = "ssl_client_serial", "Its serial number";
        SslClientVEnd = "ssl_client_v_end", "Until when it is valid";
        SslClientVRemain = "ssl_client_v_remain", "Days until then";
        SslClientVStart = "ssl_client_v_start", "From when it is valid";
        SslClientVerify = "ssl_client_verify", "`SUCCESS`, `FAILED:` and why, or `NONE`: no certificate was shown";
        SslCurve = "ssl_curve", "The group of the key exchange";
        SslCurves = "ssl_curves", "The groups that the client offers, colons between them";
        SslEarlyData = "ssl_early_data", "`1` if the request came before the end of the handshake, else empty";
        SslProtocol = "ssl_protocol", "The version of TLS";
        SslServerName = "ssl_server_name", "The name that the client asked for in the handshake";
        SslSessionId = "ssl_session_id", "The session; the same when it goes on";
        SslSessionReused = "ssl_session_reused", "`r` if an earlier session goes on, else `.`";
        TcpinfoRtt = "tcpinfo_rtt", "Round-trip time in microseconds";
        TcpinfoRttvar = "tcpinfo_rttvar", "Its variance";
        TcpinfoSndCwnd = "tcpinfo_snd_cwnd", "The congestion window";
        TcpinfoRcvSpace = "tcpinfo_rcv_space", "The receive window";
        TimeIso8601 = "time_iso8601", "The time, as ISO 8601 has it";
        TimeLocal = "time_local", "The time, as the common log format has it";
        Uri = "uri", "The path, decoded and normalised, as rewrites left it";
        InvalidReferer = "invalid_referer", "`1` if the `Referer` is none of `valid_referers`, else empty";
        LimitReqStatus = "limit_req_status", "`PASSED`, `DELAYED`, `REJECTED`, `DELAYED_DRY_RUN`, `REJECTED_DRY_RUN`";
        LimitConnStatus = "limit_conn_status", "`PASSED`, `REJECTED`, `REJECTED_DRY_RUN`";
        GzipRatio = "gzip_ratio", "How much smaller compression made the body";
        SecureLink = "secure_link", "The verdict of `secure_link`";
        SecureLinkExpires = "secure_link_expires", "Until when the link is good";
        UidGot = "uid_got", "Name and value of the client's identifier";
        UidSet = "uid_set", "Name and value of the identifier that the client is given";
        ConnectionsActive = "connections_active", "Open connections";
        ConnectionsReading = "connections_reading", "Connections whose request is being read";
        ConnectionsWriting = "connections_writing", "Connections whose request is being answered";
        ConnectionsWaiting = "connections_waiting", "Idle connections";
        DateGmt = "date_gmt", "The time in GMT, as SSI's `config` has it";
        DateLocal = "date_local", "The local time, as SSI's `config` has it";
        AppQueueTime = "app_queue_time", "Seconds that the request waited for a worker, with milliseconds";
        AppRunTime = "app_run_time", "Seconds from the worker's taking it to the end of its answer";
        AppPid = "app_pid", "The worker's process";
        AppAttempts = "app_attempts", "How often the request was given to a worker";
        AppName = "app_name", "The application's name";
        ProxyHost = "proxy_host", "Name and port of the server of `proxy_pass`; a usual port is left out";
        ProxyPort = "proxy_port", "Its port";
        ProxyAddXForwardedFor = "proxy_add_x_forwarded_for", "`X-Forwarded-For` of the request, and the client's address behind it";
        ProxyInternalBodyLength = "proxy_internal_body_length", "Bytes of the body that is passed on";
        ProxyInternalChunked = "proxy_internal_chunked", "`chunked` if the body is passed on as it comes and its length is not known";
        FastcgiScriptName = "fastcgi_script_name", "The path, or what `fastcgi_split_path_info` takes of it; behind a slash `fastcgi_index`";
        FastcgiPathInfo = "fastcgi_path_info", "What `fastcgi_split_path_info` takes of the path as the rest of it";
        SliceRange = "slice_range", "The part of the answer that is asked for now, as `Range` has it: `bytes=0-1048575`";
        UpstreamCacheStatus = "upstream_cache_status", "`MISS`, `BYPASS`, `EXPIRED`, `STALE`, `UPDATING`, `REVALIDATED`, `HIT`; empty without a cache";
        UpstreamCacheLastModified = "upstream_cache_last_modified", "`Last-Modified` of what is kept, while it is asked for anew";
        UpstreamCacheEtag = "upstream_cache_etag", "`ETag` of what is kept, while it is asked for anew";
        UpstreamAddr = "upstream_addr", "The servers that were asked: addresses, between commas; after an internal redirect a colon";
        UpstreamStatus = "upstream_status", "Their statuses";
        UpstreamConnectTime = "upstream_connect_time", "Seconds until each was connected to, with milliseconds";
        UpstreamHeaderTime = "upstream_header_time", "Seconds until the head of each answer was there";
        UpstreamResponseTime = "upstream_response_time", "Seconds until the end of each answer";
        UpstreamResponseLength = "upstream_response_length", "Bytes of the body of each answer";
        UpstreamBytesReceived = "upstream_bytes_received", "Bytes that came from each";
        UpstreamBytesSent = "upstream_bytes_sent", "Bytes that were sent to each";
    }
    families {
        Arg = "arg_", "An argument of the request line by its name";
        Cookie = "cookie_", "A cookie by its name";
        Http = "http_", "A field of the request by its name (lower case, dashes as underscores)";
        ProxyProtocolTlv = "proxy_protocol_tlv_", "What else the PROXY protocol header says: `alpn`, `authority`, `unique_id`, `netns`, `ssl_verify`, `ssl_version`, `ssl_cn`, `ssl_cipher`, `ssl_sig_alg`, `ssl_key_alg`; any by its number: `0x05`, `ssl_0x21`";
        SentHttp = "sent_http_", "A field of the response";
        SentTrailer = "sent_trailer_", "A field behind the body of the response";
        UpstreamHttp = "upstream_http_", "A field of the answer of the server that was asked last";
        UpstreamCookie = "upstream_cookie_", "A cookie that it set";
        UpstreamTrailer = "upstream_trailer_", "A field behind the body of its answer";
    }
}
