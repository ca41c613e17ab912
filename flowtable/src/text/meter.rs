//! Meters: `meter=1,kbps,burst,bands=type=drop,rate=1000,burst_size=500`.

use super::error::{Parsed, TextError, TextFault, fault};
use super::number::number32;
use super::token::{Word, Words};
use crate::meter::{BandType, MeterBand, MeterCommand, MeterConfig, MeterId, MeterMod, MeterUnit};
use std::fmt;
use thiserror::Error;

/// What can be wrong with a meter, in ovs-ofctl's words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MeterFault {
    /// No `meter=`.
    #[error("must specify 'meter'")]
    NoMeter,
    /// A number that no meter can have.
    #[error("invalid value for meter")]
    Id,
    /// Neither unit.
    #[error("meter must specify either 'kbps' or 'pktps'")]
    NoUnit,
    /// Both units.
    #[error("meter must specify only one of 'kbps' and 'pktps'")]
    TwoUnits,
    /// No `bands=`.
    #[error("must specify bands")]
    NoBands,
    /// Nothing after `bands=`.
    #[error("meter must have bands")]
    EmptyBands,
    /// A band begins with something else.
    #[error("band must start with the 'type' keyword")]
    NoType,
    /// No such type of band.
    #[error("field type unknown value {0}")]
    Type(String),
    /// A band without rate.
    #[error("band must have 'rate'")]
    NoRate,
    /// A `burst_size` without the flag.
    #[error("band may have 'burst_size' only when 'burst' flag is set")]
    BurstSize,
    /// The flag without a `burst_size`.
    #[error("band must have 'burst_size' when 'burst' flag is set")]
    NoBurstSize,
    /// A `prec_level` in a drop band.
    #[error("Only 'dscp_remark' band may have 'prec_level'")]
    PrecLevel,
    /// None in a `dscp_remark` band.
    #[error("'dscp_remark' band must have 'prec_level'")]
    NoPrecLevel,
}

fn wrong(at: &str, kind: MeterFault) -> super::error::Fault {
    fault(at, TextFault::Meter(kind))
}

/// A request to change meters. Deletions name a meter or, empty, mean all.
///
/// # Errors
/// If something has no meaning or is missing.
pub fn parse_meter_mod(text: &str, command: MeterCommand) -> Result<MeterMod, TextError> {
    let parsed = match command {
        MeterCommand::Delete => {
            filter(text).map(|meter| MeterMod { command, meter, config: MeterConfig::default() })
        }
        MeterCommand::Add | MeterCommand::Modify => whole(text, command),
    };
    parsed.map_err(|f| f.within(text))
}

/// Which meter a request means: `meter=N`, or all if the text is empty.
///
/// # Errors
/// If something has no meaning.
pub fn parse_meter_filter(text: &str) -> Result<MeterId, TextError> {
    filter(text).map_err(|f| f.within(text))
}

fn filter(text: &str) -> Parsed<MeterId> {
    let mut meter = MeterId::ALL;
    for word in Words::new(text) {
        match word.key {
            "meter" => meter = id(word.value)?,
            _ => return Err(unknown(word)),
        }
    }
    Ok(meter)
}

fn unknown(word: Word<'_>) -> super::error::Fault {
    let key = word.key.to_owned();
    let kind =
        if word.value.is_empty() { TextFault::MissingValue(key) } else { TextFault::UnknownKeyword(key) };
    fault(word.key, kind)
}

fn id(v: &str) -> Parsed<MeterId> {
    let reserved = [MeterId::SLOWPATH, MeterId::CONTROLLER, MeterId::ALL];
    if let Some(meter) = reserved.into_iter().find(|m| m.reserved_name() == Some(v)) {
        return Ok(meter);
    }
    match MeterId(number32(v)?) {
        meter if meter.is_ordinary() => Ok(meter),
        _ => Err(wrong(v, MeterFault::Id)),
    }
}

/// Splits at `band=` or `bands=`.
fn split_bands(text: &str) -> Option<(&str, &str)> {
    let at = text.find("band")?;
    let (head, tail) = text.split_at_checked(at)?;
    let (_, bands) = tail.split_once('=')?;
    Some((head, bands))
}

