//! Variables whose value is in the request itself.

use std::io::Write;
use std::net::IpAddr;

use config::model::http::Variable;
use exchange::{Name, Request, Scheme};

use crate::server::validate_host;

/// Appends the value of a variable that the request alone decides, and tells whether there is one. `None` if it is
/// not such a variable: the edge knows, or the configuration defines it.
pub fn request_variable(variable: &Variable, request: &Request, out: &mut Vec<u8>) -> Option<bool> {
    let fields = &request.fields;
    let value: &[u8] = match variable {
        Variable::Args | Variable::QueryString => {
            put(&request.query, out);
            return Some(!request.query.is_empty() || request.query_set);
        }
        Variable::IsArgs => return Some(put(if request.query.is_empty() { b"" } else { b"?" }, out)),
        Variable::Uri | Variable::DocumentUri => &request.path,
        // As in nginx, what is asked within a request has that one's, whatever it asks with.
        Variable::RequestMethod => {
            request.within.as_ref().map_or(&request.method, |client| &client.method).as_bytes()
        }
        Variable::RequestUri => origin_form(&request.target),
        // A head whose first line was no good has none but that.
        Variable::Request if request.target.is_empty() => &request.line,
        Variable::Request => {
            let method = request.method_sent.as_ref().unwrap_or(&request.method);
            for part in [method.as_bytes(), b" ", &request.target, b" "] {
                out.extend_from_slice(part);
            }
            request.version.as_str().as_bytes()
        }
        Variable::ServerProtocol => request.version.as_str().as_bytes(),
        Variable::Scheme => request.scheme.as_str().as_bytes(),
        Variable::Https => match request.scheme {
            Scheme::Https => b"on",
            Scheme::Http => b"",
        },
        Variable::ContentLength => {
            let left_out = request.within.as_ref().and_then(|c| c.left_out.first(Name::ContentLength));
            return fields.first(Name::ContentLength).or(left_out).map(|v| put(v, out));
        }
        Variable::ContentType => return Some(join(fields.all(Name::ContentType), b", ", out)),
        Variable::Host => {
            let host = validate_host(&request.authority).ok()?;
            return Some(put(&host.name, out));
        }
        Variable::RequestPort => match validate_host(&request.authority) {
            Ok(host) if host.port > 0 => return Some(write!(out, "{}", host.port).is_ok()),
            _ => b"",
        },
        Variable::IsRequestPort => match validate_host(&request.authority) {
            Ok(host) if host.port > 0 => b":",
            _ => b"",
        },
        Variable::RemoteAddr => match request.peer.remote {
            Some(remote) => {
                exchange::push_address(remote.ip(), out);
                return Some(true);
            }
            None => b"unix:",
        },
        Variable::RemotePort => match request.peer.remote {
            Some(remote) => return Some(write!(out, "{}", remote.port()).is_ok()),
            None => b"",
        },
        Variable::BinaryRemoteAddr => match request.peer.remote.map(|remote| remote.ip()) {
            Some(IpAddr::V4(address)) => return Some(put(&address.octets(), out)),
            Some(IpAddr::V6(address)) => return Some(put(&address.octets(), out)),
            None => b"unix:",
        },
        Variable::ServerAddr => return request.peer.local.map(|local| write!(out, "{}", local.ip()).is_ok()),
        Variable::ServerPort => {
            return request.peer.local.map(|local| write!(out, "{}", local.port()).is_ok());
        }
        Variable::Arg(name) => {
            return Some(argument(&request.query, name).is_some_and(|value| put(value, out)));
        }
        Variable::Cookie(name) => {
            let found = fields.all(Name::Cookie).find_map(|line| cookie(line, name));
            return Some(found.is_some_and(|value| put(value, out)));
        }
        Variable::Http(name) => {
            let separator: &[u8] = if name == b"cookie" { b"; " } else { b", " };
            let left_out = request.within.iter().flat_map(|client| client.left_out.iter());
            let lines = fields.iter().chain(left_out).filter(|(_, field, _)| is_variable_of(name, field));
            return Some(join(lines.map(|(_, _, value)| value), separator, out));
        }
        _ => return None,
    };
    Some(put(value, out))
}

fn put(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}

fn join<'v>(values: impl Iterator<Item = &'v [u8]>, separator: &[u8], out: &mut Vec<u8>) -> bool {
    let mut is_found = false;
    for value in values {
        if is_found {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value);
        is_found = true;
    }
    is_found
}

/// Path and arguments of a request target that names the host too.
fn origin_form(target: &[u8]) -> &[u8] {
    if matches!(target.first(), None | Some(b'/' | b'*')) {
        return target;
    }
    let Some(scheme) = target.windows(3).position(|three| three == b"://") else { return target };
    let rest = &target[scheme + 3..];
    memchr::memchr2(b'/', b'?', rest).map_or(b"/", |start| &rest[start..])
}

/// Whether `$http_name` shows the field: letters of either case, an underscore for a dash.
fn is_variable_of(name: &[u8], field: &[u8]) -> bool {
    name.len() == field.len()
        && name
            .iter()
            .zip(field)
            .all(|(&wanted, &byte)| wanted == if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() })
}

/// The first argument of that name, in either case of letters, that has a value, even an empty one.
fn argument<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|&byte| byte == b'&').find_map(|argument| {
        let (found, rest) = argument.split_at_checked(name.len())?;
        rest.strip_prefix(b"=").filter(|_| found.eq_ignore_ascii_case(name))
    })
}

/// A cookie's value, up to the next semicolon, as nginx reads it: spaces around the equals sign are skipped, quotes
/// are not; what is no pair is stepped over together with the one behind it.
pub fn cookie<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let mut rest = line;
    while !rest.is_empty() {
        if let Some((found, behind)) = rest.split_at_checked(name.len())
            && found.eq_ignore_ascii_case(name)
        {
            let behind = skip_spaces(behind);
            if let Some(value) = behind.strip_prefix(b"=") {
                let value = skip_spaces(value);
                return Some(&value[..memchr::memchr(b';', value).unwrap_or(value.len())]);
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        // As in nginx, other cookies end at a comma, too.
        let next = memchr::memchr2(b';', b',', rest).map_or(rest.len(), |at| at + 1);
        rest = skip_spaces(&rest[next..]);
    }
    None
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&byte| byte == b' ').count()..]
}
