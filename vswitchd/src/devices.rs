//! Devices: opens and closes what stands behind interfaces, hands their sides to workers, and knows how they are.
//!
//! A device that is not there, or went away, is tried again when the kernel reports a change of links and from time to time,
//! one that was refused only from time to time; until then its interface carries the error.

mod queues;

use crate::workers::{LateSide, Workers};
use base::Instant;
use datapath::port::{
    AfPacketConfig, AfPacketPort, AfXdpConfig, AfXdpPort, DeviceChange, LinkReport, PcapConfig, PcapPort,
    Port, PortConfigError, TapConfig, TapPort, TunnelDeviceConfig, TunnelDevicePort, TunnelSocketConfig,
    TunnelSocketPort, XdpMode, XdpOptions,
};
use datapath::{Command, PortError};
use packet::DpPort;
pub use queues::ShownSide;
use queues::Side;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use switch::afxdp::{AfXdpMode, AfXdpOptions};
use switch::brain::{DeviceState, OpenDevice};
use switch::config::{InterfaceConfig, InterfaceKind, RxQueues};
use switch::mac::MacAddr;
use switch::tunnel::{TunnelCarrier, TunnelSocket};
use sys::IfName;
use sys::io_ring::RingSetup;
use sys::netlink::{Link, Netlink, NetlinkError};
use sys::netns::{Netns, NetnsError};
use sys::tap::{TapError, TapOpen};
use sys::xdp::XdpError;

/// Longest wait, of all, for TAPs that a process holds: it may be ending, or not.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// How often it is looked meanwhile: the kernel does not tell when it lets go of a device.
const HOLD_GLANCE: Duration = Duration::from_millis(10);
/// Pause before a device that could not be opened is tried again without a sign that it would work now.
const RETRY: Duration = Duration::from_secs(2);
/// MTU of a device without one of its own.
const MTU_DEFAULT: u32 = 1_500;

/// A device that is open.
struct Device {
    port: Box<dyn Port>,
    dp_port: DpPort,
    /// By their numbers.
    sides: Vec<Side>,
    /// Sides that are no more, with their numbers, which a worker that does not answer still has.
    leaving: Vec<(u16, LateSide)>,
    /// Address of a device that has none of its own.
    made_up_mac: MacAddr,
    /// The text on it by which it is found again, if it is a TAP.
    alias: String,
    report: LinkReport,
}

/// A device on its way out.
struct Retired {
    device: Device,
    /// Whether it is to vanish, if it was made by the switch.
    discard: bool,
}

/// What an interface should have behind it, and has.
struct Slot {
    config: InterfaceConfig,
    device: Option<Device>,
    error: Option<String>,
    retry_at: Instant,
    /// Whether it lacks something that a change of links may bring. An attempt that is refused may itself change links, as when
    /// a TAP is made and vanishes, so it would be made without end.
    awaits_links: bool,
    /// Whether a TAP of this name was ours before, so that finding it gone is worth a word.
    opened_before: bool,
    /// Whether its TAP is there and a process has it that may be ending.
    held: bool,
}

impl Slot {
    /// Whoever has its device may be ending. It is looked again by time alone, as an attempt may itself change links.
    fn wait_until_let_go(&mut self, now: Instant) {
        self.held = true;
        (self.retry_at, self.awaits_links) = (now + HOLD_GLANCE, false);
    }
}

/// Where a TAP of an earlier run was found.
struct Stray {
    /// File of its namespace; none for this one. Not the namespace itself, which would be kept alive.
    netns: Option<PathBuf>,
    name: IfName,
    /// What it carries: its interface may have got another row since.
    alias: String,
}

impl Stray {
    fn link(&self) -> Result<Link, PortConfigError> {
        let links = links(self.netns.as_deref())?;
        let link = links.into_iter().find(|link| link.alias == self.alias);
        link.ok_or(PortConfigError::Tap(TapError::Missing { name: self.name }))
    }

