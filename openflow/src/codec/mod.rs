//! Messages to and from bytes. [`decode`] and [`encode`] are inverse of each other as far as a version can say what a
//! message says; both know nothing of connections.
//!
//! Deliberately absent: framing (that is `session`), and checks that need to know the switch, but for [`check_actions`].

mod action;
mod action_out;
mod check;
mod connection;
mod conntrack;
mod extension;
mod fields;
mod flow;
mod group;
mod instruction;
mod match10;
mod meter;
mod monitor;
mod multipart;
mod nested;
mod oxm;
mod packet;
mod port;
mod statistics;
mod table;

pub use check::{CheckActions, check_actions};
pub use fields::{decode_match, encode_match};
pub use group::{group_error, is_describable};
pub use meter::meter_error;

use crate::error::{NICIRA, OfError};
use crate::message::{Message, Xid};
use crate::version::{Dialect, OfVersion};
use crate::wire::{Put, Reader, TooLong, patch_len};
use flowtable::OfPort;

/// Length of the header that every message has.
pub const HEADER_LEN: usize = 8;
/// Longest message: its length has 16 bits.
pub const MESSAGE_MAX: usize = 0xffff;

/// A message cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// The version has no way to say it.
    #[error("{0} cannot be expressed in this OpenFlow version")]
    Inexpressible(&'static str),
    /// It does not fit in a message.
    #[error("longer than an OpenFlow message can be")]
    TooLong,
}

impl EncodeError {
    /// What is answered in place of a reply.
    pub const fn of_error(&self) -> OfError {
        match self {
            EncodeError::Inexpressible(_) => OfError::BadRequestBadType,
            EncodeError::TooLong => OfError::BadRequestBadLen,
        }
    }
}

impl From<TooLong> for EncodeError {
    fn from(_: TooLong) -> Self {
        EncodeError::TooLong
    }
}

/// `ofp_type`: numbers that all versions share, then those of one or the other.
pub(crate) mod ofpt {
    pub const HELLO: u8 = 0;
    pub const ERROR: u8 = 1;
    pub const ECHO_REQUEST: u8 = 2;
    pub const ECHO_REPLY: u8 = 3;
    pub const EXPERIMENTER: u8 = 4;
    pub const FEATURES_REQUEST: u8 = 5;
    pub const FEATURES_REPLY: u8 = 6;
    pub const GET_CONFIG_REQUEST: u8 = 7;
    pub const GET_CONFIG_REPLY: u8 = 8;
    pub const SET_CONFIG: u8 = 9;
    pub const PACKET_IN: u8 = 10;
    pub const FLOW_REMOVED: u8 = 11;
    pub const PORT_STATUS: u8 = 12;
    pub const PACKET_OUT: u8 = 13;
    pub const FLOW_MOD: u8 = 14;
    pub const PORT_MOD_10: u8 = 15;
    pub const STATS_REQUEST_10: u8 = 16;
    pub const STATS_REPLY_10: u8 = 17;
    pub const BARRIER_REQUEST_10: u8 = 18;
    pub const BARRIER_REPLY_10: u8 = 19;
    pub const QUEUE_GET_CONFIG_REQUEST_10: u8 = 20;
    pub const QUEUE_GET_CONFIG_REPLY_10: u8 = 21;
    pub const GROUP_MOD: u8 = 15;
    pub const PORT_MOD: u8 = 16;
    pub const TABLE_MOD: u8 = 17;
    pub const MULTIPART_REQUEST: u8 = 18;
    pub const MULTIPART_REPLY: u8 = 19;
    pub const BARRIER_REQUEST: u8 = 20;
    pub const BARRIER_REPLY: u8 = 21;
    pub const QUEUE_GET_CONFIG_REQUEST: u8 = 22;
    pub const QUEUE_GET_CONFIG_REPLY: u8 = 23;
    pub const ROLE_REQUEST: u8 = 24;
    pub const ROLE_REPLY: u8 = 25;
    pub const GET_ASYNC_REQUEST: u8 = 26;
    pub const GET_ASYNC_REPLY: u8 = 27;
    pub const SET_ASYNC: u8 = 28;
    pub const METER_MOD: u8 = 29;
    pub const ROLE_STATUS: u8 = 30;
    pub const BUNDLE_CONTROL: u8 = 33;
    pub const BUNDLE_ADD_MESSAGE: u8 = 34;
}

