//! Which interpreter runs the application.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::listen::errno;

/// The interpreter: the one given, else that of the active virtual environment, else the one beside this binary
/// (`pip install` puts both into one directory), else `python3` or `python` of `$PATH`.
pub(crate) fn find(
    given: Option<PathBuf>,
    virtual_env: Option<&OsStr>,
    path: Option<&OsStr>,
) -> Result<PathBuf, Missing> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("python")));
    find_beside(given, virtual_env, path, beside)
}

/// Why there is no interpreter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missing {
    #[error("python: `{}` is no program that can be run ({})", .0.display(), .1)]
    Given(PathBuf, String),
    #[error("VIRTUAL_ENV is {}, but there is no bin/python in it", .0.display())]
    InEnvironment(PathBuf),
    #[error("{} is a link to {}, which is not there: the virtual environment has lost its Python", .0.display(), .1.display())]
    Lost(PathBuf, PathBuf),
    #[error("there is no python3 on PATH")]
    Anywhere,
}

impl Missing {
    /// What to do, to be followed by how an interpreter is named.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Given(..) => "name another",
            Self::Lost(..) => "make the environment anew, or name the interpreter",
            Self::InEnvironment(_) => "activate another environment, or name the interpreter",
            Self::Anywhere => "activate a virtual environment, or name the interpreter",
        }
    }
}

fn find_beside(
    given: Option<PathBuf>,
    virtual_env: Option<&OsStr>,
    path: Option<&OsStr>,
    beside: Option<PathBuf>,
) -> Result<PathBuf, Missing> {
    if let Some(given) = given {
        if given.components().count() == 1 {
            return on_path(&given, path)
                .ok_or_else(|| Missing::Given(given, "it is not on PATH".to_owned()));
        }
        return match lost(&given) {
            Some(lost) => Err(lost),
            None => match why_not(&given) {
                None => Ok(given),
                Some(why) => Err(Missing::Given(given, why)),
            },
        };
    }
    if let Some(directory) = virtual_env.filter(|d| !d.is_empty()) {
        let python = Path::new(directory).join("bin/python");
        if runs(&python) {
            return Ok(python);
        }
        return Err(lost(&python).unwrap_or(Missing::InEnvironment(directory.into())));
    }
    // Another interpreter would not find what is installed there.
    if let Some(lost) = beside.as_deref().and_then(lost) {
        return Err(lost);
    }
    beside
        .filter(|python| runs(python))
        .or_else(|| on_path(Path::new("python3"), path))
        .or_else(|| on_path(Path::new("python"), path))
        .ok_or(Missing::Anywhere)
}

fn on_path(name: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|directory| directory.join(name)).find(|program| runs(program))
}

/// A link that leads nowhere, as it is left of a virtual environment when the system's Python goes.
fn lost(python: &Path) -> Option<Missing> {
    let target = std::fs::read_link(python).ok()?;
    (!python.exists()).then(|| Missing::Lost(python.to_owned(), target))
}

fn runs(program: &Path) -> bool {
    why_not(program).is_none()
}

/// What keeps it from being run: by whoever has started this.
fn why_not(program: &Path) -> Option<String> {
    match std::fs::metadata(program) {
        Ok(there) if there.is_dir() => Some("it is a directory".to_owned()),
        Ok(there) if !there.is_file() => Some("it is no file".to_owned()),
        Ok(_) => rustix::fs::access(program, Access::EXEC_OK).err().map(|error| errno(&error.into())),
        Err(error) => Some(errno(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn the_nearest_interpreter_wins() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let venv = program(&d.join("venv/bin/python"));
        let beside = program(&d.join("tool/python"));
        let three = program(&d.join("usr/python3"));
        let plain = program(&d.join("usr/python"));
        let own = program(&d.join("own/python3.12"));
        let path = std::env::join_paths([d.join("nowhere"), d.join("usr")]).unwrap();
        let path = Some(path.as_os_str());
        let env = d.join("venv");
        let env = Some(env.as_os_str());
        assert_eq!(find_beside(Some(own.clone()), env, path, None), Ok(own));
        assert_eq!(find_beside(Some("python".into()), env, path, None), Ok(plain));
        assert_eq!(find_beside(None, env, path, Some(beside.clone())), Ok(venv));
        assert_eq!(find_beside(None, None, path, Some(beside.clone())), Ok(beside));
        assert_eq!(find_beside(None, None, path, Some(d.join("tool/none"))), Ok(three));
        assert_eq!(find_beside(None, None, None, None), Err(Missing::Anywhere));
        let broken = find_beside(None, Some(d.as_os_str()), path, None).unwrap_err();
        assert_eq!(broken, Missing::InEnvironment(d.to_owned()));
    }

    #[test]
    fn why_a_program_cannot_be_run_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        let plain = d.join("plain");
        fs::write(&plain, "").unwrap();
        let why = |path: &Path| find_beside(Some(path.to_owned()), None, None, None).unwrap_err().to_string();
        assert!(why(d).ends_with("is no program that can be run (it is a directory)"), "{}", why(d));
        assert!(
            why(&plain).ends_with("is no program that can be run (13: Permission denied)"),
            "{}",
            why(&plain)
        );
        assert!(why(&d.join("none")).ends_with("(2: No such file or directory)"), "{}", why(&d.join("none")));
        assert!(why(Path::new("none")).ends_with("(it is not on PATH)"), "{}", why(Path::new("none")));
    }

    #[test]
    fn an_environment_without_its_python_is_told_and_no_other_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        program(&d.join("usr/python3"));
        let path = Some(d.join("usr").into_os_string());
        let link = d.join("venv/bin/python");
        fs::create_dir_all(d.join("venv/bin")).unwrap();
        std::os::unix::fs::symlink("/nowhere/python3.9", &link).unwrap();
        let lost = Err(Missing::Lost(link.clone(), "/nowhere/python3.9".into()));
        let path = path.as_deref();
        assert_eq!(find_beside(None, None, path, Some(link.clone())), lost);
        assert_eq!(find_beside(None, Some(d.join("venv").as_os_str()), path, None), lost);
        assert_eq!(find_beside(Some(link), None, path, None), lost);
    }
}
