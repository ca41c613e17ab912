//! Queues of TAPs, and workers that come, go and change what they receive from, under traffic of real pods.

use std::process::{Child, Stdio};
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
}

impl Pinging {
    fn start(pod: &Namespace, address: &str) -> Pinging {
        let mut command = pod.command("ping");
        command.args(["-i", "0.01", "-n", "-q", address]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Pinging { child: child.expect("ping") }
    }

    /// Ends it. How many were sent, how many answered, and how many came twice.
    fn stop(self) -> (u32, u32, u32) {
        run_ok(std::process::Command::new("kill").args(["-INT", &self.child.id().to_string()]));
        let out = self.child.wait_with_output().expect("ping");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let number = |what: &str| {
            let words: Vec<&str> = text.split([' ', '\n']).collect();
            let (first, rest) = what.split_once(' ').unwrap_or((what, ""));
            let at = words.windows(3).position(|w| {
                w[1].trim_end_matches(',') == first && (rest.is_empty() || w[2].starts_with(rest))
            });
            let at = at.or_else(|| words.windows(2).position(|w| rest.is_empty() && w[1].starts_with(first)));
            at.map_or(0, |at| words[at].trim_start_matches('+').parse().unwrap_or(0))
        };
        (number("packets transmitted"), number("received"), number("duplicates"))
    }
}

#[test]
fn pods_with_two_queues_on_two_workers_ping_and_talk_tcp() {
    for workers in ["--workers=2", "--workers=1"] {
        let switch = Switch::start(&[workers]);
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
    let (sent, answered, twice) = pinging.stop();
    assert!(sent > 50 && answered + changes >= sent && twice == 0, "{answered} of {sent}, {twice} twice");
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
}

#[test]
fn queues_are_there_again_after_a_restart() {
    let mut switch = Switch::start(&["--workers=2"]);
    let [a, b] = pair(&switch, 2);
    assert!(a.pings("10.1.0.2"));
    switch.kill();
    switch.restart();
    assert_eq!((attached(&a, "pod1"), attached(&b, "pod2")), (2, 2));
    assert!(a.pings("10.1.0.2"));
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    switch.run("ovs-vsctl set Interface pod1 options:n_rxq=4");
    assert_eq!((attached(&a, "pod1"), error_of(&switch, "pod1").as_str()), (4, "[]"));
    assert!(switch.stop("--cleanup"));
}
