//! Responses that are made of the answers of several locations: `add_before_body`, `add_after_body`, and the pages of
//! `ssi`.
//!
//! A body that others are put into is gathered first, so that the worker that makes it is free to answer them.

use std::rc::Rc;

use exchange::{Method, Name, Request, Response};
use filters::nginx::{How, Types, charset_of};

use super::pieces::Pieces;
use super::subrequest::{Ask, Shown};
use super::visit::{Step, Visit};

impl Visit<'_, '_> {
    /// What the filters make of a response, and the answers that belong in it.
    ///
    /// # Errors
    /// Where `error_page` leads from what the filters refuse.
    pub(super) async fn compose(
        &mut self,
        request: &mut Request,
        mut response: Box<Response>,
    ) -> Result<Box<Response>, Step> {
        let how = self.how(&mut response);
        let place = Rc::clone(&self.place);
        let begun = place.filters.begin(request, &mut response, how, &mut self.eyes(request));
        let verdict = match begun {
            Err(verdict) => verdict,
            Ok(stage) => {
                let shown = Shown { charset: charset_of(&response.fields) };
                let page = self.is_page(&response);
                if let Some(ssi) = page {
                    self.run_response(request, &mut response, ssi, &shown).await;
                    if std::mem::take(&mut self.company().is_overlong) {
                        let response = self.special(request, 500);
                        return self.filter(request, response);
                    }
                }
                let added = self.add_bodies(request, &mut response, &shown).await;
                let composed = added || page.is_some();
                let how = How { ranges: how.ranges && !composed, ..how };
                let seen = self.watch_coding(&mut response);
                let verdict = place.filters.end(request, &mut response, how, stage, &mut self.eyes(request));
                self.note_coding(&response, seen);
                verdict
            }
        };
        self.conclude(request, response, how, verdict)
    }

    /// What the filters make of an answer that is part of a response.
    pub(super) async fn filter_inner(&mut self, inner: &mut Request, answer: &mut Response, shown: &Shown) {
        let _ = self.how(answer);
        let place = Rc::clone(&self.place);
        place.filters.apply_inner(inner, answer, shown.charset.as_deref(), &mut self.eyes(inner));
        if let Some(ssi) = self.is_page(answer) {
            self.run_body(inner, answer, ssi, shown).await;
        }
    }

    /// `add_before_body`, `add_after_body`; tells whether something was added.
    async fn add_bodies(&mut self, request: &Request, response: &mut Response, shown: &Shown) -> bool {
        let Some(addition) = self.settings().addition.as_deref() else { return false };
        if response.status != 200 || !takes(self.place.addition_types.as_ref(), response) {
            return false;
        }
        changed(response);
        filters::nginx::weaken(response);
        if request.method == Method::Head {
            // No length is made up that GET would not have.
            response.body = Pieces::of_unknown_length();
            return true;
        }
        // The response's own first: it may hold a worker that the others need.
        let own = Pieces::gather(std::mem::take(&mut response.body), self.event_loop).await;
        let before = self.part(request, &addition.before, shown).await;
        let after = self.part(request, &addition.after, shown).await;
        let mut pieces = before.unwrap_or_default();
        pieces.append(own);
        pieces.append(after.unwrap_or_default());
        pieces.into_response(response);
        true
    }

    /// What a location answers, to be put into the response.
    async fn part(&mut self, request: &Request, path: &[u8], shown: &Shown) -> Option<Pieces> {
        if path.is_empty() {
            return None;
        }
        let ask = Ask { shown: Some(shown.clone()), ..Ask::get(path.to_vec()) };
        let answer = self.ask(request, ask).await?;
        Some(Pieces::gather(answer.body, self.event_loop).await)
    }
}

/// Whether something is done to responses of this type.
pub(super) fn takes(types: Option<&Types>, response: &Response) -> bool {
    types.is_some_and(|types| types.take(&response.fields))
}

/// Takes away what is not true of a body any more into which something was put.
pub(super) fn changed(response: &mut Response) {
    response.fields.remove(Name::ContentLength);
    response.fields.remove(Name::AcceptRanges);
    response.of_file = None;
}
