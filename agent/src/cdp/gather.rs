//! What waits to be written: many small messages go out in one system call, and what the
//! other side does not take now stays, to the byte.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

/// Most pieces handed to one system call; Linux takes up to 1 024.
const PIECES: usize = 64;

/// Something written in two pieces, the second right behind the first.
pub(super) trait Pieces {
    fn pieces(&self) -> [&[u8]; 2];

    /// Lets go of memory that it shares with others.
    fn detach(&mut self) {}

    /// Bytes of both.
    fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }
}

/// A queue in the order in which it is written.
pub(super) struct Gather<T> {
    items: VecDeque<T>,
    /// Bytes of the first item that are written already.
    written: usize,
    /// Bytes not yet written, of all items.
    bytes: usize,
    /// Items at the end that may still share memory with others.
    fresh: usize,
}

impl<T> Default for Gather<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), written: 0, bytes: 0, fresh: 0 }
    }
}

impl<T: Pieces> Gather<T> {
    pub fn push(&mut self, item: T) {
        self.bytes += item.len();
        self.items.push_back(item);
        self.fresh += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Items that wait.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Lets what waits stand on its own: each item once, however long it waits.
    pub fn settle(&mut self) {
        let fresh = self.fresh.min(self.items.len());
        self.items.iter_mut().rev().take(fresh).for_each(T::detach);
        self.fresh = 0;
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait behind the item that is being written.
    pub fn behind(&self) -> usize {
        self.bytes - self.items.front().map_or(0, |first| first.len() - self.written)
    }

    /// Forgets what waits, but for the item whose beginning is out already.
    pub fn keep_begun(&mut self) {
        self.items.truncate(usize::from(self.written > 0));
        self.bytes = self.items.iter().map(T::len).sum::<usize>() - self.written;
        self.fresh = self.fresh.min(self.items.len());
    }

    /// Writes until nothing is left or `write` would block. What is out whole goes to `out`.
    pub fn write(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
        mut out: impl FnMut(T),
    ) -> io::Result<()> {
        while !self.items.is_empty() {
            match write(&self.slices()) {
                Ok(count) => self.advance(count, &mut out),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.written;
        let mut slices = Vec::with_capacity((2 * self.items.len()).min(PIECES));
        for piece in self.items.iter().take(PIECES / 2).flat_map(T::pieces) {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() {
                slices.push(IoSlice::new(&piece[skipped..]));
            }
        }
        slices
    }

    fn advance(&mut self, count: usize, out: &mut impl FnMut(T)) {
        self.bytes -= count;
        self.written += count;
        while let Some(first) = self.items.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.items.pop_front().into_iter().for_each(&mut *out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Pair(Vec<u8>, Vec<u8>);

    impl Pieces for Pair {
        fn pieces(&self) -> [&[u8]; 2] {
            [&self.0, &self.1]
        }
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_written_once_and_in_order(
            items in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9), prop::collection::vec(any::<u8>(), 1..9)), 0..90),
            takes in prop::collection::vec(0_usize..40, 1..40),
        ) {
            let (mut queue, mut wanted, mut out) = (Gather::default(), Vec::new(), Vec::new());
            for (first, second) in items {
                wanted.extend_from_slice(&first);
                wanted.extend_from_slice(&second);
                queue.push(Pair(first, second));
            }
            prop_assert_eq!(queue.bytes(), wanted.len());
            let mut whole = 0;
            // Each time the other side takes so many bytes and is full then.
            for take in takes.into_iter().chain([usize::MAX]) {
                let mut room = take;
                queue.write(|slices| {
                    if room == 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    let taken: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(room).collect();
                    room -= taken.len();
                    out.extend_from_slice(&taken);
                    Ok(taken.len())
                }, |pair: Pair| whole += pair.len()).unwrap();
                prop_assert_eq!(queue.bytes(), wanted.len() - out.len());
                prop_assert!(whole <= out.len());
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(whole, wanted.len());
            prop_assert_eq!(out, wanted);
        }
    }

    #[test]
    fn only_what_has_begun_is_kept() {
        let mut queue = Gather::default();
        queue.push(Pair(b"ab".to_vec(), b"cd".to_vec()));
        queue.push(Pair(b"ef".to_vec(), b"gh".to_vec()));
        let mut calls = 0;
        let once = |_: &[IoSlice<'_>]| {
            calls += 1;
            if calls == 1 { Ok(3) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        queue.write(once, drop).unwrap();
        assert_eq!((queue.bytes(), queue.behind()), (5, 4));
        queue.keep_begun();
        assert_eq!((queue.bytes(), queue.behind()), (1, 0));
    }
}
