//! A message as a line.

use std::fmt::{self, Write as _};

use super::Level;
use crate::{clock, escape};

/// No line of nginx's form is longer; its end gives way, as in nginx.
const MOST: usize = 2048;

/// Whose connection and request a message is about. What is `None` is not mentioned; all of it may come from clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Which error log: an index into [`Logs::others`](super::Logs), as
    /// [`Settings::error_log`](config::model::http::Settings) has it; `None` is the main one.
    pub log: Option<u32>,
    /// It is a client about whom everything is written, whatever the level.
    pub debug: bool,
    /// The connection's number; 0 is not mentioned.
    pub connection: u64,
    /// What was going on, as in `while reading response header from upstream`: what follows the `while`.
    pub action: Option<&'static str>,
    /// The client's address.
    pub client: Option<&'a [u8]>,
    /// The server's name.
    pub server: Option<&'a [u8]>,
    /// The request line.
    pub request: Option<&'a [u8]>,
    /// The path that is asked within the request.
    pub subrequest: Option<&'a [u8]>,
    /// Who was to answer.
    pub upstream: Option<&'a [u8]>,
    /// The request's `Host`.
    pub host: Option<&'a [u8]>,
    /// The request's `Referer`.
    pub referrer: Option<&'a [u8]>,
}

/// `[2026-11-23 09:43:00 +0000] [PID] [LEVEL] message`
pub(super) fn gunicorn(
    second: i64,
    pid: u32,
    level: Level,
    context: Option<&Context<'_>>,
    message: fmt::Arguments<'_>,
    block: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + block.map_or(0, str::len));
    out.extend_from_slice(&clock::written(second).error);
    text(&mut out, format_args!(" [{pid}] [{}] ", level.gunicorn()));
    escaped(&mut out, message);
    if let Some(context) = context {
        append(&mut out, context);
    }
    finish(&mut out, block);
    out
}

/// `2026/11/23 09:43:00 [error] PID#TID: *7 message, client: 192.0.2.1, server: x, request: "GET / HTTP/1.1"`
pub(super) fn nginx(
    second: i64,
    (pid, thread): (u32, i32),
    level: Level,
    context: Option<&Context<'_>>,
    message: fmt::Arguments<'_>,
    block: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + block.map_or(0, str::len));
    out.extend_from_slice(&clock::written(second).nginx_error);
    text(&mut out, format_args!(" [{}] {pid}#{thread}: ", level.nginx()));
    if let Some(Context { connection: connection @ 1.., .. }) = context {
        text(&mut out, format_args!("*{connection} "));
    }
    escaped(&mut out, message);
    // Messages for whoever looks for a defect follow each other closely: the connection's number is enough.
    if let Some(context) = context.filter(|_| level > Level::Debug) {
        append(&mut out, context);
    }
    if out.len() >= MOST {
        // Not within a character.
        let end = (0..MOST).rev().find(|&at| out[at] & 0xC0 != 0x80).unwrap_or_default();
        out.truncate(end);
    }
    finish(&mut out, block);
    out
}

/// In nginx's order.
fn append(out: &mut Vec<u8>, context: &Context<'_>) {
    if let Some(action) = context.action {
        out.extend_from_slice(b" while ");
        out.extend_from_slice(action.as_bytes());
    }
    for (name, value) in [(", client: ", context.client), (", server: ", context.server)] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            escape::nginx(out, value);
        }
    }
    for (name, value) in [
        (", request: \"", context.request),
        (", subrequest: \"", context.subrequest),
        (", upstream: \"", context.upstream),
        (", host: \"", context.host),
        (", referrer: \"", context.referrer),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            escape::nginx(out, value);
            out.push(b'"');
        }
    }
}

fn finish(out: &mut Vec<u8>, block: Option<&str>) {
    if let Some(block) = block {
        out.push(b'\n');
        escape::message(out, block.trim_end_matches(['\n', '\r']), true);
    }
    out.push(b'\n');
}

fn escaped(out: &mut Vec<u8>, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => escape::message(out, text, false),
        None => escape::message(out, &message.to_string(), false),
    }
}

fn text(out: &mut Vec<u8>, what: fmt::Arguments<'_>) {
    let mut text = String::new();
    // A write to a string cannot fail.
    let _ = text.write_fmt(what);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
