//! Field names that the program itself looks at, as numbers.

macro_rules! names {
    ($($variant:ident = $text:literal),+ $(,)?) => {
        /// A field name that code looks up; every other name is [`Name::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = $text] $variant,)+
            /// A name that no code looks at; it keeps its own spelling.
            Other,
        }

        impl Name {
            /// The canonical spelling; empty for [`Name::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other => "",
                }
            }

            /// Finds the name, whatever its case.
            pub fn of(name: &[u8]) -> Self {
                const ALL: &[(Name, &str)] = &[$((Name::$variant, $text)),+];
                // Length and first letter leave at most a few candidates.
                let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return Self::Other };
                for &(known, text) in &ALL[BY_LENGTH[name.len().min(MAX_LENGTH + 1)] as usize..] {
                    if text.len() != name.len() {
                        break;
                    }
                    if text.as_bytes()[0].to_ascii_lowercase() == first && text.as_bytes().eq_ignore_ascii_case(name) {
                        return known;
                    }
                }
                Self::Other
            }
        }

        const MAX_LENGTH: usize = 24;
        /// Where in the table (which is sorted by length) the names of each length begin.
        const BY_LENGTH: [u8; MAX_LENGTH + 2] = {
            let texts: &[&str] = &[$($text),+];
            let mut starts = [texts.len() as u8; MAX_LENGTH + 2];
            let mut i = texts.len();
            while i > 0 {
                i -= 1;
                assert!(i + 1 == texts.len() || texts[i].len() <= texts[i + 1].len(), "names stand by length");
                starts[texts[i].len()] = i as u8;
            }
            starts
        };
    };
}

names! {
    Te = "TE",
    Age = "Age",
    Date = "Date",
    ETag = "ETag",
    Host = "Host",
    Link = "Link",
    Vary = "Vary",
    Allow = "Allow",
    Range = "Range",
    Accept = "Accept",
    Cookie = "Cookie",
    Expect = "Expect",
    Server = "Server",
    Expires = "Expires",
    Referer = "Referer",
    Trailer = "Trailer",
    Upgrade = "Upgrade",
    IfMatch = "If-Match",
    IfRange = "If-Range",
    Location = "Location",
    Forwarded = "Forwarded",
    XSendfile = "X-Sendfile",
    Connection = "Connection",
    KeepAlive = "Keep-Alive",
    SetCookie = "Set-Cookie",
    UserAgent = "User-Agent",
    RetryAfter = "Retry-After",
    XRequestId = "X-Request-ID",
    ContentType = "Content-Type",
    AcceptRanges = "Accept-Ranges",
    Authorization = "Authorization",
    CacheControl = "Cache-Control",
    ContentRange = "Content-Range",
    IfNoneMatch = "If-None-Match",
    LastModified = "Last-Modified",
    ContentLength = "Content-Length",
    XForwardedFor = "X-Forwarded-For",
    XForwardedSsl = "X-Forwarded-Ssl",
    AcceptEncoding = "Accept-Encoding",
    XAccelCharset = "X-Accel-Charset",
    XAccelExpires = "X-Accel-Expires",
    ContentEncoding = "Content-Encoding",
    XAccelRedirect = "X-Accel-Redirect",
    XForwardedHost = "X-Forwarded-Host",
    XForwardedPort = "X-Forwarded-Port",
    ProxyConnection = "Proxy-Connection",
    WwwAuthenticate = "WWW-Authenticate",
    XAccelBuffering = "X-Accel-Buffering",
    IfModifiedSince = "If-Modified-Since",
    TransferEncoding = "Transfer-Encoding",
    XForwardedProto = "X-Forwarded-Proto",
    XAccelLimitRate = "X-Accel-Limit-Rate",
    IfUnmodifiedSince = "If-Unmodified-Since",
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn finds_names_in_any_case() {
        assert_eq!(Name::of(b"hOsT"), Name::Host);
        assert_eq!(Name::of(b"TE"), Name::Te);
        assert_eq!(Name::of(b"if-unmodified-since"), Name::IfUnmodifiedSince);
        assert_eq!(Name::of(b"x-accel-buffering"), Name::XAccelBuffering);
        assert_eq!(Name::of(b"x-other"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(&[b'a'; 300]), Name::Other);
    }
}
