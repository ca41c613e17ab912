//! Statistics requests and replies: which body belongs to which type in which version, and how long replies are split.

use super::{
    EncodeError, Frame, MESSAGE_MAX, group, meter, monitor, ofpt, port, port16, read_port, statistics, table,
};
use crate::error::{NICIRA, ONF, OfError};
use crate::message::*;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len, patch_u16};
use flowtable::OfPort;

/// `ofp_multipart_type`.
mod mp {
    pub const DESC: u16 = 0;
    pub const FLOW: u16 = 1;
    pub const AGGREGATE: u16 = 2;
    pub const TABLE: u16 = 3;
    pub const PORT_STATS: u16 = 4;
    pub const QUEUE: u16 = 5;
    pub const GROUP_STATS: u16 = 6;
    pub const GROUP_DESC: u16 = 7;
    pub const GROUP_FEATURES: u16 = 8;
    pub const METER_STATS: u16 = 9;
    pub const METER_CONFIG: u16 = 10;
    pub const METER_FEATURES: u16 = 11;
    pub const TABLE_FEATURES: u16 = 12;
    pub const PORT_DESC: u16 = 13;
    pub const TABLE_DESC: u16 = 14;
    pub const QUEUE_DESC: u16 = 15;
    pub const FLOW_MONITOR: u16 = 16;
    pub const FLOW_STATS_15: u16 = 17;
    pub const EXPERIMENTER: u16 = 0xffff;
}

/// Nicira's statistics subtypes.
mod nxst {
    pub const FLOW: u32 = 0;
    pub const AGGREGATE: u32 = 1;
    pub const FLOW_MONITOR: u32 = 2;
    pub const IPFIX_BRIDGE: u32 = 3;
    pub const IPFIX_FLOW: u32 = 4;
    pub const GROUP_STATS: u32 = 7;
    pub const GROUP_DESC: u32 = 8;
    pub const GROUP_FEATURES: u32 = 9;
}

/// Most flow monitors that one request can begin.
const MONITORS_MAX: usize = 1024;
/// ONF's flow monitor statistics in OpenFlow 1.3.
const ONFST_FLOW_MONITOR: u32 = 1870;
/// "More parts follow" (`OFPMPF_REQ_MORE`, `OFPMPF_REPLY_MORE`).
pub(crate) const FLAG_MORE: u16 = 1;
/// "Every group" (`OFPG_ALL`).
const GROUP_ALL: u32 = 0xffff_fffc;
const DESC_LEN: usize = 256;
const SERIAL_LEN: usize = 32;

/// What a body is: a standard type, or an extension's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Standard(u16),
    Nicira(u32),
    Onf(u32),
}

fn read_head(version: OfVersion, r: &mut Reader<'_>) -> Result<(Kind, bool), OfError> {
    let (kind, flags) = (r.u16()?, r.u16()?);
    let v10 = version == OfVersion::V10;
    if !v10 {
        r.skip(4)?;
    }
    let more = flags & FLAG_MORE != 0;
    if kind != mp::EXPERIMENTER {
        return Ok((Kind::Standard(kind), more));
    }
    let (vendor, subtype) = (r.u32()?, r.u32()?);
    if v10 {
        r.skip(4)?;
    }
    match vendor {
        NICIRA => Ok((Kind::Nicira(subtype), more)),
        ONF if !v10 => Ok((Kind::Onf(subtype), more)),
        _ => Err(OfError::BadRequestBadVendor),
    }
}

fn begin(f: &mut Frame<'_>, kind: Kind, v10: u8, v13: u8, flags: u16) {
    let old = f.version() == OfVersion::V10;
    f.begin(if old { v10 } else { v13 });
    let (number, extension) = match kind {
        Kind::Standard(number) => (number, None),
        Kind::Nicira(subtype) => (mp::EXPERIMENTER, Some((NICIRA, subtype))),
        Kind::Onf(subtype) => (mp::EXPERIMENTER, Some((ONF, subtype))),
    };
    f.out.put_u16(number);
    f.out.put_u16(flags);
    if !old {
        f.out.zeros(4);
    }
    if let Some((vendor, subtype)) = extension {
        f.out.put_u32(vendor);
        f.out.put_u32(subtype);
        if old {
            f.out.zeros(4);
        }
    }
}