    /// Finds out whether it is still there, and what it is called now.
    fn look_again(&mut self) -> Result<(), PortConfigError> {
        self.name = self.link()?.name;
        Ok(())
    }

    /// Makes it vanish, whoever has it open.
    fn delete(&self) -> Result<(), PortConfigError> {
        let link = self.link()?;
        let mut netlink = match &self.netns {
            Some(path) => Netlink::open_in(&Netns::by_path(path)?)?,
            None => Netlink::open()?,
        };
        Ok(netlink.delete(link.index)?)
    }
}

/// All devices.
#[derive(Default)]
pub struct Devices {
    /// TAPs that an earlier run left, by their alias.
    strays: BTreeMap<String, Stray>,
    /// By the kernel's clock, how long to wait for an earlier run to let go of them.
    strays_held_until: Instant,
    slots: BTreeMap<String, Slot>,
    /// Devices that are wanted no more, or gone, until the workers' snapshot is without them.
    retired: Vec<Retired>,
    /// Whether it is to be looked whether sides are where they are pinned.
    pins_due: bool,
    /// Whether a worker has not answered from which a side was taken, or to which one was given.
    awaits_workers: bool,
    /// How many sides were pinned when that was last looked at.
    pinned: usize,
    next_port: u32,
    made_up: u32,
    /// Whether io_uring is not to be used, though the kernel may have it.
    no_io_uring: bool,
}

/// Something about an interface that the brain has to know.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It has a device, or its device has changed.
    Open(String, OpenDevice),
    /// It has none any more.
    Closed(String),
}

/// The text on a TAP of ours.
fn alias_of(config: &InterfaceConfig) -> String {
    format!("tapestry:{}", config.row)
}

/// The links of the namespace that a file stands for; of this one without.
fn links(netns: Option<&Path>) -> Result<Vec<Link>, PortConfigError> {
    let Some(path) = netns else { return Ok(Netlink::open()?.links()?) };
    let netns = Netns::by_path(path)?;
    Ok(match Netlink::open_in(&netns) {
        // What may not be entered may still be looked into, so that it is known that the TAP is there.
        Err(NetlinkError::Netns(NetnsError::NotPermitted)) => Netlink::open()?.links_in(&netns)?,
        inside => inside?.links()?,
    })
}

/// Looks for TAPs of an earlier run in this network namespace and in every one that has a name (ip-netns(8)).
fn find_strays() -> BTreeMap<String, Stray> {
    let mut found = BTreeMap::new();
    let mut look = |netns: Option<PathBuf>| {
        let links = links(netns.as_deref()).unwrap_or_else(|error| {
            let place = netns.as_deref().map_or(Cow::Borrowed("own namespace"), Path::to_string_lossy);
            let text = format!("{place}: TAPs of an earlier run are not looked for: {error}");
            // A namespace that went leaves a file that stands for nothing.
            match is_missing(&error) {
                true => tracing::debug!(target: "netdev", "{text}"),
                false => tracing::warn!(target: "netdev", "{text}"),
            }
            Vec::new()
        });
        for link in links.into_iter().filter(|l| l.alias.starts_with("tapestry:")) {
            let (netns, name, alias) = (netns.clone(), link.name, link.alias.clone());
            found.insert(link.alias, Stray { netns, name, alias });
        }
    };
    look(None);
    let names = std::fs::read_dir(sys::netns::NAMED_DIRECTORY).into_iter().flatten().flatten();
    names.for_each(|entry| look(Some(entry.path())));
    found
}

impl Devices {
    /// No devices; those of an earlier run are looked for, so that pods which still have them are connected again.
    pub fn after_restart(no_io_uring: bool) -> Devices {
        if no_io_uring {
            tracing::info!(target: "netdev", "no io_uring (--no-io-uring): TAPs are read and written frame by frame");
        }
        let strays_held_until = sys::clock::monotonic() + HOLD_MAX;
        Devices { strays: find_strays(), strays_held_until, no_io_uring, ..Devices::default() }
    }

