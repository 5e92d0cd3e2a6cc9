//! `cargo watch`: it builds and runs a program at each change; cargo, too, must see what is new.

use super::{Language, Project, last_printed};
use crate::support::{Shape, on_each_shape, require};

const MANIFEST: &str = r#"
package = { name = "site", version = "0.1.0", edition = "2021" }
"#;
/// Puts the parts into the program.
const BUILD: &str = r#"
fn main() {
    println!("cargo:rerun-if-changed=parts");
    let mut shown = vec![];
    for entry in std::fs::read_dir("parts").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path).unwrap();
            shown.push(format!("{}={text}", path.file_stem().unwrap().to_str().unwrap()));
        }
    }
    shown.sort();
    println!("cargo:rustc-env=PARTS={}", shown.join(" "));
}
"#;
const PROGRAM: &str = r#"fn main() { println!("shows {}", env!("PARTS")) }"#;

on_each_shape!(together: cargo_watch_builds_and_runs);

fn cargo_watch_builds_and_runs(shape: Shape) {
    require!("cargo");
    let cargo_watch = require!("cargo-watch");
    let text = Language { suffix: ".txt", around: ("", "") };
    let files = [("Cargo.toml", MANIFEST), ("build.rs", BUILD), ("src/main.rs", PROGRAM)];
    let project = Project::new(shape, text, &files);
    let runner = project.start(cargo_watch, ["watch", "--exec", "run --quiet --offline"]);
    project.follow(&runner, &[], |_| last_printed(&runner));
}
