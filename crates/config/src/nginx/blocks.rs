//! The blocks that hold others: main, `events`, `http`, `server`, `location`, `if`, `limit_except`.

use conf_syntax::Directive;

use super::level::Level;
use super::location::Current;
use super::reader::{Later, Reader};
use super::settle::{Settled, head_settings};
use super::table::{Apply, Context, Count, Row};
use crate::model::http::{Content, If, LimitExcept, Location, Locations, Matcher, Op, Server};

const NO_WORDS: Count = Count::exactly(0);

pub(super) const ROWS: &[Row] = &[
    Row::new("events", Context::MAIN, NO_WORDS, Apply::Later, "", "How connections are taken.").block(),
    Row::new("http", Context::MAIN, NO_WORDS, Apply::Later, "", "All that HTTP needs.").block(),
    Row::new("server", Context::HTTP, NO_WORDS, Apply::Later, "", "A server, found by address and name.")
        .block()
        .repeats(),
    Row::new(
        "location",
        Context::SERVER.or(Context::LOCATION),
        Count::between(1, 2),
        Apply::Later,
        "",
        "What holds for some paths: `= /exact`, `/prefix`, `^~ /prefix`, `~ regex`, `~* regex`, `@name`.",
    )
    .block()
    .repeats(),
    Row::new(
        "limit_except",
        Context::LOCATION,
        Count::at_least(1),
        Apply::Later,
        "",
        "What holds for all methods but these.",
    )
    .block(),
    Row::one(
        "include",
        Context::ANY,
        Apply::Custom(|_, _, _| {}),
        "",
        "Reads a file, or all that a pattern names, in this place.",
    )
    .repeats(),
];

impl<'a> Reader<'a> {
    /// The whole configuration.
    pub(super) fn main(&mut self, directives: impl Iterator<Item = Directive<'a>> + Clone) {
        let mut level = Level::default();
        self.http =
            directives.clone().find(|d| d.name.value == b"http" && d.block.is_some()).map(|d| d.name.span);
        let later = self.block(directives, Context::MAIN, &mut level);
        let mut has_events = false;
        for (row, directive) in later {
            let Some(block) = directive.block else { continue };
            if row.name == "events" {
                has_events = true;
                self.block(block.directives.iter(), Context::EVENTS, &mut level);
            } else {
                self.http(directive);
            }
        }
        // After an error of syntax it may be among what could not be made out.
        if !has_events && !self.problems.has_errors() {
            let message = "no \"events\" section in configuration";
            self.problems
                .push(crate::report::Severity::Error, None, message)
                .help("nginx wants one, even if it is empty: `events {}`");
        }
    }

    fn http(&mut self, directive: Directive<'a>) {
        let Some(block) = directive.block else { return };
        let mut level = Level::default();
        let later = self.block(block.directives.iter(), Context::HTTP, &mut level);
        self.settle_groups(&level);
        let http = self.settle(level, None);
        for (_, server) in later {
            self.server(server, &http);
        }
        self.bound_servers();
    }

    fn server(&mut self, directive: Directive<'a>, http: &Settled) {
        let Some(block) = directive.block else { return };
        self.sockets.begin_server(directive.name.span);
        let mut level = Level::default();
        let later = self.block(block.directives.iter(), Context::SERVER, &mut level);
        self.end_of_server_names();
        let content = level.content.take();
        let server = self.settle(level, Some(http));
        let acme = self.acme_order();
        let on_demand = self.acme_on_demand_index();
        let tls = self.offer(&server.level, acme, on_demand);
        let mut inner = self.inner(later, &server, Context::SERVER);
        if let Some(content) = content {
            answer_outside_of_locations(&mut inner.locations, content, &server);
        }
        self.servers.push(Server {
            name: self.sockets.name_of_server(),
            tls,
            head: head_settings(&server.level),
            settings: server.id,
            rewrite: inner.rewrite,
            locations: inner.locations,
        });
    }

    /// The second pass over a server or location.
    fn inner(&mut self, later: Vec<Later<'a>>, settled: &Settled, context: Context) -> Inner {
        let mut inner = Inner::default();
        let mut seen = super::location::Seen::default();
        for (row, directive) in later {
            self.context = context;
            self.begin(&directive);
            match row.name {
                "location" => self.location(directive, settled, &mut inner.locations, &mut seen),
                "limit_except" => inner.limit_except = self.limit_except(directive, settled),
                "if" => {
                    if let Some(op) = self.if_block(directive, settled, context) {
                        inner.rewrite.push(op);
                    }
                }
                _ => inner.rewrite.extend(self.rewrite_op(row, directive)),
            }
        }
        inner
    }

