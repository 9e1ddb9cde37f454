//! Charts of what was measured, as SVG: text, lines and rectangles, written by hand.

use crate::{
    measure::Row,
    table::{ratios, short},
    workloads::alloc::{PUBLISHED, churn::BY_LIVE_BLOCKS},
};
use std::{fmt::Write as _, fs, io, path::Path};

/// Whom sharena is compared with in the chart of ratios, where a row has one of them; the first one
/// counts.
const RIVALS: [&str; 6] = [
    "mimalloc",
    "hashbrown",
    "std",
    "parking_lot",
    "parking_lot+hashbrown",
    "tmpfs",
];

/// Writes the charts for which something was measured.
pub(crate) fn write(folder: &Path, rows: &[Row]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let bars = bars(rows);
    if !bars.is_empty() {
        fs::write(folder.join("ratios.svg"), ratio_chart(&bars))?;
    }
    for (file, rival) in [("boost.svg", "Boost"), ("lmdb.svg", "LMDB")] {
        let bars = speed_ups(rows, rival);
        if !bars.is_empty() {
            fs::write(folder.join(file), speed_up_chart(&bars, rival))?;
        }
    }
    let lines = [PUBLISHED, "mimalloc"].map(|system| (system, by_live_blocks(rows, system)));
    if lines.iter().all(|(_, points)| points.len() > 1) {
        fs::write(folder.join("live-blocks.svg"), line_chart(&lines))?;
    }
    Ok(())
}

/// A horizontal bar: what it is for, and how long it is.
struct Bar {
    label: String,
    value: f64,
}

fn bars(rows: &[Row]) -> Vec<Bar> {
    let rival_of = |row: &Row| {
        let mut rivals = RIVALS.into_iter();
        rivals.find(|rival| row.result(rival).is_some())
    };
    let bar = |row: &Row| {
        let rival = rival_of(row).filter(|_| !row.workload.starts_with(BY_LIVE_BLOCKS))?;
        let (_, value) = ratios(std::slice::from_ref(row), rival).next()?;
        let label = format!("{} : {rival}", row.workload);
        Some(Bar { label, value })
    };
    rows.iter().filter_map(bar).collect()
}

/// How many times faster than a rival.
fn speed_ups(rows: &[Row], rival: &str) -> Vec<Bar> {
    let bar = |(label, ratio): (&str, f64)| Bar {
        label: label.to_owned(),
        value: 1.0 / ratio,
    };
    ratios(rows, rival).map(bar).collect()
}

fn by_live_blocks(rows: &[Row], system: &str) -> Vec<(f64, f64)> {
    let point = |row: &Row| {
        let live = row.workload.strip_prefix(BY_LIVE_BLOCKS)?;
        Some((live.parse().ok()?, row.result(system)?))
    };
    rows.iter().filter_map(point).collect()
}

/// Neutral on a light page and on a dark one.
const STYLE: &str = "<style>\
    text{font:12px sans-serif;fill:#808890}.h{font-size:14px}\
    .a{fill:#2f81b7}.b{fill:#c9702d}.g{stroke:#80889055}\
    .la{stroke:#2f81b7;fill:none;stroke-width:2}.lb{stroke:#c9702d;fill:none;stroke-width:2}\
    </style>";

/// An SVG that is being written.
struct Svg(String);