/// What stands in a message's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Version byte.
    pub version: u8,
    /// `ofp_type`.
    pub kind: u8,
    /// Length of the whole message.
    pub len: u16,
    /// Transaction id.
    pub xid: Xid,
}

impl Header {
    /// Reads a header; `None` if there are fewer than [`HEADER_LEN`] bytes.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let mut r = Reader::new(bytes, OfError::BadRequestBadLen);
        let header = |r: &mut Reader<'_>| -> Result<Header, OfError> {
            Ok(Header { version: r.u8()?, kind: r.u8()?, len: r.u16()?, xid: Xid(r.u32()?) })
        };
        header(&mut r).ok()
    }
}

/// Reads one message that fills `bytes`, header included; the header's length is not looked at, so that a request put
/// together from parts can be longer than it can say.
///
/// # Errors
/// What the sender is to be told. An unknown type is [`OfError::BadRequestBadType`], another version
/// [`OfError::BadRequestBadVersion`].
pub fn decode(dialect: &Dialect, bytes: &[u8]) -> Result<(Xid, Message), OfError> {
    let header = Header::read(bytes).ok_or(OfError::BadRequestBadLen)?;
    if header.version != dialect.version.wire() {
        return Err(OfError::BadRequestBadVersion);
    }
    let mut r = Reader::new(bytes, OfError::BadRequestBadLen);
    r.skip(HEADER_LEN)?;
    let body = if dialect.version == OfVersion::V10 {
        decode_10(dialect, header, &mut r)
    } else {
        decode_13(dialect, header, &mut r)
    };
    let message = body?;
    r.end()?;
    Ok((header.xid, message))
}

/// Types that all versions have in common.
fn decode_common(dialect: &Dialect, header: Header, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let version = dialect.version;
    Ok(match header.kind {
        ofpt::HELLO => Message::Hello(connection::read_hello(header.version, r)),
        ofpt::ERROR => Message::Error(connection::read_error(version, r)?),
        ofpt::ECHO_REQUEST => Message::EchoRequest(r.rest().to_vec()),
        ofpt::ECHO_REPLY => Message::EchoReply(r.rest().to_vec()),
        ofpt::EXPERIMENTER => extension::read(dialect, header.xid, r)?,
        ofpt::FEATURES_REQUEST => Message::FeaturesRequest,
        ofpt::FEATURES_REPLY => Message::FeaturesReply(connection::read_features(version, r)?),
        ofpt::GET_CONFIG_REQUEST => Message::GetConfigRequest,
        ofpt::GET_CONFIG_REPLY => Message::GetConfigReply(connection::read_config(r)?),
        ofpt::SET_CONFIG => Message::SetConfig(connection::read_config(r)?),
        ofpt::PACKET_IN => Message::PacketIn(packet::read_in(version, r)?),
        ofpt::FLOW_REMOVED => Message::FlowRemoved(flow::read_removed(version, r)?),
        ofpt::PORT_STATUS => Message::PortStatus(port::read_status(version, r)?),
        ofpt::PACKET_OUT => Message::PacketOut(packet::read_out(version, r)?),
        _ => return Err(OfError::BadRequestBadType),
    })
}

fn decode_10(dialect: &Dialect, header: Header, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let version = dialect.version;
    Ok(match header.kind {
        ofpt::FLOW_MOD => Message::FlowMod(flow::read_mod_10(dialect, r)?),
        ofpt::PORT_MOD_10 => Message::PortMod(port::read_mod(version, r)?),
        ofpt::STATS_REQUEST_10 => Message::MultipartRequest(multipart::read_request(version, r)?),
        ofpt::STATS_REPLY_10 => multipart::read_reply(version, r)?,
        ofpt::BARRIER_REQUEST_10 => Message::BarrierRequest,
        ofpt::BARRIER_REPLY_10 => Message::BarrierReply,
        ofpt::QUEUE_GET_CONFIG_REQUEST_10 => {
            Message::QueueGetConfigRequest(port::read_queue_request(version, r)?)
        }
        ofpt::QUEUE_GET_CONFIG_REPLY_10 => port::read_queue_reply(version, r)?,
        _ => decode_common(dialect, header, r)?,
    })
}

