//! Who may: `allow`, `deny`, passwords, subrequests, referers, secure links; and who the client is behind a proxy.

use std::rc::Rc;

use conf_syntax::{Directive, Word};

use super::level::Level;
use super::reader::Reader;
use super::server_name::plain_name;
use super::table::{Apply, Argument, Context, Count, Row};
use super::values::full_value;
use crate::model::http::{AccessRule, RealIpHeader, Satisfy, Source, ValidReferers, Who};
use crate::model::{InvalidNetwork, IpNetwork};

const ALL: Context = Context::ALL;
const LIMIT: Context = ALL.or(Context::LIMIT_EXCEPT);
const HASH: &str = "tables grow as they must";

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "allow",
        LIMIT,
        Apply::Custom(|r, l, d| r.access_rule(l, d)),
        "",
        "Lets an address, network, `unix:` or `all` in; the first rule that fits decides.",
    )
    .repeats(),
    Row::one(
        "deny",
        LIMIT,
        Apply::Custom(|r, l, d| r.access_rule(l, d)),
        "",
        "Keeps an address, network, `unix:` or `all` out.",
    )
    .repeats(),
    Row::one(
        "satisfy",
        ALL,
        Apply::Custom(|r, l, d| l.satisfy = r.word(d, &[("all", Satisfy::All), ("any", Satisfy::Any)])),
        "all",
        "Whether each kind of access control must allow, or one is enough.",
    ),
    Row::one(
        "auth_basic",
        LIMIT,
        Apply::Value(|l| &mut l.auth_basic),
        "off",
        "Asks for a name and password; the text is the realm.",
    ),
    Row::one(
        "auth_basic_user_file",
        LIMIT,
        Apply::Custom(|r, l, d| {
            l.auth_basic_user_file = d.args.first().map(|w| {
                let value = r.value(w);
                full_value(value, &r.conf_prefix)
            });
        }),
        "",
        "The file of names and passwords.",
    ),
    Row::one("auth_delay", ALL, Apply::Millis(|l| &mut l.auth_delay), "0", "How long a refusal waits."),
    Row::one(
        "auth_request",
        ALL,
        Apply::Text(|l| &mut l.auth_request),
        "off",
        "A path that is asked whether a request may go on.",
    )
    .differs(
        "The length of the client's body, which does not come along, is not passed on either, nor by \
         `proxy_set_header Content-Length $content_length`: a server would wait for it. (FastCGI, where a body has an \
         end of its own, is told it.)",
    ),
    Row::new(
        "auth_request_set",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.auth_request_set(l, d)),
        "",
        "Stores a value in a variable when that path has answered.",
    )
    .repeats(),
    Row::new(
        "valid_referers",
        Context::SERVER.or(Context::LOCATION),
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.valid_referers(l, d)),
        "",
        "What `Referer` may be, else `$invalid_referer` is 1: `none`, `blocked`, \
             `server_names`, names, `~regex`es.",
    )
    .repeats(),
    Row::one(
        "referer_hash_max_size",
        Context::SERVER.or(Context::LOCATION),
        Apply::Quiet(Argument::Number, HASH),
        "2048",
        "Size of a table.",
    ),
    Row::one(
        "referer_hash_bucket_size",
        Context::SERVER.or(Context::LOCATION),
        Apply::Quiet(Argument::Number, HASH),
        "64",
        "Size of a bucket.",
    ),
    Row::new(
        "internal",
        Context::LOCATION,
        Count::exactly(0),
        Apply::Custom(|_, l, _| l.internal = Some(true)),
        "",
        "Only for requests that come from within: error pages, `try_files`, `X-Accel-Redirect`.",
    ),
    Row::one(
        "secure_link",
        ALL,
        Apply::Value(|l| &mut l.secure_link),
        "",
        "Where a request's checksum and expiry stand.",
    ),
    Row::one(
        "secure_link_md5",
        ALL,
        Apply::Value(|l| &mut l.secure_link_md5),
        "",
        "What the checksum is of.",
    ),
    Row::one(
        "secure_link_secret",
        ALL,
        Apply::Custom(|_, l, d| {
            l.secure_link_secret = d.args.first().map(|w| w.value.to_vec());
            l.secure_link_at = Some(d.name.span);
        }),
        "",
        "The secret of links of the older form.",
    ),
    Row::one(
        "set_real_ip_from",
        ALL,
        Apply::Custom(|r, l, d| r.set_real_ip_from(l, d)),
        "",
        "A proxy whose word about the client's address is believed.",
    )
    .repeats(),
    Row::one(
        "real_ip_header",
        ALL,
        Apply::Custom(|_, l, d| {
            l.real_ip_header = d.args.first().map(|w| match w.value {
                b"X-Real-IP" => RealIpHeader::XRealIp,
                b"X-Forwarded-For" => RealIpHeader::XForwardedFor,
                b"proxy_protocol" => RealIpHeader::ProxyProtocol,
                name => RealIpHeader::Field(name.to_ascii_lowercase()),
            });
        }),
        "X-Real-IP",
        "Where the client's address stands: a field, or `proxy_protocol`.",
    ),
    Row::flag(
        "real_ip_recursive",
        ALL,
        |l| &mut l.real_ip_recursive,
        "off",
        "Goes on to the last address that is not believed.",
    ),
];

