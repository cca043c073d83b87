//! Reads blocks: looks each directive up in the table, checks its place, its words and that it stands once, and
//! lets its row do what it does.
//!
//! The order of directives in a block means nothing to nginx, except among the steps of rewriting. So a block is
//! read in two passes: first all that says what holds in it, then, with that settled, the blocks within it and
//! the rewrite directives, in order.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use conf_syntax::{Directive, Lookalike, Quoting, Sources, Span, Word, lookalike};

use super::app::AppBlock;
use super::level::Level;
use super::listen::Sockets;
use super::problem::{Problem, Problems};
use super::process::MainSettings;
use super::settle::Shared;
use super::table::{Apply, Argument, Context, Row, TABLE};
use super::units;
use super::variables::Variables;
use crate::gunicorn::app_block;
use crate::gunicorn::nearest::nearest;
use crate::model::http::{
    CharsetMap, HealthCheck, HealthMatch, Identity, LogFormat, ProxyPass, Server, Upstream, Zone,
};
use crate::model::tls::CertificateFiles;
use crate::report::Severity;

/// What is gathered while a configuration is read.
pub(super) struct Reader<'a> {
    pub sources: &'a Sources,
    pub machine: &'a dyn crate::host::Host,
    pub vault: &'a dyn crate::model::tls::Vault,
    pub offers: super::tls::Offers,
    pub acme: super::acme::Acme,
    /// Who we are to other servers, by files; `None`: it has been told what is wrong with them.
    pub identities: HashMap<CertificateFiles, Option<Identity>>,
    /// Where it is said that servers are verified, and nobody is trusted to have signed their certificates.
    pub unverifiable: HashSet<Span>,
    /// Relative paths start here, those of `include` and `auth_basic_user_file` beside the main file.
    pub prefix: PathBuf,
    pub conf_prefix: PathBuf,
    pub problems: Problems,
    pub shared: Shared,
    pub variables: Variables,
    pub main: MainSettings,
    pub servers: Vec<Server>,
    pub sockets: Sockets,
    pub log_formats: Vec<LogFormat>,
    /// How each buffered log file is buffered: all that name it must agree.
    pub log_buffers: HashMap<Vec<u8>, (u64, Option<std::time::Duration>, Option<u32>)>,
    pub zones: Vec<Zone>,
    pub charset_maps: Vec<CharsetMap>,
    pub upstreams: Vec<Upstream>,
    /// Names of groups that stand where none may: who names one has no other error for it.
    pub misplaced_groups: Vec<Vec<u8>>,
    /// The group that is being read.
    pub upstream: Option<super::upstream::Group>,
    pub proxies: Vec<ProxyPass>,
    /// Where each of them stands.
    pub passes_at: Vec<Span>,
    /// Groups whose servers' names are asked for while serving: the first such, the group, its `resolver_timeout`.
    pub resolving: Vec<(Span, usize, Option<std::time::Duration>)>,
    /// Where each `zone` of groups stands first, and whether it has a size anywhere.
    pub upstream_zones: HashMap<String, (Span, bool)>,
    /// The names of `thread_pool` so far.
    pub thread_pools: Vec<Vec<u8>>,
    /// Those that `aio` names, and where.
    pub pools_used: Vec<(Span, Vec<u8>)>,
    /// `health_check`s of the location that is being read.
    pub checks: Vec<super::health::Check<'a>>,
    pub health_checks: Vec<HealthCheck>,
    pub matches: Vec<HealthMatch>,
    pub caches: super::cache::CacheZones,
    /// Of whose `…_cache_purge` it has been told that anybody may use it.
    pub open_purges: Vec<Span>,
    pub zone_uses: HashMap<String, super::limits::ZoneUse>,
    pub apps: Vec<AppBlock>,
    pub patterns: HashMap<Vec<u8>, Option<Vec<String>>>,
    /// Where the block is that is being read.
    pub context: Context,
    /// The name of the first `http` block.
    pub http: Option<Span>,
    /// The location that is being read, for `alias` and what must lie within it.
    pub location: Option<super::location::Current>,
}

/// A directive that is read in the second pass.
pub(super) type Later<'a> = (&'static Row, Directive<'a>);