/// Oldest version that has a standard type.
fn since(kind: u16) -> OfVersion {
    match kind {
        mp::GROUP_STATS..=mp::TABLE_FEATURES => OfVersion::V13,
        mp::TABLE_DESC..=mp::FLOW_MONITOR => OfVersion::V14,
        mp::FLOW_STATS_15 => OfVersion::V15,
        _ => OfVersion::V10,
    }
}

pub(crate) fn read_request(version: OfVersion, r: &mut Reader<'_>) -> Result<MultipartRequest, OfError> {
    use MultipartRequest as Q;
    let kind = match read_head(version, r)?.0 {
        Kind::Standard(kind) if version < since(kind) => return Err(OfError::BadRequestBadStat),
        Kind::Standard(kind) => kind,
        Kind::Nicira(subtype) => return read_nx_request(version, subtype, r),
        Kind::Onf(ONFST_FLOW_MONITOR) if version == OfVersion::V13 => return read_monitors(version, r),
        Kind::Onf(_) => return Err(OfError::BadRequestBadSubtype),
    };
    let v10 = version == OfVersion::V10;
    let v15 = version == OfVersion::V15;
    Ok(match kind {
        mp::DESC => Q::Desc,
        mp::FLOW if v10 => Q::Flow(statistics::read_request_10(r)?),
        mp::FLOW => Q::Flow(statistics::read_request_13(FlowStatsForm::Standard, r)?),
        mp::FLOW_STATS_15 => Q::Flow(statistics::read_request_13(FlowStatsForm::Brief, r)?),
        mp::AGGREGATE if v10 => Q::Aggregate(statistics::read_request_10(r)?),
        mp::AGGREGATE => Q::Aggregate(statistics::read_request_13(FlowStatsForm::Standard, r)?),
        mp::TABLE => Q::Table,
        mp::PORT_STATS => Q::PortStats(padded_port(version, r)?),
        mp::QUEUE => {
            let (port, queue) = port::read_queue_id(version, r)?;
            Q::Queue { port, queue }
        }
        mp::GROUP_STATS => Q::GroupStats(padded_id(r)?),
        mp::GROUP_DESC if v15 => Q::GroupDesc(padded_id(r)?),
        mp::GROUP_DESC => Q::GroupDesc(GROUP_ALL),
        mp::GROUP_FEATURES => Q::GroupFeatures,
        mp::METER_STATS => Q::MeterStats(padded_id(r)?),
        mp::METER_CONFIG => Q::MeterConfig(padded_id(r)?),
        mp::METER_FEATURES => Q::MeterFeatures,
        mp::TABLE_FEATURES => Q::TableFeatures(list(r, |r| table::read_features(version, r))?),
        mp::PORT_DESC if v15 => Q::PortDesc(padded_port(version, r)?),
        mp::PORT_DESC => Q::PortDesc(OfPort::ANY),
        mp::TABLE_DESC => Q::TableDesc,
        mp::QUEUE_DESC => {
            let (port, queue) = port::read_queue_id(version, r)?;
            Q::QueueDesc { port, queue }
        }
        mp::FLOW_MONITOR => return read_monitors(version, r),
        _ => return Err(OfError::BadRequestBadStat),
    })
}

fn padded_port(version: OfVersion, r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    let port = read_port(version, r)?;
    r.skip(if version == OfVersion::V10 { 6 } else { 4 })?;
    Ok(port)
}

fn padded_id(r: &mut Reader<'_>) -> Result<u32, OfError> {
    let id = r.u32()?;
    r.skip(4)?;
    Ok(id)
}

fn list<T>(
    r: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, OfError>,
) -> Result<Vec<T>, OfError> {
    let mut items = Vec::new();
    while !r.is_empty() {
        items.push(read(r)?);
    }
    Ok(items)
}

fn read_monitors(version: OfVersion, r: &mut Reader<'_>) -> Result<MultipartRequest, OfError> {
    let mut monitors = Vec::new();
    while !r.is_empty() {
        // A monitor takes many times the memory of its request.
        if monitors.len() == MONITORS_MAX {
            return Err(OfError::BadRequestMultipartBufferOverflow);
        }
        monitors.push(monitor::read_request(version, r)?);
    }
    Ok(MultipartRequest::FlowMonitor(monitors))
}

