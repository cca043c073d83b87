//! nginx's response filters, in nginx's order: conditions, headers, gunzip, sub_filter, charset, compression,
//! ranges.
//!
//! A [`NginxFilters`] is compiled once for the settings of one place in the configuration. What contains
//! variables is asked of the caller, at the moment at which nginx would look.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use config::model::http::{CharsetMap, IfModifiedSince, LogLevel, Regex, Settings, Value};
use exchange::{AcceptEncoding, Body, Method, Name, Request, Response};

mod charset;
mod compress;
mod gunzip;
mod headers;
mod not_modified;
mod pump;
mod range;
mod recode;
pub mod ssi;
mod sub;
#[cfg(test)]
mod tests;
mod trailers;
mod types;

use crate::forms::Forms;
use compress::Compression;
use headers::Headers;
use trailers::Trailers;

pub use charset::charset_of;
pub use trailers::AtEnd;
pub use types::Types;

/// What the filters ask of whoever knows the request's variables.
pub trait FilterContext {
    /// The text of a value that contains variables.
    fn value(&mut self, value: &Value, request: &Request, response: &Response) -> Vec<u8>;

    /// A field stands behind the body: from now on `$sent_trailer_…` knows it.
    fn trailer(&mut self, name: &[u8], value: &[u8]);

    /// Whether the values of these trailers will be read when the body has ended. If not they are read at once.
    fn at_end(&mut self, trailers: &Rc<AtEnd>) -> bool;

    /// Whether a pattern of `gzip_disable` matches the `User-Agent`.
    fn gzip_disabled(&mut self, patterns: &[Regex], user_agent: &[u8]) -> bool;

    /// A line for the error log.
    fn log(&mut self, level: LogLevel, text: fmt::Arguments<'_>);
}

/// What is true of this one response.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Seconds since 1970, and seconds that the local time is ahead of UTC. Few responses ask.
    pub clock: fn() -> (u64, i32),
    /// Ranges may be taken of the body (nginx's `allow_ranges`): it is a file's.
    pub ranges: bool,
    /// The request's conditions count (nginx's `disable_not_modified` is off). They do not where an application
    /// answers, which has weighed them itself and may have acted by now; nor when an error page is sent.
    pub conditions: bool,
}

/// What comes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Send,
    /// In its place the page for this status is sent: 412 or 416. The response has the fields that belong to
    /// it, and no body; the page has to pass the filters too.
    Refuse(u16),
}

/// What all filters of a thread have in common: files that were compressed once, and `charset_map`s.
#[derive(Clone, Debug)]
pub struct Shared {
    forms: Rc<RefCell<Forms>>,
    tables: Rc<recode::Tables>,
}

