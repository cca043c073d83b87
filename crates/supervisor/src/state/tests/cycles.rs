//! Configurations with no application, and with several.

use super::*;

fn world(manners: Manners, applications: usize) -> World {
    let mut w = World::new(1);
    w.outline.applications = applications;
    w.state = State::new(manners, w.outline);
    w
}

fn nginx(applications: usize) -> World {
    let mut w = world(Manners::Nginx, applications);
    if applications == 0 {
        // Molds bring the edge up in this world; without one somebody else has to say so.
        w.state.handle(Event::EdgeConfigured, w.now);
    }
    w.run();
    w
}

#[test]
fn without_applications_the_edge_is_all_there_is() {
    let mut w = nginx(0);
    assert_eq!(w.seen, [Action::Accept, Action::Announce]);
    w.seen.clear();
    w.event(Event::Signal(Signal::Hup));
    let configure = w.position(&Action::ConfigureEdge { cycle: 2 });
    assert!(w.position(&Action::Read { cycle: 2 }) < configure);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::StartMold { .. } | Action::Accept)));
    w.event(Event::Signal(Signal::Term));
    assert_eq!(w.exit, Some(0));
}

#[test]
fn a_configuration_that_is_refused_changes_nothing() {
    let mut w = nginx(0);
    w.seen.clear();
    w.state.handle(Event::Signal(Signal::Hup), w.now);
    // Two more while it is being read are one more afterwards.
    w.state.handle(Event::Signal(Signal::Hup), w.now);
    w.state.handle(Event::Signal(Signal::Hup), w.now);
    w.event(Event::Refused { cycle: 2 });
    assert!(w.seen.contains(&Action::Discard { cycle: 2 }));
    let configured: Vec<_> = w.seen.iter().filter(|a| matches!(a, Action::ConfigureEdge { .. })).collect();
    assert_eq!(configured, [&Action::ConfigureEdge { cycle: 3 }]);
    assert_eq!(w.exit, None);
}

#[test]
fn an_edge_without_applications_accepts_again_after_its_death() {
    let mut w = nginx(0);
    w.seen.clear();
    w.event(Event::EdgeGone { status: Status::Signal(9) });
    w.wait(10 * S);
    assert!(w.position(&Action::StartEdge) < w.position(&Action::Accept));
}

#[test]
fn every_application_must_be_ready_before_the_edge_accepts() {
    let w = nginx(2);
    assert_eq!(w.spawned(), [1, 2]);
    let hooks = w.seen.iter().filter(|a| matches!(a, Action::Hook { name: "when_ready", .. })).count();
    assert_eq!(hooks, 2);
    let mut w = world(Manners::Nginx, 2);
    w.auto_ready = false;
    w.run();
    w.event(Event::WorkerReady { worker: 1 });
    assert!(!w.seen.contains(&Action::Accept));
    w.event(Event::WorkerReady { worker: 2 });
    assert!(w.seen.contains(&Action::Accept));
}

#[test]
fn one_application_that_does_not_boot_keeps_all_old_ones() {
    let mut w = nginx(2);
    w.seen.clear();
    w.auto_ready = false;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [3, 4]);
    w.event(Event::WorkerReady { worker: 3 });
    w.exited(4, Status::Code(3));
    assert!(w.logged("Generation 2 did not boot; the old one goes on serving"));
    assert!(!w.seen.contains(&kill(3)), "it may have a request already");
    assert_eq!(w.drained(), [3]);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::ConfigureEdge { .. })));
    assert_eq!(w.exit, None);
}

#[test]
fn a_reload_may_bring_and_take_applications() {
    let mut w = nginx(2);
    w.seen.clear();
    w.outline.applications = 1;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!((w.spawned(), w.drained()), (vec![3], vec![1, 2]));
    w.seen.clear();
    w.outline.applications = 0;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!((w.spawned(), w.drained()), (vec![], vec![3]));
    w.outline.applications = 3;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.spawned(), [4, 5, 6]);
}

#[test]
fn a_worker_that_ends_is_replaced_in_its_own_application() {
    let mut w = nginx(2);
    w.seen.clear();
    w.exited(2, Status::Signal(9));
    let spawn = Action::SpawnWorker { generation: 2, worker: 3, age: 3, threads: 1 };
    assert!(w.seen.contains(&spawn), "{:?}", w.seen);
}

#[test]
fn nginxs_signals_are_answered_as_nginx_answers_them() {
    for signal in [Signal::Term, Signal::Int] {
        let mut w = nginx(0);
        w.seen.clear();
        w.event(Event::Signal(signal));
        assert!(w.seen.contains(&Action::StopEdge { graceful: false, seconds: 0 }));
    }
    let mut w = nginx(0);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Quit));
    w.event(Event::Signal(Signal::Quit));
    w.wait(3600 * S);
    let graceful = |a: &&Action| matches!(a, Action::StopEdge { graceful: true, .. });
    assert_eq!(w.seen.iter().filter(graceful).count(), 1, "a connection may take as long as it wants");
    assert_eq!(w.exit, None);
    w.event(Event::Signal(Signal::Term));
    assert!(w.seen.contains(&Action::StopEdge { graceful: false, seconds: 0 }));
}

#[test]
fn worker_shutdown_timeout_bounds_a_graceful_end() {
    let mut w = World::new(1);
    w.outline = Outline { applications: 0, shutdown_timeout: Some(5 * S) };
    w.state = State::new(Manners::Nginx, w.outline);
    w.state.handle(Event::EdgeConfigured, w.now);
    w.run();
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Quit));
    assert!(w.seen.contains(&Action::StopEdge { graceful: true, seconds: 5 }));
    w.wait(7 * S);
    assert!(w.seen.contains(&Action::KillEdge));
}

