//! Hosts with a TCP/IP stack of their own (smoltcp), polled in virtual time: what traffic through the switch looks like to
//! real endpoints. Content is checked byte by byte as it arrives.

use crate::dice::Dice;
use base::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{icmp, tcp, udp};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr, IpEndpoint, Ipv4Address,
};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Buffer of each TCP socket in each direction, in bytes.
const TCP_BUFFER: usize = 65_535;
/// Datagrams that a UDP or ICMP socket holds in each direction.
const DATAGRAMS_MAX: usize = 64;
/// Payload of an echo request, over UDP or ICMP, in bytes.
const ECHO_LEN: usize = 64;
/// Pause after which an echo request without an answer is sent again.
const ECHO_RETRY: Duration = Duration::from_millis(50);

/// What a host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSpec {
    /// MAC address.
    pub mac: [u8; 6],
    /// IPv4 address, in a /24.
    pub ip: [u8; 4],
    /// The VLAN whose tag its frames wear on the wire; `None` for untagged frames. Other frames it does not see.
    pub vlan: Option<u16>,
    /// Largest packet, in bytes without the Ethernet header.
    pub mtu: usize,
}

impl HostSpec {
    /// Host number `n` (1 to 254) of 10.0.0.0/24, untagged, with an MTU of 1500.
    pub const fn number(n: u8) -> HostSpec {
        HostSpec { mac: [2, 0, 0, 0, 1, n], ip: [10, 0, 0, n], vlan: None, mtu: 1_500 }
    }
}

/// Bytes to be transferred: a number makes the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// Which content.
    pub seed: u64,
    /// How many bytes.
    pub len: u64,
}

impl Content {
    /// The bytes from an offset on.
    fn bytes(&self, from: u64) -> impl Iterator<Item = u8> + use<> {
        let seed = self.seed;
        let words = (from / 8..).flat_map(move |n| Dice::new(seed ^ n).roll().to_le_bytes());
        words.skip((from % 8) as usize)
    }
}

enum Job {
    /// Takes a connection and checks what comes.
    Receive { socket: SocketHandle, content: Content, got: u64 },
    /// Opens a connection and sends.
    Send { socket: SocketHandle, content: Content, put: u64 },
    /// Sends every datagram back.
    Echo { socket: SocketHandle },
    /// Sends numbered datagrams until each has come back.
    Ask { socket: SocketHandle, to: IpEndpoint, count: u32, answered: BTreeSet<u32>, next_at: Instant },
    /// The same with ICMP echo requests.
    Ping {
        socket: SocketHandle,
        to: IpAddress,
        ident: u16,
        count: u32,
        answered: BTreeSet<u32>,
        next_at: Instant,
    },
}

/// A host. Its jobs are begun by name and carried on as the world polls it.
pub struct Host {
    spec: HostSpec,
    interface: Interface,
    card: Card,
    sockets: SocketSet<'static>,
    jobs: Vec<Job>,
    port_next: u16,
    foreign: u64,
}

fn stack_time(now: Instant) -> StackTime {
    StackTime::from_micros((now.as_nanos() / 1_000) as i64)
}

impl Host {
    /// A host at rest.
    pub fn new(spec: HostSpec, seed: u64, now: Instant) -> Host {
        let mut card = Card { mtu: spec.mtu, ..Card::default() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(spec.mac)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, stack_time(now));
        let address = IpCidr::new(IpAddress::Ipv4(Ipv4Address::from(spec.ip)), 24);
        interface.update_ip_addrs(|all| all.push(address).expect("room for one address"));
        Host {
            spec,
            interface,
            card,
            sockets: SocketSet::new(Vec::new()),
            jobs: Vec::new(),
            port_next: 49_152,
            foreign: 0,
        }
    }

    /// What it is.
    pub fn spec(&self) -> &HostSpec {
        &self.spec
    }

    fn tcp_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn next_port(&mut self) -> u16 {
        self.port_next += 1;
        self.port_next
    }

    /// Waits for a connection on a TCP port, over which this content has to come.
    pub fn receive(&mut self, port: u16, content: Content) {
        let socket = self.tcp_socket();
        self.sockets.get_mut::<tcp::Socket>(socket).listen(port).expect("a port other than 0");
        self.jobs.push(Job::Receive { socket, content, got: 0 });
    }

    /// Connects to a TCP port and sends this content.
    pub fn send(&mut self, to: [u8; 4], port: u16, content: Content) {
        let (socket, local) = (self.tcp_socket(), self.next_port());
        let remote = (Ipv4Address::from(to), port);
        let tcp = self.sockets.get_mut::<tcp::Socket>(socket);
        tcp.connect(self.interface.context(), remote, local).expect("an address to come from");
        self.jobs.push(Job::Send { socket, content, put: 0 });
    }

