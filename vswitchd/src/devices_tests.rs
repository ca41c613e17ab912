//! Devices that need nothing of the kernel: dummies, and pcap files that come and go.

use super::*;
use crate::clock::Clock;
use crate::workers::Ingredients;
use arc_swap::ArcSwap;
use base::HashSeed;
use datapath::conntrack::{ConnTracker, CtConfig};
use datapath::{Rx, RxQueue};
use packet::{Batch, FramePool};
use std::os::fd::BorrowedFd;
use switch::brain::Brain;
use switch::config::{BridgeConfig, Config, PortConfig};
use switch::forwarding::NoPunt;
use switch::vlan::VlanConfig;

const START: Instant = Instant::from_nanos(1_000_000_000);

fn workers() -> Workers {
    let seed = HashSeed::new(1, 2);
    let snapshot = Arc::new(ArcSwap::new(Brain::new(seed, Box::new(NoPunt)).publish()));
    let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
    let tracker = Arc::new(ConnTracker::new(seed, CtConfig::default()));
    let ingredients = Ingredients { snapshot, seed, tracker, clock: Clock::default(), notify };
    Workers::start(2, ingredients).expect("workers")
}

/// A bridge with one port, the device of an interface.
fn bridge_of(name: &str, devices: &Devices) -> Arc<switch::forwarding::Forwarding> {
    let interface = interface(name, InterfaceKind::Dummy);
    let port = PortConfig {
        name: name.to_owned(),
        vlan: VlanConfig::default(),
        protected: false,
        interfaces: [(name.to_owned(), interface)].into(),
    };
    let mut bridge = BridgeConfig::new("br0");
    bridge.ports.insert(name.to_owned(), port);
    let config = Config { bridges: [("br0".to_owned(), bridge)].into(), ..Config::default() };
    let mut brain = Brain::new(HashSeed::new(1, 2), Box::new(NoPunt));
    brain.configure(&config, START);
    brain.device_open(name, devices.get(name).expect("open").1, START);
    brain.publish()
}

fn interface(name: &str, kind: InterfaceKind) -> InterfaceConfig {
    InterfaceConfig {
        name: name.to_owned(),
        kind,
        type_name: String::new(),
        row: String::new(),
        ofport_request: None,
        mtu_request: None,
        mac: None,
        rx_queues: RxQueues::default(),
        rx_affinity: switch::config::RxAffinity::default(),
        netns: None,
    }
}

