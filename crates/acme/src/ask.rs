//! Whether a name may have a certificate: somebody is asked who knows, and only a yes is one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use config::model::acme::Ask;

use crate::hook;
use crate::transport;

/// How long it may take to answer: a client waits.
pub const TIME: Duration = Duration::from_secs(10);

/// Asks. The error says why there is no answer, which is no yes either. Blocks for [`TIME`] and a bit at most.
pub fn ask(whom: &Ask, name: &str) -> Result<bool, String> {
    match whom {
        Ask::Url(url) => {
            // A fragment would have been refused; names have nothing that is to be escaped.
            let separator = if url.contains('?') { '&' } else { '?' };
            let status = transport::status(&format!("{url}{separator}domain={name}"), TIME);
            status.map(|status| (200..300).contains(&status)).map_err(|error| error.to_string())
        }
        Ask::Program(path) => run(path, name, TIME),
    }
}

fn run(program: &Path, name: &str, time: Duration) -> Result<bool, String> {
    let mut command = Command::new(program);
    command.arg(name).env("ACME_DOMAIN", name);
    match hook::finish(&mut command, time) {
        Ok((Some(status), complaint)) => match status.code() {
            Some(0) => Ok(true),
            // What shells say when a program is not there or may not be run.
            Some(126 | 127) | None => Err(format!("{status}: {complaint}")),
            Some(_) => Ok(false),
        },
        Ok((None, _)) => Err(format!("no answer after {} seconds", time.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_program_that_ends_well_says_yes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("may");
        std::fs::write(
            &path,
            "#!/bin/sh\ncase $1 in good.example) exit 0;; hang.example) sleep 1000;; esac; exit 3\n",
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run(&path, "good.example", TIME), Ok(true));
        assert_eq!(run(&path, "bad.example", TIME), Ok(false));
        assert!(run(&path, "hang.example", Duration::from_millis(200)).unwrap_err().contains("no answer"));
        assert!(run(&directory.path().join("nowhere"), "good.example", TIME).is_err());
    }

    /// Answers one request with these bytes; what was asked.
    fn answered(response: &'static [u8], url: impl FnOnce(u16) -> String) -> (Result<bool, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                asked.push(byte[0]);
            }
            stream.write_all(response).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let said = ask(&Ask::Url(url(port)), "a.example");
        (said, server.join().unwrap())
    }

    #[test]
    fn only_a_status_of_success_says_yes() {
        let (said, asked) = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", |p| {
            format!("http://127.0.0.1:{p}/may")
        });
        assert_eq!(said, Ok(true));
        assert!(asked.starts_with("GET /may?domain=a.example HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        let (said, asked) = answered(b"HTTP/1.0 204 No\r\n\r\n", |p| format!("http://127.0.0.1:{p}?x=y"));
        assert_eq!(said, Ok(true));
        assert!(asked.starts_with("GET /?x=y&domain=a.example "), "{asked}");
        for response in [
            &b"HTTP/1.1 404 Not Found\r\n\r\n"[..],
            b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            b"HTTP/1.1 500 Oh\r\n\r\n",
        ] {
            assert_eq!(answered(response, |p| format!("http://127.0.0.1:{p}/")).0, Ok(false));
        }
        for response in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 2"] {
            assert!(answered(response, |p| format!("http://127.0.0.1:{p}/")).0.is_err());
        }
        assert!(ask(&Ask::Url("http://127.0.0.1:1/".into()), "a.example").is_err(), "nobody is there");
    }
}
