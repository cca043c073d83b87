//! The applications behind the edge, by their names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};

use bridge::edge::Region;
use buffering::TempSpace;
use config::model::Model;
use handlers::app::{App, Event, Shared};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::runtime::app_options;

/// Slots that each event loop has at least; one is one request that is queued at the workers or running.
const LEAST_SLOTS: usize = 64;
const MOST_SLOTS: usize = 1024;
// A reload's workers are there beside those that still serve.
const _: () = assert!(config::model::MOST_WORKER_THREADS * 2 <= bridge::MOST_CLAIMERS);

/// What all event loops share of each application.
pub struct Apps {
    known: RwLock<BTreeMap<String, Arc<Shared>>>,
    loops: usize,
    events: UnboundedSender<Event>,
}

impl Apps {
    /// None yet, for so many event loops.
    pub fn new(loops: usize, events: UnboundedSender<Event>) -> Self {
        Self { known: RwLock::default(), loops, events }
    }

    /// The application of this name, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<Shared>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether it is one of those that are known by a name, and not one that was removed.
    pub fn has(&self, app: &Arc<Shared>) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().any(|known| Arc::ptr_eq(known, app))
    }

    /// The application of this name; one that is new gets its shared memory, for so many threads of workers.
    pub fn open(&self, name: &str, claimers: usize) -> io::Result<Arc<Shared>> {
        if let Some(known) = self.named(name) {
            return Ok(known);
        }
        let slots = (claimers * 2 + LEAST_SLOTS).min(MOST_SLOTS).min(usize::from(u16::MAX) / self.loops);
        let region = Region::create(self.loops as u16, slots as u16)?;
        let shared = Shared::new(region, slots as u16, self.events.clone());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Arc::clone(&shared));
        Ok(shared)
    }

    /// Sees to it that every application of the model is there.
    pub fn open_all(&self, model: &Model) -> io::Result<()> {
        for app in &model.apps {
            self.open(&app.name, app.workers as usize * app.threads as usize)?;
        }
        Ok(())
    }

    /// Forgets those that the model does not have. Who holds them still, keeps them.
    pub fn retain(&self, model: &Model) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| model.apps.iter().any(|app| app.name == *name));
    }
}

/// One event loop's side of the applications.
#[derive(Default)]
pub struct Sides(RefCell<Vec<Side>>);

struct Side {
    shared: Arc<Shared>,
    app: Rc<App>,
    /// Takes in what workers write.
    driver: JoinHandle<()>,
}

impl Sides {
    /// The sides of the model's applications, in the model's order; new ones are driven by `drive`.
    pub fn of(
        &self,
        apps: &Apps,
        index: usize,
        model: &Model,
        temp: &Arc<TempSpace>,
        drive: impl Fn(&Rc<App>) -> io::Result<JoinHandle<()>>,
    ) -> io::Result<Vec<Rc<App>>> {
        let mut sides = Vec::new();
        for configured in &model.apps {
            let shared =
                apps.open(&configured.name, configured.workers as usize * configured.threads as usize)?;
            let options = app_options(model, configured);
            if let Some(app) = self.side_of(&shared) {
                app.set_options(options);
                sides.push(app);
                continue;
            }
            let app = App::new(Arc::clone(&shared), index, options, Arc::clone(temp));
            let driver = drive(&app)?;
            self.0.borrow_mut().push(Side { shared, app: Rc::clone(&app), driver });
            sides.push(app);
        }
        Ok(sides)
    }

    /// This loop's side of one application.
    pub fn side_of(&self, shared: &Arc<Shared>) -> Option<Rc<App>> {
        let sides = self.0.borrow();
        sides.iter().find(|side| Arc::ptr_eq(&side.shared, shared)).map(|side| Rc::clone(&side.app))
    }

    /// Before the loop sleeps.
    pub fn before_park(&self) {
        for side in self.0.borrow().iter() {
            side.app.before_park();
        }
    }

    /// Whether there is no application.
    pub fn are_none(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether a request of any of them is under way.
    pub fn are_busy(&self) -> bool {
        self.0.borrow().iter().any(|side| side.app.active() > 0)
    }

    /// Whether requests wait for a worker of any of them, of whatever loop.
    pub fn have_queue(&self) -> bool {
        self.0.borrow().iter().any(|side| side.shared.waiting() > 0)
    }

    /// Several times a second. Lets go of what `current` no longer has, once its last request is done.
    pub fn tick(&self, current: &[Rc<App>]) {
        let apps: Vec<_> = self.0.borrow().iter().map(|side| Rc::clone(&side.app)).collect();
        for app in apps {
            app.empty_bell();
            app.tick();
        }
        self.0.borrow_mut().retain(|side| {
            let stays = side.app.active() > 0 || current.iter().any(|app| Rc::ptr_eq(app, &side.app));
            if !stays {
                side.driver.abort();
            }
            stays
        });
    }
}
