//! What tests of connections share.

use std::time::Duration;

use protocol::h1;

pub fn settings() -> h1::Settings {
    let long = Duration::from_secs(60);
    h1::Settings {
        limits: http1::Limits::default(),
        policy: http1::Policy::default(),
        max_body: None,
        header_timeout: long,
        body_timeout: long,
        send_timeout: long,
        keepalive_timeout: long,
        keepalive_header: None,
        keepalive_time: long,
        keepalive_min_timeout: Duration::ZERO,
        lingering: h1::Lingering::Off,
        lingering_time: long,
        lingering_timeout: long,
        reset_timedout: false,
        chunked: true,
        nodelay: true,
        merge_slashes: true,
        keepalive_requests: 1000,
        sendfile: true,
        http2_chunk: 8192,
        server: None,
    }
}
