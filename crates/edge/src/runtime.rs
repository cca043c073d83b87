//! The compiled configuration of one event loop.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::tls::Tls;
use config::model::{Address, HeaderMap, Location, Model, Symlinks};
use exchange::Coding;
use filters::{CompressOptions, Filters, Levels};
use handlers::app::{self, App};
use handlers::files::{Accel, FileOptions, FileServer};
use listen::tls::{Choice, Hello};
use protocol::{h1, h2};
use telemetry::AccessFormat;

use crate::configuration::Configuration;
use crate::connection::Ends;
use crate::event_loop::EventLoop;
use crate::site::Site;

/// Bytes of a response's frame, nginx's `http2_chunk_size`.
const HTTP2_CHUNK: usize = 8 * 1024;

/// What a request needs of the configuration. Replaced as a whole at a reload; a request keeps the one that
/// it began with.
pub struct Runtime {
    /// For the HTTP/1 driver.
    pub h1: Rc<h1::Settings>,
    /// Directories served without the application, longest prefix first.
    pub statics: Vec<(Vec<u8>, FileServer)>,
    /// Where `X-Accel-Redirect` and `X-Sendfile` may point.
    pub accel: Accel,
    /// What responses pass through.
    pub filters: Filters,
    /// Whose word is believed.
    pub forwarded: config::model::Forwarded,
    /// Bytes of a request body in memory.
    pub body_memory: usize,
    /// What nginx.conf says of servers and locations; `None` by gunicorn's command line.
    pub site: Option<Rc<Site>>,
    /// The applications, in the model's order.
    pub apps: Vec<Rc<App>>,
    configuration: Arc<Configuration>,
}

impl Runtime {
    /// Compiles the model. Fails when a directory can't be opened.
    pub fn compile(configuration: &Arc<Configuration>, apps: Vec<Rc<App>>) -> io::Result<Rc<Self>> {
        let model = &configuration.model;
        let site = model.http.as_ref().map(|http| Site::compile(configuration, http, &apps)).transpose()?;
        let mut statics = Vec::new();
        for location in &model.statics {
            statics.push((location.url.as_bytes().to_vec(), file_server(location, model)?));
        }
        statics.sort_by_key(|(url, _)| std::cmp::Reverse(url.len()));
        let mut places = Vec::new();
        for location in &model.accel {
            places.push((location.url.clone(), file_server(location, model)?));
        }
        Ok(Rc::new(Self {
            h1: Rc::new(h1_settings(model)),
            statics,
            accel: Accel::new(places),
            filters: Filters::new(model.compress.as_ref().map(compress_options)),
            forwarded: model.forwarded.clone(),
            body_memory: usize::try_from(model.edge.buffers.request).unwrap_or(usize::MAX),
            site,
            apps,
            configuration: Arc::clone(configuration),
        }))
    }

    /// What a fresh connection to this address is served with.
    pub fn head(&self, address: &Address) -> Rc<h1::Settings> {
        let of_site = self.site.as_ref().and_then(|site| site.head_of(address));
        Rc::clone(of_site.unwrap_or(&self.h1))
    }

    /// Whether a connection to this address begins with a TLS handshake.
    pub fn begins_with_tls(&self, ends: &Ends) -> bool {
        if let Some(site) = &self.site {
            return site.listen(ends).is_some_and(|listen| listen.tls);
        }
        let tls = &self.configuration.model.tls;
        tls.everywhere.is_some() && !tls.plain.contains(&ends.address)
    }

    /// How to go on with a client that begins a handshake.
    pub async fn choose(&self, event_loop: &EventLoop, ends: &Ends, hello: &Hello<'_>) -> Choice {
        let Configuration { model, tls, .. } = &*self.configuration;
        let chosen = match &self.site {
            Some(site) => site.offer(ends, hello.server_name),
            None => model.tls.everywhere.map(|id| (id, model.edge.http2.is_some())),
        };
        let choice = chosen.map_or(Choice::Reject, |(id, http2)| tls.choose(model, id, http2));
        let offered = chosen.and_then(|(id, _)| model.tls.offers.get(id as usize));
        match (choice, &self.site, offered) {
            (Choice::Offer(offer), _, Some(tls))
                if let Some(demand) = tls.on_demand.and_then(|at| model.acme.on_demand.get(at as usize)) =>
            {
                let has_own = !tls.certificates.is_empty() || !tls.by_variable.is_empty();
                let wanted = hello.server_name.filter(|name| !is_ordered(model, tls, name));
                match wanted {
                    Some(name) => match event_loop.process.on_demand.certificate(demand, name).await {
                        Some(loaded) => Choice::Offer(offer.with_only(loaded)),
                        None => Choice::Reject,
                    },
                    None if has_own => Choice::Offer(offer),
                    None => Choice::Reject,
                }
            }
            (Choice::Offer(offer), Some(site), Some(tls)) if !tls.by_variable.is_empty() => {
                let loaded = site.certificates(event_loop, ends, hello, tls);
                loaded.map_or(Choice::Reject, |loaded| Choice::Offer(offer.with(loaded)))
            }
            (choice, ..) => choice,
        }
    }

    /// What HTTP/2 is spoken with on a fresh connection without TLS; `None` where only HTTP/1 is.
    pub fn http2(&self, ends: &Ends) -> Option<h2::Settings> {
        if let Some(site) = &self.site {
            return site.http2(&ends.address, ends.peer.local.map(|local| local.ip()));
        }
        self.http2_settings().filter(|(clear_text, _)| *clear_text).map(|(_, settings)| settings)
    }

