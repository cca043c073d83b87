//! Transform a response, in one fixed order: not-modified, compress.
//!
//! Compression beside secrets: a page that shows both a secret (a CSRF token) and what the requester sent can
//! be made to betray the secret by its compressed length (BREACH). Django masks its tokens anew for every
//! response and is safe; other applications send `Cache-Control: no-transform` or leave the type out.
#![forbid(unsafe_code)]

mod compress;
mod encoder;
mod forms;
pub mod nginx;
mod not_modified;
mod stream;

pub use compress::{CompressOptions, Levels};

use std::rc::Rc;

use exchange::{Request, Response};

use compress::Compress;

/// The filters of one configuration, on one thread.
#[derive(Debug, Default)]
pub struct Filters {
    compress: Option<Rc<Compress>>,
}

impl Filters {
    /// `compress` is `None` where compression is off.
    pub fn new(compress: Option<CompressOptions>) -> Self {
        Self { compress: compress.map(|options| Rc::new(Compress::new(options))) }
    }

    /// Passes a response through all filters. The body of an answer to HEAD must be what GET would have had,
    /// or empty.
    pub fn apply(&self, request: &Request, response: &mut Response) {
        let plan = self.compress.as_ref().and_then(|compress| compress.plan(request, response));
        let verdict = not_modified::evaluate(request, response);
        if let (Some(compress), Some(plan)) = (&self.compress, plan) {
            compress::mark(response, plan);
            if not_modified::goes_on(verdict) {
                compress.run(request, response, plan);
            }
        }
        not_modified::apply(verdict, response);
    }
}

#[cfg(test)]
mod tests;
