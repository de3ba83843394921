//! The page: `performance.md`, whose part between two markers is written here, with plots beside
//! it. What people write around the markers stays.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    Name, plots,
    report::{Aim, Better, Figure, Measure, Report, Section, Set},
    rig::Side,
};

const BEGIN: &str = "<!-- written by make bench: from here -->";
const END: &str = "<!-- written by make bench: to here -->";
/// Where there is no page yet.
const EMPTY: &str = "# Performance\n";

/// Writes page and plots.
pub fn write(report: &Report, into: &Path) -> Result<()> {
    let file = into.join("performance.md");
    let before = fs::read_to_string(&file).unwrap_or_else(|_| EMPTY.into());
    let all: Vec<_> = Name::value_variants().to_vec();
    let mut part = text(report, &all);
    for (name, title, section) in sections(report, &all) {
        let mut shown = String::new();
        for (plot, svg) in plots::of(name, title, section)? {
            let path = into.join("performance").join(&plot);
            fs::write(&path, svg).with_context(|| path.display().to_string())?;
            let _ = write!(shown, "![{title}](performance/{plot})\n\n");
        }
        part = part.replace(&place_of_plots(name), &shown);
    }
    fs::write(&file, placed(&before, &part)).with_context(|| file.display().to_string())
}

/// The page with this part between the markers; at its end, if it has none.
fn placed(page: &str, part: &str) -> String {
    let between = format!("{BEGIN}\n\n{}\n\n{END}", part.trim());
    let around = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    match around {
        Some((before, after)) => format!("{before}{between}{after}"),
        None => format!("{}\n\n{between}\n", page.trim_end()),
    }
}

fn place_of_plots(name: &str) -> String {
    format!("<!-- plots of {name} -->\n\n")
}

fn sections<'a>(
    report: &'a Report,
    names: &'a [Name],
) -> impl Iterator<Item = (&'static str, &'static str, &'a Section)> {
    names.iter().filter_map(|name| {
        let (name, title) = name.names();
        Some((name, title, report.sections.get(name)?))
    })
}

/// What was found, as Markdown: what is wanted first, then ratios, then all figures.
pub fn text(report: &Report, names: &[Name]) -> String {
    let mut text = aims(report, names);
    for (name, title, section) in sections(report, names) {
        let taken = &section.taken;
        let _ = write!(
            text,
            "## {title}\n\nCommit {}, {}, on {} × {}, {} GiB, Linux {}; load {} when it began, {} s. \
             {}\n\n",
            taken.commit,
            taken.browser,
            taken.processors,
            taken.processor,
            taken.memory_gib,
            taken.kernel,
            taken.load,
            taken.seconds,
            if taken.quick {
                "**A short run, to see that it works: no figures to go by.**"
            } else {
                ""
            },
        );
        for note in &section.notes {
            let _ = write!(text, "{note}\n\n");
        }
        text += &place_of_plots(name);
        text += &ratios(section);
        text += &figures(section);
    }
    text
}

