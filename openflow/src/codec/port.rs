//! Ports: descriptions, PORT_STATUS, PORT_MOD, statistics, queues.

use super::{
    EncodeError, Frame, ofpt, port16, property, put_duration, put_property, read_duration, read_port,
    read_port32,
};
use crate::error::OfError;
use crate::message::*;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len};
use flowtable::OfPort;

/// Bytes of a port's name in OpenFlow 1.0 to 1.5's description.
const NAME_LEN: usize = 16;
/// `OFPPDPT_ETHERNET`, `OFPPMPT_ETHERNET`, `OFPPSPT_ETHERNET`.
const PROP_ETHERNET: u16 = 0;

/// Link modes of OpenFlow 1.0, which has no rates above 10 Gb/s: its bits 7 to 11 are 11 to 15 of later versions.
fn modes_from_10(bits: u32) -> LinkModes {
    LinkModes(bits & 0x7f | (bits & 0xf80) << 4)
}

fn modes_to_10(modes: LinkModes) -> u32 {
    modes.0 & 0x7f | modes.0 >> 4 & 0xf80
}

fn config_bits(version: OfVersion, config: PortConfig) -> u32 {
    if version == OfVersion::V10 { config.0 } else { config.0 & PortConfig::SINCE_1_1 }
}

fn state_bits(version: OfVersion, state: PortState) -> u32 {
    if version == OfVersion::V10 {
        state.0 & (PortState::LINK_DOWN | PortState::STP_MASK)
    } else {
        state.0 & (PortState::LINK_DOWN | PortState::BLOCKED | PortState::LIVE)
    }
}

pub(crate) fn read_desc(version: OfVersion, r: &mut Reader<'_>) -> Result<OfPortDesc, OfError> {
    let port = read_port(version, r)?;
    if version >= OfVersion::V14 {
        return read_desc_14(port, r);
    }
    let v10 = version == OfVersion::V10;
    if !v10 {
        r.skip(4)?;
    }
    let hw_addr = r.mac()?;
    if !v10 {
        r.skip(2)?;
    }
    let name = r.text(NAME_LEN)?;
    let (config, state) = (PortConfig(r.u32()?), PortState(r.u32()?));
    let mut modes = || Ok::<_, OfError>(if v10 { modes_from_10(r.u32()?) } else { LinkModes(r.u32()?) });
    let (curr, advertised, supported, peer) = (modes()?, modes()?, modes()?, modes()?);
    let (curr_speed_kbps, max_speed_kbps) = if v10 { (0, 0) } else { (r.u32()?, r.u32()?) };
    Ok(OfPortDesc {
        port,
        hw_addr,
        name,
        config,
        state,
        curr,
        advertised,
        supported,
        peer,
        curr_speed_kbps,
        max_speed_kbps,
    })
}

fn read_desc_14(port: OfPort, r: &mut Reader<'_>) -> Result<OfPortDesc, OfError> {
    let len = r.u16()? as usize;
    let mut r = r.sub(len.checked_sub(6).ok_or(OfError::BadRequestBadLen)?)?;
    r.skip(2)?;
    let hw_addr = r.mac()?;
    r.skip(2)?;
    let mut desc = OfPortDesc {
        port,
        hw_addr,
        name: r.text(NAME_LEN)?,
        config: PortConfig(r.u32()?),
        state: PortState(r.u32()?),
        curr: LinkModes(0),
        advertised: LinkModes(0),
        supported: LinkModes(0),
        peer: LinkModes(0),
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    };
    while !r.is_empty() {
        let (kind, mut body) = property(&mut r)?;
        if kind == PROP_ETHERNET {
            body.skip(4)?;
            desc.curr = LinkModes(body.u32()?);
            desc.advertised = LinkModes(body.u32()?);
            desc.supported = LinkModes(body.u32()?);
            desc.peer = LinkModes(body.u32()?);
            desc.curr_speed_kbps = body.u32()?;
            desc.max_speed_kbps = body.u32()?;
        }
    }
    Ok(desc)
}