fn decode_13(dialect: &Dialect, header: Header, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let version = dialect.version;
    let v13 = version == OfVersion::V13;
    Ok(match header.kind {
        ofpt::FLOW_MOD => Message::FlowMod(flow::read_mod_13(version, r)?),
        ofpt::GROUP_MOD => Message::GroupMod(group::read_mod(version, r)?),
        ofpt::PORT_MOD => Message::PortMod(port::read_mod(version, r)?),
        ofpt::TABLE_MOD => Message::TableMod(table::read_mod(version, r)?),
        ofpt::MULTIPART_REQUEST => Message::MultipartRequest(multipart::read_request(version, r)?),
        ofpt::MULTIPART_REPLY => multipart::read_reply(version, r)?,
        ofpt::BARRIER_REQUEST => Message::BarrierRequest,
        ofpt::BARRIER_REPLY => Message::BarrierReply,
        ofpt::QUEUE_GET_CONFIG_REQUEST if v13 => {
            Message::QueueGetConfigRequest(port::read_queue_request(version, r)?)
        }
        ofpt::QUEUE_GET_CONFIG_REPLY if v13 => port::read_queue_reply(version, r)?,
        ofpt::ROLE_REQUEST => Message::RoleRequest(connection::read_role(r)?),
        ofpt::ROLE_REPLY => Message::RoleReply(connection::read_role(r)?),
        ofpt::GET_ASYNC_REQUEST => Message::GetAsyncRequest,
        ofpt::GET_ASYNC_REPLY => Message::GetAsyncReply(connection::read_async_reply(version, r)?),
        ofpt::SET_ASYNC => Message::SetAsync(connection::read_async(version, r)?),
        ofpt::METER_MOD => Message::MeterMod(meter::read_mod(r)?),
        ofpt::ROLE_STATUS if !v13 => Message::RoleStatus(connection::read_role_status(r)?),
        ofpt::BUNDLE_CONTROL if !v13 => Message::BundleControl(connection::read_bundle_control(r)?),
        ofpt::BUNDLE_ADD_MESSAGE if !v13 => {
            Message::BundleAdd(connection::read_bundle_add(dialect, header.xid, r)?)
        }
        _ => decode_common(dialect, header, r)?,
    })
}

/// Appends a message to `out`; a multipart reply becomes as many messages as its entries need.
///
/// # Errors
/// If the version cannot say it, or it is too long; `out` is then as it was before.
pub fn encode(dialect: &Dialect, xid: Xid, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let result = encode_into(&mut Frame { dialect, xid, out, start, left_out: None }, message);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// As [`encode`], but entries of a multipart reply that cannot be said do not keep the others back. Gives how many were left out.
///
/// # Errors
/// As [`encode`].
pub fn encode_reply(
    dialect: &Dialect,
    xid: Xid,
    message: &Message,
    out: &mut Vec<u8>,
) -> Result<usize, EncodeError> {
    let start = out.len();
    let mut frame = Frame { dialect, xid, out, start, left_out: Some(0) };
    let result = encode_into(&mut frame, message);
    let left_out = frame.left_out.unwrap_or(0);
    if result.is_err() {
        out.truncate(start);
    }
    result.map(|()| left_out)
}

/// A message as bytes of its own. See [`encode`].
///
/// # Errors
/// As [`encode`].
pub fn encode_to_vec(dialect: &Dialect, xid: Xid, message: &Message) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    encode(dialect, xid, message, &mut out)?;
    Ok(out)
}

/// A message being written: the header goes out with `begin`, its length with `end`.
pub(crate) struct Frame<'a> {
    pub dialect: &'a Dialect,
    pub xid: Xid,
    pub out: &'a mut Vec<u8>,
    start: usize,
    /// Entries of a reply that could not be said; `None` if there must not be any.
    left_out: Option<usize>,
}

impl Frame<'_> {
    pub(crate) fn version(&self) -> OfVersion {
        self.dialect.version
    }

    pub(crate) fn begin(&mut self, kind: u8) {
        self.start = self.out.len();
        self.out.put_u8(self.dialect.version.wire());
        self.out.put_u8(kind);
        self.out.put_u16(0);
        self.out.put_u32(self.xid.0);
    }

    pub(crate) fn begin_experimenter(&mut self, vendor: u32, subtype: u32) {
        self.begin(ofpt::EXPERIMENTER);
        self.out.put_u32(vendor);
        self.out.put_u32(subtype);
    }

    pub(crate) fn begin_nicira(&mut self, subtype: u32) {
        self.begin_experimenter(NICIRA, subtype);
    }

    /// Leaves an entry out that could not be said and begins at `at`, if that is allowed.
    fn leave_out(&mut self, at: usize, error: EncodeError) -> Result<(), EncodeError> {
        *self.left_out.as_mut().ok_or(error)? += 1;
        self.out.truncate(at);
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<(), EncodeError> {
        patch_len(self.out, self.start, self.start + 2)?;
        Ok(())
    }

    /// Where the message begins.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Header, `body`, length.
    fn message(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), EncodeError> {
        self.begin(kind);
        body(self.out);
        self.end()
    }
}

