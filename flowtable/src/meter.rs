//! Meters as data (OpenFlow 1.3.5 §5.7, ovs-ofctl(8)). How they measure is `datapath`'s business.

use thiserror::Error;

/// Bands that a meter may have, as in OVS.
pub const BANDS_MAX: usize = 8;
/// Meters that a bridge may have.
pub const METERS_MAX: usize = 65_536;
/// Highest `prec_level`: how many drop precedences there are above the first (RFC 2597).
pub const PREC_LEVEL_MAX: u8 = 2;

/// Number of a meter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MeterId(pub u32);

impl MeterId {
    /// Highest number that a meter can have (`OFPM_MAX`).
    pub const MAX: MeterId = MeterId(0xffff_0000);
    /// The meter of the slow path, which rules cannot name (`OFPM_SLOWPATH`).
    pub const SLOWPATH: MeterId = MeterId(0xffff_fffd);
    /// The meter of frames for controllers (`OFPM_CONTROLLER`).
    pub const CONTROLLER: MeterId = MeterId(0xffff_fffe);
    /// Every meter, in requests (`OFPM_ALL`).
    pub const ALL: MeterId = MeterId(0xffff_ffff);

    /// Whether rules can name it.
    pub const fn is_ordinary(self) -> bool {
        self.0 > 0 && self.0 <= MeterId::MAX.0
    }

    /// What text calls the numbers that mean something else than an ordinary meter.
    pub const fn reserved_name(self) -> Option<&'static str> {
        match self {
            MeterId::SLOWPATH => Some("slowpath"),
            MeterId::CONTROLLER => Some("controller"),
            MeterId::ALL => Some("all"),
            _ => None,
        }
    }
}

/// In what rates and bursts are counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MeterUnit {
    /// Rates in 1,000 bits a second, bursts in 1,000 bits.
    #[default]
    Kbps,
    /// Rates in packets a second, bursts in packets.
    Pktps,
}

/// What a band does with packets beyond its rate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BandType {
    /// Drops them.
    Drop,
    /// Makes their DSCP's drop precedence higher by so many levels (RFC 2597).
    DscpRemark {
        /// 1 or 2.
        prec_level: u8,
    },
}

/// One band.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MeterBand {
    /// What it does.
    pub kind: BandType,
    /// From this rate on, in the meter's unit; at least 1.
    pub rate: u32,
    /// How much may come at once, in the meter's unit. 0 without the flag `burst`: then it is what comes in a second.
    pub burst_size: u32,
}

/// What a meter is to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeterConfig {
    /// Its unit.
    pub unit: MeterUnit,
    /// Whether its bands say how much may come at once.
    pub burst: bool,
    /// Whether statistics are wanted; they are kept anyway.
    pub stats: bool,
    /// Its bands.
    pub bands: Vec<MeterBand>,
}

impl MeterConfig {
    /// Checks it.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub fn check(&self) -> Result<(), MeterError> {
        // Without a band there is nothing to measure for, says OVS.
        if self.bands.is_empty() || self.bands.len() > BANDS_MAX {
            return Err(MeterError::OutOfBands);
        }
        for band in &self.bands {
            match band.kind {
                _ if band.rate == 0 => return Err(MeterError::BadRate),
                BandType::DscpRemark { prec_level } if prec_level == 0 || prec_level > PREC_LEVEL_MAX => {
                    return Err(MeterError::BadBandValue);
                }
                BandType::Drop | BandType::DscpRemark { .. } => {}
            }
        }
        Ok(())
    }
}

/// What to do (`ofp_meter_mod_command`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MeterCommand {
    /// Add a meter.
    Add,
    /// Replace a meter.
    Modify,
    /// Delete a meter, or all.
    Delete,
}

/// A request to change meters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// Which meter; [`MeterId::ALL`] in deletions.
    pub meter: MeterId,
    /// What it is to do; empty in deletions.
    pub config: MeterConfig,
}

impl MeterMod {
    /// Checks what can be checked without knowing the meters that there are. Deleting what cannot be there is no error.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub fn check(&self) -> Result<(), MeterError> {
        let reserved = matches!(self.meter, MeterId::SLOWPATH | MeterId::CONTROLLER);
        match self.command {
            MeterCommand::Delete => Ok(()),
            _ if !self.meter.is_ordinary() && !reserved => Err(MeterError::InvalidMeter),
            MeterCommand::Add | MeterCommand::Modify => self.config.check(),
        }
    }
}

/// Why a request is refused. Each corresponds to one OpenFlow error, `OFPMMFC_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum MeterError {
    /// `METER_EXISTS`.
    #[error("the meter exists already")]
    MeterExists,
    /// `INVALID_METER`: no such number.
    #[error("the meter is not valid")]
    InvalidMeter,
    /// `UNKNOWN_METER`.
    #[error("there is no such meter")]
    UnknownMeter,
    /// `BAD_RATE`.
    #[error("a band's rate is not valid")]
    BadRate,
    /// `BAD_BAND_VALUE`: a `prec_level` that there is not.
    #[error("a band's value is not valid")]
    BadBandValue,
    /// `OUT_OF_METERS`.
    #[error("there are too many meters")]
    OutOfMeters,
    /// `OUT_OF_BANDS`.
    #[error("there are too many bands")]
    OutOfBands,
}
