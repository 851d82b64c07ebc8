//! The word that was perhaps meant.

/// The one of `known` that is nearest to `word`, if any is near.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = |candidate: &'k str| {
        let likeness = strsim::jaro_winkler(word, candidate);
        (likeness > 0.75).then_some((likeness, candidate))
    };
    let best = known.into_iter().filter_map(near);
    best.max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found_and_nothing_else() {
        let known = ["input", "output", "timeout", "at"];
        assert_eq!(nearest("inptu", known), Some("input"));
        assert_eq!(nearest("time-out", known), Some("timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
