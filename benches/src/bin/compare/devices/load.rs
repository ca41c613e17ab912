//! The loads: sockets in two pods, threads that drive them, and what the receiving side counted in a window.

use super::attack::{Attack, SINK, SINK_ADDRESS};
use super::cases::{Case, Load, Sample, cost, for_time, percentile};
use super::spaces::Pod;
use anyhow::{Context as _, Result, ensure};
use benches::compare::clock::{now, pause};
use packet::FrameBuilder;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout, set_tcp_congestion};
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg, socket_with,
};
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use sys::netns::run_in;
use sys::packet_socket::{PacketOffload, PacketOptions, PacketSocket, Promiscuity};
use sys::vnet::VnetHeader;

/// Port of everything that is received.
const PORT: u16 = 5201;
/// Before a window begins.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a socket may wait for the other pod.
const PATIENCE: Duration = Duration::from_secs(3);
/// How soon a thread that waits for a peer looks whether all is over.
const GLANCE: Duration = Duration::from_millis(100);
/// What a stream writes and reads at a time.
const CHUNK: usize = 128 << 10;
/// Frames or datagrams in a system call.
const BURST: usize = 64;
/// Length of the frames, without their check sequence.
const FRAME_LEN: usize = 60;
/// Their destination: behind the receiving pod's device, which therefore counts and drops them, and its stack does no work that
/// would be the same with every switch.
const NEIGHBOUR: u64 = 0x0200_0000_0064;
const NEIGHBOUR_ADDRESS: u32 = 0x0a00_0064;
const BROADCAST: u64 = 0xffff_ffff_ffff;
const ARP_REQUEST: u8 = 1;
/// Payload of the datagrams.
const DATAGRAM_LEN: usize = 64;
/// Threads that take connections.
const SERVERS: usize = 4;
/// Longest datagram that is waited for.
const DATAGRAM_MAX: usize = 2_048;

/// What is measured: two pods, and the processor time that the switch between them has used.
pub struct Between<'a> {
    /// Who sends, or asks.
    pub client: &'a Pod,
    /// Who receives, or answers.
    pub server: &'a Pod,
    /// Who may attack, and to whom it sends.
    pub others: Option<(&'a Pod, &'a Pod)>,
    /// Processor time of the switch so far; `None` for one in the kernel.
    pub cpu: &'a (dyn Fn() -> Result<Option<Duration>> + Sync),
    /// What TCP uses, as tcp(7) names it: a machine's own choice is no matter of the switch's.
    pub congestion_control: &'a str,
}

/// What happened in a window.
struct Window {
    count: u64,
    time: Duration,
    cpu: Option<Duration>,
}

impl Window {
    fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    fn sample(&self, case: &Case, values: Vec<f64>) -> Sample {
        Sample { values, cost: self.cpu.and_then(|cpu| cost(case.load, self.count, cpu)) }
    }
}

