//! `X-Accel-Redirect` and `X-Sendfile`: the application answers with the name of a file.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

use exchange::{Body, Name, Request, Response};

use super::{FileServer, Outcome, is_of_the_file, respond, vary_on};

/// What nginx keeps of the application's response to `X-Accel-Redirect`, and what guards the client against
/// the file's content, which nginx makes people repeat in its configuration.
const KEPT: [Name; 4] = [Name::ContentType, Name::SetCookie, Name::CacheControl, Name::Expires];
const KEPT_BY_SPELLING: [&[u8]; 6] = [
    b"content-disposition",
    b"content-language",
    b"content-security-policy",
    b"x-content-type-options",
    b"x-frame-options",
    b"referrer-policy",
];

/// The places that an application may point at, on one thread.
#[derive(Debug, Default)]
pub struct Accel {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    url: Vec<u8>,
    dirs: Vec<PathBuf>,
    files: FileServer,
}

/// What came of an application's response.
#[derive(Debug)]
pub enum AccelAnswer {
    /// It points at no file, or there is no place to point at (somebody in front may obey it).
    Untouched(Response),
    /// The file, with what is kept of the application's fields.
    File(Response),
    /// It points at what is not there or not allowed. For the client a 404, for the log the words.
    Refused(Response, &'static str),
}

impl Accel {
    /// Whether there is no place that could be pointed at.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A table of internal URL prefixes, each of which begins and ends with `/`, with their directories.
    pub fn new(places: impl IntoIterator<Item = (String, FileServer)>) -> Self {
        let mut places: Vec<Place> = places
            .into_iter()
            .map(|(url, files)| {
                let dir = files.state.borrow().root.path().to_owned();
                // The application may know the directory by either name.
                let real = dir.canonicalize().ok().filter(|real| *real != dir);
                Place { url: url.into_bytes(), dirs: std::iter::once(dir).chain(real).collect(), files }
            })
            .collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.url.len()));
        Self { places }
    }

    /// Obeys `X-Accel-Redirect: /internal/URL` (percent-encoded) or `X-Sendfile: /absolute/path` (as it is).
    ///
    /// Of the application's fields, those that nginx keeps (`Content-Type`, `Content-Disposition`,
    /// `Set-Cookie`, `Cache-Control`, `Expires`) and those that guard the client go along with
    /// `X-Accel-Redirect`; with `X-Sendfile` all that do not describe the file itself. The application's
    /// `Content-Type` goes before that of the file. Ranges and conditions of a GET or HEAD apply to the file.
    pub fn apply(&self, request: &Request, response: Response, now: Instant) -> AccelAnswer {
        if self.places.is_empty() {
            return AccelAnswer::Untouched(response);
        }
        let redirect = response.fields.has(Name::XAccelRedirect);
        let name = if redirect { Name::XAccelRedirect } else { Name::XSendfile };
        if !response.fields.has(name) {
            return AccelAnswer::Untouched(response);
        }
        let refused = |why| AccelAnswer::Refused(respond::error(404), why);
        let Some(value) = response.fields.only(name) else {
            return refused("the application points at more than one file");
        };
        let found = if redirect { self.by_url(value) } else { self.by_path(value) };
        let (place, path) = match found {
            Ok(found) => found,
            Err(why) => return refused(why),
        };
        let encoded = !redirect && response.fields.has(Name::ContentEncoding);
        let media_type = response.fields.first(Name::ContentType);
        match place.files.serve_internal(request, &path, now, media_type, !encoded) {
            Outcome::NotFound => refused("the application points at a file that is not there"),
            Outcome::Response(mut file) => {
                if file.status < 400 {
                    keep(&mut file, &response, redirect);
                }
                AccelAnswer::File(file)
            }
        }
    }

    fn by_url(&self, value: &[u8]) -> Result<(&Place, Vec<u8>), &'static str> {
        let path = value.split(|&b| b == b'?').next().unwrap_or_default();
        if !path.starts_with(b"/") {
            return Err("X-Accel-Redirect is no path that begins with a slash");
        }
        let mut decoded = Vec::with_capacity(path.len());
        if protocol::decode(path, &mut decoded).is_err() {
            return Err("X-Accel-Redirect has a malformed percent-encoding");
        }
        let path = resolved(decoded).ok_or("X-Accel-Redirect leads upwards")?;
        let place = self.places.iter().find(|place| path.starts_with(&place.url));
        let place = place.ok_or("X-Accel-Redirect points at no place that is configured for it")?;
        Ok((place, path[place.url.len()..].to_vec()))
    }

    fn by_path(&self, value: &[u8]) -> Result<(&Place, Vec<u8>), &'static str> {
        if !value.starts_with(b"/") {
            return Err("X-Sendfile is no absolute path");
        }
        let path = resolved(value.to_vec()).ok_or("X-Sendfile leads upwards")?;
        // The longest directory, as the longest prefix wins for URLs.
        let mut best: Option<(&Place, usize)> = None;
        for place in &self.places {
            for dir in &place.dirs {
                let dir = dir.as_os_str().as_bytes();
                let dir = dir.strip_suffix(b"/").unwrap_or(dir);
                let inside = path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"));
                if inside && best.is_none_or(|(_, len)| dir.len() > len) {
                    best = Some((place, dir.len()));
                }
            }
        }
        let (place, len) = best.ok_or("X-Sendfile points outside every configured directory")?;
        Ok((place, path[len + 1..].to_vec()))
    }
}

/// Copies what is kept of the application's fields into the file's response.
fn keep(file: &mut Response, app: &Response, redirect: bool) {
    for (name, spelling, value) in app.fields.iter() {
        let kept = if redirect {
            KEPT.contains(&name) || KEPT_BY_SPELLING.iter().any(|k| k.eq_ignore_ascii_case(spelling))
        } else {
            !is_of_the_file(name, spelling)
        };
        match name {
            // Already where it belongs; a 304 carries none.
            Name::ContentType => {}
            Name::ContentEncoding if kept && file.status == 304 => {}
            Name::Vary if kept => {
                for member in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                    vary_on(&mut file.fields, member);
                }
            }
            _ if kept => file.fields.push(spelling, value),
            _ => {}
        }
    }
    if file.status == 304 {
        file.body = Body::Empty;
    }
}

/// Merges slashes and drops `.` segments; `None` when a segment climbs, even if it stays below the root.
fn resolved(mut path: Vec<u8>) -> Option<Vec<u8>> {
    if path.split(|&b| b == b'/').any(|segment| segment == b"..") {
        return None;
    }
    protocol::resolve(&mut path).ok()?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_field_that_is_kept() {
        let (_, setting) = config::gunicorn::settings::find("accel").unwrap();
        let mut kept = exchange::Fields::new();
        for name in KEPT {
            kept.push_known(name, b"");
        }
        for name in KEPT_BY_SPELLING {
            kept.push(name, b"");
        }
        for (_, name, _) in kept.iter() {
            let name = format!("`{}`", String::from_utf8_lossy(name)).to_ascii_lowercase();
            assert!(setting.doc.to_ascii_lowercase().contains(&name), "{name}");
        }
    }
}
