//! cargo: a small workspace compiles, tests and recompiles with its target folder on the mount.

use std::time::Duration;

use crate::support::{Shape, Suite, on_each_shape, require};

on_each_shape!(alone: a_workspace_builds_and_rebuilds);

fn a_workspace_builds_and_rebuilds(shape: Shape) {
    require!("cargo");
    let share = shape.mounted();
    Suite::shell(
        Duration::from_secs(200),
        r#"cd "$1"
        unset CARGO_TARGET_DIR RUSTFLAGS
        mkdir -p src part/src
        cat > Cargo.toml << 'TOML'
workspace.members = ["part"]
package = { name = "whole", version = "0.1.0", edition = "2021" }
dependencies.part.path = "part"
TOML
        printf '[package]\nname = "part"\nversion = "0.1.0"\nedition = "2021"\n' > part/Cargo.toml
        echo 'pub fn number() -> u32 { 1 } #[test] fn one() { assert!(number() > 0) }' > part/src/lib.rs
        echo 'fn main() { println!("{}", part::number()) }' > src/main.rs
        test "$(cargo run --quiet --offline)" = 1
        cargo test --quiet --offline --workspace
        sleep 1
        sed -i 's/{ 1 }/{ 2 }/' part/src/lib.rs
        test "$(cargo run --quiet --offline)" = 2
        cargo build --offline 2>&1 | grep --invert-match Compiling
        cargo clean --quiet
        test ! -e target"#,
        [share.mount()],
    );
}
