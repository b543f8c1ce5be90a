//! Medians and spreads.

use super::meter::Sample;

/// A median with what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }

    /// As text: the median, and in brackets the least and the most.
    pub(super) fn text(self) -> String {
        format!("{} ({} to {})", short(self.median), short(self.min), short(self.max))
    }
}

/// Three significant digits.
pub(super) fn short(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    Cpu,
    Wall,
    Peak,
}

impl Figure {
    pub(super) const ALL: [Self; 3] = [Self::Cpu, Self::Wall, Self::Peak];

    /// Its name and unit.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU, ms",
            Self::Wall => "wall, ms",
            Self::Peak => "peak, MB",
        }
    }

    pub(super) fn of(self, sample: Sample) -> f64 {
        match self {
            Self::Cpu => sample.cpu,
            Self::Wall => sample.wall,
            Self::Peak => sample.peak,
        }
    }
}

/// Runs of ours and theirs, in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs(pub(super) Vec<(Sample, Sample)>);

impl Pairs {
    pub(super) fn ours(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(ours, _)| figure.of(*ours)))
    }

    pub(super) fn theirs(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(_, theirs)| figure.of(*theirs)))
    }

    /// Ours to theirs, each with the one that ran next to it.
    pub(super) fn ratio(&self, figure: Figure) -> Option<Spread> {
        let pairs = self.0.iter().map(|(ours, theirs)| (figure.of(*ours), figure.of(*theirs)));
        Spread::of(pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Pairs, Spread, short};
    use crate::bench::meter::Sample;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([9.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 9.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(odd.text(), "2.00 (1.00 to 9.00)");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0123, 0.5, 1.0, 12.34, 1234.5].map(short);
        assert_eq!(texts, ["0.012", "0.500", "1.00", "12.3", "1234"]);
    }

    #[test]
    fn ratios_are_those_of_neighbours() {
        let sample = |cpu| Sample { cpu, wall: 1.0, peak: 0.0 };
        let pairs = Pairs(vec![
            (sample(1.0), sample(10.0)),
            (sample(30.0), sample(100.0)),
            (sample(2.0), sample(4.0)),
        ]);
        // The medians' own ratio would be 0.2.
        assert_eq!(pairs.ratio(Figure::Cpu).unwrap().median, 0.3);
        assert_eq!(pairs.ours(Figure::Cpu).unwrap().median, 2.0);
        assert_eq!(pairs.theirs(Figure::Cpu).unwrap().max, 100.0);
        assert_eq!(pairs.ratio(Figure::Peak), None);
    }
}