pub(crate) fn put_desc(out: &mut Vec<u8>, version: OfVersion, d: &OfPortDesc) -> Result<(), EncodeError> {
    let start = out.len();
    let v10 = version == OfVersion::V10;
    if v10 {
        out.put_u16(port16(d.port)?);
        out.put_mac(d.hw_addr);
    } else {
        out.put_u32(d.port.0);
        out.zeros(4);
        out.put_mac(d.hw_addr);
        out.zeros(2);
    }
    out.put_text(&d.name, NAME_LEN);
    out.put_u32(config_bits(version, d.config));
    out.put_u32(state_bits(version, d.state));
    let modes = [d.curr, d.advertised, d.supported, d.peer];
    if v10 {
        modes.iter().for_each(|m| out.put_u32(modes_to_10(*m)));
        return Ok(());
    }
    let mut ethernet = Vec::with_capacity(28);
    if version >= OfVersion::V14 {
        ethernet.zeros(4);
    }
    modes.iter().for_each(|m| ethernet.put_u32(m.0));
    ethernet.put_u32(d.curr_speed_kbps);
    ethernet.put_u32(d.max_speed_kbps);
    if version >= OfVersion::V14 {
        put_property(out, PROP_ETHERNET, &ethernet);
        patch_len(out, start, start + 4)?;
    } else {
        out.put(&ethernet);
    }
    Ok(())
}

pub(crate) fn read_status(version: OfVersion, r: &mut Reader<'_>) -> Result<PortStatus, OfError> {
    let reason = match r.u8()? {
        0 => PortStatusReason::Add,
        1 => PortStatusReason::Delete,
        2 => PortStatusReason::Modify,
        _ => return Err(OfError::NxBadRequestBadReason),
    };
    r.skip(7)?;
    Ok(PortStatus { reason, port: read_desc(version, r)? })
}

pub(crate) fn put_status(f: &mut Frame<'_>, m: &PortStatus) -> Result<(), EncodeError> {
    f.begin(ofpt::PORT_STATUS);
    f.out.put_u8(m.reason as u8);
    f.out.zeros(7);
    put_desc(f.out, f.dialect.version, &m.port)?;
    f.end()
}

pub(crate) fn read_mod(version: OfVersion, r: &mut Reader<'_>) -> Result<PortMod, OfError> {
    let v10 = version == OfVersion::V10;
    let port = read_port(version, r)?;
    if !v10 {
        r.skip(4)?;
    }
    let hw_addr = r.mac()?;
    if !v10 {
        r.skip(2)?;
    }
    let (config, mask) = (PortConfig(r.u32()?), PortConfig(r.u32()?));
    let mut advertise = LinkModes(0);
    if version < OfVersion::V14 {
        let bits = r.u32()?;
        r.skip(4)?;
        advertise = if v10 { modes_from_10(bits) } else { LinkModes(bits) };
    }
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            PROP_ETHERNET => advertise = LinkModes(body.u32()?),
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    if mask.0 & !config_bits(version, PortConfig(0x7f)) != 0 {
        return Err(OfError::PortModFailedBadConfig);
    }
    Ok(PortMod { port, hw_addr, config: PortConfig(config.0 & mask.0), mask, advertise })
}

pub(crate) fn put_mod(f: &mut Frame<'_>, m: &PortMod) -> Result<(), EncodeError> {
    let version = f.version();
    let v10 = version == OfVersion::V10;
    f.begin(if v10 { ofpt::PORT_MOD_10 } else { ofpt::PORT_MOD });
    if v10 {
        f.out.put_u16(port16(m.port)?);
        f.out.put_mac(m.hw_addr);
    } else {
        f.out.put_u32(m.port.0);
        f.out.zeros(4);
        f.out.put_mac(m.hw_addr);
        f.out.zeros(2);
    }
    f.out.put_u32(config_bits(version, m.config));
    f.out.put_u32(config_bits(version, m.mask));
    if version >= OfVersion::V14 {
        if m.advertise.0 != 0 {
            put_property(f.out, PROP_ETHERNET, &m.advertise.0.to_be_bytes());
        }
    } else {
        f.out.put_u32(if v10 { modes_to_10(m.advertise) } else { m.advertise.0 });
        f.out.zeros(4);
    }
    f.end()
}

