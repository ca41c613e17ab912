//! The switches: how each is set up between two pods, with everything of it in namespaces and a directory of its own.

use super::attack;
use super::cases::{Load, Place};
use super::spaces::{Pod, PodOffload, Space};
use crate::processes::{Daemon, bound_to_us, empty_dir, run, spawn, wait_for};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const BRIDGE: &str = "br0";
/// The bridge that owns the wire, where a tunnel needs one.
const UNDERLAY: &str = "br-phy";
/// A node's end of the wire to the other node.
const WIRE: &str = "wire0";
const VNI: u32 = 7;
const MTU: u32 = 1_500;
/// VXLAN over IPv4 takes 50 bytes (RFC 7348 section 5).
const OVERLAY_MTU: u32 = MTU - 50;
/// The two between which is measured, and one that may attack, and its partner.
const POD_ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 0, 0, 2),
    Ipv4Addr::new(10, 0, 0, 3),
    Ipv4Addr::new(10, 0, 0, 4),
];
const PORTS: [&str; 4] = ["p1", "p2", "p3", "p4"];
/// Documentation range of RFC 5737.
const NODE_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// What forwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Ours.
    Tapestry,
    /// Debian's Open vSwitch, userspace datapath.
    Ovs,
    /// The same built with DPDK, of which only offloads on TAPs and packet sockets are used. It has no tunnels between nodes:
    /// Open vSwitch 3.1 drops what it would have to put a tunnel header before while offloads are on.
    OvsTso,
    /// The kernel's bridge, and its VXLAN device.
    Bridge,
    /// `bare_forwarder`.
    Forwarder,
}

/// How pods are attached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attachment {
    /// By a TAP of the switch's, moved into the pod.
    Tap,
    /// By a veth pair.
    Veth,
    /// By a veth pair whose near end an XDP program empties.
    Xdp,
}

/// A system that is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct System {
    /// Names it everywhere.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What forwards.
    pub kind: Kind,
    /// How pods are attached.
    pub attachment: Attachment,
    /// Options of the tunnel beside its peer.
    pub tunnel: &'static str,
    /// `other_config` of Open_vSwitch.
    pub setting: &'static str,
    /// Where it is measured.
    pub on_node: bool,
    /// Between nodes.
    pub on_overlay: bool,
}

const NODE_ONLY: System = System {
    name: "",
    title: "",
    kind: Kind::Tapestry,
    attachment: Attachment::Tap,
    tunnel: "",
    setting: "",
    on_node: true,
    on_overlay: false,
};
const BOTH: System = System { on_overlay: true, ..NODE_ONLY };

/// All, ours first.
pub const SYSTEMS: &[System] = &[
    System { name: "tapestry", title: "Tapestry, TAP ports", ..BOTH },
    System {
        name: "tapestry-veth",
        title: "Tapestry, veth pairs attached by packet sockets",
        attachment: Attachment::Veth,
        ..NODE_ONLY
    },
    System {
        name: "tapestry-afxdp",
        title: "Tapestry, veth pairs attached by AF_XDP",
        attachment: Attachment::Xdp,
        ..NODE_ONLY
    },
    System {
        name: "tapestry-csum",
        title: "Tapestry, TAP ports, tunnel with csum=true",
        tunnel: "options:csum=true",
        on_node: false,
        ..BOTH
    },
    System {
        name: "tapestry-device",
        title: "Tapestry, TAP ports, tunnel by the kernel's VXLAN device",
        setting: "other_config:vxlan-kernel-device=true",
        on_node: false,
        ..BOTH
    },
    System {
        name: "ovs",
        title: "Open vSwitch, userspace datapath, TAP ports, as shipped",
        kind: Kind::Ovs,
        ..BOTH
    },
    System {
        name: "ovs-tso",
        title: "Open vSwitch, userspace datapath, TAP ports, userspace-tso-enable",
        kind: Kind::OvsTso,
        ..NODE_ONLY
    },
    System {
        name: "ovs-veth",
        title: "Open vSwitch, userspace datapath, veth pairs attached by packet sockets",
        kind: Kind::Ovs,
        attachment: Attachment::Veth,
        ..NODE_ONLY
    },
    System {
        name: "ovs-afxdp",
        title: "Open vSwitch, userspace datapath with a polling thread, veth pairs attached by AF_XDP",
        kind: Kind::Ovs,
        attachment: Attachment::Xdp,
        ..NODE_ONLY
    },
    System {
        name: "bridge",
        title: "kernel bridge, veth pairs (between nodes: and its VXLAN device)",
        kind: Kind::Bridge,
        attachment: Attachment::Veth,
        ..BOTH
    },
    System {
        name: "forwarder",
        title: "forwarder without a look-up, TAPs: the yardstick of TAP ports",
        kind: Kind::Forwarder,
        ..NODE_ONLY
    },
    System {
        name: "forwarder-veth",
        title: "forwarder without a look-up, packet sockets: the yardstick of veth pairs",
        kind: Kind::Forwarder,
        attachment: Attachment::Veth,
        ..NODE_ONLY
    },
];