/// Every aim, and whether it is met.
fn aims(report: &Report, names: &[Name]) -> String {
    let mut lines = String::new();
    for (_, _, section) in sections(report, names) {
        for measure in &section.measures {
            for aim in &measure.aims {
                let Some(found) = measure.found(aim) else { continue };
                let met = if measure.meets(aim, found) { "yes" } else { "**no**" };
                let wanted = wanted(measure, aim);
                let (name, side, found) = (&measure.name, &aim.side, shown(found));
                let limit = limit(measure, aim).map(shown).unwrap_or_default();
                let _ =
                    writeln!(lines, "| {name} | {side} | {wanted} | {found} | {met} | {limit} |");
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "## What is wanted\n\n| What | Side | Wanted | Found | Met | Relay |\n| --- | --- | --- | ---: \
         | --- | ---: |\n{lines}\n"
    )
}

/// What a relay that does nothing has.
fn limit(measure: &Measure, aim: &Aim) -> Option<f64> {
    measure.found(&Aim { side: Side::Relay.name().into(), ..aim.clone() })
}

fn wanted(measure: &Measure, aim: &Aim) -> String {
    let sign = if measure.better == Better::Less { "≤" } else { "≥" };
    let unit = &measure.unit;
    let base = measure.baseline.as_deref().unwrap_or_default();
    let bound = aim.bound;
    match aim.figure {
        Figure::Ratio => format!("{sign} {bound} of {base}"),
        Figure::Median => format!("median {sign} {bound} {unit}"),
        Figure::P99 => format!("p99 {sign} {bound} {unit}"),
        Figure::P99Ratio => format!("p99 {sign} {bound} of that of {base}"),
        Figure::Above => format!("median {sign} {base} + {bound} {unit}"),
        Figure::PeerAdds => format!("adds {bound} times less to {base} than browserless"),
    }
}

/// Sides that are compared, in the order in which they are met first.
fn compared(section: &Section) -> Vec<&str> {
    let mut sides: Vec<&str> = Vec::new();
    for measure in section.measures.iter().filter(|measure| measure.baseline.is_some()) {
        for set in &measure.sets {
            let is_baseline = measure.baseline.as_deref() == Some(set.side.as_str());
            if !is_baseline && !sides.contains(&set.side.as_str()) {
                sides.push(&set.side);
            }
        }
    }
    sides
}

fn ratios(section: &Section) -> String {
    let sides = compared(section);
    if sides.is_empty() {
        return String::new();
    }
    let head = |sign: &str| sides.iter().map(|_| sign).collect::<String>();
    let mut text = format!(
        "| By the baseline | better | {} |\n| --- | --- |{}\n",
        sides.join(" | "),
        head(" ---: |")
    );
    for measure in section.measures.iter().filter(|measure| measure.baseline.is_some()) {
        let better = if measure.better == Better::Less { "less" } else { "more" };
        let cell = |side: &&str| {
            let set = measure.set(side);
            let ratio = set.and_then(|set| Some((set.ratio?, set.ratio_noise?)));
            ratio.map_or_else(String::new, |(ratio, noise)| format!("{ratio:.2} {}", with(noise)))
        };
        let cells: Vec<_> = sides.iter().map(cell).collect();
        let base = measure.baseline.as_deref().unwrap_or_default();
        let _ =
            writeln!(text, "| {}, by {base} | {better} | {} |", measure.name, cells.join(" | "));
    }
    text + "\n"
}

fn figures(section: &Section) -> String {
    let mut text =
        "<details><summary>All figures</summary>\n\n| What | Side | Median | p95 | p99 | \
                    Rounds | Samples |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    for measure in &section.measures {
        for set in &measure.sets {
            text += &line(measure, set);
        }
    }
    text + "\n</details>\n\n"
}

fn line(measure: &Measure, set: &Set) -> String {
    let Set { side, rounds, samples, median, noise, p95, p99, .. } = set;
    let (name, unit) = (&measure.name, &measure.unit);
    let noise = if *rounds > 1 { with(*noise) } else { String::new() };
    let [median, p95, p99] = [median, p95, p99].map(|value| shown(*value));
    format!(
        "| {name} | {side} | {median} {unit} {noise} | {p95} | {p99} | {rounds} | {samples} |\n"
    )
}

/// Noise, in per cent.
fn with(noise: f64) -> String {
    format!("±{:.0} %", noise * 100.0)
}

/// Three digits or so.
fn shown(value: f64) -> String {
    let size = value.abs();
    if size.is_infinite() {
        "nothing added".into()
    } else if size >= 100.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_around_the_markers_stays() {
        let first = placed("# Performance\n\nBy hand.\n", "one");
        let page = first.replace(END, &format!("{END}\n\n## The guard\n\nBy hand, too."));
        let second = placed(&page, "two");
        assert!(second.starts_with("# Performance\n\nBy hand.\n"), "{second}");
        assert!(second.ends_with("## The guard\n\nBy hand, too.\n"), "{second}");
        assert!(second.contains("two") && !second.contains("one"), "{second}");
        assert_eq!(placed(&second, "two"), second);
    }
}
