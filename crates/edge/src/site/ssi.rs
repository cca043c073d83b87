//! `ssi`: pages whose commands put in what other locations answer, variables, and what depends on them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use config::model::http::{self as model, Ssi, Variable};
use exchange::{Chunk, Method, Name, Request, Response, StreamError};
use filters::nginx::ssi::{Command, Event, Parser};
use filters::nginx::weaken;
use routing::{Captures, Regex, State};
use telemetry::error_log::Level;

use super::compose::{changed, takes};
use super::pieces::Pieces;
use super::subrequest::{Ask, DEPTH, Shown};
use super::visit::Visit;

/// Bytes of a file that are read at once.
const BLOCK: u64 = 64 * 1024;
/// What begins a command.
const MARK: &[u8] = b"<!--#";
/// Bytes at most of a text when its variables are put in: `value="$a$a"` doubles what it is stored in.
const LONGEST: usize = 1024 * 1024;

/// What the pages of a request and of those within it have in common.
#[derive(Default)]
pub(super) struct Pages {
    variables: Vec<(Vec<u8>, Bytes)>,
    /// Texts for what has no answer, by their names.
    blocks: Vec<(Vec<u8>, Bytes)>,
    captures: Captures,
}

/// A command fails with words for the log.
type Outcome = Result<(), String>;

/// How `echo` writes values.
#[derive(Clone, Copy)]
enum Encoding {
    None,
    Url,
    Entity,
}

/// One page.
struct Page<'s> {
    settings: &'s Ssi,
    shown: Shown,
    encoding: Encoding,
    error: Bytes,
    /// What stands here is part of the page.
    output: bool,
    /// A branch of the `if` has been taken.
    chosen: bool,
    within: Within,
    /// The name of the block that stands here, and its text up to here.
    block: Option<(Vec<u8>, Vec<u8>)>,
}

impl Page<'_> {
    /// Text that is no part of the page may be part of a block.
    fn keep(&mut self, text: &[u8]) {
        if let Some((_, block)) = &mut self.block {
            block.extend_from_slice(text);
        }
    }
}

/// Where in an `if`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Nothing,
    If,
    Else,
}

