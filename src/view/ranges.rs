//! A set of byte ranges, bounded.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is meant"
)]

use std::ops::Range;

/// The most ranges that are told apart.
const MAX_RANGES: usize = 1024;

/// Byte ranges in order, none touching the next.
///
/// Beyond 1,024 of them the nearest two are joined: the set then holds more than was put in, never less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let end = self.0.partition_point(|known| known.start <= range.end);
        let touched = &self.0[first..end];
        let start = touched
            .first()
            .map_or(range.start, |known| known.start.min(range.start));
        let stop = touched
            .last()
            .map_or(range.end, |known| known.end.max(range.end));
        self.0.splice(first..end, [start..stop]);
        if self.0.len() > MAX_RANGES {
            self.join_nearest();
        }
    }

    pub fn to_vec(&self) -> Vec<Range<u64>> {
        self.0.clone()
    }

    fn join_nearest(&mut self) {
        let gap = |index: &usize| self.0[index + 1].start - self.0[*index].end;
        if let Some(index) = (0..self.0.len() - 1).min_by_key(gap) {
            self.0[index].end = self.0[index + 1].end;
            self.0.remove(index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut set = Ranges::default();
        ranges.iter().for_each(|range| set.add(range.clone()));
        set.to_vec()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(of(&[0..1, 2..3]), [0..1, 2..3]);
        assert_eq!(of(&[2..3, 0..1]), [0..1, 2..3]);
        assert_eq!(of(&[0..1, 2..3, 1..2]), [0..3]);
        assert_eq!(of(&[5..6, 0..10]), [0..10]);
        assert_eq!(of(&[0..10, 5..6]), [0..10]);
        assert_eq!(of(&[0..4, 8..9, 3..8]), [0..9]);
        assert_eq!(of(&[3..3]), []);
    }

    #[test]
    fn beyond_the_bound_the_nearest_are_joined() {
        let mut set = Ranges::default();
        for n in 0..MAX_RANGES as u64 {
            set.add(n * 100..n * 100 + 10);
        }
        set.add(15..16);
        let ranges = set.to_vec();
        assert_eq!(ranges.len(), MAX_RANGES);
        assert_eq!(ranges[..2], [0..16, 100..110]);
    }
}
