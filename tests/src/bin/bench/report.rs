//! What was measured, as it is kept: JSON, from which the page is written.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use harness::figures::{Median, percentile_of};
use serde::{Deserialize, Serialize};

use crate::{machine::Taken, rig::Side};

/// All sections that were ever measured into one place, by name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub sections: BTreeMap<String, Section>,
}

/// What was measured in one go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Section {
    /// Where and of what.
    pub taken: Taken,
    pub measures: Vec<Measure>,
    /// Sentences to be read with the figures.
    pub notes: Vec<String>,
}

/// One thing, measured on several sides.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measure {
    pub name: String,
    /// Of every value but ratios and noise.
    pub unit: String,
    pub better: Better,
    /// The side that the others are divided by.
    pub baseline: Option<String>,
    /// Its place in a row of measures that differ by a number only.
    pub point: Option<Point>,
    pub aims: Vec<Aim>,
    pub sets: Vec<Set>,
}

/// Which values are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Less,
    More,
}

/// A place in a row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The row's name.
    pub of: String,
    /// Commands, bytes, sessions: what the row says.
    pub x: f64,
}

/// All samples of one side.
#[derive(Debug, Serialize, Deserialize)]
pub struct Set {
    pub side: String,
    pub rounds: usize,
    pub samples: usize,
    /// Of the rounds' own medians.
    pub median: f64,
    /// Median distance of the rounds from it, as a share of it.
    pub noise: f64,
    /// What 95 and 99 per cent of all samples are no worse than.
    pub p95: f64,
    pub p99: f64,
    /// By the baseline, round by round: the median, and its noise.
    pub ratio: Option<f64>,
    pub ratio_noise: Option<f64>,
}

/// What a figure of a side is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Aim {
    pub side: String,
    pub figure: Figure,
    /// The most it may be, or the least where more is better.
    pub bound: f64,
}

/// Which figure an aim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Ratio,
    Median,
    P99,
    /// The side's p99 by the baseline's.
    P99Ratio,
    /// How much longer than the baseline, in the measure's unit.
    Above,
    /// How many times as much as the side browserless adds to the baseline's time: without end
    /// where the side adds nothing. More is better.
    PeerAdds,
}

impl Measure {
    pub fn set(&self, side: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.side == side)
    }

    /// What an aim's figure is now.
    pub fn found(&self, aim: &Aim) -> Option<f64> {
        let set = self.set(&aim.side)?;
        let baseline = || self.set(self.baseline.as_deref()?);
        match aim.figure {
            Figure::Ratio => set.ratio,
            Figure::Median => Some(set.median),
            Figure::P99 => Some(set.p99),
            Figure::P99Ratio => Some(set.p99 / baseline()?.p99),
            Figure::Above => Some(set.median - baseline()?.median),
            Figure::PeerAdds => {
                let added = |side: &str| Some(self.time_ratio(side)? - 1.0);
                let (peer, side) = (added(Side::Peer.name())?, added(&aim.side)?);
                Some(if side > 0.0 { peer / side } else { f64::INFINITY })
            }
        }
    }

    /// Whether that is good enough.
    pub fn meets(&self, aim: &Aim, found: f64) -> bool {
        if self.better == Better::More || aim.figure == Figure::PeerAdds {
            found >= aim.bound
        } else {
            found <= aim.bound
        }
    }

    /// How many times as long as on the baseline something takes on a side: the ratio, the right
    /// way round.
    pub fn time_ratio(&self, side: &str) -> Option<f64> {
        let ratio = self.set(side)?.ratio?;
        Some(if self.better == Better::Less { ratio } else { 1.0 / ratio })
    }
}

/// The values of one measure while it is taken: a side's are a list for each round.
#[derive(Debug)]
pub struct Samples {
    measure: Measure,
    rounds: Vec<(String, Vec<Vec<f64>>)>,
}

impl Samples {
    pub fn new(name: impl Into<String>, unit: &str, better: Better) -> Self {
        let measure = Measure {
            name: name.into(),
            unit: unit.into(),
            better,
            baseline: None,
            point: None,
            aims: Vec::new(),
            sets: Vec::new(),
        };
        Self { measure, rounds: Vec::new() }
    }

