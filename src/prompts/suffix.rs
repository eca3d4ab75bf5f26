//! The common end of two sequences.

/// Number of elements at the end that `a` and `b` share.
///
/// The tokens after the user's text are the common suffix of two rendered prompts (Arditi et
/// al. call them the post-instruction tokens).
pub fn common_suffix_len<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_of_unequal_lengths_are_compared_from_the_end() {
        assert_eq!(common_suffix_len(&[1, 2, 3, 4], &[9, 3, 4]), 2);
        assert_eq!(common_suffix_len(&[3, 4], &[3, 4]), 2);
        assert_eq!(common_suffix_len(&[3, 4], &[2, 3, 4]), 2);
        assert_eq!(common_suffix_len(&[4, 3], &[3, 4]), 0);
        assert_eq!(common_suffix_len::<u8>(&[], &[1]), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..<_>::default() })]

        #[test]
        fn it_is_the_longest_suffix_that_both_have(
            a in prop::collection::vec(0..3u8, 0..9),
            b in prop::collection::vec(0..3u8, 0..9),
            tail in prop::collection::vec(0..3u8, 0..9),
        ) {
            let (a, b) = ([a, tail.clone()].concat(), [b, tail.clone()].concat());
            let n = common_suffix_len(&a, &b);
            prop_assert!(n >= tail.len());
            prop_assert_eq!(&a[a.len() - n..], &b[b.len() - n..]);
            prop_assert_eq!(n, common_suffix_len(&b, &a));
            if n < a.len() && n < b.len() {
                prop_assert_ne!(a[a.len() - n - 1], b[b.len() - n - 1]);
            }
        }
    }
}
