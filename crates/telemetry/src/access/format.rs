//! Gunicorn's `access_log_format`, compiled once.

/// Gunicorn's default `access_log_format`.
pub const DEFAULT_FORMAT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// A compiled `access_log_format`.
///
/// The language is Python's `%(name)s` with gunicorn's names, and a width (`%(s)5s`, `%(m)-7s`); `%%` is a
/// per cent sign.
///
/// | atom | meaning |
/// | --- | --- |
/// | `h` | client's address |
/// | `l` | `-` |
/// | `u` | user name of Basic authentication |
/// | `t` | local time, `[23/Nov/2026:09:43:00 +0000]` |
/// | `r` | request line |
/// | `s` | status |
/// | `m`, `U`, `q`, `H` | method, path without query, query, protocol |
/// | `b`, `B` | bytes of the response's body |
/// | `f`, `a` | Referer, User-Agent |
/// | `T`, `M`, `D`, `L` | duration in seconds, milliseconds, microseconds, decimal seconds |
/// | `p` | process that made the response, `<PID>` |
/// | `{name}i`, `{name}o` | field of the request, of the response |
/// | `{name}e` | a variable of the environ. The edge knows `REMOTE_ADDR`, `REMOTE_PORT`, `SERVER_NAME` (the local address), `SERVER_PORT`, `SERVER_PROTOCOL`, `REQUEST_METHOD`, `RAW_URI`, `PATH_INFO`, `QUERY_STRING`, `CONTENT_TYPE`, `CONTENT_LENGTH`, `HTTP_*`, `wsgi.url_scheme`; any other is what the application's environ has when the head of the response leaves, `-` where there is none |
/// | `queue` | decimal seconds that it waited for a worker, `-` without one (not in gunicorn) |
/// | `attempts` | how many workers were given the request (not in gunicorn) |
///
/// Of the variables that an application has put into its environ, workers send those that the format names.
#[derive(Clone, Debug)]
pub struct AccessFormat {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Literal(Box<[u8]>),
    Atom(Atom, Pad),
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pad {
    pub(super) width: u16,
    pub(super) left: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    Remote,
    Dash,
    User,
    Time,
    RequestLine,
    Status,
    Method,
    Path,
    Query,
    Protocol,
    Bytes,
    Seconds,
    Micros,
    Millis,
    Decimal,
    Pid,
    Queued,
    Attempts,
    RequestField(Box<[u8]>),
    ResponseField(Box<[u8]>),
    Environ(Variable),
    /// A variable of the application's, with a `:` before its name: the name of the field by which a worker tells it.
    Told(Box<[u8]>),
}

/// Variables of the environ that no other atom writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    RemotePort,
    ServerName,
    ServerPort,
    RawUri,
    UrlScheme,
}