    /// An interface is wanted. Opens its device now; a failure is kept as its error and tried again later.
    pub fn want(&mut self, config: &InterfaceConfig, workers: &mut Workers, now: Instant) -> Option<News> {
        let slot = Slot {
            config: config.clone(),
            device: None,
            error: None,
            retry_at: now,
            awaits_links: true,
            opened_before: false,
            held: false,
        };
        self.slots.insert(config.name.clone(), slot);
        self.try_open(&config.name, workers, now)
    }

    /// An interface is wanted no more: its device is to be closed, and to vanish if it was made by the switch. That happens
    /// in [`Devices::bury`].
    pub fn forget(&mut self, name: &str) -> Option<News> {
        self.pins_due = true;
        let device = self.slots.remove(name)?.device?;
        self.retired.push(Retired { device, discard: true });
        Some(News::Closed(name.to_owned()))
    }

    /// Whether [`Devices::bury`] has something to do.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Takes devices that are wanted no more from the workers, which must have a snapshot without them, and closes them.
    pub fn bury(&mut self, workers: &mut Workers) {
        for Retired { mut device, discard } in self.retired.drain(..) {
            workers.remove_port(device.dp_port);
            if discard {
                // A device that is gone already needs no discarding.
                let _ = device.port.discard();
            }
        }
    }

    /// Settings of an interface have changed. With them a device that was refused may be opened, so it is tried now.
    pub fn change(&mut self, config: &InterfaceConfig, workers: &mut Workers, now: Instant) -> Option<News> {
        let room = self.room(workers);
        self.pins_due = true;
        let slot = self.slots.get_mut(&config.name)?;
        let old = std::mem::replace(&mut slot.config, config.clone());
        let alias = alias_of(config);
        let Some(device) = slot.device.as_mut() else {
            if let Some(stray) = self.strays.remove(&alias_of(&old)) {
                self.strays.insert(alias, stray);
            }
            return self.try_open(&config.name, workers, now);
        };
        // What failed before is tried again, so that its error stays while it is wanted.
        let failed = slot.error.take().is_some();
        let wanted = [
            (failed || old.mtu_request != config.mtu_request)
                .then_some(config.mtu_request)
                .flatten()
                .map(|m| DeviceChange::Mtu(m.into())),
            (failed || old.mac != config.mac)
                .then_some(config.mac)
                .flatten()
                .map(|m| DeviceChange::Mac(m.to_bytes())),
        ];
        // A port that was deleted and added in one transaction has another row. Without its alias its TAP would not be found again.
        if config.kind == InterfaceKind::Tap && device.alias != alias {
            match device.port.change(DeviceChange::Alias(alias.clone())) {
                Ok(()) => device.alias = alias,
                Err(error) => {
                    tracing::warn!(target: "netdev", "{}: {error}", config.name);
                    slot.error = Some(error.to_string());
                }
            }
        }
        for change in wanted.into_iter().flatten() {
            if let Err(error) = device.port.change(change) {
                tracing::warn!(target: "netdev", "{}: {error}", config.name);
                slot.error = Some(error.to_string());
            }
        }
        if let Err(text) = device.set_sides(config, room, workers) {
            tracing::warn!(target: "netdev", "{text}");
            slot.error = Some(text);
        }
        self.look(&config.name).ok()?
    }

    /// Takes a device up or down for a controller; news if it is now otherwise than before.
    pub fn set_admin(&mut self, name: &str, up: bool) -> Option<News> {
        if let Some(device) = self.slots.get_mut(name).and_then(|s| s.device.as_mut())
            && let Err(error) = device.port.change(DeviceChange::Admin { up })
            && !matches!(error, PortConfigError::Unsupported(_))
        {
            tracing::warn!(target: "netdev", "{name}: cannot be set {}: {error}", if up { "up" } else { "down" });
        }
        self.look(name).ok()?
    }