/// The eight counters that stand first in every version, then those that OpenFlow 1.4 moved to a property.
fn counters(s: &mut OfPortStats) -> ([&mut u64; 8], [&mut u64; 4]) {
    (
        [
            &mut s.rx_packets,
            &mut s.tx_packets,
            &mut s.rx_bytes,
            &mut s.tx_bytes,
            &mut s.rx_dropped,
            &mut s.tx_dropped,
            &mut s.rx_errors,
            &mut s.tx_errors,
        ],
        [&mut s.rx_frame_err, &mut s.rx_over_err, &mut s.rx_crc_err, &mut s.collisions],
    )
}

/// A duration of which all ones mean "not known".
fn read_age(r: &mut Reader<'_>) -> Result<Option<std::time::Duration>, OfError> {
    let known = r.peek().get(..4).is_some_and(|b| b.iter().any(|x| *x != 0xff));
    let duration = read_duration(r)?;
    Ok(known.then_some(duration))
}

fn put_age(out: &mut Vec<u8>, age: Option<std::time::Duration>) {
    match age {
        Some(age) => put_duration(out, age),
        None => out.put_u64(u64::MAX),
    }
}

pub(crate) fn read_stats(version: OfVersion, r: &mut Reader<'_>) -> Result<OfPortStats, OfError> {
    if version >= OfVersion::V14 {
        return read_stats_14(r);
    }
    let v10 = version == OfVersion::V10;
    let port = read_port(version, r)?;
    r.skip(if v10 { 6 } else { 4 })?;
    let mut stats = OfPortStats::unknown(port);
    let (first, ethernet) = counters(&mut stats);
    for counter in first.into_iter().chain(ethernet) {
        *counter = r.u64()?;
    }
    stats.duration = if v10 { None } else { read_age(r)? };
    Ok(stats)
}

fn read_stats_14(r: &mut Reader<'_>) -> Result<OfPortStats, OfError> {
    let len = r.u16()? as usize;
    let mut r = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    r.skip(2)?;
    let mut stats = OfPortStats::unknown(read_port32(&mut r)?);
    stats.duration = read_age(&mut r)?;
    let (first, ethernet) = counters(&mut stats);
    for counter in first {
        *counter = r.u64()?;
    }
    let mut ethernet = Some(ethernet);
    while !r.is_empty() {
        let (kind, mut body) = property(&mut r)?;
        // Others are experimenters' and are skipped, as is a second one.
        if let (PROP_ETHERNET, Some(counters)) = (kind, ethernet.take()) {
            body.skip(4)?;
            for counter in counters {
                *counter = body.u64()?;
            }
        }
    }
    Ok(stats)
}

pub(crate) fn put_stats(
    out: &mut Vec<u8>,
    version: OfVersion,
    stats: &OfPortStats,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut copy = stats.clone();
    let (first, ethernet) = counters(&mut copy);
    match version {
        OfVersion::V10 => {
            out.put_u16(port16(stats.port)?);
            out.zeros(6);
        }
        OfVersion::V13 => {
            out.put_u32(stats.port.0);
            out.zeros(4);
        }
        _ => {
            out.zeros(4);
            out.put_u32(stats.port.0);
            put_age(out, stats.duration);
        }
    }
    first.iter().for_each(|c| out.put_u64(**c));
    if version >= OfVersion::V14 {
        let mut body = vec![0; 4];
        ethernet.iter().for_each(|c| body.put_u64(**c));
        put_property(out, PROP_ETHERNET, &body);
        patch_len(out, start, start)?;
        return Ok(());
    }
    ethernet.iter().for_each(|c| out.put_u64(**c));
    if version == OfVersion::V13 {
        put_age(out, stats.duration);
    }
    Ok(())
}