impl<'a> Reader<'a> {
    fn access_rule(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let who = match word.value {
            b"all" => Who::All,
            b"unix:" => Who::Unix,
            _ => match word.text().parse() {
                Ok(network) => Who::Network(network),
                Err(InvalidNetwork::HostBits(network)) => {
                    let text = word.text().into_owned();
                    self.warning(word.span, format!("low address bits of {text} are meaningless"))
                        .help(format!("write `{network}`"));
                    Who::Network(network)
                }
                Err(_) => {
                    self.invalid_parameter(word)
                        .help("write an address as `10.0.0.1`, a network as `10.0.0.0/8`, `unix:`, or `all`");
                    return;
                }
            },
        };
        let deny = directive.name.value == b"deny";
        level.access.get_or_insert_default().push(AccessRule { who, deny });
    }

    fn auth_request_set(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([name, value]) = directive.args.array() else { return };
        let value = self.value(value);
        if let Some(id) = self.defines(name, Source::Stored) {
            level.auth_request_set.get_or_insert_default().push((id, value));
        }
    }

    fn valid_referers(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut referers = level.valid_referers.take().map_or_else(
            || ValidReferers { none: false, blocked: false, names: Vec::new(), regexes: Vec::new() },
            |r| r.as_ref().clone(),
        );
        for word in directive.args {
            match word.value {
                b"none" => referers.none = true,
                b"blocked" => referers.blocked = true,
                b"server_names" => level.referers_of_server = Some(()),
                b"" => {
                    self.error(word.span, "invalid referer \"\"");
                }
                b"~" => {
                    self.error(word.span, "empty regex in \"~\"");
                }
                text => match text.strip_prefix(b"~") {
                    Some(pattern) => referers.regexes.push(self.regex(pattern, true, word, 1)),
                    None => self.referer(&mut referers, word),
                },
            }
        }
        level.valid_referers = Some(Rc::new(referers));
        level.referers_at.get_or_insert(directive.name.span);
    }

    fn referer(&mut self, referers: &mut ValidReferers, word: Word<'a>) {
        let at = word.value.iter().position(|b| *b == b'/').unwrap_or(word.value.len());
        let (name, path) = word.value.split_at(at);
        let text = word.text().into_owned();
        let Some(name) = plain_name(name) else {
            self.error(word.span, format!("invalid hostname or wildcard \"{text}\""));
            return;
        };
        if referers.names.iter().any(|(n, _)| *n == name) {
            self.error(word.span, format!("conflicting parameter \"{text}\""));
        } else {
            referers.names.push((name, path.to_vec()));
        }
    }

    /// `valid_referers server_names`, once all names of the server are known.
    pub(super) fn complete_referers(&mut self, level: &mut Level) {
        let at = level.referers_at.take();
        if level.referers_of_server.take().is_none() {
            if let (Some(at), Some(referers)) = (at, &level.valid_referers)
                && (referers.none || referers.blocked)
                && referers.names.is_empty()
                && referers.regexes.is_empty()
            {
                let message = "the \"none\" or \"blocked\" referers are specified in the \"valid_referers\" \
                               directive without any valid referer";
                self.error(at, message)
                    .help("add the names of the sites that may lead here, or `server_names`");
            }
            return;
        }
        let (Some(referers), Some(names)) = (&mut level.valid_referers, self.sockets.names.last()) else {
            return;
        };
        let referers = Rc::make_mut(referers);
        for (name, _) in &names.list {
            if !referers.names.iter().any(|(known, _)| known == name) {
                referers.names.push((name.clone(), Vec::new()));
            }
        }
    }

    /// The two forms exclude each other where they stand side by side.
    pub(super) fn check_secure_link(&mut self, level: &Level) {
        let Some(at) = level.secure_link_at else { return };
        if level.secure_link.is_some() || level.secure_link_md5.is_some() {
            let message =
                "\"secure_link_secret\" cannot be mixed with \"secure_link\" and \"secure_link_md5\"";
            self.error(at, message).line_at = Some(at);
        }
    }

    fn set_real_ip_from(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let found = self.who(word, "set_real_ip_from");
        level.real_ip_from.get_or_insert_default().extend(found);
    }

    /// Peers: an address, a network, all addresses of a name, or `unix:`. Empty after an error.
    pub(super) fn who(&mut self, word: Word<'a>, directive: &str) -> Vec<Who> {
        let text = word.text().into_owned();
        match (word.value, text.parse::<IpNetwork>()) {
            (b"unix:", _) => vec![Who::Unix],
            (_, Ok(network)) => vec![Who::Network(network)],
            (_, Err(InvalidNetwork::HostBits(network))) => {
                self.warning(word.span, format!("low address bits of {text} are meaningless"))
                    .help(format!("write `{network}`"));
                vec![Who::Network(network)]
            }
            (_, Err(_)) => match self.machine.resolve(&text, 0) {
                Ok(addresses) if !text.contains('/') => {
                    let networks = addresses.iter().filter_map(|a| a.ip().to_string().parse().ok());
                    networks.map(Who::Network).collect()
                }
                _ => {
                    self.error(word.span, format!("host not found in {directive} \"{text}\""))
                        .help("write an address, a network as `10.0.0.0/8`, a name, or `unix:`");
                    vec![]
                }
            },
        }
    }
}