impl Shared {
    /// Nothing compressed yet, and the tables of these `charset_map`s; other character sets are named in `settings`.
    pub fn new(maps: &[CharsetMap], settings: &[Box<Settings>]) -> Self {
        let charsets = settings.iter().filter_map(|settings| settings.charset.as_ref());
        let names = charsets.flat_map(|charset| [&charset.charset, &charset.source]);
        let names = names.filter_map(|value| value.as_ref()?.as_text());
        Self { forms: crate::compress::forms(), tables: Rc::new(recode::Tables::new(maps, names)) }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

/// The filters of one place in the configuration, on one thread.
#[derive(Debug)]
pub struct NginxFilters {
    if_modified_since: IfModifiedSince,
    headers: Option<Headers>,
    gunzip: bool,
    sub: Option<sub::Substitution>,
    charset: charset::Label,
    compression: Compression,
    ranges: range::Ranges,
    trailers: Option<Trailers>,
}

impl NginxFilters {
    /// Compiles the filters of these settings.
    pub fn new(settings: &Settings) -> Self {
        Self::sharing(settings, &Shared::default())
    }

    /// Compiles the filters of these settings; they keep what is compressed together with others of the thread.
    pub fn sharing(settings: &Settings, shared: &Shared) -> Self {
        Self {
            if_modified_since: settings.if_modified_since,
            headers: Headers::of(settings.expires.clone(), &settings.add_headers),
            gunzip: settings.gunzip,
            sub: settings.sub_filters.as_ref().map(sub::Substitution::new),
            charset: charset::Label::new(settings.charset.as_ref(), &shared.tables),
            compression: Compression::new(&settings.compression, shared),
            ranges: range::Ranges::new(settings.max_ranges),
            trailers: Trailers::of(&settings.add_trailers),
        }
    }

    /// Which codings may be used for this request at all, before anything is known of the response: what
    /// `gzip_static` and its kin go by. Nothing is acceptable where `gzip_http_version`, `gzip_proxied` or
    /// `gzip_disable` forbid it.
    pub fn accepted(&self, request: &Request, context: &mut dyn FilterContext) -> AcceptEncoding {
        self.compression.accepted(request, &Response::new(200), 0, context)
    }

    /// Passes a response through all filters. The body of an answer to HEAD must be what GET would have had,
    /// or empty.
    pub fn apply(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        context: &mut dyn FilterContext,
    ) -> Verdict {
        match self.begin(request, response, how, context) {
            Ok(stage) => self.end(request, response, how, stage, context),
            Err(verdict) => verdict,
        }
    }

    /// The filters before whatever puts other texts into a body.
    ///
    /// # Errors
    /// There is another response in its place.
    pub fn begin(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        context: &mut dyn FilterContext,
    ) -> Result<Stage, Verdict> {
        let asked = Asked::of(request);
        // What has changed something must not be denied afterwards.
        let reads = matches!(request.method, Method::Get | Method::Head);
        if how.conditions && asked.conditions && reads && response.status == 200 {
            match not_modified::evaluate(request, response, self.if_modified_since) {
                not_modified::Decision::GoOn => {}
                not_modified::Decision::NotModified => not_modified::strip(response),
                not_modified::Decision::Failed => {
                    *response = Response { close: response.close, ..Response::new(412) };
                    return Err(Verdict::Refuse(412));
                }
            }
        }
        // A 416 is made of what was there before the fields of a success were added.
        let ranged = how.ranges && asked.range && response.status == 200;
        let before = ranged.then(|| response.fields.clone());
        if let Some(headers) = &self.headers {
            headers.apply(request, response, how, context);
        }
        let mut stage = Stage { ranged: asked.range, before, ..Stage::default() };
        self.transform(request, response, how, context, &mut stage);
        Ok(stage)
    }

    /// The filters behind it: compression, ranges, trailers.
    pub fn end(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        mut stage: Stage,
        context: &mut dyn FilterContext,
    ) -> Verdict {
        self.compress(request, response, how, context, &mut stage);
        let Stage { ranged, before, same, table, .. } = stage;
        if how.ranges && same && response.status == 200 {
            let kept = before.unwrap_or_default();
            let verdict = self.ranges.apply(request, response, ranged, kept);
            if verdict != Verdict::Send {
                return verdict;
            }
            if let Some(table) = &table {
                recode::run(table, request, response);
            }
        } else if how.ranges || !same || response.status == 304 {
            // Of all else it holds what another server, or the configuration, says of ranges.
            response.fields.remove(Name::AcceptRanges);
        }
        if let Some(trailers) = &self.trailers {
            trailers.apply(request, response, context);
        }
        Verdict::Send
    }

    /// The filters of an answer that becomes part of a response: what it is in is recoded into the response's set.
    pub fn apply_inner(
        &self,
        request: &Request,
        response: &mut Response,
        charset: Option<&[u8]>,
        context: &mut dyn FilterContext,
    ) {
        if self.gunzip && gunzip::is_gzip(&response.fields) {
            gunzip::run(request, response);
        }
        if let Some(sub) = &self.sub {
            sub.run(request, response, context);
        }
        if let Some(wanted) = charset
            && let Some(table) = self.charset.table(wanted, request, response, context)
        {
            recode::run(&table, request, response);
        }
    }

    /// The filters that change the text of a body.
    fn transform(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        context: &mut dyn FilterContext,
        stage: &mut Stage,
    ) {
        stage.same = true;
        let nothing = matches!(response.body, Body::Empty) && request.method != Method::Head;
        if self.gunzip && !nothing && gunzip::is_gzip(&response.fields) {
            stage.varies = true;
            let codings = self.compression.accepted(request, response, (how.clock)().0, context);
            stage.accepted = Some(codings);
            if codings.weight(exchange::Coding::Gzip) == 0 {
                gunzip::run(request, response);
                stage.same = false;
            }
        }
        if let Some(sub) = &self.sub
            && !nothing
        {
            stage.same &= !sub.run(request, response, context);
        }
        stage.table = self.charset.apply(request, response, context).filter(|_| !nothing);
        // Ranges of a file are taken first, and only what is sent is read.
        let is_later = how.ranges
            && stage.same
            && response.status == 200
            && matches!(response.body, Body::File(_))
            && !self.compression.takes(request, response);
        if let Some(table) = stage.table.take_if(|table| !(is_later && table.keeps_length())) {
            stage.same &= table.keeps_length();
            recode::run(&table, request, response);
        }
    }

    fn compress(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        context: &mut dyn FilterContext,
        stage: &mut Stage,
    ) {
        if self.compression.takes(request, response) {
            stage.varies = true;
            let codings = match stage.accepted {
                Some(codings) => codings,
                None => self.compression.accepted(request, response, (how.clock)().0, context),
            };
            stage.same &= !self.compression.run(request, response, codings);
        }
        if stage.varies && self.compression.vary {
            crate::compress::vary(&mut response.fields);
        }
    }
}

/// What the filters at the beginning tell those at the end.
#[derive(Debug, Default)]
pub struct Stage {
    /// The request asks for ranges.
    ranged: bool,
    /// The fields before any were added, for a 416.
    before: Option<exchange::Fields>,
    /// The body is still what it was, but for what the table has to do with what is taken of it.
    same: bool,
    table: Option<Rc<recode::Table>>,
    varies: bool,
    accepted: Option<AcceptEncoding>,
}

/// What the request's fields ask for, found in one pass.
#[derive(Clone, Copy, Default)]
struct Asked {
    conditions: bool,
    range: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let mut asked = Self::default();
        for (name, ..) in request.fields.iter() {
            match name {
                Name::IfMatch | Name::IfNoneMatch | Name::IfModifiedSince | Name::IfUnmodifiedSince => {
                    asked.conditions = true;
                }
                Name::Range => asked.range = true,
                _ => {}
            }
        }
        asked
    }
}

/// The text of a value; only what contains variables is asked for.
fn evaluated<'v>(
    value: &'v Value,
    request: &Request,
    response: &Response,
    context: &mut dyn FilterContext,
) -> Cow<'v, [u8]> {
    match value.as_text() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(context.value(value, request, response)),
    }
}

/// Makes the tag of what is no longer byte for byte the same a weak one. What is no tag goes.
pub fn weaken(response: &mut Response) {
    let weak = match response.fields.first(Name::ETag) {
        None => return,
        Some(etag) if etag.starts_with(b"W/") => return,
        Some(etag) if etag.starts_with(b"\"") => [b"W/", etag].concat(),
        Some(_) => Vec::new(),
    };
    if weak.is_empty() {
        response.fields.remove(Name::ETag);
    } else {
        response.fields.set(Name::ETag, &weak);
    }
}
