//! `bind` in an `app`: where the application itself is asked, as gunicorn would be; and which `proxy_pass` leads there,
//! so that its requests go straight into the application's queue.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use conf_syntax::{Span, Word};

use super::app::{AppBlock, AppSetting};
use super::level::Level;
use super::reader::Reader;
use crate::gunicorn::lower;
use crate::gunicorn::nearest::nearest;
use crate::model::Address;
use crate::model::http::{
    Content, Family, Location, Locations, Matcher, Op, ProxyPass, ProxySettings, ProxyTarget, Server,
    ServerVersion, SettingsId, UpstreamAddress, Value,
};
use crate::report::Place;

/// gunicorn's length of the kernel's queue.
const BACKLOG: u32 = 2048;

/// An address of an app's `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppBind {
    /// Where.
    pub address: Address,
    /// As it was written.
    pub text: String,
    /// Where it stands in the text.
    pub span: Span,
}

impl<'a> Reader<'a> {
    /// The addresses in these words, each with its line: several of them may have commas between, as gunicorn takes them.
    pub(super) fn app_binds(&mut self, app: &mut AppBlock, words: &[(Word<'a>, Span)]) {
        (self.problems.line_at, self.problems.hint) = (None, None);
        let directory = app.directory.as_ref().and_then(|line| line.words.first());
        let base: PathBuf = lower::join(&self.prefix, directory.map_or(".", String::as_str));
        for (word, line) in words {
            let whole = word.text().into_owned();
            for text in whole.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                let found = match lower::address(text, &base, self.machine) {
                    Ok(Address::Fd(_)) => Err((
                        format!("`{text}`: an `app` is not given a socket that is open already"),
                        Some("write the address, as `unix:/run/shop.sock` or `127.0.0.1:8001`".to_owned()),
                    )),
                    Ok(Address::Tcp(address)) if address.port() == 0 => Err((
                        format!("`{text}`: nobody would know the port that the system chooses"),
                        Some("write one, as `127.0.0.1:8001`".to_owned()),
                    )),
                    Ok(_) if text.starts_with("https://") => Err((
                        format!("`{text}`: TLS is a server's affair"),
                        Some(format!(
                            "write `server {{ listen … ssl; location / {{ app_pass {}; }} }}`",
                            app.name
                        )),
                    )),
                    found => found,
                };
                match found {
                    Ok(address) if app.binds.iter().any(|bind| bind.address == address) => {
                        self.error(word.span, format!("bind: `{text}` is listed twice"));
                    }
                    Ok(address) => {
                        app.binds.push(AppBind { address, text: text.to_owned(), span: word.span });
                        // gunicorn's hooks find it in `cfg`.
                        app.values.push(AppSetting {
                            name: "bind",
                            words: vec![text.to_owned()],
                            place: Place::in_sources(self.sources, *line),
                            span: *line,
                        });
                    }
                    Err((message, help)) => {
                        self.error(word.span, format!("bind: {message}")).help = help;
                    }
                }
            }
        }
    }

    /// The servers of these addresses, once all others are known. Nothing of `http` holds there, as gunicorn knows
    /// nothing of it.
    pub(super) fn bound_servers(&mut self) {
        (self.problems.line_at, self.problems.hint) = (None, None);
        for index in 0..self.apps.len() {
            let (binds, at) = (self.apps[index].binds.clone(), self.apps[index].span);
            if binds.is_empty() {
                continue;
            }
            self.sockets.begin_server(at);
            for bind in binds {
                if let Err(other) = self.listen_alone(bind.address, BACKLOG, bind.span) {
                    let other = self.place(other);
                    self.error(bind.span, format!("bind: `{}` is listened at already", bind.text)).help(
                        format!(
                            "by what stands at {other}; an application is alone where it is asked itself"
                        ),
                    );
                }
            }
            self.end_of_server_names();
            // Fields with underscores are told apart by `header_map` and `forwarder_headers`.
            let level = Level {
                access_logs: Some(Rc::default()),
                max_body: Some(0),
                underscores: Some(true),
                ..Level::default()
            };
            let settled = self.settle(level, None);
            let all = Location {
                matcher: Matcher::Prefix { uri: b"/".to_vec(), without_regex: false },
                settings: settled.id,
                rewrite: Vec::new(),
                content: Content::Bound(index as u32),
                limit_except: None,
                locations: Locations::default(),
                auto_redirect: false,
            };
            self.servers.push(Server {
                name: self.sockets.name_of_server(),
                tls: None,
                head: super::settle::head_settings(&settled.level),
                settings: settled.id,
                rewrite: Vec::new(),
                locations: Locations { prefixes: vec![all], ..Locations::default() },
            });
        }
    }

    /// Says of which applications nothing here leads to.
    fn note_unreached(&mut self, reached: &[bool]) {
        for (index, _) in reached.iter().enumerate().filter(|(_, is_reached)| !**is_reached) {
            let app = &self.apps[index];
            if app.binds.iter().any(|bind| !matches!(bind.address, Address::Unix(_))) {
                continue;
            }
            let (at, name) = (app.span, app.name.clone());
            let sockets: Vec<String> = app.binds.iter().filter_map(|bind| unix(&bind.address)).collect();
            let servers = self.upstreams.iter().flat_map(|group| &group.servers);
            let asked = servers.flat_map(|server| &server.addresses).filter_map(|address| match address {
                UpstreamAddress::Unix(path) => Some(plain(path)),
                UpstreamAddress::Ip(_) => None,
            });
            let asked: Vec<String> = asked.collect();
            let near = sockets.iter().find_map(|own| nearest(own, asked.iter().map(String::as_str)));
            let help = match near {
                Some(near) => format!("did you mean its socket by `{near}`?"),
                None => format!("write `app_pass {name};` in a `location`"),
            };
            let what = format!("nothing in this file leads to the app `{name}`");
            self.note(at, what).help(help);
        }
    }

    /// Finds out which `proxy_pass` leads to an application, once everything is read, and says so.
    pub(super) fn lead_passes(&mut self) {
        let mut reached = vec![false; self.apps.len()];
        for server in &self.servers {
            note_apps(&server.locations, &mut reached);
        }
        for group in &self.upstreams {
            for address in group.servers.iter().flat_map(|server| &server.addresses) {
                if let Some(app) = self.app_at(address) {
                    reached[app as usize] = true;
                }
            }
        }
        self.note_unreached(&reached);
        if self.apps.iter().all(|app| app.binds.is_empty()) {
            return;
        }
        let mut uses = vec![Vec::new(); self.proxies.len()];
        for server in &self.servers {
            note_uses(&server.locations, &mut uses);
        }
        for (index, uses) in uses.iter().enumerate() {
            let pass = &self.proxies[index];
            if let (Family::Proxy, ProxyTarget::Variable(_)) = (pass.family, &pass.target) {
                let what =
                    "whom this asks is known with each request only: to an app it goes by the app's socket";
                self.note(self.passes_at[index], what);
                continue;
            }
            let Some((app, keeps)) = self.app_of(pass, uses) else {
                self.note_nearly_bound(index);
                continue;
            };
            let (at, name) = (self.passes_at[index], self.apps[app as usize].name.clone());
            match keeps {
                None => {
                    self.proxies[index].app = Some(app);
                    self.note(at, format!("requests go straight into the queue of the app `{name}`"));
                }
                Some(why) => {
                    self.note(at, format!("requests go to the app `{name}` by its socket: {why}"));
                }
            }
        }
    }

    /// The application that is asked there, and what would not be kept without the socket.
    fn app_of(&self, pass: &ProxyPass, uses: &[SettingsId]) -> Option<(u32, Option<String>)> {
        let ProxyTarget::Fixed { https: false, upstream, .. } = &pass.target else { return None };
        if pass.family != Family::Proxy {
            return None;
        }
        let group = self.upstreams.get(*upstream as usize)?;
        let addresses = group.servers.iter().flat_map(|server| &server.addresses);
        let app = addresses.clone().find_map(|address| self.app_at(address))?;
        let is_another = |address: &UpstreamAddress| self.app_at(address) != Some(app);
        let has_checks = self.health_checks.iter().any(|check| check.upstream == *upstream);
        let why = match &group.servers[..] {
            [one] if addresses.clone().any(is_another) => {
                Some(format!("`{}` has other addresses too", one.name))
            }
            [one] if one.max_conns > 0 => Some("`max_conns` counts connections".to_owned()),
            [one] if one.down || one.drain => Some("the server is not to be asked".to_owned()),
            [_] if group.sticky.is_some() => Some("the group is `sticky`".to_owned()),
            [_] if group.queue.is_some() => Some("the group has a `queue`".to_owned()),
            [_] if has_checks => Some("`health_check` looks at the socket".to_owned()),
            [_] => None,
            _ => Some(format!("the upstream `{}` has other servers too", group.name)),
        };
        let settings = uses.iter().filter_map(|id| {
            let id = self.shared.settings.get(*id as usize)?.passes[Family::Proxy as usize]?;
            self.shared.proxies.get(id as usize)
        });
        Some((app, why.or_else(|| settings.into_iter().find_map(needs_socket))))
    }

    /// Tells of a socket that is asked where nobody of this file listens, and an application does at one that is called
    /// nearly so.
    fn note_nearly_bound(&mut self, index: usize) {
        let pass = &self.proxies[index];
        let ProxyTarget::Fixed { upstream, .. } = &pass.target else { return };
        let Some(group) = self.upstreams.get(*upstream as usize) else { return };
        let addresses = group.servers.iter().flat_map(|server| &server.addresses);
        let asked = addresses.filter_map(|address| match address {
            UpstreamAddress::Unix(path) if !self.is_listened_at(&Address::Unix(path.clone())) => Some(path),
            _ => None,
        });
        let mut asked = asked.filter_map(|path| Some((path, self.nearly_bound(path)?)));
        let Some((path, (name, bound))) = asked.next() else { return };
        let text = format!(
            "`{}` is no address of an `app`, but nearly that of the app `{name}`: `{}`",
            path.display(),
            bound.display()
        );
        self.note(self.passes_at[index], text)
            .help("written alike in both places, requests go straight into the app's queue");
    }

    /// The application's name and the socket that is called nearly so: the same file in another directory, or a name that
    /// goes on.
    fn nearly_bound(&self, asked: &Path) -> Option<(&str, &Path)> {
        let is_near = |bound: &Path| {
            let (one, other) = (plain(asked), plain(bound));
            let goes_on = one.starts_with(&other) || other.starts_with(&one);
            asked.file_name() == bound.file_name() || (goes_on && one.len().abs_diff(other.len()) <= 4)
        };
        let binds = self.apps.iter().flat_map(|app| app.binds.iter().map(move |bind| (app, bind)));
        let mut sockets = binds.filter_map(|(app, bind)| match &bind.address {
            Address::Unix(path) => Some((app.name.as_str(), path.as_path())),
            _ => None,
        });
        sockets.find(|(_, path)| is_near(path))
    }

    /// The application that is asked at this address, if one is.
    fn app_at(&self, address: &UpstreamAddress) -> Option<u32> {
        let exact = match address {
            UpstreamAddress::Ip(address) => Address::Tcp(*address),
            UpstreamAddress::Unix(path) => Address::Unix(path.clone()),
        };
        let bound = |is_it: &dyn Fn(&Address) -> bool| {
            let app = self.apps.iter().position(|app| app.binds.iter().any(|bind| is_it(&bind.address)));
            app.map(|app| app as u32)
        };
        if self.is_listened_at(&exact) {
            return bound(&|address| *address == exact);
        }
        // Who listens at all addresses does so at the loopback's.
        let UpstreamAddress::Ip(asked) = address else { return None };
        bound(&|address| {
            matches!(address, Address::Tcp(own) if own.ip().is_unspecified()
                && own.port() == asked.port()
                && own.is_ipv4() == asked.is_ipv4()
                && asked.ip().is_loopback())
        })
    }
}

/// A path without what makes no other of it.
fn plain(path: &Path) -> String {
    path.components().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// The path of a socket.
fn unix(address: &Address) -> Option<String> {
    match address {
        Address::Unix(path) => Some(plain(path)),
        _ => None,
    }
}

/// Which applications `app_pass` leads to.
fn note_apps(locations: &Locations, reached: &mut [bool]) {
    let Locations { prefixes, regexes, named } = locations;
    for location in prefixes.iter().chain(regexes).chain(named) {
        let limit = location.limit_except.iter().filter_map(|limit| limit.content.as_ref());
        let branches = location.rewrite.iter().filter_map(|op| match op {
            Op::If(branch) => branch.content.as_ref(),
            _ => None,
        });
        for content in std::iter::once(&location.content).chain(limit).chain(branches) {
            if let Content::App(index) = content
                && let Some(is_reached) = reached.get_mut(*index as usize)
            {
                *is_reached = true;
            }
        }
        note_apps(&location.locations, reached);
    }
}

/// Under which settings each `proxy_pass` is used.
fn note_uses(locations: &Locations, uses: &mut [Vec<SettingsId>]) {
    let Locations { prefixes, regexes, named } = locations;
    for location in prefixes.iter().chain(regexes).chain(named) {
        note_use(&location.content, location.settings, uses);
        if let Some(limit) = &location.limit_except {
            note_use(limit.content.as_ref().unwrap_or(&location.content), limit.settings, uses);
        }
        for op in &location.rewrite {
            if let Op::If(branch) = op {
                note_use(branch.content.as_ref().unwrap_or(&location.content), branch.settings, uses);
            }
        }
        note_uses(&location.locations, uses);
    }
}

fn note_use(content: &Content, settings: SettingsId, uses: &mut [Vec<SettingsId>]) {
    if let Content::Proxy(index) = content
        && let Some(uses) = uses.get_mut(*index as usize)
    {
        uses.push(settings);
    }
}

/// What of these settings means something only on a connection.
fn needs_socket(settings: &ProxySettings) -> Option<String> {
    if settings.version == ServerVersion::Http2 {
        return Some("`proxy_http_version 2`".to_owned());
    }
    if settings.bind.is_some() {
        return Some("`proxy_bind`".to_owned());
    }
    if settings.limit_rate.is_some() {
        return Some("`proxy_limit_rate`".to_owned());
    }
    // Without the field there is no body; with another value there may be more or less of it than it says.
    let frames = |(name, value): &&(Vec<u8>, Value)| {
        let is_framing =
            [&b"content-length"[..], b"transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
        is_framing && value.as_text().is_none_or(|text| !text.is_empty())
    };
    let (name, _) = settings.set_headers.iter().find(frames)?;
    Some(format!("`proxy_set_header {}`", String::from_utf8_lossy(name)))
}