fn opened(news: Option<News>) -> OpenDevice {
    match news {
        Some(News::Open(_, device)) => device,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_are_spread_over_workers_and_numbers_are_not_used_again() {
    let (mut workers, mut devices) = (workers(), Devices::default());
    let a = opened(devices.want(&interface("a", InterfaceKind::Dummy), &mut workers, START));
    let b = opened(devices.want(&interface("b", InterfaceKind::Dummy), &mut workers, START));
    assert_ne!(a.port, b.port);
    assert_ne!(a.mac, b.mac, "a device without an address is given one of its own");
    let on: Vec<usize> = devices.open().map(|(_, _, worker, _)| worker).collect();
    assert_eq!(on, [0, 1]);
    assert_eq!(devices.get("a"), Some((a.port, a)));
    assert_eq!(devices.forget("a"), Some(News::Closed("a".to_owned())));
    assert!(devices.has_retired());
    devices.bury(&mut workers);
    assert!(!devices.has_retired());
    let again = opened(devices.want(&interface("a", InterfaceKind::Dummy), &mut workers, START));
    assert!(again.port > b.port);
    assert_eq!(devices.open().find(|(n, ..)| *n == "a").map(|(_, _, worker, _)| worker), Some(0));
    workers.stop();
}

#[test]
fn a_device_that_goes_stays_with_the_workers_until_it_is_buried() {
    let (mut workers, mut devices) = (workers(), Devices::default());
    let a = opened(devices.want(&interface("a", InterfaceKind::Dummy), &mut workers, START));
    assert_eq!(devices.gone(a.port, START), Some(News::Closed("a".to_owned())));
    assert!(devices.has_retired() && devices.get("a").is_none());
    assert!(devices.error("a").is_some_and(|e| e.contains("has gone")));
    assert_eq!(devices.gone(a.port, START), None, "the other workers' news of it is no news");
    // It is tried again after a pause, or when links have changed.
    assert_eq!(devices.next_deadline(), Some(START + RETRY));
    assert_eq!(devices.retry(false, &mut workers, START), vec![]);
    assert!(matches!(devices.retry(true, &mut workers, START)[..], [News::Open(..)]));
    assert_eq!((devices.error("a"), devices.next_deadline()), (None, None));
    devices.bury(&mut workers);
    assert!(devices.get("a").is_some_and(|(port, _)| port != a.port));
    workers.stop();
}

#[test]
fn what_cannot_be_opened_says_why_and_is_tried_again() {
    let (mut workers, mut devices) = (workers(), Devices::default());
    let file = std::env::temp_dir().join(format!("vswitchd-devices-{}.pcap", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let name = file.to_string_lossy().into_owned();
    let pcap = InterfaceKind::Pcap { rx: Some(name), tx: None };
    assert_eq!(devices.want(&interface("p", pcap), &mut workers, START), None);
    assert!(devices.error("p").is_some_and(|e| e.contains("network device p")), "{:?}", devices.error("p"));
    assert_eq!(devices.retry(false, &mut workers, START + RETRY), vec![]);
    // An empty capture: the global header of libpcap's format in its native order, Ethernet.
    let header = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1].map(u32::to_ne_bytes).concat();
    std::fs::write(&file, header).expect("written");
    // What a change of links cannot bring is not tried because of one: an attempt may make one itself.
    assert_eq!(devices.retry(true, &mut workers, START + RETRY), vec![]);
    assert!(devices.error("p").is_some());
    let later = START + RETRY + RETRY;
    assert!(matches!(devices.retry(false, &mut workers, later)[..], [News::Open(..)]));
    assert_eq!(devices.error("p"), None);
    let _ = std::fs::remove_file(&file);
    workers.stop();
}

#[test]
fn patches_have_no_device() {
    let (mut workers, mut devices) = (workers(), Devices::default());
    let patch = interface("p", InterfaceKind::Patch { peer: "q".to_owned() });
    assert_eq!(devices.want(&patch, &mut workers, START), None);
    assert_eq!((devices.error("p"), devices.next_deadline()), (None, None));
    assert_eq!(devices.forget("p"), None);
    workers.stop();
}

#[test]
fn sides_go_to_new_workers_and_away_from_those_that_end() {
    let (mut workers, mut devices) = (workers(), Devices::default());
    for name in ["a", "b", "c", "d"] {
        opened(devices.want(&interface(name, InterfaceKind::Dummy), &mut workers, START));
    }
    devices.listen(&mut workers);
    let on = |devices: &Devices| devices.open().map(|(_, _, worker, _)| worker).collect::<Vec<_>>();
    assert_eq!(on(&devices), [0, 1, 0, 1]);
    devices.resize(&mut workers, 4).expect("threads");
    let mut four = on(&devices);
    four.sort_unstable();
    assert_eq!((workers.count(), &four[..]), (4, &[0, 1, 2, 3][..]));
    devices.resize(&mut workers, 1).expect("threads");
    assert_eq!((workers.count(), on(&devices)), (1, vec![0; 4]));
    // There is always one.
    devices.resize(&mut workers, 0).expect("threads");
    assert_eq!(workers.count(), 1);
    // What a device gave is remembered when its worker has ended: the same port, counted over all of them.
    let (port, _) = devices.get("d").expect("open");
    let count = |workers: &Workers| -> u64 {
        workers.stats().filter_map(|s| s.port(port)).map(|c| c.rx_packets.get()).sum()
    };
    devices.resize(&mut workers, 2).expect("threads");
    for worker in 0..2 {
        let frame = packet::Frame::from_bytes(&[2; 60]);
        workers.send(worker, Command::Inject { port, frame }).expect("sent");
    }
    workers.settle();
    assert_eq!(count(&workers), 2);
    devices.resize(&mut workers, 1).expect("threads");
    assert_eq!(count(&workers), 2);
    devices.forget("d");
    devices.bury(&mut workers);
    assert_eq!(count(&workers), 0);
    workers.stop();
}

/// Or a side that is pinned there would be taken from its worker and given to none.
#[test]
fn a_processor_whose_worker_could_not_be_started_has_none() {
    let mut workers = workers();
    workers.bind(Some(vec![0, 1, 2]), &[0]);
    assert_eq!([0, 1, 2].map(|cpu| workers.on_cpu(cpu)), [Some(0), Some(1), None]);
    assert_eq!(workers.cpus(), Some(&[0, 1][..]), "so that the third is tried again");
    workers.stop();
}

/// As many as of a switch with thousands of ports: those behind a full queue would be lost, and the ports deaf.
#[test]
fn no_number_of_commands_is_too_much_for_a_worker() {
    let mut workers = workers();
    let port = DpPort(7);
    for n in 0..20 * datapath::command::COMMANDS_MAX {
        let frame = packet::Frame::from_bytes(&[2; 60]);
        workers.send(0, Command::Inject { port, frame }).unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    // Nor is there no room for the command by which a worker ends.
    workers.stop();
}

/// A receiving side that tells that it has its worker, and keeps it until it is let go.
struct Holding {
    held: crossbeam_channel::Sender<()>,
    until: crossbeam_channel::Receiver<()>,
}

impl Rx for Holding {
    fn recv(&mut self, _: &mut FramePool, _: &mut Batch) -> Result<(), PortError> {
        let _ = self.held.try_send(());
        let _ = self.until.recv();
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Makes a worker stand still until what is given is dropped.
fn hold(workers: &Workers, worker: usize) -> crossbeam_channel::Sender<()> {
    let ((holder, until), (held, is_held)) = (crossbeam_channel::bounded(0), crossbeam_channel::bounded(1));
    let queue = RxQueue::only(Box::new(Holding { held, until }));
    workers.send(worker, Command::AddRx { port: DpPort(99), queue, done: None }).expect("room");
    is_held.recv_timeout(Duration::from_secs(30)).expect("it has its worker");
    holder
}

/// Two workers, the second of which has the only side of an interface and does not answer until what is given is dropped.
fn held_worker() -> (Workers, Devices, DpPort, crossbeam_channel::Sender<()>) {
    let (mut workers, mut devices) = (workers(), Devices::default());
    opened(devices.want(&interface("other", InterfaceKind::Dummy), &mut workers, START));
    let file = std::env::temp_dir().join(format!(
        "vswitchd-held-{}-{:?}.pcap",
        std::process::id(),
        std::thread::current().id()
    ));
    let header = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1].map(u32::to_ne_bytes).concat();
    std::fs::write(&file, header).expect("written");
    let pcap = InterfaceKind::Pcap { rx: Some(file.to_string_lossy().into_owned()), tx: None };
    let device = opened(devices.want(&interface("p", pcap), &mut workers, START));
    devices.listen(&mut workers);
    std::fs::remove_file(&file).expect("removable");
    assert_eq!(devices.open().map(|(_, _, worker, _)| worker).collect::<Vec<_>>(), [0, 1]);
    workers.settle();
    let holder = hold(&workers, 1);
    workers.set_patience(Duration::from_millis(20));
    (workers, devices, device.port, holder)
}

/// Lets the main thread look again, as it does while it awaits workers, until it need not any more.
fn look_again(devices: &mut Devices, workers: &mut Workers) {
    let begun = sys::clock::monotonic();
    devices.listen(workers);
    while devices.awaits_workers() || workers.is_any_ending() || workers.is_any_owed() {
        assert!(sys::clock::monotonic().saturating_since(begun) < Duration::from_secs(30), "still waiting");
        std::thread::yield_now();
        devices.listen(workers);
    }
}

/// Whether a worker has the side, which it then has no more.
fn has_side(workers: &Workers, worker: usize, port: DpPort) -> bool {
    matches!(workers.take_rx(worker, port, 0), Ok(Some(_)))
}

#[test]
fn a_side_whose_worker_does_not_answer_moves_when_it_does() {
    let (mut workers, mut devices, port, holder) = held_worker();
    devices.move_first_of("p", 0, &workers);
    assert!(devices.awaits_workers());
    devices.listen(&mut workers);
    assert!(devices.awaits_workers() && !has_side(&workers, 0, port));
    // It may be sent somewhere else meanwhile, and is not asked for twice.
    devices.move_first_of("p", 1, &workers);
    devices.move_first_of("p", 0, &workers);
    drop(holder);
    look_again(&mut devices, &mut workers);
    workers.set_patience(Duration::from_secs(60));
    assert!(has_side(&workers, 0, port));
    assert!(!has_side(&workers, 1, port));
    workers.stop();
}

#[test]
fn a_worker_that_does_not_answer_ends_when_it_has_given_back_its_sides() {
    for is_full in [false, true] {
        let (mut workers, mut devices, port, holder) = held_worker();
        while is_full && workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
        let steps = |workers: &Workers| workers.stats().count();
        devices.resize(&mut workers, 1).expect("no new thread");
        assert_eq!(
            (workers.count(), steps(&workers)),
            (1, 3),
            "one works, one ends, and the sum of the others"
        );
        assert!(devices.awaits_workers() && workers.is_any_ending());
        // Another one may take its place.
        devices.resize(&mut workers, 2).expect("a thread");
        drop(holder);
        look_again(&mut devices, &mut workers);
        assert_eq!((workers.count(), steps(&workers)), (2, 3));
        let worker = devices.open().find(|(name, ..)| *name == "p").map(|(_, _, worker, _)| worker);
        workers.set_patience(Duration::from_secs(60));
        assert!(has_side(&workers, worker.expect("open"), port));
        workers.stop();
    }
}

#[test]
fn a_port_goes_from_a_worker_whose_queue_was_full_when_it_answers() {
    let (mut workers, mut devices, port, holder) = held_worker();
    while workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
    devices.forget("p");
    devices.bury(&mut workers);
    assert!(workers.is_any_owed());
    drop(holder);
    look_again(&mut devices, &mut workers);
    workers.set_patience(Duration::from_secs(60));
    workers.settle();
    assert!(!has_side(&workers, 1, port));
    assert!(workers.peers().iter().all(|peer| peer.stats().port(port).is_none()), "nor is it sent to");
    workers.stop();
}

#[test]
fn a_port_goes_from_a_worker_that_is_to_end_and_its_counters_do_not_come_back() {
    for is_full in [false, true] {
        let (mut workers, mut devices, _, holder) = held_worker();
        let (port, _) = devices.get("other").expect("open");
        while is_full && workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
        devices.resize(&mut workers, 1).expect("no new thread");
        devices.forget("other");
        devices.bury(&mut workers);
        assert!(workers.is_any_owed());
        drop(holder);
        look_again(&mut devices, &mut workers);
        assert!(workers.stats().all(|stats| stats.port(port).is_none()), "full: {is_full}");
        workers.stop();
    }
    // One that was removed before, and of which the worker does not hear before it ends.
    let (mut workers, devices, _, holder) = held_worker();
    let (port, _) = devices.get("other").expect("open");
    while workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
    workers.remove_port(port);
    workers.retire_last();
    drop(holder);
    workers.set_patience(Duration::from_secs(60));
    while workers.is_any_ending() {
        workers.end();
    }
    assert!(workers.stats().all(|stats| stats.port(port).is_none()));
    workers.stop();
}

#[test]
fn settings_reach_a_worker_whose_queue_was_full_when_it_answers() {
    let (mut workers, mut devices, port, holder) = held_worker();
    while workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
    let cache = datapath::CacheLimits { flows: 0, ..Default::default() };
    workers.configure(datapath::WorkerConfig { cache, ..Default::default() });
    devices.listen(&mut workers);
    assert!(workers.is_any_owed());
    drop(holder);
    look_again(&mut devices, &mut workers);
    workers.set_patience(Duration::from_secs(60));
    workers.snapshot().store(bridge_of("p", &devices));
    for worker in 0..2 {
        let frame = packet::Frame::from_bytes(&[2; 60]);
        workers.send(worker, Command::Inject { port, frame }).expect("room");
    }
    workers.settle();
    let cache = |worker: usize| &workers.peers()[worker].stats().cache;
    assert_eq!([0, 1].map(|worker| cache(worker).misses.get()), [1, 1]);
    assert_eq!([0, 1].map(|worker| cache(worker).uncached.get()), [1, 1], "neither keeps flows");
    workers.stop();
}

/// Workers may still have what is to be removed under the number when the next device is handed to them.
#[test]
fn a_device_that_could_not_be_handed_over_has_another_number_the_next_time() {
    let (mut workers, mut devices, _, holder) = held_worker();
    while workers.peers()[1].send(Command::Fold { done: None }).is_ok() {}
    assert_eq!(devices.want(&interface("q", InterfaceKind::Dummy), &mut workers, START), None);
    assert!(devices.error("q").is_some() && workers.is_any_owed());
    drop(holder);
    workers.set_patience(Duration::from_secs(60));
    while workers.fragments().len() < 2 {
        std::thread::yield_now();
    }
    let [News::Open(_, device)] = &devices.retry(false, &mut workers, START + RETRY)[..] else {
        panic!("not opened")
    };
    look_again(&mut devices, &mut workers);
    workers.settle();
    assert!(
        workers.peers().iter().all(|peer| peer.stats().port(device.port).is_some()),
        "all can send to it"
    );
    workers.stop();
}

/// However often something is asked of all workers; and what one that went on has counted is waited for again.
#[test]
fn a_worker_that_does_not_answer_is_waited_for_once() {
    let (mut workers, _devices, _, holder) = held_worker();
    // All of it is waited for the one; the other one has as long.
    workers.set_patience(Duration::from_secs(2));
    assert_eq!(workers.fragments().len(), 1, "the other one answers");
    let patience = Duration::from_secs(30);
    workers.set_patience(patience);
    let begun = sys::clock::monotonic();
    for _ in 0..2 * datapath::command::COMMANDS_MAX {
        workers.fold();
        assert_eq!(workers.fragments().len(), 1);
        assert_eq!(workers.flush(), 0);
        assert!(sys::clock::monotonic().saturating_since(begun) < patience, "waited for");
    }
    workers.dump(1, |_| panic!("no answer"));
    assert!(sys::clock::monotonic().saturating_since(begun) < patience, "waited for");
    assert!(workers.peers()[1].send(Command::Fold { done: None }).is_ok(), "there is room for what matters");
    let steps = |workers: &Workers| workers.peers()[1].stats().steps.get();
    let before = steps(&workers);
    drop(holder);
    while steps(&workers) == before {
        assert!(sys::clock::monotonic().saturating_since(begun) < patience, "still waiting");
        std::thread::yield_now();
    }
    assert_eq!(workers.fragments().len(), 2);
    workers.stop();
}

#[test]
fn a_worker_that_never_answers_does_not_keep_the_daemon_from_ending() {
    let (mut workers, mut devices, _, holder) = held_worker();
    devices.forget("p");
    devices.bury(&mut workers);
    workers.stop();
    assert!(workers.is_any_ending());
    drop(holder);
}

/// Their number makes the daemon's end no later.
#[test]
fn workers_that_never_answer_are_waited_for_together() {
    let mut workers = workers();
    while workers.count() < 16 {
        workers.start_one().expect("a thread");
    }
    let holders: Vec<_> = (0..workers.count()).map(|worker| hold(&workers, worker)).collect();
    let patience = Duration::from_millis(200);
    workers.set_patience(patience);
    let begun = sys::clock::monotonic();
    workers.stop();
    let waited = sys::clock::monotonic().saturating_since(begun);
    assert!(workers.is_any_ending());
    assert!(waited < patience * 15, "{waited:?}");
    drop(holders);
}

/// A TAP in the hands of a process that may be ending: nothing is said of it until it is known, and nobody waits.
#[test]
fn a_tap_of_an_earlier_run_is_taken_over_when_it_is_let_go() {
    let test = || {
        let tap = interface("tap0", InterfaceKind::Tap);
        let alias = alias_of(&tap);
        let open = || {
            let name = IfName::new("tap0").expect("a name");
            TapPort::open(&TapConfig { alias: Some(&alias), ..TapConfig::new(name) }).expect("a TAP")
        };
        let held = open();
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        // However long this takes.
        devices.strays_held_until += Duration::from_secs(600);
        assert_eq!(devices.want(&tap, &mut workers, START), None);
        assert!(devices.is_any_held());
        assert_eq!((devices.error("tap0"), devices.next_deadline()), (None, Some(START + HOLD_GLANCE)));
        assert_eq!(devices.retry(false, &mut workers, START + HOLD_GLANCE), vec![]);
        assert!(devices.is_any_held() && devices.error("tap0").is_none());
        drop(held);
        assert_eq!(
            devices.retry(true, &mut workers, START + HOLD_GLANCE),
            vec![],
            "links may be of an attempt"
        );
        let news = devices.retry(false, &mut workers, START + HOLD_GLANCE * 2);
        assert!(matches!(news[..], [News::Open(..)]), "{news:?}");
        assert!(!devices.is_any_held());
        // One that is not let go is an error in the end, and tried again.
        workers.stop();
        drop(devices);
        let held = open();
        let (mut workers, mut devices) = (self::workers(), Devices::after_restart(false));
        devices.strays_held_until = Instant::ZERO;
        assert_eq!(devices.want(&tap, &mut workers, START), None);
        assert!(!devices.is_any_held());
        assert!(devices.error("tap0").is_some_and(|e| e.contains("could not open network device tap0")));
        drop(held);
        let news = devices.retry(false, &mut workers, START + RETRY);
        assert!(matches!(news[..], [News::Open(..)]), "{news:?}");
        workers.stop();
    };
    sys::netns::run_in(&Netns::new_unnamed().expect("a namespace"), test).expect("entered");
}

/// A namespace with a name, for as long as this lives.
struct Pod {
    name: String,
    netns: Netns,
}

impl Pod {
    fn new(name: &str) -> Pod {
        let name = format!("{name}-{}", std::process::id());
        let netns = sys::netns::create_named(&name).expect("a namespace");
        Pod { name, netns }
    }

    fn links(&self) -> Vec<sys::netlink::Link> {
        Netlink::open_in(&self.netns).and_then(|mut n| n.links()).expect("links")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = sys::netns::delete_named(&self.name);
    }
}

/// A TAP of a row that no other test has: all look into every namespace with a name.
fn tap_of(row: &str) -> InterfaceConfig {
    let row = format!("{row}-{}", std::process::id());
    InterfaceConfig { row, ..interface("tap0", InterfaceKind::Tap) }
}

/// As an earlier run has it that moved it into a pod.
fn open_tap(config: &InterfaceConfig, netns: Option<&Netns>) -> TapPort {
    let alias = alias_of(config);
    let name = IfName::new(&config.name).expect("a name");
    TapPort::open(&TapConfig { alias: Some(&alias), netns, ..TapConfig::new(name) }).expect("a TAP")
}

fn is_here(name: &str) -> bool {
    let name = IfName::new(name).expect("a name");
    Netlink::open().and_then(|mut n| n.link_by_name(&name)).expect("an answer").is_some()
}

fn in_namespace(test: impl FnOnce() + Send) {
    sys::netns::run_in(&Netns::new_unnamed().expect("a namespace"), test).expect("entered");
}

/// After an attempt to take over what somebody else still holds.
fn after_a_failure(tap: &InterfaceConfig, workers: &mut Workers) -> Devices {
    let mut devices = Devices::after_restart(false);
    devices.strays_held_until = Instant::ZERO;
    assert_eq!(devices.want(tap, workers, START), None);
    assert!(devices.error("tap0").is_some_and(|e| e.contains("in use")), "{:?}", devices.error("tap0"));
    assert!(!is_here("tap0"));
    devices
}

/// The next attempt, which is to succeed.
fn try_again(devices: &mut Devices, workers: &mut Workers) {
    let news = devices.retry(false, workers, START + RETRY);
    assert!(matches!(news[..], [News::Open(..)]), "{news:?}");
    assert_eq!(devices.error("tap0"), None);
}

/// However long that takes: one made anew would leave the pod dead.
#[test]
fn a_tap_in_a_pod_that_is_not_let_go_is_not_made_anew() {
    in_namespace(|| {
        let (pod, tap) = (Pod::new("held"), tap_of("held"));
        let held = open_tap(&tap, Some(&pod.netns));
        let mut workers = workers();
        let mut devices = after_a_failure(&tap, &mut workers);
        drop(held);
        try_again(&mut devices, &mut workers);
        assert!(!is_here("tap0"));
        workers.stop();
    });
}

/// One of the same name that is in the daemon's namespace is not sent into the pod.
#[test]
fn a_tap_that_went_with_its_pod_or_from_it_is_made_anew() {
    in_namespace(|| {
        let (pod, tap) = (Pod::new("gone"), tap_of("gone"));
        drop(open_tap(&tap, Some(&pod.netns)));
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        open_tap(&tap, Some(&pod.netns)).discard().expect("there");
        let others = TapPort::open(&TapConfig::new(IfName::new("tap0").expect("a name"))).expect("a TAP");
        drop(others);
        assert!(matches!(devices.want(&tap, &mut workers, START), Some(News::Open(..))));
        assert!(is_here("tap0"));
        assert!(pod.links().iter().all(|link| link.name.as_str() == "lo"), "{:?}", pod.links());
        workers.stop();
    });
    in_namespace(|| {
        let (pod, tap) = (Pod::new("left"), tap_of("left"));
        drop(open_tap(&tap, Some(&pod.netns)));
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        drop(pod);
        assert!(matches!(devices.want(&tap, &mut workers, START), Some(News::Open(..))));
        assert!(is_here("tap0"));
        workers.stop();
    });
}

/// Whatever has its name, or that of its namespace, by then.
#[test]
fn a_tap_that_goes_after_it_could_not_be_taken_over_is_made_anew() {
    in_namespace(|| {
        let (pod, tap) = (Pod::new("after"), tap_of("after"));
        let mut held = open_tap(&tap, Some(&pod.netns));
        let mut workers = workers();
        let mut devices = after_a_failure(&tap, &mut workers);
        held.discard().expect("there");
        drop(held);
        let another = open_tap(&tap_of("another"), Some(&pod.netns));
        try_again(&mut devices, &mut workers);
        assert!(is_here("tap0"));
        drop(another);
        let alias = alias_of(&tap_of("another"));
        assert!(pod.links().iter().any(|link| link.alias == alias), "{:?}", pod.links());
        workers.stop();
    });
    in_namespace(|| {
        let (pod, tap) = (Pod::new("renamed"), tap_of("renamed"));
        let held = open_tap(&tap, Some(&pod.netns));
        let mut workers = workers();
        let mut devices = after_a_failure(&tap, &mut workers);
        let mut netlink = Netlink::open_in(&pod.netns).expect("entered");
        let name = IfName::new("eth0").expect("a name");
        let index = pod.links().iter().find(|link| link.name.as_str() == "tap0").expect("there").index;
        netlink.change(index, &sys::netlink::LinkChange::default().name(name)).expect("renamed");
        drop(held);
        try_again(&mut devices, &mut workers);
        assert!(!is_here("tap0"));
        workers.stop();
    });
}

#[test]
fn an_interface_whose_type_was_changed_takes_no_tap_over() {
    in_namespace(|| {
        let (pod, tap) = (Pod::new("type"), tap_of("type"));
        drop(open_tap(&tap, Some(&pod.netns)));
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        let system = InterfaceConfig { kind: InterfaceKind::System, ..tap.clone() };
        assert_eq!(devices.want(&system, &mut workers, START), None);
        assert!(devices.error("tap0").is_some_and(|e| e.contains("No such device")));
        // But if it is changed back.
        assert_eq!(devices.forget("tap0"), None);
        assert!(matches!(devices.want(&tap, &mut workers, START), Some(News::Open(..))));
        assert!(!is_here("tap0"));
        workers.stop();
    });
}

/// As by `del-port p -- add-port p` in one transaction. Also when the TAP is in a pod, or not taken over yet.
#[test]
fn a_tap_is_known_by_the_row_that_its_interface_has_now() {
    in_namespace(|| {
        let pod = Pod::new("row");
        let [a, b, c, d] = ["row-a", "row-b", "row-c", "row-d"].map(tap_of);
        let name = IfName::new("tap0").expect("a name");
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        let device = opened(devices.want(&a, &mut workers, START));
        assert_eq!(devices.change(&b, &mut workers, START), None);
        let mut netlink = Netlink::open().expect("a socket");
        let link = netlink.link_by_name(&name).expect("an answer").expect("here");
        assert_eq!(link.alias, alias_of(&b));
        let moved = sys::netlink::LinkChange::default().netns(&pod.netns);
        netlink.change(link.index, &moved).expect("moved");
        assert_eq!(devices.change(&c, &mut workers, START), None);
        let there = |alias: String| pod.links().iter().any(|link| link.name == name && link.alias == alias);
        assert!(there(alias_of(&c)), "{:?}", pod.links());
        assert_eq!((devices.error("tap0"), devices.get("tap0")), (None, Some((device.port, device))));
        workers.stop();
        drop(devices);
        let held = open_tap(&c, Some(&pod.netns));
        let (mut workers, mut devices) = (self::workers(), Devices::after_restart(false));
        devices.strays_held_until = Instant::ZERO;
        assert_eq!(devices.want(&c, &mut workers, START), None);
        assert_eq!(devices.change(&d, &mut workers, START), None);
        drop(held);
        let news = devices.retry(false, &mut workers, START + RETRY);
        assert!(matches!(news[..], [News::Open(..)]), "{news:?}");
        assert!(there(alias_of(&d)) && !is_here("tap0"), "{:?}", pod.links());
        workers.stop();
    });
}

#[test]
fn a_kernel_device_whose_udp_port_is_held_is_tried_again_by_time_alone() {
    in_namespace(|| {
        let socket = TunnelSocket { protocol: packet::TunnelProtocol::Vxlan, port: 4789 };
        let config = socket.interface(TunnelCarrier::KernelDevice);
        let held = std::net::UdpSocket::bind(("0.0.0.0", socket.port)).expect("a free port");
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        devices.strays_held_until += Duration::from_secs(600);
        assert_eq!(devices.want(&config, &mut workers, START), None);
        assert!(devices.is_any_held() && devices.error(&config.name).is_none());
        drop(held);
        // The attempt made a TAP and a VXLAN device.
        assert_eq!(devices.retry(true, &mut workers, START), vec![]);
        let news = devices.retry(false, &mut workers, START + HOLD_GLANCE);
        assert!(matches!(news[..], [News::Open(..)]), "{news:?}");
        workers.stop();
    });
}

/// In a pod or not, whatever it is called by now; but nothing that another switch may have.
#[test]
fn clean_up_takes_what_an_earlier_run_still_holds() {
    in_namespace(|| {
        let pod = Pod::new("clean");
        let [moved, other] = ["clean", "clean-other"].map(tap_of);
        let here = InterfaceConfig { name: "tap1".to_owned(), ..tap_of("clean-here") };
        let renamed = InterfaceConfig { name: "tap2".to_owned(), ..tap_of("clean-renamed") };
        let held = [&moved, &renamed].map(|tap| open_tap(tap, Some(&pod.netns)));
        let held_here = [&here, &other].map(|tap| open_tap(tap, None));
        let (mut workers, mut devices) = (workers(), Devices::after_restart(false));
        devices.strays_held_until = Instant::ZERO;
        for tap in [&moved, &renamed, &here] {
            assert_eq!(devices.want(tap, &mut workers, START), None);
        }
        let mut netlink = Netlink::open_in(&pod.netns).expect("entered");
        let index = pod.links().iter().find(|link| link.name.as_str() == "tap2").expect("there").index;
        let name = IfName::new("eth0").expect("a name");
        netlink.change(index, &sys::netlink::LinkChange::default().name(name)).expect("renamed");
        workers.stop();
        devices.discard_all();
        assert!(pod.links().iter().all(|link| link.name.as_str() == "lo"), "{:?}", pod.links());
        assert!(!is_here("tap1") && is_here("tap0"));
        drop((held, held_here));
    });
}