impl<'a> Reader<'a> {
    /// The first pass: fills `level` and returns what is left for the second.
    pub(super) fn block(
        &mut self,
        directives: impl Iterator<Item = Directive<'a>>,
        context: Context,
        level: &mut Level,
    ) -> Vec<Later<'a>> {
        let mut later = Vec::new();
        let mut seen: Vec<(usize, Span)> = Vec::new();
        for directive in directives {
            self.context = context;
            let goes_over = self.begin(&directive);
            let Some(index) = self.check(&directive, context) else { continue };
            let row = &TABLE.rows[index];
            if !row.repeats {
                if let Some((_, first)) = seen.iter().find(|(i, _)| *i == index) {
                    let first = self.place(*first);
                    self.error(directive.name.span, format!("\"{}\" directive is duplicate", row.name))
                        .help(format!("it stands first at {first}; remove one of them"));
                    continue;
                }
                seen.push((index, directive.name.span));
            }
            if goes_over {
                let message = format!("\"{}\" directive goes over the next one", row.name);
                self.warning(directive.head(), message);
            }
            self.warn_of_lookalike(&directive);
            if matches!(row.apply, Apply::Later) {
                later.push((row, directive));
            } else {
                self.apply(row, level, directive);
            }
        }
        later
    }

    /// From here on it is this directive that problems are about. Returns whether it goes over the next one.
    pub(super) fn begin(&mut self, directive: &Directive<'a>) -> bool {
        self.problems.line_at = Some(line_at(directive));
        let swallowed = self.missing_semicolon(directive);
        let goes_over = swallowed.is_some();
        let odd = self.lookalike(directive);
        self.problems.hint = swallowed.or(odd.map(|(_, odd)| odd.help()));
        self.problems.has_one_cause = goes_over;
        goes_over
    }

    /// The first word with a quote or a blank in it that only looks like one.
    fn lookalike(&self, directive: &Directive<'a>) -> Option<(Word<'a>, Lookalike)> {
        if self.sources.bytes(directive.head()).is_ascii() {
            return None;
        }
        let plain =
            std::iter::once(directive.name).chain(directive.args).filter(|w| w.quoted == Quoting::None);
        let mut odd = plain.filter_map(|word| Some((word, lookalike(word.value)?)));
        odd.next()
    }

    /// To nginx it is a letter, so that what is right otherwise has no more than a warning.
    fn warn_of_lookalike(&mut self, directive: &Directive<'a>) {
        let Some((word, odd)) = self.lookalike(directive) else { return };
        if odd.is_mistaken(word.value) {
            let message = format!("\"{}\" is taken as it stands, with its {}", word.text(), odd.name);
            self.warning(word.span, message);
        }
    }

    /// A word that begins a line and is a directive's name was most likely meant as one.
    fn missing_semicolon(&self, directive: &Directive<'a>) -> Option<String> {
        let text = self.sources.text(directive.span.file);
        let mut end = directive.name.span.end;
        directive.args.iter().find_map(|word| {
            let gap = &text[end as usize..word.span.start as usize];
            end = word.span.end;
            let is_name =
                gap.contains(&b'\n') && word.quoted == Quoting::None && !TABLE.find(word.value).is_empty();
            is_name.then(|| format!("is a `;` missing before `{}`?", word.text()))
        })
    }

    /// The row of a directive that stands where it may, with as many words as it takes.
    fn check(&mut self, directive: &Directive<'a>, context: Context) -> Option<usize> {
        let (name, rows) = (directive.name, TABLE.find(directive.name.value));
        if rows.is_empty() {
            self.unknown_directive(name, context);
            return None;
        }
        let Some(index) = rows.iter().copied().find(|i| TABLE.rows[*i].contexts.contains(context)) else {
            if name.value == b"upstream" {
                self.misplaced_groups.extend(directive.args.first().map(|group| group.value.to_vec()));
            }
            self.misplaced(name, rows, context);
            return None;
        };
        let row = &TABLE.rows[index];
        let is_off = directive.args.array().is_some_and(|[word]| word.value == b"off");
        if let Apply::NotYet(what) | Apply::OnlyOff(what) = row.apply
            && !(is_off && matches!(row.apply, Apply::OnlyOff(_)))
        {
            let message = format!("`{}` is not there yet ({what})", row.name);
            self.error(directive.name.span, message);
            return None;
        }
        if row.block != directive.block.is_some() {
            if row.block {
                let help = if row.name == "if" {
                    "what it does stands in braces behind the condition: `if (…) { return 403; }`".to_owned()
                } else {
                    format!("what belongs to it stands in braces: `{} … {{ … }}`", row.name)
                };
                self.error(directive.head(), format!("directive \"{}\" has no opening \"{{\"", row.name))
                    .help(help);
            } else {
                self.error(
                    directive.head(),
                    format!("directive \"{}\" is not terminated by \";\"", row.name),
                )
                .help("it takes no block");
            }
            return None;
        }
        if !row.count.allows(directive.args.len()) {
            let message = format!("invalid number of arguments in \"{}\" directive", row.name);
            let swallowed = directive.args.iter().skip(1).find(|word| {
                word.quoted == Quoting::None
                    && word.value.contains(&b'_')
                    && !TABLE.find(word.value).is_empty()
            });
            let help = match swallowed {
                Some(word) => format!("is a `;` missing before `{}`?", word.text()),
                None => takes(row),
            };
            self.error(directive.head(), message).help(help);
            return None;
        }
        Some(index)
    }

    fn unknown_directive(&mut self, name: Word<'a>, context: Context) {
        let text = name.text().into_owned();
        if let Some(advice) = super::foreign::advice(&text) {
            self.error(name.span, format!("unknown directive \"{text}\"")).help(advice);
            return;
        }
        if let Some(help) = app_block::of_an_app(&text) {
            self.error(name.span, format!("unknown directive \"{text}\"")).help(help);
            return;
        }
        let near = if self.problems.has_enough() {
            None
        } else {
            let here = TABLE.rows.iter().filter(|r| r.contexts.contains(context)).map(|r| r.name);
            let all = || TABLE.rows.iter().map(|r| r.name);
            nearest(&text, here).or_else(|| nearest(&text, all())).or_else(|| whole_of(&text, all()))
        };
        let problem = self.error(name.span, format!("unknown directive \"{text}\""));
        if let Some(near) = near {
            problem.help(format!("did you mean `{near}`?"));
        }
    }

    fn misplaced(&mut self, name: Word<'a>, rows: &[usize], context: Context) {
        let allowed = rows.iter().map(|i| TABLE.rows[*i].contexts).reduce(Context::or);
        let names = allowed.map(Context::names).unwrap_or_default();
        let row = &TABLE.rows[rows[0]];
        let of_an_app = app_block::of_an_app(row.name);
        let message = match row.apply {
            Apply::NotYet(what) if of_an_app.is_none() => format!("`{}` is not there yet ({what})", row.name),
            _ => format!("\"{}\" directive is not allowed here", row.name),
        };
        let mut help = format!("it is allowed in {}", list(&names, "and"));
        let in_http = allowed.is_some_and(|contexts| contexts.contains(Context::HTTP));
        match self.http {
            _ if context != Context::MAIN => {}
            Some(http) if in_http => {
                let what = if http.file == name.span.file { "this" } else { "the `include` of this file" };
                help = format!("move {what} into the `http` block at {}", self.place(http));
            }
            // The file is a piece that is meant to be included, as those in `sites-enabled`.
            None if matches!(row.name, "server" | "upstream" | "map" | "app") => {
                help = String::from(
                    "write `events {}` and `http { … }` around what is in this file, or name the file that includes it",
                );
            }
            None if row.name == "location" => {
                help.push_str("; around that `http { … }`, and before it `events {}`");
            }
            _ => {}
        }
        self.error(name.span, message).help(of_an_app.unwrap_or(help));
    }

    fn apply(&mut self, row: &'static Row, level: &mut Level, directive: Directive<'a>) {
        let word = directive.args.first();
        match row.apply {
            Apply::Flag(slot) => *slot(level) = word.and_then(|w| self.flag(w, row.name)),
            Apply::Size(slot) => *slot(level) = word.and_then(|w| self.size(w, row.name)),
            Apply::Offset(slot) => *slot(level) = word.and_then(|w| self.offset(w, row.name)),
            Apply::Seconds(slot) => *slot(level) = word.and_then(|w| self.seconds(w, row.name)),
            Apply::Millis(slot) => *slot(level) = word.and_then(|w| self.millis(w, row.name)),
            Apply::Number(slot) => *slot(level) = word.and_then(|w| self.number(w, row.name)),
            Apply::Text(slot) => *slot(level) = word.map(|w| w.value.to_vec()),
            Apply::Value(slot) => *slot(level) = word.map(|w| self.value(w)),
            Apply::Custom(custom) => custom(self, level, directive),
            Apply::Quiet(argument, why) => self.quiet(row, argument, directive, why),
            Apply::Checked(check, _) => check(self, directive),
            // They were dealt with.
            Apply::Later | Apply::NotYet(_) | Apply::OnlyOff(_) => {}
        }
    }

    /// A directive that changes nothing still has to be right.
    fn quiet(&mut self, row: &Row, argument: Argument, directive: Directive<'a>, why: &str) {
        let mut words = directive.args.iter();
        let is_right = match (argument, words.next()) {
            (Argument::Any, _) | (_, None) => true,
            (Argument::Flag, Some(w)) => self.flag(w, row.name).is_some(),
            (Argument::Size, Some(w)) => self.size(w, row.name).is_some(),
            (Argument::Offset, Some(w)) => {
                matches!(w.value, b"off" | b"unlimited") || self.offset(w, row.name).is_some()
            }
            (Argument::Millis, Some(w)) => self.millis(w, row.name).is_some(),
            (Argument::Number, Some(w)) => self.number(w, row.name).is_some(),
            (Argument::Buffers, Some(w)) => self.buffers(w, words.next(), row.name),
            (Argument::Pool, Some(w)) => self.pool(w, row.name),
            (Argument::Power(least, most), Some(w)) => {
                let help = format!("it is a power of two from {least} to {most}");
                let is_one =
                    self.size(w, row.name).map(|n| n.is_power_of_two() && (least..=most).contains(&n));
                if is_one == Some(false) {
                    self.error(w.span, format!("\"{}\" directive invalid value", row.name)).help(help);
                }
                is_one == Some(true)
            }
            (Argument::Signed, Some(w)) => {
                let digits = w.value.strip_prefix(b"-").unwrap_or(w.value);
                let is_one = units::number(digits).is_some();
                if !is_one {
                    self.number(w, row.name);
                }
                is_one
            }
            (Argument::OneOf(allowed), Some(w)) => {
                let found = allowed.iter().any(|a| a.as_bytes() == w.value);
                if !found {
                    self.not_one_of(w, allowed);
                }
                found
            }
        };
        if is_right {
            self.note(directive.name.span, format!("`{}` changes nothing here: {why}", row.name));
        }
    }

    /// How many, and bytes of each: none of nothing.
    fn buffers(&mut self, count: Word<'a>, size: Option<Word<'a>>, name: &str) -> bool {
        for (word, is_count) in [(Some(count), true), (size, false)] {
            let Some(word) = word else { continue };
            let value = if is_count { units::number(word.value) } else { units::size(word.value) };
            if value.is_none_or(|value| value == 0) {
                self.error(word.span, format!("\"{name}\" directive invalid value"))
                    .help("write how many, and bytes of each, as `32 4k`");
                return false;
            }
        }
        true
    }

    /// nginx's pools hold at least their own heads.
    fn pool(&mut self, word: Word<'a>, name: &str) -> bool {
        let Some(size) = self.size(word, name) else { return false };
        let message = if size < 112 {
            "the pool size must be no less than 112"
        } else if size % 16 != 0 {
            "the pool size must be a multiple of 16"
        } else {
            return true;
        };
        self.error(word.span, message).help("for example `4k`; or remove it, as it changes nothing here");
        false
    }

    // Arguments.

    pub(super) fn flag(&mut self, word: Word<'a>, name: &str) -> Option<bool> {
        if word.value.eq_ignore_ascii_case(b"on") {
            return Some(true);
        }
        if word.value.eq_ignore_ascii_case(b"off") {
            return Some(false);
        }
        let text = word.text().into_owned();
        self.error(
            word.span,
            format!("invalid value \"{text}\" in \"{name}\" directive, it must be \"on\" or \"off\""),
        );
        None
    }

    pub(super) fn size(&mut self, word: Word<'a>, name: &str) -> Option<u64> {
        self.unit(word, name, units::size(word.value), "write bytes as `1024`, or as `8k` or `1m`")
    }

    pub(super) fn offset(&mut self, word: Word<'a>, name: &str) -> Option<u64> {
        self.unit(word, name, units::offset(word.value), "write bytes as `1024`, or as `8k`, `1m` or `2g`")
    }

    pub(super) fn seconds(&mut self, word: Word<'a>, name: &str) -> Option<std::time::Duration> {
        let help = "write seconds as `30`, or a unit as `30s`, `5m`, `1h30m`, `7d`";
        self.unit(word, name, units::seconds(word.value), help)
    }

    pub(super) fn millis(&mut self, word: Word<'a>, name: &str) -> Option<std::time::Duration> {
        let help = "write seconds as `30`, or a unit as `500ms`, `30s`, `5m`, `1h`";
        self.unit(word, name, units::millis(word.value), help)
    }

    pub(super) fn number(&mut self, word: Word<'a>, name: &str) -> Option<u64> {
        if let Some(n) = units::number(word.value) {
            return Some(n);
        }
        let message = if word.value.is_empty() || word.value.iter().any(|b| !b.is_ascii_digit()) {
            "invalid number"
        } else {
            "too large number"
        };
        let text = word.text().into_owned();
        self.error(word.span, format!("\"{name}\" directive {message}"))
            .help(format!("`{text}` must be a whole number, such as `16`"));
        None
    }

    fn unit<T>(&mut self, word: Word<'a>, name: &str, value: Option<T>, help: &str) -> Option<T> {
        if value.is_none() {
            self.error(word.span, format!("\"{name}\" directive invalid value")).help(help);
        }
        value
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        directive: Directive<'a>,
        allowed: &[(&'static str, T)],
    ) -> Option<T> {
        let word = directive.args.first()?;
        if let Some((_, value)) =
            allowed.iter().find(|(name, _)| word.value.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Some(*value);
        }
        let names: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
        self.not_one_of(word, &names);
        None
    }

    /// Says that a word is none of those allowed.
    pub(super) fn not_one_of(&mut self, word: Word<'a>, allowed: &[&str]) {
        let text = word.text();
        let quoted: Vec<_> = allowed.iter().map(|a| format!("`{a}`")).collect();
        let quoted: Vec<_> = quoted.iter().map(String::as_str).collect();
        let help = match nearest(&text, allowed.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? It is one of {}", list(&quoted, "and")),
            None => format!("write {}", list(&quoted, "or")),
        };
        self.error(word.span, format!("invalid value \"{text}\"")).help(help);
    }

    /// nginx's `invalid parameter "…"`.
    pub(super) fn invalid_parameter(&mut self, word: Word<'a>) -> &mut Problem {
        let text = word.text().into_owned();
        let advice = super::foreign::parameter(&text);
        let problem = self.error(word.span, format!("invalid parameter \"{text}\""));
        if let Some(advice) = advice {
            problem.advise(advice);
        }
        problem
    }

    // What to tell.

    pub(super) fn error(&mut self, at: Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Severity::Error, Some(at), message)
    }

    pub(super) fn warning(&mut self, at: Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Severity::Warning, Some(at), message)
    }

    pub(super) fn note(&mut self, at: Span, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Severity::Note, Some(at), message)
    }

    /// `file:line`.
    pub(super) fn place(&self, span: Span) -> String {
        format!("{}:{}", self.sources.path(span.file).display(), self.sources.line_column(span).line)
    }
}

