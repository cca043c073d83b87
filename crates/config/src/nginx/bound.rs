//! `bind` in an `app`: where the application itself is asked, as gunicorn would be.

use std::path::PathBuf;
use std::rc::Rc;

use conf_syntax::{Span, Word};

use super::app::{AppBlock, AppSetting};
use super::level::Level;
use super::reader::Reader;
use crate::gunicorn::lower;
use crate::model::Address;
use crate::model::http::{Content, Location, Locations, Matcher, Server};
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
}
