//! A machine that answers the same everywhere: started in /srv/app by root.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::host::{Entry, Host, User};

#[derive(Debug, Default)]
pub struct Machine {
    /// The one settings file.
    pub source: Option<(String, String)>,
}

impl Host for Machine {
    fn current_dir(&self) -> PathBuf {
        PathBuf::from("/srv/app")
    }

    fn entry(&self, path: &Path) -> Entry {
        let directories = [
            "/",
            "/srv",
            "/srv/app",
            "/srv/app/staticfiles",
            "/srv/app/media",
            "/srv/files",
            "/srv/shop",
            "/run",
            "/tmp",
        ];
        if directories.iter().any(|d| path == Path::new(d)) {
            Entry::Directory
        } else if path == Path::new("/srv/app/notes.txt")
            || path == Path::new("/srv/shop/.venv/bin/python")
            || path == Path::new("/srv/shop/gunicorn.conf.py")
            || path == Path::new("/srv/app/site.conf")
            || self.source.as_ref().is_some_and(|(p, _)| path == Path::new(p))
        {
            Entry::File
        } else {
            Entry::Missing
        }
    }

    fn source(&self, path: &Path) -> Option<String> {
        self.source.as_ref().filter(|(p, _)| path == Path::new(p)).map(|(_, text)| text.clone())
    }

    fn user(&self, name: &str) -> Option<User> {
        (name == "www-data").then_some(User { uid: 33, gid: 33 })
    }

    fn user_of(&self, uid: u32) -> Option<User> {
        (uid == 33).then_some(User { uid: 33, gid: 33 })
    }

    fn group(&self, name: &str) -> Option<u32> {
        (name == "shop").then_some(1001)
    }

    fn identity(&self) -> (u32, u32) {
        (0, 0)
    }

    fn hostname(&self) -> String {
        "machine.example".to_owned()
    }

    fn has_ipv6(&self) -> bool {
        true
    }

    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match name {
            "localhost" => Ok(vec![
                SocketAddr::new([0, 0, 0, 0, 0, 0, 0, 1].into(), port),
                SocketAddr::new([127, 0, 0, 1].into(), port),
            ]),
            _ => Err(io::Error::other("not known here")),
        }
    }
}