impl Svg {
    fn new(width: usize, height: usize, title: &str) -> Svg {
        let mut svg = Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n{STYLE}\n"
        ));
        svg.text(8.0, 20.0, "start\" class=\"h", title);
        svg
    }

    /// `anchor`: start, middle or end.
    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"{class}\"/>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"g\"/>"
        ));
    }

    fn curve(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let points = points.join(" ");
        self.push(format_args!(
            "<polyline points=\"{points}\" class=\"{class}\"/>"
        ));
    }

    fn push(&mut self, line: std::fmt::Arguments) {
        writeln!(self.0, "{line}").expect("a String has room");
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

const LABELS: f64 = 420.0;
const WIDTH: f64 = 860.0;
/// Of a bar, with what is between it and the next.
const PITCH: f64 = 18.0;

/// Bars that begin at 1, on a logarithmic scale with these marks.
fn bar_chart(title: &str, bars: &[Bar], marks: &[f64], class: impl Fn(f64) -> &'static str) -> Svg {
    let height = 50.0 + bars.len() as f64 * PITCH;
    let mut svg = Svg::new(WIDTH as usize, height as usize, title);
    let (first, last) = (marks[0], marks[marks.len() - 1]);
    let scale = (WIDTH - LABELS - 60.0) / (last / first).ln();
    let place = |value: f64| LABELS + (value.clamp(first, last) / first).ln() * scale;
    for &mark in marks {
        svg.line((place(mark), 36.0), (place(mark), height - 8.0));
        svg.text(place(mark), 33.0, "middle", &format!("{mark}"));
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = 42.0 + index as f64 * PITCH;
        let end = place(bar.value);
        svg.text(LABELS - 8.0, y + 10.0, "end", &bar.label);
        let (left, right) = (end.min(place(1.0)), end.max(place(1.0)));
        svg.rectangle(left, y, right - left, PITCH - 6.0, class(bar.value));
        svg.text(right + 5.0, y + 10.0, "start", &short(bar.value));
    }
    svg
}

fn ratio_chart(bars: &[Bar]) -> String {
    let title = "time of sharena : time of the rival (1 = as fast; less is faster)";
    let class = |ratio| if ratio <= 1.0 { "a" } else { "b" };
    bar_chart(title, bars, &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0], class).end()
}

fn speed_up_chart(bars: &[Bar], rival: &str) -> String {
    let title = format!("how many times faster than {rival} (1 = as fast)");
    let class = |times| if times >= 1.0 { "a" } else { "b" };
    bar_chart(&title, bars, &[0.3, 1.0, 3.0, 10.0, 30.0, 100.0], class).end()
}

/// The plot area of the line chart: left, right, top, bottom.
const AREA: (f64, f64, f64, f64) = (60.0, 560.0, 40.0, 300.0);

fn line_chart(lines: &[(&str, Vec<(f64, f64)>); 2]) -> String {
    let title = "cost of replacing a block, by the number of live blocks";
    let mut svg = Svg::new(720, 340, title);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = points().fold(0.0f64, |most, point| most.max(point.0));
    let least = points().fold(most, |least, point| least.min(point.0));
    let slowest = points().fold(0.0f64, |most, point| most.max(point.1));
    // Four steps of a round number.
    let slowest = (slowest / 80.0).ceil().max(1.0) * 80.0;
    let (left, right, top, bottom) = AREA;
    let x = |live: f64| left + (live / least).ln() / (most / least).ln() * (right - left);
    let y = |time: f64| bottom - time / slowest * (bottom - top);
    for step in 0..=4 {
        let time = slowest * f64::from(step) / 4.0;
        svg.line((left, y(time)), (right, y(time)));
        svg.text(left - 6.0, y(time) + 4.0, "end", &format!("{time:.0} ns"));
    }
    let mut live = least;
    while live <= most * 1.01 {
        let label = format!("{live:.0e}").replace('e', "0^");
        svg.text(x(live), bottom + 18.0, "middle", &label);
        live *= 10.0;
    }
    for ((system, points), (line, fill)) in lines.iter().zip([("la", "a"), ("lb", "b")]) {
        let places: Vec<_> = points
            .iter()
            .map(|&(live, time)| (x(live), y(time)))
            .collect();
        svg.curve(&places, line);
        for &(x, y) in &places {
            svg.rectangle(x - 2.5, y - 2.5, 5.0, 5.0, fill);
        }
        if let Some(&(x, y)) = places.last() {
            svg.text(x + 8.0, y + 4.0, "start", system);
        }
    }
    svg.end()
}
