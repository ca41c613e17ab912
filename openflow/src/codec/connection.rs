//! HELLO, ERROR, features, configuration, roles, asynchronous messages, bundles.

use super::{EncodeError, Frame, HEADER_LEN, Header, extension::nxt, ofpt, port, property, put_property};
use crate::error::{ErrorNumber, ONF, OfError};
use crate::message::*;
use crate::version::{Dialect, OfVersion, OfVersions};
use crate::wire::{Put, Reader};

/// `type` of experimenter errors since OpenFlow 1.2, and of Nicira's before (`NXET_VENDOR`).
const ERROR_EXPERIMENTER: u16 = 0xffff;
const ERROR_NICIRA: u16 = 0xb0c2;
/// Bytes of a bundle's inner message kept for an error message.
const QUOTE_MAX: usize = 64;
/// ONF's numbers for bundles in OpenFlow 1.3.
pub(crate) const ONF_BUNDLE_CONTROL: u32 = 2300;
pub(crate) const ONF_BUNDLE_ADD: u32 = 2301;

/// Reads a HELLO; elements that are not understood are skipped, as the standard wants.
pub(crate) fn read_hello(version: u8, r: &mut Reader<'_>) -> Hello {
    let up_to = |v: u8| OfVersions(((1u64 << (v.min(31) + 1)) - 1) as u32 & !1);
    let mut versions = up_to(version);
    while let Ok((kind, mut body)) = property(r) {
        const VERSION_BITMAP: u16 = 1;
        if let (VERSION_BITMAP, Ok(bits)) = (kind, body.u32()) {
            versions = OfVersions(bits);
        }
    }
    r.rest();
    Hello { versions }
}

pub(crate) fn put_hello(f: &mut Frame<'_>, hello: &Hello) -> Result<(), EncodeError> {
    f.begin(ofpt::HELLO);
    put_property(f.out, 1, &hello.versions.0.to_be_bytes());
    f.end()
}

pub(crate) fn read_error(version: OfVersion, r: &mut Reader<'_>) -> Result<ErrorMessage, OfError> {
    let (kind, code) = (r.u16()?, r.u16()?);
    let number = match kind {
        ERROR_EXPERIMENTER => ErrorNumber { kind: code, code: 0, experimenter: r.u32()? },
        ERROR_NICIRA => ErrorNumber { experimenter: r.u32()?, kind: r.u16()?, code: r.u16()? },
        _ => ErrorNumber { experimenter: 0, kind, code },
    };
    // Nobody's id is 0: such a number could not be told from a standard one.
    if number.experimenter == 0 && matches!(kind, ERROR_EXPERIMENTER | ERROR_NICIRA) {
        return Err(OfError::BadRequestBadVendor);
    }
    let code = match OfError::from_number(version, number) {
        Some(error) => ErrorCode::Known(error),
        None => ErrorCode::Unknown(number),
    };
    Ok(ErrorMessage { code, data: r.rest().to_vec() })
}

pub(crate) fn put_error(f: &mut Frame<'_>, m: &ErrorMessage) -> Result<(), EncodeError> {
    let version = f.version();
    let number = match m.code {
        ErrorCode::Known(error) => {
            error.number(version).or(OfError::NxBadRequestUnencodableError.number(version))
        }
        ErrorCode::Unknown(number) => Some(number),
    };
    let number = number.ok_or(EncodeError::Inexpressible("error"))?;
    f.begin(ofpt::ERROR);
    match (number.experimenter, version) {
        (0, _) => {
            f.out.put_u16(number.kind);
            f.out.put_u16(number.code);
        }
        (experimenter, OfVersion::V10) => {
            f.out.put_u16(ERROR_NICIRA);
            f.out.put_u16(0);
            f.out.put_u32(experimenter);
            f.out.put_u16(number.kind);
            f.out.put_u16(number.code);
        }
        (experimenter, _) => {
            f.out.put_u16(ERROR_EXPERIMENTER);
            f.out.put_u16(number.kind);
            f.out.put_u32(experimenter);
        }
    }
    f.out.put(&m.data);
    f.end()
}