#[test]
fn a_master_rests_while_another_program_serves_and_goes_on_when_told() {
    let mut w = nginx(1);
    w.seen.clear();
    w.event(Event::Signal(Signal::Winch));
    assert!(w.seen.iter().any(|a| matches!(a, Action::StopEdge { graceful: true, .. })));
    w.exited(1, Status::Signal(9));
    w.wait(60 * S);
    assert!(!w.seen.contains(&Action::StartEdge) && w.spawned().is_empty(), "{:?}", w.seen);
    assert!(!w.seen.iter().any(|a| matches!(a, Action::StopMold { .. })), "its mold stays");
    w.event(Event::Signal(Signal::Hup));
    assert!(!w.seen.iter().any(|a| matches!(a, Action::Read { .. })), "the configuration is that of before");
    assert_eq!(w.spawned(), [2]);
    assert!(w.position(&Action::StartEdge) < w.position(&Action::Accept));
    w.event(Event::Signal(Signal::Winch));
    w.event(Event::SuccessorGone);
    assert_eq!(w.seen.iter().filter(|a| **a == Action::StartEdge).count(), 2);
    w.event(Event::Signal(Signal::Winch));
    w.event(Event::Signal(Signal::Quit));
    assert_eq!(w.exit, Some(0));
}

#[test]
fn told_to_go_on_before_the_edge_has_ended_another_one_follows_it() {
    let mut w = nginx(0);
    w.auto_exit = false;
    w.event(Event::Signal(Signal::Winch));
    w.event(Event::Signal(Signal::Hup));
    assert!(!w.seen.contains(&Action::StartEdge));
    w.seen.clear();
    w.event(Event::EdgeGone { status: Status::Code(0) });
    assert_eq!(w.seen, [Action::StartEdge, Action::Accept]);
}

#[test]
fn usr2_is_for_the_loop_to_answer() {
    let mut w = nginx(0);
    w.event(Event::Signal(Signal::Usr2));
    assert!(w.seen.contains(&Action::ChangeBinary));
}

#[test]
fn told_to_rest_before_its_edge_is_up_a_master_rests_all_the_same() {
    let mut w = world(Manners::Nginx, 0);
    w.run();
    w.event(Event::Signal(Signal::Winch));
    w.wait(60 * S);
    assert!(!w.seen.contains(&Action::StartEdge) && w.exit.is_none(), "{:?}", w.seen);
    w.event(Event::Signal(Signal::Hup));
    assert!(w.position(&Action::StartEdge) < w.position(&Action::Accept));
}

#[test]
fn a_dead_mold_renews_its_own_application_only() {
    let mut w = nginx(2);
    w.seen.clear();
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert!(w.seen.contains(&Action::StartMold { cycle: 1, application: 1, generation: 3 }));
    assert!(!w.seen.iter().any(|a| matches!(a, Action::Read { .. })));
    assert_eq!(w.spawned(), [3]);
    assert!(w.drained().is_empty());
    // The second one fails too: later, and only that application again.
    w.event(Event::MoldFailed { generation: 3, code: 4, text: "no module".to_owned() });
    assert!(w.seen.contains(&kill(3)));
    w.wait(S);
    assert!(w.seen.contains(&Action::StartMold { cycle: 1, application: 1, generation: 4 }));
    let last = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker: last });
    assert_eq!(w.drained(), [2], "the other application's worker stays");
    assert_eq!(w.state.serving(), [1, 4]);
    assert_eq!(w.state.generations.len(), 2);
}

#[test]
fn a_reload_while_a_mold_is_renewed_renews_everything() {
    let mut w = nginx(2);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert_eq!(w.state.last_generation, 3);
    w.auto_ready = true;
    w.event(Event::Signal(Signal::Hup));
    assert_eq!(w.state.serving(), [4, 5]);
    assert_eq!(w.state.generations.len(), 2);
    assert!(w.state.renewal.is_none());
}

#[test]
fn a_loop_of_deaths_in_one_application_slows_down_no_other() {
    let mut w = nginx(2);
    w.seen.clear();
    crash(&mut w, 1, false, 0);
    assert_eq!(w.spawned(), [3]);
    crash(&mut w, 3, false, 0);
    assert!(w.logged("(2 in a row); the next one starts in 0.1 s"));
    crash(&mut w, 2, false, 0);
    assert_eq!(w.spawned(), [3, 4], "in the place of the other application's");
    w.wait(S);
    assert_eq!(w.spawned(), [3, 4, 5]);
}

#[test]
fn a_mold_that_does_not_boot_keeps_no_other_application_from_another_mold() {
    let renewal = |a: &Action| match *a {
        Action::StartMold { application, generation, .. } => Some((application, generation)),
        _ => None,
    };
    let mut w = nginx(2);
    w.auto_ready = false;
    w.event(Event::MoldGone { generation: 1, status: Status::Signal(9) });
    // Its settings file is broken since.
    for generation in 3..8 {
        w.event(Event::MoldFailed { generation, code: 1, text: "no".to_owned() });
        w.wait(3 * S);
    }
    w.event(Event::MoldFailed { generation: 8, code: 1, text: "no".to_owned() });
    w.seen.clear();
    w.event(Event::MoldGone { generation: 2, status: Status::Signal(9) });
    assert_eq!(w.seen.iter().find_map(renewal), Some((1, 9)), "at once: {:?}", w.seen);
    let worker = *w.spawned().last().unwrap();
    w.event(Event::WorkerReady { worker });
    assert_eq!(w.state.serving(), [1, 9]);
    // And the broken one is tried again, when it is its time.
    w.wait(30 * S);
    assert_eq!(w.seen.iter().filter_map(renewal).next_back(), Some((0, 10)));
}
