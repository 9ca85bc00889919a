//! JSON objects whose keys may repeat, so that repeats can be refused.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    marker::PhantomData,
};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The entries of an object in their order, repeats included.
pub(super) struct Entries<V>(pub Vec<(String, V)>);

impl<V> Entries<V> {
    /// A map, and a problem for each key that occurs again.
    pub(super) fn into_map(self, what: &str, problems: &mut Vec<String>) -> HashMap<String, V> {
        let mut map = HashMap::with_capacity(self.0.len());
        for (key, value) in self.0 {
            match map.entry(key) {
                Entry::Occupied(place) => {
                    problems.push(format!("`{}` occurs twice in {what}", shorten(place.key())));
                }
                Entry::Vacant(place) => {
                    place.insert(value);
                }
            }
        }
        map
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// A text for an error: not too long, and no control characters.
pub(super) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut short: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        short.push_str("...");
    }
    short
}