pub(crate) fn read_features(version: OfVersion, r: &mut Reader<'_>) -> Result<SwitchFeatures, OfError> {
    let (datapath_id, n_buffers, n_tables, auxiliary_id) = (r.u64()?, r.u32()?, r.u8()?, r.u8()?);
    r.skip(2)?;
    let (capabilities, actions) = (r.u32()?, r.u32()?);
    let v10 = version == OfVersion::V10;
    let mut ports = Vec::new();
    while v10 && !r.is_empty() {
        ports.push(port::read_desc(version, r)?);
    }
    // Bit 3 stood for the spanning tree until groups took it.
    let capabilities = match v10 {
        true if capabilities & 1 << 3 != 0 => capabilities & !(1 << 3) | Capabilities::STP,
        _ => capabilities,
    };
    Ok(SwitchFeatures {
        datapath_id,
        n_buffers,
        n_tables,
        auxiliary_id: if v10 { 0 } else { auxiliary_id },
        capabilities: Capabilities(capabilities),
        actions: if v10 { actions } else { 0 },
        ports,
    })
}

/// `ofp_capabilities` as a version writes them.
fn capabilities(version: OfVersion, c: Capabilities) -> u32 {
    const ALWAYS: u32 = Capabilities::FLOW_STATS
        | Capabilities::TABLE_STATS
        | Capabilities::PORT_STATS
        | Capabilities::IP_REASM
        | Capabilities::QUEUE_STATS;
    const SINCE_11: u32 = Capabilities::GROUP_STATS | Capabilities::PORT_BLOCKED;
    const SINCE_14: u32 = Capabilities::BUNDLES | Capabilities::FLOW_MONITORING;
    match version {
        OfVersion::V10 => {
            let stp = if c.0 & Capabilities::STP != 0 { 1 << 3 } else { 0 };
            c.0 & (ALWAYS | Capabilities::ARP_MATCH_IP) | stp
        }
        OfVersion::V13 => c.0 & (ALWAYS | SINCE_11),
        _ => c.0 & (ALWAYS | SINCE_11 | SINCE_14),
    }
}

pub(crate) fn put_features(f: &mut Frame<'_>, m: &SwitchFeatures) -> Result<(), EncodeError> {
    let version = f.version();
    let v10 = version == OfVersion::V10;
    f.begin(ofpt::FEATURES_REPLY);
    f.out.put_u64(m.datapath_id);
    f.out.put_u32(m.n_buffers);
    f.out.put_u8(m.n_tables);
    f.out.put_u8(if v10 { 0 } else { m.auxiliary_id });
    f.out.zeros(2);
    f.out.put_u32(capabilities(version, m.capabilities));
    f.out.put_u32(if v10 { m.actions } else { 0 });
    if v10 {
        // What does not fit is left out: the port list of OpenFlow 1.0 has no second part.
        for desc in m.ports.iter().take((super::MESSAGE_MAX - 32) / 48) {
            port::put_desc(f.out, version, desc)?;
        }
    }
    f.end()
}

pub(crate) fn read_config(r: &mut Reader<'_>) -> Result<SwitchConfig, OfError> {
    let (flags, miss_send_len) = (r.u16()?, r.u16()?);
    if flags & !0b111 != 0 {
        return Err(OfError::SwitchConfigFailedBadFlags);
    }
    let fragments = match flags & 3 {
        0 => FragmentHandling::Normal,
        1 => FragmentHandling::Drop,
        2 => FragmentHandling::Reassemble,
        _ => FragmentHandling::NxMatch,
    };
    Ok(SwitchConfig { fragments, invalid_ttl_to_controller: flags & 4 != 0, miss_send_len })
}

pub(crate) fn put_config(out: &mut Vec<u8>, m: &SwitchConfig) {
    out.put_u16(m.fragments as u16 | (m.invalid_ttl_to_controller as u16) << 2);
    out.put_u16(m.miss_send_len);
}

fn role(number: u32) -> Result<Role, OfError> {
    Ok(match number {
        0 => Role::NoChange,
        1 => Role::Equal,
        2 => Role::Primary,
        3 => Role::Secondary,
        _ => return Err(OfError::RoleRequestFailedBadRole),
    })
}

/// Generation id "undefined".
const NO_GENERATION: u64 = u64::MAX;

pub(crate) fn read_role(r: &mut Reader<'_>) -> Result<RoleMessage, OfError> {
    let number = r.u32()?;
    r.skip(4)?;
    let generation_id = Some(r.u64()?).filter(|id| *id != NO_GENERATION);
    Ok(RoleMessage { role: role(number)?, generation_id })
}

/// Nicira's roles: other, master, slave.
pub(crate) fn read_nx_role(r: &mut Reader<'_>) -> Result<RoleMessage, OfError> {
    let role = match r.u32()? {
        0 => Role::Equal,
        1 => Role::Primary,
        2 => Role::Secondary,
        _ => return Err(OfError::RoleRequestFailedBadRole),
    };
    Ok(RoleMessage { role, generation_id: None })
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Reply,
}

