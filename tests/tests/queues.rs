//! Queues of TAPs, and workers that come, go and change what they receive from, under traffic of real pods.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::pair::{Compare, Pair};
use tests::traffic::{self, Reach};
use tests::{Namespace, Switch, Tools, ip, run_ok, wait_for};

/// A pod whose TAP has queues.
fn pod(switch: &Switch, port: &str, cidr: &str, n_rxq: u32) -> Namespace {
    switch.run(&format!(
        "ovs-vsctl add-port br0 {port} -- set Interface {port} type=internal options:n_rxq={n_rxq}"
    ));
    let pod = Namespace::new(port);
    ip(&format!("-n {} link set {port} netns {}", switch.ns().name(), pod.name()));
    ip(&format!("-n {} addr add {cidr} dev {port}", pod.name()));
    ip(&format!("-n {} link set {port} up", pod.name()));
    pod
}

/// Two pods, each with so many queues.
fn pair(switch: &Switch, n_rxq: u32) -> [Namespace; 2] {
    switch.run("ovs-vsctl add-br br0");
    [pod(switch, "pod1", "10.1.0.1/24", n_rxq), pod(switch, "pod2", "10.1.0.2/24", n_rxq)]
}

/// Queues that the kernel has attached to a device now: it makes as many send queues.
fn attached(pod: &Namespace, device: &str) -> usize {
    let listed = pod.run_ok(&format!("ls /sys/class/net/{device}/queues"));
    listed.split_whitespace().filter(|name| name.starts_with("tx-")).count()
}

fn error_of(switch: &Switch, interface: &str) -> String {
    switch.run(&format!("ovs-vsctl get Interface {interface} error")).trim().to_owned()
}

/// Pings another pod all the time, a hundred times a second.
struct Pinging {
    child: Child,
    /// What it prints; it has no name.
    out: File,
}

impl Pinging {
    fn start(pod: &Namespace, address: &str) -> Pinging {
        let path = std::env::temp_dir().join(format!("{}.ping", pod.name()));
        let out = File::options().create_new(true).read(true).append(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("a file");
        let mut command = pod.command("ping");
        command.args(["-i", "0.01", "-n", address]).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.stdout(out.try_clone().expect("a file")).spawn().expect("ping");
        Pinging { child, out }
    }

    /// Ends it. How many were sent; each must have been answered once, but so many.
    fn stop(mut self, lost_max: usize) -> usize {
        run_ok(std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]));
        self.child.wait().expect("ping");
        let mut text = String::new();
        self.out.rewind().and_then(|()| self.out.read_to_string(&mut text)).expect("text");
        let mut answered = BTreeSet::new();
        for line in text.lines().filter(|line| line.contains(" bytes from ")) {
            let number =
                line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            let number: usize = number.unwrap_or_else(|| panic!("no number in {line}"));
            assert!(answered.insert(number), "twice: {line}");
        }
        let sent = text.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse().ok());
        let sent: usize = sent.unwrap_or_else(|| panic!("{text}"));
        let highest = answered.last().copied().unwrap_or(0);
        let lost = highest - answered.len();
        assert!(lost <= lost_max, "{lost} lost of {sent}: {text}");
        // It ends without a look at what is under way.
        assert!(sent - highest <= UNDER_WAY_MAX, "none of the last was answered: {highest} of {sent}");
        sent
    }
}

impl Drop for Pinging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pings that may be under way, of two seconds.
const UNDER_WAY_MAX: usize = 200;

#[test]
fn pods_with_two_queues_on_two_workers_ping_and_talk_tcp() {
    for options in [&["--workers=2"][..], &["--workers=1"], &["--workers=2", "--no-io-uring"]] {
        let switch = Switch::start(options);
        let [a, b] = pair(&switch, 2);
        assert_eq!((attached(&a, "pod1"), attached(&b, "pod2")), (2, 2));
        assert!(a.pings("10.1.0.2") && b.pings("10.1.0.1"));
        // Several connections, so that there are some on each queue.
        for _ in 0..4 {
            traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
            traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
        }
        assert_eq!(error_of(&switch, "pod1"), "[]");
        for line in switch.log().lines() {
            assert!(!line.contains("|WARN|") && !line.contains("|ERR|"), "normal, yet logged: {line}");
        }
    }
}

