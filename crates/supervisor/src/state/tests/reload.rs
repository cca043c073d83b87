//! Reloads, other numbers of workers, and what takes the place of a dead mold or edge.

use super::*;

#[test]
fn a_reload_switches_when_all_of_the_new_generation_is_ready() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::WorkerReady { worker: 3 });
    assert!(w.drained().is_empty());
    w.event(Event::WorkerReady { worker: 4 });
    assert_eq!(w.drained(), [1, 2]);
    let configure = w.position(&Action::ConfigureEdge { cycle: 2 });
    assert!(configure < w.position(&Action::Drain { worker: 1 }));
    assert!(w.position(&Action::StopMold { generation: 1 }) > configure);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::Hook { .. } | Action::Accept)));
}

#[test]
fn a_reload_that_fails_leaves_the_old_generation() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.exited(2, Status::Code(3));
    assert_eq!(w.exit, None);
    assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
    assert!(w.seen.contains(&Action::Discard { cycle: 2 }));
    assert!(w.seen.contains(&Action::StopMold { generation: 2 }));
    assert!(w.drained().is_empty());
    w.exited(1, Status::Signal(9));
    assert_eq!(w.spawned(), [2, 3], "the old mold still forks");
}

#[test]
fn a_booting_worker_killed_from_outside_does_not_fail_the_reload() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.exited(2, Status::Signal(9));
    w.event(Event::WorkerReady { worker: 3 });
    assert_eq!(w.drained(), [1]);
}

#[test]
fn hangups_during_a_reload_are_one_more() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    for _ in 0..5 {
        w.event(Event::Signal(Signal::Hup));
    }
    assert_eq!(w.spawned(), [2]);
    w.auto_ready = true;
    w.event(Event::WorkerReady { worker: 2 });
    assert_eq!(w.spawned(), [2, 3]);
    assert_eq!(w.drained(), [1, 2]);
}

#[test]
fn a_change_is_told_by_every_worker_and_reloads_once() {
    let mut w = World::serving(3);
    w.auto_ready = false;
    let change = |worker| Event::Changed { generation: 1, worker, path: "/srv/shop/app.py".into() };
    for worker in [2, 1, 3] {
        w.event(change(worker));
    }
    assert!(w.logged("app.py changed; reloading"));
    assert_eq!(w.state.last_generation, 2);
    assert!(!w.state.reload_again);
    w.event(change(1));
    assert!(w.state.reload_again, "a second change is another reload");
}

#[test]
fn ttin_and_ttou_change_the_number_and_never_below_one() {
    let mut w = World::serving(1);
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [2]);
    assert!(w.seen.contains(&Action::Hook {
        generation: 1,
        name: "nworkers_changed",
        arguments: vec![2, 1]
    }));
    w.event(Event::Signal(Signal::Ttou));
    assert_eq!(w.drained(), [1], "the oldest goes");
    w.event(Event::Signal(Signal::Ttou));
    assert_eq!(w.drained(), [1]);
    assert_eq!(w.spawned(), [2]);
}

#[test]
fn ttin_while_the_first_workers_boot_counts() {
    let mut w = World::new(1);
    w.auto_ready = false;
    // Before the settings are known, and after.
    w.state.handle(Event::Signal(Signal::Ttin), w.now);
    w.run();
    assert_eq!(w.spawned(), [1, 2]);
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [1, 2, 3]);
    for (new, old) in [(2, 1), (3, 2)] {
        let arguments = vec![new, old];
        w.position(&Action::Hook { generation: 1, name: "nworkers_changed", arguments });
    }
}

#[test]
fn ttin_during_a_reload_is_for_both_generations() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    w.event(Event::Signal(Signal::Ttin));
    assert_eq!(w.spawned(), [2, 3, 4], "one of them is the old generation's");
    assert_eq!((w.state.generations[&1].target, w.state.generations[&2].target), (2, 2));
}

#[test]
fn a_dead_edge_comes_back_with_new_workers_and_accepts_again() {
    let mut w = World::serving(2);
    w.event(Event::EdgeGone { status: Status::Signal(11) });
    assert!(w.seen.contains(&kill(1)) && w.seen.contains(&kill(2)), "their sockets are gone");
    assert!(w.spawned().is_empty(), "not before there is an edge");
    w.wait(Duration::ZERO);
    assert!(w.position(&Action::StartEdge) < w.position(&Action::Accept));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::EdgeGone { status: Status::Signal(11) });
    assert!(w.logged("Another edge starts in 0.1 s"));
}

#[test]
fn a_dead_mold_makes_a_new_generation_and_its_workers_go_on() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    assert!(w.seen.contains(&start_mold(2)));
    assert!(w.drained().is_empty());
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert_eq!(w.state.last_generation, 2, "not at once");
    w.wait(S);
    assert_eq!(w.state.last_generation, 3);
    w.auto_ready = true;
    let last = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker: last });
    assert_eq!(w.drained(), [1]);
    assert_eq!(w.state.generations.len(), 1);
}

#[test]
fn a_worker_of_a_dead_mold_is_not_replaced_by_that_mold() {
    let mut w = World::serving(2);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    w.seen.clear();
    w.exited(1, Status::Signal(9));
    assert!(w.spawned().is_empty());
}

#[test]
fn logs_are_reopened_and_what_is_not_there_says_so() {
    let mut w = World::serving(1);
    w.event(Event::Signal(Signal::Usr1));
    assert!(w.seen.contains(&Action::ReopenLogs));
    w.event(Event::Signal(Signal::Usr2));
    w.event(Event::Signal(Signal::Winch));
    assert!(w.logged("USR2") && w.logged("WINCH"));
    assert_eq!(w.exit, None);
}

#[test]
fn a_generation_whose_mold_was_ended_while_its_workers_boot_does_not_take_over() {
    let mut w = World::serving(1);
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [2]);
    // By what may be a signal for every process; the master waits for its own.
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(15) });
    w.event(Event::WorkerReady { worker: 2 });
    assert_eq!(w.state.serving(), [1], "nobody would ever replace its workers");
    w.wait(S);
    assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
}