pub(crate) fn put_role(f: &mut Frame<'_>, m: &RoleMessage, direction: Direction) -> Result<(), EncodeError> {
    let request = direction == Direction::Request;
    if f.version() == OfVersion::V10 {
        let number = match m.role {
            Role::NoChange => return Err(EncodeError::Inexpressible("role request without a change")),
            Role::Equal => 0,
            Role::Primary => 1,
            Role::Secondary => 2,
        };
        f.begin_nicira(if request { nxt::ROLE_REQUEST } else { nxt::ROLE_REPLY });
        f.out.put_u32(number);
        return f.end();
    }
    f.begin(if request { ofpt::ROLE_REQUEST } else { ofpt::ROLE_REPLY });
    f.out.put_u32(m.role as u32);
    f.out.zeros(4);
    f.out.put_u64(m.generation_id.unwrap_or(NO_GENERATION));
    f.end()
}

pub(crate) fn read_role_status(r: &mut Reader<'_>) -> Result<RoleStatus, OfError> {
    let role = role(r.u32()?)?;
    let reason = match r.u8()? {
        0 => RoleReason::PrimaryRequest,
        1 => RoleReason::Config,
        2 => RoleReason::Experimenter,
        _ => return Err(OfError::NxBadRequestBadReason),
    };
    r.skip(3)?;
    let generation_id = Some(r.u64()?).filter(|id| *id != NO_GENERATION);
    r.rest();
    Ok(RoleStatus { role, reason, generation_id })
}

pub(crate) fn put_role_status(f: &mut Frame<'_>, m: &RoleStatus) -> Result<(), EncodeError> {
    if f.version() < OfVersion::V14 {
        return Err(EncodeError::Inexpressible("role status"));
    }
    f.begin(ofpt::ROLE_STATUS);
    f.out.put_u32(m.role as u32);
    f.out.put_u8(m.reason as u8);
    f.out.zeros(3);
    f.out.put_u64(m.generation_id.unwrap_or(NO_GENERATION));
    f.end()
}

/// The three classes that there were before OpenFlow 1.4, in the order of the message.
const OLD_CLASSES: [AsyncClass; 3] = [AsyncClass::PacketIn, AsyncClass::PortStatus, AsyncClass::FlowRemoved];

pub(crate) fn read_async(version: OfVersion, r: &mut Reader<'_>) -> Result<Vec<AsyncChange>, OfError> {
    if version >= OfVersion::V14 { read_async_properties(r) } else { read_async_fixed(r) }
}

pub(crate) fn read_async_fixed(r: &mut Reader<'_>) -> Result<Vec<AsyncChange>, OfError> {
    let mut changes = Vec::with_capacity(6);
    for class in OLD_CLASSES {
        for audience in [Audience::Primary, Audience::Secondary] {
            changes.push(AsyncChange { class, audience, reasons: r.u32()? });
        }
    }
    Ok(changes)
}

/// `ofp_async_config_prop_type`: two to a class, the secondaries' first.
pub(crate) fn read_async_properties(r: &mut Reader<'_>) -> Result<Vec<AsyncChange>, OfError> {
    let mut changes = Vec::new();
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        let class =
            AsyncClass::ALL.get(kind as usize / 2).copied().ok_or(OfError::AsyncConfigFailedUnsupported)?;
        let audience = if kind % 2 == 0 { Audience::Secondary } else { Audience::Primary };
        changes.push(AsyncChange { class, audience, reasons: body.u32()? });
        body.end()?;
    }
    Ok(changes)
}

fn put_async_body(f: &mut Frame<'_>, changes: &[AsyncChange]) -> Result<(), EncodeError> {
    if f.version() >= OfVersion::V14 {
        for change in changes {
            let kind = change.class as u16 * 2 + (change.audience == Audience::Primary) as u16;
            put_property(f.out, kind, &change.reasons.to_be_bytes());
        }
        return Ok(());
    }
    for class in OLD_CLASSES {
        for audience in [Audience::Primary, Audience::Secondary] {
            let change = changes.iter().rev().find(|c| c.class == class && c.audience == audience);
            // The old form sets every mask.
            f.out.put_u32(change.ok_or(EncodeError::Inexpressible("a part of the masks"))?.reasons);
        }
    }
    Ok(())
}

pub(crate) fn put_async(f: &mut Frame<'_>, changes: &[AsyncChange]) -> Result<(), EncodeError> {
    match f.version() {
        OfVersion::V10 => f.begin_nicira(nxt::SET_ASYNC_CONFIG),
        _ => f.begin(ofpt::SET_ASYNC),
    }
    put_async_body(f, changes)?;
    f.end()
}