#[test]
fn queues_come_and_go_while_pods_talk() {
    let switch = Switch::start(&["--workers=2"]);
    let [a, b] = pair(&switch, 1);
    assert_eq!(attached(&a, "pod1"), 1);
    let index = a.run_ok("cat /sys/class/net/pod1/ifindex");
    let pinging = Pinging::start(&a, "10.1.0.2");
    let mut changes = 0;
    for n_rxq in [2, 4, 3, 1, 2, 11, 1] {
        for port in ["pod1", "pod2"] {
            switch.run(&format!("ovs-vsctl set Interface {port} options:n_rxq={n_rxq}"));
            changes += 1;
        }
        wait_for("the queues", || (attached(&a, "pod1"), attached(&b, "pod2")) == (n_rxq, n_rxq));
        traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
        assert_eq!(error_of(&switch, "pod1"), "[]");
    }
    switch.run("ovs-vsctl remove Interface pod1 options n_rxq");
    assert_eq!(attached(&a, "pod1"), 1);
    assert!(pinging.stop(changes) > 50);
    // It has been the same device all the time.
    assert_eq!(a.run_ok("cat /sys/class/net/pod1/ifindex"), index);
}

#[test]
fn bad_numbers_of_queues_say_why_and_change_nothing() {
    let switch = Switch::start(&["--workers=2"]);
    let [a, _b] = pair(&switch, 2);
    for bad in ["65", "two", "-1"] {
        switch.run(&format!("ovs-vsctl set Interface pod1 options:n_rxq={bad}"));
        assert!(
            error_of(&switch, "pod1").contains(&format!("n_rxq '{bad}'")),
            "{}",
            error_of(&switch, "pod1")
        );
        assert_eq!(attached(&a, "pod1"), 2);
        assert!(a.pings("10.1.0.2"));
    }
    switch.run("ovs-vsctl set Interface pod1 options:n_rxq=3");
    assert_eq!((error_of(&switch, "pod1").as_str(), attached(&a, "pod1")), ("[]", 3));
    // A device that was made without saying so has room for one queue.
    let c = switch.pod("br0", "pod3", "10.1.0.3/24");
    switch.run("ovs-vsctl set Interface pod3 options:n_rxq=2");
    assert!(error_of(&switch, "pod3").contains("made for one queue"), "{}", error_of(&switch, "pod3"));
    assert!(c.pings("10.1.0.2"));
    switch.run("ovs-vsctl remove Interface pod3 options n_rxq");
    assert_eq!(error_of(&switch, "pod3"), "[]");
    // One that was made with a bad number works, and its number can be mended.
    let port = "ovs-vsctl --no-wait add-port br0 pod4 -- set Interface pod4 type=internal options:n_rxq=many";
    switch.run(port);
    wait_for("the error", || error_of(&switch, "pod4").contains("n_rxq 'many'"));
    switch.run("ovs-vsctl set Interface pod4 options:n_rxq=3");
    let shown = switch.run("ovs-appctl dpif/show");
    assert!(error_of(&switch, "pod4") == "[]" && shown.contains("(internal: n_rxq=3)"), "{shown}");
}

#[test]
fn queues_are_there_again_after_a_restart() {
    let mut switch = Switch::start(&["--workers=2"]);
    let [a, b] = pair(&switch, 2);
    assert!(a.pings("10.1.0.2"));
    switch.kill();
    switch.restart();
    switch.await_configuration();
    assert_eq!((attached(&a, "pod1"), attached(&b, "pod2")), (2, 2));
    assert!(a.pings("10.1.0.2"));
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    switch.run("ovs-vsctl set Interface pod1 options:n_rxq=4");
    assert_eq!((attached(&a, "pod1"), error_of(&switch, "pod1").as_str()), (4, "[]"));
    assert!(switch.stop("--cleanup"));
}

/// The processors that each worker's thread may run on, in the order of workers, as the kernel writes them.
fn workers(switch: &Switch) -> Vec<String> {
    let mut found = BTreeMap::new();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon_pid(switch))).expect("the daemon runs");
    for task in tasks.flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if let Some(number) = read("comm").trim().strip_prefix("worker-") {
            let allowed = read("status")
                .lines()
                .find_map(|l| l.strip_prefix("Cpus_allowed_list:").map(str::trim).map(str::to_owned));
            found.insert(number.parse::<usize>().expect("a number"), allowed.unwrap_or_default());
        }
    }
    found.into_values().collect()
}

