//! vite's dev server: a page that is open in a browser shows each change.
//!
//! The browser is `vite-client.mjs`: it loads the page's modules, hears the server's messages, and
//! loads again what they name, under the address that they name.

use super::{Language, PATIENCE, Project, last_printed, modules_beside, script};
use crate::support::{Shape, on_each_shape, require};

const PAGE: &str = r#"<!doctype html><script type="module" src="/main.js"></script>"#;
const MAIN: &str = r"
const parts = import.meta.glob('./parts/*.js', { eager: true, import: 'default' });
document.title = Object.entries(parts).join();
import.meta.hot.accept();
";

on_each_shape!(together: vite_reloads_the_page);

fn vite_reloads_the_page(shape: Shape) {
    let node = require!("node");
    let vite = require!("vite");
    let websocket = modules_beside(&vite).join("ws/index.js");
    let module = Language { suffix: ".js", around: ("export default '", "';\n") };
    let project = Project::new(shape, module, &[("index.html", PAGE), ("main.js", MAIN)]);
    let server = project.start(vite, ["--host", "127.0.0.1"]);
    let ready = server.stdout.wait_for(PATIENCE, |line| line.contains("http://"));
    let ready = ready.unwrap_or_else(|| panic!("vite has not started: {}", server.report()));
    let url = ready.split_whitespace().last().expect("an address");
    let client = script("vite-client.mjs");
    let arguments = [client.as_os_str(), websocket.as_os_str(), url.as_ref()];
    let browser = project.start(node, arguments);
    project.follow(&browser, &[&server], |_| last_printed(&browser));
}