    fn location(
        &mut self,
        directive: Directive<'a>,
        parent: &Settled,
        into: &mut Locations,
        seen: &mut super::location::Seen,
    ) {
        let Some(block) = directive.block else { return };
        let Some(current) = self.location_head(directive) else { return };
        self.check_nesting(&current);
        self.check_twice(&current, seen);
        let outer = self.location.replace(current);
        let mut level = Level::default();
        let later = self.block(block.directives.iter(), Context::LOCATION, &mut level);
        let content = level.content.take();
        if let Some(Content::App(_)) = content {
            self.note_beside_app(block.directives);
        }
        let checks = std::mem::take(&mut self.checks);
        let settled = self.settle(level, Some(parent));
        if let Some(Content::App(_)) = content {
            self.warn_of_unset_fields(block.directives, &settled.level);
        }
        self.place_checks(checks, content.as_ref().unwrap_or(&Content::Files), settled.id);
        let inner = self.inner(later, &settled, Context::LOCATION);
        let current = std::mem::replace(&mut self.location, outer);
        let Some(Current { matcher, name, .. }) = current else { return };
        let content = content.unwrap_or_default();
        self.check_purge(&settled.level, &content, inner.limit_except.is_some());
        let location = Location {
            settings: settled.id,
            rewrite: inner.rewrite,
            auto_redirect: matches!(content, Content::App(_) | Content::Proxy(_)) && name.ends_with(b"/"),
            content,
            limit_except: inner.limit_except.map(Box::new),
            locations: inner.locations,
            matcher,
        };
        match location.matcher {
            Matcher::Exact(_) | Matcher::Prefix { .. } => into.prefixes.push(location),
            Matcher::Regex(_) => into.regexes.push(location),
            Matcher::Named(_) => into.named.push(location),
        }
    }

    fn limit_except(&mut self, directive: Directive<'a>, parent: &Settled) -> Option<LimitExcept> {
        const METHODS: [&str; 14] = [
            "GET",
            "HEAD",
            "POST",
            "PUT",
            "DELETE",
            "MKCOL",
            "COPY",
            "MOVE",
            "OPTIONS",
            "PROPFIND",
            "PROPPATCH",
            "LOCK",
            "UNLOCK",
            "PATCH",
        ];
        let mut methods = Vec::new();
        for word in directive.args {
            let name = word.text().to_ascii_uppercase();
            if METHODS.contains(&name.as_str()) {
                methods.push(name);
            } else {
                let text = word.text().into_owned();
                self.error(word.span, format!("invalid method \"{text}\""))
                    .help(format!("it is one of {}", super::reader::list(&METHODS, "and")));
            }
        }
        let mut level = Level::default();
        self.block(directive.block?.directives.iter(), Context::LIMIT_EXCEPT, &mut level);
        let content = level.content.take();
        Some(LimitExcept { methods, settings: self.settle(level, Some(parent)).id, content })
    }

    fn if_block(&mut self, directive: Directive<'a>, parent: &Settled, around: Context) -> Option<Op> {
        let condition = self.condition(directive);
        let context = if around == Context::SERVER { Context::SERVER_IF } else { Context::LOCATION_IF };
        let mut level = Level::default();
        let later = self.block(directive.block?.directives.iter(), context, &mut level);
        let content = level.content.take();
        // In a server an `if` only rewrites: the settings stay those of the server.
        let settings = match around {
            Context::SERVER => parent.id,
            _ => self.settle(level, Some(parent)).id,
        };
        let ops = later.into_iter().filter_map(|(row, inner)| {
            self.begin(&inner);
            self.rewrite_op(row, inner)
        });
        let ops = ops.collect();
        Some(Op::If(Box::new(If { condition: condition?, settings, content, ops })))
    }

    pub(super) fn settle(&mut self, mut level: Level, parent: Option<&Settled>) -> Settled {
        self.complete_referers(&mut level);
        self.check_secure_link(&level);
        self.settle_identities(&mut level, parent.map(|parent| &*parent.level));
        self.check_trusted(&level, parent.map(|parent| &*parent.level));
        if let Some(parent) = parent {
            super::headers::inherit_fields(&mut level, &parent.level);
        }
        self.shared.settle(level, parent)
    }
}

/// What the second pass finds.
#[derive(Default)]
struct Inner {
    rewrite: Vec<Op>,
    locations: Locations,
    limit_except: Option<LimitExcept>,
}

/// A handler of the server itself (`stub_status`) answers what no location takes: the same as a last `location /`.
fn answer_outside_of_locations(locations: &mut Locations, content: Content, server: &Settled) {
    let is_root = |l: &Location| matches!(&l.matcher, Matcher::Prefix { uri, .. } if uri == b"/");
    if locations.prefixes.iter().any(is_root) {
        return;
    }
    locations.prefixes.push(Location {
        matcher: Matcher::Prefix { uri: b"/".to_vec(), without_regex: false },
        settings: server.id,
        rewrite: Vec::new(),
        content,
        limit_except: None,
        locations: Locations::default(),
        auto_redirect: false,
    });
}
