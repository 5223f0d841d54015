//! Numbers that stand for several others, made in next to no time: a torrent has many files.

/// One number of two, of which each bit depends on nearly all of theirs. Not for numbers that an enemy chooses.
pub(super) fn mixed(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_that_are_nearly_alike_give_others() {
        let made: BTreeSet<u64> =
            (0..300).flat_map(|a| (0..300).map(move |b| mixed(mixed(7, a), b))).collect();
        assert_eq!(made.len(), 90_000);
        let halves: BTreeSet<u32> = made.iter().map(|&number| number as u32).collect();
        assert!(halves.len() > 89_900, "{}", halves.len());
    }
}
