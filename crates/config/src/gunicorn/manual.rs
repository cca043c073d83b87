//! What a manual page says beside the flags: signals, exit codes, variables, files, examples. Of signals and exit
//! codes the reference is made, too.

use std::fmt::Write as _;

use super::settings;

/// A signal: its names, what the master does with gunicorn's command line, and what with an nginx.conf.
const SIGNALS: [(&str, &str, &str); 8] = [
    (
        "TERM",
        "Finishes requests first, for graceful_timeout at most, then ends. A second one changes nothing.",
        "Ends at once.",
    ),
    ("INT", "Ends at once.", "Ends at once."),
    (
        "QUIT",
        "Ends at once.",
        "Finishes requests first, for worker_shutdown_timeout at most (else the applications' graceful_timeout), \
         then ends.",
    ),
    (
        "HUP",
        "Reads the settings anew and starts a new generation of workers. It takes over when all of it is ready; one \
         that does not boot changes nothing.",
        "The same, with the configuration.",
    ),
    ("USR1", "Opens the log files again, after they were moved.", "The same."),
    ("TTIN, TTOU", "One worker more, one fewer.", "Nothing."),
    (
        "USR2",
        "Nothing yet, with a warning.",
        "Starts the program anew, with the sockets, beside this one: a binary upgrade as nginx does it.",
    ),
    (
        "WINCH",
        "Nothing yet, with a warning.",
        "A daemon lets edge and workers end when they have finished their requests; the master stays. HUP starts \
         them again.",
    ),
];

/// An exit code and when it comes.
const EXIT_CODES: [(u8, &str); 5] = [
    (0, "Ended as it was told to; of check and its like: nothing is wrong."),
    (
        1,
        "The settings, the configuration, a file or an address cannot be used, or a hook of the start raised \
         (nworkers_changed, on_starting, pre_fork, when_ready), or with preload_app the application cannot be loaded. \
         The program ends before it serves. Also: on_exit raised.",
    ),
    (2, "The command line is wrong. Called by the name nginx it is 1."),
    (
        3,
        "The first workers did not boot: the application raised while it was imported, or (with preload_app, too) took \
         longer than boot_timeout.",
    ),
    (4, "There is no application where one is named."),
];

/// Said below the exit codes.
const ON_EXIT: &str = "Whoever calls sys.exit in a hook of the mold (on_starting, when_ready, child_exit, on_exit …) ends the \
                       program, requests first, with that code. \
                       A daemon (-D, or daemon on) ends with the code of what it has started, or with 0 once that serves. \
                       Whoever is told to end while settings files are read ends by that signal.";

/// Variables that no setting stands for.
const VARIABLES: [(&str, &str); 6] = [
    ("GUNICORN_CMD_ARGS", "Flags that come before those of the command line."),
    ("VIRTUAL_ENV", "The virtual environment whose Python runs the application."),
    ("LISTEN_FDS, LISTEN_PID", "Sockets that systemd hands over; they stand in for every bind."),
    ("NOTIFY_SOCKET", "Where systemd (Type=notify) is told that the program is ready."),
    ("NO_COLOR", "Messages on a terminal without colours."),
    ("XDG_STATE_HOME", "Where certificates are kept, in monoceros/acme, by whoever is not root."),
];

const FILES: [(&str, &str); 4] = [
    ("gunicorn.conf.py", "Settings, read from the current directory when no -c is given."),
    (
        "SITE.CONF",
        "A configuration in nginx's language; its relative paths start at its own directory, or at -p PREFIX.",
    ),
    ("/var/lib/monoceros/acme", "Keys and certificates that were ordered, when started by root (acme_dir)."),
    ("PIDFILE.oldbin", "The pid file of the old program while a new one takes over (USR2)."),
];

const EXAMPLES: [(&str, &str); 5] = [
    (
        "Four workers, static files beside them",
        "monoceros shop.wsgi -w 4 -b :8000 --static /static/=./staticfiles",
    ),
    ("In the background", "monoceros shop.wsgi -D -p /run/shop.pid --error-logfile /var/log/shop.log"),
    ("What would not work, before it is started", "monoceros check -c site.conf"),
    ("An nginx.conf", "monoceros -c site.conf"),
    ("Read it anew", "kill -HUP $(cat /run/shop.pid)"),
];

const SEE_ALSO: &str = "gunicorn(1), nginx(8), systemd.service(5), signal(7)";

/// The sections behind those that clap makes, in roff.
pub(super) fn sections() -> String {
    let mut page = String::new();
    heading(&mut page, "SIGNALS");
    paragraph(
        &mut page,
        "To the master, whose number is in the pid file. By gunicorn's command line; with an nginx.conf:",
    );
    for (name, gunicorn, nginx) in SIGNALS {
        item(&mut page, name, &format!("{gunicorn} With an nginx.conf: {}", lower_first(nginx)));
    }
    heading(&mut page, "EXIT STATUS");
    for (code, when) in EXIT_CODES {
        item(&mut page, &code.to_string(), when);
    }
    paragraph(&mut page, ON_EXIT);
    heading(&mut page, "ENVIRONMENT");
    for (name, what) in VARIABLES {
        item(&mut page, name, what);
    }
    for setting in settings::all() {
        if let Some(name) = setting.env {
            item(&mut page, name, &format!("The default of {}.", setting.name));
        }
    }
    heading(&mut page, "FILES");
    for (name, what) in FILES {
        item(&mut page, name, what);
    }
    heading(&mut page, "EXAMPLES");
    for (what, line) in EXAMPLES {
        item(&mut page, what, line);
    }
    heading(&mut page, "SEE ALSO");
    paragraph(&mut page, SEE_ALSO);
    page
}

/// The reference of signals and exit codes, in Markdown.
pub(super) fn reference() -> String {
    let mut text = String::from(
        "<!-- Made from crates/config/src/gunicorn/manual.rs by `cargo run -p config --example gendocs -- docs`. Change \
         it there. -->\n\
         # Signals and exit codes\n\n\
         Signals are for the master, whose number is in the pid file. Whoever starts Monoceros by gunicorn's command line \
         has gunicorn's signals, with an nginx.conf they are nginx's. `nginx -s` (the program called by that name) sends \
         them, too: `stop` is TERM, `quit` QUIT, `reload` HUP, `reopen` USR1.\n\n\
         | signal | by gunicorn's command line | with an nginx.conf |\n| --- | --- | --- |\n",
    );
    for (name, gunicorn, nginx) in SIGNALS {
        let _ = writeln!(text, "| {name} | {gunicorn} | {nginx} |");
    }
    text.push_str("\n| exit code | when |\n| --- | --- |\n");
    for (code, when) in EXIT_CODES {
        let _ = writeln!(text, "| {code} | {when} |");
    }
    let _ = writeln!(text, "\n{ON_EXIT}");
    text
}

fn heading(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH \"{title}\"");
}

fn paragraph(page: &mut String, text: &str) {
    let _ = writeln!(page, ".PP\n{}", roff(text));
}

fn item(page: &mut String, name: &str, text: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", roff(name), roff(text));
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::super::docs::manual_page;

    #[test]
    fn the_manual_page_has_what_an_operator_looks_for() {
        let page = manual_page();
        let at = |title: &str| page.find(&format!(".SH \"{title}\"\n")).unwrap_or_else(|| panic!("{title}"));
        let places = ["SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"].map(at);
        assert!(places.is_sorted());
        assert!(
            page.contains("\\fBWEB_CONCURRENCY\\fR\nThe default of workers."),
            "of the table of settings"
        );
        assert!(page.lines().all(|line| !line.starts_with('\'')), "no line that roff takes for an order");
    }
}
