//! `resolver`: who is asked for names while serving.

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use super::upstream::Url;
use crate::model::http::Resolver;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "resolver",
        Context::ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| l.resolver = Some(r.resolver(d))),
        "",
        "Servers of DNS that are asked for names while serving, with `valid=`, `ipv4=off`, `ipv6=off`.",
    ),
    Row::one(
        "resolver_timeout",
        Context::ALL,
        Apply::Millis(|l| &mut l.resolver_timeout),
        "30s",
        "How long a name may take.",
    ),
];

impl<'a> Reader<'a> {
    pub(super) fn resolver(&mut self, directive: Directive<'a>) -> Resolver {
        let mut resolver = Resolver { servers: Vec::new(), valid: None, ipv4: true, ipv6: true };
        for word in directive.args {
            let text = word.text().into_owned();
            let switch = |value: &str| match value {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            };
            let is_set = match text.split_once('=') {
                Some(("valid", value)) => {
                    units::seconds(value.as_bytes()).map(|valid| resolver.valid = Some(valid)).is_some()
                }
                Some(("ipv4", value)) => switch(value).map(|on| resolver.ipv4 = on).is_some(),
                Some(("ipv6", value)) => switch(value).map(|on| resolver.ipv6 = on).is_some(),
                Some(_) => false,
                None => {
                    let url = match Url::parse(&text, false) {
                        Ok(url) if !url.is_unix => url,
                        Ok(_) => {
                            self.invalid_parameter(word);
                            continue;
                        }
                        Err(why) => {
                            self.error(word.span, format!("{why} in resolver \"{text}\""));
                            continue;
                        }
                    };
                    let Some(found) = self.socket_addresses(&url, 53) else {
                        self.error(word.span, format!("host not found in resolver \"{text}\""));
                        continue;
                    };
                    resolver.servers.extend(found);
                    true
                }
            };
            if !is_set {
                self.invalid_parameter(word).help("it takes addresses, `valid=30s`, `ipv4=off`, `ipv6=off`");
            }
        }
        if !resolver.ipv4 && !resolver.ipv6 {
            self.error(directive.head(), "\"ipv4\" and \"ipv6\" cannot both be \"off\"");
        } else if resolver.servers.is_empty() && !self.problems.has_errors() {
            self.error(directive.head(), "no name servers defined");
        }
        resolver
    }
}

/// Who is asked, and how long.
pub(super) fn settle(l: &Level) -> (Option<Resolver>, std::time::Duration) {
    (l.resolver.clone(), l.resolver_timeout.unwrap_or(std::time::Duration::from_secs(30)))
}