    fn udp_socket(&mut self, port: u16) -> SocketHandle {
        let buffer = || {
            udp::PacketBuffer::new(
                vec![udp::PacketMetadata::EMPTY; DATAGRAMS_MAX],
                vec![0; DATAGRAMS_MAX * ECHO_LEN],
            )
        };
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).expect("a port other than 0");
        self.sockets.add(socket)
    }

    /// Sends every datagram to a UDP port back to where it came from.
    pub fn echo(&mut self, port: u16) {
        let socket = self.udp_socket(port);
        self.jobs.push(Job::Echo { socket });
    }

    /// Sends `count` datagrams, one after the other, each until it has come back.
    pub fn ask(&mut self, to: [u8; 4], port: u16, count: u32) {
        let local = self.next_port();
        let socket = self.udp_socket(local);
        let to = IpEndpoint::new(IpAddress::Ipv4(Ipv4Address::from(to)), port);
        self.jobs.push(Job::Ask { socket, to, count, answered: BTreeSet::new(), next_at: Instant::ZERO });
    }

    /// Sends `count` ICMP echo requests, one after the other, each until it is answered.
    pub fn ping(&mut self, to: [u8; 4], count: u32) {
        let buffer = || {
            icmp::PacketBuffer::new(
                vec![icmp::PacketMetadata::EMPTY; DATAGRAMS_MAX],
                vec![0; DATAGRAMS_MAX * ECHO_LEN],
            )
        };
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let ident = self.next_port();
        socket.bind(icmp::Endpoint::Ident(ident)).expect("an identifier");
        let socket = self.sockets.add(socket);
        let to = IpAddress::Ipv4(Ipv4Address::from(to));
        self.jobs.push(Job::Ping {
            socket,
            to,
            ident,
            count,
            answered: BTreeSet::new(),
            next_at: Instant::ZERO,
        });
    }

    /// Whether every job that has an end has come to it. A sender's is that all bytes were acknowledged.
    pub fn is_done(&self) -> bool {
        self.jobs.iter().all(|job| match job {
            Job::Receive { content, got, .. } => got == &content.len,
            Job::Send { socket, content, put } => {
                put == &content.len && self.sockets.get::<tcp::Socket>(*socket).send_queue() == 0
            }
            Job::Echo { .. } => true,
            Job::Ask { count, answered, .. } | Job::Ping { count, answered, .. } => {
                answered.len() == *count as usize
            }
        })
    }

    /// Bytes that its TCP connections have received, answers that it got to what it asked.
    pub fn progress(&self) -> u64 {
        let of = |job: &Job| match job {
            Job::Receive { got, .. } => *got,
            Job::Ask { answered, .. } | Job::Ping { answered, .. } => answered.len() as u64,
            Job::Send { .. } | Job::Echo { .. } => 0,
        };
        self.jobs.iter().map(of).sum()
    }

    /// Frames that it got although they wore a tag, or another tag, than those it sees.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// A frame arrives from the wire.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) {
        let tag = match bytes.get(12..16) {
            Some([0x81, 0, a, b]) => Some(u16::from_be_bytes([a & 0x0f, *b])),
            _ => None,
        };
        if tag != self.spec.vlan {
            self.foreign += 1;
            return;
        }
        let mut bytes = bytes.to_vec();
        if tag.is_some() {
            bytes.drain(12..16);
        }
        self.card.arrived.push_back(bytes);
    }

    /// Lets the stack and the jobs work; returns the frames that the host sends and when it wants to be polled again.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<Vec<u8>>, Option<Instant>) {
        let mut jobs = std::mem::take(&mut self.jobs);
        let mut wake = None;
        // Once more after the jobs have had their turn, so that what they wrote leaves now.
        for _ in 0..2 {
            self.interface.poll(stack_time(now), &mut self.card, &mut self.sockets);
            wake = jobs.iter_mut().filter_map(|job| self.carry_on(job, now)).min();
        }
        self.interface.poll(stack_time(now), &mut self.card, &mut self.sockets);
        self.jobs = jobs;
        let stack = self.interface.poll_at(stack_time(now), &self.sockets);
        // The stack counts microseconds: a deadline must not round to the present.
        let soonest = now + Duration::from_micros(1);
        let stack = stack.map(|t| Instant::from_nanos(t.total_micros().max(0) as u64 * 1_000).max(soonest));
        let frames = self.card.leaving.drain(..).map(|f| dress(f, self.spec.vlan)).collect();
        (frames, stack.into_iter().chain(wake).min())
    }

    fn carry_on(&mut self, job: &mut Job, now: Instant) -> Option<Instant> {
        match job {
            Job::Receive { socket, content, got } => {
                receive(self.sockets.get_mut(*socket), content, got);
                None
            }
            Job::Send { socket, content, put } => {
                send(self.sockets.get_mut(*socket), content, put);
                None
            }
            Job::Echo { socket } => {
                echo(self.sockets.get_mut(*socket));
                None
            }
            Job::Ask { socket, to, count, answered, next_at } => {
                let udp = self.sockets.get_mut::<udp::Socket>(*socket);
                while let Ok((payload, _)) = udp.recv() {
                    answered.extend(number_of(payload).filter(|n| n < count));
                    *next_at = now;
                }
                let next = next_due(*count, answered, next_at, now)?;
                if let Some(n) = next {
                    // A full buffer is like a lost datagram.
                    let _ = udp.send_slice(&numbered(n), *to);
                }
                Some(*next_at)
            }
            Job::Ping { socket, to, ident, count, answered, next_at } => {
                let icmp = self.sockets.get_mut::<icmp::Socket>(*socket);
                while let Ok((message, _)) = icmp.recv() {
                    let reply = Icmpv4Packet::new_checked(message);
                    let payload = reply.as_ref().ok().map(|p| p.data());
                    answered.extend(payload.and_then(number_of).filter(|n| n < count));
                    *next_at = now;
                }
                let next = next_due(*count, answered, next_at, now)?;
                if let Some(n) = next {
                    send_ping(icmp, *to, *ident, n);
                }
                Some(*next_at)
            }
        }
    }
}

