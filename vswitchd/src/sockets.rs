//! Every socket of the daemon: who listens where, which connection speaks what, and the bytes in between.
//!
//! What is said is for others: OVSDB for `ovsdb`'s server or client, ovs-appctl for [`appctl`](crate::appctl), OpenFlow
//! for the brain. Snoop sockets get a copy of what controllers and the switch say to each other.

mod controller;
mod openflow_port;

use crate::args::{Args, Places};
use crate::database::link::Link;
use crate::streams::{CONNECTIONS_MAX, Connection, Listener, ReadResult, Stream, Target};
use crate::unixctl;
use base::{Instant, RateLimit};
use controller::Controllers;
use mio::{Events, Interest, Poll, Token, Waker};
use openflow::message::{Hello, Message, Xid};
use openflow::session::{CloseReason, OUTPUT_PAUSE};
use openflow::{Dialect, OfVersion, OfVersions, Session, encode_to_vec};
use ovsdb::session::SessionId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;
use switch::brain::Brain;
use switch::ofproto::{ConnId, ConnKind, Outgoing};
use sys::netlink::{LinkWatch, NetnsWatch, RouteWatch};
use sys::signal::Signals;

/// Wakes the loop from workers.
pub const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LINKS: Token = Token(2);
const ROUTES: Token = Token(3);
const ELSEWHERE: Token = Token(4);
const FIRST_FREE: usize = 16;

/// What to wait for beside the sockets; the same in each turn.
pub struct Sources<'a> {
    pub signals: &'a Signals,
    /// Links in this namespace, and in others.
    pub links: Option<&'a LinkWatch>,
    pub elsewhere: Option<&'a NetnsWatch>,
    pub routes: Option<&'a RouteWatch>,
}

/// Port of OVSDB over TCP (RFC 7047 §7).
const OVSDB_PORT: u16 = 6640;
/// Longest pause between attempts to reach an outside database.
const DATABASE_BACKOFF_MAX: Duration = Duration::from_secs(8);

/// OpenFlow messages handled in one turn of the loop, over all connections.
const OPENFLOW_PER_TURN_MAX: usize = 1_024;

/// OpenFlow messages of one connection before it is another's turn.
const OPENFLOW_PER_CONNECTION_MAX: usize = 64;

/// Bytes waiting to be written from which on flow monitors are told nothing more until all of them are.
const MONITOR_OUTPUT_MAX: usize = 256 * 1_024;

/// Pause before a listener is tried again that could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Permissions of control sockets: the daemon's user and group, nobody else.
const SOCKET_MODE: u32 = 0o770;

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Door {
    Database,
    Appctl,
    /// A row of the Controller table has it (`ptcp:`, `punix:`), or it is for who wants to manage the bridge.
    OpenFlow {
        bridge: String,
        target: Option<String>,
    },
    Snoop {
        bridge: String,
    },
}

/// What a connection speaks.
enum Talk {
    Database(SessionId),
    /// The client end of an outside database.
    OutsideDatabase,
    Appctl(unixctl::Session),
    OpenFlow(Box<OpenFlowTalk>),
    Snoop {
        bridge: String,
        output: Vec<u8>,
    },
}

/// An OpenFlow connection.
struct OpenFlowTalk {
    conn: ConnId,
    bridge: String,
    kind: ConnKind,
    session: Session,
    /// Whether the brain knows of it: from the moment its version is negotiated.
    announced: bool,
    /// The row of the Controller table that it belongs to, if to any: the target to which the daemon connected, or at which
    /// it listens.
    target: Option<String>,
    /// Whether messages may be waiting in the session.
    pending: bool,
    /// Whether it stands in the queue of those whose messages are to be taken.
    queued: bool,
    /// Whether more than [`MONITOR_OUTPUT_MAX`] waited to be written and has not all been yet.
    is_behind: bool,
}

impl OpenFlowTalk {
    /// Whether a message could be taken now: one may be there, and the peer takes its replies.
    fn is_due(&self) -> bool {
        self.pending && self.session.output().len() < OUTPUT_PAUSE
    }
}

