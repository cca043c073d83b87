//! Files that come with nginx and that configurations include, for machines where nginx is not installed: whoever takes
//! a site's file along takes it for granted that they are there.

use std::io;
use std::path::{Path, PathBuf};

use conf_syntax::{Loader, Sources, Span};

use crate::report::{Diagnostic, Place, Severity};

/// By name. A file of the user's always comes first.
const FILES: &[(&str, &str)] = &[
    ("mime.types", include_str!("built_in/mime.types")),
    ("proxy_params", include_str!("built_in/proxy_params")),
    ("fastcgi_params", include_str!("built_in/fastcgi_params")),
    (
        "fastcgi.conf",
        concat!(
            "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n",
            include_str!("built_in/fastcgi_params")
        ),
    ),
    ("uwsgi_params", include_str!("built_in/uwsgi_params")),
    ("scgi_params", include_str!("built_in/scgi_params")),
];

/// Where nginx's packages put them. A path that leads elsewhere names a file of the user's own.
const DIRECTORIES: &[&str] =
    &["/etc/nginx", "/usr/local/nginx/conf", "/usr/local/etc/nginx", "/opt/homebrew/etc/nginx"];

/// What a check says of a file that is built in, at the first place that includes it.
pub(crate) fn note(path: &Path, sources: &Sources) -> Diagnostic {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let place = sources.files().find_map(|(file, _, text)| {
        let mut lines = text.split_inclusive(|&b| b == b'\n').scan(0, |at, line| {
            *at += line.len();
            Some((*at - line.len(), line))
        });
        let (start, line) = lines.find(|(_, line)| {
            let line = line.trim_ascii_start();
            line.starts_with(b"include") && line.windows(name.len()).any(|part| part == name.as_bytes())
        })?;
        let start = start + (line.len() - line.trim_ascii_start().len());
        let end = start + line.trim_ascii().len();
        let (start, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        Some(Place::in_sources(sources, Span { file, start, end }))
    });
    let text = format!("there is no {}: the `{name}` that Monoceros brings is used", path.display());
    Diagnostic::new(Severity::Note, text).at(place)
}

/// The media type of an extension in the `mime.types` that is brought, if that is what was read.
pub(crate) fn media_type(sources: &Sources, extension: &[u8]) -> Option<&'static [u8]> {
    let (name, text) = FILES[0];
    let is_read = |(_, path, read): (_, &Path, &[u8])| path.ends_with(name) && read == text.as_bytes();
    sources.files().any(is_read).then_some(())?;
    text.lines().find_map(|line| {
        let mut words = line.trim().trim_end_matches(';').split_ascii_whitespace();
        let media_type = words.next()?;
        words.any(|word| word.as_bytes() == extension).then_some(media_type.as_bytes())
    })
}

/// Looks into another loader first.
pub(crate) struct WithBuiltIn<'a> {
    inner: &'a mut dyn Loader,
    /// The main file, which is never built in.
    main: &'a Path,
    /// What was asked for and not there.
    pub(crate) used: Vec<PathBuf>,
}

impl<'a> WithBuiltIn<'a> {
    pub(crate) fn new(inner: &'a mut dyn Loader, main: &'a Path) -> Self {
        Self { inner, main, used: Vec::new() }
    }

    fn find(&self, path: &Path) -> Option<&'static str> {
        let (name, directory) = (path.file_name()?.to_str()?, path.parent()?);
        let is_nginxs =
            Some(directory) == self.main.parent() || DIRECTORIES.iter().any(|d| Path::new(d) == directory);
        let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
        (is_nginxs && path != self.main).then_some(text)
    }
}

impl Loader for WithBuiltIn<'_> {
    fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let outcome = self.inner.read(path, limit);
        if !outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return outcome;
        }
        let Some(text) = self.find(path) else { return outcome };
        if text.len() > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.used.push(path.to_owned());
        Ok(text.as_bytes().to_vec())
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.glob(pattern)
    }
}

#[cfg(test)]
mod tests {
    use conf_syntax::MemoryLoader;

    use super::*;

    #[test]
    fn only_what_is_not_there_and_belongs_to_nginx_is_built_in() {
        let mut disk = MemoryLoader::default();
        disk.insert("/srv/fastcgi_params", "# own");
        let main = Path::new("/srv/mime.types");
        let mut loader = WithBuiltIn::new(&mut disk, main);
        let mut read = |path: &str| {
            loader.read(Path::new(path), 100_000).ok().map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(read("/srv/fastcgi_params").unwrap(), "# own");
        assert!(read("/srv/proxy_params").unwrap().contains("$http_host"));
        assert!(read("/etc/nginx/mime.types").unwrap().contains("text/css"));
        assert_eq!(read("/srv/mime.types"), None, "the main file");
        assert_eq!(read("/srv/conf/mime.types"), None, "a directory of the user's");
        assert_eq!(read("/etc/nginx/other"), None);
        assert_eq!(loader.used, [Path::new("/srv/proxy_params"), Path::new("/etc/nginx/mime.types")]);
        assert!(loader.read(Path::new("/etc/nginx/mime.types"), 10).is_err());
    }
}
