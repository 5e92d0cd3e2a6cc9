//! nodemon: it starts a server anew at each change.

use super::{Language, Project, last_printed};
use crate::support::{Shape, on_each_shape, require};

/// Runs until nodemon ends it, as a server does.
const SERVER: &str = r"
const fs = require('node:fs');
const parts = fs.readdirSync('parts').filter(name => name.endsWith('.txt')).sort();
const shown = parts.map(name => `${name.slice(0, -4)}=${fs.readFileSync(`parts/${name}`, 'utf8')}`);
console.log(['shows', ...shown].join(' '));
setInterval(() => {}, 1000);
";

on_each_shape!(together: nodemon_restarts);

fn nodemon_restarts(shape: Shape) {
    let nodemon = require!("nodemon");
    let text = Language { suffix: ".txt", around: ("", "") };
    let project = Project::new(shape, text, &[("server.js", SERVER)]);
    let runner = project.start(nodemon, ["--no-stdin", "--ext", "js,txt", "server.js"]);
    project.follow(&runner, &[], |_| last_printed(&runner));
}
