//! The classifier against a list of rules.