impl<'s> Visit<'_, 's> {
    /// Whether commands are looked for in a response.
    pub(super) fn is_page(&self, response: &Response) -> Option<&'s Ssi> {
        let ssi = self.settings().ssi.as_deref()?;
        let is_empty = response.body.is_empty() && response.fields.first(Name::ContentLength).is_none();
        (!is_empty && takes(self.place.ssi_types.as_ref(), response)).then_some(ssi)
    }

    /// Runs the commands of the client's response.
    pub(super) async fn run_response(
        &mut self,
        request: &Request,
        response: &mut Response,
        ssi: &'s Ssi,
        shown: &Shown,
    ) {
        changed(response);
        if ssi.last_modified {
            weaken(response);
        } else {
            response.fields.remove(Name::LastModified);
            response.fields.remove(Name::ETag);
        }
        if request.method == Method::Head {
            // No length is made up that GET would not have.
            response.body = Pieces::of_unknown_length();
        } else {
            self.run_body(request, response, ssi, shown).await;
        }
    }

    /// Runs the commands of a body.
    pub(super) async fn run_body(
        &mut self,
        request: &Request,
        response: &mut Response,
        ssi: &'s Ssi,
        shown: &Shown,
    ) {
        let body = Pieces::gather(std::mem::take(&mut response.body), self.event_loop).await;
        let timefmt = self.facts.rare().timefmt.take();
        let page = self.run_page(request, ssi, shown.clone(), body).await;
        self.facts.rare().timefmt = timefmt;
        page.into_response(response);
    }

    async fn run_page(
        &mut self,
        request: &Request,
        settings: &'s Ssi,
        shown: Shown,
        mut body: Pieces,
    ) -> Pieces {
        let mut page = Page {
            settings,
            shown,
            encoding: Encoding::Entity,
            error: Bytes::from_static(b"[an error occurred while processing the directive]"),
            output: true,
            chosen: false,
            within: Within::Nothing,
            block: None,
        };
        let mut parser = Parser::new(usize::try_from(settings.value_length).unwrap_or(usize::MAX));
        let mut out = Pieces::default();
        let mut events = Vec::new();
        for chunk in body.take_chunks(&mut out) {
            match chunk {
                Chunk::Flush => {}
                Chunk::Data(data) => {
                    parser.feed(&data, &mut events);
                    self.handle(request, &mut page, &mut events, Source::Memory(&data), &mut out).await;
                }
                Chunk::File { file, mut start, mut len } => {
                    while len > 0 {
                        let mut block = vec![0; len.min(BLOCK) as usize];
                        if file.read_exact_at(&mut block, start).is_err() {
                            out.break_off(StreamError("the file was truncated while it was sent"));
                            return out;
                        }
                        parser.feed(&block, &mut events);
                        let source = Source::File { file: &file, start, block: &block };
                        self.handle(request, &mut page, &mut events, source, &mut out).await;
                        start += block.len() as u64;
                        len -= block.len() as u64;
                        // Others on this loop get their turn.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        parser.finish(&mut events);
        self.handle(request, &mut page, &mut events, Source::Memory(&Bytes::new()), &mut out).await;
        self.end_block(&mut page);
        out.append(body);
        out
    }

    async fn handle(
        &mut self,
        request: &Request,
        page: &mut Page<'s>,
        events: &mut Vec<Event>,
        source: Source<'_>,
        out: &mut Pieces,
    ) {
        for event in events.drain(..) {
            let failed = match event {
                Event::Held(count) if page.output => {
                    out.data(Bytes::from_static(&MARK[..count]));
                    continue;
                }
                Event::Held(count) => {
                    page.keep(&MARK[..count]);
                    continue;
                }
                Event::Text(range) if page.output => {
                    source.copy(range, page.settings.min_file_chunk, out);
                    continue;
                }
                Event::Text(range) => {
                    page.keep(&source.bytes()[range]);
                    continue;
                }
                Event::Command(command) => self.command(request, page, &command, out).await,
                Event::Error(words) => Err(words),
            };
            if let Err(words) = failed {
                self.facts.log(Level::Error, Some(request), format_args!("{words}"));
                if !page.settings.silent_errors {
                    out.data(page.error.clone());
                }
            }
        }
    }

    /// From here on the block is what others may have in place of an answer; the first of its name is.
    fn end_block(&mut self, page: &mut Page<'_>) {
        let Some((name, text)) = page.block.take() else { return };
        let blocks = &mut self.pages().blocks;
        if !blocks.iter().any(|(known, _)| *known == name) {
            blocks.push((name, text.into()));
        }
    }

    fn pages(&mut self) -> &mut Pages {
        self.company().pages.get_or_insert_default()
    }

    async fn command(
        &mut self,
        request: &Request,
        page: &mut Page<'s>,
        command: &Command,
        out: &mut Pieces,
    ) -> Outcome {
        let name = String::from_utf8_lossy(&command.name).into_owned();
        let Some((_, known)) = COMMANDS.iter().find(|(known, _)| known.as_bytes() == command.name) else {
            return if page.output { Err(format!("invalid SSI command: \"{name}\"")) } else { Ok(()) };
        };
        let conditional = matches!(&name[..], "elif" | "else" | "endif");
        if !page.output && name != "endblock" {
            if page.block.is_some() {
                page.keep(&command.text());
                return Ok(());
            }
            if !conditional {
                return Ok(());
            }
        }
        let is_late = page.within == Within::Else && name != "endif";
        if conditional && (page.within == Within::Nothing || is_late) {
            return Err(format!("invalid context of SSI command: \"{name}\""));
        }
        let given = Parameters::of(command, &name, known)?;
        match &name[..] {
            "include" => Box::pin(self.include(request, page, &given, out)).await,
            "echo" => {
                self.echo(request, page, &given, out);
                Ok(())
            }
            "config" => {
                if let Some(format) = given.get("timefmt") {
                    self.facts.rare().timefmt = Some(format.to_vec());
                }
                if let Some(text) = given.get("errmsg") {
                    page.error = Bytes::copy_from_slice(text);
                }
                Ok(())
            }
            "set" => {
                let value = self.evaluated(request, given.required("value"))?;
                self.store(given.required("var"), value.into());
                Ok(())
            }
            "if" if page.within != Within::Nothing => {
                Err("the \"if\" command inside the \"if\" command".to_owned())
            }
            "if" | "elif" => {
                page.output = !page.chosen && self.is_true(request, given.required("expr"))?;
                page.chosen |= page.output;
                page.within = Within::If;
                Ok(())
            }
            "else" => {
                page.output = !page.chosen;
                page.within = Within::Else;
                Ok(())
            }
            "endif" => {
                (page.output, page.chosen, page.within) = (true, false, Within::Nothing);
                Ok(())
            }
            "block" => {
                page.block = Some((given.required("name").to_vec(), Vec::new()));
                page.output = false;
                Ok(())
            }
            _ => {
                self.end_block(page);
                page.output = true;
                Ok(())
            }
        }
    }

    async fn include(
        &mut self,
        request: &Request,
        page: &Page<'s>,
        given: &Parameters<'_>,
        out: &mut Pieces,
    ) -> Outcome {
        let (path, file) = (given.get("virtual"), given.get("file"));
        let (set, stub) = (given.get("set"), given.get("stub"));
        let shown = |text: Option<&[u8]>| String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
        if path.is_some() && file.is_some() {
            let (path, file) = (shown(path), shown(file));
            return Err(format!("inclusion may be either virtual=\"{path}\" or file=\"{file}\""));
        }
        let Some(target) = path.or(file) else {
            return Err("no parameter in \"include\" SSI command".to_owned());
        };
        if set.is_some() && stub.is_some() {
            let words = "\"set\" and \"stub\" cannot be used together in \"include\" SSI command";
            return Err(words.to_owned());
        }
        // One answer is waited for after the other, whatever it says.
        if let Some(wait) = given.get("wait") {
            if file.is_some() {
                return Err(format!("\"wait\" cannot be used with file=\"{}\"", shown(file)));
            }
            if !wait.eq_ignore_ascii_case(b"yes") && !wait.eq_ignore_ascii_case(b"no") {
                return Err(format!("invalid value \"{}\" in the \"wait\" parameter", shown(Some(wait))));
            }
        }
        let has_variables = target.contains(&b'$');
        let mut target = self.evaluated(request, target)?;
        // Where all variables are empty nothing is meant, and not the page's own directory.
        let is_meant = !target.is_empty() || !has_variables;
        if is_meant && !target.starts_with(b"/") {
            let directory = request.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            target = [&request.path[..directory], &target].concat();
        }
        let Some((path, args)) = super::content::safe_target(&target) else {
            return Err(format!("unsafe URI \"{}\" was detected", shown(Some(&target))));
        };
        let block = match stub {
            None => None,
            Some(stub) => {
                let found = self.pages().blocks.iter().find(|(name, _)| name == stub);
                let Some((_, block)) = found else {
                    let stub = shown(Some(stub));
                    return Err(format!("\"stub\"=\"{stub}\" for \"include\" not found"));
                };
                Some(block.clone())
            }
        };
        let ask = Ask { args: args.unwrap_or_default(), shown: Some(page.shown.clone()), ..Ask::get(path) };
        let Some(answer) = self.ask(request, ask).await else {
            if self.company().client_left {
                return Ok(());
            }
            return Err("the subrequest of an \"include\" SSI command failed".to_owned());
        };
        let (status, failed) = (answer.status, self.company().failed);
        let answer = Pieces::gather(answer.body, self.event_loop).await;
        if let Some(variable) = set {
            let limit = self.company().answer_limit;
            let value = if status < 300 { answer.bytes(limit) } else { Some(Vec::new()) };
            let Some(value) = value else {
                self.store(variable, Bytes::new());
                self.company().is_overlong = true;
                return Err(format!("too big subrequest response for \"{}\"", shown(Some(variable))));
            };
            self.store(variable, value.into());
        } else if let Some(block) = block.filter(|_| failed || answer.is_empty()) {
            // One may include what has it as its stub.
            if self.company().stubs == DEPTH {
                return Err("the stubs of \"include\" SSI commands lead to each other in a circle".to_owned());
            }
            let mut text = Pieces::default();
            text.data(block);
            self.company().stubs += 1;
            let stub = self.run_page(request, page.settings, page.shown.clone(), text).await;
            self.company().stubs -= 1;
            out.append(stub);
        } else {
            out.append(answer);
        }
        Ok(())
    }

    fn echo(&mut self, request: &Request, page: &mut Page<'s>, given: &Parameters<'_>, out: &mut Pieces) {
        let value = self.variable(request, given.required("var"));
        let value = value.or_else(|| given.get("default").map(Bytes::copy_from_slice));
        let value = value.unwrap_or(Bytes::from_static(b"(none)"));
        if value.is_empty() {
            return;
        }
        match given.get("encoding") {
            None => {}
            Some(b"none") => page.encoding = Encoding::None,
            Some(b"url") => page.encoding = Encoding::Url,
            Some(b"entity") => page.encoding = Encoding::Entity,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                let what = format_args!("unknown encoding \"{other}\" in the \"echo\" command");
                self.facts.log(Level::Error, Some(request), what);
            }
        }
        out.data(page.encoding.write(value));
    }

    /// `$name`, `$name = text`, `$name != text`, `$name = /pattern/`.
    fn is_true(&mut self, request: &Request, expression: &[u8]) -> Result<bool, String> {
        let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"${}_\"'".contains(byte);
        let end = expression.iter().position(|byte| !in_name(byte)).unwrap_or(expression.len());
        let (left, rest) = expression.split_at(end);
        let left = self.evaluated(request, &left.to_ascii_lowercase())?;
        let rest = trim_spaces(rest);
        let (negated, right) = match rest {
            [] => return Ok(!left.is_empty()),
            [b'=', right @ ..] => (false, trim_spaces(right)),
            [b'!', b'=', right @ ..] => (true, trim_spaces(right)),
            _ => return Err(format!("invalid expression in \"{}\"", String::from_utf8_lossy(expression))),
        };
        let matches = match right {
            [b'/', pattern @ .., b'/'] => {
                let pattern = self.evaluated(request, pattern)?;
                self.matches(&pattern, &left)?
            }
            [b'/', _, ..] => {
                return Err(format!("invalid expression in \"{}\"", String::from_utf8_lossy(expression)));
            }
            [b'\\', text @ ..] if text.starts_with(b"/") => self.evaluated(request, text)? == left,
            text => self.evaluated(request, text)? == left,
        };
        Ok(matches != negated)
    }

    /// Whether a pattern matches; its groups become `$1` to `$9` and variables.
    fn matches(&mut self, pattern: &[u8], text: &[u8]) -> Result<bool, String> {
        let names = config::pattern::check(pattern).map_err(|error| error.to_string())?;
        let names: Vec<_> = names.into_iter().zip(0..).collect();
        let model = model::Regex { pattern: pattern.to_vec(), caseless: false, names: names.clone() };
        let regex = Regex::compile(&model).map_err(|error| error.to_string())?;
        let mut state = State::new();
        if !state.execute(&regex, text).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        for (name, id) in &names {
            let value = Bytes::copy_from_slice(state.stored(*id));
            self.store(name.as_bytes(), value);
        }
        self.pages().captures = state.captures().clone();
        Ok(true)
    }

    fn store(&mut self, name: &[u8], value: Bytes) {
        let name = name.to_ascii_lowercase();
        let pages = self.pages();
        match pages.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => pages.variables.push((name, value)),
        }
    }

    /// A variable of the pages, else of the request.
    fn variable(&mut self, request: &Request, name: &[u8]) -> Option<Bytes> {
        let name = name.to_ascii_lowercase();
        if let [digit @ b'1'..=b'9'] = name[..] {
            let group = self.pages().captures.group(digit - b'0');
            if !group.is_empty() {
                return Some(Bytes::copy_from_slice(group));
            }
        }
        if let Some((_, value)) = self.pages().variables.iter().find(|(known, _)| *known == name) {
            return Some(value.clone());
        }
        let name = std::str::from_utf8(&name).ok()?;
        let defined = self.site.http().defined.iter().position(|defined| defined.name == name);
        let defined = defined.map(|id| Variable::Defined(id as model::DefinedId));
        let value = defined.and_then(|variable| self.value_or_none(&variable, request));
        // What was not set in this request may be one of a family: `$http_x`.
        let value = match (value, Variable::built_in(name)) {
            (Some(value), _) if !value.is_empty() => Some(value),
            (value, Some(built_in)) => self.value_or_none(&built_in, request).or(value),
            (value, None) => value,
        };
        value.map(Bytes::from)
    }

    /// A text with its variables put in and its quotes taken off.
    fn evaluated(&mut self, request: &Request, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            rest = behind;
            match byte {
                b'\\' => {
                    let [quoted, behind @ ..] = rest else { break };
                    rest = behind;
                    if !b"\\'\"$".contains(quoted) {
                        out.push(b'\\');
                    }
                    out.push(*quoted);
                }
                b'$' => {
                    let is_braced = rest.starts_with(b"{");
                    let from = usize::from(is_braced);
                    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                    let length = rest[from..].iter().take_while(|byte| in_name(byte)).count();
                    let name = &rest[from..from + length];
                    rest = &rest[from + length..];
                    if is_braced {
                        rest = rest.strip_prefix(b"}").ok_or_else(|| {
                            let name = String::from_utf8_lossy(name);
                            format!("the closing bracket in \"{name}\" variable is missing")
                        })?;
                    }
                    if name.is_empty() {
                        let text = String::from_utf8_lossy(text);
                        return Err(format!("invalid variable name in \"{text}\""));
                    }
                    out.extend(self.variable(request, name).unwrap_or_default());
                }
                byte => out.push(*byte),
            }
            if out.len() > LONGEST {
                let text = String::from_utf8_lossy(text);
                return Err(format!("too long value of \"{text}\": more than {LONGEST} bytes"));
            }
        }
        Ok(out)
    }
}

