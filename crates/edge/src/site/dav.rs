//! `dav_methods`: what changes files.

use std::path::Path;
use std::time::Instant;

use config::model::Symlinks;
use config::model::http::Dav;
use exchange::{Method, Name, Request, Response, parse_http_date};
use handlers::dav::{self, Access, Failed, Transfer};
use handlers::files::by_path::Kind;
use routing::escape::{Escape, escape};

use super::content::safe_target;
use super::facts::level;
use super::visit::{Step, Visit};

impl Visit<'_, '_> {
    /// Does what the method asks for; `None` if it is none of those that are on.
    pub(super) async fn dav(&mut self, request: &Request) -> Option<Step> {
        let dav = self.settings().dav.as_deref()?;
        let done = match &request.method {
            Method::Put if dav.put => self.put(request, dav).await,
            Method::Delete if dav.delete => self.delete(request, dav).await,
            Method::Other(method) => match &**method {
                b"MKCOL" if dav.mkcol => self.make_collection(request, dav).await,
                b"COPY" if dav.copy => self.transfer(request, dav, false).await,
                b"MOVE" if dav.moves => self.transfer(request, dav, true).await,
                _ => return None,
            },
            _ => return None,
        };
        Some(match done {
            Ok(step) => step,
            Err(Failed { status, level: at, words }) => {
                self.facts.log(level(at), Some(request), format_args!("{words}"));
                Step::Page(status)
            }
        })
    }

    async fn put(&mut self, request: &Request, dav: &Dav) -> Result<Step, Failed> {
        if request.path.ends_with(b"/") {
            return Err(Failed::refused(409, "cannot PUT to a collection"));
        }
        if request.fields.has(Name::ContentRange) {
            return Err(Failed::refused(501, "PUT with range is unsupported"));
        }
        // Who forgets the body does not mean an empty file.
        if !request.has_body() && !request.fields.has(Name::ContentLength) {
            return Err(Failed::refused(411, "client sent PUT without a body or its length"));
        }
        let path = self.dav_path(request, &request.path)?;
        let body = match self.take_body(request).await {
            Ok(body) => body,
            Err(step) => return Ok(step),
        };
        let modified = request.fields.first(Name::Date).and_then(parse_http_date);
        let (access, full_path) = (Access { mode: dav.access }, dav.full_path);
        let (put, body) = blocking(move || {
            let put = dav::put(&dav::path_of(&path), &body, access, full_path, modified);
            (put, body)
        })
        .await?;
        // A copy of the request may need it.
        if let Some(company) = &mut self.company {
            company.body = Some(body);
        }
        Ok(if put? { self.created(request) } else { Step::respond(Response::new(204)) })
    }

    async fn delete(&mut self, request: &Request, dav: &Dav) -> Result<Step, Failed> {
        without_body(request, "DELETE with body is unsupported")?;
        let depth = request.path.split(|byte| *byte == b'/').count() - 1;
        // A slash at the end goes no deeper.
        let depth = depth - usize::from(request.path.ends_with(b"/"));
        if (depth as u64) < dav.min_delete_depth {
            return Err(Failed::refused(409, format!("insufficient URI depth:{depth} to DELETE")));
        }
        let path = self.dav_path(request, &request.path)?;
        let is_slashed = request.path.ends_with(b"/");
        let asked = depth_of(request)?;
        blocking(move || {
            let path = dav::path_of(path.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(&path));
            let is_collection = dav::is_collection(&path, 404)?;
            if is_collection != is_slashed {
                return Err(Failed::refused(409, format!("DELETE \"{}\" failed", path.display())));
            }
            if is_collection && asked.is_some_and(|depth| depth != Depth::Infinity) {
                return Err(Failed::refused(400, "\"Depth\" header must be infinity"));
            }
            if !is_collection && asked == Some(Depth::One) {
                return Err(Failed::refused(400, "\"Depth\" header must be 0 or infinity"));
            }
            dav::delete(&path, is_collection)
        })
        .await??;
        Ok(Step::respond(Response::new(204)))
    }

    async fn make_collection(&mut self, request: &Request, dav: &Dav) -> Result<Step, Failed> {
        without_body(request, "MKCOL with body is unsupported")?;
        if !request.path.ends_with(b"/") {
            return Err(Failed::refused(409, "MKCOL can create a collection only"));
        }
        let path = self.dav_path(request, &request.path)?;
        let access = Access { mode: dav.access };
        blocking(move || dav::make_collection(&dav::path_of(&path[..path.len() - 1]), access)).await??;
        Ok(self.created(request))
    }

