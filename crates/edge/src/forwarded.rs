//! Whose word about a client is believed.
//!
//! A trusted peer (`forwarded_allow_ips`) may say for whom it speaks; anybody else's fields that claim the
//! same are removed, so that the application can rely on what it sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use config::model::{Forwarded, HeaderMap, Trusted};
use exchange::{Fields, Name, Request, Scheme};
use telemetry::error_log::{self, Level};

/// Fields in which only a trusted proxy may speak, beside `X-Forwarded-…` and `secure_scheme_headers`. They are not
/// read here, but frameworks read them.
const CLAIMS: [&[u8]; 2] = [b"forwarded", b"x-real-ip"];
const CLAIMS_BEGIN: &[u8] = b"x-forwarded-";

/// What `app_pass` hands to an application: as by gunicorn's command line a trusted peer may say for whom it speaks, and
/// nobody else. `None`: the request as it is. `peer`: who is connected, where `set_real_ip_from` has found whom it
/// speaks for; that counts then.
pub fn pass_on(
    settings: &Forwarded,
    request: &Request,
    peer: Option<SocketAddr>,
) -> Result<Option<Request>, &'static str> {
    let counts = |name: &[u8]| name.contains(&b'_') || is_claim(settings, name);
    if !request.fields.iter().any(|(_, name, _)| counts(name)) {
        return Ok(None);
    }
    let mut asking = request.clone();
    asking.peer.remote = peer;
    match settings.direct.clone() {
        Some(trusted) => arrive(&Forwarded { trusted, ..settings.clone() }, &mut asking)?,
        None => arrive(settings, &mut asking)?,
    }
    if request.peer.remote != peer {
        asking.peer.remote = request.peer.remote;
    }
    Ok(Some(asking))
}

/// What is done with a request that came to the application itself, at an address of its own, with all its fields.
pub fn arrive(settings: &Forwarded, request: &mut Request) -> Result<(), &'static str> {
    if settings.header_map == HeaderMap::Refuse
        && request.fields.iter().any(|(_, name, _)| is_odd(settings, name))
    {
        return Err("a field has an underscore in its name");
    }
    drop_underscores(settings, request);
    apply(settings, request)
}

/// What is done with a request that the configuration passes on to an application which is run here, by the address of
/// its `bind`: with gunicorn it would come from a trusted proxy. But who the client is we know, so that of the fields
/// only those count that the configuration sets (`is_set`), and not those that came from the client.
pub fn lead(
    settings: &Forwarded,
    request: &mut Request,
    is_set: impl Fn(&[u8]) -> bool,
) -> Result<(), &'static str> {
    let is_odd = |name: &[u8]| name.contains(&b'_') && (is_odd(settings, name) || !is_set(name));
    match settings.header_map {
        HeaderMap::Refuse if request.fields.iter().any(|(_, name, _)| is_odd(name)) => {
            return Err("a field has an underscore in its name");
        }
        HeaderMap::Drop => request.fields.remove_if(is_odd),
        HeaderMap::Refuse | HeaderMap::Dangerous => {}
    }
    believe_scheme(settings, request, &is_set)?;
    if is_set(b"script_name") {
        believe_mount(settings, request);
    }
    Ok(())
}

/// An underscore is in the name, and it is none that a proxy may set.
fn is_odd(settings: &Forwarded, name: &[u8]) -> bool {
    name.contains(&b'_')
        && !settings.forwarder_headers.iter().any(|h| h.as_bytes().eq_ignore_ascii_case(name))
}

/// Fields with an underscore, where the codec had to keep them for the sake of trusted proxies.
pub fn drop_underscores(settings: &Forwarded, request: &mut Request) {
    if settings.header_map != HeaderMap::Drop {
        return;
    }
    let trusted = is_trusted(settings, request);
    request.fields.remove_if(|name| name.contains(&b'_') && (!trusted || is_odd(settings, name)));
}

/// A Unix socket has no address to check; its file's mode says who may connect, as with gunicorn.
fn is_trusted(settings: &Forwarded, request: &Request) -> bool {
    request.peer.remote.is_none_or(|peer| settings.trusted.contains(peer.ip()))
}

/// Applies the forwarded fields of a trusted peer to the request, or removes those of any other. Fails when a
/// trusted peer contradicts itself: 400, as with gunicorn.
pub fn apply(settings: &Forwarded, request: &mut Request) -> Result<(), &'static str> {
    if is_trusted(settings, request) {
        return believe(settings, request);
    }
    if let Some((_, name, _)) = request.fields.iter().find(|(_, name, _)| is_claim(settings, name)) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            let peer = request.peer.remote.map(|peer| peer.ip().to_canonical().to_string());
            let (name, peer) = (name.escape_ascii(), peer.unwrap_or_default());
            let what = format_args!(
                "{peer} sends `{name}`, and is not in `forwarded_allow_ips`: applications do not see such fields of it \
                 (told once)"
            );
            error_log::write(Level::Warning, what);
        });
    }
    request.fields.remove_if(|name| is_claim(settings, name));
    Ok(())
}

