//! gunicorn's front end: its command line, `GUNICORN_CMD_ARGS`, variables and settings file, lowered to the
//! [`Model`](crate::model::Model).
//!
//! ```text
//! arguments, environment ─ parse_command_line ─► CommandLine ─ merge(SettingsFile) ─► Merged { model, notes, … }
//! ```
//! In between the caller lets Python evaluate [`CommandLine::config_file`]. Precedence, least first: the table's
//! defaults, their variables (`$PORT`, `$WEB_CONCURRENCY`, `$SENDFILE`, `$FORWARDED_ALLOW_IPS`), the settings
//! file, `GUNICORN_CMD_ARGS`, the command line.

pub(crate) mod app_block;
mod argv;
mod command_line;
pub mod docs;
mod effective;
mod help;
pub(crate) mod lower;
mod manual;
pub(crate) mod nearest;
pub mod settings;
mod sources;
mod value;
mod words;

pub(crate) use app_block::{Surroundings, command_line as app_command_line};
pub use command_line::{CONFIGURATIONS, CommandLine, ConfigFile, Merged, SettingsFile};
pub use effective::{Effective, Origin};
pub use help::command;
pub(crate) use sources::{argument_place, config_argument, is_nearly_check};
pub use sources::{parse_command_line, parse_command_line_with};
pub use value::Value;