    /// What HTTP/2 is spoken with on a connection whose client has chosen it, and named this server.
    pub fn http2_within_tls(&self, ends: &Ends, name: Option<&str>) -> Option<h2::Settings> {
        match &self.site {
            Some(site) => site.http2_within_tls(ends, name),
            None => self.http2_settings().map(|(_, settings)| settings),
        }
    }

    /// By gunicorn's command line, and whether without TLS as well.
    fn http2_settings(&self) -> Option<(bool, h2::Settings)> {
        let http2 = self.configuration.model.edge.http2.as_ref()?;
        let settings = h2::Settings {
            max_concurrent_streams: http2.max_concurrent_streams,
            preread: http2.window,
            max_frame: http2.max_frame,
            // Applications take none yet.
            connects: false,
        };
        Some((http2.clear_text, settings))
    }

    /// The port that clients of this address are sent to, because TLS is spoken there.
    pub fn redirect(&self, ends: &Ends) -> Option<u16> {
        let tls = &self.configuration.model.tls;
        tls.redirect.filter(|_| tls.plain.contains(&ends.address))
    }

    /// The directory that serves this path, and the path within it.
    pub fn static_for<'a, 'p>(&'a self, path: &'p [u8]) -> Option<(&'a FileServer, &'p [u8])> {
        self.statics
            .iter()
            .find_map(|(url, server)| path.strip_prefix(url.as_slice()).map(|rest| (server, rest)))
    }
}

/// Whether one of the certificates that a server shows is ordered for this name.
fn is_ordered(model: &Model, tls: &Tls, name: &str) -> bool {
    let shown = tls.certificates.iter().filter_map(|at| model.tls.certificates.get(*at as usize));
    shown.filter(|certificate| certificate.files.is_none()).any(|certificate| {
        let order = model.acme.certificates.iter().find(|order| order.name == certificate.name);
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        order.is_some_and(|order| {
            order.identifiers.iter().any(|known| known == name || known.strip_prefix("*.") == Some(parent))
        })
    })
}

/// How the application's requests are handled.
pub fn app_options(model: &Model, app: &config::model::App) -> app::Options {
    app::Options {
        timeout: app.timeout,
        queue_size: app.queue_size as usize,
        queue_timeout: app.queue_timeout,
        root_path: app.root_path.clone(),
        response_memory: usize::try_from(model.edge.buffers.response).unwrap_or(usize::MAX),
        response_file: model.edge.buffers.response_temp,
        told: model.logs.access.is_some()
            && AccessFormat::compile(&model.logs.access_format).is_ok_and(|format| format.is_told()),
    }
}

fn file_server(location: &Location, model: &Model) -> io::Result<FileServer> {
    let options = FileOptions {
        symlinks: match model.files.symlinks {
            Symlinks::Beneath => handlers::files::Symlinks::Beneath,
            Symlinks::Follow => handlers::files::Symlinks::Follow,
            // Only a configuration in nginx's language asks for owners, and its files are not served from here.
            Symlinks::Deny | Symlinks::IfNotOwner => handlers::files::Symlinks::Deny,
        },
        index: model.files.index.clone(),
        ..FileOptions::default()
    };
    FileServer::new(Path::new(&location.dir), options).map_err(|e| {
        io::Error::new(e.kind(), format!("{} (served at {}): {e}", location.dir.display(), location.url))
    })
}

fn h1_settings(model: &Model) -> h1::Settings {
    let (limits, timeouts) = (&model.edge.limits, &model.edge.timeouts);
    h1::Settings {
        limits: http1::Limits {
            request_line: limits.request_line as usize,
            fields: limits.fields as usize,
            field_size: limits.field_size as usize,
            head: limits.head as usize,
            ..http1::Limits::default()
        },
        policy: http1::Policy {
            underscore_fields: match model.forwarded.header_map {
                // Trusted peers may set forwarder_headers; which peer it is is not known to the codec.
                HeaderMap::Drop if model.forwarded.forwarder_headers.is_empty() => {
                    http1::UnderscoreFields::Drop
                }
                HeaderMap::Refuse => http1::UnderscoreFields::Refuse,
                HeaderMap::Drop | HeaderMap::Dangerous => http1::UnderscoreFields::Keep,
            },
            ..http1::Policy::default()
        },
        max_body: limits.body,
        header_timeout: timeouts.header,
        body_timeout: timeouts.body,
        send_timeout: timeouts.send,
        keepalive_timeout: timeouts.keepalive,
        keepalive_header: None,
        keepalive_time: Duration::MAX,
        keepalive_min_timeout: Duration::ZERO,
        lingering: h1::Lingering::On,
        lingering_time: timeouts.lingering.min(Duration::from_secs(60)),
        lingering_timeout: timeouts.lingering.min(Duration::from_secs(60)),
        reset_timedout: true,
        chunked: true,
        http2_chunk: HTTP2_CHUNK,
        nodelay: true,
        merge_slashes: true,
        keepalive_requests: limits.keepalive_requests,
        sendfile: model.files.sendfile,
        server: model.edge.server_tokens.then(|| "monoceros".into()),
    }
}

fn compress_options(compress: &config::model::Compress) -> CompressOptions {
    use config::model::Coding as Configured;
    CompressOptions {
        codings: compress
            .codings
            .iter()
            .map(|coding| match coding {
                Configured::Zstd => Coding::Zstd,
                Configured::Br => Coding::Br,
                Configured::Gzip => Coding::Gzip,
            })
            .collect(),
        types: compress.types.clone(),
        min_length: compress.min_length,
        levels: Levels { zstd: compress.levels.zstd, br: compress.levels.br, gzip: compress.levels.gzip },
    }
}
