//! Molds and workers that take too long to boot.

use super::*;

/// A world in which booting takes too long after ten seconds.
fn limited(workers: u32) -> World {
    let mut w = World::new(workers);
    w.plan.boot_timeout = Some(10 * S);
    w
}

fn abort(worker: u64) -> Action {
    Action::SignalWorker { worker, signal: 6 }
}

#[test]
fn a_first_worker_that_hangs_while_it_boots_ends_the_start() {
    let mut w = limited(2);
    w.auto_ready = false;
    w.run();
    w.wait(5 * S);
    w.event(Event::WorkerReady { worker: 2 });
    w.wait(4 * S);
    assert!(!w.seen.contains(&abort(1)));
    w.wait(2 * S);
    assert!(w.logged("Worker (pid:101) was not ready within boot_timeout (10 s)"));
    assert!(w.seen.contains(&abort(1)) && !w.seen.contains(&abort(2)));
    assert_eq!(w.spawned(), [1, 2], "no third before the first is dead");
    assert!(w.logged("Worker failed to boot."));
    assert_eq!(w.exit, Some(3));
}

#[test]
fn a_reload_whose_worker_hangs_changes_nothing_and_the_next_one_is_done() {
    let mut w = limited(1);
    w.run();
    w.seen.clear();
    (w.auto_ready, w.auto_exit) = (false, false);
    w.event(Event::Signal(Signal::Hup));
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [2]);
    w.wait(10 * S);
    assert!(w.seen.contains(&abort(2)));
    assert_eq!(w.spawned(), [2]);
    w.auto_ready = true;
    w.wait(2 * S);
    assert!(w.seen.contains(&kill(2)), "it did not take ABRT");
    assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
    assert!(w.seen.contains(&start_mold(3)), "the second HUP");
    assert_eq!((w.spawned(), w.drained()), (vec![2, 3], vec![1]));
    assert_eq!(w.exit, None);
}

#[test]
fn a_replacement_that_hangs_is_tried_again() {
    let mut w = limited(1);
    w.run();
    w.seen.clear();
    w.auto_ready = false;
    w.exited(1, Status::Signal(9));
    assert_eq!(w.spawned(), [2]);
    w.wait(10 * S);
    assert!(w.seen.contains(&abort(2)));
    assert_eq!(w.spawned(), [2, 3]);
    w.event(Event::WorkerReady { worker: 3 });
    w.wait(60 * S);
    assert_eq!(w.spawned(), [2, 3]);
}

#[test]
fn a_mold_that_hangs_is_ended_and_its_reload_fails() {
    for takes_abort in [true, false] {
        let mut w = limited(1);
        w.run();
        w.seen.clear();
        w.auto_exit = takes_abort;
        // Its settings are not even known: the limit is that of the generation before.
        w.state.handle(Event::Signal(Signal::Hup), w.now);
        w.state.handle(Event::Read { cycle: 2, outline: OUTLINE }, w.now);
        while let Some(action) = w.state.next_action() {
            w.seen.push(action);
        }
        w.wait(10 * S);
        assert!(w.logged("The mold (generation 2) was not ready within boot_timeout (10 s)"));
        assert!(w.seen.contains(&Action::AbortMold { generation: 2 }));
        w.wait(2 * S);
        assert_eq!(w.seen.contains(&Action::KillMold { generation: 2 }), !takes_abort);
        assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
        assert_eq!(w.state.deadline(), None);
        w.event(Event::Signal(Signal::Hup));
        assert!(w.logged("Generation 3 serves"));
    }
}

#[test]
fn a_mold_that_never_forks_is_ended() {
    let mut w = limited(1);
    w.run();
    w.seen.clear();
    w.state.handle(Event::WorkerGone { worker: 1, work: None }, w.now);
    w.state.handle(Event::WorkerExited { worker: 1, status: Status::Signal(9) }, w.now);
    while let Some(action) = w.state.next_action() {
        w.seen.push(action);
    }
    assert_eq!(w.spawned(), [2]);
    w.wait(10 * S);
    assert!(w.logged("The mold (generation 1) did not fork a worker within boot_timeout (10 s)"));
    assert!(w.seen.contains(&Action::AbortMold { generation: 1 }));
    assert!(w.seen.contains(&start_mold(2)), "as with every mold that dies");
    assert!(w.logged("Generation 2 serves"));
}

#[test]
fn without_a_limit_booting_takes_what_it_takes() {
    let mut w = World::new(1);
    w.auto_ready = false;
    w.run();
    assert_eq!(w.state.deadline(), None);
    w.wait(10_000 * S);
    w.event(Event::WorkerReady { worker: 1 });
    assert!(w.seen.contains(&Action::Accept));
}
