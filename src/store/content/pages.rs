//! Sets of pages within a chunk.

use std::ops::Range;

use super::{CHUNK_SIZE, PAGE};

/// Pages in a chunk.
pub(super) const CHUNK_PAGES: u32 = (CHUNK_SIZE / PAGE) as u32;

/// A set of a chunk's 32 pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageSet(u32);

impl PageSet {
    pub const EMPTY: Self = Self(0);

    /// The pages of this range of page numbers.
    pub fn range(pages: Range<u32>) -> Self {
        let below = |end: u32| ((1u64 << end) - 1) as u32;
        Self(below(pages.end) & !below(pages.start.min(pages.end)))
    }

    /// The pages that hold any byte of `bytes`.
    pub fn touching(bytes: &Range<usize>) -> Self {
        Self::range((bytes.start / PAGE) as u32..bytes.end.div_ceil(PAGE) as u32)
    }

    /// The pages that lie wholly within `bytes`.
    pub fn within(bytes: &Range<usize>) -> Self {
        Self::range(bytes.start.div_ceil(PAGE) as u32..(bytes.end / PAGE) as u32)
    }

    pub fn len(self) -> u64 {
        self.0.count_ones().into()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, page: u32) -> bool {
        self.0 & (1 << page) != 0
    }

    pub fn holds(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The first page at or after `page` that is in the set.
    pub fn next_in(self, page: u32) -> Option<u32> {
        let rest = self.without(Self::range(0..page.min(CHUNK_PAGES)));
        (!rest.is_empty()).then(|| rest.0.trailing_zeros())
    }

    /// The first page at or after `page` that is not in the set.
    pub fn next_out(self, page: u32) -> Option<u32> {
        Self(!self.0).next_in(page)
    }

    /// From the first page to behind the last; empty for an empty set.
    pub fn hull(self) -> Range<u32> {
        if self.is_empty() {
            0..0
        } else {
            self.0.trailing_zeros()..u32::BITS - self.0.leading_zeros()
        }
    }

    /// The pieces of `bytes`, in order, that lie wholly inside or wholly outside the set.
    pub fn pieces(self, bytes: Range<usize>) -> impl Iterator<Item = (bool, Range<usize>)> {
        let mut at = bytes.start;
        std::iter::from_fn(move || {
            if at >= bytes.end {
                return None;
            }
            let page = (at / PAGE) as u32;
            let inside = self.has(page);
            let turn = if inside {
                self.next_out(page)
            } else {
                self.next_in(page)
            };
            let end = turn
                .map_or(CHUNK_SIZE, |page| page as usize * PAGE)
                .min(bytes.end);
            let piece = at..end;
            at = end;
            Some((inside, piece))
        })
    }

    /// The runs of neighbouring pages.
    pub fn runs(self) -> impl Iterator<Item = Range<u32>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next_in(at)?;
            at = self.next_out(start).unwrap_or(CHUNK_PAGES);
            Some(start..at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_right() {
        assert_eq!(PageSet::range(0..32), PageSet(u32::MAX));
        assert_eq!(PageSet::range(5..5), PageSet::EMPTY);
        assert_eq!(PageSet::touching(&(1..2)), PageSet(1));
        assert_eq!(PageSet::within(&(1..2)), PageSet::EMPTY);
        assert_eq!(PageSet::within(&(1..2 * PAGE + 1)), PageSet(2));
        assert_eq!(PageSet(0b1011_0000).hull(), 4..8);
        assert_eq!(
            PageSet(0x8000_0001).runs().collect::<Vec<_>>(),
            [0..1, 31..32]
        );
        assert_eq!(PageSet(u32::MAX).next_out(3), None);
        assert_eq!(PageSet(1).next_in(32), None);
    }

    #[test]
    fn pieces_turn_at_pages() {
        let pieces: Vec<_> = PageSet(0b110).pieces(100..4 * PAGE + 1).collect();
        let expected = [
            (false, 100..PAGE),
            (true, PAGE..3 * PAGE),
            (false, 3 * PAGE..4 * PAGE + 1),
        ];
        assert_eq!(pieces, expected);
    }
}