    /// Asks a device how it is; news if that is not as before.
    ///
    /// # Errors
    /// The port of a device that is gone, if it is of a kind whose workers do not notice.
    fn look(&mut self, name: &str) -> Result<Option<News>, DpPort> {
        let Some(slot) = self.slots.get_mut(name) else { return Ok(None) };
        let Some(device) = &mut slot.device else { return Ok(None) };
        let report = match device.port.link() {
            Ok(report) => report,
            // Others may only be on their way to another namespace.
            Err(PortError::Gone)
                if matches!(slot.config.kind, InterfaceKind::AfXdp(_) | InterfaceKind::Socket(..)) =>
            {
                return Err(device.dp_port);
            }
            Err(_) => return Ok(None),
        };
        let before = device.state();
        device.report = report;
        Ok((device.state() != before).then(|| News::Open(name.to_owned(), device.state())))
    }

    /// Asks every device how it is.
    pub fn look_at_all(&mut self, now: Instant) -> Vec<News> {
        let names: Vec<String> = self.slots.keys().cloned().collect();
        let look = |name: &String| match self.look(name) {
            Err(port) => self.gone(port, now),
            Ok(news) => news,
        };
        names.iter().filter_map(look).collect()
    }

    /// A worker says that the device of a port is gone.
    pub fn gone(&mut self, port: DpPort, now: Instant) -> Option<News> {
        let found = self.slots.iter_mut().find(|(_, s)| s.device.as_ref().is_some_and(|d| d.dp_port == port));
        let (name, slot) = found?;
        let name = name.clone();
        let device = slot.device.take()?;
        slot.error = Some(format!("{name}: network device has gone (No such device)"));
        (slot.retry_at, slot.awaits_links) = (now + RETRY, true);
        tracing::info!(target: "bridge", "interface {name}: network device has gone");
        self.retired.push(Retired { device, discard: false });
        Some(News::Closed(name))
    }

    /// Tries again what could not be opened. `links_changed`: the kernel reported so, and what was not there may be there now.
    pub fn retry(&mut self, links_changed: bool, workers: &mut Workers, now: Instant) -> Vec<News> {
        let due = |s: &Slot| {
            let is_time = s.retry_at <= now || links_changed && s.awaits_links;
            s.device.is_none() && has_device(&s.config) && is_time
        };
        let names: Vec<String> = self.slots.iter().filter(|(_, s)| due(s)).map(|(n, _)| n.clone()).collect();
        names.iter().filter_map(|name| self.try_open(name, workers, now)).collect()
    }

    /// Whether the TAP of an interface is in the hands of a process that may be ending, so that nothing can be said of it yet.
    pub fn is_any_held(&self) -> bool {
        self.slots.values().any(|slot| slot.held) && sys::clock::monotonic() < self.strays_held_until
    }

