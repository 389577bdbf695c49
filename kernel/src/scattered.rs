//! Scattered memory for tests of a handover: what is asked for, which blocks are taken, and what is written into them.
//!
//! What a page holds follows from its address and a seed, so the next kernel can check every page without a copy of it, and
//! a page that came back at another address, or with another's content, is found.

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// As much as makes so many percent of all memory outside of scratch preserved, with what is so already.
    Percent(u64),
}

/// Which blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Drawn from all free ones; listed in the order in which they are drawn.
    Random,
    /// Those whose number is even, by ascending address: no two of them lie side by side.
    EveryOther,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How much.
    pub amount: Amount,
    /// Which.
    pub pattern: Pattern,
    /// log2 of the pages of a block.
    pub order: u8,
    /// What the choice and the content follow from.
    pub seed: u64,
}

impl Request {
    /// Reads `AMOUNT [every-other] [order=N] [seed=N]`, with an amount such as `64M` or `95%`.
    ///
    /// # Errors
    /// What is wrong, as a clause.
    pub fn parse(text: &str) -> Result<Request, &'static str> {
        let mut words = text.split_ascii_whitespace();
        let amount = words
            .next()
            .ok_or("it takes an amount, such as 64M or 95%")?;
        let amount = match amount.strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|p| (1..=100).contains(p))
                .map(Amount::Percent),
            None => crate::cmdline::parse_size(amount)
                .filter(|bytes| *bytes > 0)
                .map(Amount::Bytes),
        };
        let mut request = Request {
            amount: amount.ok_or("the amount is a size such as 64M, or 1% to 100%")?,
            pattern: Pattern::Random,
            order: 0,
            seed: 1,
        };
        for word in words {
            match word.split_once('=') {
                None if word == "every-other" => request.pattern = Pattern::EveryOther,
                Some(("order", n)) => {
                    request.order = n
                        .parse()
                        .ok()
                        .filter(|n| u32::from(*n) <= crate::buddy::MAX_ORDER)
                        .ok_or("the order is a number from 0 to 10")?;
                }
                Some(("seed", n)) => {
                    request.seed = n.parse().map_err(|_| "the seed is a number")?;
                }
                _ => return Err("after the amount: every-other, order=N, seed=N"),
            }
        }
        Ok(request)
    }

    /// Blocks wanted, where `ordinary` pages lie outside of scratch, of which `preserved` are preserved already.
    pub fn blocks(&self, ordinary: u64, preserved: u64) -> u64 {
        let pages = match self.amount {
            Amount::Bytes(bytes) => bytes.div_ceil(crate::layout::PAGE),
            Amount::Percent(percent) => {
                (ordinary * percent).div_ceil(100).saturating_sub(preserved)
            }
        };
        pages.div_ceil(1 << self.order)
    }

    /// How many free blocks to draw `wanted` ones from, where so many pages are free and `least` of them must stay untouched.
    /// Half of what is left over stays in one piece, for a kernel needs some of its memory in a row; the other half is the
    /// holes.
    ///
    /// # Errors
    /// Where there is too little: pages that are wanted, and that could be had.
    pub fn to_draw_from(&self, wanted: u64, free: u64, least: u64) -> Result<u64, (u64, u64)> {
        let needed = match self.pattern {
            Pattern::Random => wanted,
            Pattern::EveryOther => wanted.saturating_mul(2),
        };
        let had = free.saturating_sub(least);
        let needed_pages = needed.saturating_mul(1 << self.order);
        if needed_pages > had {
            return Err((needed_pages, had));
        }
        Ok(needed + (((had - needed_pages) / 2) >> self.order))
    }

    /// Brings those of the free `blocks` (by address) to the front that are kept, in the order in which they are listed; how
    /// many there are, `wanted` at most.
    pub fn choose(&self, blocks: &mut [u64], wanted: usize) -> usize {
        match self.pattern {
            Pattern::Random => {
                let mut random = Random(self.seed);
                let wanted = wanted.min(blocks.len());
                // Fisher and Yates, as far as it is needed.
                for at in 0..wanted {
                    let rest = (blocks.len() - at) as u64;
                    blocks.swap(at, at + (random.next() % rest) as usize);
                }
                wanted
            }
            Pattern::EveryOther => {
                let is_odd = |pa: &u64| *pa >> (12 + u32::from(self.order)) & 1;
                blocks.sort_unstable_by_key(|pa| (is_odd(pa), *pa));
                let even = blocks.partition_point(|pa| is_odd(pa) == 0);
                even.min(wanted)
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }
}

/// 2^64 over the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit over the whole number, and is one-to-one (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The words of the page at `pa`.
fn words(pa: u64, seed: u64) -> impl Iterator<Item = u64> {
    let first = mix(pa ^ mix(seed));
    core::iter::successors(Some(first), |word| Some(word.wrapping_add(STEP)))
}

/// Writes the content of the page at `pa`.
pub fn fill(page: &mut [u64], pa: u64, seed: u64) {
    for (word, value) in page.iter_mut().zip(words(pa, seed)) {
        *word = value;
    }
}

/// Whether the page at `pa` has its content.
pub fn is_intact(page: &[u64], pa: u64, seed: u64) -> bool {
    page.iter()
        .zip(words(pa, seed))
        .all(|(word, value)| *word == value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn requests_are_read_or_refused() {
        let plain = Request {
            amount: Amount::Bytes(64 << 20),
            pattern: Pattern::Random,
            order: 0,
            seed: 1,
        };
        assert_eq!(Request::parse("64M"), Ok(plain));
        assert_eq!(
            Request::parse(" 95%  seed=77 every-other order=3\n"),
            Ok(Request {
                amount: Amount::Percent(95),
                pattern: Pattern::EveryOther,
                order: 3,
                seed: 77,
            })
        );
        for wrong in [
            "",
            "0",
            "0%",
            "101%",
            "x",
            "1M order=11",
            "1M order=",
            "1M seed=-1",
            "1M sometimes",
            "% ",
        ] {
            assert!(Request::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn amounts() {
        let request = |text| Request::parse(text).unwrap();
        assert_eq!(request("4097").blocks(1000, 10), 2);
        assert_eq!(request("95%").blocks(1000, 10), 940);
        assert_eq!(request("95% order=2").blocks(1000, 10), 235);
        assert_eq!(request("1%").blocks(1000, 10), 0);
        // 900 wanted of 1000, 20 of which are untouchable: of the 80 others 40 are holes.
        assert_eq!(request("1M").to_draw_from(900, 1000, 20), Ok(940));
        assert_eq!(request("1M").to_draw_from(900, 900, 20), Err((900, 880)));
        assert_eq!(
            request("1M every-other").to_draw_from(450, 1000, 20),
            Ok(940)
        );
        assert_eq!(
            request("1M every-other").to_draw_from(900, 1000, 20),
            Err((1800, 980))
        );
        assert_eq!(
            request("1M order=2").to_draw_from(u64::MAX, 8, 0),
            Err((u64::MAX, 8))
        );
    }

    proptest! {
        #[test]
        fn blocks_are_chosen_once_each(
            pages in prop::collection::btree_set(0u64..4096, 1..200),
            wanted in 0usize..250,
            every_other: bool,
            order in 0u8..4,
            seed: u64,
        ) {
            let pattern = if every_other { Pattern::EveryOther } else { Pattern::Random };
            let request = Request { amount: Amount::Bytes(1), pattern, order, seed };
            let blocks: Vec<u64> = pages.iter().map(|page| page << (12 + order)).collect();
            let mut drawn = blocks.clone();
            let kept = request.choose(&mut drawn, wanted);
            let all: BTreeSet<u64> = drawn.iter().copied().collect();
            prop_assert!(all.iter().eq(blocks.iter()));
            let even = |pa: &&u64| **pa >> (12 + order) & 1 == 0;
            if every_other {
                prop_assert!(drawn[..kept].iter().eq(blocks.iter().filter(even).take(wanted)));
            } else {
                prop_assert_eq!(kept, wanted.min(blocks.len()));
            }
            // The same again.
            let mut again = blocks.clone();
            request.choose(&mut again, wanted);
            prop_assert_eq!(again, drawn);
        }

        #[test]
        fn a_page_is_known_by_its_content(pa in 0u64..1 << 40, seed: u64, bit in 0usize..512 * 64) {
            let pa = pa << 12;
            let mut page = [0; 512];
            fill(&mut page, pa, seed);
            prop_assert!(is_intact(&page, pa, seed));
            prop_assert!(!is_intact(&page, pa ^ 4096, seed));
            prop_assert!(!is_intact(&page, pa, seed ^ 1));
            page[bit / 64] ^= 1 << (bit % 64);
            prop_assert!(!is_intact(&page, pa, seed));
        }
    }
}
