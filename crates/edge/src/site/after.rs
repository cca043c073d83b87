//! What is done when the response has left: copies of the request (`mirror`) and `post_action`. Nobody waits for them
//! but the next request on the connection.

use std::rc::Rc;

use buffering::BufferedBody;
use exchange::{Method, Request};
use protocol::Sent as Written;

use super::facts::Left;
use super::ssi::Pages;
use super::subrequest::Ask;
use super::visit::{Step, Visit};

/// What few requests need.
#[derive(Default)]
pub struct Company {
    /// What `ssi` knows.
    pub(super) pages: Option<Pages>,
    /// Requests that were asked within the client's.
    pub(super) asked: u32,
    /// The request that is served is answered by a page that the configuration does not have.
    pub(super) made_page: bool,
    /// In place of the last answer there is a page for an error, one of `error_page` or one that was made.
    pub(super) failed: bool,
    /// What `auth_request_set` says that the arguments are.
    pub(super) args: Option<Vec<u8>>,
    /// Stubs of `ssi` that are run within each other.
    pub(super) stubs: u32,
    /// Bytes that the last answer may have where it becomes a variable: `subrequest_output_buffer_size`.
    pub(super) answer_limit: u64,
    /// One was longer, so that there is no response to make.
    pub(super) is_overlong: bool,
    /// The client left while one was waited for, so that nobody is left to answer.
    pub(super) client_left: bool,
    /// The client's body, once it is there and somebody else may need it.
    pub(super) body: Option<BufferedBody>,
    /// What follows a response 101.
    pub(super) tunnel: Option<super::proxy::Tunnel>,
    /// What is fetched anew when the response has left.
    pub(super) renewals: Vec<super::kept::Renewal>,
    /// The request that is served is one of them.
    pub(super) renewal: Option<Box<(cache::Ticket, std::sync::Arc<cache::Stored>)>>,
    mirrors: Vec<Mirror>,
    post_action: Option<Vec<u8>>,
}

/// A copy of the request, as it was where `mirror` stands.
pub(super) struct Mirror {
    path: Vec<u8>,
    args: Vec<u8>,
    method: Method,
    body: bool,
}

impl Visit<'_, '_> {
    /// `mirror`: remembers whom to ask, and keeps the body for it.
    pub(super) async fn mirror(&mut self, request: &Request) -> Option<Step> {
        let mirror = self.settings().mirror.as_deref()?;
        if mirror.body && request.has_body() && self.company().body.is_none() {
            match self.read_body(request).await {
                Ok(body) => self.company().body = Some(body),
                Err(step) => return Some(step),
            }
        }
        let mirrors = mirror.paths.iter().map(|path| Mirror {
            path: path.clone(),
            args: request.query.clone(),
            method: request.method.clone(),
            body: mirror.body,
        });
        self.company().mirrors.extend(mirrors);
        None
    }

    /// What is to be done once the response has left.
    pub(super) fn take_after(&mut self) -> Option<Box<Company>> {
        if let Some(path) = &self.settings().post_action {
            self.company().post_action = Some(path.clone());
        }
        let has_more = |company: &Company| {
            !company.mirrors.is_empty()
                || company.post_action.is_some()
                || company.tunnel.is_some()
                || !company.renewals.is_empty()
        };
        self.company.take().filter(|company| has_more(company))
    }

    /// Where things are that few requests need.
    pub(super) fn company(&mut self) -> &mut Company {
        self.company.get_or_insert_default()
    }

    /// Whether something is to be done once the response has left.
    pub fn has_after(&self) -> bool {
        self.after.is_some()
    }

    /// What follows a response 101.
    pub fn take_tunnel(&mut self) -> Option<super::proxy::Tunnel> {
        self.after.as_mut()?.tunnel.take()
    }

    /// Trailers whose values are to be read when the body has ended.
    pub fn take_trailers(&mut self) -> Option<Rc<filters::nginx::AtEnd>> {
        self.facts.rare.get_mut().as_mut()?.at_end.take()
    }

    /// Does it. `written` is what became of the response.
    pub async fn do_after(&mut self, request: &Request, status: u16, written: Option<&Written>) {
        let Some(mut after) = self.after.take() else { return };
        self.facts.rare().sent = Some(Left {
            status,
            body: written.map_or(0, |written| written.body),
            all: written.map_or(0, |written| written.body + written.head),
            whole: written.is_some_and(|written| written.outcome.is_ok()),
        });
        self.begin_again();
        let (mirrors, post_action) = (std::mem::take(&mut after.mirrors), after.post_action.take());
        let renewals = std::mem::take(&mut after.renewals);
        let has_body = after.body.is_some();
        after.client_left = false;
        self.company = Some(after);
        // Whether the client is still there does not matter any more.
        self.alone = true;
        for renewal in renewals {
            self.renew(renewal).await;
        }
        for Mirror { path, args, method, body } in mirrors {
            let ask = Ask { args, method: Some(method), body: body && has_body, ..Ask::get(path) };
            self.ask(request, ask).await;
        }
        if let Some(path) = post_action {
            let method = Some(request.method.clone());
            self.ask(request, Ask { method, body: has_body, ..Ask::get(path) }).await;
        }
    }
}
