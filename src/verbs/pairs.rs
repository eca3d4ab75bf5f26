//! Which of several models are compared with which.

/// Models in pairs: each further one with the first, and from the third on with the one before it.
pub(super) fn compared<T>(models: &[T]) -> impl Iterator<Item = (&T, &T)> {
    models.iter().enumerate().skip(1).flat_map(move |(i, model)| {
        let before = (i > 1).then(|| (&models[i - 1], model));
        [(&models[0], model)].into_iter().chain(before)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_compared_with_the_first_and_the_one_before() {
        let pairs: Vec<(&u8, &u8)> = compared(&[1, 2, 3, 4]).collect();
        assert_eq!(pairs, [(&1, &2), (&1, &3), (&2, &3), (&1, &4), (&3, &4)]);
        assert_eq!(compared(&[1]).count(), 0);
    }
}