    /// When `retry` has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.slots.values().filter(|s| s.device.is_none() && has_device(&s.config)).map(|s| s.retry_at).min()
    }

    fn try_open(&mut self, name: &str, workers: &mut Workers, now: Instant) -> Option<News> {
        let (next_port, made_up) = (self.next_port + 1, self.made_up + 1);
        let room = self.room(workers);
        let slot = self.slots.get_mut(name)?;
        if !has_device(&slot.config) {
            return None;
        }
        let alias = alias_of(&slot.config);
        let may_use_io_uring = !self.no_io_uring;
        // If an earlier run was killed, the kernel lets go of its TAPs only when it has freed its io_urings, tens of milliseconds
        // later.
        let may_be_let_go = sys::clock::monotonic() < self.strays_held_until;
        // A row whose type was changed meanwhile wants no TAP.
        let stray = self.strays.get_mut(&alias).filter(|_| slot.config.kind == InterfaceKind::Tap);
        let adopted = stray.map(|stray| {
            // Since an earlier attempt it may have gone, and its name, or that of its namespace, be another's.
            if slot.error.is_some() {
                stray.look_again()?;
            }
            take_over(&slot.config, stray, may_use_io_uring)
        });
        let adopted = match adopted {
            Some(Err(PortConfigError::Tap(TapError::InUse { .. }))) if may_be_let_go => {
                slot.wait_until_let_go(now);
                return None;
            }
            // As long as it may be there, another one would leave the pod that has it without a connection, and nobody would know.
            Some(Err(error)) if is_missing(&error) => {
                tracing::info!(target: "netdev", "{name}: not taken over: {error}");
                self.strays.remove(&alias);
                None
            }
            adopted => adopted,
        };
        slot.held = false;
        let opened = adopted.unwrap_or_else(|| open(&slot.config, may_use_io_uring, may_be_let_go));
        let opened = opened.and_then(|mut port| {
            let report = port.link()?;
            Ok((port, report))
        });
        let (mut port, report) = match opened {
            Ok(opened) => opened,
            Err(error) if may_be_let_go && wants_kernel_device(&slot.config) && is_held(&error) => {
                slot.wait_until_let_go(now);
                return None;
            }
            Err(error) => {
                // The words of ovs-vswitchd, which scripts look for.
                let text = match &error {
                    PortConfigError::NoDevice(_) => {
                        format!("could not open network device {name} (No such device)")
                    }
                    // Of a queue that is not there the kernel says no more than that.
                    PortConfigError::Xdp(XdpError::Queue { queue: 1.., source, .. })
                        if source.kind() == std::io::ErrorKind::InvalidInput =>
                    {
                        format!("could not open network device {name} ({error}: has it so many queues?)")
                    }
                    other => format!("could not open network device {name} ({other})"),
                };
                // That a pod goes before its port does is nothing unusual.
                match slot.opened_before {
                    _ if slot.error.as_ref() == Some(&text) => {}
                    true => tracing::info!(target: "bridge", "{text}"),
                    false => tracing::warn!(target: "bridge", "{text}"),
                }
                slot.error = Some(text);
                slot.retry_at = now + RETRY;
                slot.awaits_links = matches!(error, PortConfigError::NoDevice(_)) || is_missing(&error);
                return None;
            }
        };
        let dp_port = DpPort(next_port);
        if let Err(error) = hand_over(&mut *port, dp_port, workers) {
            let text = format!("{name}: {error}");
            if slot.error.as_ref() != Some(&text) {
                tracing::warn!(target: "bridge", "{text}");
            }
            slot.error = Some(text);
            (slot.retry_at, slot.awaits_links) = (now + RETRY, false);
            workers.remove_port(dp_port);
            // A worker may have it until it answers.
            self.next_port = next_port;
            return None;
        }
        if slot.config.kind == InterfaceKind::Tap {
            self.strays.remove(&alias);
        }
        if slot.opened_before {
            tracing::info!(target: "bridge", "interface {name}: network device is back");
        }
        if let InterfaceKind::AfXdp(AfXdpOptions { queues: taken, .. }) = slot.config.kind
            && let Some(queues) = report.ifindex.and_then(|index| queue_count(name, index))
            && queues > usize::from(taken)
        {
            tracing::warn!(
                target: "netdev",
                "{name}: the device has {queues} queues, and the kernel keeps the frames of all but {taken} (options:n_rxq)"
            );
        }
        let made_up_mac = MacAddr(0xaa55_aa55_0000 + u64::from(made_up));
        let mut device =
            Device { port, dp_port, sides: Vec::new(), leaving: Vec::new(), made_up_mac, alias, report };
        device.take_sides(room.clone());
        self.pins_due = true;
        let state = device.state();
        // A device that was there already may have another number of queues.
        let error = device.set_sides(&slot.config, room, workers).err();
        if let Some(text) = &error {
            tracing::warn!(target: "netdev", "{text}");
        }
        (slot.device, slot.error, slot.opened_before) = (Some(device), error, true);
        (self.next_port, self.made_up) = (next_port, made_up);
        Some(News::Open(name.to_owned(), state))
    }

    /// What sockets have found of the paths that their packets take.
    pub fn take_path_mtus(&mut self) -> Vec<(IpAddr, u32)> {
        let devices = self.slots.values_mut().filter_map(|s| s.device.as_mut());
        devices.flat_map(|d| d.port.take_path_mtus()).collect()
    }

    /// The error of an interface, if there is one.
    pub fn error(&self, name: &str) -> Option<&str> {
        self.slots.get(name)?.error.as_deref()
    }

    /// What the device of an interface said last.
    pub fn report(&self, name: &str) -> Option<&LinkReport> {
        Some(&self.slots.get(name)?.device.as_ref()?.report)
    }

    /// The open devices: name, port, the worker that receives from its first queue, state.
    pub fn open(&self) -> impl Iterator<Item = (&str, DpPort, usize, OpenDevice)> {
        self.slots.iter().filter_map(|(name, s)| {
            let device = s.device.as_ref()?;
            let worker = device.sides.first().map_or(0, |side| side.worker);
            Some((name.as_str(), device.dp_port, worker, device.state()))
        })
    }

    /// The open device of an interface.
    pub fn get(&self, name: &str) -> Option<(DpPort, OpenDevice)> {
        let device = self.slots.get(name)?.device.as_ref()?;
        Some((device.dp_port, device.state()))
    }

    /// Frames lost between the device of an interface and its worker.
    pub fn lost(&self, name: &str) -> u64 {
        let Some(device) = self.slots.get(name).and_then(|s| s.device.as_ref()) else { return 0 };
        device.port.losses().iter().map(|l| l.too_long.get() + l.overflow.get() + l.unreadable.get()).sum()
    }

    /// Counters of the queues of an AF_XDP device, by the names that OVS has for them.
    pub fn queue_counters(&self, name: &str) -> Vec<(Cow<'static, str>, u64)> {
        let Some(device) = self.slots.get(name).and_then(|s| s.device.as_ref()) else { return Vec::new() };
        let queues = device.port.xdp_statistics().into_iter().enumerate();
        let counters = queues.flat_map(|(n, s)| {
            [
                ("rx_dropped", s.rx_dropped),
                ("rx_invalid_descs", s.rx_invalid),
                ("tx_invalid_descs", s.tx_invalid),
            ]
            .map(|(what, count)| (Cow::Owned(format!("xsk_queue_{n}_{what}")), count))
        });
        counters.collect()
    }

    /// `exit --cleanup`: every device that the switch made vanishes, also what an earlier run left and still holds. What
    /// belongs to no interface here may be another switch's.
    pub fn discard_all(&mut self) {
        for device in self.slots.values_mut().filter_map(|s| s.device.as_mut()) {
            let _ = device.port.discard();
        }
        // Tunnels' sockets have no row, and so no alias.
        let of_rows = self.slots.values().filter(|slot| !slot.config.row.is_empty());
        for stray in of_rows.filter_map(|slot| self.strays.get(&alias_of(&slot.config))) {
            match stray.delete() {
                Err(error) if !is_missing(&error) => {
                    tracing::warn!(target: "netdev", "{}: not removed: {error}", stray.name);
                }
                _ => {}
            }
        }
    }
}

