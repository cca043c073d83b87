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

#[test]
fn a_reload_whose_workers_die_without_an_error_is_given_up() {
    for status in [Status::Signal(11), Status::Signal(9), Status::Code(0)] {
        let mut w = World::serving(2);
        w.auto_ready = false;
        w.event(Event::Signal(Signal::Hup));
        for round in 0..5 {
            assert!(!w.logged("did not boot"));
            let worker = *w.spawned().last().unwrap();
            w.exited(worker, status);
            // Longer than what it takes to forget a loop.
            w.wait(if round == 2 { 20 * S } else { S });
        }
        assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
        w.auto_ready = true;
        w.event(Event::Signal(Signal::Hup));
        assert!(w.logged("Generation 3 serves"));
    }
}

#[test]
fn workers_that_do_not_boot_keep_none_of_the_old_generation_away() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.exited(3, Status::Signal(11));
    w.exited(4, Status::Signal(11));
    let count = w.spawned().len();
    w.exited(1, Status::Signal(9));
    assert_eq!(w.spawned().len(), count + 1);
}

#[test]
fn the_first_generation_goes_on_trying_where_workers_are_killed() {
    let mut w = World::new(1);
    w.auto_ready = false;
    w.run();
    for _ in 0..20 {
        let worker = *w.spawned().last().unwrap();
        w.exited(worker, Status::Signal(9));
        w.wait(40 * S);
    }
    assert_eq!(w.exit, None);
    let last = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker: last });
    assert!(w.seen.contains(&Action::Accept));
}

#[test]
fn a_reload_ends_though_requests_crash_its_workers() {
    let mut w = World::serving(3);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    let mut finished = 0;
    for worker in [4, 5] {
        w.event(Event::WorkerReady { worker });
        finished += 1;
        crash(&mut w, worker, true, finished);
        assert!(!w.logged("Generation 2 serves"), "nobody would");
    }
    // That one was not ready.
    w.event(Event::WorkerExited { worker: 6, status: Status::Signal(11) });
    w.event(Event::WorkerGone { worker: 6, work: Some(Work { used: false, finished }) });
    w.wait(S);
    let last = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker: last });
    assert!(w.logged("Generation 2 serves"));
}

#[test]
fn a_reload_does_not_end_over_workers_that_die_by_themselves() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    for _ in 0..6 {
        let worker = *w.spawned().last().unwrap();
        w.event(Event::WorkerReady { worker });
        w.wait(Duration::from_millis(10));
        crash(&mut w, worker, false, 0);
        w.wait(5 * S);
    }
    assert!(!w.logged("Generation 2 serves"));
}

#[test]
fn a_graceful_stop_within_a_delay_finds_somebody_for_those_who_wait() {
    let mut w = World::serving(1);
    crash(&mut w, 1, true, 0);
    crash(&mut w, 2, true, 0);
    assert_eq!(w.spawned(), [2], "slowed down");
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    assert_eq!(w.spawned(), [2]);
    assert_eq!(w.state.deadline(), Some(w.now + Duration::from_millis(100)));
    w.wait(Duration::from_millis(100));
    assert_eq!(w.spawned(), [2, 3]);
    assert!(w.state.deadline().is_some_and(|at| at > w.now + S));
}

#[test]
fn a_reload_that_is_given_up_lets_its_workers_finish_what_they_have_taken() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.event(Event::WorkerReady { worker: 3 });
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Term));
    assert_eq!(w.drained(), [3]);
    assert!(!w.seen.contains(&kill(3)) && w.seen.contains(&kill(4)));
}

#[test]
fn a_mold_that_a_whole_groups_signal_has_ended_is_no_failure_of_the_boot() {
    for (signal, manners) in [(15, Signal::Term), (2, Signal::Int), (3, Signal::Quit)] {
        let booting = |told: bool| {
            let mut w = World::new(1);
            w.auto_ready = false;
            w.run();
            w.event(Event::MoldGone { generation: 1, status: Status::Signal(signal) });
            assert_eq!(w.exit, None);
            if told {
                w.event(Event::Signal(manners));
            }
            w.wait(10 * S);
            (w.exit, w.logged("before its workers were ready"))
        };
        assert_eq!(booting(true), (Some(0), false));
        assert_eq!(booting(false), (Some(3), true));
    }
}

#[test]
fn a_mold_that_hangs_in_an_import_ends_though_its_reload_has_failed_for_another_reason() {
    let mut w = limited(1);
    w.outline.applications = 2;
    w.state = State::new(Manners::Nginx, w.outline);
    w.run();
    w.seen.clear();
    w.state.handle(Event::Signal(Signal::Hup), w.now);
    w.state.handle(Event::Read { cycle: 2, outline: w.outline }, w.now);
    w.state.handle(Event::Configured { generation: 3, plan: w.plan.clone() }, w.now);
    w.state.handle(Event::Configured { generation: 4, plan: w.plan.clone() }, w.now);
    w.state.handle(Event::MoldFailed { generation: 3, code: 3, text: "no".to_owned() }, w.now);
    // Told to end, which whoever imports does not hear.
    w.state.actions.clear();
    w.auto_exit = false;
    w.wait(13 * S);
    let abort = w.position(&Action::AbortMold { generation: 4 });
    assert!(abort < w.position(&Action::KillMold { generation: 4 }));
    assert!(!w.state.generations.contains_key(&4));
    assert_eq!(w.exit, None);
}