/// Where the text of a page lies.
#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a Bytes),
    File { file: &'a Arc<File>, start: u64, block: &'a [u8] },
}

impl Source<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::File { block, .. } => block,
        }
    }

    /// Large parts of a file are sent from there.
    fn copy(self, range: Range<usize>, min_file_chunk: u64, out: &mut Pieces) {
        match self {
            Self::Memory(bytes) => out.data(bytes.slice(range)),
            Self::File { file, start, .. } if range.len() as u64 > min_file_chunk => {
                out.file(file, start + range.start as u64, range.len() as u64);
            }
            Self::File { block, .. } => out.data(Bytes::copy_from_slice(&block[range])),
        }
    }
}

impl Encoding {
    /// What needs no other spelling is not copied.
    fn write(self, value: Bytes) -> Bytes {
        let is_plain = match self {
            Self::None => true,
            Self::Url => value.iter().all(|byte| !is_escaped(*byte)),
            Self::Entity => !value.iter().any(|byte| b"<>&\"".contains(byte)),
        };
        if is_plain {
            return value;
        }
        let mut out = Vec::with_capacity(value.len());
        for &byte in &value {
            match (self, byte) {
                (Self::Entity, b'<') => out.extend_from_slice(b"&lt;"),
                (Self::Entity, b'>') => out.extend_from_slice(b"&gt;"),
                (Self::Entity, b'&') => out.extend_from_slice(b"&amp;"),
                (Self::Entity, b'"') => out.extend_from_slice(b"&quot;"),
                (Self::Url, _) if is_escaped(byte) => {
                    out.extend(format!("%{byte:02X}").into_bytes());
                }
                _ => out.push(byte),
            }
        }
        out.into()
    }
}