/// `Switch::pid` may be that of ip(8), which executes the daemon in its own place or as a child.
fn daemon_pid(switch: &Switch) -> String {
    let file = switch.dir().join("ovs-vswitchd.pid");
    std::fs::read_to_string(file).expect("a pid file").trim().to_owned()
}

/// Which core has which queue, by `pmd-rxq-show`.
fn shown(switch: &Switch) -> BTreeMap<(String, u32), u32> {
    let text = switch.run("ovs-appctl dpif-netdev/pmd-rxq-show");
    let (mut core, mut queues) = (None, BTreeMap::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["pmd", "thread", "numa_id", "0", "core_id", number] => {
                core = number.trim_end_matches(':').parse().ok();
            }
            ["port:", port, "queue-id:", queue, "(enabled)", "pmd", "usage:", ..] => {
                let key = (port.to_owned(), queue.parse().expect("a queue"));
                assert_eq!(queues.insert(key, core.expect("a core")), None, "twice: {text}");
            }
            ["isolated", ":", "false" | "true"] | ["overhead:", ..] | ["Displaying", ..] => {}
            _ => panic!("{line} in\n{text}"),
        }
    }
    queues
}

/// Processors of this machine that the daemon may run on; the tests need two.
fn two_cpus() -> [usize; 2] {
    let cpus = sys::affinity::ThreadId::own().cpus().expect("processors");
    assert!(cpus.len() >= 2, "these tests need two processors: {cpus:?}");
    [cpus[0], cpus[1]]
}

#[test]
fn workers_come_and_go_by_mask_while_pods_talk_and_nothing_is_lost() {
    let [first, second] = two_cpus();
    let mask = |cpus: &[usize]| format!("{:#x}", cpus.iter().map(|c| 1u128 << c).sum::<u128>());
    let switch = Switch::start(&["--workers=1"]);
    let [a, b] = pair(&switch, 2);
    let unbound = workers(&switch);
    assert_eq!(unbound.len(), 1);
    let pinging = Pinging::start(&a, "10.1.0.2");
    let mut before = 0;
    for cpus in [vec![first, second], vec![second], vec![first, second], vec![first]] {
        switch.run(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={}", mask(&cpus)));
        let bound: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        assert_eq!(workers(&switch), bound);
        let queues = shown(&switch);
        for port in ["pod1", "pod2"] {
            let cores: Vec<u32> = [0, 1].iter().map(|q| queues[&(port.to_owned(), *q)]).collect();
            let mut expected: Vec<u32> = [0, 1].iter().map(|q| cpus[q % cpus.len()] as u32).collect();
            expected.sort_unstable();
            let mut sorted = cores.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, expected, "{port}: {queues:?}");
        }
        traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
        traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
        // What workers counted that have ended still counts.
        let counted = switch.port_counters("br0", "pod1")["rx pkts"];
        assert!(counted > before + 100, "{counted} after {before}");
        before = counted;
    }
    switch.run("ovs-vsctl remove Open_vSwitch . other_config pmd-cpu-mask");
    assert_eq!(workers(&switch), unbound);
    assert!(b.pings("10.1.0.1"));
    assert!(pinging.stop(0) > 50);
}

/// Datagrams of several flows, numbered, at 20,000 a second until told to stop; how many of each flow.
fn send_numbered(pod: &Namespace, to: SocketAddr, stop: &AtomicBool) -> Vec<u32> {
    let sockets: Vec<UdpSocket> =
        (0..NUMBERED_FLOWS).map(|_| pod.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket")).collect();
    let mut poller = sys::poll::Poller::new().expect("epoll");
    let mut sent = vec![0u32; sockets.len()];
    while !stop.load(Ordering::Relaxed) {
        poller.wait(Some(Duration::from_millis(1)), &mut Vec::new()).expect("a nap");
        for (flow, (socket, n)) in sockets.iter().zip(&mut sent).enumerate() {
            for _ in 0..20 / NUMBERED_FLOWS {
                let bytes = [(flow as u32).to_be_bytes(), n.to_be_bytes()].concat();
                if socket.send_to(&bytes, to).is_ok() {
                    *n += 1;
                }
            }
        }
    }
    sent
}

const NUMBERED_FLOWS: usize = 5;

fn number(text: &str) -> u32 {
    text.trim().parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Datagrams for which there was no room at their socket.
fn socket_overflows(pod: &Namespace) -> u32 {
    let text = pod.run_ok("cat /proc/net/snmp");
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    number(columns.find(|(name, _)| *name == "RcvbufErrors").expect("the column").1)
}

/// Each flow stays in order, whatever worker has its queue from one moment to the next.
#[test]
fn flows_stay_in_order_while_their_queues_change_workers() {
    keep_order(&["--workers=1"]);
    keep_order(&["--workers=1", "--no-io-uring"]);
}

/// Sets them when it goes.
struct Raised<'a>([&'a AtomicBool; 2]);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

