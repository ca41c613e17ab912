//! Frames to and from the switch's controller connection.

use std::io::Write;

use anyhow::{Context, bail};
use flowtable::text::{TextStyle, display_key, parse_actions};
use flowtable::{FieldId, FlowKey, Match, PacketInReason, Words};
use openflow::message::{self, Message, SwitchConfig};
use packet::{Frame, PacketKey};
use serde_json::{Value, json};

use super::connection::{Connection, Names};
use super::ports::find_port;
use super::text::BadText;
use crate::args::{Monitor, PacketOut};
use crate::clock::Deadline;
use crate::console::{Answer, Console, Look, Paint};
use crate::rundir::RunDir;

/// An Ethernet header (IEEE 802.3).
const FRAME_BYTES_MIN: usize = 14;

/// Reads hexadecimal digits; blanks and colons are skipped.
fn frame_of(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut digits = Vec::new();
    for (at, c) in text.chars().enumerate().filter(|(_, c)| !c.is_whitespace() && *c != ':') {
        let Some(digit) = c.to_digit(16) else {
            bail!("the frame has {c:?} at character {at}, which is no hex digit")
        };
        digits.push(digit as u8);
    }
    if digits.len() % 2 != 0 {
        bail!("the frame has an odd number of hex digits");
    }
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if bytes.len() < FRAME_BYTES_MIN {
        bail!("the frame has {} bytes; an Ethernet header alone has {FRAME_BYTES_MIN}", bytes.len());
    }
    Ok(bytes)
}

/// `packet-out`.
pub fn send(args: &PacketOut, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let data = frame_of(&args.frame)?;
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    let names = connection.names()?;
    let in_port = find_port(&args.in_port, &names)?;
    let actions = parse_actions(&args.actions, &names)
        .map_err(|error| BadText::new("actions", &args.actions, error))?;
    let mut metadata = Match::any();
    metadata.set_exact(FieldId::InPort.slot(), in_port.0.into());
    let bytes = data.len();
    connection.send(&Message::PacketOut(message::PacketOut { buffer: None, metadata, actions, data }))?;
    connection.barrier().with_context(|| format!("{}: actions {}", args.bridge, args.actions))?;
    Ok(Answer::done(json!({ "bridge": args.bridge, "bytes": bytes, "sent": true })))
}

/// `monitor`: prints until it is interrupted, or has printed enough.
///
/// # Errors
/// When the connection ends.
pub fn monitor(args: &Monitor, rundir: &RunDir, deadline: Deadline, console: &Console) -> anyhow::Result<()> {
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    let names = connection.names()?;
    // A tool's connection gets frames only once it has said how much of them it wants; the rest stays as it is.
    let config = match connection.request(&Message::GetConfigRequest)? {
        Message::GetConfigReply(config) => config,
        other => bail!("{}: no settings but {other:?}", connection.describe()),
    };
    connection.send(&Message::SetConfig(SwitchConfig { miss_send_len: u16::MAX, ..config }))?;
    connection.barrier()?;
    connection.deadline_mut().lift();
    let mut left = args.count;
    while left != Some(0) {
        let Message::PacketIn(packet) = connection.next()?.message else { continue };
        let line = if console.json {
            packet_json(&packet, &names).to_string()
        } else {
            packet_text(&packet, &names, console.paint)
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn reason(reason: PacketInReason) -> &'static str {
    match reason {
        PacketInReason::NoMatch => "no_match",
        PacketInReason::Action => "action",
        PacketInReason::InvalidTtl => "invalid_ttl",
        PacketInReason::ActionSet => "action_set",
        PacketInReason::Group => "group",
        PacketInReason::PacketOut => "packet_out",
    }
}

/// What the frame is, as a flow; nothing if it is malformed or cut too short.
fn flow_of(packet: &message::PacketIn, names: &Names) -> Option<String> {
    let mut key = FlowKey::from(PacketKey::extract(&mut Frame::from_bytes(&packet.data)).ok()?);
    key.set_slot(FieldId::InPort.slot(), packet.in_port().0.into());
    Some(display_key(&key, TextStyle::with_names(names)).to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn packet_text(packet: &message::PacketIn, names: &Names, paint: Paint) -> String {
    let flow = flow_of(packet, names).unwrap_or_else(|| format!("malformed frame {}", hex(&packet.data)));
    let notes = format!(
        "table {} cookie {:#x} {} {} bytes",
        packet.table.0,
        packet.cookie,
        reason(packet.reason),
        packet.total_len
    );
    format!("{}  {flow}", paint.text(Look::Dim, &notes))
}

fn packet_json(packet: &message::PacketIn, names: &Names) -> Value {
    json!({
        "in_port": packet.in_port().0, "table": packet.table.0, "cookie": format!("{:#x}", packet.cookie),
        "reason": reason(packet.reason), "total_len": packet.total_len, "flow": flow_of(packet, names),
        "userdata": hex(&packet.userdata), "data": hex(&packet.data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_hex() {
        let bytes = frame_of("ff:ff:ff:ff:ff:ff 020000000001 0806").unwrap();
        assert_eq!(bytes, [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
        for (bad, expected) in
            [("", "0 bytes"), ("fff", "odd"), ("0x00", "'x' at character 1"), ("00", "1 bytes")]
        {
            let error = frame_of(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