/// In a URL.
fn is_escaped(byte: u8) -> bool {
    !byte.is_ascii_graphic() || br#"#"%'<>\^`{|}"#.contains(&byte)
}

/// The commands, and which parameters each takes; those with an exclamation mark must be there.
const COMMANDS: [(&str, &[&str]); 10] = [
    ("include", &["virtual", "file", "wait", "set", "stub"]),
    ("echo", &["!var", "default", "encoding"]),
    ("config", &["timefmt", "errmsg"]),
    ("set", &["!var", "!value"]),
    ("if", &["!expr"]),
    ("elif", &["!expr"]),
    ("else", &[]),
    ("endif", &[]),
    ("block", &["!name"]),
    ("endblock", &[]),
];

/// The parameters of a command, which are among those that it takes.
struct Parameters<'c>(Vec<(&'c [u8], &'c [u8])>);

impl<'c> Parameters<'c> {
    fn of(command: &'c Command, name: &str, known: &[&str]) -> Result<Self, String> {
        /// More than any command takes.
        const MOST: usize = 16;
        if command.parameters.len() > MOST {
            return Err(format!("too many SSI command parameters: \"{name}\""));
        }
        let mut given: Vec<(&[u8], &[u8])> = Vec::with_capacity(command.parameters.len());
        for (parameter, value) in &command.parameters {
            let shown = || String::from_utf8_lossy(parameter);
            if !known.iter().any(|known| known.trim_start_matches('!').as_bytes() == parameter) {
                return Err(format!("invalid parameter name: \"{}\" in \"{name}\" SSI command", shown()));
            }
            if given.iter().any(|(there, _)| there == parameter) {
                return Err(format!("duplicate \"{}\" parameter in \"{name}\" SSI command", shown()));
            }
            given.push((parameter, value));
        }
        let given = Self(given);
        for required in known.iter().filter_map(|known| known.strip_prefix('!')) {
            if given.get(required).is_none() {
                return Err(format!(
                    "mandatory \"{required}\" parameter is absent in \"{name}\" SSI command"
                ));
            }
        }
        Ok(given)
    }

