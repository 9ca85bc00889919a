//! Stop strings in streamed text: found across the borders of tokens, never shown.
//!
//! Knows text only, not the tokens behind it.
//!
//! ```
//! use minicrit_engine::stop::StopMatcher;
//! let mut stops = StopMatcher::new(&["END".into()]);
//! assert_eq!(stops.push("one E").text, "one ");
//! assert_eq!(stops.push("N").text, "");
//! let last = stops.push("D two");
//! assert_eq!((last.text.as_str(), last.stopped_by.as_deref()), ("", Some("END")));
//! ```

/// Text that is now certain, and whether a stop string ended it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Released {
    /// Text to show: nothing of it belongs to a stop string.
    pub text: String,
    /// The stop string that was completed, if any; what follows it is dropped.
    pub stopped_by: Option<String>,
}

/// Looks for stop strings in a stream of text.
///
/// The string that is complete first wins; of several complete at the same byte, the longest. So
/// the result does not depend on how the text was cut into pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// A matcher for `stops`. An empty stop string matches nothing.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|it| !it.is_empty()).cloned().collect();
        Self { stops, held: String::new() }
    }

    /// Feeds `text`; returns what is certain and holds back what may begin a stop string.
    pub fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        if let Some((start, stop)) = self.first_complete() {
            let stopped_by = Some(stop.to_owned());
            self.held.truncate(start);
            return Released { text: std::mem::take(&mut self.held), stopped_by };
        }
        let held_back = self.held.split_off(self.certain_len());
        let text = std::mem::replace(&mut self.held, held_back);
        Released { text, stopped_by: None }
    }

    /// The end of the text: what was held back after all begins no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start and string of the match that ends first, the longest of those.
    fn first_complete(&self) -> Option<(usize, &str)> {
        self.stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|start| (start, stop.as_str())))
            .min_by_key(|(start, stop)| (start + stop.len(), *start))
    }

    /// Length of the held text without its longest end that begins a stop string.
    fn certain_len(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = self.held.len().saturating_sub(longest.saturating_sub(1));
        (earliest..self.held.len())
            .filter(|&start| self.held.is_char_boundary(start))
            .find(|&start| self.stops.iter().any(|stop| stop.starts_with(&self.held[start..])))
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|it| (*it).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let released = matcher.push(piece);
            text.push_str(&released.text);
            if released.stopped_by.is_some() {
                return (text, released.stopped_by);
            }
        }
        text.push_str(&matcher.finish());
        (text, None)
    }

    #[test]
    fn a_stop_across_pieces_is_found_and_not_shown() {
        assert_eq!(run(&["\n\n"], &["a\n", "\nb"]), ("a".into(), Some("\n\n".into())));
        assert_eq!(run(&["stop"], &["st", "st", "op!"]), ("st".into(), Some("stop".into())));
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown() {
        assert_eq!(run(&["stop"], &["sto", "ne"]), ("stone".into(), None));
        assert_eq!(run(&["stop"], &["sto"]), ("sto".into(), None));
    }

    #[test]
    fn the_first_to_be_complete_wins_and_then_the_longest() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]), ("xa".into(), Some("bc".into())));
        assert_eq!(run(&["c", "abc"], &["xabc"]), ("x".into(), Some("abc".into())));
    }

    #[test]
    fn characters_of_several_bytes_are_not_split() {
        assert_eq!(run(&["é!"], &["caf", "é", "é", "!"]), ("café".into(), Some("é!".into())));
    }

    #[test]
    fn no_stops_hold_nothing_back() {
        let mut matcher = StopMatcher::new(&[String::new()]);
        assert_eq!(matcher.push("abc").text, "abc");
    }

    /// The plain definition: the match that ends first, over the whole text.
    fn whole(stops: &[String], text: &str) -> (String, Option<String>) {
        for end in 0..=text.len() {
            let found = stops.iter().filter(|it| text[..end].ends_with(it.as_str()));
            if let Some(stop) = found.max_by_key(|it| it.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[ab]{0,24}",
            stops in proptest::collection::vec("[ab]{1,4}", 1..4),
            cuts in proptest::collection::vec(0usize..25, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|it| it.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|it| &text[it[0]..it[1]]).collect();
            let stop_strs: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stop_strs, &pieces), whole(&stops, &text));
        }
    }
}
