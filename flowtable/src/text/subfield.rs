//! Parts of fields in actions: `NXM_NX_REG0[0..15]`, `reg0`, `eth_src[]`.

use super::error::{Parsed, TextError, TextFault, fault};
use super::number::digits;
use crate::action::SubField;
use crate::field::{FIELDS, FieldId};
use std::fmt;

/// A field by any of its names: ovs-fields(7)'s, aliases, or its identifiers'.
fn field_by_name(name: &str) -> Option<FieldId> {
    let by_identifier = || FIELDS.iter().find(|f| f.oxm.iter().any(|o| o.name == name)).map(|f| f.id);
    // OpenFlow 1.0's VLAN fields are part of matches only.
    FieldId::from_name(name).filter(|id| !id.row().oxm.is_empty()).or_else(by_identifier)
}

/// A subfield.
///
/// # Errors
/// If there is no such field or it has no such bits.
pub fn parse_subfield(text: &str) -> Result<SubField, TextError> {
    subfield(text).map_err(|f| f.within(text))
}

/// A subfield that is the whole word.
pub(crate) fn subfield(word: &str) -> Parsed<SubField> {
    let (name, brackets) = match word.find('[') {
        None => (word, None),
        Some(i) => {
            let (name, rest) = word.split_at_checked(i).unwrap_or((word, ""));
            (name, Some(rest))
        }
    };
    let owned = || word.to_owned();
    let field = field_by_name(name)
        .ok_or_else(|| fault(name, TextFault::SubFieldName { word: owned(), field: name.to_owned() }))?;
    let bits = field.row().bits();
    let Some(brackets) = brackets else { return Ok(SubField { field, start: 0, width: bits }) };
    let syntax = || fault(brackets, TextFault::SubFieldSyntax(owned()));
    let close = brackets.find(']').ok_or_else(syntax)?;
    let inner = brackets.get(1..close).ok_or_else(syntax)?;
    if brackets.get(close + 1..) != Some("") {
        return Err(fault(brackets, TextFault::AfterSubField));
    }
    let bit = |s: &str| digits(s).ok().and_then(|n| u16::try_from(n).ok()).ok_or_else(syntax);
    let (start, end) = match inner.split_once("..") {
        None if inner.is_empty() => (0, bits.saturating_sub(1)),
        None => (bit(inner)?, bit(inner)?),
        Some((start, end)) => (bit(start)?, bit(end)?),
    };
    if start > end {
        return Err(fault(brackets, TextFault::SubFieldOrder { word: owned(), start, end }));
    }
    if end >= bits {
        return Err(fault(brackets, TextFault::SubFieldEnd { word: owned(), end, bits }));
    }
    Ok(SubField { field, start, width: end - start + 1 })
}

/// See [`display_subfield`].
#[derive(Clone, Copy, Debug)]
pub struct DisplaySubField(SubField);

/// A subfield with Nicira's name of the field: `NXM_NX_REG0[]`, `OXM_OF_METADATA[3]`, `NXM_OF_ETH_SRC[0..15]`.
pub fn display_subfield(subfield: SubField) -> DisplaySubField {
    DisplaySubField(subfield)
}

impl fmt::Display for DisplaySubField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SubField { field, start, width } = self.0;
        let row = field.row();
        f.write_str(row.subfield_name().unwrap_or(row.name))?;
        if start == 0 && width == row.bits() {
            f.write_str("[]")
        } else if width == 1 {
            write!(f, "[{start}]")
        } else {
            write!(f, "[{start}..{}]", start.saturating_add(width).saturating_sub(1))
        }
    }
}