/// `OFPP_ALL` of OpenFlow 1.0 in a queue statistics request means any port.
fn any_from_10(version: OfVersion, port: OfPort) -> OfPort {
    if version == OfVersion::V10 && port == OfPort::ALL { OfPort::ANY } else { port }
}

/// Port and queue of a queue statistics or description request.
pub(crate) fn read_queue_id(version: OfVersion, r: &mut Reader<'_>) -> Result<(OfPort, u32), OfError> {
    let port = any_from_10(version, read_port(version, r)?);
    if version == OfVersion::V10 {
        r.skip(2)?;
    }
    Ok((port, r.u32()?))
}

pub(crate) fn put_queue_id(
    out: &mut Vec<u8>,
    version: OfVersion,
    port: OfPort,
    queue: u32,
) -> Result<(), EncodeError> {
    if version == OfVersion::V10 {
        out.put_u16(port16(if port == OfPort::ANY { OfPort::ALL } else { port })?);
        out.zeros(2);
    } else {
        out.put_u32(port.0);
    }
    out.put_u32(queue);
    Ok(())
}

pub(crate) fn read_queue_stats(version: OfVersion, r: &mut Reader<'_>) -> Result<QueueStats, OfError> {
    let mut r = match version {
        OfVersion::V10 => r.sub(32)?,
        OfVersion::V13 => r.sub(40)?,
        _ => {
            let len = r.u16()? as usize;
            let mut body = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
            body.skip(6)?;
            body
        }
    };
    let port = read_port(version, &mut r)?;
    if version == OfVersion::V10 {
        r.skip(2)?;
    }
    let (queue, tx_bytes, tx_packets, tx_errors) = (r.u32()?, r.u64()?, r.u64()?, r.u64()?);
    let duration = if version == OfVersion::V10 { None } else { read_age(&mut r)? };
    Ok(QueueStats { port, queue, tx_bytes, tx_packets, tx_errors, duration })
}

pub(crate) fn put_queue_stats(
    out: &mut Vec<u8>,
    version: OfVersion,
    s: &QueueStats,
) -> Result<(), EncodeError> {
    match version {
        OfVersion::V10 => {
            out.put_u16(port16(s.port)?);
            out.zeros(2);
        }
        OfVersion::V13 => out.put_u32(s.port.0),
        _ => {
            out.put_u16(48);
            out.zeros(6);
            out.put_u32(s.port.0);
        }
    }
    out.put_u32(s.queue);
    out.put_u64(s.tx_bytes);
    out.put_u64(s.tx_packets);
    out.put_u64(s.tx_errors);
    if version != OfVersion::V10 {
        put_age(out, s.duration);
    }
    Ok(())
}

const QUEUE_MIN_RATE: u16 = 1;
const QUEUE_MAX_RATE: u16 = 2;

/// Properties of a queue; before OpenFlow 1.4 with 4 bytes of padding before the rate and 6 after.
fn read_queue_rates(version: OfVersion, queue: &mut QueueConfig, r: &mut Reader<'_>) -> Result<(), OfError> {
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        if version < OfVersion::V14 {
            body.skip(4)?;
        }
        match kind {
            QUEUE_MIN_RATE => queue.min_rate = Some(body.u16()?),
            QUEUE_MAX_RATE => queue.max_rate = Some(body.u16()?),
            _ => {}
        }
    }
    Ok(())
}

fn put_queue_rates(out: &mut Vec<u8>, version: OfVersion, queue: &QueueConfig) {
    for (kind, rate) in [(QUEUE_MIN_RATE, queue.min_rate), (QUEUE_MAX_RATE, queue.max_rate)] {
        let Some(rate) = rate else { continue };
        let [high, low] = rate.to_be_bytes();
        if version < OfVersion::V14 {
            put_property(out, kind, &[0, 0, 0, 0, high, low, 0, 0, 0, 0, 0, 0]);
        } else {
            put_property(out, kind, &[high, low, 0, 0]);
        }
    }
}

