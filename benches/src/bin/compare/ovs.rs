//! Debian's Open vSwitch with DPDK, out of a directory of unpacked packages, in a network namespace of its own.
//!
//! Frames come from `net_pcap` devices, which keep a capture in memory and give copies of its frames for ever, or read a
//! capture once; a device drops what is sent to it. One thread polls, on the core that ours is measured on. Between
//! measurements all of it is stopped by a signal, so that it takes nothing from the other side.

use crate::processes::{Daemon, PATIENCE, bound_to_us, empty_dir, library_dir, run, spawn, wait_for};
use anyhow::{Context as _, Result, bail, ensure};
use benches::compare::clock::ThreadClock;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bridge.
const BRIDGE: &str = "br0";
/// Memory for frames, in MiB: Open vSwitch takes about 700 for the pool it would like to have.
const MEMORY_MIB: u32 = 2_048;
/// Drivers that are loaded: pools, devices without hardware, captures, nothing.
const DRIVERS: [&str; 4] = ["mempool_ring", "bus_vdev", "net_pcap", "net_null"];

/// Where a port's frames come from.
#[derive(Clone, Debug)]
pub enum Device<'a> {
    /// A capture, over and over.
    Endless(&'a Path),
    /// A capture, once.
    Once(&'a Path),
    /// Nowhere.
    Null,
}

/// What the polling thread counted since its counters were cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PollCounters {
    /// Frames received.
    pub received: u64,
    /// Frames looked up again after a pass through the tracker.
    pub recirculated: u64,
    /// Frames without a cached flow, for which one was set up.
    pub set_up: u64,
    /// Frames for which that failed.
    pub failed: u64,
}