fn encode_into(f: &mut Frame<'_>, message: &Message) -> Result<(), EncodeError> {
    use Message as M;
    let v10 = f.version() == OfVersion::V10;
    match message {
        M::Hello(hello) => connection::put_hello(f, hello),
        M::Error(error) => connection::put_error(f, error),
        M::EchoRequest(data) => f.message(ofpt::ECHO_REQUEST, |o| o.put(data)),
        M::EchoReply(data) => f.message(ofpt::ECHO_REPLY, |o| o.put(data)),
        M::FeaturesRequest => f.message(ofpt::FEATURES_REQUEST, |_| ()),
        M::FeaturesReply(features) => connection::put_features(f, features),
        M::GetConfigRequest => f.message(ofpt::GET_CONFIG_REQUEST, |_| ()),
        M::GetConfigReply(config) => f.message(ofpt::GET_CONFIG_REPLY, |o| connection::put_config(o, config)),
        M::SetConfig(config) => f.message(ofpt::SET_CONFIG, |o| connection::put_config(o, config)),
        M::PacketIn(packet) => packet::put_in(f, packet),
        M::PacketOut(packet) => packet::put_out(f, packet),
        M::FlowRemoved(removed) => flow::put_removed(f, removed),
        M::PortStatus(status) => port::put_status(f, status),
        M::FlowMod(flow_mod) => flow::put_mod(f, flow_mod),
        M::GroupMod(group_mod) => group::put_mod(f, group_mod),
        M::PortMod(port_mod) => port::put_mod(f, port_mod),
        M::TableMod(table_mod) => table::put_mod(f, table_mod),
        M::MeterMod(meter_mod) => meter::put_mod(f, meter_mod),
        M::BarrierRequest => {
            f.message(if v10 { ofpt::BARRIER_REQUEST_10 } else { ofpt::BARRIER_REQUEST }, |_| ())
        }
        M::BarrierReply => f.message(if v10 { ofpt::BARRIER_REPLY_10 } else { ofpt::BARRIER_REPLY }, |_| ()),
        M::QueueGetConfigRequest(port) => port::put_queue_request(f, *port),
        M::QueueGetConfigReply(port, queues) => port::put_queue_reply(f, *port, queues),
        M::RoleRequest(role) => connection::put_role(f, role, connection::Direction::Request),
        M::RoleReply(role) => connection::put_role(f, role, connection::Direction::Reply),
        M::RoleStatus(status) => connection::put_role_status(f, status),
        M::SetAsync(changes) => connection::put_async(f, changes),
        M::GetAsyncRequest if v10 => Err(EncodeError::Inexpressible("get_async request")),
        M::GetAsyncRequest => f.message(ofpt::GET_ASYNC_REQUEST, |_| ()),
        M::GetAsyncReply(config) => connection::put_async_reply(f, config),
        M::BundleControl(control) => connection::put_bundle_control(f, control),
        M::BundleAdd(add) => connection::put_bundle_add(f, add),
        M::MultipartRequest(request) => multipart::put_request(f, request),
        M::MultipartReply { more, reply } => multipart::put_reply(f, *more, reply),
        _ => extension::put(f, message),
    }
}

/// One property of a list: its type and its body; the padding to 8 is skipped (OpenFlow 1.4 §7.2.1.2).
pub(crate) fn property<'a>(r: &mut Reader<'a>) -> Result<(u16, Reader<'a>), OfError> {
    *r = r.or(OfError::BadPropertyBadLen);
    let (kind, len) = (r.u16()?, r.u16()? as usize);
    let body = r.sub(len.checked_sub(4).ok_or(OfError::BadPropertyBadLen)?)?;
    r.skip_padding(len.next_multiple_of(8) - len);
    Ok((kind, body))
}

