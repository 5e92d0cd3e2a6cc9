//! vitest: it runs the tests anew that a change concerns.

use std::collections::BTreeMap;

use super::{Language, Project, picture};
use crate::support::{Daemon, Shape, on_each_shape, require};

on_each_shape!(together: vitest_runs_again);

fn vitest_runs_again(shape: Shape) {
    let vitest = require!("vitest");
    let test = Language { suffix: ".test.js", around: ("test('", "', () => {});\n") };
    let project = Project::new(shape, test, &[("package.json", r#"{ "type": "module" }"#)]);
    let arguments = ["--watch", "--globals", "--reporter=verbose", "--pool=threads"];
    let runner = project.start(vitest, arguments);
    project.follow(&runner, &[], |_| shown(&runner));
}

/// Each part is a test named by its text: the names that passed last, less what was removed.
fn shown(runner: &Daemon) -> Option<String> {
    let mut parts = BTreeMap::new();
    for line in runner.stdout.all() {
        let Some((before, rest)) = line.split_once("parts/") else { continue };
        let Some((name, rest)) = rest.split_once(".test.js") else { continue };
        if before.contains("Test removed") {
            parts.remove(name);
        } else if let Some(test) = rest.strip_prefix(" > ") {
            let text = test.split(' ').next().unwrap_or_default();
            parts.insert(name.to_owned(), text.to_owned());
        }
    }
    Some(picture(&parts))
}
