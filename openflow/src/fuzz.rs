//! Entry points for fuzzers, which `tests/fuzz_corpus.rs` replays.

use crate::codec;
use crate::session::{Session, SessionConfig, SessionEvent};
use crate::version::{Dialect, FlowFormat, OfVersion, PacketInFormat};
use base::Instant;

/// Reads bytes as messages in every dialect. What is understood is written again, and what was written is read again:
/// the second reading must say what the first did, where it can be written at all.
pub fn messages(data: &[u8]) {
    for version in OfVersion::ALL {
        let mut bytes = data.to_vec();
        if let Some(first) = bytes.first_mut() {
            *first = version.wire();
        }
        for flow_mod_table_id in [false, true] {
            let dialect = Dialect {
                flow_mod_table_id,
                flow_format: FlowFormat::Nxm,
                packet_in_format: PacketInFormat::Nxt2,
                ..Dialect::new(version)
            };
            let Ok((xid, message)) = codec::decode(&dialect, &bytes) else { continue };
            let Ok(written) = codec::encode_to_vec(&dialect, xid, &message) else { continue };
            // A long reply becomes several messages.
            if written.len() > codec::MESSAGE_MAX {
                continue;
            }
            let again = codec::decode(&dialect, &written);
            assert!(again.is_ok(), "{version}: {message:?} was written as {written:02x?}: {again:?}");
        }
    }
    stream(data);
}

/// Reads bytes as what comes from a connection, in two pieces.
pub fn stream(data: &[u8]) {
    let mut session = Session::new(SessionConfig::default(), Instant::ZERO);
    let (one, two) = data.split_at(data.len() / 2);
    for piece in [one, two] {
        session.receive(piece, Instant::ZERO);
        while let Some(event) = session.poll(Instant::ZERO) {
            if let SessionEvent::Message(received) = event {
                session.refuse(received.xid, crate::OfError::BadRequestEperm, &received.quote);
            }
        }
    }
    let written = session.output().len();
    session.written(written);
}
