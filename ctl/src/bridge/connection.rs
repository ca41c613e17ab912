//! A connection to a bridge's OpenFlow socket: requests and their answers, one after the other.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use flowtable::OfPort;
use openflow::codec::Header;
use openflow::message::{
    ErrorCode, ErrorMessage, Message, MultipartReply, MultipartRequest, OfPortDesc, PortConfig, Xid,
};
use openflow::session::{CloseReason, Received, Session, SessionConfig, SessionEvent, Side};
use openflow::{FlowFormat, OfVersion, OfVersions};

use crate::clock::Deadline;
use crate::link::{Link, Unreachable};
use crate::rundir::RunDir;

/// What is asked for first.
pub const PREFERRED: OfVersions = OfVersions(1 << OfVersion::V14.wire() | 1 << OfVersion::V13.wire());
/// Where flooding can be set and is shown.
pub const FLOODING: OfVersions = OfVersions::only(OfVersion::V10);

/// Names of ports by number.
pub type Names = BTreeMap<OfPort, String>;

/// The switch refused a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Which.
    pub xid: Xid,
    /// What it said.
    pub error: ErrorMessage,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.code {
            ErrorCode::Known(error) => write!(f, "the switch refused it: {}", error.name()),
            ErrorCode::Unknown(number) => {
                write!(f, "the switch refused it: error of type {}, code {}", number.kind, number.code)
            }
        }
    }
}

impl std::error::Error for Refused {}

/// An OpenFlow connection on which versions are agreed.
pub struct Connection {
    session: Session,
    link: Link,
    version: OfVersion,
}

impl Connection {
    /// Connects in the preferred version, or in whatever the bridge allows.
    ///
    /// # Errors
    /// When the bridge cannot be reached or does not answer.
    pub fn open(rundir: &RunDir, bridge: &str, deadline: Deadline) -> anyhow::Result<Connection> {
        match Self::open_with(rundir, bridge, PREFERRED, deadline) {
            Err(error)
                if matches!(reason(&error), Some(CloseReason::Refused | CloseReason::Incompatible(_))) =>
            {
                Self::open_with(rundir, bridge, OfVersions::ALL, deadline)
            }
            other => other,
        }
    }

    /// Connects in one of these versions.
    ///
    /// # Errors
    /// When the bridge cannot be reached, does not answer, or allows none of the versions.
    pub fn open_with(
        rundir: &RunDir,
        bridge: &str,
        versions: OfVersions,
        deadline: Deadline,
    ) -> anyhow::Result<Connection> {
        let path = rundir.bridge(bridge)?;
        let link = Link::open(&path, &format!("bridge {bridge}"), deadline).map_err(|error| {
            let missing = error.downcast_ref::<Unreachable>().is_some_and(Unreachable::is_missing);
            match rundir.bridges() {
                bridges if missing && !bridges.is_empty() => {
                    anyhow!(
                        "there is no bridge {bridge} (no {}); there are {}",
                        path.display(),
                        bridges.join(", ")
                    )
                }
                _ => error,
            }
        })?;
        let config = SessionConfig { side: Side::Controller, versions, probe_interval: None };
        let session = Session::new(config, deadline.clock().now());
        let mut connection = Connection { session, link, version: OfVersion::V10 };
        connection.version = loop {
            match connection.event()? {
                SessionEvent::Up(version) => break version,
                SessionEvent::Message(_) => {}
            }
        };
        if connection.version == OfVersion::V10 {
            // Without these OpenFlow 1.0 has only table 0 and its own few fields.
            connection.send(&Message::SetFlowFormat(FlowFormat::Nxm))?;
            connection.send(&Message::FlowModTableId(true))?;
        }
        Ok(connection)
    }

    /// The version agreed.
    pub fn version(&self) -> OfVersion {
        self.version
    }

    /// "bridge br0 at /run/…", for errors.
    pub fn describe(&self) -> String {
        self.link.describe()
    }

    /// The deadline of everything that follows.
    pub fn deadline_mut(&mut self) -> &mut Deadline {
        self.link.deadline_mut()
    }

    /// Puts a message among those to be sent.
    ///
    /// # Errors
    /// When the version cannot say it.
    pub fn send(&mut self, message: &Message) -> anyhow::Result<Xid> {
        let xid = self.session.new_xid();
        self.send_as(xid, message)?;
        Ok(xid)
    }

    fn send_as(&mut self, xid: Xid, message: &Message) -> anyhow::Result<()> {
        self.session.send(xid, message).map_err(|error| anyhow!("{error} ({})", self.version))
    }

    /// A transaction id for [`Message::BundleAdd`], which names its own.
    pub fn new_xid(&mut self) -> Xid {
        self.session.new_xid()
    }

