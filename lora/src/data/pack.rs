//! Which examples share a batch row: packed so that few tokens of room stay empty.
//!
//! Sequences in one pack do not see each other: the trainer makes them whole spans of
//! [`Rows`](minicrit_engine::pass::Rows), so packing changes the speed and no result.

use std::collections::BTreeSet;

/// Puts sequences of the given lengths into packs of at most `capacity` tokens, best fit
/// decreasing: the longest first, each into the fullest pack that has room. A sequence that is
/// longer than that gets a pack of its own. Indices in a pack ascend, and so do the packs' first
/// indices.
pub fn pack(lens: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut longest_first: Vec<usize> = (0..lens.len()).collect();
    longest_first.sort_by_key(|&it| (std::cmp::Reverse(lens[it]), it));
    let mut packs: Vec<Vec<usize>> = Vec::new();
    // Room that is left, and whose.
    let mut rooms: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in longest_first {
        let len = lens[index];
        let fitting = rooms.range((len, 0)..).next().copied();
        let (room, pack) = match fitting {
            Some(found) => {
                rooms.remove(&found);
                found
            }
            None => {
                packs.push(Vec::new());
                (capacity.max(len), packs.len() - 1)
            }
        };
        packs[pack].push(index);
        rooms.insert((room - len, pack));
    }
    packs.iter_mut().for_each(|it| it.sort_unstable());
    packs.sort_unstable_by_key(|it| it[0]);
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order;

    #[test]
    fn the_fullest_pack_that_has_room_is_taken() {
        assert_eq!(pack(&[5, 4, 3, 3, 2], 8), [vec![0, 2], vec![1, 3], vec![4]]);
        assert_eq!(pack(&[5, 3, 4, 4], 8), [[0, 1], [2, 3]]);
        assert_eq!(pack(&[9, 1], 8), [vec![0], vec![1]]);
        assert!(pack(&[], 8).is_empty());
    }

    /// Best fit decreasing needs at most 11/9 of the fewest packs possible, and 4 more.
    #[test]
    fn packs_are_few_full_and_hold_everything_once() {
        for seed in 0..20 {
            let lens: Vec<usize> = order(2000, seed, 0).iter().map(|it| it % 300 + 1).collect();
            let packs = pack(&lens, 512);
            let mut all = packs.concat();
            all.sort_unstable();
            assert_eq!(all, (0..lens.len()).collect::<Vec<_>>());
            let filled = |it: &Vec<usize>| it.iter().map(|&index| lens[index]).sum::<usize>();
            assert!(packs.iter().all(|it| filled(it) <= 512));
            let least = lens.iter().sum::<usize>().div_ceil(512);
            assert!(packs.len() * 9 <= least * 11 + 36, "{} of {least}", packs.len());
            assert_eq!(packs, pack(&lens, 512));
        }
    }
}