impl Device {
    fn state(&self) -> OpenDevice {
        OpenDevice {
            port: self.dp_port,
            mac: self.report.mac.map_or(self.made_up_mac, MacAddr::from_bytes),
            state: DeviceState {
                link_up: self.report.carrier,
                admin_up: self.report.admin_up,
                mtu: self.report.mtu.unwrap_or(MTU_DEFAULT),
                speed_mbps: self.report.speed_mbps.unwrap_or(0),
            },
        }
    }
}

fn has_device(config: &InterfaceConfig) -> bool {
    !config.kind.is_virtual()
}

static HAS_IO_URING: LazyLock<bool> = LazyLock::new(|| match sys::io_ring::probe() {
    Ok(RingSetup::Deferred) => true,
    Ok(RingSetup::Basic) => {
        tracing::info!(target: "netdev", "io_uring is older than Linux 6.1: moving frames costs somewhat more");
        true
    }
    Err(error) => {
        tracing::info!(target: "netdev", "no io_uring ({error}): TAPs are read and written frame by frame");
        false
    }
});

/// How a TAP is to be opened, but for its name and place.
fn tap_config<'a>(
    config: &InterfaceConfig,
    alias: &'a str,
    name: IfName,
    may_use_io_uring: bool,
) -> TapConfig<'a> {
    let queues = match config.rx_queues {
        RxQueues::Count(count) => count.into(),
        _ => 1,
    };
    TapConfig {
        queues,
        // A number that makes no sense will be mended; room cannot be had later.
        is_multi_queue: config.rx_queues != RxQueues::Default,
        mac: config.mac.map(MacAddr::to_bytes),
        mtu: config.mtu_request.map(u32::from),
        alias: Some(alias),
        io_uring: may_use_io_uring && *HAS_IO_URING,
        ..TapConfig::new(name)
    }
}

