//! The meters of a bridge: what controllers configured, with the datapath's meter of each. Shared copy-on-write as rules
//! and groups are.

use base::Instant;
use datapath::meter::{BandConfig, Excess, Meter, MeterUnit as Counts};
use flowtable::MeterId;
use flowtable::meter::{BandType, METERS_MAX, MeterCommand, MeterConfig, MeterError, MeterMod, MeterUnit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A meter. It never changes: modifying makes another, which starts to count anew.
#[derive(Debug)]
pub struct MeterEntry {
    /// Its number.
    pub id: MeterId,
    /// What it is to do.
    pub config: MeterConfig,
    /// When it was added or modified.
    pub since: Instant,
    /// What measures.
    pub state: Arc<Meter>,
}

impl MeterEntry {
    /// Whether it may change frames.
    pub fn remarks(&self) -> bool {
        self.config.bands.iter().any(|b| matches!(b.kind, BandType::DscpRemark { .. }))
    }
}

/// The meters of one bridge.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    meters: Arc<BTreeMap<MeterId, Arc<MeterEntry>>>,
}

/// The datapath's form of a configuration.
fn measuring(id: MeterId, config: &MeterConfig) -> Meter {
    let (unit, scale) = match config.unit {
        MeterUnit::Kbps => (Counts::Bits, 1_000),
        MeterUnit::Pktps => (Counts::Packets, 1),
    };
    let band = |b: &flowtable::meter::MeterBand| BandConfig {
        excess: match b.kind {
            BandType::Drop => Excess::Drop,
            BandType::DscpRemark { prec_level } => Excess::Remark(prec_level),
        },
        rate: u64::from(b.rate) * scale,
        // Without a size what comes in a second may come at once, as in OVS.
        burst: u64::from(if config.burst && b.burst_size > 0 { b.burst_size } else { b.rate }) * scale,
    };
    let bands: Vec<BandConfig> = config.bands.iter().map(band).collect();
    Meter::new(id.0, unit, &bands)
}

impl Meters {
    /// A meter.
    pub fn get(&self, id: MeterId) -> Option<&Arc<MeterEntry>> {
        self.meters.get(&id)
    }

    /// The meters, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<MeterEntry>> {
        self.meters.values()
    }

    /// Whether nothing has changed since the other was cloned from this, or this from the other.
    pub fn is_same(&self, other: &Meters) -> bool {
        Arc::ptr_eq(&self.meters, &other.meters)
    }

    /// Numbers of the meters that differ from those of another set.
    pub fn differing(&self, other: &Meters) -> Vec<MeterId> {
        let same = |id: &MeterId| match (self.meters.get(id), other.meters.get(id)) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let ids: BTreeSet<MeterId> = self.meters.keys().chain(other.meters.keys()).copied().collect();
        ids.into_iter().filter(|id| !same(id)).collect()
    }

    /// Carries out a request; says which meters have gone. On an error it has done nothing.
    ///
    /// # Errors
    /// See [`MeterError`].
    pub fn apply(&mut self, meter_mod: &MeterMod, now: Instant) -> Result<Vec<MeterId>, MeterError> {
        meter_mod.check()?;
        let id = meter_mod.meter;
        let there = self.meters.contains_key(&id);
        match meter_mod.command {
            MeterCommand::Add if there => Err(MeterError::MeterExists),
            MeterCommand::Add if self.meters.len() >= METERS_MAX => Err(MeterError::OutOfMeters),
            MeterCommand::Modify if !there => Err(MeterError::UnknownMeter),
            MeterCommand::Add | MeterCommand::Modify => {
                let config = meter_mod.config.clone();
                let state = Arc::new(measuring(id, &config));
                let entry = Arc::new(MeterEntry { id, config, since: now, state });
                Arc::make_mut(&mut self.meters).insert(id, entry);
                Ok(Vec::new())
            }
            MeterCommand::Delete if id == MeterId::ALL => {
                Ok(std::mem::take(&mut self.meters).keys().copied().collect())
            }
            MeterCommand::Delete if there => {
                Arc::make_mut(&mut self.meters).remove(&id);
                Ok(vec![id])
            }
            // Deleting what is not there is no error (OpenFlow 1.3.5 §6.7).
            MeterCommand::Delete => Ok(Vec::new()),
        }
    }
}