struct Peer {
    connection: Connection,
    talk: Talk,
    /// To be closed once its output is written.
    closing: bool,
}

impl Peer {
    /// Whether there is something to read that is wanted now.
    fn is_readable(&self) -> bool {
        // What was read is carried out before more is read, be it only the end: who does not take answers, or asks more
        // than its share of a turn, waits.
        let wanted = match &self.talk {
            Talk::OpenFlow(talk) => !talk.pending && talk.session.wants_input(),
            Talk::Appctl(session) => session.wants_input(),
            _ => true,
        };
        self.connection.readable && !self.closing && wanted
    }

    fn is_unfinished(&self) -> bool {
        let due = match &self.talk {
            Talk::OpenFlow(talk) => talk.is_due() && !self.closing,
            Talk::Appctl(session) => session.is_due() && !self.closing,
            _ => false,
        };
        due || self.is_readable() || self.closing
    }
}

/// Where the answer to a command goes.
#[derive(Clone, Debug)]
pub struct AppctlReply {
    token: Token,
    /// The request's id, which the answer repeats.
    pub id: Value,
}

/// A command from ovs-appctl.
#[derive(Clone, Debug)]
pub struct AppctlRequest {
    /// The command.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where the answer goes.
    pub reply: AppctlReply,
}

/// An OpenFlow message that came in.
#[derive(Debug)]
pub struct OpenFlowRequest {
    /// From whom.
    pub conn: ConnId,
    /// Its transaction id.
    pub xid: Xid,
    /// It.
    pub message: Message,
    /// Its first bytes, to be quoted by an error.
    pub quote: Vec<u8>,
}

/// All sockets. See the module's text.
pub struct Sockets {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    listeners: BTreeMap<Token, (Door, Listener)>,
    ready_doors: BTreeSet<Token>,
    peers: BTreeMap<Token, Peer>,
    conns: BTreeMap<ConnId, Token>,
    /// OpenFlow connections whose messages are to be taken, longest waiting first.
    queue: VecDeque<Token>,
    /// When listeners that could not accept are tried again: without descriptors trying at once is of no use.
    accept_again: Option<Instant>,
    next_token: usize,
    next_conn: u64,
    controllers: Controllers,
    outside: Option<OutsideTarget>,
    registered: bool,
    paths: Vec<std::path::PathBuf>,
    buffer: Vec<u8>,
    /// OpenFlow messages that may still be taken in this turn, and of the first in the queue.
    budget_left: usize,
    share_left: usize,
    changed: bool,
    /// How often clients can make the log complain of them.
    complaints: RateLimit,
}

/// The outside database's address and when to try it again.
struct OutsideTarget {
    target: Target,
    text: String,
    token: Option<Token>,
    retry_at: Instant,
    backoff: Duration,
}