/// Only a trusted proxy may say this.
fn is_claim(settings: &Forwarded, name: &[u8]) -> bool {
    let begins = name.get(..CLAIMS_BEGIN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(CLAIMS_BEGIN));
    begins
        || CLAIMS.iter().any(|claim| claim.eq_ignore_ascii_case(name))
        || settings.scheme_headers.iter().any(|header| header.name.as_bytes().eq_ignore_ascii_case(name))
}

fn believe(settings: &Forwarded, request: &mut Request) -> Result<(), &'static str> {
    believe_scheme(settings, request, |_| true)?;
    if let Some(client) = client(&request.fields, &settings.trusted) {
        request.peer.remote = Some(client);
    }
    believe_mount(settings, request);
    Ok(())
}

/// The scheme that these fields say.
fn believe_scheme(
    settings: &Forwarded,
    request: &mut Request,
    counts: impl Fn(&[u8]) -> bool,
) -> Result<(), &'static str> {
    let mut scheme = None;
    for header in settings.scheme_headers.iter().filter(|header| counts(header.name.as_bytes())) {
        let name = header.name.as_bytes();
        let lines = request.fields.iter().filter(|(_, field, _)| field.eq_ignore_ascii_case(name));
        for (_, _, value) in lines {
            let says = if value == header.value.as_bytes() { Scheme::Https } else { Scheme::Http };
            if scheme.is_some_and(|s| s != says) {
                return Err("the fields about the scheme contradict each other");
            }
            scheme = Some(says);
        }
    }
    if let Some(scheme) = scheme {
        request.scheme = scheme;
    }
    Ok(())
}

/// Where the application is mounted.
pub fn believe_mount(settings: &Forwarded, request: &mut Request) {
    if settings.forwarder_headers.iter().any(|h| h == "SCRIPT_NAME")
        && let Some(name) = request.fields.named(b"script_name")
    {
        request.script_name = name.to_vec();
        request.fields.remove_named(b"script_name");
    }
}

