//! "Did you mean".

/// The candidate closest to `word`, if one is close enough to be a likely typo.
///
/// Distance is optimal string alignment (insert, delete, replace, swap neighbours); at most a third of the longer
/// word, and at least one edit, is allowed. Ties go to the candidate that comes first.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let allowed = (word.chars().count().max(candidate.chars().count()) / 3).max(1);
            let distance = distance(word, candidate);
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn finds_a_typo_and_refuses_a_stranger() {
        let stages = ["builder", "runtime"];
        assert_eq!(did_you_mean("bulder", stages), Some("builder"));
        assert_eq!(did_you_mean("rutnime", stages), Some("runtime"));
        assert_eq!(did_you_mean("zebra", stages), None);
    }
}