/// Where nginx says that a directive is: at the end of its head.
pub(super) fn line_at(directive: &Directive<'_>) -> Span {
    let at = match directive.block {
        Some(block) => block.span.start,
        None => directive.span.end.saturating_sub(1).max(directive.span.start),
    };
    Span { file: directive.span.file, start: at, end: at }
}

/// The one name that begins with all of `text` and goes on with another word, as `client_max_body_size` with
/// `client_max_body`.
fn whole_of<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let is_longer = |name: &&str| name.strip_prefix(text).is_some_and(|rest| rest.starts_with('_'));
    let mut longer: Vec<&str> = names.filter(is_longer).collect();
    longer.sort_unstable();
    longer.dedup();
    match longer.as_slice() {
        [one] if text.len() > 3 => Some(one),
        _ => None,
    }
}

fn takes(row: &Row) -> String {
    let words = |n: usize| if n == 1 { "1 word".to_owned() } else { format!("{n} words") };
    let count = match (row.count.least, row.count.most) {
        (0, Some(0)) => "nothing".to_owned(),
        (least, Some(most)) if least == most => words(least),
        (least, Some(most)) if most == least + 1 => format!("{least} or {}", words(most)),
        (least, Some(most)) => format!("{least} to {}", words(most)),
        (least, None) => format!("{} or more", words(least)),
    };
    format!("it takes {count}")
}

/// `a, b and c`
pub(super) fn list(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