fn read_nx_request(
    version: OfVersion,
    subtype: u32,
    r: &mut Reader<'_>,
) -> Result<MultipartRequest, OfError> {
    use MultipartRequest as Q;
    if version != OfVersion::V10 && !matches!(subtype, nxst::IPFIX_BRIDGE | nxst::IPFIX_FLOW) {
        return Err(OfError::BadRequestBadSubtype);
    }
    Ok(match subtype {
        nxst::FLOW => Q::Flow(statistics::read_request_nx(r)?),
        nxst::AGGREGATE => Q::Aggregate(statistics::read_request_nx(r)?),
        nxst::FLOW_MONITOR => read_monitors(version, r)?,
        nxst::IPFIX_BRIDGE | nxst::IPFIX_FLOW => Q::Ipfix(subtype),
        nxst::GROUP_STATS => Q::GroupStats(padded_id(r)?),
        // ovs-ofctl names a group, or leaves that out.
        nxst::GROUP_DESC if r.is_empty() => Q::GroupDesc(GROUP_ALL),
        nxst::GROUP_DESC => Q::GroupDesc(padded_id(r)?),
        nxst::GROUP_FEATURES => Q::GroupFeatures,
        _ => return Err(OfError::BadRequestBadSubtype),
    })
}

/// The type of a flow statistics request or reply.
fn flow_kind(form: FlowStatsForm, standard: u16, nicira: u32) -> Kind {
    match form {
        FlowStatsForm::Standard => Kind::Standard(standard),
        FlowStatsForm::Nicira => Kind::Nicira(nicira),
        FlowStatsForm::Brief => Kind::Standard(mp::FLOW_STATS_15),
    }
}

/// Group statistics are an extension in OpenFlow 1.0.
fn group_kind(version: OfVersion, standard: u16, nicira: u32) -> Kind {
    if version == OfVersion::V10 { Kind::Nicira(nicira) } else { Kind::Standard(standard) }
}

fn monitor_kind(version: OfVersion) -> Kind {
    match version {
        OfVersion::V10 => Kind::Nicira(nxst::FLOW_MONITOR),
        OfVersion::V13 => Kind::Onf(ONFST_FLOW_MONITOR),
        _ => Kind::Standard(mp::FLOW_MONITOR),
    }
}

fn request_kind(version: OfVersion, request: &MultipartRequest) -> Kind {
    use MultipartRequest as Q;
    Kind::Standard(match request {
        Q::Desc => mp::DESC,
        Q::Flow(q) => return flow_kind(q.form, mp::FLOW, nxst::FLOW),
        Q::Aggregate(q) => return flow_kind(q.form, mp::AGGREGATE, nxst::AGGREGATE),
        Q::Table => mp::TABLE,
        Q::PortStats(_) => mp::PORT_STATS,
        Q::Queue { .. } => mp::QUEUE,
        Q::PortDesc(_) => mp::PORT_DESC,
        Q::TableFeatures(_) => mp::TABLE_FEATURES,
        Q::TableDesc => mp::TABLE_DESC,
        Q::GroupStats(_) => return group_kind(version, mp::GROUP_STATS, nxst::GROUP_STATS),
        Q::GroupDesc(_) => return group_kind(version, mp::GROUP_DESC, nxst::GROUP_DESC),
        Q::GroupFeatures => return group_kind(version, mp::GROUP_FEATURES, nxst::GROUP_FEATURES),
        Q::MeterStats(_) => mp::METER_STATS,
        Q::MeterConfig(_) => mp::METER_CONFIG,
        Q::MeterFeatures => mp::METER_FEATURES,
        Q::QueueDesc { .. } => mp::QUEUE_DESC,
        Q::FlowMonitor(_) => return monitor_kind(version),
        Q::Ipfix(subtype) => return Kind::Nicira(*subtype),
    })
}

