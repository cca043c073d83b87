//! Writes the documents that are made from the table of settings: `gendocs DIRECTORY [--check]`. With `--check`
//! nothing is written, and a stale or missing one is a failure.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use config::gunicorn::docs;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(directory), check) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: gendocs DIRECTORY [--check]");
        return ExitCode::from(2);
    };
    let check = match check.as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("gendocs: `{other}` is not `--check`");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for document in docs::documents() {
        let path = directory.join(document.path);
        let written = fs::read_to_string(&path).ok();
        if written.as_deref() == Some(document.text.as_str()) {
            continue;
        }
        if check {
            eprintln!("{} is stale: run `cargo run -p config --example gendocs -- docs`", path.display());
            failed = true;
        } else if let Err(e) =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, document.text))
        {
            eprintln!("{}: {e}", path.display());
            failed = true;
        } else {
            println!("{}", path.display());
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