    /// As [`Connection::send`], with an id of the caller's.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_with(&mut self, xid: Xid, message: &Message) -> anyhow::Result<()> {
        self.send_as(xid, message)
    }

    /// Writes what is to be sent.
    ///
    /// # Errors
    /// When the switch is gone, or sent what this program does not understand.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.check_own_refusals()?;
        self.link.write(self.session.output())?;
        self.session.written(self.session.output().len());
        Ok(())
    }

    /// The session refuses what it cannot decode; for a tool, which asked for it, that is the end.
    fn check_own_refusals(&self) -> anyhow::Result<()> {
        const ERROR: u8 = 1;
        let mut rest = self.session.output();
        while let Some(header) = Header::read(rest) {
            let len = usize::from(header.len);
            let (Some(message), Some(after)) = (rest.get(..len), rest.get(len..)) else { break };
            if header.kind == ERROR {
                let what = match openflow::codec::decode(self.session.dialect(), message) {
                    Ok((_, Message::Error(ErrorMessage { code: ErrorCode::Known(error), .. }))) => {
                        error.name()
                    }
                    _ => "unreadable",
                };
                bail!("{} sent something that this program does not know ({what})", self.describe());
            }
            rest = after;
        }
        Ok(())
    }

    fn event(&mut self) -> anyhow::Result<SessionEvent> {
        let mut buffer = [0; 1 << 16];
        loop {
            let now = self.link.deadline().clock().now();
            if let Some(event) = self.session.poll(now) {
                return Ok(event);
            }
            if let Some(reason) = self.session.closed() {
                return Err(anyhow!(reason).context(self.describe()));
            }
            self.flush()?;
            let count = self.link.read(&mut buffer)?;
            let now = self.link.deadline().clock().now();
            self.session.receive(buffer.get(..count).unwrap_or_default(), now);
        }
    }

    /// The next message from the switch.
    ///
    /// # Errors
    /// When there is none until the deadline.
    pub fn next(&mut self) -> anyhow::Result<Box<Received>> {
        loop {
            if let SessionEvent::Message(received) = self.event()? {
                return Ok(received);
            }
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Refused`], or when there is no answer.
    pub fn request(&mut self, message: &Message) -> anyhow::Result<Message> {
        let xid = self.send(message)?;
        loop {
            let received = self.next()?;
            match received.message {
                Message::Error(error) if received.xid == xid => return Err(Refused { xid, error }.into()),
                message if received.xid == xid => return Ok(message),
                // Something that nobody asked for, or that was for an earlier request.
                _ => {}
            }
        }
    }

    /// Sends a multipart request and waits for all parts of its answer.
    ///
    /// # Errors
    /// [`Refused`], or when there is no answer.
    pub fn multipart(&mut self, request: MultipartRequest) -> anyhow::Result<Vec<MultipartReply>> {
        let xid = self.send(&Message::MultipartRequest(request))?;
        let mut parts = Vec::new();
        loop {
            let received = self.next()?;
            if received.xid != xid {
                continue;
            }
            match received.message {
                Message::MultipartReply { more, reply } => {
                    parts.push(reply);
                    if !more {
                        return Ok(parts);
                    }
                }
                Message::Error(error) => return Err(Refused { xid, error }.into()),
                other => bail!("{}: no answer but {other:?}", self.describe()),
            }
        }
    }

    /// Waits until the switch has dealt with everything sent so far.
    ///
    /// # Errors
    /// The first [`Refused`] of what was sent, or when there is no answer.
    pub fn barrier(&mut self) -> anyhow::Result<()> {
        let xid = self.send(&Message::BarrierRequest)?;
        let mut refused = None;
        loop {
            let received = self.next()?;
            match received.message {
                Message::Error(error) => {
                    refused.get_or_insert(Refused { xid: received.xid, error });
                    // A refused barrier has no other answer.
                    if received.xid == xid {
                        break;
                    }
                }
                Message::BarrierReply if received.xid == xid => break,
                _ => {}
            }
        }
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// The bridge's ports, by number.
    ///
    /// # Errors
    /// When the switch does not tell.
    pub fn ports(&mut self) -> anyhow::Result<Vec<OfPortDesc>> {
        let parts = self.multipart(MultipartRequest::PortDesc(OfPort::ANY))?;
        let mut ports: Vec<OfPortDesc> = parts
            .into_iter()
            .flat_map(|part| match part {
                MultipartReply::PortDesc(ports) => ports,
                _ => Vec::new(),
            })
            .collect();
        ports.sort_by_key(|port| port.port);
        Ok(ports)
    }

    /// The names of the bridge's ports.
    ///
    /// # Errors
    /// When the switch does not tell.
    pub fn names(&mut self) -> anyhow::Result<Names> {
        Ok(self.ports()?.into_iter().map(|port| (port.port, port.name)).collect())
    }
}

fn reason(error: &anyhow::Error) -> Option<CloseReason> {
    error.downcast_ref::<CloseReason>().copied()
}

/// The names of settings that are on.
pub fn config_names(config: PortConfig) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 7] = [
        (PortConfig::PORT_DOWN, "down"),
        (PortConfig::NO_STP, "no-stp"),
        (PortConfig::NO_RECV, "no-receive"),
        (PortConfig::NO_RECV_STP, "no-receive-stp"),
        (PortConfig::NO_FLOOD, "no-flood"),
        (PortConfig::NO_FWD, "no-forward"),
        (PortConfig::NO_PACKET_IN, "no-packet-in"),
    ];
    NAMES.into_iter().filter(|(bit, _)| config.has(*bit)).map(|(_, name)| name).collect()
}
