//! npm: the tree of a real dev server is installed on the mount, and the server builds there.

use std::time::Duration;

use crate::support::{Shape, Suite, on_each_shape, require};

const PACKAGE: &str = r#"{
  "name": "site", "private": true, "type": "module",
  "scripts": { "build": "vite build" },
  "devDependencies": { "vite": "7" }
}"#;
const PAGE: &str = r#"<!doctype html><script type="module" src="/main.js"></script>"#;
const SCRIPT: &str = "import { text } from './text.js'; document.title = text;";
const TEXT: &str = "export const text = 'built on the mount';";

on_each_shape!(alone: vite_installs_and_builds);

fn vite_installs_and_builds(shape: Shape) {
    require!("npm");
    let share = shape.share().patience(Duration::from_secs(500)).start();
    let site = share.mount().join("site");
    std::fs::create_dir(&site).expect("a folder");
    for (name, content) in
        [("package.json", PACKAGE), ("index.html", PAGE), ("main.js", SCRIPT), ("text.js", TEXT)]
    {
        std::fs::write(site.join(name), content).expect("a file");
    }
    Suite::shell(
        Duration::from_secs(400),
        r#"cd "$1"
        npm install --no-audit --no-fund --prefer-offline --loglevel=error
        npm ls --all
        npm run build
        grep --recursive --quiet 'built on the mount' dist/assets
        rm -r node_modules"#,
        [&site],
    );
    assert!(share.host().join("site/dist/index.html").is_file());
    assert!(!share.host().join("site/node_modules").exists());
}