pub(crate) fn read_queue_request(version: OfVersion, r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    let port = read_port(version, r)?;
    r.skip(if version == OfVersion::V10 { 2 } else { 4 })?;
    Ok(port)
}

pub(crate) fn put_queue_request(f: &mut Frame<'_>, port: OfPort) -> Result<(), EncodeError> {
    match f.version() {
        OfVersion::V10 => {
            f.begin(ofpt::QUEUE_GET_CONFIG_REQUEST_10);
            f.out.put_u16(port16(port)?);
            f.out.zeros(2);
        }
        OfVersion::V13 => {
            f.begin(ofpt::QUEUE_GET_CONFIG_REQUEST);
            f.out.put_u32(port.0);
            f.out.zeros(4);
        }
        _ => return Err(EncodeError::Inexpressible("queue_get_config")),
    }
    f.end()
}

pub(crate) fn read_queue_reply(version: OfVersion, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let v10 = version == OfVersion::V10;
    let port = read_port(version, r)?;
    r.skip(if v10 { 6 } else { 4 })?;
    let mut queues = Vec::new();
    while !r.is_empty() {
        let queue = r.u32()?;
        let of_port = if v10 { port } else { read_port32(r)? };
        let len = r.u16()? as usize;
        let head = if v10 { 6 } else { 10 };
        let mut body = r.sub(len.checked_sub(head).ok_or(OfError::BadRequestBadLen)?)?;
        body.skip(if v10 { 2 } else { 6 })?;
        let mut config = QueueConfig { port: of_port, queue, min_rate: None, max_rate: None };
        read_queue_rates(version, &mut config, &mut body)?;
        queues.push(config);
    }
    Ok(Message::QueueGetConfigReply(port, queues))
}

pub(crate) fn put_queue_reply(
    f: &mut Frame<'_>,
    port: OfPort,
    queues: &[QueueConfig],
) -> Result<(), EncodeError> {
    let version = f.version();
    let v10 = version == OfVersion::V10;
    if v10 {
        f.begin(ofpt::QUEUE_GET_CONFIG_REPLY_10);
        f.out.put_u16(port16(port)?);
        f.out.zeros(6);
    } else if version == OfVersion::V13 {
        f.begin(ofpt::QUEUE_GET_CONFIG_REPLY);
        f.out.put_u32(port.0);
        f.out.zeros(4);
    } else {
        return Err(EncodeError::Inexpressible("queue_get_config"));
    }
    for queue in queues {
        let start = f.out.len();
        f.out.put_u32(queue.queue);
        if !v10 {
            f.out.put_u32(queue.port.0);
        }
        let len_at = f.out.len();
        f.out.zeros(if v10 { 4 } else { 8 });
        put_queue_rates(f.out, version, queue);
        patch_len(f.out, start, len_at)?;
    }
    f.end()
}

pub(crate) fn read_queue_desc(version: OfVersion, r: &mut Reader<'_>) -> Result<QueueConfig, OfError> {
    let (port, queue, len) = (read_port32(r)?, r.u32()?, r.u16()? as usize);
    let mut body = r.sub(len.checked_sub(10).ok_or(OfError::BadRequestBadLen)?)?;
    body.skip(6)?;
    let mut config = QueueConfig { port, queue, min_rate: None, max_rate: None };
    read_queue_rates(version, &mut config, &mut body)?;
    Ok(config)
}

pub(crate) fn put_queue_desc(
    out: &mut Vec<u8>,
    version: OfVersion,
    queue: &QueueConfig,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u32(queue.port.0);
    out.put_u32(queue.queue);
    out.zeros(8);
    put_queue_rates(out, version, queue);
    patch_len(out, start, start + 8)?;
    Ok(())
}
