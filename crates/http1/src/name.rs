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
            #[inline]
            pub fn of(name: &[u8]) -> Self {
                const ALL: &[Name] = &[$(Name::$variant),+];
                let Some(slot) = slot(name) else { return Self::Other };
                let mut at = SLOTS[slot];
                while let Some(known) = ALL.get(at as usize) {
                    let text = TEXTS[at as usize].as_bytes();
                    // Nearly all that come are spelled so; and what is found this way is nearly always meant.
                    if name == text || name.eq_ignore_ascii_case(text) {
                        return *known;
                    }
                    at = NEXT[at as usize];
                }
                Self::Other
            }
        }

        const TEXTS: &[&str] = &[$($text),+];
    };
}

/// Where a name is looked for: by its length, its first byte and its last two. With these factors hardly any of the
/// names below share a place.
#[inline]
const fn slot(name: &[u8]) -> Option<usize> {
    let [first, .., before, last] = name else {
        // There is one name of two bytes.
        return if name.len() == 2 { Some(0) } else { None };
    };
    let (first, before, last) = (*first | 0x20, *before | 0x20, *last | 0x20);
    let sum = name.len() * 19 + first as usize * 109 + last as usize * 39 + before as usize * 62;
    Some(sum % SLOT_COUNT)
}

const SLOT_COUNT: usize = 256;
const NONE: u8 = u8::MAX;

/// The number of the name that is looked at first in each place, and for each name that of the next in the same place.
const PLACES: ([u8; SLOT_COUNT], [u8; TEXTS.len()]) = {
    let (mut slots, mut next) = ([NONE; SLOT_COUNT], [NONE; TEXTS.len()]);
    let mut i = TEXTS.len();
    while i > 0 {
        i -= 1;
        let Some(slot) = slot(TEXTS[i].as_bytes()) else { panic!("a name of one byte") };
        next[i] = slots[slot];
        slots[slot] = i as u8;
    }
    (slots, next)
};
static SLOTS: [u8; SLOT_COUNT] = PLACES.0;
static NEXT: [u8; TEXTS.len()] = PLACES.1;

impl Name {
    /// Whether the field concerns one connection only, so that nobody passes it on (RFC 9110 §7.6.1).
    /// Fields that Connection names are so as well: [`crate::RequestHead::connection_options`].
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Te
                | Self::Trailer
                | Self::KeepAlive
                | Self::ProxyConnection
        )
    }
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
    fn every_name_is_found() {
        for text in super::TEXTS {
            let name = Name::of(text.as_bytes());
            assert_eq!(name.as_str(), *text);
            assert_eq!(Name::of(text.to_ascii_lowercase().as_bytes()), name);
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(Name::of(&text.as_bytes()[1..]), Name::Other);
        }
    }

    #[test]
    fn finds_names_in_any_case() {
        assert_eq!(Name::of(b"hOsT"), Name::Host);
        assert_eq!(Name::of(b"TE"), Name::Te);
        assert_eq!(Name::of(b"if-unmodified-since"), Name::IfUnmodifiedSince);
        assert_eq!(Name::of(b"x-accel-buffering"), Name::XAccelBuffering);
        assert_eq!(Name::of(b"x-other"), Name::Other);
        assert_eq!(Name::of(b"HO\x13T"), Name::Other);
        assert_eq!(Name::of(b"hos\xf4"), Name::Other);
        assert_eq!(Name::of(b"h\x00st"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(&[b'a'; 300]), Name::Other);
    }
}