/// What is wrong with a format, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access log format, character {}: {message}", .at + 1)]
pub struct FormatError {
    /// Index in bytes at which the offending text begins.
    pub at: usize,
    /// Its length in bytes.
    pub len: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl AccessFormat {
    /// Compiles a format; the first thing wrong with it is the error.
    pub fn compile(format: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = format;
        while let Some(found) = rest.find('%') {
            literal.extend_from_slice(&rest.as_bytes()[..found]);
            let at = format.len() - rest.len() + found;
            rest = &rest[found..];
            if let Some(after) = rest.strip_prefix("%%") {
                literal.push(b'%');
                rest = after;
                continue;
            }
            let (atom, pad, len) =
                conversion(rest).map_err(|(len, message)| FormatError { at, len, message })?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.push(Piece::Atom(atom, pad));
            rest = &rest[len..];
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        // A line end in the format would let one request be several lines.
        if let Some(at) = format.find(['\n', '\r']) {
            return Err(FormatError { at, len: 1, message: "a line end does not belong in it".to_owned() });
        }
        Ok(Self { pieces: pieces.into() })
    }

    /// Whether it has variables that only an application's environ has.
    pub fn is_told(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Atom(Atom::Told(_), _)))
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl Default for AccessFormat {
    /// [`DEFAULT_FORMAT`].
    fn default() -> Self {
        Self::compile(DEFAULT_FORMAT).unwrap_or(Self { pieces: Box::default() })
    }
}

/// Reads `%(name)-10s` at the start of `text`: the atom, its padding and the length read; else the length
/// of what is wrong, and why.
fn conversion(text: &str) -> Result<(Atom, Pad, usize), (usize, String)> {
    let Some(named) = text.strip_prefix("%(") else {
        let len = text.chars().take(2).map(char::len_utf8).sum();
        return Err((len, "a `%` begins an atom like `%(h)s`; write `%%` for a per cent sign".to_owned()));
    };
    let Some(close) = named.find(')') else {
        return Err((text.len(), "`%(` without its `)`".to_owned()));
    };
    let name = &named[..close];
    let after = &named[close + 1..];
    let flags = after.find(|c: char| !matches!(c, '-' | '0'..='9')).unwrap_or(after.len());
    let len = (2 + close + 1 + flags + 1).min(text.len());
    let (digits, left) = match after[..flags].strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (&after[..flags], false),
    };
    let width = match digits {
        "" => 0,
        digits => digits.parse::<u16>().ok().filter(|&width| width <= 999).ok_or_else(|| {
            (
                len,
                format!(
                    "`{}` is no width; up to 999 is, with a `-` before it to fill on the right",
                    &after[..flags]
                ),
            )
        })?,
    };
    let atom = atom(name).map_err(|message| (2 + close + 1, message))?;
    match after[flags..].chars().next() {
        Some('s') => {}
        Some('d' | 'i')
            if matches!(atom, Atom::Bytes | Atom::Seconds | Atom::Micros | Atom::Millis | Atom::Attempts) => {
        }
        Some(other) => return Err((len, format!("`%({name})` ends with `s`, not with `{other}`"))),
        None => return Err((len, format!("`%({name})` lacks the `s` after it"))),
    }
    Ok((atom, Pad { width, left }, len))
}

fn atom(name: &str) -> Result<Atom, String> {
    if let Some(inner) = name.strip_prefix('{') {
        let (inner, kind) =
            inner.split_once('}').ok_or_else(|| format!("`%({name})s`: `{{` without its `}}`"))?;
        let field = || inner.to_ascii_lowercase().into_bytes().into_boxed_slice();
        return match kind {
            _ if inner.is_empty() => Err(format!("`%({name})s` names nothing between `{{` and `}}`")),
            "i" => Ok(Atom::RequestField(field())),
            "o" => Ok(Atom::ResponseField(field())),
            "e" => Ok(environ(inner)),
            _ => Err(format!("`%({name})s` ends with `i` (request), `o` (response) or `e` (environ)")),
        };
    }
    Ok(match name {
        "h" => Atom::Remote,
        "l" => Atom::Dash,
        "u" => Atom::User,
        "t" => Atom::Time,
        "r" => Atom::RequestLine,
        "s" => Atom::Status,
        "m" => Atom::Method,
        "U" => Atom::Path,
        "q" => Atom::Query,
        "H" => Atom::Protocol,
        "b" | "B" => Atom::Bytes,
        "f" => Atom::RequestField((*b"referer").into()),
        "a" => Atom::RequestField((*b"user-agent").into()),
        "T" => Atom::Seconds,
        "D" => Atom::Micros,
        "M" => Atom::Millis,
        "L" => Atom::Decimal,
        "p" => Atom::Pid,
        "queue" => Atom::Queued,
        "attempts" => Atom::Attempts,
        _ => {
            return Err(format!(
                "there is no atom `%({name})s`; there are h l u t r s m U q H b B f a T D M L p, {{field}}i, \
                 {{field}}o, {{variable}}e, queue and attempts"
            ));
        }
    })
}

/// Gunicorn ignores the case of a variable.
fn environ(name: &str) -> Atom {
    let upper = name.to_ascii_uppercase();
    match upper.as_str() {
        "REMOTE_ADDR" => Atom::Remote,
        "REMOTE_PORT" => Atom::Environ(Variable::RemotePort),
        "SERVER_NAME" => Atom::Environ(Variable::ServerName),
        "SERVER_PORT" => Atom::Environ(Variable::ServerPort),
        "SERVER_PROTOCOL" => Atom::Protocol,
        "REQUEST_METHOD" => Atom::Method,
        "RAW_URI" => Atom::Environ(Variable::RawUri),
        "PATH_INFO" => Atom::Path,
        "QUERY_STRING" => Atom::Query,
        "WSGI.URL_SCHEME" => Atom::Environ(Variable::UrlScheme),
        "CONTENT_TYPE" => Atom::RequestField((*b"content-type").into()),
        "CONTENT_LENGTH" => Atom::RequestField((*b"content-length").into()),
        _ => match upper.strip_prefix("HTTP_").filter(|field| !field.is_empty()) {
            Some(field) => {
                Atom::RequestField(field.to_ascii_lowercase().replace('_', "-").into_bytes().into())
            }
            None => Atom::Told(format!(":{}", name.to_lowercase()).into_bytes().into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_bad_atom_and_its_place() {
        for (format, at, len, word) in [
            ("%(h)s %(x)s", 6, 4, "`%(x)s`"),
            ("a %", 2, 1, "%%"),
            ("a %h", 2, 2, "%(h)s"),
            ("%(h", 0, 3, "`)`"),
            ("%(h)", 0, 4, "lacks"),
            ("%(h)d", 0, 5, "`d`"),
            ("%(s)99999s", 0, 10, "width"),
            ("%(s)5-5s", 0, 8, "width"),
            ("%({x}z)s", 0, 7, "`i`"),
            ("%({}i)s", 0, 6, "nothing"),
            ("%({x)s", 0, 5, "`}`"),
            ("%(h)s\n", 5, 1, "line end"),
        ] {
            let error = AccessFormat::compile(format).expect_err(format);
            assert_eq!((error.at, error.len), (at, len), "{format}: {error}");
            assert!(error.to_string().contains(word), "{format}: {error}");
            assert!(format.is_char_boundary(error.at + error.len.min(format.len() - error.at)));
        }
    }

    #[test]
    fn the_default_compiles() {
        assert_eq!(AccessFormat::compile(DEFAULT_FORMAT).unwrap().pieces().len(), 18);
        assert_eq!(AccessFormat::default().pieces().len(), 18);
    }

    #[test]
    fn only_what_nobody_else_knows_is_told_by_applications() {
        for (format, is_told) in
            [("%({shop.user}e)s", true), ("%({PATH_INFO}e)s %({http_host}e)s %({x}o)s", false)]
        {
            assert_eq!(AccessFormat::compile(format).unwrap().is_told(), is_told, "{format}");
        }
    }
}
