//! `gzip`, `brotli` and `zstd`: nginx's conditions, one compressor.

use config::model::http::{self as model, Proxied, Regex};
use exchange::{AcceptEncoding, Coding, Fields, Name, Request, Response, Version, parse_http_date};

use super::{FilterContext, Shared, Types, weaken};
use crate::compress::{self, Compress, CompressOptions, Levels, Plan};

/// When and how responses are compressed.
#[derive(Debug)]
pub struct Compression {
    codings: Vec<Coding>,
    compress: Compress,
    types: Types,
    min_length: u64,
    http10: bool,
    proxied: Vec<Proxied>,
    disable: Vec<Regex>,
    /// `gzip_vary`
    pub vary: bool,
}

impl Compression {
    pub fn new(settings: &model::Compression, shared: &Shared) -> Self {
        let on = |coding: &Coding| match coding {
            Coding::Zstd => settings.zstd,
            Coding::Br => settings.brotli,
            Coding::Gzip => settings.gzip,
        };
        let codings: Vec<_> = Coding::ALL.into_iter().filter(on).collect();
        let levels =
            Levels { zstd: settings.zstd_level, br: settings.brotli_level, gzip: settings.gzip_level };
        // Its own choice of types is not asked: what is compressed is decided here.
        let options = CompressOptions { codings: codings.clone(), types: Vec::new(), min_length: 0, levels };
        Self {
            codings,
            compress: Compress::sharing(options, &shared.forms),
            types: Types::new(settings.types.as_ref()),
            min_length: settings.min_length,
            http10: settings.http10,
            proxied: settings.proxied.clone(),
            disable: settings.disable.clone(),
            vary: settings.vary,
        }
    }

    /// Whether some client would get this response compressed.
    pub fn takes(&self, request: &Request, response: &Response) -> bool {
        let fields = &response.fields;
        if self.codings.is_empty() || !matches!(response.status, 200 | 403 | 404) {
            return false;
        }
        let length = match &response.body {
            // What an application sends for HEAD; GET may have a body of any length.
            body if body.is_empty() && request.method == exchange::Method::Head => None,
            body => body.len(),
        };
        let length = length.or_else(|| compress::content_length(fields));
        length.is_none_or(|length| length >= self.min_length.max(1))
            && !fields.has(Name::ContentEncoding)
            && self.types.take(fields)
            && !compress::forbids(fields)
    }

    /// Which codings the client gets, by what the request says and, behind a proxy, the response.
    pub fn accepted(
        &self,
        request: &Request,
        response: &Response,
        now: u64,
        context: &mut dyn FilterContext,
    ) -> AcceptEncoding {
        let fields = &request.fields;
        if !fields.has(Name::AcceptEncoding)
            || (request.version == Version::Http10 && !self.http10)
            || (fields.named(b"Via").is_some() && !self.is_for_proxies(fields, &response.fields, now))
        {
            return AcceptEncoding::IDENTITY;
        }
        if !self.disable.is_empty()
            && let Some(user_agent) = fields.first(Name::UserAgent)
            && context.gzip_disabled(&self.disable, user_agent)
        {
            return AcceptEncoding::IDENTITY;
        }
        AcceptEncoding::of(fields)
    }

    /// `gzip_proxied`
    fn is_for_proxies(&self, asked: &Fields, fields: &Fields, now: u64) -> bool {
        let has = |wanted| self.proxied.contains(&wanted);
        if self.proxied.is_empty() || has(Proxied::Off) {
            return false;
        }
        if has(Proxied::Any) || (has(Proxied::Auth) && asked.has(Name::Authorization)) {
            return true;
        }
        if let Some(expires) = fields.first(Name::Expires) {
            let date = match fields.first(Name::Date) {
                Some(date) => parse_http_date(date),
                None => Some(now),
            };
            return has(Proxied::Expired)
                && matches!((parse_http_date(expires), date), (Some(expires), Some(date)) if expires < date);
        }
        if fields.has(Name::CacheControl) {
            let says = |directive: &[u8]| {
                fields.all(Name::CacheControl).any(|value| {
                    value.split(|&b| b == b',').any(|d| d.trim_ascii().eq_ignore_ascii_case(directive))
                })
            };
            return (has(Proxied::NoCache) && says(b"no-cache"))
                || (has(Proxied::NoStore) && says(b"no-store"))
                || (has(Proxied::Private) && says(b"private"));
        }
        !(has(Proxied::NoLastModified) && fields.has(Name::LastModified)
            || has(Proxied::NoEtag) && fields.has(Name::ETag))
    }

    /// Compresses a response that [`Compression::takes`] names; tells whether it did.
    pub fn run(&self, request: &Request, response: &mut Response, accepted: AcceptEncoding) -> bool {
        let Some(coding) = accepted.choose(self.codings.iter().copied()) else { return false };
        response.fields.push_known(Name::ContentEncoding, coding.as_str().as_bytes());
        self.compress.run(request, response, Plan(Some(coding)));
        if !response.fields.has(Name::ContentEncoding) {
            return false;
        }
        response.fields.remove(Name::AcceptRanges);
        weaken(response);
        true
    }
}
