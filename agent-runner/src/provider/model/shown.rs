//! Which pictures and documents of a conversation are shown: the newest, within bounds. Pure.
//!
//! A model refuses a request with too many of them, or one that is too large, and all of them go along
//! each time. The older ones are left out several at once, so that what the upstream's cache holds is not
//! another text at every further picture.

use std::collections::{HashSet, VecDeque};

use super::conversation::{Item, Part};
use super::kept::bytes_of;

/// The most that are shown. Of more than twenty, Anthropic takes none that is larger than 2000 pixels.
const COUNT_MAX: u64 = 19;

/// The most that all of them have together, in bytes as they are. In base64 that are 20 MB, of the 32 MiB
/// that a request may have.
const BYTES_MAX: u64 = 15_000_000;

/// About how many tokens of a model's room are for each.
const TOKENS_EACH: u64 = 3_200;

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// The newest, as a model takes them that has room for so many tokens.
    Newest(u32),
    /// None: a request with them was refused.
    None,
}

/// The places of what is shown, counted over all pictures and documents of `items`.
pub(super) fn places(items: &[Item], shown: Shown) -> HashSet<usize> {
    let Shown::Newest(context) = shown else { return HashSet::new() };
    let count_max = (u64::from(context) / TOKENS_EACH).clamp(2, COUNT_MAX);
    // (its place, that of its item, its bytes), the oldest first.
    let mut window: VecDeque<(usize, usize, u64)> = VecDeque::new();
    let (mut bytes, mut place) = (0, 0);
    for (at, item) in items.iter().enumerate() {
        for data in media(item) {
            let size = bytes_of(data).unwrap_or(0);
            window.push_back((place, at, size));
            (bytes, place) = (bytes + size, place + 1);
            let over = |count: usize, bytes: u64, part: u64| {
                count as u64 > count_max.div_ceil(part) || bytes > BYTES_MAX / part
            };
            let full = over(window.len(), bytes, 1);
            while let Some(&(_, of, size)) = window.front()
                && full
                // Of what came together as much is shown as there is room for; of what is older, half.
                && over(window.len(), bytes, if of == at { 1 } else { 2 })
            {
                window.pop_front();
                bytes -= size;
            }
        }
    }
    window.into_iter().map(|(place, _, _)| place).collect()
}

/// How the pictures and documents of `item` are kept, in their order.
pub(super) fn media(item: &Item) -> impl Iterator<Item = &str> {
    let (said, results): (&[Part], &[_]) = match item {
        Item::User { parts } => (parts, &[]),
        Item::Assistant { .. } => (&[], &[]),
        Item::Results { results } => (&[], results),
    };
    let parts = said.iter().chain(results.iter().flat_map(|result| &result.parts));
    parts.filter_map(|part| match part {
        Part::Media { data, .. } => Some(data.as_str()),
        Part::Text { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(sizes: &[u64]) -> Item {
        let part = |size: &u64| Part::Media {
            media_type: "image/png".to_owned(),
            name: "a".to_owned(),
            data: format!("@00:{size}"),
        };
        Item::User { parts: sizes.iter().map(part).collect() }
    }

    fn sorted(items: &[Item], context: u32) -> Vec<usize> {
        let mut places: Vec<_> = places(items, Shown::Newest(context)).into_iter().collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn of_many_pictures_the_newest_are_shown_and_the_older_go_several_at_once() {
        let many = |count: usize| vec![pictures(&[100]); count];
        assert_eq!(sorted(&many(19), 200_000), (0..19).collect::<Vec<_>>());
        assert_eq!(sorted(&many(20), 200_000), (10..20).collect::<Vec<_>>());
        assert_eq!(sorted(&many(29), 200_000), (10..29).collect::<Vec<_>>());
        assert_eq!(sorted(&many(12), 32_768), (6..12).collect::<Vec<_>>(), "of a small model");
        assert!(places(&many(3), Shown::None).is_empty());
    }

    #[test]
    fn an_album_is_shown_as_far_as_there_is_room_for_its_bytes() {
        let album = [pictures(&[3_500_000]), pictures(&[3_500_000; 7])];
        assert_eq!(sorted(&album, 200_000), [4, 5, 6, 7]);
        let one_by_one = vec![pictures(&[3_500_000]); 5];
        assert_eq!(sorted(&one_by_one, 200_000), [3, 4]);
    }
}