impl PollCounters {
    /// What was added since `before`.
    pub fn since(self, before: PollCounters) -> PollCounters {
        PollCounters {
            received: self.received.saturating_sub(before.received),
            recirculated: self.recirculated.saturating_sub(before.recirculated),
            set_up: self.set_up.saturating_sub(before.set_up),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

/// A running switch. Ends with the value.
pub struct Ovs {
    dir: PathBuf,
    daemon: Daemon,
    _database: Daemon,
}

impl Ovs {
    /// Starts it: binaries and libraries from `unpacked`, files in `dir`, polling on `core`.
    ///
    /// # Errors
    /// If something is missing or does not start; the daemon's log is in `dir`.
    pub fn start(unpacked: &Path, dir: &Path, core: usize) -> Result<Ovs> {
        let (unpacked, dir) = (unpacked.canonicalize()?, empty_dir(dir)?);
        let conf = dir.join("conf.db");
        run(Command::new("ovsdb-tool")
            .arg("create")
            .args([&conf, Path::new("/usr/share/openvswitch/vswitch.ovsschema")]))?;
        let mut command = bound_to_us(Path::new("ovsdb-server"));
        command.arg(&conf).arg(format!("--remote=punix:{}", dir.join("db.sock").display()));
        let database = spawn(&mut command, &dir, "ovsdb-server", None)?;
        let mut command = bound_to_us(Path::new("unshare"));
        command.arg("--net").arg(unpacked.join("usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"));
        command.arg(format!("unix:{}", dir.join("db.sock").display()));
        configure(&unpacked, &dir, core)?;
        let daemon = spawn(&mut command, &dir, "ovs-vswitchd", Some(&unpacked))?;
        let ovs = Ovs { dir, daemon, _database: database };
        ovs.add_bridge().with_context(|| format!("see {}", ovs.dir.join("ovs-vswitchd.log").display()))?;
        Ok(ovs)
    }

    fn add_bridge(&self) -> Result<()> {
        let ready = |o: &Ovs| {
            let initialized = o.vsctl(&["get", "Open_vSwitch", ".", "dpdk_initialized"])?;
            ensure!(initialized.trim() == "true", "DPDK is not initialized");
            Ok(())
        };
        wait_for("DPDK", || ready(self))?;
        self.vsctl(&[
            "add-br",
            BRIDGE,
            "--",
            "set",
            "Bridge",
            BRIDGE,
            "datapath_type=netdev",
            "fail-mode=secure",
        ])?;
        self.set_rules(&["priority=0,actions=drop".to_owned()])
    }

    fn vsctl(&self, arguments: &[&str]) -> Result<String> {
        let database = format!("--db=unix:{}", self.dir.join("db.sock").display());
        run(Command::new("ovs-vsctl").args(["-t", "30", &database]).args(arguments))
    }

    fn ofctl(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let socket = format!("unix:{}", self.dir.join(format!("{BRIDGE}.mgmt")).display());
        run(Command::new("ovs-ofctl")
            .args(["-O", "OpenFlow13", "-t", "30", command, &socket])
            .args(arguments))
    }

    /// The version, as it says it itself.
    pub fn version(&self) -> Result<String> {
        Ok(self.ctl("version", &[])?.trim().to_owned())
    }

    /// A command as `ovs-appctl` sends it: JSON-RPC over the control socket (ovs-appctl(8), unixctl).
    ///
    /// # Errors
    /// If the daemon is gone or refuses.
    pub fn ctl(&self, method: &str, params: &[&str]) -> Result<String> {
        let mut stream = UnixStream::connect(self.dir.join("ovs-vswitchd.ctl"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(json!({"id": 0, "method": method, "params": params}).to_string().as_bytes())?;
        let reply = serde_json::Deserializer::from_reader(BufReader::new(stream)).into_iter::<Value>().next();
        let reply = reply.context("no answer")?.with_context(|| method.to_owned())?;
        match (reply["result"].as_str(), reply["error"].as_str()) {
            (Some(text), _) => Ok(text.to_owned()),
            (None, error) => bail!("{method}: {}", error.unwrap_or("no result").trim()),
        }
    }

    /// Adds a port with this OpenFlow number.
    ///
    /// # Errors
    /// If the device cannot be had.
    pub fn add_port(&self, number: u16, device: &Device<'_>) -> Result<()> {
        let devargs = match device {
            Device::Endless(file) => format!("net_pcap{number},rx_pcap={},infinite_rx=1", file.display()),
            Device::Once(file) => format!("net_pcap{number},rx_pcap={}", file.display()),
            Device::Null => format!("net_null{number},no-rx=1"),
        };
        let name = format!("p{number}");
        self.vsctl(&[
            "add-port",
            BRIDGE,
            &name,
            "--",
            "set",
            "Interface",
            &name,
            "type=dpdk",
            &format!("ofport_request={number}"),
            &format!("options:dpdk-devargs=\"{devargs}\""),
        ])?;
        let error = self.vsctl(&["get", "Interface", &name, "error"])?;
        ensure!(error.trim() == "[]", "port {number}: {}", error.trim());
        Ok(())
    }

    /// Removes the port, if it is there.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn remove_port(&self, number: u16) -> Result<()> {
        self.vsctl(&["--if-exists", "del-port", BRIDGE, &format!("p{number}")]).map(drop)
    }

    /// Replaces all rules.
    ///
    /// # Errors
    /// If a rule is refused.
    pub fn set_rules(&self, rules: &[String]) -> Result<()> {
        let file = self.dir.join("rules");
        std::fs::write(&file, rules.join("\n") + "\n")?;
        self.ofctl("replace-flows", &[&file.display().to_string()]).map(drop)
    }

    /// Frames that rules with this cookie counted. Up to half a second old.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn rule_count(&self, cookie: u64) -> Result<u64> {
        Ok(rule_count(&self.ofctl("dump-flows", &[])?, cookie))
    }

    /// The same for several cookies.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn rule_counts(&self, cookies: std::ops::Range<u64>) -> Result<Vec<u64>> {
        let text = self.ofctl("dump-flows", &[])?;
        Ok(cookies.map(|cookie| rule_count(&text, cookie)).collect())
    }

    /// Frames received and sent, all ports together.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn port_counts(&self) -> Result<(u64, u64)> {
        let text = self.ofctl("dump-ports", &[])?;
        let sum = |mark: &str| {
            text.lines().filter(|l| l.contains(mark)).filter_map(|l| field(l, "pkts=")).sum::<u64>()
        };
        Ok((sum("rx pkts"), sum("tx pkts")))
    }

    /// Connections now.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn connections(&self) -> Result<u64> {
        Ok(self.ctl("dpctl/ct-get-nconns", &[])?.trim().parse()?)
    }

    /// What the polling thread counted.
    ///
    /// # Errors
    /// If the daemon does not answer, or nothing is polled.
    pub fn poll_counters(&self) -> Result<PollCounters> {
        poll_counters(&self.ctl("dpif-netdev/pmd-stats-show", &[])?)
    }

