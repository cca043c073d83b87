//! What goes on beside the requests: the files that are there are found when a zone is opened (the loader), and what
//! nobody asks for, or is too much, goes (the manager).

use std::fs::{self, DirEntry};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use config::model::http::CachePace;

use crate::key::{self, Id};
use crate::zone::{Zone, now};

/// How long a temporary file may lie whose writer is nobody we know.
const ABANDONED: Duration = Duration::from_secs(60);

/// Begins both, in a thread that ends with the zone.
pub fn spawn(zone: &Arc<Zone>) {
    let weak = Arc::downgrade(zone);
    let name = format!("cache-{}", zone.name().chars().take(9).collect::<String>());
    let spawned = thread::Builder::new().name(name).stack_size(256 * 1024).spawn(move || run(&weak));
    if spawned.is_err() {
        // What is there is still found when somebody asks for it.
        zone.index().cold = true;
    }
}

fn run(zone: &Weak<Zone>) {
    // Of who is not known to be gone yet: a program that crashes is started again at once.
    let mut unfinished = Vec::new();
    if let Some(zone) = zone.upgrade() {
        let mut turn = Turn::new(zone.model().loader);
        each(zone.directory(), zone.depth(), &mut |entry| {
            unfinished.extend(load_file(&zone, entry));
            turn.count();
        });
        zone.index().cold = false;
    }
    while let Some(zone) = zone.upgrade() {
        unfinished.retain(|path| !is_cleared(path));
        let mut wait = manage(&zone);
        if !unfinished.is_empty() {
            wait = wait.min(ABANDONED / 12);
        }
        let signal = Arc::clone(&zone.signal);
        drop(zone);
        signal.wait(wait);
    }
}

/// Work in small portions.
struct Turn {
    pace: CachePace,
    files: u32,
    begun: Instant,
}

impl Turn {
    fn new(pace: CachePace) -> Self {
        Self { pace, files: 0, begun: Instant::now() }
    }

    /// One more file; rests where it is time to.
    fn count(&mut self) {
        self.files += 1;
        if self.is_over() {
            thread::sleep(self.pace.sleep);
            *self = Self::new(self.pace);
        }
    }

    fn is_over(&self) -> bool {
        self.files >= self.pace.files.max(1) || self.begun.elapsed() >= self.pace.threshold
    }
}

fn each(directory: &Path, depth: usize, found: &mut impl FnMut(&DirEntry)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth > 0 {
                each(&entry.path(), depth - 1, found);
            }
        } else if kind.is_file() && depth == 0 {
            found(&entry);
        }
    }
}

/// All files that are there, whether or not the loader has come to them.
pub fn all(zone: &Zone) -> Vec<Id> {
    let mut all = Vec::new();
    each(zone.directory(), zone.depth(), &mut |entry| {
        all.extend(key::parse(entry.file_name().as_encoded_bytes()));
    });
    all
}

/// Returns the file, if it is a temporary one that may still be written to.
fn load_file(zone: &Zone, entry: &DirEntry) -> Option<PathBuf> {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    let looked = entry.metadata().ok()?;
    let Some(id) = key::parse(name) else {
        let path = entry.path();
        return (writer(name).is_some() && !is_cleared(&path)).then_some(path);
    };
    let size = zone.model().size;
    let mut index = zone.index();
    // One that is known by now was used, or written anew.
    if index.get(&id).is_none_or(|node| !node.exists) {
        let uses = index.touch(id, now()).uses.max(1);
        index.set_file(&id, Some(looked.blocks() * 512));
        if let Some(node) = index.get_mut(&id) {
            node.uses = uses;
        }
        let gone = index.shrink(size);
        drop(index);
        zone.remove_files(&gone);
    }
    None
}

/// Whether a temporary file is gone; removes what is abandoned.
fn is_cleared(path: &Path) -> bool {
    let Ok(looked) = fs::metadata(path) else { return true };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    is_abandoned(name, looked.modified().ok()) && fs::remove_file(path).is_ok()
}

/// A temporary file of a process that is no more.
fn is_abandoned(name: &[u8], modified: Option<SystemTime>) -> bool {
    let Some(pid) = writer(name) else { return false };
    let is_old = modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > ABANDONED);
    is_old && (pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists())
}

/// Which process has made a temporary file.
fn writer(name: &[u8]) -> Option<u32> {
    let mut parts = name.split(|byte| *byte == b'.');
    key::parse(parts.next()?)?;
    std::str::from_utf8(parts.next()?).ok()?.parse().ok()
}

/// Removes what is to go; says when to look again.
fn manage(zone: &Zone) -> Duration {
    let model = zone.model().clone();
    let now = now();
    let mut turn = Turn::new(model.manager);
    loop {
        // The disk may take its time: it is asked while nobody waits for the index.
        let is_scarce =
            model.min_free > 0 && free(zone.directory()).is_some_and(|free| free < model.min_free);
        let gone = {
            let mut index = zone.index();
            let is_full = is_scarce || model.max_size.is_some_and(|most| index.size > most);
            let gone = match index.inactive(now, model.inactive) {
                Some(id) if index.get(&id).is_some_and(|node| node.busy > 0) => {
                    index.touch(id, now);
                    None
                }
                Some(id) => Some(id),
                None if is_full => index.oldest(|node| node.exists),
                None => {
                    return Duration::from_secs(if model.min_free > 0 { 1 } else { 10 })
                        .min(model.inactive.max(Duration::from_secs(1)));
                }
            };
            gone.map(|id| (id, index.forget(&id)))
        };
        match gone {
            Some((id, true)) => zone.remove_files(&[id]),
            Some(_) => {}
            // All that is too much is in use.
            None => return Duration::from_secs(1),
        }
        turn.files += 1;
        if turn.is_over() {
            return model.manager.sleep;
        }
    }
}

fn free(directory: &Path) -> Option<u64> {
    let looked = rustix::fs::statvfs(directory).ok()?;
    Some(looked.f_bavail * looked.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_left_is_abandoned() {
        let old = SystemTime::now() - 2 * ABANDONED;
        let name = |pid: u32| format!("b7f54b2df7773722d382f4809d65029c.{pid}.7").into_bytes();
        // No process has a number as large as that.
        assert!(is_abandoned(&name(u32::MAX), Some(old)));
        assert!(!is_abandoned(&name(u32::MAX), Some(SystemTime::now())));
        assert!(!is_abandoned(&name(1), Some(old)));
        assert!(!is_abandoned(b"README.md", Some(old)));
    }
}