fn check_kind(version: OfVersion, kind: Kind) -> Result<(), EncodeError> {
    match kind {
        Kind::Standard(number) if version < since(number) => {
            Err(EncodeError::Inexpressible("statistics type"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn put_request(f: &mut Frame<'_>, request: &MultipartRequest) -> Result<(), EncodeError> {
    use MultipartRequest as Q;
    let version = f.version();
    let v10 = version == OfVersion::V10;
    let v15 = version == OfVersion::V15;
    let kind = request_kind(version, request);
    check_kind(version, kind)?;
    begin(f, kind, ofpt::STATS_REQUEST_10, ofpt::MULTIPART_REQUEST, 0);
    let out = &mut *f.out;
    match request {
        Q::Flow(q) | Q::Aggregate(q) => match q.form {
            FlowStatsForm::Nicira => statistics::put_request_nx(out, version, q)?,
            _ if v10 => statistics::put_request_10(out, q)?,
            _ => statistics::put_request_13(out, version, q)?,
        },
        Q::PortStats(port) => put_padded_port(out, version, *port)?,
        Q::PortDesc(port) if v15 => put_padded_port(out, version, *port)?,
        Q::Queue { port, queue } | Q::QueueDesc { port, queue } => {
            port::put_queue_id(out, version, *port, *queue)?
        }
        Q::GroupStats(id) | Q::MeterStats(id) | Q::MeterConfig(id) => put_padded_id(out, *id),
        Q::GroupDesc(id) if v10 || v15 => put_padded_id(out, *id),
        Q::TableFeatures(tables) => {
            for features in tables {
                table::put_features(out, version, features)?;
            }
        }
        Q::FlowMonitor(monitors) => {
            for m in monitors {
                monitor::put_request(out, version, m)?;
            }
        }
        _ => {}
    }
    f.end()
}

fn put_padded_id(out: &mut Vec<u8>, id: u32) {
    out.put_u32(id);
    out.zeros(4);
}

fn put_padded_port(out: &mut Vec<u8>, version: OfVersion, port: OfPort) -> Result<(), EncodeError> {
    if version == OfVersion::V10 {
        out.put_u16(port16(port)?);
        out.zeros(6);
    } else {
        put_padded_id(out, port.0);
    }
    Ok(())
}

pub(crate) fn read_reply(version: OfVersion, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let (kind, more) = read_head(version, r)?;
    let reply = match kind {
        Kind::Standard(kind) if version < since(kind) => return Err(OfError::BadRequestBadStat),
        Kind::Standard(kind) => read_standard_reply(version, kind, r)?,
        Kind::Nicira(subtype) => read_nx_reply(version, subtype, r)?,
        Kind::Onf(ONFST_FLOW_MONITOR) if version == OfVersion::V13 => read_updates(version, r)?,
        Kind::Onf(_) => return Err(OfError::BadRequestBadSubtype),
    };
    Ok(Message::MultipartReply { more, reply })
}

fn read_updates(version: OfVersion, r: &mut Reader<'_>) -> Result<MultipartReply, OfError> {
    Ok(MultipartReply::FlowMonitor(list(r, |r| monitor::read_update(version, r))?))
}

fn read_standard_reply(version: OfVersion, kind: u16, r: &mut Reader<'_>) -> Result<MultipartReply, OfError> {
    use MultipartReply as A;
    let standard = FlowStatsForm::Standard;
    let brief = FlowStatsForm::Brief;
    Ok(match kind {
        mp::DESC => A::Desc(read_desc(r)?),
        mp::FLOW => A::Flow(standard, list(r, |r| statistics::read_entry(version, standard, r))?),
        mp::FLOW_STATS_15 => A::Flow(brief, list(r, |r| statistics::read_entry(version, brief, r))?),
        mp::AGGREGATE => A::Aggregate(standard, statistics::read_aggregate(version, standard, r)?),
        mp::TABLE => A::Table(list(r, |r| table::read_stats(version, r))?),
        mp::PORT_STATS => A::PortStats(list(r, |r| port::read_stats(version, r))?),
        mp::QUEUE => A::Queue(list(r, |r| port::read_queue_stats(version, r))?),
        mp::GROUP_STATS => A::GroupStats(list(r, group::read_stats)?),
        mp::GROUP_DESC => A::GroupDesc(list(r, |r| group::read_desc(version, r))?),
        mp::GROUP_FEATURES => A::GroupFeatures(read_group_features(r)?),
        mp::METER_STATS => A::MeterStats(list(r, meter::read_stats)?),
        mp::METER_CONFIG => A::MeterConfig(list(r, meter::read_desc)?),
        mp::METER_FEATURES => A::MeterFeatures(read_meter_features(r)?),
        mp::TABLE_FEATURES => A::TableFeatures(list(r, |r| table::read_features(version, r))?),
        mp::PORT_DESC => A::PortDesc(list(r, |r| port::read_desc(version, r))?),
        mp::TABLE_DESC => A::TableDesc(list(r, |r| table::read_desc(version, r))?),
        mp::QUEUE_DESC => A::QueueDesc(list(r, |r| port::read_queue_desc(version, r))?),
        mp::FLOW_MONITOR => read_updates(version, r)?,
        _ => return Err(OfError::BadRequestBadStat),
    })
}

fn read_nx_reply(version: OfVersion, subtype: u32, r: &mut Reader<'_>) -> Result<MultipartReply, OfError> {
    use MultipartReply as A;
    let form = FlowStatsForm::Nicira;
    if version != OfVersion::V10 {
        return Err(OfError::BadRequestBadSubtype);
    }
    Ok(match subtype {
        nxst::FLOW => A::Flow(form, list(r, |r| statistics::read_entry(version, form, r))?),
        nxst::AGGREGATE => A::Aggregate(form, statistics::read_aggregate(version, form, r)?),
        nxst::FLOW_MONITOR => read_updates(version, r)?,
        nxst::GROUP_STATS => A::GroupStats(list(r, group::read_stats)?),
        nxst::GROUP_DESC => A::GroupDesc(list(r, |r| group::read_desc(version, r))?),
        nxst::GROUP_FEATURES => A::GroupFeatures(read_group_features(r)?),
        _ => return Err(OfError::BadRequestBadSubtype),
    })
}

fn read_desc(r: &mut Reader<'_>) -> Result<SwitchDesc, OfError> {
    Ok(SwitchDesc {
        manufacturer: r.text(DESC_LEN)?,
        hardware: r.text(DESC_LEN)?,
        software: r.text(DESC_LEN)?,
        serial: r.text(SERIAL_LEN)?,
        datapath: r.text(DESC_LEN)?,
    })
}

fn read_group_features(r: &mut Reader<'_>) -> Result<GroupFeatures, OfError> {
    let (types, capabilities) = (r.u32()?, r.u32()?);
    let mut four = || Ok::<_, OfError>([r.u32()?, r.u32()?, r.u32()?, r.u32()?]);
    Ok(GroupFeatures { types, capabilities, max_groups: four()?, actions: four()? })
}

fn read_meter_features(r: &mut Reader<'_>) -> Result<MeterFeatures, OfError> {
    let features = MeterFeatures {
        max_meters: r.u32()?,
        band_types: r.u32()?,
        capabilities: r.u32()?,
        max_bands: r.u8()?,
        max_color: r.u8()?,
    };
    // Padding, and OpenFlow 1.5's further flags.
    r.rest();
    Ok(features)
}

fn reply_kind(version: OfVersion, reply: &MultipartReply) -> Kind {
    use MultipartReply as A;
    Kind::Standard(match reply {
        A::Desc(_) => mp::DESC,
        A::Flow(form, _) => return flow_kind(*form, mp::FLOW, nxst::FLOW),
        A::Aggregate(form, _) => return flow_kind(*form, mp::AGGREGATE, nxst::AGGREGATE),
        A::Table(_) => mp::TABLE,
        A::PortStats(_) => mp::PORT_STATS,
        A::Queue(_) => mp::QUEUE,
        A::PortDesc(_) => mp::PORT_DESC,
        A::TableFeatures(_) => mp::TABLE_FEATURES,
        A::TableDesc(_) => mp::TABLE_DESC,
        A::GroupStats(_) => return group_kind(version, mp::GROUP_STATS, nxst::GROUP_STATS),
        A::GroupDesc(_) => return group_kind(version, mp::GROUP_DESC, nxst::GROUP_DESC),
        A::GroupFeatures(_) => return group_kind(version, mp::GROUP_FEATURES, nxst::GROUP_FEATURES),
        A::MeterStats(_) => mp::METER_STATS,
        A::MeterConfig(_) => mp::METER_CONFIG,
        A::MeterFeatures(_) => mp::METER_FEATURES,
        A::QueueDesc(_) => mp::QUEUE_DESC,
        A::FlowMonitor(_) => return monitor_kind(version),
    })
}

pub(crate) fn put_reply(f: &mut Frame<'_>, more: bool, reply: &MultipartReply) -> Result<(), EncodeError> {
    use MultipartReply as A;
    let version = f.version();
    let kind = reply_kind(version, reply);
    check_kind(version, kind)?;
    let mut parts = Parts { f, kind };
    parts.begin();
    match reply {
        A::Desc(desc) => put_desc(parts.f.out, desc),
        A::Flow(form, rules) => parts.list(rules, |o, s| statistics::put_entry(o, version, *form, s))?,
        A::Aggregate(form, stats) => statistics::put_aggregate(parts.f.out, version, *form, stats),
        A::Table(tables) => parts.list(tables, |o, s| {
            table::put_stats(o, version, s);
            Ok(())
        })?,
        A::PortStats(ports) => parts.list(ports, |o, s| port::put_stats(o, version, s))?,
        A::Queue(queues) => parts.list(queues, |o, s| port::put_queue_stats(o, version, s))?,
        A::PortDesc(ports) => parts.list(ports, |o, d| port::put_desc(o, version, d))?,
        A::TableFeatures(tables) => parts.list(tables, |o, t| table::put_features(o, version, t))?,
        A::TableDesc(tables) => parts.list(tables, |o, t| table::put_desc(o, version, t))?,
        A::GroupStats(groups) => parts.list(groups, group::put_stats)?,
        A::GroupDesc(groups) => parts.list(groups, |o, g| group::put_desc(o, version, g))?,
        A::MeterStats(meters) => parts.list(meters, meter::put_stats)?,
        A::MeterConfig(meters) => parts.list(meters, meter::put_desc)?,
        A::GroupFeatures(features) => put_group_features(parts.f.out, features),
        A::MeterFeatures(features) => put_meter_features(parts.f.out, features),
        A::QueueDesc(queues) => parts.list(queues, |o, q| port::put_queue_desc(o, version, q))?,
        A::FlowMonitor(updates) => parts.list(updates, |o, u| monitor::put_update(o, version, u))?,
    }
    parts.end(more)
}

/// A reply that goes on in further messages as needed.
struct Parts<'a, 'b> {
    f: &'a mut Frame<'b>,
    kind: Kind,
}

impl Parts<'_, '_> {
    fn begin(&mut self) {
        begin(self.f, self.kind, ofpt::STATS_REPLY_10, ofpt::MULTIPART_REPLY, 0);
    }

    fn end(&mut self, more: bool) -> Result<(), EncodeError> {
        let start = self.f.start();
        patch_u16(self.f.out, start + super::HEADER_LEN + 2, if more { FLAG_MORE } else { 0 });
        patch_len(self.f.out, start, start + 2)?;
        Ok(())
    }

    /// Appends entries. One that does not fit any more opens the next message; one that does not fit in any is like one that
    /// cannot be expressed.
    fn list<T>(
        &mut self,
        items: &[T],
        mut put: impl FnMut(&mut Vec<u8>, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let head = self.f.out.len() - self.f.start();
        for item in items {
            let at = self.f.out.len();
            let fits = put(self.f.out, item).and_then(|()| match head + self.f.out.len() - at {
                0..=MESSAGE_MAX => Ok(()),
                _ => Err(EncodeError::TooLong),
            });
            if let Err(error) = fits {
                self.f.leave_out(at, error)?;
            } else if self.f.out.len() - self.f.start() > MESSAGE_MAX {
                let entry = self.f.out.split_off(at);
                self.end(true)?;
                self.begin();
                self.f.out.put(&entry);
            }
        }
        Ok(())
    }
}

fn put_desc(out: &mut Vec<u8>, d: &SwitchDesc) {
    out.put_text(&d.manufacturer, DESC_LEN);
    out.put_text(&d.hardware, DESC_LEN);
    out.put_text(&d.software, DESC_LEN);
    out.put_text(&d.serial, SERIAL_LEN);
    out.put_text(&d.datapath, DESC_LEN);
}

fn put_group_features(out: &mut Vec<u8>, m: &GroupFeatures) {
    out.put_u32(m.types);
    out.put_u32(m.capabilities);
    m.max_groups.iter().chain(&m.actions).for_each(|v| out.put_u32(*v));
}

fn put_meter_features(out: &mut Vec<u8>, m: &MeterFeatures) {
    out.put_u32(m.max_meters);
    out.put_u32(m.band_types);
    out.put_u32(m.capabilities);
    out.put_u8(m.max_bands);
    out.put_u8(m.max_color);
    out.zeros(2);
}
