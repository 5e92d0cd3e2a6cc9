//! Python's watchdog: it mirrors what it is told, renames as renames.

use super::{Language, Project, last_printed, script};
use crate::support::{Shape, on_each_shape, require};

on_each_shape!(together: watchdog_mirrors_the_host);

fn watchdog_mirrors_the_host(shape: Shape) {
    // Its package is known to the Python beside its program only.
    let python = require!("watchmedo").canonicalize().expect("a program").with_file_name("python");
    let text = Language { suffix: ".txt", around: ("", "") };
    let project = Project::new(shape, text, &[]);
    let mirror = project.start(python, [script("watchdog.py")]);
    project.follow(&mirror, &[], |_| last_printed(&mirror));
}
