//! The error log of a whole process in nginx's form. One test: the log is the process's own.

use config::model::http::LogLevel;
use telemetry::error_log::{self, Context, Destination, Level, Limit, Logs};

#[test]
fn a_process_logs_in_nginxs_form() {
    let dir = tempfile::tempdir().unwrap();
    let [main, shop, moved] = ["main", "shop", "main.1"].map(|name| dir.path().join(name));
    let logs = Logs {
        main: vec![(Destination::File(main.clone()), LogLevel::Warn)],
        others: vec![vec![(Destination::File(shop.clone()), LogLevel::Debug)]],
        debug: false,
    };
    error_log::init_nginx(&logs).unwrap();
    let read = |path| std::fs::read_to_string(path).unwrap();

    telemetry::warning!("low on {}", "files");
    telemetry::info!("too little for the main log");
    let context = Context { log: Some(0), connection: 7, client: Some(b"192.0.2.1"), ..Context::default() };
    error_log::write_with(Level::Debug, &context, format_args!("found"));
    let main_text = read(&main);
    let pid = std::process::id();
    assert!(
        main_text.contains(&format!(" [warn] {pid}#")) && main_text.ends_with(": low on files\n"),
        "{main_text}"
    );
    assert!(read(&shop).ends_with(": *7 found\n"));

    let limit = Limit::new();
    for _ in 0..100 {
        error_log::write_limited_with(&limit, Level::Error, &context, format_args!("flood"));
    }
    // A window may end within the loop.
    let floods = read(&shop).matches("flood").count();
    assert!((10..=20).contains(&floods), "{floods}");

    std::fs::rename(&main, &moved).unwrap();
    assert!(telemetry::reopen().is_empty());
    telemetry::error!("after rotation");
    assert_eq!((read(&moved).lines().count(), read(&main).lines().count()), (1, 1));

    // What cannot be opened changes nothing.
    let missing = Destination::File(dir.path().join("no such directory/log"));
    let bad = Logs { main: vec![(missing, LogLevel::Debug)], ..Logs::default() };
    assert!(error_log::init_nginx(&bad).is_err());
    assert!(error_log::enabled(Level::Debug));
    error_log::init(Level::Error);
    assert!(!error_log::enabled(Level::Warning));
    telemetry::error!("to descriptor 2 again");
    assert_eq!(read(&main).lines().count(), 1);
}
