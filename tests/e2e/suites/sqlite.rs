//! SQLite in WAL mode: two processes write at once, and the database stays whole. It lives from
//! locks on ranges, from a shared mapping that both see, and from what `fsync` promises.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Shape, Suite, on_each_shape, require};

const TRANSACTIONS: u32 = 1_500;

on_each_shape!(alone: two_wal_writers_keep_a_database_whole);

fn two_wal_writers_keep_a_database_whole(shape: Shape) {
    let sqlite = require!("sqlite3");
    let share = shape.mounted();
    let database = share.mount().join("database");
    let sql = |path: &std::path::Path, statement: &str| {
        let mut command = Command::new(&sqlite);
        command.arg("-bail").arg(path).arg(statement);
        Suite::run(statement, Duration::from_secs(60), &mut command)
            .succeeds()
            .log
            .trim()
            .to_owned()
    };
    let create = "PRAGMA journal_mode=WAL; CREATE TABLE t(who TEXT, n INTEGER, filler BLOB);";
    assert_eq!(sql(&database, create), "wal");

    let writers: Vec<_> = ["a", "b"]
        .map(|who| {
            let script = share.scratch().path().join(who);
            std::fs::write(&script, transactions(who)).expect("a script");
            let mut command = Command::new("timeout");
            command.args(["-k", "5", "150"]).arg(&sqlite).arg("-bail").arg(&database);
            command.stdin(std::fs::File::open(script).expect("a script")).stdout(Stdio::null());
            command.spawn().expect("sqlite3")
        })
        .into();
    for mut writer in writers {
        assert!(writer.wait().expect("wait").success(), "a writer failed");
    }

    let count = "SELECT count(*) || ' ' || count(DISTINCT who || n) FROM t;";
    let expected = format!("{0} {0}", 2 * TRANSACTIONS);
    assert_eq!(sql(&database, count), expected);
    assert_eq!(sql(&database, "PRAGMA integrity_check;"), "ok");
    assert_eq!(sql(&share.host().join("database"), count), expected, "on the host");
    assert_eq!(sql(&share.host().join("database"), "PRAGMA integrity_check;"), "ok");
}

fn transactions(who: &str) -> String {
    let mut script = String::from(".timeout 120000\n");
    for n in 0..TRANSACTIONS {
        let insert = format!("INSERT INTO t VALUES('{who}', {n}, randomblob({}))", n % 3000);
        writeln!(script, "BEGIN IMMEDIATE; {insert}; COMMIT;").expect("a string");
    }
    script
}
