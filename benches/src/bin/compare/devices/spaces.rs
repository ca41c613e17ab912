//! Network namespaces without names: pods, and what is a node of its own. They end with the last process that uses them, so
//! that nothing stays behind however a run ends.

use crate::processes::{bound_to_us, run, wait_for};
use anyhow::{Context as _, Result};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::Command;
use sys::ethtool::{TransmitChecksums, set_transmit_checksums};
use sys::netlink::{AdminState, Link, LinkChange, Netlink};
use sys::{IfIndex, IfName, Netns};

/// What a pod calls its device.
const POD_DEVICE: &str = "eth0";
/// Length of the prefix of every network here.
const PREFIX_LEN: u8 = 24;

/// A namespace.
#[derive(Debug)]
pub struct Space(Netns);

/// Who completes the checksums of frames that a pod sends into a veth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodOffload {
    /// Whoever can: they may arrive as super-frames with partial checksums.
    On,
    /// The pod, for a switch that takes frames for complete.
    Off,
}

/// A pod: a namespace with one device.
#[derive(Debug)]
pub struct Pod {
    /// Where.
    pub space: Space,
    /// The device's address.
    pub address: Ipv4Addr,
}

impl Space {
    /// A new one, in which nothing is up but the loopback device.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<Space> {
        let space = Space(Netns::new_unnamed()?);
        space.up("lo")?;
        Ok(space)
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.0
    }

    /// A file by which other programs find it while this one runs.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_fd().as_raw_fd())
    }

    /// A daemon in it, to be started by the main thread.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = bound_to_us(Path::new("nsenter"));
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// `ip` in it, for what [`Netlink`] does not do.
    ///
    /// # Errors
    /// If it fails.
    pub fn ip(&self, words: &str) -> Result<()> {
        run(self.command(Path::new("ip")).args(words.split_ascii_whitespace())).map(drop)
    }

    /// A link, of which `name` says what it is called.
    ///
    /// # Errors
    /// If there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        let link = Netlink::open_in(&self.0)?.link_by_name(&IfName::new(name)?)?;
        link.with_context(|| format!("{name}: no such device"))
    }

    /// Switches a link on.
    ///
    /// # Errors
    /// If there is none.
    pub fn up(&self, name: &str) -> Result<IfIndex> {
        let index = self.link(name)?.index;
        self.change(index, &LinkChange::default().admin(AdminState::Up))?;
        Ok(index)
    }

    fn change(&self, index: IfIndex, change: &LinkChange<'_>) -> Result<()> {
        Ok(Netlink::open_in(&self.0)?.change(index, change)?)
    }

    /// Gives a link an address and switches it on.
    ///
    /// # Errors
    /// If there is none.
    pub fn address(&self, name: &str, address: Ipv4Addr) -> Result<()> {
        let index = self.up(name)?;
        Ok(Netlink::open_in(&self.0)?.add_address(index, address.into(), PREFIX_LEN)?)
    }

    /// Makes a veth pair in it.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn veth(&self, name: &str, peer: &str) -> Result<()> {
        Ok(Netlink::open_in(&self.0)?.create_veth(&IfName::new(name)?, &IfName::new(peer)?)?)
    }

    /// Makes a kernel bridge in it, of these ports.
    ///
    /// # Errors
    /// If a port is missing.
    pub fn bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        Netlink::open_in(&self.0)?.create_bridge(&IfName::new(name)?)?;
        let bridge = self.up(name)?;
        for port in ports {
            let index = self.link(port)?.index;
            self.change(index, &LinkChange::default().controller(Some(bridge)).admin(AdminState::Up))?;
        }
        Ok(())
    }

    /// Moves a link to another namespace under another name.
    ///
    /// # Errors
    /// If there is none, or the name is taken there.
    pub fn give(&self, name: &str, to: &Space, new_name: &str) -> Result<()> {
        // A switch makes its devices some time after it said yes.
        let link = wait_for(name, || self.link(name))?;
        self.change(link.index, &LinkChange::default().netns(&to.0).name(IfName::new(new_name)?))
    }
}

impl Pod {
    /// Moves a link of a node into a new pod.
    ///
    /// # Errors
    /// If there is none.
    pub fn around(node: &Space, link: &str, address: Ipv4Addr, mtu: u32) -> Result<Pod> {
        let pod = Pod { space: Space::new()?, address };
        node.give(link, &pod.space, POD_DEVICE)?;
        let index = pod.space.link(POD_DEVICE)?.index;
        pod.space.change(index, &LinkChange::default().mtu(mtu))?;
        pod.space.address(POD_DEVICE, address)?;
        Ok(pod)
    }

    /// A new pod behind a veth whose node's end is called `link`, and is on.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn behind(node: &Space, link: &str, address: Ipv4Addr, mtu: u32, offload: PodOffload) -> Result<Pod> {
        let peer = format!("{link}-pod");
        node.veth(link, &peer)?;
        let pod = Pod::around(node, &peer, address, mtu)?;
        node.up(link)?;
        if offload == PodOffload::Off {
            let device = IfName::new(POD_DEVICE)?;
            let set = || set_transmit_checksums(&device, TransmitChecksums::Kernel);
            sys::netns::run_in(pod.space.netns(), set)?.context("checksums of a pod's veth")?;
        }
        Ok(pod)
    }

    /// Its device.
    ///
    /// # Errors
    /// If it went away.
    pub fn link(&self) -> Result<Link> {
        self.space.link(POD_DEVICE)
    }
}