impl System {
    /// Whether it runs there.
    pub fn is_at(&self, place: Place) -> bool {
        match place {
            Place::Node => self.on_node,
            // The forwarder has two ports. That packet sockets are no better for others than TAPs need not be shown.
            Place::Crowd => self.on_node && self.kind != Kind::Forwarder && !self.is_second(),
            Place::Overlay | Place::OverlayCut => self.on_overlay,
        }
    }

    fn is_second(&self) -> bool {
        self.attachment != Attachment::Tap && self.kind != Kind::Bridge
    }

    /// Whether it is measured under a load. The kernel's idle time is nobody's, and a forwarder has no timers.
    pub fn is_measured(&self, load: Load) -> bool {
        match load {
            Load::Idle => !matches!(self.kind, Kind::Bridge | Kind::Forwarder),
            Load::Beside(attack) => self.kind != Kind::Bridge || !attack.needs_rules(),
            _ => true,
        }
    }
}

/// Where programs are, and where files go.
#[derive(Clone, Debug)]
pub struct Files {
    /// Unpacked packages of Open vSwitch with DPDK.
    pub unpacked: PathBuf,
    /// Directory of our programs.
    pub programs: PathBuf,
    /// Sandboxes.
    pub dir: PathBuf,
}

/// A system that runs. All of it ends with the value.
#[derive(Debug)]
pub struct Running {
    /// Daemons end before namespaces are let go.
    switches: Vec<Switch>,
    /// The two pods, and if there are more, who may attack and its partner.
    pub pods: Vec<Pod>,
    _nodes: Vec<Space>,
}

/// The processes of one switch.
#[derive(Debug)]
struct Switch {
    dir: PathBuf,
    forwarding: Daemon,
    database: Option<Daemon>,
}

impl System {
    /// Starts it. It is left running.
    ///
    /// # Errors
    /// If something of it is missing or does not start.
    pub fn start(&self, place: Place, files: &Files) -> Result<Running> {
        match place {
            Place::Node => self.start_on_node(2, files),
            Place::Crowd => {
                let running = self.start_on_node(PORTS.len(), files)?;
                for switch in &running.switches {
                    switch.add_rules(&attack::rules())?;
                }
                Ok(running)
            }
            Place::Overlay | Place::OverlayCut => self.start_on_two(place, files),
        }
    }

    fn start_on_node(&self, count: usize, files: &Files) -> Result<Running> {
        let node = Space::new()?;
        let ports = &PORTS[..count];
        let dir = empty_dir(&files.dir.join(self.name))?;
        let offload = if self.kind == Kind::Ovs { PodOffload::Off } else { PodOffload::On };
        let numbered = || ports.iter().zip(POD_ADDRESSES);
        let behind = || -> Result<Vec<Pod>> {
            numbered().map(|(port, at)| Pod::behind(&node, port, at, MTU, offload)).collect()
        };
        let around = || -> Result<Vec<Pod>> {
            numbered().map(|(port, at)| Pod::around(&node, port, at, MTU)).collect()
        };
        let (pods, switches) = match (self.kind, self.attachment) {
            (Kind::Bridge, _) => {
                let pods = behind()?;
                node.bridge(BRIDGE, ports)?;
                (pods, Vec::new())
            }
            (Kind::Forwarder, Attachment::Tap) => {
                let switch = forwarder(&node, &dir, "tap", ports, files)?;
                (around()?, vec![switch])
            }
            (Kind::Forwarder, _) => {
                let pods = behind()?;
                (pods, vec![forwarder(&node, &dir, "veth", ports, files)?])
            }
            (_, Attachment::Tap) => {
                let switch = self.switch(&node, dir, files)?;
                for (port, number) in ports.iter().zip(1..) {
                    switch.add_port(port, &format!("type=internal ofport_request={number}"))?;
                }
                (around()?, vec![switch])
            }
            (_, attachment) => {
                let pods = behind()?;
                let switch = self.switch(&node, dir, files)?;
                for port in ports {
                    let settings = if attachment == Attachment::Xdp { "type=afxdp" } else { "" };
                    switch.add_port(port, settings)?;
                }
                (pods, vec![switch])
            }
        };
        Ok(Running { switches, pods, _nodes: vec![node] })
    }

