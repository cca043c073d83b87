//! The same flags as a `clap` command: what `--help`, the manual page and shell completions are made of.
//!
//! The arguments themselves are read by [`super::argv`]: clap stops at the first mistake, does not say where it
//! stands, and knows neither argparse's shortened flags beside repeated ones nor its rules for values with a dash.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, ValueHint};

use super::settings::{self, Kind, Section, Setting, Status};

const ABOUT: &str = "One program in place of nginx and gunicorn: runs a Python web application behind an edge \
                     that faces the internet.";
const AFTER: &str = "Settings may also stand in a gunicorn.conf.py, by their names (--print-config shows them), \
                     and in $GUNICORN_CMD_ARGS.";

const USAGE: &str = "monoceros [OPTIONS] [APP_MODULE]                     gunicorn's command line
       monoceros -c SITE.CONF [-p PREFIX] [-g DIRECTIVES]   servers and applications by an nginx.conf
       monoceros check -c SITE.CONF                         say what is right and wrong with it
       monoceros check [OPTIONS] [APP_MODULE]               as --check-config, and says so when all is well

Called by the name nginx or gunicorn (a link), it takes exactly that program's command line.";

/// The word in the place of the application.
pub(super) const CHECK: &str = "check";
pub(super) const CHECK_HELP: &str = "say what is right and what is wrong, and start nothing";

/// The command line.
pub fn command() -> Command {
    let app = Arg::new("APP_MODULE").value_name("APP_MODULE").help(
        "The application: `module:name`, `module:factory(arguments)`, or `module` for the name `application`",
    );
    command_of(app, |_| true)
}

/// What shells complete: the word `check`, and the flags that are not refused. Clap's scripts offer hidden ones too.
pub(super) fn completed() -> Command {
    let check = PossibleValue::new(CHECK).help(CHECK_HELP);
    let app = Arg::new("APP_MODULE").value_parser(PossibleValuesParser::new([check]));
    command_of(app, |setting| !matches!(setting.status, Status::NotYet(_)))
}

fn command_of(app: Arg, offers: fn(&Setting) -> bool) -> Command {
    let mut command = Command::new("monoceros")
        .about(ABOUT)
        .after_help(AFTER)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .override_usage(USAGE)
        .arg(app)
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print this help"))
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        );
    for section in Section::ALL {
        let flags =
            settings::all().iter().filter(|s| s.section == section && !s.flags.is_empty() && offers(s));
        command = command.args(flags.map(argument));
    }
    command
}

pub(super) fn help() -> String {
    let mut command = command();
    command.build();
    command.render_help().to_string()
}

pub(super) fn version() -> String {
    // gunicorn's form, for scripts that cut it.
    format!("monoceros (version {})\n", env!("CARGO_PKG_VERSION"))
}

fn argument(setting: &'static Setting) -> Arg {
    let mut arg = Arg::new(setting.name).help_heading(setting.section.title()).help(summary(setting));
    for flag in setting.flags {
        match (flag.strip_prefix("--"), arg.get_long()) {
            (Some(long), None) => arg = arg.long(long),
            (Some(long), Some(_)) => arg = arg.visible_alias(long),
            (None, _) => arg = arg.short(flag.chars().nth(1)),
        }
    }
    let action = match setting.kind {
        Kind::Flag(true) => ArgAction::SetTrue,
        Kind::Flag(false) => ArgAction::SetFalse,
        kind if kind.repeats() => ArgAction::Append,
        _ => ArgAction::Set,
    };
    arg = arg.action(action).hide(matches!(setting.status, Status::NotYet(_)));
    if setting.kind.takes_value() {
        arg = arg.value_name(setting.meta);
    }
    match setting.kind {
        Kind::Words(words) => {
            let offered = words.iter().filter(|word| !REFUSED.contains(&(setting.name, word)));
            arg.value_parser(PossibleValuesParser::new(offered.copied()))
        }
        Kind::OptionalWord(words) => {
            arg.num_args(0..=1).default_missing_value(words[1]).value_parser(PossibleValuesParser::new(words))
        }
        Kind::Switch => arg.value_parser(PossibleValuesParser::new(["on", "off"])),
        Kind::Path => arg.value_hint(ValueHint::AnyPath),
        _ => arg,
    }
}

/// Words that a setting knows, and refuses.
const REFUSED: &[(&str, &str)] =
    &[("http2_cleartext", "upgrade"), ("http2_cleartext", "both"), ("reload_engine", "inotify")];

/// The first sentence, and the default.
fn summary(setting: &Setting) -> String {
    let text = setting.doc.replace('`', "");
    let first = text.split_once(". ").map_or(text.as_str(), |(first, _)| first);
    let first = first.trim_end_matches('.');
    match setting.default {
        Some(default) if setting.kind.takes_value() && !default.is_empty() && default.len() <= 32 => {
            format!("{first} [{default}]")
        }
        _ => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_the_command_consistent() {
        command().debug_assert();
    }

    #[test]
    fn completions_offer_what_can_be_used() {
        use super::super::docs::completions;
        use clap_complete::Shell;

        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            let check = match shell {
                Shell::Bash => " check\"\n",
                Shell::Fish => "-a check -d",
                _ => "((check\\:",
            };
            assert!(script.contains(check), "{shell}");
            for s in settings::all() {
                let offers = |flag: &&str| match shell {
                    Shell::Fish => script.contains(&format!(" -l {} ", flag.trim_start_matches("--"))),
                    _ => script.contains(*flag),
                };
                let (is_here, mut long) =
                    (!matches!(s.status, Status::NotYet(_)), s.flags.iter().filter(|f| f.len() > 2));
                assert!(long.all(|flag| offers(flag) == is_here), "{shell}: {}", s.name);
            }
        }
    }

    #[test]
    fn every_visible_flag_is_in_the_help() {
        let help = help();
        for s in settings::all().iter().filter(|s| !matches!(s.status, Status::NotYet(_))) {
            for f in s.flags {
                assert!(help.contains(f), "{f}");
            }
        }
    }
}
