//! Plots of a section, as SVG: how many times as long everything takes as on the baseline, and
//! how rows of measures go.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*, style::RGBColor};

use crate::report::{Measure, Section};

/// Told apart by those who do not see colours, too (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const WIDTH: u32 = 900;
/// Of that, for the names of the sides.
const KEY: u32 = 170;
const LINE_HEIGHT: u32 = 22;
const FONT: &str = "sans-serif";

/// A file's name and what is in it.
pub type Plot = (String, String);

/// All plots of a section.
pub fn of(name: &str, title: &str, section: &Section) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    let compared: Vec<_> = section.measures.iter().filter(|m| m.baseline.is_some()).collect();
    if !compared.is_empty() {
        plots.push((format!("{name}.svg"), ratios(title, &compared)?));
    }
    for row in rows(&section.measures) {
        let measures: Vec<_> = in_row(&section.measures, &row).collect();
        if measures.len() > 1 {
            let file = format!("{name}-{}.svg", row.replace([' ', ','], "-"));
            plots.push((file, curves(&row, &measures)?));
        }
    }
    Ok(plots)
}

/// The names of rows, in their order.
fn rows(measures: &[Measure]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for point in measures.iter().filter_map(|measure| measure.point.as_ref()) {
        if !rows.contains(&point.of) {
            rows.push(point.of.clone());
        }
    }
    rows
}

fn in_row<'a>(measures: &'a [Measure], row: &'a str) -> impl Iterator<Item = &'a Measure> {
    measures.iter().filter(move |m| m.point.as_ref().is_some_and(|point| point.of == row))
}

/// Every side of some measures, in the order in which they are met first.
fn sides(measures: &[&Measure]) -> Vec<String> {
    let mut sides: Vec<String> = Vec::new();
    for set in measures.iter().flat_map(|measure| &measure.sets) {
        if !sides.contains(&set.side) {
            sides.push(set.side.clone());
        }
    }
    sides
}

/// A little more than what is shown, on a logarithmic axis.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite() && *value > 0.0)
        .fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
    if low > high { 0.5..2.0 } else { low / 1.15..high * 1.15 }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

/// A line for each measure, a dot for each side.
fn ratios(title: &str, measures: &[&Measure]) -> Result<String> {
    let count = u32::try_from(measures.len())?;
    let sides = sides(measures);
    let known = measures.iter().flat_map(|m| sides.iter().filter_map(|side| m.time_ratio(side)));
    let span = around(known.chain([1.0]));
    let mut svg = String::new();
    {
        let size = (WIDTH, 110 + LINE_HEIGHT * count);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let last = i32::try_from(count)?;
        let (area, right) = root.split_horizontally(WIDTH - KEY);
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("{title}: time by the baseline"), (FONT, 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(200)
            .build_cartesian_2d(span.log_scale(), -1..last)
            .map_err(failed)?;
        // The first one is on top.
        let at = |line: usize| last - 1 - i32::try_from(line).unwrap_or(last);
        let name = |y: &i32| {
            let line = usize::try_from(last - 1 - y).ok();
            line.and_then(|line| measures.get(line)).map_or_else(String::new, |m| m.name.clone())
        };
        chart
            .configure_mesh()
            .x_desc("times as long, logarithmic; 1 is the baseline")
            .x_label_formatter(&|x| format!("{x:.2}"))
            .y_labels(measures.len() + 2)
            .y_label_formatter(&name)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        let one = PathElement::new([(1.0, -1), (1.0, last)], BLACK.stroke_width(1));
        chart.draw_series([one]).map_err(failed)?;
        for (n, side) in sides.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let dots = measures.iter().enumerate().filter_map(|(line, measure)| {
                Some(Circle::new((measure.time_ratio(side)?, at(line)), 4, colour.filled()))
            });
            chart.draw_series(dots).map_err(failed)?;
        }
        key(&right, &sides)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A row: a line for each side, over the number that its measures differ by.
fn curves(row: &str, measures: &[&Measure]) -> Result<String> {
    let sides = sides(measures);
    let x = |measure: &Measure| measure.point.as_ref().map_or(1.0, |point| point.x);
    let medians = measures.iter().flat_map(|m| m.sets.iter().map(|set| set.median));
    let unit = measures.first().map_or("", |measure| measure.unit.as_str());
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 420)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let across = around(measures.iter().map(|measure| x(measure)));
        let (area, right) = root.split_horizontally(WIDTH - KEY);
        let mut chart = ChartBuilder::on(&area)
            .caption(row, (FONT, 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(across.log_scale(), around(medians).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_label_formatter(&short)
            .y_label_formatter(&short)
            .y_desc(format!("{unit}, median"))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        for (n, side) in sides.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let points = measures.iter().filter_map(|m| Some((x(m), m.set(side)?.median)));
            let line = LineSeries::new(points, colour.stroke_width(2)).point_size(3);
            chart.draw_series(line).map_err(failed)?;
        }
        key(&right, &sides)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A number on an axis.
fn short(value: &f64) -> String {
    match *value {
        1e6.. => format!("{:.0}M", value / 1e6),
        1e3.. => format!("{:.0}k", value / 1e3),
        1.0.. => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// Which colour is whose, beside the plot.
fn key(area: &DrawingArea<SVGBackend<'_>, Shift>, sides: &[String]) -> Result<()> {
    for ((at, side), colour) in (60..).step_by(20).zip(sides).zip(COLOURS.iter().cycle()) {
        area.draw(&Circle::new((8, at), 4, colour.filled())).map_err(failed)?;
        let text = Text::new(side.as_str(), (20, at - 7), (FONT, 13).into_font());
        area.draw(&text).map_err(failed)?;
    }
    Ok(())
}
