//! The request as FastCGI, uwsgi and SCGI have it: variables.

use std::borrow::Cow;

use config::model::http::{Family, Part, Value, Variable};
use exchange::{Method, Name, Request};
use routing::Captures;
use telemetry::error_log::Level;
use upstream::Attempt;

use super::super::facts::Facts;
use super::super::kept::Keeping;
use super::super::visit::Visit;
use super::asked::url;
use super::outgoing::{Head, Target, is_condition};
use super::place::ProxyPlace;

/// What the name of a variable begins with that is a field of the request.
const HTTP: &[u8] = b"HTTP_";

/// Name and value of a variable.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The key of what is kept, where the configuration says none. The host is part of it as the client says it: the server is
/// told `HTTP_HOST` with its port and its case, and makes addresses of it.
pub(super) fn own_key(target: &Target, request: &Request) -> Vec<u8> {
    let mut key = [target.scheme.as_bytes(), &target.host].concat();
    // Who is asked says nothing of what for.
    for variable in [Variable::Scheme, Variable::RequestUri] {
        key.push(b' ');
        routing::request_variable(&variable, request, &mut key);
        if variable == Variable::Scheme {
            let (meant, said) = (&request.authority[..], request.fields.first(Name::Host));
            for host in [Some(meant), said.filter(|said| *said != meant)].into_iter().flatten() {
                key.push(b' ');
                key.extend_from_slice(host);
            }
        }
    }
    key
}

impl Visit<'_, '_> {
    /// What a server is told before the body. `Err`: the status, because that is more than the protocol can say.
    pub(super) fn variables(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        keeping: Option<&Keeping>,
    ) -> Result<Head, u16> {
        let gateway = &place.settings.gateway;
        let cacheable = Keeping::is_cacheable(keeping);
        let mut list: Vec<Pair<'_>> = Vec::with_capacity(48);
        for param in &gateway.params {
            // An empty text in place of a field only takes it away.
            let takes_away = param.name.starts_with(HTTP) && param.name.len() > HTTP.len();
            if takes_away && param.value.as_text() == Some(b"") {
                continue;
            }
            let mut value = self.value(&param.value, request);
            // Those wait for as much as it says; FastCGI has an end of the body.
            if param.name == b"CONTENT_LENGTH"
                && place.family != Family::FastCgi
                && self.is_bodiless(request)
                && place.settings.set_body.is_none()
            {
                value.clear();
            }
            if !value.is_empty() || !param.if_not_empty {
                list.push((param.name.as_slice().into(), value.into()));
            }
        }
        let own = |field: &[u8]| {
            gateway.params.iter().any(|param| {
                param.name.get(HTTP.len()..).is_some_and(|rest| is_field(rest, field))
                    && param.name.starts_with(HTTP)
            })
        };
        if !own(b"host") {
            let mut value = self.value(&Value(vec![Part::Variable(Variable::Host)]), request);
            if let Some(port) = self.value_or_none(&Variable::RequestPort, request).filter(|p| !p.is_empty())
            {
                value.push(b':');
                value.extend_from_slice(&port);
            }
            if !value.is_empty() {
                list.push((b"HTTP_HOST".as_slice().into(), value.into()));
            }
        }
        if cacheable {
            for (field, name, variable) in [
                (
                    &b"if-modified-since"[..],
                    &b"HTTP_IF_MODIFIED_SINCE"[..],
                    Variable::UpstreamCacheLastModified,
                ),
                (b"if-none-match", b"HTTP_IF_NONE_MATCH", Variable::UpstreamCacheEtag),
            ] {
                let asked = self.facts.upstream.borrow();
                let mut value = Vec::new();
                if !own(field) && asked.as_ref().is_some_and(|asked| asked.variable(&variable, &mut value)) {
                    list.push((name.into(), value.into()));
                }
            }
        }
        let begin = list.len();
        if place.settings.pass_headers {
            for (known, name, value) in request.fields.iter() {
                // What is kept is whole, and for those too that have other conditions. `Proxy` would be HTTP_PROXY,
                // which libraries take for where to send their own requests.
                if known == Name::Host
                    || (cacheable && is_condition(known))
                    || own(name)
                    || name.eq_ignore_ascii_case(b"proxy")
                {
                    continue;
                }
                let variable = variable_of(name);
                match list[begin..].iter_mut().find(|(known, _)| *known == variable) {
                    Some((_, values)) => {
                        let between: &[u8] = if known == Name::Cookie { b"; " } else { b", " };
                        let values = values.to_mut();
                        values.extend_from_slice(between);
                        values.extend_from_slice(value);
                    }
                    None => list.push((variable.into(), value.into())),
                }
            }
        }
        let variables = list.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let bytes = match place.family {
            Family::FastCgi => gateway::fastcgi::request(gateway.keep_conn, variables),
            Family::Scgi => {
                let length = self.facts.upstream.borrow().as_ref().and_then(|asked| asked.body_length);
                gateway::scgi::request(length.unwrap_or(0), variables)
            }
            Family::Uwsgi | Family::Proxy | Family::Grpc => {
                gateway::uwsgi::request(gateway.modifiers, variables, &gateway.string).map_err(|why| {
                    self.facts.log(Level::Alert, Some(request), format_args!("uwsgi {why}"));
                    500_u16
                })?
            }
        };
        let is_idempotent = request.method.is_idempotent();
        let without_body = request.method == Method::Head;
        Ok(Head { bytes, without_body, odd_framing: false, is_idempotent, keeps: gateway.keep_conn })
    }
}