/// Opens a TAP of an earlier run.
fn take_over(
    config: &InterfaceConfig,
    stray: &Stray,
    may_use_io_uring: bool,
) -> Result<Box<dyn Port>, PortConfigError> {
    let netns = stray.netns.as_deref().map(Netns::by_path).transpose()?;
    let alias = alias_of(config);
    let there = tap_config(config, &alias, stray.name, may_use_io_uring);
    Ok(Box::new(TapPort::open(&TapConfig { netns: netns.as_ref(), open: TapOpen::Attach, ..there })?))
}

/// Whether there is no such TAP any more, nor its namespace.
fn is_missing(error: &PortConfigError) -> bool {
    matches!(
        error,
        PortConfigError::Tap(TapError::Missing { .. })
            | PortConfigError::Netns(NetnsError::Missing(_) | NetnsError::NotANamespace(_))
    )
}

/// Opens the device of an interface. `may_be_let_go`: whoever has it may be an earlier run that is ending.
fn open(
    config: &InterfaceConfig,
    may_use_io_uring: bool,
    may_be_let_go: bool,
) -> Result<Box<dyn Port>, PortConfigError> {
    let name =
        || IfName::new(&config.name).map_err(|e| PortConfigError::NoDevice(format!("{}: {e}", config.name)));
    let mtu = config.mtu_request.map(u32::from);
    match &config.kind {
        InterfaceKind::Tap => {
            let alias = alias_of(config);
            let netns = config.netns.as_deref().map(Netns::find).transpose()?;
            let new = tap_config(config, &alias, name()?, may_use_io_uring);
            Ok(Box::new(TapPort::open(&TapConfig { netns: netns.as_ref(), ..new })?))
        }
        InterfaceKind::System => {
            Ok(Box::new(AfPacketPort::open(&AfPacketConfig { mtu, ..AfPacketConfig::new(name()?) })?))
        }
        InterfaceKind::AfXdp(options) => {
            let xdp = xdp_options(options);
            Ok(Box::new(AfXdpPort::open(&AfXdpConfig { xdp, mtu, ..AfXdpConfig::new(name()?) })?))
        }
        // What goes out of a dummy goes nowhere; what comes in is injected by command.
        InterfaceKind::Dummy => pcap(&config.name, &PcapConfig::default()),
        InterfaceKind::Pcap { rx, tx } => {
            let files = PcapConfig { rx: rx.as_ref().map(Into::into), tx: tx.as_ref().map(Into::into) };
            pcap(&config.name, &files)
        }
        InterfaceKind::Socket(socket, carrier) => {
            let io_uring = may_use_io_uring && *HAS_IO_URING;
            open_tunnels(config, (*socket, *carrier), may_be_let_go, io_uring)
        }
        InterfaceKind::Patch { .. } | InterfaceKind::Tunnel(_) => Err(PortConfigError::Unsupported("device")),
    }
}