    /// Shows sides in this order, whichever comes first.
    pub fn among<'a>(mut self, sides: impl IntoIterator<Item = &'a str>) -> Self {
        self.rounds = sides.into_iter().map(|side| (side.into(), Vec::new())).collect();
        self
    }

    /// Divides all sides by this one, where both have a round.
    pub fn by(mut self, side: &str) -> Self {
        self.measure.baseline = Some(side.into());
        self
    }

    /// Puts it in a row.
    pub fn at(mut self, of: &str, x: f64) -> Self {
        self.measure.point = Some(Point { of: of.into(), x });
        self
    }

    pub fn aim(mut self, side: &str, figure: Figure, bound: f64) -> Self {
        self.measure.aims.push(Aim { side: side.into(), figure, bound });
        self
    }

    /// One more round of a side.
    pub fn add(&mut self, side: &str, values: Vec<f64>) {
        match self.rounds.iter_mut().find(|(known, _)| known == side) {
            Some((_, rounds)) => rounds.push(values),
            None => self.rounds.push((side.into(), vec![values])),
        }
    }

    /// The measure, once all rounds are in.
    pub fn done(mut self) -> Measure {
        let medians = |rounds: &[Vec<f64>]| -> Vec<Option<f64>> {
            let median = |round: &Vec<f64>| (!round.is_empty()).then(|| Median::of(round).value);
            rounds.iter().map(median).collect()
        };
        let baseline = self.measure.baseline.as_deref();
        let baseline = self.rounds.iter().find(|(side, _)| Some(side.as_str()) == baseline);
        let baseline = baseline.map(|(_, rounds)| medians(rounds));
        for (side, rounds) in &self.rounds {
            let values = medians(rounds);
            let ratio = baseline.as_ref().and_then(|baseline| {
                let pairs = values.iter().zip(baseline);
                let ratios: Vec<_> = pairs.filter_map(|(a, b)| Some((*a)? / (*b)?)).collect();
                (!ratios.is_empty()).then(|| Median::of(&ratios))
            });
            let values: Vec<_> = values.into_iter().flatten().collect();
            let (all, of_rounds) = (rounds.concat(), Median::of(&values));
            if all.is_empty() {
                continue;
            }
            let rank = |per_cent| match self.measure.better {
                Better::Less => percentile_of(&all, per_cent),
                Better::More => percentile_of(&all, 100 - per_cent),
            };
            self.measure.sets.push(Set {
                side: side.clone(),
                rounds: values.len(),
                samples: all.len(),
                median: of_rounds.value,
                noise: of_rounds.noise,
                p95: rank(95),
                p99: rank(99),
                ratio: ratio.map(|ratio| ratio.value),
                ratio_noise: ratio.map(|ratio| ratio.noise),
            });
        }
        self.measure
    }
}

impl Report {
    /// What there is so far; empty where there is nothing.
    pub fn read(file: &Path) -> Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", file.display()))
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < 1e-9
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let mut samples = Samples::new("round trip", "µs", Better::Less).by("direct");
        for (direct, ours) in [(100.0, 110.0), (200.0, 240.0), (50.0, 50.0)] {
            samples.add("direct", vec![direct; 3]);
            samples.add("ventus", vec![ours - 1.0, ours, ours + 1.0]);
        }
        let measure = samples.done();
        let set = measure.set("ventus").unwrap();
        assert!(close(set.ratio.unwrap(), 1.1), "{set:?}");
        assert!(close(set.median, 110.0), "{set:?}");
        assert_eq!((set.rounds, set.samples), (3, 9));
    }

    #[test]
    fn the_last_per_cent_is_the_worst_one() {
        for (better, worst) in [(Better::Less, 99.0), (Better::More, 1.0)] {
            let mut samples = Samples::new("", "", better);
            samples.add("one", (1..=100).map(f64::from).collect());
            let measure = samples.done();
            let found = measure.sets[0].p99;
            assert!(close(found, worst), "{better:?}: {found}");
        }
    }

    #[test]
    fn an_aim_is_met_or_missed() {
        let rate = Samples::new("rate", "/s", Better::More).by("direct");
        let mut rate = rate.aim("ventus", Figure::Ratio, 1.0);
        rate.add("direct", vec![100.0]);
        rate.add("ventus", vec![90.0]);
        let rate = rate.done();
        let found = rate.found(&rate.aims[0]).unwrap();
        assert!(close(found, 0.9) && !rate.meets(&rate.aims[0], found));
        assert!(close(rate.time_ratio("ventus").unwrap(), 1.0 / 0.9));
    }

    #[test]
    fn what_browserless_adds_is_divided_by_what_we_add() {
        for (ours, wanted) in [(110.0, 3.0), (90.0, f64::INFINITY)] {
            let trip = Samples::new("round trip", "µs", Better::Less).by("direct");
            let mut trip = trip.aim("ventus", Figure::PeerAdds, 1.5);
            for (side, value) in [("direct", 100.0), ("ventus", ours), ("browserless", 130.0)] {
                trip.add(side, vec![value]);
            }
            let trip = trip.done();
            let found = trip.found(&trip.aims[0]).unwrap();
            assert!(
                found.is_infinite() == wanted.is_infinite() && trip.meets(&trip.aims[0], found)
            );
            assert!(wanted.is_infinite() || close(found, wanted), "{found}");
        }
    }
}