/// The number to send now, if it is time for one; `None` when all are answered.
fn next_due(
    count: u32,
    answered: &BTreeSet<u32>,
    next_at: &mut Instant,
    now: Instant,
) -> Option<Option<u32>> {
    let next = (0..count).find(|n| !answered.contains(n))?;
    if now < *next_at {
        return Some(None);
    }
    *next_at = now + ECHO_RETRY;
    Some(Some(next))
}

fn numbered(n: u32) -> Vec<u8> {
    let content = Content { seed: n.into(), len: ECHO_LEN as u64 };
    n.to_be_bytes().into_iter().chain(content.bytes(4)).take(ECHO_LEN).collect()
}

/// The number of a datagram whose content is right.
fn number_of(payload: &[u8]) -> Option<u32> {
    let n = u32::from_be_bytes(payload.get(..4)?.try_into().ok()?);
    assert_eq!(payload, numbered(n), "a datagram came with other content than it was sent with");
    Some(n)
}

fn send_ping(socket: &mut icmp::Socket, to: IpAddress, ident: u16, n: u32) {
    let data = numbered(n);
    let request = Icmpv4Repr::EchoRequest { ident, seq_no: n as u16, data: &data };
    // A full buffer is like a lost request.
    if let Ok(room) = socket.send(request.buffer_len(), to) {
        request.emit(&mut Icmpv4Packet::new_unchecked(room), &smoltcp::phy::ChecksumCapabilities::default());
    }
}

fn receive(tcp: &mut tcp::Socket, content: &Content, got: &mut u64) {
    while tcp.can_recv() {
        let taken = tcp.recv(|bytes| {
            assert!(*got + bytes.len() as u64 <= content.len, "more came than was sent");
            let wrong = bytes.iter().zip(content.bytes(*got)).position(|(is, should)| *is != should);
            assert_eq!(wrong, None, "{content:?} is wrong at so many bytes from {got} on");
            (bytes.len(), bytes.len())
        });
        *got += taken.map_or(0, |n| n as u64);
    }
    if *got == content.len && tcp.is_open() && !tcp.may_recv() {
        tcp.close();
    }
}

fn send(tcp: &mut tcp::Socket, content: &Content, put: &mut u64) {
    while tcp.can_send() && *put < content.len {
        let written = tcp.send(|room| {
            let n = (content.len - *put).min(room.len() as u64) as usize;
            room.iter_mut().take(n).zip(content.bytes(*put)).for_each(|(place, byte)| *place = byte);
            (n, n)
        });
        *put += written.map_or(0, |n| n as u64);
    }
    if *put == content.len && tcp.may_send() {
        tcp.close();
    }
}

fn echo(udp: &mut udp::Socket) {
    while udp.can_recv() && udp.can_send() {
        let Ok((payload, from)) = udp.recv().map(|(p, m)| (p.to_vec(), m)) else { return };
        let _ = udp.send_slice(&payload, from.endpoint);
    }
}

fn dress(mut frame: Vec<u8>, vlan: Option<u16>) -> Vec<u8> {
    if let Some(vid) = vlan {
        let [a, b] = vid.to_be_bytes();
        frame.splice(12..12, [0x81, 0, a, b]);
    }
    frame
}

/// A host's network card: two queues.
#[derive(Default)]
struct Card {
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
    mtu: usize,
}

struct Arrival(Vec<u8>);
struct Departure<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Arrival {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Arrival;
    type TxToken<'a> = Departure<'a>;

    fn receive(&mut self, _: StackTime) -> Option<(Arrival, Departure<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Arrival(frame), Departure(&mut self.leaving)))
    }

    fn transmit(&mut self, _: StackTime) -> Option<Departure<'_>> {
        Some(Departure(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}
