//! nginx's own command line, read as nginx reads it, and the paths that follow from it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What nginx was built with, as Debian builds it. The only place that says so.
pub mod built_in {
    /// `--prefix`, with the slash that nginx appends.
    pub const PREFIX: &str = "/usr/share/nginx/";
    /// `--conf-path`
    pub const CONF: &str = "/etc/nginx/nginx.conf";
    /// `--pid-path`
    pub const PID: &str = "/run/nginx.pid";
    /// `--error-log-path`
    pub const ERROR_LOG: &str = "stderr";
    /// `--http-log-path`
    pub const ACCESS_LOG: &str = "/var/log/nginx/access.log";
    /// The version whose configuration is understood, for scripts that ask for it.
    pub const VERSION: &str = "1.28.0";
}

/// Which signal `-s` sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End at once.
    Stop,
    /// End, and finish requests.
    Quit,
    /// Open log files again.
    Reopen,
    /// Read the configuration again.
    Reload,
}

/// nginx's options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Options {
    /// `-?`, `-h`
    pub help: bool,
    /// `-v`, and with `-h` and `-V`
    pub version: bool,
    /// `-V`
    pub configure: bool,
    /// `-t`, and with `-T`
    pub test: bool,
    /// `-T`
    pub dump: bool,
    /// `-q`
    pub quiet: bool,
    /// `-p`
    pub prefix: Option<OsString>,
    /// `-e`
    pub error_log: Option<OsString>,
    /// `-c`
    pub conf: Option<OsString>,
    /// `-g`
    pub directives: Option<OsString>,
    /// `-s`
    pub order: Option<Order>,
}

impl Options {
    /// Reads the arguments behind the program's name. An error is in nginx's words.
    ///
    /// Letters may be joined, the value of the last one too: `-tqc file`, `-tqcfile`.
    pub fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let Some(letters) = word.as_bytes().strip_prefix(b"-") else {
                return Err(format!("invalid option: \"{}\"", word.to_string_lossy()));
            };
            for (at, &letter) in letters.iter().enumerate() {
                match letter {
                    b'?' | b'h' => (options.help, options.version) = (true, true),
                    b'v' => options.version = true,
                    b'V' => (options.version, options.configure) = (true, true),
                    b't' => options.test = true,
                    b'T' => (options.test, options.dump) = (true, true),
                    b'q' => options.quiet = true,
                    b'p' | b'e' | b'c' | b'g' | b's' => {
                        let value = match &letters[at + 1..] {
                            [] => words.next().cloned(),
                            joined => Some(OsString::from_vec(joined.to_vec())),
                        };
                        options.set(letter, value)?;
                        break;
                    }
                    other => return Err(format!("invalid option: \"{}\"", char::from(other))),
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, letter: u8, value: Option<OsString>) -> Result<(), String> {
        let (slot, what) = match letter {
            b'p' => (&mut self.prefix, "directory name"),
            b'e' => (&mut self.error_log, "file name"),
            b'c' => (&mut self.conf, "file name"),
            b'g' => (&mut self.directives, "parameter"),
            _ => {
                let value = value.ok_or("option \"-s\" requires parameter")?;
                self.order = Some(match value.as_bytes() {
                    b"stop" => Order::Stop,
                    b"quit" => Order::Quit,
                    b"reopen" => Order::Reopen,
                    b"reload" => Order::Reload,
                    _ => return Err(format!("invalid option: \"-s {}\"", value.to_string_lossy())),
                });
                return Ok(());
            }
        };
        *slot = Some(value.ok_or_else(|| format!("option \"-{}\" requires {what}", char::from(letter)))?);
        Ok(())
    }
}

/// Where things lie. Directories end in a slash, as nginx keeps them: paths are put together as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// From which most relative paths of the configuration start.
    pub prefix: PathBuf,
    /// The configuration file.
    pub conf: PathBuf,
    /// Its directory, from which `include` starts.
    pub conf_prefix: PathBuf,
    /// The error log until, and unless, the configuration names another; `None` is standard error.
    pub error_log: Option<PathBuf>,
    /// The pid file where the configuration names none.
    pub pid: Option<PathBuf>,
    /// The access log where the configuration says nothing about one.
    pub access_log: Option<PathBuf>,
}

