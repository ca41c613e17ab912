//! Meters: meter_mods, settings, statistics (OpenFlow 1.3.5 §A.3.4.5, §A.3.5.13 and following).

use super::group::{put_count, read_count};
use super::{EncodeError, Frame, ofpt, read_duration};
use crate::error::OfError;
use crate::message::{MeterDesc, MeterStats};
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len};
use flowtable::MeterId;
use flowtable::meter::{BandType, MeterBand, MeterCommand, MeterConfig, MeterError, MeterMod, MeterUnit};

/// `ofp_meter_flags`.
mod flag {
    pub const KBPS: u16 = 1;
    pub const PKTPS: u16 = 2;
    pub const BURST: u16 = 4;
    pub const STATS: u16 = 8;
    pub const ALL: u16 = 15;
}

/// `ofp_meter_band_type`.
mod band {
    pub const DROP: u16 = 1;
    pub const DSCP_REMARK: u16 = 2;
}

/// Length of a band.
const BAND_LEN: usize = 16;

/// The OpenFlow error that a meter's problem is answered with.
pub fn meter_error(error: MeterError) -> OfError {
    match error {
        MeterError::MeterExists => OfError::MeterModFailedMeterExists,
        MeterError::InvalidMeter => OfError::MeterModFailedInvalidMeter,
        MeterError::UnknownMeter => OfError::MeterModFailedUnknownMeter,
        MeterError::BadRate => OfError::MeterModFailedBadRate,
        MeterError::BadBandValue => OfError::MeterModFailedBadBandValue,
        MeterError::OutOfMeters => OfError::MeterModFailedOutOfMeters,
        MeterError::OutOfBands => OfError::MeterModFailedOutOfBands,
    }
}

pub(crate) fn read_mod(r: &mut Reader<'_>) -> Result<MeterMod, OfError> {
    let (number, flags, meter) = (r.u16()?, r.u16()?, MeterId(r.u32()?));
    let command = match number {
        0 => MeterCommand::Add,
        1 => MeterCommand::Modify,
        2 => MeterCommand::Delete,
        _ => return Err(OfError::MeterModFailedBadCommand),
    };
    if command == MeterCommand::Delete {
        // What it was is of no interest.
        r.rest();
        return Ok(MeterMod { command, meter, config: MeterConfig::default() });
    }
    let meter_mod = MeterMod { command, meter, config: read_config(flags, r)? };
    meter_mod.check().map_err(meter_error)?;
    Ok(meter_mod)
}

/// What flags and bands say.
fn read_config(flags: u16, r: &mut Reader<'_>) -> Result<MeterConfig, OfError> {
    let unit = match flags & (flag::KBPS | flag::PKTPS) {
        flag::KBPS => MeterUnit::Kbps,
        flag::PKTPS => MeterUnit::Pktps,
        _ => return Err(OfError::MeterModFailedBadFlags),
    };
    if flags & !flag::ALL != 0 {
        return Err(OfError::MeterModFailedBadFlags);
    }
    let burst = flags & flag::BURST != 0;
    let mut bands = Vec::new();
    while !r.is_empty() {
        if bands.len() == flowtable::meter::BANDS_MAX {
            return Err(OfError::MeterModFailedOutOfBands);
        }
        bands.push(read_band(burst, r)?);
    }
    Ok(MeterConfig { unit, burst, stats: flags & flag::STATS != 0, bands })
}

fn read_band(burst: bool, r: &mut Reader<'_>) -> Result<MeterBand, OfError> {
    let (kind, len) = (r.u16()?, usize::from(r.u16()?));
    let mut body = r.sub(len.checked_sub(4).ok_or(OfError::BadRequestBadLen)?)?;
    let known = matches!(kind, band::DROP | band::DSCP_REMARK);
    if !known {
        return Err(OfError::MeterModFailedBadBand);
    }
    if len != BAND_LEN {
        return Err(OfError::BadRequestBadLen);
    }
    let (rate, burst_size, level) = (body.u32()?, body.u32()?, body.u8()?);
    let kind = if kind == band::DROP { BandType::Drop } else { BandType::DscpRemark { prec_level: level } };
    // Without the flag the size means nothing.
    Ok(MeterBand { kind, rate, burst_size: if burst { burst_size } else { 0 } })
}

fn flags_of(config: &MeterConfig) -> u16 {
    let unit = match config.unit {
        MeterUnit::Kbps => flag::KBPS,
        MeterUnit::Pktps => flag::PKTPS,
    };
    let set = |on: bool, bit: u16| if on { bit } else { 0 };
    unit | set(config.burst, flag::BURST) | set(config.stats, flag::STATS)
}

fn put_bands(out: &mut Vec<u8>, config: &MeterConfig) {
    for b in &config.bands {
        let (kind, level) = match b.kind {
            BandType::Drop => (band::DROP, 0),
            BandType::DscpRemark { prec_level } => (band::DSCP_REMARK, prec_level),
        };
        out.put_u16(kind);
        out.put_u16(BAND_LEN as u16);
        out.put_u32(b.rate);
        out.put_u32(b.burst_size);
        out.put_u8(level);
        out.zeros(3);
    }
}

pub(crate) fn put_mod(f: &mut Frame<'_>, m: &MeterMod) -> Result<(), EncodeError> {
    if f.version() == OfVersion::V10 {
        return Err(EncodeError::Inexpressible("meter_mod"));
    }
    f.begin(ofpt::METER_MOD);
    let (number, flags) = match m.command {
        MeterCommand::Add => (0, flags_of(&m.config)),
        MeterCommand::Modify => (1, flags_of(&m.config)),
        MeterCommand::Delete => (2, 0),
    };
    f.out.put_u16(number);
    f.out.put_u16(flags);
    f.out.put_u32(m.meter.0);
    put_bands(f.out, &m.config);
    f.end()
}

/// One entry of a reply about settings.
pub(crate) fn read_desc(r: &mut Reader<'_>) -> Result<MeterDesc, OfError> {
    let len = usize::from(r.u16()?);
    let mut body = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    let (flags, meter) = (body.u16()?, MeterId(body.u32()?));
    Ok(MeterDesc { meter, config: read_config(flags, &mut body)? })
}

pub(crate) fn put_desc(out: &mut Vec<u8>, d: &MeterDesc) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(2);
    out.put_u16(flags_of(&d.config));
    out.put_u32(d.meter.0);
    put_bands(out, &d.config);
    patch_len(out, start, start)?;
    Ok(())
}

/// One entry of a reply with statistics.
pub(crate) fn read_stats(r: &mut Reader<'_>) -> Result<MeterStats, OfError> {
    let (meter, len) = (MeterId(r.u32()?), usize::from(r.u16()?));
    let mut body = r.sub(len.checked_sub(6).ok_or(OfError::BadRequestBadLen)?)?;
    body.skip(6)?;
    let (flows, input, duration) = (body.u32()?, read_count(&mut body)?, read_duration(&mut body)?);
    let mut bands = Vec::new();
    while !body.is_empty() {
        bands.push(read_count(&mut body)?);
    }
    Ok(MeterStats { meter, flows, input, duration, bands })
}

pub(crate) fn put_stats(out: &mut Vec<u8>, s: &MeterStats) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u32(s.meter.0);
    out.zeros(8);
    out.put_u32(s.flows);
    put_count(out, s.input);
    super::put_duration(out, s.duration);
    s.bands.iter().for_each(|b| put_count(out, *b));
    patch_len(out, start, start + 4)?;
    Ok(())
}
