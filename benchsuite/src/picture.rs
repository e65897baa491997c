//! A picture of lines on logarithmic axes, as an SVG with a background of its own. It refuses to
//! know what the lines are of.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const COLORS: [&str; 3] = ["#0969da", "#cf222e", "#6e7781"];
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 400.0;
/// Around the axes of a panel: room for what is written there.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 60.0;

/// Lines on one pair of axes.
pub struct Panel {
    /// What is written along the axes.
    pub x: &'static str,
    pub y: &'static str,
    pub lines: Vec<Line>,
}

/// Points from left to right, both coordinates above zero.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Writes the panels, side by side, to a file; its folder is made where there is none.
pub fn draw(panels: &[Panel], path: &Path) -> Result<()> {
    let width = WIDTH * panels.len() as f64;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#1f2328">
<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>
"##
    );
    for (index, panel) in panels.iter().enumerate() {
        svg += &format!(
            "<g transform=\"translate({} 0)\">\n{}</g>\n",
            WIDTH * index as f64,
            panel.svg()
        );
    }
    svg += "</svg>\n";
    let folder = path.parent().context("a picture is a file in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::write(path, svg).with_context(|| format!("failed to write {}", path.display()))
}

impl Panel {
    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
        let mut svg = String::new();
        for (power, at) in x.ticks() {
            svg += &format!(
                "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#d1d9e0\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 18.0,
                power_of_ten(power),
            );
        }
        for (power, at) in y.ticks() {
            svg += &format!(
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#d1d9e0\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                power_of_ten(power),
            );
        }
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 16.0,
            self.x,
        );
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        svg += &format!(
            "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            self.y
        );
        for (index, line) in self.lines.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            svg += &line.svg(&x, &y, color);
            let legend = TOP + 16.0 + 18.0 * index as f64;
            svg += &format!(
                "<path d=\"M{} {legend}h22\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
                LEFT + 12.0,
                LEFT + 40.0,
                legend + 4.0,
                line.name,
            );
        }
        svg
    }
}

impl Line {
    fn svg(&self, x: &Axis, y: &Axis, color: &str) -> String {
        let places: Vec<(f64, f64)> =
            self.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let mut svg = format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, y) in places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
        }
        svg
    }
}

/// A logarithmic axis over whole powers of ten.
struct Axis {
    /// The least and the largest power.
    powers: (i32, i32),
    /// Where those stand in the picture.
    places: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let largest = values.fold(0.0, f64::max).log10().ceil() as i32;
        Self { powers: (least, largest.max(least + 1)), places: (from, to) }
    }

    fn place(&self, value: f64) -> f64 {
        let (least, largest) = self.powers;
        let share = (value.log10() - f64::from(least)) / f64::from(largest - least);
        self.places.0 + share * (self.places.1 - self.places.0)
    }

    /// The powers of ten and where they stand.
    fn ticks(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        (self.powers.0..=self.powers.1).map(|power| (power, self.place(10f64.powi(power))))
    }
}

fn power_of_ten(power: i32) -> String {
    match power {
        0.. => crate::table::count(10u64.pow(power.unsigned_abs())),
        _ => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
    }
}