fn keep_order(options: &[&str]) {
    let [first, second] = two_cpus();
    let switch = Switch::start(options);
    // The kernels send nothing by themselves, as it would be counted with what is lost.
    let pods = pair(&switch, 2).map(Namespace::quiet);
    for (n, other) in [(0, 1), (1, 0)] {
        let (near, far) = (n + 1, other + 1);
        let mac = pods[other].run_ok(&format!("cat /sys/class/net/pod{far}/address"));
        let neighbour = format!("10.1.0.{far} lladdr {} dev pod{near} nud permanent", mac.trim());
        pods[n].run_ok(&format!("ip neigh replace {neighbour}"));
    }
    let [a, b] = pods;
    assert!(a.pings("10.1.0.2"));
    let not_taken = || number(&a.run_ok("cat /sys/class/net/pod1/statistics/tx_dropped"));
    let lost_before = not_taken() + socket_overflows(&b);
    let receiver = b.enter(|| UdpSocket::bind("10.1.0.2:0")).expect("a socket");
    receiver.set_read_timeout(Some(Duration::from_millis(500))).expect("a limit");
    let to = receiver.local_addr().expect("an address");
    let [stop, is_all_sent] = [const { AtomicBool::new(false) }; 2];
    std::thread::scope(|scope| {
        // Also if this thread fails, which the others would wait for.
        let _raised = Raised([&stop, &is_all_sent]);
        let sending = scope.spawn(|| send_numbered(&a, to, &stop));
        let receiving = scope.spawn(|| {
            let (mut next, mut count) = ([0u32; NUMBERED_FLOWS], 0);
            let mut buffer = [0; 64];
            loop {
                // Half a second of silence is the end, if it began when all was sent.
                let may_end = is_all_sent.load(Ordering::Relaxed);
                match receiver.recv(&mut buffer) {
                    Ok(len) => assert_eq!(len, 8),
                    Err(_) if may_end => break,
                    Err(_) => continue,
                }
                let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| buffer[at + i]));
                let (flow, n) = (word(0) as usize, word(4));
                assert!(n >= next[flow], "flow {flow}: {n} after {}", next[flow] - 1);
                next[flow] = n + 1;
                count += 1;
            }
            (next, count)
        });
        let masks = [1u128 << first | 1 << second, 1 << first, 1 << second];
        for mask in masks.iter().cycle().take(40) {
            switch.run(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={mask:x}"));
            switch.run("ovs-appctl dpif-netdev/pmd-rxq-rebalance");
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().expect("sent");
        is_all_sent.store(true, Ordering::Relaxed);
        let (next, count) = receiving.join().expect("received");
        let total: u32 = sent.iter().sum();
        // What a busy machine loses is counted where it is lost: at a queue or a socket that nobody reads for too long.
        let lost = not_taken() + socket_overflows(&b) - lost_before;
        assert!(total > 5_000 && count + lost == total, "{count} and {lost} lost of {total}");
        assert!(next.iter().zip(&sent).all(|(next, sent)| next + lost >= *sent), "{next:?} of {sent:?}");
    });
}