/// The last address of `X-Forwarded-For` that is not a trusted proxy itself.
fn client(fields: &Fields, trusted: &Trusted) -> Option<SocketAddr> {
    let mut chain = Vec::new();
    for value in fields.all(Name::XForwardedFor) {
        for element in value.split(|&b| b == b',') {
            chain.push(address(element.trim_ascii()));
        }
    }
    // Everybody is trusted: the chain is taken at its word, the client is its first.
    if *trusted == Trusted::Any {
        return chain.first().copied().flatten();
    }
    let mut last = None;
    for element in chain.into_iter().rev() {
        // What stands before something unreadable has been handed on by nobody we know.
        let address = element?;
        last = Some(address);
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    last
}

/// An address with or without a port; a port that is not there is 0.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    if let Some(ip) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return ip.parse().ok().map(|ip| SocketAddr::new(IpAddr::V6(ip), 0));
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use config::model::SchemeHeader;
    use exchange::Peer;

    use super::*;

    fn settings(trusted: Trusted) -> Forwarded {
        Forwarded {
            trusted,
            scheme_headers: vec![SchemeHeader { name: "x-forwarded-proto".into(), value: "https".into() }],
            forwarder_headers: Vec::new(),
            header_map: HeaderMap::Drop,
            direct: None,
        }
    }

    fn request(peer: &str, fields: &[(&str, &str)]) -> Request {
        let mut request =
            Request { peer: Peer { remote: peer.parse().ok(), local: None }, ..Request::default() };
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    fn local_only() -> Forwarded {
        settings(Trusted::Networks(vec!["127.0.0.1".parse().expect("a network")]))
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let mut r = request(
            "192.0.2.7:99",
            &[("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Proto", "https"), ("A", "b")],
        );
        assert_eq!(apply(&local_only(), &mut r), Ok(()));
        assert_eq!((r.scheme, r.fields.len()), (Scheme::Http, 1));
        assert_eq!(r.peer.remote, "192.0.2.7:99".parse().ok());
    }

    #[test]
    fn nothing_that_frameworks_take_for_a_proxys_word_is_left_of_a_strangers() {
        for name in ["X-Forwarded-Prefix", "x-forwarded-ssl", "Forwarded", "X-REAL-IP", "X-Forwarded-"] {
            let mut r = request("192.0.2.7:99", &[(name, "1"), ("X-Forwarder", "2"), (name, "3")]);
            assert_eq!(apply(&local_only(), &mut r), Ok(()));
            assert_eq!(r.fields.named(b"x-forwarder"), Some(&b"2"[..]));
            assert_eq!(r.fields.len(), 1, "{name}");
        }
    }

    #[test]
    fn what_is_passed_to_an_application_is_looked_at_as_where_it_is_asked_itself() {
        let pass = |peer: &str, found: &str, fields: &[(&str, &str)]| {
            let connected = request(peer, &[]).peer.remote;
            let told = pass_on(&local_only(), &request(found, fields), connected).unwrap();
            told.map(|r| (r.scheme, r.peer.remote.unwrap().to_string(), r.fields.len()))
        };
        let claims = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "6.6.6.6"), ("A", "b")];
        let (stranger, proxy, client) = ("192.0.2.7:99", "127.0.0.1:5", "192.0.2.9:0");
        assert_eq!(pass(stranger, stranger, &[("A", "b"), ("X-Forwarder", "c")]), None);
        assert_eq!(pass(stranger, stranger, &claims), Some((Scheme::Http, stranger.to_owned(), 1)));
        assert_eq!(pass(proxy, proxy, &claims), Some((Scheme::Https, "6.6.6.6:0".to_owned(), 3)));
        // Whom set_real_ip_from has found counts, and the scheme is the proxy's to say.
        assert_eq!(pass(proxy, client, &claims), Some((Scheme::Https, client.to_owned(), 3)));
        assert_eq!(pass(stranger, client, &claims), Some((Scheme::Http, client.to_owned(), 1)));
        assert_eq!(pass(stranger, proxy, &claims), Some((Scheme::Http, proxy.to_owned(), 1)));
        assert_eq!(pass(stranger, stranger, &[("X_Odd", "1")]), Some((Scheme::Http, stranger.to_owned(), 0)));
    }

    #[test]
    fn a_trusted_proxy_names_the_last_hop_that_is_not_trusted() {
        let fields = [
            ("X-Forwarded-For", "6.6.6.6, 192.0.2.1"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
        ];
        let mut r = request("127.0.0.1:5", &fields);
        assert_eq!(apply(&local_only(), &mut r), Ok(()));
        assert_eq!(r.peer.remote, "192.0.2.1:0".parse().ok());
        assert_eq!(r.scheme, Scheme::Https);
    }

    #[test]
    fn at_an_address_of_its_own_an_application_takes_what_its_proxies_may_set() {
        let fields = [("SCRIPT_NAME", "/shop"), ("X_Odd", "1"), ("X-Forwarded-Proto", "https")];
        for (map, outcome, left) in
            [(HeaderMap::Drop, Ok(()), 1), (HeaderMap::Refuse, Err(()), 3), (HeaderMap::Dangerous, Ok(()), 2)]
        {
            let settings = Forwarded {
                forwarder_headers: vec!["SCRIPT_NAME".to_owned()],
                header_map: map,
                ..local_only()
            };
            let mut r = request("127.0.0.1:5", &fields);
            assert_eq!(arrive(&settings, &mut r).map_err(|_| ()), outcome);
            assert_eq!(r.fields.len(), left, "{map:?}");
            if outcome.is_ok() {
                assert_eq!((r.script_name.as_slice(), r.scheme), (&b"/shop"[..], Scheme::Https));
            }
        }
    }

    #[test]
    fn of_what_is_passed_on_only_that_counts_which_the_configuration_sets() {
        let settings = Forwarded { forwarder_headers: vec!["SCRIPT_NAME".to_owned()], ..local_only() };
        let fields = [
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("SCRIPT_NAME", "/shop"),
            ("X_Odd", "1"),
        ];
        let mut r = request("192.0.2.7:99", &fields);
        assert_eq!(lead(&settings, &mut r, |_| false), Ok(()));
        assert_eq!((r.scheme, r.script_name.len(), r.fields.len()), (Scheme::Http, 0, 2));
        let mut r = request("192.0.2.7:99", &fields);
        assert_eq!(lead(&settings, &mut r, |_| true), Ok(()));
        assert_eq!((r.scheme, r.script_name.as_slice()), (Scheme::Https, &b"/shop"[..]));
        assert_eq!(r.peer.remote, "192.0.2.7:99".parse().ok(), "who the client is we know");
    }

    #[test]
    fn every_line_about_the_scheme_counts() {
        let scheme = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| ("X-Forwarded-Proto", *value)).collect();
            let mut r = request("127.0.0.1:5", &fields);
            apply(&local_only(), &mut r).map(|()| r.scheme)
        };
        assert_eq!(scheme(&["https", "https"]), Ok(Scheme::Https));
        assert!(scheme(&["https", "http"]).is_err() && scheme(&["http", "https"]).is_err());
    }

    #[test]
    fn garbage_in_the_chain_is_not_skipped() {
        let mut r = request("127.0.0.1:5", &[("X-Forwarded-For", "192.0.2.1, unknown")]);
        assert_eq!(apply(&local_only(), &mut r), Ok(()));
        assert_eq!(r.peer.remote, "127.0.0.1:5".parse().ok());
    }
}
