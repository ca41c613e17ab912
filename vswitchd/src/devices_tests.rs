//! Devices that need nothing of the kernel: dummies, and pcap files that come and go.

use super::*;
use crate::clock::Clock;
use crate::workers::Ingredients;
use arc_swap::ArcSwap;
use base::HashSeed;
use datapath::conntrack::{ConnTracker, CtConfig};
use switch::brain::Brain;
use switch::forwarding::NoPunt;

const START: Instant = Instant::from_nanos(1_000_000_000);

fn workers() -> Workers {
    let seed = HashSeed::new(1, 2);
    let snapshot = Arc::new(ArcSwap::new(Brain::new(seed, Box::new(NoPunt)).publish()));
    let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
    let tracker = Arc::new(ConnTracker::new(seed, CtConfig::default()));
    let ingredients = Ingredients { snapshot, seed, tracker, clock: Clock::default(), notify };
    Workers::start(2, ingredients).expect("workers")
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
