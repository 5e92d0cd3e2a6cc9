//! chokidar, which most tools of the JavaScript world watch with: it mirrors what it is told.

use super::{Language, Project, last_printed, modules_beside, script};
use crate::support::{Shape, on_each_shape, require};

on_each_shape!(together: chokidar_mirrors_the_host);

fn chokidar_mirrors_the_host(shape: Shape) {
    let node = require!("node");
    let modules = modules_beside(&require!("nodemon"));
    let text = Language { suffix: ".txt", around: ("", "") };
    let project = Project::new(shape, text, &[]);
    let module = modules.join("chokidar/index.js");
    let mirror = project.start(node, [script("chokidar.mjs"), module]);
    project.follow(&mirror, &[], |_| last_printed(&mirror));
}
