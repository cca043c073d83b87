//! Logging.

use super::{Kind, Section, Setting};

const STATSD: &str = "statsd is not there yet";
const SYSLOG: &str = "syslog is not there yet; log to standard error and let the service manager forward it";
const LOGCONFIG: &str =
    "Python's logging does not write the server's logs; use errorlog, accesslog and loglevel";

pub(super) const ROWS: &[Setting] = &[
    Setting::new("accesslog", Section::Logging, Kind::Text)
        .flags(&["--access-logfile"])
        .meta("FILE")
        .doc("Where one line per request goes: a file, or `-` for standard output. Without it there is no access log."),
    Setting::new("access_log_format", Section::Logging, Kind::Text)
        .flags(&["--access-logformat"])
        .default(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#)
        .doc("The line of the access log, with gunicorn's atoms. `%({x}e)s` of what the application puts into its environ is as it is at the end of the body.")
        .differs("An atom that gunicorn does not know is an error, and no `-`."),
    Setting::new("errorlog", Section::Logging, Kind::Text)
        .flags(&["--error-logfile", "--log-file"])
        .meta("FILE")
        .default("-")
        .doc("Where messages go: a file, or `-` for standard error. What an application itself writes to standard error goes there only with `capture_output`.")
        .differs("A daemon's standard error goes to the file as well, and not nowhere."),
    Setting::new("loglevel", Section::Logging, Kind::Words(&["debug", "info", "warning", "error", "critical"]))
        .flags(&["--log-level"])
        .meta("LEVEL")
        .default("info")
        .doc("The least severity of messages that are logged. With an nginx.conf the `error_log` outside of all blocks says it (`notice` is `info` here, and no level is `error`), of an application where neither its `app` block nor its settings file does; without an `error_log`, it is `info`.")
        .differs("Another word is an error; in gunicorn it means `info`."),
    Setting::new("capture_output", Section::Logging, Kind::Flag(true))
        .flags(&["--capture-output"])
        .default("false")
        .doc("Send what the application prints to the error log."),
    Setting::new("enable_stdio_inheritance", Section::Logging, Kind::Flag(true))
        .flags(&["-R", "--enable-stdio-inheritance"])
        .default("false")
        .doc("With `daemon`: keep standard output and error instead of closing them."),
    Setting::new("disable_redirect_access_to_syslog", Section::Logging, Kind::Flag(true))
        .flags(&["--disable-redirect-access-to-syslog"])
        .default("false")
        .doc("Keep the access log out of syslog.")
        .no_effect("there is no syslog to keep it out of"),
    Setting::new("logger_class", Section::Logging, Kind::Text)
        .flags(&["--logger-class"])
        .default("gunicorn.glogging.Logger")
        .doc("The Python class that writes gunicorn's logs.")
        .not_yet(LOGCONFIG),
    Setting::new("logconfig", Section::Logging, Kind::Path)
        .flags(&["--log-config"])
        .meta("FILE")
        .doc("A configuration file of Python's logging.")
        .not_yet(LOGCONFIG),
    Setting::new("logconfig_dict", Section::Logging, Kind::Dict)
        .default("{}")
        .doc("A configuration of Python's logging.")
        .not_yet(LOGCONFIG),
    Setting::new("logconfig_json", Section::Logging, Kind::Path)
        .flags(&["--log-config-json"])
        .meta("FILE")
        .doc("A configuration file of Python's logging, in JSON.")
        .not_yet(LOGCONFIG),
    Setting::new("syslog_addr", Section::Logging, Kind::Text)
        .flags(&["--log-syslog-to"])
        .meta("SYSLOG_ADDR")
        .default("udp://localhost:514")
        .doc("The address of syslog.")
        .not_yet(SYSLOG),
    Setting::new("syslog", Section::Logging, Kind::Flag(true))
        .flags(&["--log-syslog"])
        .default("false")
        .doc("Log to syslog.")
        .not_yet(SYSLOG),
    Setting::new("syslog_prefix", Section::Logging, Kind::Text)
        .flags(&["--log-syslog-prefix"])
        .meta("SYSLOG_PREFIX")
        .doc("The program name that syslog shows.")
        .not_yet(SYSLOG),
    Setting::new("syslog_facility", Section::Logging, Kind::Text)
        .flags(&["--log-syslog-facility"])
        .meta("SYSLOG_FACILITY")
        .default("user")
        .doc("Syslog's facility.")
        .not_yet(SYSLOG),
    Setting::new("statsd_host", Section::Logging, Kind::Text)
        .flags(&["--statsd-host"])
        .meta("STATSD_ADDR")
        .doc("The address of a statsd server.")
        .not_yet(STATSD),
    Setting::new("dogstatsd_tags", Section::Logging, Kind::Text)
        .flags(&["--dogstatsd-tags"])
        .meta("DOGSTATSD_TAGS")
        .default("")
        .doc("Tags for statsd's metrics.")
        .not_yet(STATSD),
    Setting::new("statsd_prefix", Section::Logging, Kind::Text)
        .flags(&["--statsd-prefix"])
        .meta("STATSD_PREFIX")
        .default("")
        .doc("What the names of statsd's metrics begin with.")
        .not_yet(STATSD),
    Setting::new("enable_backlog_metric", Section::Logging, Kind::Flag(true))
        .flags(&["--enable-backlog-metric"])
        .default("false")
        .doc("Tell statsd how many connections wait to be accepted.")
        .not_yet(STATSD),
];
