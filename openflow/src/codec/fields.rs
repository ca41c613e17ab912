//! Matches on their own as bytes, as `ovs-ofctl parse-nx-match` and `parse-oxm` show them: for tools and tests.

use super::{EncodeError, oxm};
use crate::error::OfError;
use crate::message::CookieFilter;
use crate::version::OfVersion;
use flowtable::Match;

/// Appends a match as a list of NXM (OpenFlow 1.0) or OXM fields, without padding.
///
/// # Errors
/// If the version has no field for a condition.
pub fn encode_match(version: OfVersion, matching: &Match, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    oxm::put_match(out, version, matching)
}

/// Reads a match from a list of NXM and OXM fields that fills `bytes`, and the cookie condition if there is one.
///
/// # Errors
/// As OVS answers: bad field, prerequisite, value, mask, wildcards, length, or a duplicate.
pub fn decode_match(bytes: &[u8]) -> Result<(Match, Option<CookieFilter>), OfError> {
    let fields = oxm::read_fields(bytes, oxm::Unknown::Refuse)?;
    Ok((fields.matching, fields.cookie))
}