    fn start_on_two(&self, place: Place, files: &Files) -> Result<Running> {
        let nodes = [Space::new()?, Space::new()?];
        nodes[0].veth(WIRE, "wire1")?;
        nodes[0].give("wire1", &nodes[1], WIRE)?;
        let mut switches = Vec::new();
        let mut pods = Vec::new();
        for (n, node) in nodes.iter().enumerate() {
            node.up(WIRE)?;
            if place == Place::OverlayCut {
                // What would be more than one frame on a wire is cut before it.
                node.ip(&format!("link set dev {WIRE} gso_max_segs 1"))?;
            }
            let (own, peer) = (NODE_ADDRESSES[n], NODE_ADDRESSES[1 - n]);
            if self.kind == Kind::Bridge {
                node.address(WIRE, own)?;
                let link = format!(
                    "link add vx0 type vxlan id {VNI} local {own} remote {peer} dstport 4789 dev {WIRE}"
                );
                node.ip(&link)?;
                pods.push(Pod::behind(node, "p1", POD_ADDRESSES[n], OVERLAY_MTU, PodOffload::On)?);
                node.bridge(BRIDGE, &["vx0", "p1"])?;
                continue;
            }
            let dir = empty_dir(&files.dir.join(format!("{}-{}", self.name, n + 1)))?;
            let switch = self.switch(node, dir, files)?;
            if self.kind == Kind::Tapestry {
                // The kernel keeps the wire.
                node.address(WIRE, own)?;
            } else {
                switch.add_bridge(UNDERLAY)?;
                switch.vsctl(&format!("add-port {UNDERLAY} {WIRE}"))?;
                wait_for(UNDERLAY, || node.link(UNDERLAY))?;
                node.address(UNDERLAY, own)?;
            }
            let options = format!("type=vxlan options:remote_ip={peer} options:key={VNI} {}", self.tunnel);
            switch.add_port("vx0", &options)?;
            if !self.setting.is_empty() {
                // It would have sockets where it cannot have the device.
                node.link("vxlan_sys_4789")?;
            }
            switch.add_port("p1", "type=internal")?;
            pods.push(Pod::around(node, "p1", POD_ADDRESSES[n], OVERLAY_MTU)?);
            switches.push(switch);
        }
        Ok(Running { switches, pods, _nodes: nodes.into() })
    }

    /// A switch with a bridge that does what a switch does (NORMAL).
    fn switch(&self, node: &Space, dir: PathBuf, files: &Files) -> Result<Switch> {
        let switch = match self.kind {
            Kind::Tapestry => tapestry(node, dir, files)?,
            _ => open_vswitch(node, dir, files, self.kind)?,
        };
        if !self.setting.is_empty() {
            switch.vsctl(&format!("set Open_vSwitch . {}", self.setting))?;
        }
        switch.add_bridge(BRIDGE)?;
        Ok(switch)
    }
}

fn tapestry(node: &Space, dir: PathBuf, files: &Files) -> Result<Switch> {
    let mut command = node.command(&files.programs.join("vswitchd"));
    command.arg(format!("--rundir={}", dir.display()));
    command.arg(format!("--db={}", dir.join("conf.db").display()));
    let forwarding = spawn(&mut command, &dir, "ovs-vswitchd", None)?;
    Ok(Switch { dir, forwarding, database: None })
}

fn open_vswitch(node: &Space, dir: PathBuf, files: &Files, kind: Kind) -> Result<Switch> {
    let conf = dir.join("conf.db");
    let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
    run(Command::new("ovsdb-tool").arg("create").args([&conf, schema]))?;
    let socket = dir.join("db.sock");
    let mut command = bound_to_us(Path::new("ovsdb-server"));
    command.arg(&conf).arg(format!("--remote=punix:{}", socket.display()));
    let database = spawn(&mut command, &dir, "ovsdb-server", None)?;
    vsctl(&dir, "--no-wait -- init")?;
    let (program, libraries) = if kind == Kind::OvsTso {
        vsctl(&dir, "--no-wait -- set Open_vSwitch . other_config:userspace-tso-enable=true")?;
        let unpacked = files.unpacked.canonicalize().with_context(|| files.unpacked.display().to_string())?;
        (unpacked.join("usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"), Some(unpacked))
    } else {
        (PathBuf::from("ovs-vswitchd"), None)
    };
    let mut command = node.command(&program);
    command.arg(format!("unix:{}", socket.display()));
    let forwarding = spawn(&mut command, &dir, "ovs-vswitchd", libraries.as_deref())?;
    if kind == Kind::OvsTso {
        // Without DPDK built in, the setting is only warned about.
        let log = dir.join("ovs-vswitchd.log");
        let enabled = "Userspace TCP Segmentation Offloading support enabled";
        wait_for("offloads", || {
            ensure!(std::fs::read_to_string(&log)?.contains(enabled), "{} does not say it", log.display());
            Ok(())
        })?;
    }
    Ok(Switch { dir, forwarding, database: Some(database) })
}

