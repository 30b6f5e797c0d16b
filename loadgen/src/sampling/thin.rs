//! A list that never grows beyond its limit: at the limit every other entry is left out, and from then on entries are kept
//! half as often. What is kept stays evenly spaced, and begins with the first.

/// The list.
#[derive(Debug)]
pub(super) struct Thinned<T> {
    kept: Vec<T>,
    limit: usize,
    every: u64,
    offered: u64,
    newest: Option<T>,
}

impl<T> Thinned<T> {
    /// A list of at most `limit` entries, which must be at least two.
    pub(super) fn new(limit: usize) -> Thinned<T> {
        assert!(limit >= 2, "a list of {limit} entries cannot be thinned");
        Thinned {
            kept: Vec::new(),
            limit,
            every: 1,
            offered: 0,
            newest: None,
        }
    }

    /// Takes in an entry.
    pub(super) fn push(&mut self, entry: T) {
        let number = self.offered;
        self.offered += 1;
        if !number.is_multiple_of(self.every) {
            self.newest = Some(entry);
            return;
        }
        // Room for one more is left for the newest, which is kept whenever the list ends.
        if self.kept.len() + 1 >= self.limit {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
            if !number.is_multiple_of(self.every) {
                self.newest = Some(entry);
                return;
            }
        }
        self.newest = None;
        self.kept.push(entry);
    }

    /// Entries offered so far.
    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    /// Of how many entries one is kept.
    pub(super) fn every(&self) -> u64 {
        self.every
    }

    /// What was kept, and the newest entry in any case.
    pub(super) fn into_kept(mut self) -> Vec<T> {
        self.kept.extend(self.newest);
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_the_ends_stay_and_the_gaps_are_even() {
        for limit in [2, 3, 4, 7, 10, 11] {
            for offered in 0..200_u64 {
                let mut list = Thinned::new(limit);
                (0..offered).for_each(|number| list.push(number));
                let (every, count) = (list.every(), list.offered());
                let kept = list.into_kept();
                assert!(kept.len() <= limit, "{limit} {offered}: {kept:?}");
                assert_eq!(count, offered);
                assert_eq!(kept.first().copied(), (offered > 0).then_some(0));
                assert_eq!(kept.last().copied(), offered.checked_sub(1));
                let but_last = &kept[..kept.len().saturating_sub(1)];
                assert!(but_last.windows(2).all(|pair| pair[1] - pair[0] == every));
            }
        }
    }

    #[test]
    fn a_long_list_keeps_at_least_half_of_what_it_may() {
        let mut list = Thinned::new(1000);
        (0..1_000_000).for_each(|number| list.push(number));
        assert!(list.into_kept().len() >= 499);
    }
}
