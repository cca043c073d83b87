//! The client's body, for whoever makes the response of it.

use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use buffering::{BufferedBody, Named, SpilledBody};
use config::model::http::BodyFile;
use exchange::{Method, Request};
use telemetry::error_log::Level;

use super::visit::{Step, Visit};
use crate::intake;

impl Visit<'_, '_> {
    /// The client's body where there is none: nothing has to be waited for.
    pub(super) fn no_body(&self, request: &Request) -> Option<BufferedBody> {
        if request.has_body() {
            return None;
        }
        self.note_body(&BufferedBody::Empty);
        Some(BufferedBody::Empty)
    }

    /// The client's body, read if it was not yet.
    pub(super) async fn take_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let known = self.company.as_mut().filter(|_| request.has_body()).and_then(|c| c.body.take());
        let body = match known {
            Some(body) => body,
            // A page of `error_page` is asked for with a GET of its own, which has no use for it.
            None if self.facts.body_spent.get() && request.is_asked_with(&Method::Get) => BufferedBody::Empty,
            None if request.has_body() && self.facts.body_spent.get() => {
                let what = "the body was passed on as it came, and cannot be passed on again";
                self.facts.log(Level::Error, Some(request), format_args!("{what}"));
                return Err(Step::Page(500));
            }
            None => self.read_body(request).await?,
        };
        self.note_body(&body);
        if request.content_length.is_none() {
            self.facts.found_length.set(Some(body.len()));
        }
        Ok(body)
    }

    /// Leaves the client's body to whoever needs it after this step: a page of `error_page`, a named location, a copy of
    /// the request, `post_action`.
    pub(super) fn keep_body(&mut self, body: BufferedBody, step: &Step) {
        let is_needed = self.company.is_some()
            || !matches!(step, Step::Respond(_))
            || self.settings().post_action.is_some();
        if is_needed {
            self.company().body = Some(body);
        }
    }

    /// For the variables that tell of it.
    pub(super) fn note_body(&self, body: &BufferedBody) {
        self.facts.body_length.set(body.len());
        match body {
            BufferedBody::Empty => {}
            BufferedBody::Memory(bytes) => *self.facts.body.borrow_mut() = Some(bytes.clone()),
            BufferedBody::File(file) => {
                self.facts.rare().body_file = Some(file.path().as_os_str().as_bytes().into());
            }
        }
    }

    /// Reads the client's body.
    pub(super) async fn read_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let memory = usize::try_from(self.settings().body_buffer).unwrap_or(usize::MAX);
        let named = self.settings().body_in_file.map(|file| match file {
            BodyFile::Keep => Named::Keep,
            BodyFile::Clean => Named::Remove,
        });
        let h1 = Rc::clone(&self.place.h1);
        match intake::buffer_body(self.event_loop, &mut self.exchange, request, memory, named, &h1).await {
            Ok(body) => {
                if let BufferedBody::File(file) = &body {
                    self.log_spilled(request, file, named.is_some());
                }
                Ok(body)
            }
            Err(intake::BodyFailure { status: Some(status), mut words, .. }) => {
                if status == 413 {
                    let limit = h1.max_body.unwrap_or_default();
                    words = format!(
                        "client intended to send too large chunked body: client_max_body_size is {limit} bytes"
                    );
                }
                self.facts.log(Level::Error, Some(request), format_args!("{words}"));
                self.exchange.close_after();
                Err(Step::Page(status))
            }
            Err(_) => {
                let words = format_args!("client prematurely closed connection");
                self.facts.log(Level::Info, Some(request), words);
                self.unanswered = 400;
                Err(Step::Gone)
            }
        }
    }

    /// Says that the client's body is in a file; which, if it has a name.
    fn log_spilled(&self, request: &Request, file: &SpilledBody, is_named: bool) {
        let path = file.path();
        let (level, at, path) = match path.parent() {
            Some(directory) if !is_named => (Level::Warning, "in ", directory),
            _ => (Level::Notice, "", path),
        };
        let path = path.display();
        let words = format_args!("a client request body is buffered to a temporary file {at}{path}");
        self.facts.log(level, Some(request), words);
    }
}