impl Sockets {
    /// Listens for ovs-appctl, and for OVSDB clients unless the database is outside.
    ///
    /// # Errors
    /// A socket cannot be had: its name is taken by a live process, or the system refuses.
    pub fn new(places: &Places, args: &Args) -> anyhow::Result<Sockets> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let outside = match &args.database {
            None => None,
            Some(text) => Some(OutsideTarget {
                target: Target::active(text, &places.rundir, OVSDB_PORT).map_err(anyhow::Error::msg)?,
                text: text.clone(),
                token: None,
                retry_at: Instant::ZERO,
                backoff: Duration::from_secs(1),
            }),
        };
        let mut sockets = Sockets {
            poll,
            events: Events::with_capacity(1_024),
            waker,
            listeners: BTreeMap::new(),
            ready_doors: BTreeSet::new(),
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            queue: VecDeque::new(),
            accept_again: None,
            next_token: FIRST_FREE,
            next_conn: 1,
            controllers: Controllers::default(),
            outside,
            registered: false,
            paths: Vec::new(),
            buffer: Vec::new(),
            budget_left: 0,
            share_left: OPENFLOW_PER_CONNECTION_MAX,
            changed: true,
            complaints: RateLimit::new(1, 20),
        };
        sockets.listen(Door::Appctl, &Target::Unix(places.unixctl(args, std::process::id())))?;
        if sockets.outside.is_none() {
            sockets.listen(Door::Database, &Target::Unix(places.db_socket()))?;
        }
        Ok(sockets)
    }

    /// Something that wakes the loop from any thread.
    pub fn notifier(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || {
            // An eventfd that is full wakes as well.
            let _ = waker.wake();
        })
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn listen(&mut self, door: Door, target: &Target) -> anyhow::Result<()> {
        let name = match target {
            Target::Unix(path) => path.display().to_string(),
            Target::Tcp(address) => address.to_string(),
        };
        let token = self.token();
        let listener = Listener::open(target, SOCKET_MODE).and_then(|mut l| {
            l.register(self.poll.registry(), token)?;
            Ok(l)
        });
        let listener = listener.map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
        if let Target::Unix(path) = target {
            self.paths.push(path.clone());
        }
        self.listeners.insert(token, (door, listener));
        Ok(())
    }

    /// Sleeps until a socket, a signal, the kernel or a worker has something, or `timeout` has passed.
    ///
    /// # Errors
    /// The system's polling itself fails.
    pub fn wait(&mut self, timeout: Option<Duration>, sources: &Sources<'_>) -> io::Result<()> {
        if !self.registered {
            self.registered = true;
            let sources = [
                (Some(sources.signals.as_fd()), SIGNALS),
                (sources.links.map(AsFd::as_fd), LINKS),
                (sources.elsewhere.map(AsFd::as_fd), ELSEWHERE),
                (sources.routes.map(AsFd::as_fd), ROUTES),
            ];
            for (fd, token) in sources {
                let Some(fd) = fd else { continue };
                let mut source = mio::unix::SourceFd(&fd.as_raw_fd());
                self.poll.registry().register(&mut source, token, Interest::READABLE)?;
            }
        }
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        for event in &self.events {
            let token = event.token();
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                peer.connection.writable |= event.is_writable();
            } else if self.listeners.contains_key(&token) {
                self.ready_doors.insert(token);
            }
        }
        Ok(())
    }

    /// Whether something that came in has not been looked at.
    pub fn has_unfinished(&self) -> bool {
        self.accept_again.is_none() && !self.ready_doors.is_empty()
            || self.peers.values().any(Peer::is_unfinished)
    }

    /// When something is to be done here without anything having come in.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.peers.values().filter_map(|p| match &p.talk {
            Talk::OpenFlow(t) => t.session.next_deadline(),
            _ => None,
        });
        let outside = self.outside.iter().filter(|o| o.token.is_none()).map(|o| o.retry_at);
        sessions.chain(self.controllers.next_deadline()).chain(outside).chain(self.accept_again).min()
    }

    fn add_peer(&mut self, stream: Stream, talk: Talk) -> io::Result<Token> {
        let token = self.token();
        let connection = Connection::register(stream, self.poll.registry(), token)?;
        if let Talk::OpenFlow(t) = &talk {
            self.conns.insert(t.conn, token);
        }
        self.peers.insert(token, Peer { connection, talk, closing: false });
        Ok(token)
    }

    fn conn_id(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    /// Takes in new connections, and begins those that the daemon itself is to make.
    pub fn accept(&mut self, link: &mut Link, now: Instant) {
        let ready = match self.accept_again {
            Some(again) if again > now => BTreeSet::new(),
            _ => std::mem::take(&mut self.ready_doors),
        };
        for token in ready {
            self.accept_again = None;
            let Some((door, listener)) = self.listeners.get_mut(&token) else { continue };
            let door = door.clone();
            let accepted = listener.accept_all();
            if let Some(error) = accepted.error {
                tracing::warn!(target: "stream", "accept failed: {error}");
                // The loop is told of a listener once: what waits there must not be forgotten.
                self.ready_doors.insert(token);
                self.accept_again = Some(now + ACCEPT_PAUSE);
            }
            for stream in accepted.streams {
                if self.peers.len() >= CONNECTIONS_MAX {
                    if self.complaints.take(now) {
                        tracing::warn!(target: "stream", "a connection was refused: {CONNECTIONS_MAX} are open");
                    }
                    continue;
                }
                let talk = match self.talk_of(&door, link, now) {
                    Ok(talk) => talk,
                    Err(text) => {
                        if self.complaints.take(now) {
                            tracing::warn!(target: "stream", "a connection was refused: {text}");
                        }
                        continue;
                    }
                };
                if let Err(error) = self.add_peer(stream, talk) {
                    tracing::warn!(target: "stream", "a connection was lost: {error}");
                }
            }
        }
        self.reach_out(link, now);
    }

    fn talk_of(&mut self, door: &Door, link: &mut Link, now: Instant) -> Result<Talk, String> {
        match door {
            Door::Database => {
                let server = link.server_mut().ok_or("the database is outside")?;
                // ovs-vsctl --timeout=0 may wait for hours: Unix peers are not probed.
                server.connect(None, now).map(Talk::Database).map_err(|e| e.to_string())
            }
            Door::Appctl => Ok(Talk::Appctl(unixctl::Session::default())),
            Door::Snoop { bridge } => {
                // Who listens speaks OpenFlow too: it wants a HELLO before anything else.
                let hello = Message::Hello(Hello { versions: OfVersions::ALL });
                let output = encode_to_vec(&Dialect::new(OfVersion::V15), Xid(1), &hello).unwrap_or_default();
                Ok(Talk::Snoop { bridge: bridge.clone(), output })
            }
            Door::OpenFlow { bridge, target } => {
                let conn = self.conn_id();
                // Whoever manages the bridge by its own socket is not probed: ovs-ofctl's pauses are its own affair.
                let probe = target.as_ref().and_then(|t| self.controllers.probe(bridge, t)).flatten();
                let session = self.session(bridge, probe, now);
                let talk = OpenFlowTalk {
                    conn,
                    bridge: bridge.clone(),
                    kind: ConnKind::Service,
                    session,
                    announced: false,
                    target: target.clone(),
                    pending: false,
                    queued: false,
                    is_behind: false,
                };
                Ok(Talk::OpenFlow(Box::new(talk)))
            }
        }
    }

    /// Connects to the outside database and to controllers whose time has come.
    fn reach_out(&mut self, link: &mut Link, now: Instant) {
        if let Some(outside) = &self.outside
            && outside.token.is_none()
            && outside.retry_at <= now
        {
            let connected =
                Stream::connect(&outside.target).and_then(|s| self.add_peer(s, Talk::OutsideDatabase));
            let Some(outside) = &mut self.outside else { return };
            match connected {
                Ok(token) => {
                    outside.token = Some(token);
                    if let Some(o) = link.outside_mut() {
                        o.connected(now);
                    }
                }
                Err(error) => {
                    tracing::info!(target: "reconnect", "{}: connection attempt failed ({error})", outside.text);
                    outside.retry_at = now + outside.backoff;
                    outside.backoff = (outside.backoff * 2).min(DATABASE_BACKOFF_MAX);
                }
            }
        }
        self.reach_controllers(now);
    }

    /// Reads every connection that has something, one piece each. OpenFlow messages are then taken one by one from
    /// [`Sockets::next_openflow`].
    pub fn read(&mut self, link: &mut Link, brain: &mut Brain, now: Instant) {
        let ready: Vec<Token> = self.peers.iter().filter(|(_, p)| p.is_readable()).map(|(t, _)| *t).collect();
        let mut buffer = std::mem::take(&mut self.buffer);
        for token in ready {
            let Some(peer) = self.peers.get_mut(&token) else { continue };
            match peer.connection.read(&mut buffer) {
                ReadResult::Nothing => {}
                ReadResult::Closed(error) => {
                    if let Some(error) = &error {
                        tracing::debug!(target: "stream", "connection failed: {error}");
                    }
                    self.close_because(token, error, link, brain, now);
                }
                ReadResult::Bytes(_) => {
                    if let Err(text) = self.take_bytes(token, &buffer, link, now) {
                        if self.complaints.take(now) {
                            tracing::warn!(target: "stream", "connection dropped: {text}");
                        }
                        peer_closes(&mut self.peers, token);
                    }
                }
            }
        }
        self.buffer = buffer;
        self.poll_sessions(link, brain, now);
        self.budget_left = OPENFLOW_PER_TURN_MAX;
    }

    fn take_bytes(
        &mut self,
        token: Token,
        bytes: &[u8],
        link: &mut Link,
        now: Instant,
    ) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        match &mut peer.talk {
            Talk::Database(session) => {
                let server = link.server_mut().ok_or("no database")?;
                server.receive(*session, bytes, now).map_err(|e| e.to_string())
            }
            Talk::OutsideDatabase => match link.outside_mut() {
                Some(outside) => outside.receive(bytes, now).map_err(|e| e.to_string()),
                None => Ok(()),
            },
            Talk::Appctl(session) => session.receive(bytes).map_err(|e| e.to_string()),
            // Nothing is expected from who only listens.
            Talk::Snoop { .. } => Ok(()),
            Talk::OpenFlow(talk) => {
                talk.session.receive(bytes, now);
                talk.pending = true;
                if !std::mem::replace(&mut talk.queued, true) {
                    self.queue.push_back(token);
                }
                Ok(())
            }
        }
    }

    /// The commands that came from ovs-appctl and whose turn it is: of each connection the next, once the answer to the
    /// one before has been taken.
    pub fn take_appctl(&mut self) -> Vec<AppctlRequest> {
        let next = |(token, peer): (&Token, &mut Peer)| match &mut peer.talk {
            Talk::Appctl(session) if !peer.closing => session.next_request().map(|request| AppctlRequest {
                command: request.command,
                args: request.args,
                reply: AppctlReply { token: *token, id: request.id },
            }),
            _ => None,
        };
        self.peers.iter_mut().filter_map(next).collect()
    }

    /// Answers a command; nothing if whoever asked has gone.
    pub fn answer_appctl(&mut self, reply: &AppctlReply, answer: &Result<String, String>) {
        if let Some(session) = self.appctl(reply) {
            session.reply(&reply.id, answer);
        }
    }

    /// Whether more can be said in answer to a command, or whoever asked has gone.
    pub fn appctl_has_room(&self, reply: &AppctlReply) -> bool {
        match self.peers.get(&reply.token) {
            Some(Peer { talk: Talk::Appctl(session), .. }) => session.has_room(),
            _ => true,
        }
    }

    /// The session in which a command waits for its answer; `None` if whoever asked has gone.
    pub fn appctl(&mut self, reply: &AppctlReply) -> Option<&mut unixctl::Session> {
        match self.peers.get_mut(&reply.token) {
            Some(Peer { talk: Talk::Appctl(session), .. }) => Some(session),
            _ => None,
        }
    }

    /// Gives the brain's messages to their connections. Whether this one is behind with taking its messages: then flow
    /// monitors are to hold back, until [`Self::flush`] lets them go on.
    pub fn send(&mut self, conn: ConnId, outgoing: Outgoing) -> bool {
        let Some(token) = self.conns.get(&conn).copied() else { return false };
        let Some(peer) = self.peers.get_mut(&token) else { return false };
        let Talk::OpenFlow(talk) = &mut peer.talk else { return false };
        let start = talk.session.output().len();
        let sent = match outgoing {
            // A peer that does not read loses frames, and no memory grows; of everything else it hears, or it starts over.
            Outgoing::PacketIn(message) => talk.session.send_packet_in(&message).map(|_| 0),
            Outgoing::Unasked(message) => talk.session.send_unasked(&message).map(|()| 0),
            Outgoing::Message(xid, message) => talk.session.reply(xid, &message),
            Outgoing::Update(message) => talk.session.reply(Xid(0), &message),
            Outgoing::Error(xid, error, quote) => {
                talk.session.refuse(xid, error, &quote);
                Ok(0)
            }
        };
        match sent {
            Ok(0) => {}
            Ok(n) => tracing::warn!(
                target: "vconn",
                "{}: a reply is without {n} entries, which are too long or do not exist in its version",
                talk.bridge
            ),
            Err(error) => {
                tracing::warn!(target: "vconn", "{}: a message could not be sent: {error}", talk.bridge);
            }
        }
        if let Some(reason @ CloseReason::Unread) = talk.session.closed()
            && !std::mem::replace(&mut peer.closing, true)
        {
            tracing::warn!(target: "rconn", "{}: {}{reason}, disconnecting", talk.bridge, peer_name(talk));
        }
        talk.is_behind |= talk.session.output().len() > MONITOR_OUTPUT_MAX;
        let is_behind = talk.is_behind;
        let bridge = talk.bridge.clone();
        let copy = talk.session.output().get(start..).unwrap_or_default().to_vec();
        if peer_is_controller(talk) {
            self.snoop(&bridge, &copy);
        }
        is_behind
    }

    /// Copies bytes to who listens on a bridge's snoop socket.
    fn snoop(&mut self, bridge: &str, bytes: &[u8]) {
        for peer in self.peers.values_mut() {
            if let Talk::Snoop { bridge: b, output } = &mut peer.talk
                && b == bridge
                && output.len() < SNOOP_OUTPUT_MAX
            {
                output.extend_from_slice(bytes);
            }
        }
    }

    /// Writes what the connections take, and closes those that are through.
    pub fn flush(&mut self, link: &mut Link, brain: &mut Brain, now: Instant) {
        if let Some(server) = link.server_mut() {
            for (session, error) in server.take_closed() {
                if self.complaints.take(now) {
                    tracing::warn!(target: "jsonrpc", "connection dropped: {error}");
                }
                let token =
                    self.peers.iter().find(|(_, p)| matches!(&p.talk, Talk::Database(s) if *s == session));
                if let Some(token) = token.map(|(t, _)| *t) {
                    self.close(token, link, brain, now);
                }
            }
        }
        let mut broken = Vec::new();
        for (token, peer) in &mut self.peers {
            if !peer.connection.writable {
                // Who is to go and does not take what is left to say goes without it.
                if peer.closing {
                    broken.push(*token);
                }
                continue;
            }
            let written = match &mut peer.talk {
                Talk::Database(session) => {
                    let Some(server) = link.server_mut() else { continue };
                    let written = peer.connection.write(server.output(*session));
                    if let Ok(n) = written {
                        server.consume_output(*session, n);
                    }
                    written
                }
                Talk::OutsideDatabase => {
                    let Some(outside) = link.outside_mut() else { continue };
                    let written = peer.connection.write(outside.output());
                    if let Ok(n) = written {
                        outside.consume_output(n);
                    }
                    written
                }
                Talk::Appctl(session) => {
                    let written = peer.connection.write(session.output());
                    if let Ok(n) = written {
                        session.consume(n);
                    }
                    written
                }
                Talk::OpenFlow(talk) => {
                    let written = peer.connection.write(talk.session.output());
                    if let Ok(n) = written {
                        talk.session.written(n);
                    }
                    if talk.is_behind && talk.session.output().is_empty() {
                        talk.is_behind = false;
                        brain.monitors_go_on(talk.conn);
                    }
                    if talk.is_due() && !std::mem::replace(&mut talk.queued, true) {
                        self.queue.push_back(*token);
                    }
                    written
                }
                Talk::Snoop { output, .. } => {
                    let written = peer.connection.write(output);
                    if let Ok(n) = written {
                        output.drain(..n);
                    }
                    written
                }
            };
            if written.is_err() || peer.closing {
                broken.push(*token);
            }
        }
        for token in broken {
            self.close(token, link, brain, now);
        }
    }

    fn close(&mut self, token: Token, link: &mut Link, brain: &mut Brain, now: Instant) {
        self.close_because(token, None, link, brain, now);
    }

    fn close_because(
        &mut self,
        token: Token,
        error: Option<String>,
        link: &mut Link,
        brain: &mut Brain,
        now: Instant,
    ) {
        let Some(mut peer) = self.peers.remove(&token) else { return };
        peer.connection.deregister(self.poll.registry());
        match peer.talk {
            Talk::Database(session) => {
                if let Some(server) = link.server_mut() {
                    server.disconnect(session);
                }
            }
            Talk::OutsideDatabase => {
                if let Some(outside) = link.outside_mut() {
                    outside.disconnected();
                }
                if let Some(target) = &mut self.outside {
                    tracing::info!(target: "reconnect", "{}: connection closed", target.text);
                    target.token = None;
                    target.retry_at = now + target.backoff;
                    target.backoff = (target.backoff * 2).min(DATABASE_BACKOFF_MAX);
                }
            }
            Talk::OpenFlow(talk) => {
                self.queue.retain(|t| *t != token);
                self.share_left = OPENFLOW_PER_CONNECTION_MAX;
                self.conns.remove(&talk.conn);
                self.changed |= talk.target.is_some();
                if talk.announced {
                    brain.disconnect(talk.conn);
                }
                if let Some(target) = &talk.target {
                    self.controllers.lost(&talk.bridge, target, error, now);
                }
            }
            Talk::Appctl(_) | Talk::Snoop { .. } => {}
        }
    }

    /// Does what sessions have to do without anything having come in: probes, and giving up silent peers.
    fn poll_sessions(&mut self, link: &mut Link, brain: &mut Brain, now: Instant) {
        let mut silent = Vec::new();
        for (token, peer) in &mut self.peers {
            let failed = match &mut peer.talk {
                Talk::OpenFlow(talk) => {
                    talk.session.handle_timeout(now);
                    if let Some(reason) = talk.session.closed().filter(|_| !peer.closing) {
                        tracing::warn!(target: "rconn", "{}: {}{reason}, disconnecting", talk.bridge, peer_name(talk));
                        peer.closing = true;
                    }
                    false
                }
                Talk::OutsideDatabase => link.outside_mut().is_some_and(|o| o.poll(now).is_err()),
                _ => false,
            };
            if failed {
                silent.push(*token);
            }
        }
        for token in silent {
            tracing::warn!(target: "rconn", "no response to inactivity probe, disconnecting");
            self.close(token, link, brain, now);
        }
        if let Some(outside) = &mut self.outside
            && link.replica().is_some()
        {
            outside.backoff = Duration::from_secs(1);
        }
    }

    /// Whether a connection to a controller came or went since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// OpenFlow connections that are open.
    pub fn openflow_count(&self) -> usize {
        self.conns.len()
    }

    /// Removes every socket from the file system. Connections stay.
    pub fn remove_all(&mut self) {
        self.listeners.clear();
        for path in self.paths.drain(..) {
            let _ = sys::unix_socket::remove(&path);
        }
    }

    /// Answers the last command there is, when nothing but that is left of the daemon.
    pub fn answer_and_end(&mut self, reply: &AppctlReply, answer: &Result<String, String>) {
        self.answer_appctl(reply, answer);
        if let Some(peer) = self.peers.get_mut(&reply.token)
            && let Talk::Appctl(session) = &mut peer.talk
        {
            // Whoever asked waits for it; if not, it has no use for it.
            let _ = peer.connection.write(session.output());
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.remove_all();
    }
}

/// Bytes kept for a listener that does not read.
const SNOOP_OUTPUT_MAX: usize = 1 << 20;

fn peer_is_controller(talk: &OpenFlowTalk) -> bool {
    talk.kind == ConnKind::Primary
}

/// Names a controller in the log.
fn peer_name(talk: &OpenFlowTalk) -> String {
    talk.target.as_ref().map(|t| format!("{t}: ")).unwrap_or_default()
}

/// What is left to say is written in this turn as far as it goes; then the connection is closed.
fn peer_closes(peers: &mut BTreeMap<Token, Peer>, token: Token) {
    if let Some(peer) = peers.get_mut(&token) {
        peer.closing = true;
    }
}