    async fn transfer(&mut self, request: &Request, dav: &Dav, moves: bool) -> Result<Step, Failed> {
        without_body(request, "COPY and MOVE with body are unsupported")?;
        let destination = self.destination(request)?;
        let collection = request.path.ends_with(b"/");
        let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        if collection != destination.ends_with(b"/") {
            let (path, to) = (shown(&request.path), shown(&destination));
            let words = format!(
                "both URI \"{path}\" and \"Destination\" URI \"{to}\" should be either collections or non-collections"
            );
            return Err(Failed::refused(409, words));
        }
        match depth_of(request)? {
            None | Some(Depth::Infinity) => {}
            Some(Depth::Zero) if !moves => {}
            Some(_) if moves => return Err(Failed::refused(400, "\"Depth\" header must be infinity")),
            Some(_) => return Err(Failed::refused(400, "\"Depth\" header must be 0 or infinity")),
        }
        let overwrite = match request.fields.named(b"overwrite") {
            None | Some(b"T" | b"t") => true,
            Some(b"F" | b"f") => false,
            Some(other) => {
                let words = format!("client sent invalid \"Overwrite\" header: \"{}\"", shown(other));
                return Err(Failed::refused(400, words));
            }
        };
        let from = self.dav_path(request, &request.path)?;
        let to = self.dav_path(request, &destination)?;
        let plain = |path: &[u8]| dav::path_of(path.strip_suffix(b"/").unwrap_or(path));
        let (from, to) = (plain(&from), plain(&to));
        if from == to {
            let words = format!(
                "both URI \"{}\" and \"Destination\" URI \"{}\" point to the same location",
                shown(&request.path),
                shown(&destination)
            );
            return Err(Failed::refused(403, words));
        }
        if collection && (from.starts_with(&to) || to.starts_with(&from)) {
            let words = format!("\"{}\" cannot be put into itself or around it", shown(&request.path));
            return Err(Failed::refused(403, words));
        }
        let access = Access { mode: dav.access };
        let transfer = Transfer { from, to, collection, moves, overwrite, access };
        let status = blocking(move || transfer.run()).await??;
        Ok(Step::respond(Response::new(status)))
    }

    /// The path that `Destination` names, on this server.
    fn destination(&self, request: &Request) -> Result<Vec<u8>, Failed> {
        let Some(given) = request.fields.named(b"destination") else {
            return Err(Failed::refused(400, "client sent no \"Destination\" header"));
        };
        let shown = String::from_utf8_lossy(given);
        let invalid =
            || Failed::refused(400, format!("client sent invalid \"Destination\" header: \"{shown}\""));
        let target = if given.starts_with(b"/") {
            given
        } else {
            let scheme = [request.scheme.as_str().as_bytes(), b"://"].concat();
            let rest = given.strip_prefix(&scheme[..]).ok_or_else(invalid)?;
            let slash = rest.iter().position(|byte| *byte == b'/').ok_or_else(invalid)?;
            let (authority, target) = rest.split_at(slash);
            // Any port is this server's, as in nginx: it may be another one in front of it.
            let host = self.facts.host.borrow();
            let (name, port) = authority.split_at(host.len().min(authority.len()));
            let has_port =
                port.is_empty() || (port.starts_with(b":") && port[1..].iter().all(u8::is_ascii_digit));
            if request.authority.is_empty() || !has_port || !name.eq_ignore_ascii_case(&host) {
                let words = format!(
                    "\"Destination\" URI \"{shown}\" is handled by different repository than the source URI"
                );
                return Err(Failed::refused(400, words));
            }
            target
        };
        let (path, _) = safe_target(target).ok_or_else(invalid)?;
        // What an `alias` replaces must be there to be replaced.
        let (_, replaced) = self.facts.root();
        let prefix = request.path.get(..replaced);
        if prefix.is_some() && path.get(..replaced) != prefix {
            return Err(invalid());
        }
        Ok(path)
    }

    /// The path in the file system, if no link that `disable_symlinks` forbids leads to it.
    fn dav_path(&mut self, request: &Request, path: &[u8]) -> Result<Vec<u8>, Failed> {
        let path = self.file_of(request, path);
        if path.is_empty() {
            return Err(Failed::refused(403, "there is no file for this path"));
        }
        if self.settings().symlinks != Symlinks::Follow {
            let place = std::rc::Rc::clone(&self.place);
            let whole = dav::path_of(path.strip_suffix(b"/").unwrap_or(&path));
            let there = whole.parent().into_iter().flat_map(Path::ancestors);
            if let Some(there) = there.into_iter().find(|path| std::fs::symlink_metadata(path).is_ok()) {
                use std::os::unix::ffi::OsStrExt;
                let bytes = there.as_os_str().as_bytes();
                let found = place.files.probe(bytes, Instant::now(), &mut self.eyes(request));
                if found.is_none_or(|found| found.kind != Kind::Directory) {
                    let words = format!("symbolic links lead to \"{}\"", whole.display());
                    return Err(Failed::refused(403, words));
                }
            }
        }
        Ok(path)
    }

    fn created(&self, request: &Request) -> Step {
        let mut location = Vec::new();
        escape(&request.path, Escape::Uri, &mut location);
        if self.settings().absolute_redirect {
            location = self.absolute(request, &location);
        }
        let mut response = Response::new(201);
        response.fields.push_known(Name::Location, &location);
        Step::respond(response)
    }
}

/// Files may be slow: others on this loop do not wait for them.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Failed {
        status: 500,
        level: config::model::http::LogLevel::Crit,
        words: error.to_string(),
    })
}

fn without_body(request: &Request, words: &str) -> Result<(), Failed> {
    if request.has_body() { Err(Failed::refused(415, words)) } else { Ok(()) }
}

/// `Depth`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Zero,
    One,
    Infinity,
}

fn depth_of(request: &Request) -> Result<Option<Depth>, Failed> {
    Ok(Some(match request.fields.named(b"depth") {
        None => return Ok(None),
        Some(b"0") => Depth::Zero,
        Some(b"1") => Depth::One,
        Some(b"infinity") => Depth::Infinity,
        Some(other) => {
            let words =
                format!("client sent invalid \"Depth\" header: \"{}\"", String::from_utf8_lossy(other));
            return Err(Failed::refused(400, words));
        }
    }))
}