pub(crate) fn read_async_reply(version: OfVersion, r: &mut Reader<'_>) -> Result<AsyncConfig, OfError> {
    let mut config = AsyncConfig::none();
    config.apply(&read_async(version, r)?);
    Ok(config)
}

pub(crate) fn put_async_reply(f: &mut Frame<'_>, config: &AsyncConfig) -> Result<(), EncodeError> {
    if f.version() == OfVersion::V10 {
        return Err(EncodeError::Inexpressible("get_async reply"));
    }
    f.begin(ofpt::GET_ASYNC_REPLY);
    put_async_body(f, &config.changes().collect::<Vec<_>>())?;
    f.end()
}

pub(crate) fn read_bundle_control(r: &mut Reader<'_>) -> Result<BundleControl, OfError> {
    use BundleControlKind::*;
    let bundle = r.u32()?;
    let kind = match r.u16()? {
        0 => OpenRequest,
        1 => OpenReply,
        2 => CloseRequest,
        3 => CloseReply,
        4 => CommitRequest,
        5 => CommitReply,
        6 => DiscardRequest,
        7 => DiscardReply,
        _ => return Err(OfError::BundleFailedBadType),
    };
    let flags = r.u16()?;
    if flags & !(BUNDLE_ATOMIC | BUNDLE_ORDERED) != 0 {
        return Err(OfError::BundleFailedBadFlags);
    }
    r.rest();
    Ok(BundleControl { bundle, kind, flags })
}

fn begin_bundle(f: &mut Frame<'_>, native: u8, onf: u32) -> Result<(), EncodeError> {
    match f.version() {
        OfVersion::V10 => return Err(EncodeError::Inexpressible("bundle")),
        OfVersion::V13 => f.begin_experimenter(ONF, onf),
        _ => f.begin(native),
    }
    Ok(())
}

pub(crate) fn put_bundle_control(f: &mut Frame<'_>, m: &BundleControl) -> Result<(), EncodeError> {
    begin_bundle(f, ofpt::BUNDLE_CONTROL, ONF_BUNDLE_CONTROL)?;
    f.out.put_u32(m.bundle);
    f.out.put_u16(m.kind as u16);
    f.out.put_u16(m.flags);
    f.end()
}

pub(crate) fn read_bundle_add(dialect: &Dialect, xid: Xid, r: &mut Reader<'_>) -> Result<BundleAdd, OfError> {
    let bundle = r.u32()?;
    r.skip(2)?;
    let flags = r.u16()?;
    let inner = Header::read(r.peek()).ok_or(OfError::BundleFailedMsgBadLen)?;
    let len = inner.len as usize;
    if len < HEADER_LEN || len > r.len() {
        return Err(OfError::BundleFailedMsgBadLen);
    }
    if inner.version != dialect.version.wire() {
        // The error's own name for it came with OpenFlow 1.4.
        return Err(match dialect.version {
            OfVersion::V13 => OfError::BadRequestBadVersion,
            _ => OfError::BundleFailedBadVersion,
        });
    }
    if inner.xid != xid {
        return Err(OfError::BundleFailedMsgBadXid);
    }
    if !bundled(dialect.version, inner.kind) {
        return Err(OfError::BundleFailedMsgUnsup);
    }
    let bytes = r.take(len)?;
    // Padding and properties may follow.
    r.rest();
    let (xid, message) = super::decode(dialect, bytes)?;
    let quote = bytes.get(..len.min(QUOTE_MAX)).unwrap_or_default().to_vec();
    Ok(BundleAdd { bundle, flags, xid, message: Box::new(message), quote })
}

/// Whether messages of a type can be in a bundle. Nested bundles cannot.
fn bundled(version: OfVersion, kind: u8) -> bool {
    version != OfVersion::V10
        && matches!(kind, ofpt::FLOW_MOD | ofpt::GROUP_MOD | ofpt::PORT_MOD | ofpt::PACKET_OUT)
}

pub(crate) fn put_bundle_add(f: &mut Frame<'_>, m: &BundleAdd) -> Result<(), EncodeError> {
    begin_bundle(f, ofpt::BUNDLE_ADD_MESSAGE, ONF_BUNDLE_ADD)?;
    f.out.put_u32(m.bundle);
    f.out.zeros(2);
    f.out.put_u16(m.flags);
    super::encode(f.dialect, m.xid, &m.message, f.out)?;
    f.end()
}
