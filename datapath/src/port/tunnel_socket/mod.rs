//! Tunnel ports on sockets of the host (`vxlan_sys_4789` and its like): the host routes, resolves neighbours and fragments.
//!
//! The frames of such a port begin with complete outer headers in both directions, with Ethernet addresses of zero. What is
//! sent gives its outer addresses, TOS, TTL and Don't Fragment to the socket, and only its payload is copied to the kernel;
//! what is received gets the headers back and is marked ([`Frame::encapsulated`]). One receiver for each address family is
//! bound to the tunnel's port.
//!
//! A socket sends from one port only, so each worker has [`SOURCES`] of them for each family, bound to ports that the kernel
//! chooses; the source port of the outer header, which stands for the inner flow, says which. That is entropy enough for the
//! queues of a receiver; peers accept any source port (RFC 7348 section 4.1, RFC 8926 section 3.3). Where the header
//! has a UDP checksum it is the kernel's to fill; only such datagrams can go several as one.

pub(super) mod outer;
mod rx;
mod tx;

use super::{DeviceChange, KernelCounters, LinkReport, Port, PortConfigError, PortError, Rx, RxLoss, Tx};
use base::Counter;
use packet::tunnel::TunnelProtocol;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use sys::tunnel_socket::{Carrier, IpFamily, TunnelSocket};

pub use tx::SOURCES;

/// The most destinations whose path MTU is remembered until the port's owner asks.
const PATHS_MAX: usize = 1_024;

/// How a tunnel port on sockets is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelSocketConfig {
    /// Its name: no device of the kernel has it.
    pub name: String,
    /// What the packets are.
    pub protocol: TunnelProtocol,
    /// UDP port to receive at; of no meaning for GRE.
    pub port: u16,
}

/// What became of datagrams after they had been sent: written by sending sides, read by the port's owner.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Errors that routers and peers have told by ICMP.
    pub icmp_errors: Counter,
    mtus: Mutex<BTreeMap<IpAddr, u32>>,
}

impl Reports {
    /// Off the packet path: only a packet that was too long comes here.
    pub fn note_mtu(&self, destination: IpAddr, mtu: u32) {
        let mut mtus = self.mtus.lock().unwrap_or_else(PoisonError::into_inner);
        if mtus.len() < PATHS_MAX || mtus.contains_key(&destination) {
            mtus.insert(destination, mtu);
        }
    }
}

/// A tunnel port on sockets of the calling thread's namespace.
#[derive(Debug)]
pub struct TunnelSocketPort {
    config: TunnelSocketConfig,
    carrier: Carrier,
    receivers: Vec<(Arc<TunnelSocket>, Arc<RxLoss>)>,
    reports: Vec<Arc<Reports>>,
    rx_taken: bool,
}

impl TunnelSocketPort {
    /// Opens the receiving sockets. A family that the host does not have is done without.
    ///
    /// # Errors
    /// [`PortConfigError::Refused`] when the port is in use (by a tunnel device of the kernel's, perhaps), or without
    /// `CAP_NET_RAW` for GRE.
    pub fn open(config: &TunnelSocketConfig) -> Result<TunnelSocketPort, PortConfigError> {
        let carrier = if config.protocol.is_udp() { Carrier::Udp } else { Carrier::Gre };
        let mut receivers = Vec::new();
        for family in [IpFamily::V4, IpFamily::V6] {
            match TunnelSocket::receiver(carrier, family, config.port) {
                Ok(socket) => receivers.push((Arc::new(socket), Arc::default())),
                Err(error) if error.kind() == io::ErrorKind::Unsupported || is_missing(&error) => {}
                Err(source) => return Err(PortConfigError::Refused { operation: "tunnel socket", source }),
            }
        }
        if receivers.is_empty() {
            let source = io::ErrorKind::Unsupported.into();
            return Err(PortConfigError::Refused { operation: "tunnel socket", source });
        }
        Ok(TunnelSocketPort {
            config: config.clone(),
            carrier,
            receivers,
            reports: Vec::new(),
            rx_taken: false,
        })
    }

    /// Errors that routers and peers have told by ICMP: unreachable hosts and ports.
    pub fn icmp_errors(&self) -> u64 {
        self.reports.iter().map(|r| r.icmp_errors.get()).sum()
    }
}

/// The kernel has no such family, or none of its addresses may be used (`disable_ipv6`).
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(sys::errno::EAFNOSUPPORT | sys::errno::EADDRNOTAVAIL))
}

impl Port for TunnelSocketPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return Vec::new();
        }
        let (protocol, port) = (self.config.protocol, self.config.port);
        let side = |(socket, loss): &(Arc<TunnelSocket>, Arc<RxLoss>)| -> Box<dyn Rx> {
            Box::new(rx::TunnelRx::new(Arc::clone(socket), Arc::clone(loss), protocol, port))
        };
        self.receivers.iter().map(side).collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        let reports: Arc<Reports> = Arc::default();
        let has = |family| self.receivers.iter().any(|(socket, _)| socket.family() == family);
        let families = [has(IpFamily::V4), has(IpFamily::V6)];
        let tx = tx::TunnelTx::open(self.carrier, families, Arc::clone(&reports))?;
        self.reports.push(reports);
        Ok(Box::new(tx))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        Ok(LinkReport {
            name: self.config.name.clone(),
            mtu: Some(sys::tunnel_socket::PAYLOAD_MAX as u32),
            admin_up: true,
            carrier: true,
            driver: "tunnel socket".to_owned(),
            kernel: Some(KernelCounters { tx_errors: self.icmp_errors(), ..KernelCounters::default() }),
            ..LinkReport::default()
        })
    }

    fn change(&mut self, _: DeviceChange) -> Result<(), PortConfigError> {
        Err(PortConfigError::Unsupported("device"))
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        self.receivers.iter().map(|(_, loss)| Arc::clone(loss)).collect()
    }

    fn take_path_mtus(&mut self) -> Vec<(IpAddr, u32)> {
        let mut all = BTreeMap::new();
        for reports in &self.reports {
            all.append(&mut reports.mtus.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all.into_iter().collect()
    }

    fn discard(&mut self) -> Result<(), PortError> {
        // There is no device.
        Ok(())
    }
}
