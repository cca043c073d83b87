//! The table of settings: gunicorn's, and beside them ours.
//!
//! Everything else in this front end is driven by it: flags, types, defaults, `--help`, the reference, the manual
//! page, shell completions. A setting's meaning for a running instance is in `gunicorn::lower`.

mod certificates;
mod files;
mod http;
mod later;
mod logs;
mod process;
mod workers;

use std::sync::LazyLock;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in a settings file.
    pub name: &'static str,
    /// Where the reference lists it.
    pub section: Section,
    /// Its flags on the command line; empty when it has none.
    pub flags: &'static [&'static str],
    /// What `--help` calls its value.
    pub meta: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody says anything, in the form of the command line; `None` is Python's.
    pub default: Option<&'static str>,
    /// The environment variable that replaces the default.
    pub env: Option<&'static str>,
    /// What it does; one paragraph.
    pub doc: &'static str,
    /// How that differs from gunicorn; empty when it does not.
    pub difference: &'static str,
    /// Whether it works.
    pub status: Status,
    /// Not one of gunicorn's.
    pub ours: bool,
    /// Only for the command line, because it is needed before the settings file is read.
    pub command_line_only: bool,
}

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file or directory.
    Path,
    /// A flag without value; the field is what giving the flag means.
    Flag(bool),
    /// `on` or `off`.
    Switch,
    /// A whole number from the first to the second.
    Int(u64, u64),
    /// Seconds, or with `ms`, `s`, `m`, `h`; the field is whether zero is allowed.
    Seconds(bool),
    /// Bytes, or with `k`, `m`, `g`.
    Size,
    /// Texts: a repeated flag, or a Python list.
    List,
    /// Texts: one flag with commas, or a Python list or text with commas.
    Commas,
    /// `KEY=VALUE` pairs: a repeated flag, or a Python dict or list.
    Pairs,
    /// A number in octal.
    Octal,
    /// A user's or group's name or number.
    Owner,
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of these words, or the flag alone for the second of them.
    OptionalWord(&'static [&'static str]),
    /// A function with this many arguments; settings file only.
    Hook(u8),
    /// A Python dict; settings file only.
    Dict,
}

impl Kind {
    /// Whether a flag of this kind is followed by a value.
    pub const fn takes_value(self) -> bool {
        !matches!(self, Self::Flag(_))
    }

    /// Whether giving the flag again adds to the value.
    pub const fn repeats(self) -> bool {
        matches!(self, Self::List | Self::Pairs)
    }
}

/// Whether a setting works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Here,
    /// Accepted, because it is harmless, but changes nothing; the text is the reason, told as a note.
    NoEffect(&'static str),
    /// Only its default is accepted; the text says why, and what to do instead.
    NotYet(&'static str),
}

/// The reference's sections: gunicorn's, then ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "titles, see `Section::title`")]
pub enum Section {
    ConfigFile,
    Socket,
    Workers,
    Queue,
    Security,
    Clients,
    Buffering,
    Files,
    Compression,
    Debugging,
    Mechanics,
    Logging,
    Naming,
    Hooks,
    Ssl,
    Certificates,
    Http2,
    Dirty,
    Control,
}

impl Section {
    /// All, in the order of the reference.
    pub const ALL: [Self; 19] = [
        Self::ConfigFile,
        Self::Socket,
        Self::Workers,
        Self::Queue,
        Self::Security,
        Self::Clients,
        Self::Buffering,
        Self::Files,
        Self::Compression,
        Self::Debugging,
        Self::Mechanics,
        Self::Logging,
        Self::Naming,
        Self::Hooks,
        Self::Ssl,
        Self::Certificates,
        Self::Http2,
        Self::Dirty,
        Self::Control,
    ];

    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::ConfigFile => "Settings file and application",
            Self::Socket => "Server socket",
            Self::Workers => "Worker processes",
            Self::Queue => "Queue",
            Self::Security => "Security",
            Self::Clients => "Clients",
            Self::Buffering => "Buffering",
            Self::Files => "Static files",
            Self::Compression => "Compression",
            Self::Debugging => "Debugging",
            Self::Mechanics => "Server mechanics",
            Self::Logging => "Logging",
            Self::Naming => "Process naming",
            Self::Hooks => "Hooks",
            Self::Ssl => "TLS",
            Self::Certificates => "Certificates that come by themselves",
            Self::Http2 => "HTTP/2",
            Self::Dirty => "Dirty arbiters",
            Self::Control => "Control socket",
        }
    }
}

