//! `require` of a `match`: variables that say something of the answer to a health check.

use std::rc::Rc;

use bytes::Bytes;
use config::model::http::{FileTest, Http, Root, Value, Variable};
use exchange::Request;
use routing::{Environment, Scope, State, Variables};
use telemetry::error_log::{self, Level};
use upstream::Attempt;

use crate::site::Asked;

/// What must be neither empty nor `0`.
pub struct Require {
    values: Vec<Value>,
    variables: Variables,
}

impl Require {
    pub fn compile(values: &[Value], http: &Http) -> Result<Self, String> {
        let defined = if values.is_empty() { &[][..] } else { &http.defined };
        let variables = Variables::compile(defined).map_err(|error| error.to_string())?;
        Ok(Self { values: values.to_vec(), variables })
    }

    /// The error says what does not hold of an answer that has this head.
    pub fn holds(&self, attempt: Rc<Attempt>, head: Bytes) -> Result<(), String> {
        if self.values.is_empty() {
            return Ok(());
        }
        let answer = Answered(Asked { attempts: vec![(true, attempt)], head, ..Asked::default() });
        let request = Request::default();
        let scope = Scope { request: &request, environment: &answer };
        let (mut state, mut text) = (State::new(), Vec::new());
        for value in &self.values {
            text.clear();
            self.variables.evaluate(value, &mut state, scope, &mut text);
            if text.is_empty() || text == b"0" {
                return Err("a variable of \"require\"".to_owned());
            }
        }
        Ok(())
    }
}

/// What is known: there is no client, and no request of one.
struct Answered(Asked);

impl Environment for Answered {
    fn root(&self) -> Option<(&Root, usize)> {
        None
    }

    fn prefix(&self) -> &[u8] {
        b""
    }

    fn variable(&self, variable: &Variable, _: &Request, out: &mut Vec<u8>) -> bool {
        let variable = if *variable == Variable::Status { &Variable::UpstreamStatus } else { variable };
        self.0.variable(variable, out)
    }

    fn made(&self, _: &Variable, _: &Request, _: &mut dyn FnMut(&Value) -> Vec<u8>, _: &mut Vec<u8>) -> bool {
        false
    }

    fn set(&self, _: &Variable, _: &[u8]) {}

    fn file(&self, _: &[u8], _: FileTest, _: &mut dyn FnMut(&Value) -> Vec<u8>) -> bool {
        false
    }

    fn error(&self, message: &str) {
        error_log::write(Level::Error, format_args!("{message}"));
    }
}
