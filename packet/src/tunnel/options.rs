//! Geneve options (RFC 8926 section 3.5) and which of them stand in which `tun_metadata` field.

use std::fmt;

use super::{GENEVE_OPTIONS_MAX, TunnelError};
use crate::key::{PacketKey, TUN_METADATA, slot};

/// Length of an option's header in bytes.
const OPTION_HEADER_LEN: usize = 4;
/// The bit of an option's type that says: drop the packet if you do not know me.
const CRITICAL: u8 = 0x80;

/// What a `tun_metadata` field stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GeneveOption {
    /// Option class (who defined it).
    pub class: u16,
    /// Option type; the high bit marks critical options.
    pub kind: u8,
    /// Bytes of the value: a multiple of 4 from 4 to [`GeneveMap::LEN_MAX`].
    pub len: u8,
}

/// Why an option cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GeneveMapError {
    /// There is no field of that index.
    Index,
    /// The length is 0, not a multiple of 4, or more than [`GeneveMap::LEN_MAX`].
    Length,
    /// The field, or the option, is mapped already.
    Taken,
}

impl fmt::Display for GeneveMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GeneveMapError::Index => "no such tun_metadata field",
            GeneveMapError::Length => "impossible option length",
            GeneveMapError::Taken => "field or option mapped already",
        })
    }
}

impl std::error::Error for GeneveMapError {}

/// Which Geneve option stands in which `tun_metadata` field: what a bridge's tlv-map says.
///
/// A value of `len` bytes stands in its slot as a number, right-aligned, and bit n of `TUN_METADATA_PRESENT` says that a
/// frame has the option of field n.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct GeneveMap {
    fields: [Option<GeneveOption>; GeneveMap::FIELDS_MAX],
}

impl GeneveMap {
    /// Number of `tun_metadata` fields.
    pub const FIELDS_MAX: usize = TUN_METADATA.len();
    /// Longest value in bytes: what a slot holds.
    pub const LEN_MAX: usize = 16;

    /// The option of field `index`.
    pub fn get(&self, index: usize) -> Option<GeneveOption> {
        self.fields.get(index).copied().flatten()
    }

    /// Maps an option to field `index`.
    ///
    /// # Errors
    /// See [`GeneveMapError`]; the map is then unchanged.
    pub fn insert(&mut self, index: usize, option: GeneveOption) -> Result<(), GeneveMapError> {
        let len = option.len as usize;
        if len == 0 || len > Self::LEN_MAX || !len.is_multiple_of(4) {
            return Err(GeneveMapError::Length);
        }
        if self.index_of(option.class, option.kind).is_some() {
            return Err(GeneveMapError::Taken);
        }
        let field = self.fields.get_mut(index).ok_or(GeneveMapError::Index)?;
        if field.is_some() {
            return Err(GeneveMapError::Taken);
        }
        *field = Some(option);
        Ok(())
    }

    /// Frees field `index`; what it stood for.
    pub fn remove(&mut self, index: usize) -> Option<GeneveOption> {
        self.fields.get_mut(index).and_then(Option::take)
    }

    /// Frees every field.
    pub fn clear(&mut self) {
        *self = GeneveMap::default();
    }

    /// The mapped fields, lowest index first.
    pub fn iter(&self) -> impl Iterator<Item = (usize, GeneveOption)> + '_ {
        self.fields.iter().enumerate().filter_map(|(index, option)| option.map(|o| (index, o)))
    }

    /// Whether no option is mapped.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The field that an option stands in.
    pub fn index_of(&self, class: u16, kind: u8) -> Option<usize> {
        self.iter().find(|(_, o)| o.class == class && o.kind == kind).map(|(index, _)| index)
    }

    /// The options that `key` has, as they stand in a Geneve header: for [`TunnelPush::options`](super::TunnelPush).
    pub fn encode(&self, key: &PacketKey) -> Box<[u8]> {
        let present = key.get(slot::TUN_METADATA_PRESENT);
        let mut out = Vec::new();
        for ((index, option), place) in self.iter().filter_map(|(i, o)| Some(((i, o), *TUN_METADATA.get(i)?)))
        {
            if present >> index & 1 == 0 {
                continue;
            }
            out.extend(option.class.to_be_bytes());
            out.extend([option.kind, option.len / 4]);
            let value = key.get(place).to_be_bytes();
            out.extend(value.iter().skip(value.len() - option.len as usize));
        }
        out.into_boxed_slice()
    }

    /// Puts the mapped ones of a header's options in a key. Of an option that stands there twice the last counts.
    ///
    /// # Errors
    /// [`TunnelError::Options`] if an option overruns the others' space, [`TunnelError::CriticalOption`] if one that is
    /// marked so is not mapped with its length.
    pub(super) fn decode(&self, options: &[u8], key: &mut PacketKey) -> Result<(), TunnelError> {
        for option in Options(options) {
            let (class, kind, value) = option?;
            let found = self
                .index_of(class, kind)
                .filter(|i| self.get(*i).is_some_and(|mapped| mapped.len as usize == value.len()));
            let Some((index, place)) = found.and_then(|i| Some((i, *TUN_METADATA.get(i)?))) else {
                if kind & CRITICAL != 0 {
                    return Err(TunnelError::CriticalOption);
                }
                continue;
            };
            key.set(place, value.iter().fold(0, |number, byte| number << 8 | *byte as u128));
            key.set(slot::TUN_METADATA_PRESENT, key.get(slot::TUN_METADATA_PRESENT) | 1 << index);
        }
        Ok(())
    }
}

/// Whether options to be pushed are whole ones, and if so whether one is critical.
///
/// # Errors
/// [`TunnelError::Options`] if they are not, or are longer than [`GENEVE_OPTIONS_MAX`].
pub(super) fn any_critical(options: &[u8]) -> Result<bool, TunnelError> {
    if options.len() > GENEVE_OPTIONS_MAX {
        return Err(TunnelError::Options);
    }
    let mut critical = false;
    for option in Options(options) {
        let (_, kind, _) = option?;
        critical |= kind & CRITICAL != 0;
    }
    Ok(critical)
}

/// Options one by one: class, type, value. Ends after the first that is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, u8, &'a [u8]), TunnelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.split_first_chunk::<OPTION_HEADER_LEN>().and_then(|(header, rest)| {
            // The three bits above the length are reserved and ignored.
            let &[c0, c1, kind, words] = header;
            let (value, rest) = rest.split_at_checked((words & 0x1f) as usize * 4)?;
            Some(((u16::from_be_bytes([c0, c1]), kind, value), rest))
        });
        match split {
            Some((option, rest)) => {
                self.0 = rest;
                Some(Ok(option))
            }
            None => {
                self.0 = &[];
                Some(Err(TunnelError::Options))
            }
        }
    }
}