impl Facts<'_> {
    /// `$fastcgi_script_name`
    pub(in crate::site) fn script_name(&self, request: &Request, out: &mut Vec<u8>) -> bool {
        let place = self.place().and_then(|place| place.passes[Family::FastCgi as usize].clone());
        let Some(place) = place else {
            out.extend_from_slice(&request.path);
            return true;
        };
        let script = split(&place, &request.path).map_or_else(|| request.path.clone(), |(script, _)| script);
        out.extend_from_slice(&script);
        if script.ends_with(b"/") {
            out.extend_from_slice(&place.settings.gateway.index);
        }
        true
    }

    /// `$fastcgi_path_info`
    pub(in crate::site) fn path_info(&self, request: &Request, out: &mut Vec<u8>) -> bool {
        let place = self.place().and_then(|place| place.passes[Family::FastCgi as usize].clone());
        if let Some((_, info)) = place.and_then(|place| split(&place, &request.path)) {
            out.extend_from_slice(&info);
        }
        true
    }

    /// What a FastCGI application complains of goes to the error log.
    pub(in crate::site) fn log_complaints(&self, request: &Request, attempt: &Attempt, action: &'static str) {
        let texts = std::mem::take(&mut attempt.complaints.borrow_mut().texts);
        for text in texts {
            let end = text.iter().rposition(|byte| !b"\r\n. ".contains(byte)).map_or(0, |last| last + 1);
            let url = url(Family::FastCgi.scheme(false), &attempt.address, b"");
            let text = String::from_utf8_lossy(&text[..end]).into_owned();
            let what = format_args!("FastCGI sent in stderr: \"{text}\"");
            self.log_about(Level::Error, Some(request), Some(action), Some(&url), what);
        }
    }
}

/// `fastcgi_split_path_info`; `None`: the path is not of that form, or there is none.
fn split(place: &ProxyPlace, path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut captures = Captures::default();
    match place.split.as_ref()?.captures(path, &mut captures) {
        Ok(true) => Some((captures.group(1).to_vec(), captures.group(2).to_vec())),
        _ => None,
    }
}

/// Whether a variable's name without its beginning is a field's.
fn is_field(variable: &[u8], field: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    variable.len() == field.len() && variable.iter().zip(field).all(|(a, b)| plain(a) == plain(b))
}

/// The variable that a field of the request becomes.
fn variable_of(field: &[u8]) -> Vec<u8> {
    let upper = field.iter().map(|byte| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() });
    HTTP.iter().copied().chain(upper).collect()
}