    fn get(&self, name: &str) -> Option<&'c [u8]> {
        self.0.iter().find(|(given, _)| *given == name.as_bytes()).map(|(_, value)| *value)
    }

    /// One that was looked for when the parameters were read.
    fn required(&self, name: &str) -> &'c [u8] {
        self.get(name).unwrap_or_default()
    }
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| **byte == b' ').count()..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_by_their_encoding() {
        let text = Bytes::from_static(b"a<b> &\"'%\xff");
        assert_eq!(Encoding::None.write(text.clone()), text);
        assert_eq!(Encoding::Entity.write(text.clone()), &b"a&lt;b&gt; &amp;&quot;'%\xff"[..]);
        assert_eq!(Encoding::Url.write(text), &b"a%3Cb%3E%20&%22%27%25%FF"[..]);
    }

    #[test]
    fn what_needs_no_other_spelling_is_not_copied() {
        let text = Bytes::from_static(b"a-b");
        for encoding in [Encoding::None, Encoding::Entity, Encoding::Url] {
            assert_eq!(encoding.write(text.clone()).as_ptr(), text.as_ptr());
        }
    }

    #[test]
    fn parameters_are_those_of_the_command() {
        let of = |given: &[(&str, &str)]| {
            let parameters = given.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()));
            let command = Command { name: b"set".to_vec(), parameters: parameters.collect() };
            Parameters::of(&command, "set", COMMANDS[3].1).map(|_| ())
        };
        assert_eq!(of(&[("var", "a"), ("value", "b")]), Ok(()));
        for (given, words) in [
            (&[("var", "a")][..], "mandatory \"value\" parameter is absent in \"set\" SSI command"),
            (&[("x", "a")], "invalid parameter name: \"x\" in \"set\" SSI command"),
            (&[("var", "a"), ("var", "b")], "duplicate \"var\" parameter in \"set\" SSI command"),
        ] {
            assert_eq!(of(given), Err(words.to_owned()));
        }
    }
}
