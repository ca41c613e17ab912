//! How text is printed and where port names come from.

use crate::port::OfPort;
use std::collections::BTreeMap;

/// Names of a bridge's ports.
pub trait PortNames {
    /// The port with a name.
    fn number(&self, name: &str) -> Option<OfPort>;
    /// The name of a port.
    fn name(&self, port: OfPort) -> Option<&str>;
}

/// No port has a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPortNames;

impl PortNames for NoPortNames {
    fn number(&self, _: &str) -> Option<OfPort> {
        None
    }
    fn name(&self, _: OfPort) -> Option<&str> {
        None
    }
}

impl PortNames for BTreeMap<OfPort, String> {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.iter().find(|(_, n)| *n == name).map(|(port, _)| *port)
    }
    fn name(&self, port: OfPort) -> Option<&str> {
        self.get(&port).map(String::as_str)
    }
}

/// What OpenFlow versions print differently for the same action.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    /// OpenFlow 1.0: `strip_vlan`.
    #[default]
    OpenFlow10,
    /// OpenFlow 1.1 and later: `pop_vlan`.
    OpenFlow11,
}

/// How to print.
#[derive(Clone, Copy)]
pub struct TextStyle<'a> {
    /// Names to print instead of port numbers.
    pub names: &'a dyn PortNames,
    /// Which version's words to use.
    pub dialect: Dialect,
}

impl Default for TextStyle<'_> {
    fn default() -> Self {
        TextStyle { names: &NoPortNames, dialect: Dialect::OpenFlow10 }
    }
}

impl<'a> TextStyle<'a> {
    /// With names of ports.
    pub fn with_names(names: &'a dyn PortNames) -> Self {
        TextStyle { names, ..TextStyle::default() }
    }

    /// The same in another dialect.
    #[must_use]
    pub fn dialect(self, dialect: Dialect) -> Self {
        TextStyle { dialect, ..self }
    }
}
