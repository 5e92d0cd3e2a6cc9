//! `tsc --watch`: each change ends in the JavaScript that it writes.

use std::collections::BTreeMap;
use std::fs;

use super::{Language, Project, picture};
use crate::support::{Daemon, Shape, on_each_shape, require};

const CONFIG: &str = r#"{
  "compilerOptions": { "outDir": "out", "listFiles": true, "types": [], "lib": ["es5"] },
  "include": ["parts"]
}"#;
const BEFORE: &str = "export const text: string = \"";
const AFTER: &str = "\";\n";

on_each_shape!(together: tsc_compiles);

fn tsc_compiles(shape: Shape) {
    let tsc = require!("tsc");
    let script = Language { suffix: ".ts", around: (BEFORE, AFTER) };
    let project = Project::new(shape, script, &[("tsconfig.json", CONFIG)]);
    let compiler = project.start(tsc, ["--watch"]);
    project.follow(&compiler, &[], |project| shown(project, &compiler));
}

/// What the files of the last complete run have become. What has gone stays in `out`.
fn shown(project: &Project, compiler: &Daemon) -> Option<String> {
    let lines = compiler.stdout.all();
    let end = lines.iter().rposition(|line| line.contains("Found 0 errors"))?;
    let before = &lines[..end];
    let start = before.iter().rposition(|line| line.contains("Starting")).unwrap_or(0);
    let names = before[start..].iter().filter_map(|line| {
        line.rsplit_once("/parts/").and_then(|(_, name)| name.strip_suffix(".ts"))
    });
    let mut parts = BTreeMap::new();
    for name in names {
        let compiled = fs::read_to_string(project.guest().join(format!("out/{name}.js"))).ok()?;
        let text = compiled.split('"').rev().nth(1)?.to_owned();
        parts.insert(name, text);
    }
    Some(picture(&parts))
}
