//! The language of server-side includes: finds `<!--# command name="value" … -->` in a text that comes in pieces.
//!
//! Who runs the commands is no filter's affair: they ask other locations.

use std::ops::Range;

/// What begins a command.
const MARK: &[u8; 5] = b"<!--#";
/// Letters of a command's name, and of a parameter's.
const NAME: usize = 32;

/// A part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// These bytes of the piece are text.
    Text(Range<usize>),
    /// So many bytes of what begins a command, from pieces before, were text after all.
    Held(usize),
    /// A command.
    Command(Command),
    /// What began as one and is none; the words are for the log.
    Error(String),
}

/// A command and its parameters, in their order. Backslashes stand before what they quote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: Vec<u8>,
    /// Names and values.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Command {
    /// The text that it could have been read from.
    pub fn text(&self) -> Vec<u8> {
        let mut text = MARK.to_vec();
        text.extend_from_slice(&self.name);
        for (name, value) in &self.parameters {
            text.push(b' ');
            text.extend_from_slice(name);
            text.extend_from_slice(b"=\"");
            text.extend_from_slice(value);
            text.push(b'"');
        }
        text.extend_from_slice(b" -->");
        text
    }
}

/// Reads a text.
#[derive(Debug)]
pub struct Parser {
    state: State,
    command: Command,
    /// Why it is none.
    words: Option<String>,
    /// `ssi_value_length`
    longest_value: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of the mark have been seen.
    Text(usize),
    BeforeName,
    Name,
    BeforeParameter,
    Parameter,
    BeforeEqual,
    BeforeValue,
    /// Up to this quote.
    Value(u8),
    /// A backslash was the last byte.
    Quoted(u8),
    BehindValue,
    /// So many dashes of `-->` have been seen.
    End(u8),
    /// It is no command; up to its end it is thrown away.
    Wrong(u8),
}

impl Parser {
    /// Values of parameters may have so many bytes.
    pub fn new(longest_value: usize) -> Self {
        Self { state: State::Text(0), command: Command::default(), words: None, longest_value }
    }

    /// Reads a piece.
    pub fn feed(&mut self, data: &[u8], events: &mut Vec<Event>) {
        let mut carried = if let State::Text(looked) = self.state { looked } else { 0 };
        let (mut from, mut at) = (0, 0);
        while let Some(&byte) = data.get(at) {
            if let State::Text(looked) = self.state {
                if looked == 0 {
                    let ahead = data[at..].iter().position(|byte| *byte == MARK[0]);
                    at = ahead.map_or(data.len(), |ahead| at + ahead + 1);
                    self.state = State::Text(usize::from(ahead.is_some()));
                    continue;
                }
                at += 1;
                if byte != MARK[looked] {
                    if carried > 0 {
                        events.push(Event::Held(std::mem::take(&mut carried)));
                    }
                    self.state = State::Text(usize::from(byte == MARK[0]));
                } else if looked + 1 < MARK.len() {
                    self.state = State::Text(looked + 1);
                } else {
                    let end = at + std::mem::take(&mut carried) - MARK.len();
                    if from < end {
                        events.push(Event::Text(from..end));
                    }
                    self.command = Command::default();
                    self.state = State::BeforeName;
                }
                continue;
            }
            at += 1;
            if let Some(event) = self.step(byte) {
                from = at;
                match event {
                    Ok(()) => events.push(Event::Command(std::mem::take(&mut self.command))),
                    Err(None) => {}
                    Err(Some(words)) => events.push(Event::Error(words)),
                }
            }
        }
        if let State::Text(looked) = self.state {
            let end = data.len() + carried - looked;
            if from < end {
                events.push(Event::Text(from..end));
            }
        }
    }