impl Setting {
    const fn new(name: &'static str, section: Section, kind: Kind) -> Self {
        Self {
            name,
            section,
            flags: &[],
            meta: match kind {
                Kind::Int(..) => "INT",
                Kind::Seconds(_) => "SECONDS",
                Kind::Size => "SIZE",
                Kind::Path => "PATH",
                Kind::Switch => "on|off",
                Kind::Octal => "OCTAL",
                _ => "STRING",
            },
            kind,
            default: None,
            env: None,
            doc: "",
            difference: "",
            status: Status::Here,
            ours: false,
            command_line_only: false,
        }
    }

    const fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    const fn meta(mut self, meta: &'static str) -> Self {
        self.meta = meta;
        self
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn env(mut self, variable: &'static str) -> Self {
        self.env = Some(variable);
        self
    }

    const fn doc(mut self, text: &'static str) -> Self {
        self.doc = text;
        self
    }

    const fn differs(mut self, text: &'static str) -> Self {
        self.difference = text;
        self
    }

    const fn not_yet(mut self, why: &'static str) -> Self {
        self.status = Status::NotYet(why);
        self
    }

    const fn no_effect(mut self, why: &'static str) -> Self {
        self.status = Status::NoEffect(why);
        self
    }

    const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    const fn command_line_only(mut self) -> Self {
        self.command_line_only = true;
        self
    }

    /// The flag that messages name: the first long one.
    pub fn long_flag(&self) -> Option<&'static str> {
        self.flags.iter().copied().find(|f| f.starts_with("--")).or(self.flags.first().copied())
    }
}

/// No upper limit that a user would meet.
const MANY: u64 = u32::MAX as u64;

static ALL: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for part in
        [workers::ROWS, http::ROWS, certificates::ROWS, files::ROWS, process::ROWS, logs::ROWS, later::ROWS]
    {
        all.extend_from_slice(part);
    }
    all.sort_by_key(|s| s.section);
    all
});

/// Every setting, in the order of the reference.
pub fn all() -> &'static [Setting] {
    &ALL
}

/// The setting of that name, and its place in [`all`].
pub fn find(name: &str) -> Option<(usize, &'static Setting)> {
    all().iter().enumerate().find(|(_, s)| s.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn gunicorns_120_settings_are_there_and_nothing_is_there_twice() {
        assert_eq!(all().iter().filter(|s| !s.ours).count(), 120);
        let mut names = HashSet::new();
        let mut flags = HashSet::from(["-h", "--help", "-v", "--version"]);
        for s in all() {
            assert!(names.insert(s.name), "{}", s.name);
            for f in s.flags {
                assert!(flags.insert(f), "{f}");
            }
            assert!(!s.doc.is_empty() && s.doc.ends_with('.'), "{}: doc", s.name);
        }
    }

    #[test]
    fn what_has_no_flag_is_what_gunicorn_gives_none() {
        let without = all().iter().filter(|s| s.flags.is_empty() && !matches!(s.kind, Kind::Hook(_)));
        let mut without: Vec<_> = without.map(|s| s.name).collect();
        without.sort_unstable();
        assert_eq!(
            without,
            ["default_proc_name", "logconfig_dict", "secure_scheme_headers", "tmp_upload_dir", "wsgi_app"]
        );
        assert_eq!(all().iter().filter(|s| matches!(s.kind, Kind::Hook(_))).count(), 20);
    }
}
