//! Which texts were seen before, in a fixed amount of memory.

/// Slots of the table: 128 MiB, of which the system gives only what is touched.
const SLOTS: usize = 1 << 24;
/// Entries that it takes; the more of its slots are full, the longer a search.
const MOST: usize = SLOTS / 8 * 7;

/// A set of texts by their hash, each with a number. It holds up to 14.6 million of them; what
/// comes later is compared with these and not kept.
///
/// A slot keeps 32 bits of the hash beside the number, and its place tells 24 more, so that among
/// ten million texts about one in a hundred files reports a text as seen that was not.
#[derive(Debug)]
pub struct Seen {
    /// The upper half of the hash, and the number plus one; 0 is a free slot.
    slots: Vec<u64>,
    len: usize,
    full: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new()
    }
}

impl Seen {
    /// An empty set.
    pub fn new() -> Self {
        Self { slots: vec![0; SLOTS], len: 0, full: false }
    }

    /// The number under which `text` was put in before; otherwise puts it in under `number`, which
    /// must be below 2^32 - 1 (others are not kept).
    pub fn insert(&mut self, text: &str, number: u64) -> Option<u64> {
        let (found, slot) = self.search(text);
        if let Ok(number) = found {
            return Some(number);
        }
        match u32::try_from(number + 1) {
            Ok(number) if self.len < MOST => {
                self.slots[slot] = (found.unwrap_or_else(|it| it) << 32) | u64::from(number);
                self.len += 1;
            }
            _ => self.full = true,
        }
        None
    }

    /// The number under which `text` was put in.
    pub fn find(&self, text: &str) -> Option<u64> {
        self.search(text).0.ok()
    }

    /// Whether texts came that were not kept.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The number of a text, or else the mark that stands for it; and the slot of either.
    fn search(&self, text: &str) -> (Result<u64, u64>, usize) {
        let hash = blake3::hash(text.as_bytes());
        let word = |at: usize| {
            let bytes: [u8; 4] = std::array::from_fn(|it| hash.as_bytes()[at + it]);
            u64::from(u32::from_le_bytes(bytes))
        };
        let mark = word(0);
        let mut slot = word(4) as usize % SLOTS;
        loop {
            match self.slots[slot] {
                0 => return (Err(mark), slot),
                entry if entry >> 32 == mark => {
                    return (Ok((entry & u64::from(u32::MAX)) - 1), slot);
                }
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_seen_after_it_was_put_in() {
        let mut seen = Seen::new();
        assert_eq!(seen.insert("a", 0), None);
        assert_eq!(seen.insert("b", 7), None);
        assert_eq!(seen.insert("a", 9), Some(0));
        assert_eq!(seen.find("b"), Some(7));
        assert_eq!(seen.find("c"), None);
        assert!(!seen.is_full());
    }

    #[test]
    fn many_texts_keep_their_numbers() {
        let mut seen = Seen::new();
        for number in 0..200_000u64 {
            assert_eq!(seen.insert(&number.to_string(), number), None);
        }
        for number in (0..200_000u64).step_by(997) {
            assert_eq!(seen.find(&number.to_string()), Some(number));
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut seen = Seen::new();
        assert_eq!(seen.insert("x", u64::from(u32::MAX)), None);
        assert!(seen.is_full());
        assert_eq!(seen.find("x"), None);
    }
}