fn forwarder(node: &Space, dir: &Path, kind: &str, ports: &[&str], files: &Files) -> Result<Switch> {
    let mut command = node.command(&files.programs.join("bare_forwarder"));
    let output = dir.join("bare_forwarder.out");
    let mut forwarding = Daemon::spawn(command.arg(kind).args(ports), &output)?;
    // Until it runs it is not bound to this process: stopped before, it would outlive it.
    wait_for("the forwarder", || {
        forwarding.check(&output)?;
        ensure!(std::fs::read_to_string(&output)?.contains("ready"), "it does not say that it is ready");
        Ok(())
    })?;
    Ok(Switch { dir: dir.to_owned(), forwarding, database: None })
}

fn vsctl(dir: &Path, words: &str) -> Result<String> {
    let database = format!("--db=unix:{}", dir.join("db.sock").display());
    run(Command::new("ovs-vsctl").args(["-t", "30", &database]).args(words.split_ascii_whitespace()))
}

impl Switch {
    fn vsctl(&self, words: &str) -> Result<String> {
        vsctl(&self.dir, words)
            .with_context(|| format!("see {}", self.dir.join("ovs-vswitchd.log").display()))
    }

    fn add_bridge(&self, name: &str) -> Result<()> {
        self.vsctl(&format!("add-br {name} -- set Bridge {name} datapath_type=netdev")).map(drop)
    }

    fn add_port(&self, name: &str, settings: &str) -> Result<()> {
        let set =
            if settings.is_empty() { String::new() } else { format!("-- set Interface {name} {settings}") };
        self.vsctl(&format!("add-port {BRIDGE} {name} {set}"))?;
        let error = self.vsctl(&format!("get Interface {name} error"))?;
        ensure!(error.trim() == "[]", "{name}: {}", error.trim());
        Ok(())
    }

    /// Adds to the bridge's rules.
    fn add_rules(&self, rules: &[String]) -> Result<()> {
        let file = self.dir.join("rules");
        std::fs::write(&file, rules.join("\n") + "\n").with_context(|| file.display().to_string())?;
        let bridge = format!("unix:{}", self.dir.join(format!("{BRIDGE}.mgmt")).display());
        run(Command::new("ovs-ofctl").args(["add-flows", &bridge]).arg(&file)).map(drop)
    }

    fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        std::iter::once(&self.forwarding).chain(&self.database)
    }
}

impl Running {
    /// Stops it, so that it takes nothing from another one.
    ///
    /// # Errors
    /// If a process of it is gone.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.switches.iter().flat_map(Switch::daemons).try_for_each(|daemon| daemon.signal(signal))
    }

    /// Processor time that what forwards has used; `None` in the kernel.
    ///
    /// # Errors
    /// If a process of it is gone.
    pub fn cpu(&self) -> Result<Option<Duration>> {
        if self.switches.is_empty() {
            return Ok(None);
        }
        self.switches.iter().map(|s| cpu_time(s.forwarding.id())).sum::<Result<Duration>>().map(Some)
    }
}

/// Processor time of all threads of a process. `/proc/PID/stat` has it too, but in hundredths of a second.
fn cpu_time(process: u32) -> Result<Duration> {
    let tasks = format!("/proc/{process}/task");
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let path = task?.path().join("schedstat");
        // A thread that ended meanwhile is left out.
        if let Ok(text) = std::fs::read_to_string(&path) {
            sum += on_processor(&text).with_context(|| format!("{}: {text:?}", path.display()))?;
        }
    }
    Ok(sum)
}

/// The first of the numbers of schedstat: nanoseconds on a processor (Linux, Documentation/scheduler/sched-stats.rst).
fn on_processor(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_ours_come_first() {
        let names: BTreeSet<_> = SYSTEMS.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), SYSTEMS.len());
        assert!(SYSTEMS.is_sorted_by_key(|s| s.kind != Kind::Tapestry));
        for place in [Place::Node, Place::Overlay] {
            assert!(SYSTEMS.iter().find(|s| s.is_at(place)).is_some_and(|s| s.name == "tapestry"));
        }
    }

    #[test]
    fn processor_time_is_read() {
        assert_eq!(on_processor("3000000000 1000000000 17\n"), Some(Duration::from_secs(3)));
        assert_eq!((on_processor(""), on_processor("x 1 2")), (None, None));
        let before = cpu_time(std::process::id()).unwrap();
        assert!(cpu_time(std::process::id()).unwrap() >= before);
        assert!(cpu_time(u32::MAX).is_err());
    }
}