impl Paths {
    /// nginx's: a relative `-c` starts at the prefix.
    pub fn of_nginx(options: &Options) -> Self {
        let prefix = options.prefix.as_deref().map_or_else(|| PathBuf::from(built_in::PREFIX), directory);
        let conf = join(&prefix, options.conf.as_deref().unwrap_or(OsStr::new(built_in::CONF)));
        let built_in = |path: &str| Some(PathBuf::from(path));
        Self {
            pid: built_in(built_in::PID),
            access_log: built_in(built_in::ACCESS_LOG),
            ..Self::at(prefix, conf, options)
        }
    }

    /// The program's own form: a relative `-c` starts where the user is, the prefix is the file's directory, and there
    /// is a pid file, and an access log, when the configuration names one.
    pub fn of_site(options: &Options, current_dir: &Path) -> Self {
        let here = directory(current_dir.as_os_str());
        let conf = join(&here, options.conf.as_deref().unwrap_or_default());
        let given = options.prefix.as_deref().map(|prefix| directory(join(&here, prefix).as_os_str()));
        let prefix = given.unwrap_or_else(|| parent(&conf));
        Self::at(prefix, conf, options)
    }

    fn at(prefix: PathBuf, conf: PathBuf, options: &Options) -> Self {
        let error_log = options.error_log.as_deref().unwrap_or(OsStr::new(built_in::ERROR_LOG));
        let error_log = (error_log != "stderr").then(|| join(&prefix, error_log));
        Self { conf_prefix: parent(&conf), prefix, conf, error_log, pid: None, access_log: None }
    }
}

/// With a slash at its end.
fn directory(text: &OsStr) -> PathBuf {
    let mut bytes = text.as_bytes().to_vec();
    if !bytes.is_empty() && !bytes.ends_with(b"/") {
        bytes.push(b'/');
    }
    OsString::from_vec(bytes).into()
}

/// Everything up to the last slash.
fn parent(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    OsStr::from_bytes(&bytes[..end]).into()
}

/// As texts, so that messages show what nginx would: `prefix/./nginx.conf`.
fn join(directory: &Path, name: &OsStr) -> PathBuf {
    if name.as_bytes().starts_with(b"/") {
        return name.into();
    }
    OsString::from_vec([directory.as_os_str().as_bytes(), name.as_bytes()].concat()).into()
}

