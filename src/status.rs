//! `osxfs status`: what the running servers of this user are doing.

use crate::cli::StatusArgs;
use crate::control;
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

/// Prints the state of every running server.
pub fn run(args: &StatusArgs) -> Result<()> {
    let servers = control::ask_all()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&servers)?);
    } else if servers.is_empty() {
        println!("no server is running");
    } else {
        for server in &servers {
            print!("{}", describe(server)?);
        }
    }
    Ok(())
}

/// A server in words: one line for it, one for each export and agent.
fn describe(server: &Value) -> Result<String, std::fmt::Error> {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let each = |key: &str| server[key].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    writeln!(
        out,
        "server {}: {} operations, {} read, {} written, {} leases, {} events",
        number(server, "pid"),
        number(server, "operations"),
        bytes(number(server, "bytes_read")),
        bytes(number(server, "bytes_written")),
        number(server, "leases"),
        number(server, "events"),
    )?;
    for export in each("exports") {
        let access = if export["read_only"] == true { "read-only" } else { "read-write" };
        writeln!(
            out,
            "  export {}: {} ({access}, {}, ownership {})",
            text(&export, "name"),
            text(&export, "path"),
            text(&export, "consistency"),
            text(&export, "ownership"),
        )?;
    }
    for agent in each("agents") {
        writeln!(
            out,
            "  agent {}: {} nodes, {} open, {} operations",
            text(&agent, "name"),
            number(&agent, "nodes"),
            number(&agent, "handles"),
            number(&agent, "operations"),
        )?;
    }
    Ok(out)
}

/// An amount of bytes as people write it.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_with_the_largest_unit_below_them() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_server_is_described_in_a_line_for_each_thing() {
        let server = serde_json::json!({
            "pid": 7, "operations": 12, "bytes_read": 2048, "bytes_written": 0, "leases": 3, "events": 1,
            "exports": [{"name": "src", "path": "/src", "read_only": true, "consistency": "cached", "ownership": "map"}],
            "agents": [{"name": "vm", "nodes": 5, "handles": 1, "operations": 12}],
        });
        assert_eq!(
            describe(&server).unwrap(),
            "server 7: 12 operations, 2.0 KiB read, 0 B written, 3 leases, 1 events\n  \
             export src: /src (read-only, cached, ownership map)\n  \
             agent vm: 5 nodes, 1 open, 12 operations\n"
        );
    }
}
