//! Values: from the text of a flag or a variable, and from a settings file's JSON.

use std::time::Duration;

use serde_json::Value as Json;

use super::settings::Kind;

/// A checked value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A switch or flag.
    Bool(bool),
    /// A whole number: a count, bytes, permission bits.
    Int(u64),
    /// A time.
    Seconds(Duration),
    /// A text, path, word or owner.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// Names with values, in order.
    Pairs(Vec<(String, String)>),
}

/// Why something is not a value of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Follows "NAME: ".
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), help: None })
}

fn wrong_help<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), help: Some(help.into()) })
}

/// A year: longer is surely a mistake, and sums of such times cannot overflow.
const LONGEST: f64 = 366.0 * 86_400.0;

impl Value {
    /// The form of a flag's value, a variable or a table's default. A list has one element here.
    pub(crate) fn from_text(kind: Kind, text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        match kind {
            Kind::Path if text.is_empty() => wrong("a path is missing"),
            Kind::Path if text.contains('\0') => wrong("a path cannot contain a NUL byte"),
            Kind::Text | Kind::Owner | Kind::Path => Ok(Self::Text(text.to_owned())),
            Kind::Flag(_) => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => wrong_help(format!("`{text}` is neither true nor false"), "write True or False"),
            },
            Kind::Switch => match text.to_ascii_lowercase().as_str() {
                "on" | "true" => Ok(Self::Bool(true)),
                "off" | "false" => Ok(Self::Bool(false)),
                _ => wrong_help(format!("`{text}` is neither on nor off"), "write `on` or `off`"),
            },
            Kind::Int(least, most) => match number(text) {
                Some(n) => in_range(n, least, most),
                None => wrong(format!("`{text}` is not a whole number")),
            },
            Kind::Seconds(zero) => match seconds(text) {
                Some(s) => time(s, text, zero),
                None => wrong_help(
                    format!("`{text}` is not a time"),
                    "write seconds as `30` or `0.5`, or a unit as `500ms`, `2m`, `1h`",
                ),
            },
            Kind::Size => match size(text) {
                Some(n) => Ok(Self::Int(n)),
                None => wrong_help(
                    format!("`{text}` is not a size"),
                    "write bytes as `65536`, or a unit as `64k`, `10m`, `1g`",
                ),
            },
            Kind::List => Ok(Self::List(if text.is_empty() { vec![] } else { vec![text.to_owned()] })),
            Kind::Commas => Ok(Self::List(commas(text))),
            Kind::Pairs => Ok(Self::Pairs(vec![pair(text)?])),
            Kind::Octal => octal(text),
            Kind::Words(words) | Kind::OptionalWord(words) => word(text, words),
            Kind::Dict => match serde_json::from_str::<Json>(text) {
                Ok(json @ Json::Object(_)) => Self::from_json(kind, &json),
                _ => wrong("it must be a dict"),
            },
            Kind::Hook(_) => wrong("it must be a function"),
        }
    }

    /// The form of a settings file. `null` is handled by the caller.
    pub(crate) fn from_json(kind: Kind, json: &Json) -> Result<Self, Wrong> {
        let got = || shown(json);
        match (kind, json) {
            (Kind::Flag(_) | Kind::Switch, Json::Bool(b)) => Ok(Self::Bool(*b)),
            (Kind::Int(least, most), Json::Number(n)) => match n.as_u64() {
                Some(n) => in_range(n, least, most),
                None => wrong(format!("{n} is not a whole number from {least} on")),
            },
            // Booleans are numbers to Python; gunicorn takes them.
            (Kind::Int(least, most), Json::Bool(b)) => in_range(u64::from(*b), least, most),
            (Kind::Octal | Kind::Size, Json::Number(n)) => match n.as_u64() {
                Some(n) if kind == Kind::Octal => in_range(n, 0, 0o7777),
                Some(n) => Ok(Self::Int(n)),
                None => wrong(format!("{n} is not a whole number from 0 on")),
            },
            (Kind::Seconds(zero), Json::Number(n)) => match n.as_f64() {
                Some(s) => time(s, &n.to_string(), zero),
                None => wrong(format!("{n} is not a time in seconds")),
            },
            // `user = 33`, `edge_threads = 2`
            (Kind::Owner | Kind::Text, Json::Number(n)) if n.as_u64().is_some() => {
                Ok(Self::Text(n.to_string()))
            }
            (Kind::Commas | Kind::OptionalWord(_), Json::Bool(b)) => {
                Self::from_text(kind, if *b { "on" } else { "off" })
            }
            (Kind::List | Kind::Commas, Json::Array(items)) => {
                let texts = items.iter().map(|i| i.as_str().map(|s| s.trim().to_owned()));
                match texts.collect() {
                    Some(list) => Ok(Self::List(list)),
                    None => wrong("it must be a list of texts"),
                }
            }
            (Kind::Pairs, Json::Array(items)) => items
                .iter()
                .map(|i| i.as_str().map_or_else(|| wrong("it must be a list of `URL=DIR`, or a dict"), pair))
                .collect::<Result<_, _>>()
                .map(Self::Pairs),
            (Kind::Pairs | Kind::Dict, Json::Object(map)) => {
                let pairs = map.iter().map(|(k, v)| v.as_str().map(|v| (k.clone(), v.to_owned())));
                match pairs.collect::<Option<Vec<_>>>() {
                    Some(mut pairs) => {
                        // Whether JSON keeps the order of a dict depends on how serde_json was built.
                        pairs.sort();
                        Ok(Self::Pairs(pairs))
                    }
                    None => wrong("it must be a dict with texts as its values"),
                }
            }
            (Kind::Dict | Kind::Hook(_), _) => wrong(format!("it must be a {}, not {}", wanted(kind), got())),
            (_, Json::String(text)) => Self::from_text(kind, text),
            _ => wrong(format!("it must be {}, not {}", wanted(kind), got())),
        }
    }

    /// What gunicorn's `cfg` would hold.
    pub(crate) fn to_json(&self, kind: Kind) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) => Json::from(*n),
            Self::Seconds(d) if d.subsec_nanos() == 0 => Json::from(d.as_secs()),
            Self::Seconds(d) => Json::from(d.as_secs_f64()),
            Self::Text(t) => Json::String(t.clone()),
            Self::List(l) => Json::from(l.clone()),
            Self::Pairs(p) if kind == Kind::Dict => {
                Json::Object(p.iter().map(|(k, v)| (k.clone(), Json::String(v.clone()))).collect())
            }
            Self::Pairs(p) => p.iter().map(|(k, v)| Json::String(format!("{k}={v}"))).collect(),
        }
    }

    /// For `--print-config` and messages: JSON, with octal numbers in octal.
    pub(crate) fn show(&self, kind: Kind) -> String {
        match (self, kind) {
            (Self::None, _) => "None".to_owned(),
            (Self::Bool(true), _) => "True".to_owned(),
            (Self::Bool(false), _) => "False".to_owned(),
            (Self::Int(n), Kind::Octal) => format!("0o{n:o}"),
            _ => self.to_json(kind).to_string(),
        }
    }

    /// Adds what the flag given once more says.
    pub(crate) fn append(&mut self, more: Self) {
        match (self, more) {
            (Self::List(list), Self::List(more)) => list.extend(more),
            (Self::Pairs(list), Self::Pairs(more)) => list.extend(more),
            (this, more) => *this = more,
        }
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Path => "a text",
        Kind::Flag(_) => "True or False",
        Kind::Switch => "True, False, \"on\" or \"off\"",
        Kind::Int(..) | Kind::Octal => "a whole number",
        Kind::Seconds(_) => "a number of seconds",
        Kind::Size => "a number of bytes, or a text as \"64k\"",
        Kind::List => "a list of texts",
        Kind::Commas => "a text with commas, or a list of texts",
        Kind::Pairs => "a dict, or a list of texts \"URL=DIR\"",
        Kind::Owner => "a name or a number",
        Kind::Words(_) | Kind::OptionalWord(_) => "one of its words",
        Kind::Hook(_) => "function",
        Kind::Dict => "dict",
    }
}

