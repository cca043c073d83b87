//! Why there is no certificate, sorted by what follows from it.

use std::io;

use crate::transport::TransportError;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The authority can't be reached, or has trouble of its own. Asking again soon costs nobody anything.
    #[error("{0}")]
    Unreachable(String),
    /// The authority wants to be left alone for a while.
    #[error("{text}")]
    Limited {
        /// Its words.
        text: String,
        /// Seconds that it asks for; `None`: it does not say.
        seconds: Option<u64>,
    },
    /// The authority refuses, and counts it.
    #[error("{0}")]
    Refused(String),
    /// The authority does not know the account.
    #[error("{0}")]
    NoAccount(String),
    /// Something on this side: a file, a hook, a setting.
    #[error("{0}")]
    Own(String),
}

/// A problem's type, of RFC 8555 §6.7.
const PREFIX: &str = "urn:ietf:params:acme:error:";

impl Failure {
    /// Sorts an error of the client's. `retry_after`: what the last response said, in seconds.
    pub(crate) fn of(error: &instant_acme::Error, retry_after: Option<u64>) -> Self {
        use instant_acme::Error;
        match error {
            Error::Api(problem) => Self::of_problem(problem, retry_after),
            Error::Other(other) => match other.downcast_ref::<TransportError>() {
                Some(error) => Self::of_transport(error, retry_after),
                None => Self::Refused(clean(&error.to_string())),
            },
            Error::Json(_) => {
                Self::Refused(format!("the authority's words make no sense: {}", clean(&error.to_string())))
            }
            _ => Self::Refused(clean(&error.to_string())),
        }
    }

    fn of_transport(error: &TransportError, retry_after: Option<u64>) -> Self {
        let text = error.to_string();
        match error {
            TransportError::Status(429) => Self::Limited { text, seconds: retry_after },
            TransportError::Status(500..) if retry_after.is_some() => {
                Self::Limited { text, seconds: retry_after }
            }
            TransportError::Address(_) | TransportError::Status(..500) => Self::Refused(text),
            _ => Self::Unreachable(text),
        }
    }

    pub(crate) fn of_problem(problem: &instant_acme::Problem, retry_after: Option<u64>) -> Self {
        let text = describe(problem);
        let kind = problem.r#type.as_deref().and_then(|kind| kind.strip_prefix(PREFIX)).unwrap_or_default();
        match (kind, problem.status.unwrap_or(0)) {
            ("rateLimited", _) | (_, 429) => Self::Limited { text, seconds: retry_after },
            (_, 503) if retry_after.is_some() => Self::Limited { text, seconds: retry_after },
            ("accountDoesNotExist", _) => Self::NoAccount(text),
            ("serverInternal" | "badNonce", _) | ("", 500..) => Self::Unreachable(text),
            _ => Self::Refused(text),
        }
    }

    /// Whether the authority took this nonce for a bad one, so that nothing has happened yet.
    pub(crate) fn is_bad_nonce(error: &instant_acme::Error) -> bool {
        matches!(error, instant_acme::Error::Api(problem)
            if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:badNonce"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Own(error.to_string())
    }
}

/// A problem in a line.
pub(crate) fn describe(problem: &instant_acme::Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("about:blank");
    let mut text = format!("{} ({})", problem.detail.as_deref().unwrap_or("no details"), kind);
    for sub in problem.subproblems.iter().take(10) {
        text.push_str("; ");
        if let Some(instant_acme::Identifier::Dns(name)) = &sub.identifier {
            text.push_str(name);
            text.push_str(": ");
        }
        text.push_str(sub.detail.as_deref().or(sub.r#type.as_deref()).unwrap_or("no details"));
    }
    clean(&text)
}

/// What somebody else has written, fit for one line of a log.
pub(crate) fn clean(text: &str) -> String {
    const MOST: usize = 1000;
    text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> instant_acme::Problem {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn problems_are_sorted_by_what_follows() {
        let limited =
            problem(r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many","status":429}"#);
        assert_eq!(
            Failure::of_problem(&limited, Some(7200)),
            Failure::Limited {
                text: "too many (urn:ietf:params:acme:error:rateLimited)".into(),
                seconds: Some(7200)
            }
        );
        let gone = problem(r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#);
        assert!(matches!(Failure::of_problem(&gone, None), Failure::NoAccount(_)));
        let refused = problem(r#"{"type":"urn:ietf:params:acme:error:caa","detail":"a\nb","status":403}"#);
        assert_eq!(
            Failure::of_problem(&refused, None),
            Failure::Refused("a b (urn:ietf:params:acme:error:caa)".into())
        );
        let trouble = problem(r#"{"type":"urn:ietf:params:acme:error:serverInternal","status":500}"#);
        assert!(matches!(Failure::of_problem(&trouble, None), Failure::Unreachable(_)));
        assert!(matches!(Failure::of_problem(&trouble, Some(1)), Failure::Unreachable(_)));
        let busy = problem(r#"{"type":"urn:ietf:params:acme:error:serverInternal","status":503}"#);
        assert!(matches!(Failure::of_problem(&busy, Some(9)), Failure::Limited { seconds: Some(9), .. }));
    }

    #[test]
    fn subproblems_are_told_with_their_names() {
        let text = describe(&problem(
            r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","subproblems":[
                {"type":"x","detail":"forbidden","identifier":{"type":"dns","value":"a.example"}}]}"#,
        ));
        assert!(text.ends_with("; a.example: forbidden"), "{text}");
    }
}
