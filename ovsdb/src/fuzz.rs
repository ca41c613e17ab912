//! Entry points for fuzzers: any bytes, no panic.

use std::sync::Arc;

use base::time::Instant;
use serde_json::json;

use crate::client::{Client, ClientOptions};
use crate::database::Database;
use crate::schema;
use crate::session::{Server, ServerLimits, ServerOptions};

/// Feeds `data` to a server's session, in chunks whose sizes depend on the data, and to a client; then the server's own
/// state is looked at, so that a broken invariant shows.
pub fn fuzz_json(data: &[u8]) {
    let mut counter = 0u128;
    let mut server = Server::new(ServerOptions {
        entropy: Box::new(move || {
            counter += 1;
            counter.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        }),
        wall_clock_ms: Box::new(|| 0),
        limits: ServerLimits::default(),
    });
    server.add_database(Database::new(Arc::new(schema::open_vswitch().clone())), None);
    let Ok(watcher) = server.connect(None, Instant::ZERO) else { return };
    let Ok(session) = server.connect(None, Instant::ZERO) else { return };
    let watch = json!({"method": "monitor_cond", "id": 0, "params": ["Open_vSwitch", 0, {
        "Bridge": {}, "Port": {}, "Interface": {}, "Open_vSwitch": {},
    }]});
    if server.receive(watcher, watch.to_string().as_bytes(), Instant::ZERO).is_err() {
        return;
    }
    let mut rest = data;
    let mut now = Instant::ZERO;
    while !rest.is_empty() {
        let size = 1 + usize::from(rest[0]) * 7 % 4096;
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        if server.receive(session, chunk, now).is_err() {
            break;
        }
        now += std::time::Duration::from_millis(1);
        server.poll(now);
        let pending = server.output(session).len();
        server.consume_output(session, pending / 2);
    }
    server.poll(Instant::from_secs(1_000_000));
    let mut client = Client::new(ClientOptions::whole("Open_vSwitch"), None, Instant::ZERO);
    // The client trusts its server's bytes no more than the server its clients'.
    let _ = client.receive(data, Instant::ZERO);
    while client.next_event().is_some() {}
}
