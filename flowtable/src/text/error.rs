//! What can be wrong with flow text.

use thiserror::Error;

/// Why text is not a flow, a match or a list of actions, and where.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{fault}")]
pub struct TextError {
    /// What is wrong; names the word at fault.
    pub fault: TextFault,
    /// Where the word begins, in bytes from the start of the text.
    pub at: usize,
}

/// What is wrong. Where ovs-ofctl has a message for it, this is that message.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TextFault {
    /// A flow to be added or modified has no `actions=`.
    #[error("must specify an action")]
    NoActions,
    /// `KEY=VALUE` with a key that has no meaning here.
    #[error("unknown keyword {0}")]
    UnknownKeyword(String),
    /// A key that needs a value.
    #[error("field {0} missing value")]
    MissingValue(String),
    /// A field of Open vSwitch that this switch does not have.
    #[error("field {0} is not supported")]
    UnsupportedField(String),
    /// Not a number, or not in the range of `what`.
    #[error("invalid {what} \"{word}\"")]
    Number {
        /// What should have stood there.
        what: &'static str,
        /// The word.
        word: String,
    },
    /// Not a number.
    #[error("invalid numeric format {0}")]
    NumberFormat(String),
    /// No number.
    #[error("missing required numeric argument")]
    NoNumber,
    /// Not the number of a table.
    #[error("unknown table \"{0}\"")]
    UnknownTable(String),
    /// Additions have one cookie.
    #[error("flow additions cannot use a cookie mask")]
    CookieMaskInAdd,
    /// A cookie without mask where no cookie is set.
    #[error("cannot set cookie (to match on a cookie, specify a mask, e.g. cookie=1/-1)")]
    CookieWithoutMask,
    /// `out_port` is no port.
    #[error("{0} is not a valid OpenFlow port")]
    NotAPort(String),
    /// A field's value is no port.
    #[error("{word}: invalid or unknown port for {field}")]
    FieldPort {
        /// The word.
        word: String,
        /// The field.
        field: &'static str,
    },
    /// The field can be matched exactly only.
    #[error("{word}: invalid mask for field {field}")]
    Mask {
        /// The word.
        word: String,
        /// The field.
        field: &'static str,
    },
    /// A field's value is no number.
    #[error("{word}: bad syntax for {field} value")]
    ValueSyntax {
        /// The word.
        word: String,
        /// The field.
        field: &'static str,
    },
    /// A field's mask is no number.
    #[error("{word}: bad syntax for {field} mask")]
    MaskSyntax {
        /// The word.
        word: String,
        /// The field.
        field: &'static str,
    },
    /// The number needs more bytes.
    #[error("{word}: value too large for {bytes}-byte field {field}")]
    TooLarge {
        /// The word.
        word: String,
        /// Bytes of the field.
        bytes: u8,
        /// The field.
        field: &'static str,
    },
    /// The number has bits that the field does not have.
    #[error("{word} is not a valid value for field {field}")]
    NotAValue {
        /// The word.
        word: String,
        /// The field.
        field: &'static str,
    },
    /// Not `aa:bb:cc:dd:ee:ff`.
    #[error("{0}: invalid Ethernet address")]
    Ethernet(String),
    /// Not `a.b.c.d`.
    #[error("{0}: invalid IP address")]
    Ipv4(String),
    /// A prefix longer than an IPv4 address.
    #[error("{0}: IPv4 network prefix bits not between 0 and 32, inclusive")]
    Ipv4Prefix(String),
    /// Not an address of RFC 4291.
    #[error("{0}: invalid IPv6 address")]
    Ipv6(String),
    /// A prefix longer than an IPv6 address.
    #[error("{0}: IPv6 network prefix bits not between 0 and 128, inclusive")]
    Ipv6Prefix(String),
    /// Not a kind of fragment.
    #[error(
        "{0}: unknown fragment type (valid types are \"no\", \"yes\", \"first\", \"later\", \"not_later\")"
    )]
    Fragment(String),
    /// Not a flag of the field.
    #[error("{word}: unknown {what} flag(s)")]
    Flag {
        /// The word.
        word: String,
        /// Whose flags.
        what: &'static str,
    },
    /// A flag that stands twice among `+` and `-`.
    #[error("{word}: Each {what} flag can be specified only once")]
    FlagTwice {
        /// The flag.
        word: String,
        /// Whose flags.
        what: &'static str,
    },
    /// No action has this name.
    #[error("unknown action {0}")]
    UnknownAction(String),
    /// An action of Open vSwitch that this switch does not have.
    #[error("action {0} is not supported")]
    UnsupportedAction(String),
    /// `output` to something that is neither port nor subfield.
    #[error("{0}: output to unknown port")]
    OutputPort(String),
    /// `enqueue` to no port.
    #[error("{0}: enqueue to unknown port")]
    EnqueuePort(String),
    /// `enqueue` with something missing.
    #[error("\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\"")]
    EnqueueSyntax,
    /// `resubmit` to no port.
    #[error("{0}: resubmit to unknown port")]
    ResubmitPort(String),
    /// `resubmit` to no table.
    #[error("{0}: resubmit to unknown table")]
    ResubmitTable(String),
    /// `resubmit` that would change nothing.
    #[error("at least one \"in_port\" or \"table\" must be specified on resubmit")]
    ResubmitNothing,
    /// Parameter that an action does not have.
    #[error("{0}: unknown parameter")]
    Parameter(String),
    /// An action needs an output port that frames can be sent to.
    #[error("actions are invalid with specified match (OFPBAC_BAD_OUT_PORT)")]
    BadOutPort,
    /// Truncated output to a port that is none.
    #[error("output to unsupported truncate port: {0}")]
    TruncatePort(String),
    /// Truncated output to less than an Ethernet header.
    #[error("max_len {0} is less than the minimum value 14")]
    TruncateLength(u32),
    /// Not a reason for a packet-in.
    #[error("unknown reason \"{0}\"")]
    Reason(String),
    /// Not a parameter of `controller`.
    #[error("unknown key \"{0}\" parsing controller action")]
    ControllerKey(String),
    /// Not hexadecimal bytes.
    #[error("bad hex digit in `{0}' argument")]
    Hex(&'static str),
    /// Not hexadecimal bytes.
    #[error("bad hex digit in `controller' action `userdata'")]
    UserdataHex,
    /// A number out of the range of an action's argument.
    #[error("{word}: not a valid {what}")]
    NotValid {
        /// The word.
        word: String,
        /// What should have stood there.
        what: &'static str,
    },
    /// Not a MAC address in an action.
    #[error("invalid mac address {0}")]
    Mac(String),
    /// Not an IPv4 address in an action.
    #[error("{0}: could not convert to IP address")]
    ActionIp(String),
    /// No `->`.
    #[error("{0}: missing `->'")]
    NoArrow(String),
    /// No `->` after a source.
    #[error("{0}: missing `->' following source")]
    NoArrowAfterSource(String),
    /// Nothing after `->`.
    #[error("{0}: missing field name following `->'")]
    NoFieldName(String),
    /// Not a field that `set_field` knows.
    #[error("{0} is not a valid OXM field name")]
    NotAnOxmField(String),
    /// An action would write a field that cannot be written.
    #[error("{0} is read-only")]
    ReadOnly(&'static str),
    /// Fields of connections are written by the connection tracker.
    #[error("cannot set CT fields outside of ct action")]
    CtField,
    /// Only the connection's own fields can be written within `ct`.
    #[error("{outer} action doesn't support nested modification of {field}")]
    NestedField {
        /// The action around it.
        outer: &'static str,
        /// The field it writes.
        field: &'static str,
    },
    /// An action that may not stand within another.
    #[error("{outer} action doesn't support nested action {action}")]
    NestedAction {
        /// The action around it.
        outer: &'static str,
        /// The action.
        action: &'static str,
    },
    /// Parameter that `ct` does not have.
    #[error("invalid argument to \"ct\" action: `{0}'")]
    CtArgument(String),
    /// `alg` with a protocol that has none.
    #[error("invalid conntrack helper \"{0}\"")]
    CtAlg(String),
    /// `table=255`.
    #[error("invalid table {0:#x}")]
    CtTable(u8),
    /// `zone` of a subfield that is not 16 bits wide.
    #[error("zone n_bits {0} not within valid range [16..16]")]
    ZoneWidth(u16),
    /// `force` alone.
    #[error("\"force\" flag requires \"commit\" flag.")]
    ForceWithoutCommit,
    /// Marks and translation are kept by a commit only.
    #[error("CT action requires commit flag if actions other than NAT without arguments are specified.")]
    NeedsCommit,
    /// `nat` as an action of its own.
    #[error("Cannot have NAT action outside of \"ct\" action")]
    NatOutsideCt,
    /// More than one `nat` in a `ct`.
    #[error("only one \"nat\" is allowed in a \"ct\" action")]
    TwoNats,
    /// Parameter that `nat` does not have.
    #[error("invalid key \"{0}\" in \"nat\" argument")]
    NatKey(String),
    /// Both ends at once.
    #[error("May only specify one of \"src\" or \"dst\".")]
    NatKinds,
    /// A flag without an end.
    #[error("Flags allowed only with \"src\" or \"dst\".")]
    NatFlags,
    /// Two ways to choose.
    #[error("Both \"hash\" and \"random\" are not allowed.")]
    NatHashAndRandom,
    /// Not addresses and ports, or a last one before the first.
    #[error("invalid nat range \"{0}\"")]
    NatRange(String),
    /// Something behind addresses and ports.
    #[error("garbage ({rest}) after nat range \"{range}\" (pos: {pos})")]
    NatGarbage {
        /// What follows.
        rest: String,
        /// The argument.
        range: String,
        /// Where it follows.
        pos: usize,
    },
    /// `check_pkt_larger` into more than one bit.
    #[error("Only 1-bit destination field is allowed")]
    OneBit,
    /// `meter:0`, or a number beyond the highest.
    #[error("actions are invalid with specified match (OFPMMFC_INVALID_METER)")]
    InvalidMeter,
    /// A subfield of a field that does not exist.
    #[error("{word}: unknown field `{field}'")]
    SubFieldName {
        /// The subfield.
        word: String,
        /// The part that should be a field.
        field: String,
    },
    /// What stands in a subfield's brackets.
    #[error("{0}: syntax error expecting [] or [<bit>] or [<start>..<end>]")]
    SubFieldSyntax(String),
    /// A subfield beyond the field.
    #[error("{word}: ending bit {end} is not valid because field is only {bits} bits wide")]
    SubFieldEnd {
        /// The subfield.
        word: String,
        /// Its last bit.
        end: u16,
        /// Width of the field.
        bits: u16,
    },
    /// A subfield that ends before it starts.
    #[error("{word}: starting bit {start} is after ending bit {end}")]
    SubFieldOrder {
        /// The subfield.
        word: String,
        /// Its first bit.
        start: u16,
        /// Its last bit.
        end: u16,
    },
    /// Something behind a subfield.
    #[error("unexpected input following field syntax")]
    AfterSubField,
    /// `load` of something that is not a number.
    #[error("{0}: cannot parse integer value")]
    LoadValue(String),
    /// `load` of a number that its destination has no room for.
    #[error("{word}: value {value:#x} does not fit into {bits} bits")]
    LoadWidth {
        /// The argument.
        word: String,
        /// The number.
        value: u128,
        /// Room for it.
        bits: u16,
    },
    /// `move` between different widths.
    #[error("{word}: source field is {src} bits wide but destination is {dst} bits wide")]
    MoveWidth {
        /// The argument.
        word: String,
        /// Width of the source.
        src: u16,
        /// Width of the destination.
        dst: u16,
    },
    /// `drop` beside other actions.
    #[error("\"drop\" must not be accompanied by any other action or instruction")]
    DropNotAlone,
    /// Instructions in an order that OpenFlow 1.1 cannot express.
    #[error(
        "invalid instruction ordering: {late} must appear before {early}, for OpenFlow 1.1+ compatibility"
    )]
    Order {
        /// What stands too late.
        late: &'static str,
        /// What stands before it.
        early: &'static str,
    },
    /// An instruction that stands twice.
    #[error("duplicate {0} instruction not allowed, for OpenFlow 1.1+ compatibility")]
    Duplicate(&'static str),
    /// An instruction within an action set.
    #[error("{0} instruction not allowed here")]
    NotHere(&'static str),
    /// Actions read or write fields of frames that the match does not promise.
    #[error("actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)")]
    MatchInconsistent,
    /// `goto_table` to this table or one before.
    #[error("actions are invalid with specified match (OFPBIC_BAD_TABLE_ID)")]
    GotoBackwards,
    /// More words, actions or bytes than a flow may have.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// About a group.
    #[error("{0}")]
    Group(#[from] super::group::GroupFault),
    /// About a meter.
    #[error("{0}")]
    Meter(#[from] super::meter::MeterFault),
    /// In a key: no such field.
    #[error("unknown field {0}")]
    UnknownField(String),
    /// In a key: what precedes does not say that frames have this field.
    #[error("prerequisites not met for setting {0}")]
    Prerequisite(String),
    /// In a key: a value that is none.
    #[error("bad value for {key} ({fault})")]
    BadValue {
        /// The field as it was called.
        key: String,
        /// What is wrong with its value.
        fault: Box<TextFault>,
    },
    /// In a key: a masked value.
    #[error("{0}: wildcards not allowed here")]
    Wildcard(String),
}

/// A fault and the word it is about, as a part of the text being read.
#[derive(Debug)]
pub(crate) struct Fault {
    fault: TextFault,
    address: usize,
}

impl Fault {
    /// The position of `word` within `text`; 0 if it is no part of it.
    pub(crate) fn within(self, text: &str) -> TextError {
        let at = self.address.checked_sub(text.as_ptr() as usize).filter(|at| *at <= text.len());
        TextError { fault: self.fault, at: at.unwrap_or(0) }
    }

    /// The same place with another fault.
    pub(crate) fn map(self, f: impl FnOnce(TextFault) -> TextFault) -> Fault {
        Fault { fault: f(self.fault), address: self.address }
    }
}

/// Result of reading a part of a text.
pub(crate) type Parsed<T> = Result<T, Fault>;

/// A fault at `word`.
pub(crate) fn fault(word: &str, fault: TextFault) -> Fault {
    Fault { fault, address: word.as_ptr() as usize }
}
