//! The text itself.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering::Relaxed,
};

use crate::{BOUNDS_US, Counter, Family, Histogram};

/// What the text is, for whoever asked for it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a process as text, while it is being written.
#[derive(Default, Debug)]
pub struct Page(String);

impl Page {
    /// Begins something that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Series<'_> {
        self.begin(name, help, "counter")
    }

    /// Begins something that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Series<'_> {
        self.begin(name, help, "gauge")
    }

    /// Begins how long something takes; its name ends in `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Series<'_> {
        self.begin(name, help, "histogram")
    }

    /// Counters of one name.
    pub fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        family: &Family<N, Counter>,
    ) {
        let mut series = self.counter(name, help);
        family.each(|labels, counter| series.value(labels, counter.get()));
    }

    /// Histograms of one name.
    pub fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        family: &Family<N, Histogram>,
    ) {
        let mut series = self.histogram(name, help);
        family.each(|labels, histogram| series.spans(labels, histogram));
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.0
    }

    fn begin(&mut self, name: &'static str, help: &str, kind: &str) -> Series<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Series { text: &mut self.0, name }
    }
}

/// The values of one metric, one for each combination of labels.
#[derive(Debug)]
pub struct Series<'p> {
    text: &'p mut String,
    name: &'static str,
}

impl Series<'_> {
    /// What it is with these labels.
    pub fn value(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// How long it took with these labels.
    pub fn spans(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        // The sum first: it may then lack what the buckets have, and never has what they lack.
        let sum_us = histogram.sum_us.load(Relaxed);
        let mut count = 0;
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
        for (bucket, bound) in histogram.buckets.iter().zip(bounds) {
            count += bucket.load(Relaxed);
            self.line("_bucket", labels, Some(&bound), count);
        }
        self.line("_sum", labels, None, seconds(sum_us));
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let bound = bound.map(|bound| ("le", bound));
        let mut open = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value));
            open = ',';
        }
        let end = if open == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

fn seconds(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
    let seconds = us as f64 / 1e6;
    seconds.to_string()
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_reads_as_prometheus_wants_it() {
        let mut page = Page::default();
        page.gauge("slots", "Slots.").value(&[], 3);
        let spans = Family::<1, Histogram>::new(["stage"]);
        for ms in [1, 3, 70_000] {
            spans.of(["queue"]).took(Duration::from_millis(ms));
        }
        page.histograms("wait_seconds", "How long.", &spans);
        let text = page.into_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], ["# HELP slots Slots.", "# TYPE slots gauge", "slots 3"]);
        assert_eq!(lines[4], "# TYPE wait_seconds histogram");
        for line in [
            r#"wait_seconds_bucket{stage="queue",le="0.0005"} 0"#,
            r#"wait_seconds_bucket{stage="queue",le="0.001"} 1"#,
            r#"wait_seconds_bucket{stage="queue",le="0.005"} 2"#,
            r#"wait_seconds_bucket{stage="queue",le="60"} 2"#,
            r#"wait_seconds_bucket{stage="queue",le="+Inf"} 3"#,
            r#"wait_seconds_sum{stage="queue"} 70.004"#,
            r#"wait_seconds_count{stage="queue"} 3"#,
        ] {
            assert!(lines.contains(&line), "{line} is not in\n{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_label_says_it_stays_in_its_quotes(value in "\\PC{0,8}[\"\\\\\n]{0,4}") {
            let mut page = Page::default();
            page.counter("a_total", "A.").value(&[("label", &value)], 1);
            let text = page.into_text();
            let line = text.lines().nth(2).unwrap();
            let quoted = line.strip_prefix("a_total{label=\"").unwrap().strip_suffix("\"} 1").unwrap();
            let read = quoted.replace("\\\\", "\0").replace("\\\"", "\"").replace("\\n", "\n");
            prop_assert_eq!(read.replace('\0', "\\"), value);
            prop_assert_eq!(text.lines().count(), 3);
        }
    }
}
