//! The little arithmetic of charts: everything is a whole number of thousandths of a chart's width.

use crate::units::{Millis, Timestamp};

/// The width of every chart.
pub(super) const WIDTH: u64 = 1_000;
/// The least that something is drawn with, so that it is seen.
const LEAST: u64 = 4;
/// A gap in which nothing goes on is drawn no longer than this share of the rest.
const GAP_DIVISOR: u64 = 25;

/// A piece of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) x: u64,
    pub(super) width: u64,
}

/// How much of `whole` this is; a whole of nothing has no share.
pub(super) fn share(part: u128, whole: u128) -> u64 {
    let scaled = part.saturating_mul(u128::from(WIDTH)).checked_div(whole).unwrap_or(0);
    u64::try_from(scaled).unwrap_or(WIDTH).min(WIDTH)
}

/// Pieces side by side, of a whole that is at least as large as all of them.
pub(super) fn stacked(parts: &[u64], whole: u64) -> Vec<Piece> {
    let mut end = 0_u64;
    let mut x = 0;
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        end = end.saturating_add(*part);
        let to = share(end.into(), whole.into());
        pieces.push(Piece { x, width: to.saturating_sub(x) });
        x = to;
    }
    pieces
}

/// Time from left to right. Where nothing went on for long, because a person was waited for, say, it is drawn shorter.
#[derive(Debug, Default)]
pub(super) struct Axis {
    /// Busy times, in order, none touching another, each with what is drawn before it.
    busy: Vec<(Timestamp, Timestamp, u64)>,
    whole: u64,
    /// True where a gap is drawn shorter than it was.
    pub(super) is_cut: bool,
}

impl Axis {
    /// Of the spans in which something went on.
    pub(super) fn of(mut spans: Vec<(Timestamp, Timestamp)>) -> Self {
        spans.sort_unstable();
        let mut busy: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in spans {
            match busy.last_mut() {
                Some((_, end)) if from <= *end => *end = (*end).max(to),
                Some(_) | None => busy.push((from, to)),
            }
        }
        let total: u64 = busy.iter().map(|(from, to)| to.since(*from).0).sum();
        let longest = (total / GAP_DIVISOR).max(1);
        let mut axis = Self::default();
        let mut before: Option<Timestamp> = None;
        for (from, to) in busy {
            let gap = before.map_or(0, |end| from.since(end).0);
            axis.is_cut |= gap > longest;
            axis.whole += gap.min(longest);
            axis.busy.push((from, to, axis.whole));
            axis.whole += to.since(from).0;
            before = Some(to);
        }
        axis
    }

    /// Where a span is drawn.
    pub(super) fn piece(&self, from: Timestamp, to: Timestamp) -> Piece {
        let (start, end) = (self.place(from), self.place(to));
        let x = share(start.into(), self.whole.into()).min(WIDTH - LEAST);
        let width = share(end.saturating_sub(start).into(), self.whole.into()).max(LEAST);
        Piece { x, width: width.min(WIDTH - x) }
    }

    /// All that is drawn, in time.
    pub(super) const fn length(&self) -> Millis {
        Millis(self.whole)
    }

    fn place(&self, at: Timestamp) -> u64 {
        let reached = self.busy.partition_point(|(from, _, _)| *from <= at).checked_sub(1);
        let reached = reached.and_then(|last| self.busy.get(last));
        reached.map_or(0, |(from, to, before)| before + at.min(*to).since(*from).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000 + ms)
    }

    #[test]
    fn a_long_wait_is_drawn_short_and_work_in_proportion() {
        let axis = Axis::of(vec![(at(0), at(100)), (at(50), at(200)), (at(90_000), at(90_300))]);
        assert!(axis.is_cut);
        assert_eq!(axis.length(), Millis(520), "a gap of 20");
        assert_eq!(axis.piece(at(0), at(200)), Piece { x: 0, width: 384 });
        assert_eq!(axis.piece(at(90_000), at(90_300)), Piece { x: 423, width: 576 });
        assert_eq!(axis.piece(at(90_300), at(90_300)).width, LEAST, "what takes no time is seen");
    }

    #[test]
    fn nothing_at_all_is_no_fault() {
        let axis = Axis::of(Vec::new());
        assert_eq!((axis.length(), axis.piece(at(0), at(1))), (Millis::ZERO, Piece { x: 0, width: LEAST }));
        assert_eq!(share(1, 0), 0);
        assert_eq!(share(5, 3), WIDTH);
    }

    #[test]
    fn stacked_pieces_touch_and_end_where_their_sum_does() {
        let pieces = stacked(&[1, 1, 1], 4);
        assert_eq!(pieces, [Piece { x: 0, width: 250 }, Piece { x: 250, width: 250 }, Piece { x: 500, width: 250 }]);
        assert_eq!(stacked(&[1, 2], 3).iter().map(|piece| piece.width).sum::<u64>(), WIDTH);
    }
}