/// How many queues a device receives by, if /sys shows this network namespace.
fn queue_count(name: &str, index: u32) -> Option<usize> {
    let device = Path::new("/sys/class/net").join(name);
    let shown = std::fs::read_to_string(device.join("ifindex")).ok()?;
    if shown.trim().parse() != Ok(index) {
        return None;
    }
    let queues = std::fs::read_dir(device.join("queues")).ok()?.flatten();
    Some(queues.filter(|queue| queue.file_name().as_encoded_bytes().starts_with(b"rx-")).count())
}

/// Whether the kernel's VXLAN device is wanted, which is made anew by each run.
fn wants_kernel_device(config: &InterfaceConfig) -> bool {
    matches!(config.kind, InterfaceKind::Socket(_, TunnelCarrier::KernelDevice))
}

/// Whether somebody has what was to be opened.
fn is_held(error: &PortConfigError) -> bool {
    matches!(error, PortConfigError::Tap(TapError::InUse { .. }) | PortConfigError::InUse(_))
}

/// Opens the port that the tunnels of a protocol and UDP port share. Where the kernel's VXLAN device is wanted and cannot be had,
/// it has sockets, but not if `may_be_let_go` of that device by whoever has it.
fn open_tunnels(
    config: &InterfaceConfig,
    (socket, carrier): (TunnelSocket, TunnelCarrier),
    may_be_let_go: bool,
    io_uring: bool,
) -> Result<Box<dyn Port>, PortConfigError> {
    let TunnelSocket { protocol, port } = socket;
    let sockets = TunnelSocketConfig { name: config.name.clone(), protocol, port };
    if carrier == TunnelCarrier::Sockets {
        return Ok(Box::new(TunnelSocketPort::open(&sockets)?));
    }
    let name = |text: &str| IfName::new(text).map_err(|e| PortConfigError::NoDevice(e.to_string()));
    let device =
        TunnelDeviceConfig { name: name(&config.name)?, tap: name(&socket.tap_name())?, port, io_uring };
    let error = match TunnelDevicePort::open(&device) {
        Ok(port) => return Ok(Box::new(port)),
        Err(error) if may_be_let_go && is_held(&error) => return Err(error),
        // The TAP of one that is on its way out: it will be tried again.
        Err(error @ PortConfigError::Tap(TapError::InUse { .. })) => return Err(error),
        Err(error) => error,
    };
    let port = TunnelSocketPort::open(&sockets)?;
    tracing::warn!(target: "tunnel", "{}: carried by sockets, not by the kernel's VXLAN device ({error})", config.name);
    Ok(Box::new(port))
}

fn xdp_options(options: &AfXdpOptions) -> XdpOptions {
    let mode = match options.mode {
        AfXdpMode::BestEffort => None,
        AfXdpMode::NativeWithZeroCopy => Some(XdpMode::NativeWithZeroCopy),
        AfXdpMode::Native => Some(XdpMode::Native),
        AfXdpMode::Generic => Some(XdpMode::Generic),
    };
    XdpOptions { mode, queues: options.queues, use_need_wakeup: options.use_need_wakeup }
}

fn pcap(name: &str, files: &PcapConfig) -> Result<Box<dyn Port>, PortConfigError> {
    Ok(Box::new(PcapPort::open(name, files, Arc::new(sys::clock::wall))?))
}

/// Gives each worker a sending side.
fn hand_over(port: &mut dyn Port, dp_port: DpPort, workers: &Workers) -> Result<(), PortError> {
    let refused = |e: datapath::CommandRefused| PortError::Io(std::io::Error::other(e));
    for n in 0..workers.peers().len() {
        let tx = port.new_tx()?;
        workers.send(n, Command::AddTx { port: dp_port, tx, done: None }).map_err(refused)?;
    }
    // Every worker can send to the port before the first frame from it can be answered.
    workers.settle();
    Ok(())
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
