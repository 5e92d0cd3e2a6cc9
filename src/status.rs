//! `osxfs status`: what the running servers and agents of this user are doing.

use crate::cli::StatusArgs;
use crate::control;
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

/// Prints the state of every running server and agent.
pub fn run(args: &StatusArgs) -> Result<()> {
    let processes = control::ask_all()?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&processes)?);
    } else if processes.is_empty() {
        println!("no server or agent is running");
    } else {
        for process in &processes {
            print!("{}", describe(process)?);
        }
    }
    Ok(())
}

/// A process in words: one line for its server, one for each export, agent and mount.
fn describe(process: &Value) -> Result<String, std::fmt::Error> {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let each = |key: &str| process[key].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    if process["exports"].is_array() {
        writeln!(
            out,
            "server {}: {} operations, {} read, {} written, {} leases, {} events",
            number(process, "pid"),
            number(process, "operations"),
            bytes(number(process, "bytes_read")),
            bytes(number(process, "bytes_written")),
            number(process, "leases"),
            number(process, "events"),
        )?;
    } else {
        writeln!(out, "agent {}:", number(process, "pid"))?;
    }
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
        writeln!(
            out,
            "    {} hints, {} echoes dropped, {} changes, {} queued, delay {}, {} folders compared again",
            number(&export, "hints"),
            number(&export, "echoes"),
            number(&export, "changes"),
            number(&export, "queued"),
            delay(&export),
            number(&export, "comparisons"),
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
        if number(&agent, "unwatched") > 0 {
            writeln!(
                out,
                "    too few watches: {} leases, {} given up, {} folders compared in turn",
                number(&agent, "leases"),
                number(&agent, "given_up"),
                number(&agent, "unwatched"),
            )?;
        }
    }
    for mount in each("mounts") {
        writeln!(
            out,
            "  mount {}: {} ({} changes, {} injected, {} waiting, delay {}, {} given up, {} folders compared again)",
            text(&mount, "export"),
            text(&mount, "mount_point"),
            number(&mount, "changes"),
            number(&mount, "injected"),
            number(&mount, "waiting"),
            delay(&mount),
            number(&mount, "given_up"),
            number(&mount, "compared_directories"),
        )?;
    }
    Ok(out)
}

/// How long changes took: half of them, and 99 of 100.
fn delay(mount: &Value) -> String {
    let millis = |key: &str| mount[key].as_f64().map(|micros| micros / 1000.0);
    match (millis("delay_p50_us"), millis("delay_p99_us")) {
        (Some(half), Some(most)) => format!("{half:.2} ms, 99 % below {most:.2} ms"),
        _ => "not known yet".to_owned(),
    }
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
            "exports": [{"name": "src", "path": "/src", "read_only": true, "consistency": "cached", "ownership": "map",
                "hints": 8, "echoes": 5, "changes": 2, "queued": 1, "delay_p50_us": 512, "delay_p99_us": 2048, "comparisons": 4}],
            "agents": [
                {"name": "vm", "nodes": 5, "handles": 1, "operations": 12, "leases": 3, "unwatched": 0},
                {"name": "short", "leases": 6, "unwatched": 45, "given_up": 12},
            ],
        });
        assert_eq!(
            describe(&server).unwrap(),
            "server 7: 12 operations, 2.0 KiB read, 0 B written, 3 leases, 1 events\n  \
             export src: /src (read-only, cached, ownership map)\n    \
             8 hints, 5 echoes dropped, 2 changes, 1 queued, delay 0.51 ms, 99 % below 2.05 ms, 4 folders compared again\n  \
             agent vm: 5 nodes, 1 open, 12 operations\n  \
             agent short: 0 nodes, 0 open, 0 operations\n    \
             too few watches: 6 leases, 12 given up, 45 folders compared in turn\n"
        );
    }

    #[test]
    fn an_agent_is_described_with_its_mounts() {
        let agent = serde_json::json!({"pid": 8, "mounts": [{
            "export": "src", "mount_point": "/mnt", "changes": 9, "injected": 7, "waiting": 1,
            "delay_p50_us": 250, "delay_p99_us": 4000, "given_up": 2, "compared_directories": 3,
        }, {"export": "new", "mount_point": "/new"}]});
        assert_eq!(
            describe(&agent).unwrap(),
            "agent 8:\n  \
             mount src: /mnt (9 changes, 7 injected, 1 waiting, delay 0.25 ms, 99 % below 4.00 ms, 2 given up, 3 folders compared again)\n  \
             mount new: /new (0 changes, 0 injected, 0 waiting, delay not known yet, 0 given up, 0 folders compared again)\n"
        );
    }
}