    /// The text has ended. A command that has not is lost.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if let State::Text(held @ 1..) = self.state {
            events.push(Event::Held(held));
        }
        self.state = State::Text(0);
    }

    /// Reads one byte of a command; `Some` when it has ended, with words if it was none. Those that were told
    /// are not told again at its end.
    fn step(&mut self, byte: u8) -> Option<Result<(), Option<String>>> {
        let is_space = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.state = match self.state {
            State::Text(_) => return None,
            State::BeforeName | State::BeforeParameter | State::BeforeEqual | State::BeforeValue
                if is_space =>
            {
                return None;
            }
            State::Name | State::BehindValue if is_space => State::BeforeParameter,
            State::Parameter if is_space => State::BeforeEqual,
            State::Name | State::BeforeParameter | State::BehindValue if byte == b'-' => State::End(1),
            State::Name if self.command.name.len() == NAME => {
                let words = format!("the \"{}{}...\" SSI command is too long", self.name(), byte as char);
                return self.wrong(words, 0);
            }
            State::BeforeName | State::Name => {
                self.command.name.push(byte);
                State::Name
            }
            State::BeforeParameter => {
                self.command.parameters.push((vec![byte], Vec::new()));
                State::Parameter
            }
            State::Parameter | State::BeforeEqual if byte == b'=' => State::BeforeValue,
            State::Parameter if byte != b'-' => {
                if self.last().0.len() == NAME {
                    let (parameter, name) = (shown(&self.last().0), self.name());
                    let words = format!(
                        "too long \"{parameter}{}...\" parameter in \"{name}\" SSI command",
                        byte as char
                    );
                    return self.wrong(words, 0);
                }
                self.last().0.push(byte);
                State::Parameter
            }
            State::Parameter | State::BeforeEqual => {
                let (parameter, name) = (shown(&self.last().0), self.name());
                let words = format!(
                    "unexpected \"{}\" symbol after \"{parameter}\" parameter in \"{name}\" SSI command",
                    byte as char
                );
                return self.wrong(words, u8::from(byte == b'-'));
            }
            State::BeforeValue if matches!(byte, b'"' | b'\'') => State::Value(byte),
            State::BeforeValue => {
                let (parameter, name) = (shown(&self.last().0), self.name());
                let words = format!(
                    "unexpected \"{}\" symbol before value of \"{parameter}\" parameter in \"{name}\" SSI command",
                    byte as char
                );
                return self.wrong(words, u8::from(byte == b'-'));
            }
            State::Value(quote) if byte == quote => State::BehindValue,
            State::Value(quote) | State::Quoted(quote) => {
                if self.last().1.len() == self.longest_value {
                    let (name, (parameter, value)) = (self.name(), self.last());
                    let words = format!(
                        "too long \"{}{}...\" value of \"{}\" parameter in \"{name}\" SSI command",
                        shown(value),
                        byte as char,
                        shown(parameter)
                    );
                    return self.wrong(words, 0);
                }
                self.last().1.push(byte);
                let is_mark = byte == b'\\' && matches!(self.state, State::Value(_));
                if is_mark { State::Quoted(quote) } else { State::Value(quote) }
            }
            State::BehindValue => {
                let (name, (parameter, value)) = (self.name(), self.last());
                let words = format!(
                    "unexpected \"{}\" symbol after \"{}\" value of \"{}\" parameter in \"{name}\" SSI command",
                    byte as char,
                    shown(value),
                    shown(parameter)
                );
                return self.wrong(words, 0);
            }
            State::End(1) if byte == b'-' => State::End(2),
            State::End(2) if byte == b'>' => {
                self.state = State::Text(0);
                return Some(Ok(()));
            }
            State::End(_) => {
                let name = self.name();
                let words = format!("unexpected \"{}\" symbol in \"{name}\" SSI command", byte as char);
                return self.wrong(words, 0);
            }
            State::Wrong(2) if byte == b'>' => {
                self.state = State::Text(0);
                return Some(Err(self.words.take()));
            }
            State::Wrong(dashes @ (0 | 1)) if byte == b'-' => State::Wrong(dashes + 1),
            State::Wrong(_) => State::Wrong(0),
        };
        None
    }

    /// Goes on to the end of what is no command.
    fn wrong(&mut self, words: String, dashes: u8) -> Option<Result<(), Option<String>>> {
        self.words = Some(words);
        self.state = State::Wrong(dashes);
        None
    }

    fn name(&self) -> String {
        shown(&self.command.name)
    }

    fn last(&mut self) -> &mut (Vec<u8>, Vec<u8>) {
        if self.command.parameters.is_empty() {
            self.command.parameters.push(Default::default());
        }
        let last = self.command.parameters.len() - 1;
        &mut self.command.parameters[last]
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Text as it stands, commands in brackets, errors in braces.
    fn read(pieces: &[&[u8]]) -> String {
        let mut parser = Parser::new(16);
        let mut out = String::new();
        let mut tell = |events: &mut Vec<Event>, data: &[u8]| {
            for event in events.drain(..) {
                match event {
                    Event::Text(range) => out.push_str(&shown(&data[range])),
                    Event::Held(count) => out.push_str(&shown(&MARK[..count])),
                    Event::Command(command) => {
                        let _ = write!(out, "[{}", shown(&command.name));
                        for (name, value) in &command.parameters {
                            let _ = write!(out, " {}={}", shown(name), shown(value));
                        }
                        out.push(']');
                    }
                    Event::Error(words) => {
                        let _ = write!(out, "{{{words}}}");
                    }
                }
            }
        };
        let mut events = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut events);
            tell(&mut events, piece);
        }
        parser.finish(&mut events);
        tell(&mut events, b"");
        out
    }

    const TEXTS: [(&str, &str); 15] = [
        ("plain < text <!- <!-- --> <", "plain < text <!- <!-- --> <"),
        ("a<!--#echo var=\"x\" -->b", "a[echo var=x]b"),
        ("<!--# include virtual='/a b' wait=\"yes\"-->", "[include virtual=/a b wait=yes]"),
        ("<!--#endif-->", "[endif]"),
        ("<<!--#a --><!<!--#b --><!-<!--#c -->", "<[a]<![b]<!-[c]"),
        ("<!---#a -->", "<!---#a -->"),
        ("<!--#a x = 'y' -->", "[a x=y]"),
        (r#"<!--#a x="\"q\"" -->"#, r#"[a x=\"q\"]"#),
        (
            "<!--#a x=y -->z",
            "{unexpected \"y\" symbol before value of \"x\" parameter in \"a\" SSI command}z",
        ),
        ("<!--#a x-->z", "{unexpected \"-\" symbol after \"x\" parameter in \"a\" SSI command}z"),
        ("<!--#a -b-->z", "{unexpected \"b\" symbol in \"a\" SSI command}z"),
        (
            "<!--#a x='12345678901234567'-->z",
            "{too long \"12345678901234567...\" value of \"x\" parameter in \"a\" SSI command}z",
        ),
        (
            "<!--#a x='y'z -->.",
            "{unexpected \"z\" symbol after \"y\" value of \"x\" parameter in \"a\" SSI command}.",
        ),
        (
            "<!--#a23456789012345678901234567890123 -->.",
            "{the \"a23456789012345678901234567890123...\" SSI command is too long}.",
        ),
        ("a<!--#echo var=", "a"),
    ];

    #[test]
    fn text_and_commands_are_told_apart() {
        for (text, expected) in TEXTS {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text}");
        }
    }

    #[test]
    fn wherever_the_text_is_cut() {
        for (text, expected) in TEXTS {
            for cut in 0..=text.len() {
                let (one, other) = text.as_bytes().split_at(cut);
                assert_eq!(read(&[one, other]), expected, "{text} at {cut}");
            }
            let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes), expected, "{text}");
        }
    }

    #[test]
    fn a_command_is_its_text() {
        let text = "<!--#echo var=\"x\" default=\"\\\"\" -->";
        let mut events = Vec::new();
        Parser::new(16).feed(text.as_bytes(), &mut events);
        let [Event::Command(command)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(shown(&command.text()), text);
    }
}