fn shown(json: &Json) -> String {
    match json {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Number(n) => n.to_string(),
        Json::String(_) => "a text".to_owned(),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a dict or another object".to_owned(),
    }
}

fn in_range(n: u64, least: u64, most: u64) -> Result<Value, Wrong> {
    if n < least {
        wrong(format!("{n} is too small; the least is {least}"))
    } else if n > most {
        wrong(format!("{n} is too large; the most is {most}"))
    } else {
        Ok(Value::Int(n))
    }
}

/// Digits, with Python's underscores between them.
fn number(text: &str) -> Option<u64> {
    let well_formed = text.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && !text.starts_with('_')
        && !text.ends_with('_')
        && !text.contains("__");
    if well_formed { text.replace('_', "").parse().ok() } else { None }
}

fn seconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    Some(digits.parse::<f64>().ok()? * unit)
}

fn time(seconds: f64, text: &str, zero: bool) -> Result<Value, Wrong> {
    if seconds < 0.0 || seconds.is_nan() {
        wrong(format!("{text} is less than 0"))
    } else if seconds > LONGEST {
        wrong(format!("{text} is longer than a year"))
    } else {
        // Rounded to microseconds: a product as 0.5 × 0.001 leaves no tail.
        let rounded = Duration::from_micros((seconds * 1e6).round() as u64);
        if rounded.is_zero() && !zero {
            return wrong(format!("{text} would leave no time at all; it must be more than 0"));
        }
        Ok(Value::Seconds(rounded))
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn octal(text: &str) -> Result<Value, Wrong> {
    let digits =
        text.strip_prefix("0o").or_else(|| text.strip_prefix("0O")).or_else(|| text.strip_prefix('0'));
    let digits = match digits {
        Some("") => "0",
        Some(d) => d,
        None if text.len() == 1 => text,
        // gunicorn reads `-m 22` as the decimal 22, which is 0o26: hardly what anybody means.
        None if !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b)) => {
            return wrong_help(
                format!("`{text}` could be octal or decimal (gunicorn takes it for decimal)"),
                format!("write `0o{text}` for octal"),
            );
        }
        None => text,
    };
    if !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) || digits.is_empty() {
        return wrong_help(format!("`{text}` is not an octal number"), "write it as `0o027`");
    }
    match u64::from_str_radix(digits, 8) {
        Ok(n) if n <= 0o7777 => Ok(Value::Int(n)),
        _ => wrong(format!("`{text}` is too large; the most is 0o7777")),
    }
}

pub(crate) fn commas(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

fn pair(text: &str) -> Result<(String, String), Wrong> {
    match text.split_once('=') {
        Some((url, dir)) if !url.is_empty() && !dir.is_empty() => {
            Ok((url.trim().to_owned(), dir.trim().to_owned()))
        }
        _ => {
            wrong_help(format!("`{text}` is not of the form URL=DIR"), "write it as `/static/=./staticfiles`")
        }
    }
}

fn word(text: &str, words: &[&str]) -> Result<Value, Wrong> {
    let lower = text.to_ascii_lowercase();
    if words.contains(&lower.as_str()) {
        return Ok(Value::Text(lower));
    }
    let allowed = format!("it may be {}", listed(words));
    let near = super::nearest::nearest(&lower, words.iter().copied());
    let help = near.map_or(allowed.clone(), |n| format!("did you mean `{n}`? {allowed}"));
    wrong_help(format!("`{text}` is not one of its words"), help)
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [rest @ .., last] => {
            let rest: Vec<_> = rest.iter().map(|w| format!("`{w}`")).collect();
            format!("{} or `{last}`", rest.join(", "))
        }
    }
}