    /// The time of the polling thread.
    ///
    /// # Errors
    /// If nothing is polled yet.
    pub fn clock(&self) -> Result<ThreadClock> {
        ThreadClock::of_thread(self.daemon.id(), "pmd-")
    }

    /// Private memory in use, in bytes: without the frames' pool, which is shared memory.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id()))?;
        let kib = status.lines().find_map(|l| field(l, "RssAnon:")).context("no RssAnon")?;
        Ok(kib * 1024)
    }

    /// Stops all its threads.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn stop(&self) -> Result<()> {
        self.daemon.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn go_on(&self) -> Result<()> {
        self.daemon.signal(Signal::CONT)
    }
}

/// Writes the settings of the daemon that is not yet running.
fn configure(unpacked: &Path, dir: &Path, core: usize) -> Result<()> {
    let drivers = library_dir(unpacked)?.join("dpdk");
    let version = std::fs::read_dir(&drivers)?.next().context("no drivers")??.path();
    // Without --legacy-mem Open vSwitch would ask for --in-memory, which does not go with --no-huge.
    let mut extra = format!("--no-huge -m {MEMORY_MIB} --legacy-mem --no-shconf --no-telemetry --no-pci");
    for driver in DRIVERS {
        extra += &format!(" -d {}", version.join(format!("librte_{driver}.so.23.0")).display());
    }
    let other = if core == 0 { 1 } else { 0 };
    let settings = [
        "other_config:dpdk-init=true".to_owned(),
        format!("other_config:pmd-cpu-mask={:#x}", 1u64 << core),
        format!("other_config:dpdk-lcore-mask={:#x}", 1u64 << other),
        format!("other_config:dpdk-extra=\"{extra}\""),
    ];
    let database = format!("--db=unix:{}", dir.join("db.sock").display());
    let vsctl = ["-t", "30", &database, "--no-wait", "--", "init", "--", "set", "Open_vSwitch", "."];
    run(Command::new("ovs-vsctl").args(vsctl).args(settings)).map(drop)
}

/// The number after a mark.
fn field(text: &str, mark: &str) -> Option<u64> {
    let rest = text.split_once(mark)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Sum of the counts of rules with a cookie.
fn rule_count(text: &str, cookie: u64) -> u64 {
    let mark = format!("cookie={cookie:#x},");
    text.lines().filter(|l| l.contains(&mark)).filter_map(|l| field(l, "n_packets=")).sum()
}

fn poll_counters(text: &str) -> Result<PollCounters> {
    let polling = text.split("main thread:").next().unwrap_or_default();
    ensure!(polling.contains("pmd thread"), "no polling thread in {text:?}");
    let get = |mark| field(polling, mark).with_context(|| format!("no {mark:?} in {polling:?}"));
    Ok(PollCounters {
        received: get("packets received:")?,
        recirculated: get("packet recirculations:")?,
        set_up: get("miss with success upcall:")?,
        failed: get("miss with failed upcall:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        assert_eq!(field("RssAnon:\t   46472 kB", "RssAnon:"), Some(46_472));
        assert_eq!(field(" cookie=0x0, n_packets=101023, n_bytes=1", "n_packets="), Some(101_023));
        assert_eq!(field("rx pkts=?", "pkts="), None);
    }

    #[test]
    fn rules_are_told_by_cookie() {
        let text = " cookie=0x2, table=1, n_packets=7, n_bytes=1, actions=drop\n cookie=0x1, n_packets=9, x\n \
                    cookie=0x2, table=1, n_packets=70, y";
        assert_eq!((rule_count(text, 2), rule_count(text, 1), rule_count(text, 3)), (77, 9, 0));
    }

    #[test]
    fn only_the_polling_thread_counts() {
        let text = "pmd thread numa_id 0 core_id 1:\n  packets received: 7\n  packet recirculations: 6\n  miss with \
                    success upcall: 2\n  miss with failed upcall: 1\nmain thread:\n  packets received: 9\n";
        let counters = poll_counters(text).unwrap();
        assert_eq!(counters, PollCounters { received: 7, recirculated: 6, set_up: 2, failed: 1 });
        assert!(poll_counters("main thread:\n  packets received: 9\n").is_err());
    }
}
