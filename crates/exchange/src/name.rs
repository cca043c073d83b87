//! Field names that the program itself looks at, as numbers.

/// A name of at most 24 bytes in lower case, eight bytes a word, with zeros behind it.
type Words = [u64; 3];

const fn lower_words(name: &[u8]) -> Words {
    let mut bytes = [0; 24];
    bytes.split_at_mut(name.len()).0.copy_from_slice(name);
    let (words, _) = bytes.as_chunks::<8>();
    [
        lower(u64::from_le_bytes(words[0])),
        lower(u64::from_le_bytes(words[1])),
        lower(u64::from_le_bytes(words[2])),
    ]
}

/// The ASCII capitals among eight bytes as small letters.
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    // The eighth bit of a byte says that it is at least `A`, and that it is behind `Z`.
    let from = low + (0x80 - b'A' as u64) * EACH;
    let past = low + (0x80 - b'Z' as u64 - 1) * EACH;
    let capitals = from & !past & !word & (0x80 * EACH);
    word | capitals >> 2
}

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
                // By length, each as its lower-case words: a candidate costs three comparisons of numbers.
                const ALL: &[(Name, Words)] = &[$((Name::$variant, lower_words($text.as_bytes()))),+];
                if name.len() > MAX_LENGTH {
                    return Self::Other;
                }
                let words = lower_words(name);
                let (start, end) = (BY_LENGTH[name.len()] as usize, BY_LENGTH[name.len() + 1] as usize);
                let found = ALL[start..end].iter().find(|(_, text)| *text == words);
                found.map_or(Self::Other, |(known, _)| *known)
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
            // Where there is none of a length, those of the next begin.
            let mut length = MAX_LENGTH + 1;
            while length > 0 {
                length -= 1;
                let is_there = (starts[length] as usize) < texts.len() && texts[starts[length] as usize].len() == length;
                if !is_there {
                    starts[length] = starts[length + 1];
                }
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
    fn capitals_and_nothing_else_become_small() {
        for byte in 0..=u8::MAX {
            let word = u64::from_le_bytes([b'A', byte, b'Z', byte, byte, 0xff, byte, b'z']);
            let lowered = super::lower(word).to_le_bytes();
            assert_eq!(lowered, word.to_le_bytes().map(|byte| byte.to_ascii_lowercase()), "{byte}");
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