/// What `-h`, `-v` and `-V` write to standard error.
pub fn version_info(options: &Options) -> String {
    use built_in::{ACCESS_LOG, CONF, ERROR_LOG, PID, PREFIX, VERSION};
    let mut text = format!("nginx version: nginx/{VERSION} (monoceros {})\n", env!("CARGO_PKG_VERSION"));
    let prefix = PREFIX.trim_end_matches('/');
    if options.help {
        let _ = write!(
            text,
            "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]\n             [-e filename] [-c filename] [-g directives]\n\n\
             Options:\n\
             \x20 -?,-h         : print this text and exit\n\
             \x20 -v            : print the version and exit\n\
             \x20 -V            : print the version and what is built in, and exit\n\
             \x20 -t            : check the configuration and exit\n\
             \x20 -T            : check the configuration, print all of it and exit\n\
             \x20 -q            : with -t and -T, print errors only\n\
             \x20 -s signal     : tell the running master: stop, quit, reopen, reload\n\
             \x20 -p prefix     : the directory that relative paths start from (default: {prefix})\n\
             \x20 -e filename   : the error log (default: {ERROR_LOG})\n\
             \x20 -c filename   : the configuration file (default: {CONF})\n\
             \x20 -g directives : global directives beside those of the configuration file\n\n"
        );
    }
    if options.configure {
        // Scripts look for the second line, and for OpenSSL in the first, which is not there.
        text.push_str("built with rustls and AWS-LC\nTLS SNI support enabled\n");
        let _ = write!(
            text,
            "configure arguments: --prefix={prefix} --conf-path={CONF} --http-log-path={ACCESS_LOG} \
             --error-log-path={ERROR_LOG} --pid-path={PID} --with-debug"
        );
        for argument in crate::nginx::modules::configure_arguments() {
            let _ = write!(text, " {argument}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn letters_and_values_may_be_joined() {
        let expected = Options {
            test: true,
            quiet: true,
            conf: Some("a.conf".into()),
            prefix: Some("/p".into()),
            directives: Some("daemon off;".into()),
            ..Options::default()
        };
        assert_eq!(
            parse(&["-t", "-q", "-c", "a.conf", "-p", "/p", "-g", "daemon off;"]),
            Ok(expected.clone())
        );
        assert_eq!(parse(&["-tqca.conf", "-p/p", "-gdaemon off;"]), Ok(expected.clone()));
        assert_eq!(parse(&["-", "-tqc", "a.conf", "-p", "/p", "-g", "daemon off;"]), Ok(expected));
        assert_eq!(parse(&["-sreload"]).unwrap().order, Some(Order::Reload));
    }

    #[test]
    fn mistakes_are_told_in_nginxs_words() {
        for (words, message) in [
            (&["site.conf"][..], "invalid option: \"site.conf\""),
            (&["--help"], "invalid option: \"-\""),
            (&["-x"], "invalid option: \"x\""),
            (&["-p"], "option \"-p\" requires directory name"),
            (&["-e"], "option \"-e\" requires file name"),
            (&["-tc"], "option \"-c\" requires file name"),
            (&["-g"], "option \"-g\" requires parameter"),
            (&["-s"], "option \"-s\" requires parameter"),
            (&["-s", "restart"], "invalid option: \"-s restart\""),
        ] {
            assert_eq!(parse(words), Err(message.to_owned()));
        }
    }

    #[test]
    fn paths_start_where_nginx_starts_them() {
        let paths = |words: &[&str]| Paths::of_nginx(&parse(words).unwrap());
        let default = paths(&[]);
        assert_eq!(default.conf, Path::new("/etc/nginx/nginx.conf"));
        assert_eq!(default.conf_prefix.as_os_str(), "/etc/nginx/");
        assert_eq!(default.prefix.as_os_str(), "/usr/share/nginx/");
        assert_eq!(default.error_log, None);
        let moved = paths(&["-p", "/srv/x", "-c", "conf/a.conf", "-e", "error.log"]);
        assert_eq!(moved.conf.as_os_str(), "/srv/x/conf/a.conf");
        assert_eq!(moved.conf_prefix.as_os_str(), "/srv/x/conf/");
        assert_eq!(moved.error_log, Some("/srv/x/error.log".into()));
        assert_eq!(moved.pid, Some("/run/nginx.pid".into()));
    }

    #[test]
    fn the_programs_own_form_starts_where_the_user_is() {
        let paths = |words: &[&str]| Paths::of_site(&parse(words).unwrap(), Path::new("/home/me"));
        let plain = paths(&["-c", "sites/a.conf"]);
        assert_eq!(plain.conf.as_os_str(), "/home/me/sites/a.conf");
        assert_eq!(plain.prefix.as_os_str(), "/home/me/sites/");
        assert_eq!(plain.pid, None);
        let moved = paths(&["-c", "a.conf", "-p", "run"]);
        assert_eq!(moved.conf.as_os_str(), "/home/me/a.conf");
        assert_eq!(moved.prefix.as_os_str(), "/home/me/run/");
        assert_eq!(moved.conf_prefix.as_os_str(), "/home/me/");
    }

    #[test]
    fn scripts_find_the_number_of_the_version() {
        let text = version_info(&parse(&["-V"]).unwrap());
        assert!(text.starts_with("nginx version: nginx/1."), "{text}");
        assert!(
            text.contains("configure arguments: --prefix=") && text.contains("--with-http_realip_module")
        );
        assert!(text.contains("\nTLS SNI support enabled\n") && !text.contains("OpenSSL"), "{text}");
        assert_eq!(version_info(&parse(&["-v"]).unwrap()).lines().count(), 1);
        assert!(version_info(&parse(&["-h"]).unwrap()).contains("Usage: nginx"));
    }
}