fn whole(text: &str, command: MeterCommand) -> Parsed<MeterMod> {
    let (head, band_text) = split_bands(text).ok_or_else(|| wrong(text, MeterFault::NoBands))?;
    let mut meter = None;
    let mut config = MeterConfig::default();
    let (mut kbps, mut pktps) = (false, false);
    for word in Words::new(head) {
        match word.key {
            "kbps" => kbps = true,
            "pktps" => pktps = true,
            "burst" => config.burst = true,
            "stats" => config.stats = true,
            "meter" => meter = Some(id(word.value)?),
            _ => return Err(unknown(word)),
        }
    }
    let meter = meter.ok_or_else(|| wrong(text, MeterFault::NoMeter))?;
    config.unit = match (kbps, pktps) {
        (true, false) => MeterUnit::Kbps,
        (false, true) => MeterUnit::Pktps,
        (false, false) => return Err(wrong(text, MeterFault::NoUnit)),
        (true, true) => return Err(wrong(text, MeterFault::TwoUnits)),
    };
    config.bands = bands(band_text, config.burst)?;
    Ok(MeterMod { command, meter, config })
}

/// A band while its words are read.
#[derive(Default)]
struct Draft {
    remarks: bool,
    rate: u32,
    burst_size: u32,
    prec_level: u8,
}

impl Draft {
    fn finish(self, at: &str, burst: bool) -> Parsed<MeterBand> {
        let problem = match () {
            () if self.remarks && self.prec_level == 0 => Some(MeterFault::NoPrecLevel),
            () if !self.remarks && self.prec_level != 0 => Some(MeterFault::PrecLevel),
            () if self.rate == 0 => Some(MeterFault::NoRate),
            () if burst && self.burst_size == 0 => Some(MeterFault::NoBurstSize),
            () if !burst && self.burst_size != 0 => Some(MeterFault::BurstSize),
            () => None,
        };
        if let Some(problem) = problem {
            return Err(wrong(at, problem));
        }
        let kind =
            if self.remarks { BandType::DscpRemark { prec_level: self.prec_level } } else { BandType::Drop };
        Ok(MeterBand { kind, rate: self.rate, burst_size: self.burst_size })
    }
}

fn bands(text: &str, burst: bool) -> Parsed<Vec<MeterBand>> {
    let mut bands = Vec::new();
    let mut draft: Option<Draft> = None;
    for word in Words::new(text) {
        if word.key == "type" {
            if let Some(done) = draft.take() {
                bands.push(done.finish(text, burst)?);
            }
            let remarks = match word.value {
                "drop" => false,
                "dscp_remark" => true,
                other => return Err(wrong(other, MeterFault::Type(other.to_owned()))),
            };
            draft = Some(Draft { remarks, ..Draft::default() });
            continue;
        }
        let band = draft.as_mut().ok_or_else(|| wrong(word.key, MeterFault::NoType))?;
        match word.key {
            "rate" => band.rate = number32(word.value)?,
            "burst_size" => band.burst_size = number32(word.value)?,
            "prec_level" => band.prec_level = super::number::number8(word.value, "prec_level")?,
            _ => return Err(unknown(word)),
        }
    }
    let last = draft.ok_or_else(|| wrong(text, MeterFault::EmptyBands))?;
    bands.push(last.finish(text, burst)?);
    Ok(bands)
}

/// See [`display_meter`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayMeter<'a> {
    meter: MeterId,
    config: &'a MeterConfig,
}

/// A meter as `dump-meters` prints it: a line for the meter, then one for each band.
pub fn display_meter(meter: MeterId, config: &MeterConfig) -> DisplayMeter<'_> {
    DisplayMeter { meter, config }
}

impl fmt::Display for DisplayMeter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meter.reserved_name() {
            Some(name) => write!(f, "meter={name}")?,
            None => write!(f, "meter={}", self.meter.0)?,
        }
        f.write_str(match self.config.unit {
            MeterUnit::Kbps => " kbps",
            MeterUnit::Pktps => " pktps",
        })?;
        f.write_str(if self.config.burst { " burst" } else { "" })?;
        f.write_str(if self.config.stats { " stats" } else { "" })?;
        writeln!(f, " bands=")?;
        for band in &self.config.bands {
            let name = if band.kind == BandType::Drop { "drop" } else { "dscp_remark" };
            write!(f, "type={name} rate={}", band.rate)?;
            if self.config.burst {
                write!(f, " burst_size={}", band.burst_size)?;
            }
            if let BandType::DscpRemark { prec_level } = band.kind {
                write!(f, " prec_level={prec_level}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
