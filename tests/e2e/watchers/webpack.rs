//! `webpack --watch`: each change ends in the bundle, which is run to see it.

use super::{Language, Project, last_printed};
use crate::support::{Shape, on_each_shape, require};

const CONFIG: &str = r"
const bundle = require('node:path').resolve('dist/main.js');
module.exports = {
    mode: 'development',
    devtool: false,
    target: 'node',
    plugins: [{
        apply(compiler) {
            compiler.hooks.done.tap('run', () => {
                delete require.cache[bundle];
                require(bundle);
            });
        },
    }],
};
";
const ENTRY: &str = r"
const context = require.context('../parts', false, /\.js$/);
const shown = context.keys().sort().map(key => `${key.slice(2, -3)}=${context(key)}`);
console.log(['shows', ...shown].join(' '));
";

on_each_shape!(together: webpack_bundles);

fn webpack_bundles(shape: Shape) {
    let webpack = require!("webpack");
    let script = Language { suffix: ".js", around: ("module.exports = '", "';\n") };
    let files = [("webpack.config.js", CONFIG), ("src/index.js", ENTRY)];
    let project = Project::new(shape, script, &files);
    let bundler = project.start(webpack, ["--watch"]);
    project.follow(&bundler, &[], |_| last_printed(&bundler));
}