#[test]
fn bad_masks_say_so_and_change_nothing() {
    let [first, second] = two_cpus();
    let switch = Switch::start(&["--workers=1"]);
    let [a, _b] = pair(&switch, 2);
    let good = format!("{:x}", 1u128 << first | 1u128 << second);
    switch.run(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={good}"));
    let bound = workers(&switch);
    assert_eq!(bound.len(), 2);
    let queues = shown(&switch);
    for (bad, why) in [
        ("zz", "'zz' is not a mask in hexadecimal"),
        ("0x0", "'0x0' names no processor"),
        ("0x1ffffffffffffffff", "names more than 64 processors"),
        ("0x80000000000000000000000000000000", "not available ([127])"),
    ] {
        switch.run(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={bad}"));
        assert_eq!((workers(&switch), shown(&switch)), (bound.clone(), queues.clone()), "{bad}");
        let log = switch.log();
        assert!(
            log.lines().any(|l| l.contains("|WARN|") && l.contains("pmd-cpu-mask") && l.contains(why)),
            "{bad}:\n{log}"
        );
    }
    assert!(a.pings("10.1.0.2"));
}

#[test]
fn pinned_queues_have_their_workers_to_themselves() {
    let [first, second] = two_cpus().map(|cpu| cpu as u32);
    let switch = Switch::start(&["--workers=1"]);
    let [a, _b] = pair(&switch, 2);
    let mask = 1u128 << first | 1 << second;
    switch.run(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={mask:x}"));
    let spread = shown(&switch);
    let set = |affinity: &str| {
        switch.run(&format!("ovs-vsctl set Interface pod1 other_config:pmd-rxq-affinity={affinity}"));
        shown(&switch)
    };
    let pinging = Pinging::start(&a, "10.1.0.2");
    for (pinned, other) in [(second, first), (first, second)] {
        for (queue, core) in set(&format!("1:{pinned}")) {
            let expected = if queue == ("pod1".to_owned(), 1) { pinned } else { other };
            assert_eq!(core, expected, "{queue:?}");
        }
        let text = switch.run("ovs-appctl dpif-netdev/pmd-rxq-show");
        assert!(text.contains(&format!("core_id {pinned}:\n  isolated : true\n")), "{text}");
        assert!(text.contains(&format!("core_id {other}:\n  isolated : false\n")), "{text}");
        // What is pinned stays, whatever it costs.
        switch.run("ovs-appctl dpif-netdev/pmd-rxq-rebalance");
        assert_eq!(shown(&switch)[&("pod1".to_owned(), 1)], pinned);
    }
    // A core without a worker, and what is no list, pin nothing and say so; then all workers are everybody's again.
    for (bad, why) in [
        ("1:900", "Core 900 cannot be pinned with port 'pod1' rx queue 1."),
        ("1", "'1' is not a queue and a core"),
    ] {
        let queues = set(bad);
        let on_second = queues.values().filter(|core| **core == second).count();
        assert!(
            on_second > 0 && on_second < queues.len() && queues.len() == spread.len(),
            "{bad}: {queues:?}"
        );
        assert!(
            switch.log().lines().any(|l| l.contains("|WARN|") && l.contains(why)),
            "{bad}: {}",
            switch.log()
        );
    }
    pinging.stop(0);
}

/// Two pods that talk to each other are received from by one worker, until that is changed.
fn two_busy_pods_at_one_worker(switch: &Switch) -> Vec<Namespace> {
    switch.run("ovs-vsctl add-br br0");
    let pods: Vec<Namespace> =
        (1..=4).map(|n| switch.pod("br0", &format!("pod{n}"), &format!("10.1.0.{n}/24"))).collect();
    let queues = shown(switch);
    assert_eq!(queues.len(), 5, "{queues:?}");
    assert_eq!(core_of(&queues, "pod2"), core_of(&queues, "pod4"), "{queues:?}");
    for _ in 0..3 {
        traffic::transfer(&pods[1], &pods[3], Reach::direct("10.1.0.4"));
        traffic::transfer(&pods[3], &pods[1], Reach::direct("10.1.0.2"));
    }
    pods
}

fn core_of(queues: &BTreeMap<(String, u32), u32>, port: &str) -> u32 {
    queues[&(port.to_owned(), 0)]
}

#[test]
fn busy_pods_are_parted_by_command() {
    let switch = Switch::start(&["--workers=2"]);
    let pods = two_busy_pods_at_one_worker(&switch);
    let pinging = Pinging::start(&pods[1], "10.1.0.4");
    assert_eq!(switch.run("ovs-appctl dpif-netdev/pmd-rxq-rebalance"), "pmd rxq rebalance requested.\n");
    let queues = shown(&switch);
    assert_ne!(core_of(&queues, "pod2"), core_of(&queues, "pod4"), "{queues:?}");
    traffic::transfer(&pods[1], &pods[3], Reach::direct("10.1.0.4"));
    // What they cost is shown, where they are now.
    let text = switch.run("ovs-appctl dpif-netdev/pmd-rxq-show");
    assert!(!text.contains("NOT AVAIL"), "{text}");
    pinging.stop(0);
    // It stays like that; what nobody has used may go anywhere.
    switch.run("ovs-appctl dpif-netdev/pmd-rxq-rebalance netdev@ovs-netdev");
    let queues = shown(&switch);
    assert_ne!(core_of(&queues, "pod2"), core_of(&queues, "pod4"), "{queues:?}");
    let error = switch.fails("ovs-appctl dpif-netdev/pmd-rxq-rebalance nosuch");
    assert!(error.starts_with("please specify an existing datapath\n"), "{error}");
}

#[test]
fn busy_pods_are_parted_by_themselves_if_that_is_wanted() {
    // Time can be warped only where dummies are allowed.
    let switch = Switch::start(&["--workers=2", "--enable-dummy"]);
    let pods = two_busy_pods_at_one_worker(&switch);
    let before = shown(&switch);
    // Nobody said so.
    switch.run("ovs-appctl time/warp 200000 200000");
    assert_eq!(shown(&switch), before);
    // Nobody is that busy.
    switch.run("ovs-vsctl set Open_vSwitch . other_config:pmd-auto-lb=true other_config:pmd-auto-lb-load-threshold=100");
    switch.run("ovs-appctl time/warp 70000 70000");
    assert_eq!(shown(&switch), before);
    switch.run("ovs-vsctl set Open_vSwitch . other_config:pmd-auto-lb-load-threshold=0 other_config:pmd-auto-lb-rebal-interval=3");
    switch.run("ovs-appctl time/warp 170000 170000");
    assert_eq!(shown(&switch), before, "before the interval is over");
    switch.run("ovs-appctl time/warp 20000 20000");
    wait_for("the queues to move", || {
        let queues = shown(&switch);
        core_of(&queues, "pod2") != core_of(&queues, "pod4")
    });
    assert!(switch.log().contains(
        "PMD auto load balance is enabled, interval 3 mins, pmd load threshold 0%, improvement threshold 25%."
    ));
    traffic::transfer(&pods[1], &pods[3], Reach::direct("10.1.0.4"));
}

/// Text of `pmd-rxq-show` beside Debian's: without what it measures, and without the local port, which is none of its PMDs'.
#[test]
fn queues_are_shown_as_ovs_shows_them() {
    let mut pair = Pair::start();
    let [first, second] = two_cpus();
    pair.both(&format!("ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={:#x}", 1u128 << first));
    pair.both("ovs-vsctl add-br br0 -- add-port br0 p1 -- set Interface p1 type=dummy-pmd -- add-port br0 a_longer_name -- set Interface a_longer_name type=dummy-pmd");
    let show = |tools: &dyn Tools, options: &str| {
        let text = tools.run(&format!("ovs-appctl dpif-netdev/pmd-rxq-show {options}"));
        let measured =
            |line: &str| ["pmd usage:", "overhead:"].iter().find_map(|w| line.find(w).map(|at| at + w.len()));
        let lines = text.lines().filter(|line| !line.contains("port: br0"));
        lines.map(|line| format!("{}\n", &line[..measured(line).unwrap_or(line.len())])).collect::<String>()
    };
    for options in ["", "-secs 7", "-secs x", &format!("-pmd {first}"), "-pmd 7", "nosuch"] {
        let (theirs, ours) = (show(&pair.real, options), show(&pair.ours, options));
        pair.note(&format!("pmd-rxq-show {options}"), &theirs, &ours);
    }
    pair.same("ovs-appctl dpif-netdev/pmd-rxq-show a b c d e f", Compare::Lines);
    pair.both(&format!(
        "ovs-vsctl set Open_vSwitch . other_config:pmd-cpu-mask={:#x}",
        1u128 << first | 1 << second
    ));
    pair.both(&format!("ovs-vsctl set Interface p1 other_config:pmd-rxq-affinity=0:{second}"));
    let (theirs, ours) = (show(&pair.real, ""), show(&pair.ours, ""));
    assert!(theirs.contains("isolated : true"), "{theirs}");
    pair.note("pmd-rxq-show with a pinned queue", &theirs, &ours);
    pair.same("ovs-appctl dpif-netdev/pmd-rxq-rebalance", Compare::Lines);
    pair.same("ovs-appctl dpif-netdev/pmd-rxq-rebalance nosuch", Compare::Lines);
    pair.finish();
}
