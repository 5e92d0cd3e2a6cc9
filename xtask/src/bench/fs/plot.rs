//! The same figures as a picture: of each row the time of every file system as a multiple of one of
//! them, on a logarithmic scale.

use std::fmt::Write as _;

use super::results::Results;

/// Pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const ROW: f64 = 24.0;

/// The scale.
const LEAST: f64 = 0.1;
const MARKS: [f64; 11] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

/// Draws it as SVG.
pub fn svg(results: &Results) -> String {
    let rows: Vec<_> = results.rows().collect();
    let to = results.contest.measures[0];
    let shown = || results.contest.systems.iter().copied().filter(|&system| system != to);
    let height = TOP + ROW * rows.len() as f64 + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut text = |x: f64, y: f64, anchor: &str, color: &str, text: &str| {
        _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{text}</text>"
        );
    };
    text(8.0, 20.0, "start", "#222222", &format!("time, times that of {}", to.name()));
    for (index, system) in shown().enumerate() {
        let name = format!("● {}", system.name());
        text(LEFT + 130.0 * index as f64, 20.0, "start", system.color(), &name);
    }
    for mark in MARKS {
        text(x(mark), TOP - 12.0, "middle", "#666666", &format!("{mark}"));
    }
    for (index, row) in rows.iter().enumerate() {
        let name = row.name().replace('`', "");
        text(LEFT - 12.0, y(index) + 4.0, "end", "#222222", &name);
    }
    for mark in MARKS {
        let (x, color) = (x(mark), if mark == 1.0 { "#444444" } else { "#dddddd" });
        let bottom = height - 16.0;
        _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{color}\"/>"
        );
    }
    for (index, &row) in rows.iter().enumerate() {
        for system in shown() {
            let Some(ratio) = results.ratio(row, system, to) else { continue };
            let (x, y, color) = (x(ratio), y(index), system.color());
            _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{color}\" fill-opacity=\"0.85\"/>"
            );
        }
    }
    svg + "</svg>\n"
}

/// Where a ratio stands; what is beyond an end stands at it.
fn x(ratio: f64) -> f64 {
    let most = MARKS[MARKS.len() - 1];
    let part = (ratio.clamp(LEAST, most) / LEAST).ln() / (most / LEAST).ln();
    LEFT + part * (WIDTH - LEFT - RIGHT)
}

/// The middle of a row.
fn y(index: usize) -> f64 {
    TOP + ROW * (index as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_has_ends() {
        assert!((x(2.0) - x(1.0) - (x(200.0) - x(100.0))).abs() < 1e-6);
        assert_eq!(x(0.001), LEFT);
        assert!((x(1e9) - (WIDTH - RIGHT)).abs() < 1e-6);
    }
}