impl Between<'_> {
    /// Measures for as long as `time`.
    ///
    /// # Errors
    /// If the pods do not reach each other, or stop doing so.
    pub fn measure(&self, case: &Case, time: Duration) -> Result<Sample> {
        // Addresses are resolved and learned anew, as the switch may have been stopped for long.
        self.connection(&self.listener()?).context("the pods do not reach each other")?;
        match case.load {
            Load::Streams(streams) => {
                let window = self.streams(streams, time)?;
                Ok(window.sample(case, vec![window.rate() * 8e-9]))
            }
            Load::Frames => {
                let window = self.frames(time)?;
                Ok(window.sample(case, vec![window.rate() / 1e3]))
            }
            Load::Datagrams => {
                let window = self.datagrams(time)?;
                Ok(window.sample(case, vec![window.rate() / 1e3]))
            }
            Load::Requests => {
                let (window, mut times) = self.requests(time)?;
                let [p50, p99] = [50, 99].map(|p| f64::from(percentile(&mut times, p)) / 1e3);
                Ok(window.sample(case, vec![p50, p99]))
            }
            Load::Connections(at_once) => {
                let window = self.connections(at_once, time)?;
                Ok(window.sample(case, vec![window.rate() / 1e3]))
            }
            Load::Beside(attack) => {
                let (window, mut times) = self.beside(attack, time)?;
                let [p50, p99] = [50, 99].map(|p| f64::from(percentile(&mut times, p)) / 1e3);
                Ok(window.sample(case, vec![window.rate() * 8e-9, p50, p99]))
            }
            Load::Idle => {
                pause(WARM_UP);
                let window = self.window(time, || Ok(0))?;
                let cpu = window.cpu.unwrap_or_default();
                Ok(Sample { values: vec![100.0 * cpu.as_secs_f64() / window.time.as_secs_f64()], cost: None })
            }
        }
    }

    fn address(&self) -> SocketAddr {
        (self.server.address, PORT).into()
    }

    fn window(&self, time: Duration, count: impl Fn() -> Result<u64>) -> Result<Window> {
        let (before, start, cpu) = (count()?, now(), (self.cpu)()?);
        pause(time);
        let (after, end, cpu_after) = (count()?, now(), (self.cpu)()?);
        let cpu = cpu_after.zip(cpu).map(|(after, before)| after.saturating_sub(before));
        Ok(Window { count: after - before, time: end - start, cpu })
    }

    fn listener(&self) -> Result<TcpListener> {
        let address = self.address();
        let listener = run_in(self.server.space.netns(), || TcpListener::bind(address))?;
        let listener = listener.with_context(|| format!("listen on {address}"))?;
        self.control_congestion(&listener)?;
        // accept() heeds it too.
        set_socket_timeout(&listener, Timeout::Recv, Some(GLANCE))?;
        Ok(listener)
    }

    /// A new connection: the client's side and the server's.
    fn connection(&self, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
        let address = self.address();
        let client = run_in(self.client.space.netns(), || self.connect(address))??;
        let (server, _) = listener.accept().with_context(|| format!("accept on {address}"))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
        }
        Ok((client, server))
    }

    /// A connection of the pod that the calling thread is in.
    fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before it connects: what had begun with another one would keep its pacing. Who accepts has the listener's.
        self.control_congestion(&socket)?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        let connected = rustix::net::connect(&socket, &address).map_err(|error| match error {
            Errno::INPROGRESS => Errno::TIMEDOUT,
            other => other,
        });
        connected.with_context(|| format!("connect to {address}"))?;
        Ok(socket.into())
    }

    fn control_congestion(&self, socket: &impl AsFd) -> Result<()> {
        let set = set_tcp_congestion(socket, self.congestion_control);
        set.with_context(|| format!("congestion control {}", self.congestion_control))
    }

    fn streams(&self, streams: usize, time: Duration) -> Result<Window> {
        let listener = self.listener()?;
        let connections: Vec<_> = (0..streams).map(|_| self.connection(&listener)).collect::<Result<_>>()?;
        for (client, server) in &connections {
            client.set_write_timeout(Some(GLANCE))?;
            server.set_read_timeout(Some(GLANCE))?;
        }
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (client, server) in &connections {
                threads.push(scope.spawn(|| send(client, &stop)));
                threads.push(scope.spawn(|| receive(server, &received, &stop)));
            }
            pause(WARM_UP);
            let window = self.window(time, || Ok(received.load(Relaxed)));
            stop.store(true, Relaxed);
            for thread in threads {
                thread.join().map_err(|_| anyhow::anyhow!("a thread of a stream panicked"))??;
            }
            window
        })
    }

    /// A stream's window, and how long each of the requests after it took, in nanoseconds, while another pod attacks.
    fn beside(&self, attack: Attack, time: Duration) -> Result<(Window, Vec<u32>)> {
        let (attacker, partner) = self.others.context("no pods to attack from and to")?;
        announce_neighbour(partner, (SINK, SINK_ADDRESS))?;
        let frames = attack.frames(mac(attacker)?);
        let sender = packet_socket(attacker)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| match frames.is_empty() {
                true => Ok(()),
                false => flood(&sender, &frames, &stop),
            });
            pause(WARM_UP);
            let before = partner.link()?.stats.rx_packets;
            let measured = self.streams(1, time).and_then(|stream| Ok((stream, self.requests(time)?.1)));
            let after = partner.link()?.stats.rx_packets;
            stop.store(true, Relaxed);
            thread.join().map_err(|_| anyhow::anyhow!("the attacking thread panicked"))??;
            if attack == Attack::Plain {
                ensure!(after > before, "nothing of what the attacker sent arrived");
            }
            measured
        })
    }

    fn frames(&self, time: Duration) -> Result<Window> {
        let source = mac(self.client)?;
        let ip = |pod: &Pod| (pod.address.to_bits(), PORT);
        let frame = FrameBuilder::udp4(ip(self.client), ip(self.server))
            .macs(source, NEIGHBOUR)
            .payload(&[0x5a; FRAME_LEN - 14 - 20 - 8])
            .build();
        announce_neighbour(self.server, (NEIGHBOUR, NEIGHBOUR_ADDRESS))?;
        let sender = packet_socket(self.client)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| flood(&sender, &[frame], &stop));
            pause(WARM_UP);
            let window = self.window(time, || Ok(self.server.link()?.stats.rx_packets));
            stop.store(true, Relaxed);
            thread.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
            window
        })
    }

    fn datagram_receiver(&self) -> Result<UdpSocket> {
        let address = self.address();
        let socket = run_in(self.server.space.netns(), || UdpSocket::bind(address))?;
        socket.with_context(|| format!("bind to {address}"))
    }

    fn datagrams(&self, time: Duration) -> Result<Window> {
        let receiver = self.datagram_receiver()?;
        receiver.set_read_timeout(Some(GLANCE))?;
        let own = SocketAddr::from((self.client.address, 0));
        let sender =
            run_in(self.client.space.netns(), || UdpSocket::bind(own))?.context("the sender's socket")?;
        sender.connect(self.address())?;
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| flood(&sender, &[vec![0x5a; DATAGRAM_LEN]], &stop));
            let receiving = scope.spawn(|| count(&receiver, &received, &stop));
            pause(WARM_UP);
            let window = self.window(time, || Ok(received.load(Relaxed)));
            stop.store(true, Relaxed);
            for thread in [sending, receiving] {
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the datagrams panicked"))??;
            }
            window
        })
    }

    /// Also returns how long each request took, in nanoseconds.
    fn requests(&self, time: Duration) -> Result<(Window, Vec<u32>)> {
        let (mut client, server) = self.connection(&self.listener()?)?;
        let mut times = Vec::with_capacity(1 << 18);
        std::thread::scope(|scope| {
            let answering = scope.spawn(move || answer(server));
            let mut ask = || -> std::io::Result<u32> {
                let start = now();
                client.write_all(&[1])?;
                client.read_exact(&mut [0])?;
                Ok(u32::try_from((now() - start).as_nanos()).unwrap_or(u32::MAX))
            };
            for_time(WARM_UP, || ask().map(drop)).context("a request")?;
            let before = (self.cpu)()?;
            let (count, took) =
                for_time(time, || ask().map(|nanos| times.push(nanos))).context("a request")?;
            let cpu = (self.cpu)()?.zip(before).map(|(after, before)| after.saturating_sub(before));
            client.shutdown(Shutdown::Both)?;
            answering.join().map_err(|_| anyhow::anyhow!("the answering thread panicked"))??;
            Ok((Window { count, time: took, cpu }, times))
        })
    }

    /// Opens connections one after the other, until it is to stop.
    fn ask_anew(&self, address: SocketAddr, done: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Relaxed) {
            let exchange = || -> Result<()> {
                let mut stream = self.connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(&[1])?;
                stream.read_exact(&mut [0])?;
                // Ends with a reset: ports would run out in TIME-WAIT.
                Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
            };
            match exchange() {
                Ok(()) => done.fetch_add(1, Relaxed),
                Err(_) if stop.load(Relaxed) => break,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    fn connections(&self, at_once: usize, time: Duration) -> Result<Window> {
        let listener = self.listener()?;
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let address = self.address();
        std::thread::scope(|scope| {
            let servers: Vec<_> = (0..SERVERS).map(|_| scope.spawn(|| serve(&listener, &stop))).collect();
            // What a thread of a pod starts is in the pod too.
            let clients = scope.spawn(|| {
                run_in(self.client.space.netns(), || {
                    std::thread::scope(|scope| {
                        let one = || scope.spawn(|| self.ask_anew(address, &done, &stop));
                        let threads: Vec<_> = (0..at_once).map(|_| one()).collect();
                        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
                    })
                })
            });
            pause(WARM_UP);
            let window = self.window(time, || Ok(done.load(Relaxed)));
            stop.store(true, Relaxed);
            let panicked = || anyhow::anyhow!("a thread of the connections panicked");
            for outcome in clients.join().map_err(|_| panicked())?? {
                outcome.map_err(|_| panicked())?.context("a client")?;
            }
            for server in servers {
                server.join().map_err(|_| panicked())?.context("a server")?;
            }
            window
        })
    }
}

/// Lets the switch learn what is behind a pod: an address that no pod has or asks for.
fn announce_neighbour(pod: &Pod, own: (u64, u32)) -> Result<()> {
    // A gratuitous request.
    let frame = FrameBuilder::arp(ARP_REQUEST, own, (0, own.1)).macs(own.0, BROADCAST);
    // Not kept open: it would be given every frame that arrives.
    let socket = packet_socket(pod)?;
    let sent = socket.send(&VnetHeader::default(), &[IoSlice::new(&frame.build())]);
    sent.context("a pod could not announce a neighbour").map(drop)
}

fn mac(pod: &Pod) -> Result<u64> {
    let address = pod.link()?.mac.context("a pod's device has no MAC address")?;
    Ok(address.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn packet_socket(pod: &Pod) -> Result<PacketSocket> {
    let index = pod.link()?.index;
    let options = PacketOptions { promiscuity: Promiscuity::Own, offload: PacketOffload::Never };
    let socket = run_in(pod.space.netns(), || PacketSocket::open(index, options))?;
    socket.with_context(|| format!("packet socket in the pod of {}", pod.address))
}

/// Streams that starve beside others are part of the figure, no error.
fn is_starved(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> Result<()> {
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Relaxed) {
        match stream.write(&chunk) {
            Err(error) if !is_starved(&error) => return Err(error).context("a stream was not taken"),
            _ => {}
        }
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

fn receive(mut stream: &TcpStream, received: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => received.fetch_add(length as u64, Relaxed),
            Err(error) if is_starved(&error) && stop.load(Relaxed) => return Ok(()),
            Err(error) if is_starved(&error) => continue,
            Err(error) => return Err(error).context("a stream did not arrive"),
        };
    }
}

/// Sends the same frames or datagrams again and again, in turn, many in a system call.
fn flood(socket: impl AsFd, all: &[Vec<u8>], stop: &AtomicBool) -> Result<()> {
    let mut turn = 0;
    let pieces: Vec<[IoSlice<'_>; 1]> = all.iter().map(|bytes| [IoSlice::new(bytes)]).collect();
    let mut control: Vec<_> = (0..BURST).map(|_| SendAncillaryBuffer::default()).collect();
    while !stop.load(Relaxed) {
        let next = pieces.iter().cycle().skip(turn);
        let mut messages: Vec<_> = control.iter_mut().zip(next).map(|(c, p)| MMsgHdr::new(p, c)).collect();
        turn = (turn + BURST) % pieces.len();
        match sendmmsg(&socket, &mut messages, SendFlags::NOSIGNAL) {
            // The device's queue is full: the switch is the slower side, as it should be.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
            Err(error) => return Err(error).context("frames could not be sent"),
        }
    }
    Ok(())
}

fn count(socket: &UdpSocket, received: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; DATAGRAM_MAX];
    while !stop.load(Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(_) => received.fetch_add(1, Relaxed),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("datagrams could not be received"),
        };
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte).context("no request came")? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Relaxed) {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                continue;
            }
            Err(error) => return Err(error).context("no connection could be accepted"),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut byte = [0];
        // A client that gave up is the client's to count.
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
    }
    Ok(())
}

/// Checks that a sample is one of the case: a value for each metric, and something received.
///
/// # Errors
/// If not.
pub fn check(case: &Case, sample: &Sample) -> Result<()> {
    ensure!(sample.values.len() == case.metrics.len(), "{} values for {}", sample.values.len(), case.name);
    let nothing = sample.values.iter().any(|v| *v <= 0.0) && case.load != Load::Idle;
    ensure!(!nothing, "nothing arrived");
    Ok(())
}