/// Appends a property, padded to 8. `data` is shorter than [`MESSAGE_MAX`] by construction.
pub(crate) fn put_property(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16((data.len() + 4) as u16);
    out.put(data);
    out.pad8(start);
}

/// A port number of 32 bits; those between OpenFlow 1.0's range and the reserved ports are refused.
pub(crate) fn read_port32(r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    let port = OfPort(r.u32()?);
    if port.0 < 0xff00 || port.0 >= 0xffff_ff00 { Ok(port) } else { Err(OfError::BadActionBadOutPort) }
}

/// A port number in the version's width.
pub(crate) fn read_port(version: OfVersion, r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    if version == OfVersion::V10 { Ok(OfPort::from_u16(r.u16()?)) } else { read_port32(r) }
}

/// A port number of 16 bits.
pub(crate) fn port16(port: OfPort) -> Result<u16, EncodeError> {
    port.to_u16().ok_or(EncodeError::Inexpressible("port number beyond 16 bits"))
}

/// A counter of which all ones mean "not known".
pub(crate) fn read_count(r: &mut Reader<'_>) -> Result<Option<u64>, OfError> {
    Ok(Some(r.u64()?).filter(|n| *n != u64::MAX))
}

/// Writes such a counter.
pub(crate) fn put_count(out: &mut Vec<u8>, count: Option<u64>) {
    out.put_u64(count.unwrap_or(u64::MAX));
}

/// Seconds and nanoseconds.
pub(crate) fn read_duration(r: &mut Reader<'_>) -> Result<std::time::Duration, OfError> {
    let (secs, nanos) = (r.u32()?, r.u32()?);
    Ok(std::time::Duration::from_secs(secs as u64) + std::time::Duration::from_nanos(nanos as u64))
}

/// Writes seconds and nanoseconds.
pub(crate) fn put_duration(out: &mut Vec<u8>, duration: std::time::Duration) {
    out.put_u32(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX));
    out.put_u32(duration.subsec_nanos());
}

/// Buffer id: all ones for none.
pub(crate) fn read_buffer(r: &mut Reader<'_>) -> Result<Option<u32>, OfError> {
    Ok(Some(r.u32()?).filter(|id| *id != u32::MAX))
}

/// Type of HELLO.
pub(crate) const HELLO: u8 = ofpt::HELLO;
/// Type of ERROR.
pub(crate) const ERROR: u8 = ofpt::ERROR;
/// Type of ECHO_REPLY.
pub(crate) const ECHO_REPLY: u8 = ofpt::ECHO_REPLY;

/// Versions that a HELLO of whatever version offers.
pub(crate) fn hello_versions(bytes: &[u8]) -> crate::version::OfVersions {
    let version = bytes.first().copied().unwrap_or(0);
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    connection::read_hello(version, &mut Reader::new(body, OfError::BadRequestBadLen)).versions
}

/// A part of a statistics request.
pub(crate) struct RequestPart<'a> {
    /// Header, type and flags.
    pub head: &'a [u8],
    /// What follows them.
    pub body: &'a [u8],
    /// Whether further parts follow.
    pub more: bool,
}

/// Length of a statistics request's head. Each part of an experimenter's request repeats the experimenter's head too.
fn request_head_len(version: OfVersion, bytes: &[u8]) -> usize {
    let (standard, experimenter) = if version == OfVersion::V10 { (4, 12) } else { (8, 8) };
    let extended = bytes.get(HEADER_LEN..HEADER_LEN + 2) == Some(&[0xff; 2]);
    HEADER_LEN + standard + if extended { experimenter } else { 0 }
}

/// The parts of a statistics request; `None` if it is none or too short to be one.
pub(crate) fn request_part(version: OfVersion, bytes: &[u8]) -> Option<RequestPart<'_>> {
    let kind = if version == OfVersion::V10 { ofpt::STATS_REQUEST_10 } else { ofpt::MULTIPART_REQUEST };
    if Header::read(bytes)?.kind != kind {
        return None;
    }
    let (head, body) = bytes.split_at_checked(request_head_len(version, bytes))?;
    let more = head.get(HEADER_LEN + 3)? & multipart::FLAG_MORE as u8 != 0;
    Some(RequestPart { head, body, more })
}

/// Whether two parts ask for the same.
pub(crate) fn same_request(one: &[u8], other: &[u8]) -> bool {
    let kind = HEADER_LEN..HEADER_LEN + 2;
    one.get(kind.clone()) == other.get(kind)
}
