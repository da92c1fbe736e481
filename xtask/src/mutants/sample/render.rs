//! A file's text with many mutants in it, and where each of them stands.

use std::ops::Range;

use super::sites::{Part, Site};

/// What the copy of each crate gets: whether a mutant is the chosen one. With a file to note them in, all that are reached are noted.
pub(super) const CHOSEN: &str = r#"
#[allow(warnings, clippy::all)]
pub(crate) fn chosen_mutant(number: usize) -> bool {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    static CHOSEN: std::sync::OnceLock<(usize, Option<std::ffi::OsString>)> = std::sync::OnceLock::new();
    static NOTED: [AtomicBool; 8192] = [const { AtomicBool::new(false) }; 8192];
    let (chosen, notes) = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("CHOSEN_MUTANT").ok().and_then(|text| text.parse().ok());
        (chosen.unwrap_or(0), std::env::var_os("REACHED_MUTANTS"))
    });
    if let Some(notes) = notes {
        if !NOTED[number].swap(true, Relaxed) {
            use std::io::Write as _;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(notes);
            let _ = file.and_then(|mut file| file.write_all(format!("{number}\n").as_bytes()));
        }
    }
    *chosen == number
}
"#;

/// The text, and where each mutant stands in it.
pub(super) fn rendered(
    text: &str,
    sites: &[(usize, &Site)],
) -> (String, Vec<(usize, Range<usize>)>) {
    let mut sites = sites.to_vec();
    // What is around another comes first.
    sites.sort_by_key(|(_, site)| (site.range.start, std::cmp::Reverse(site.range.end)));
    let mut renderer = Renderer {
        text,
        out: String::new(),
        places: Vec::new(),
    };
    renderer.range(0..text.len(), &sites);
    (renderer.out, renderer.places)
}

struct Renderer<'t> {
    text: &'t str,
    out: String,
    places: Vec<(usize, Range<usize>)>,
}

impl Renderer<'_> {
    /// `range` of the text, with these sites in it, of which all are within it.
    fn range(&mut self, range: Range<usize>, sites: &[(usize, &Site)]) {
        let mut at = range.start;
        let mut sites = sites;
        while let Some((&(number, site), rest)) = sites.split_first() {
            self.out.push_str(&self.text[at..site.range.start]);
            let inner = match site.range.is_empty() {
                true => 0,
                false => rest
                    .iter()
                    .take_while(|(_, other)| other.range.end <= site.range.end)
                    .count(),
            };
            let (within, after) = rest.split_at(inner);
            let begin = self.out.len();
            for part in &site.parts {
                match part {
                    Part::Text(text) => self.out.push_str(text),
                    Part::Chosen => {
                        let chosen = format!("crate::chosen_mutant({number})");
                        self.out.push_str(&chosen);
                    }
                    Part::Old(old) => self.out.push_str(&self.text[old.clone()]),
                    Part::Mutated(old) => self.range(old.clone(), within),
                }
            }
            self.places.push((number, begin..self.out.len()));
            at = site.range.end;
            sites = after;
        }
        self.out.push_str(&self.text[at..range.end]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sites::sites;
    use super::*;

    #[test]
    fn mutants_in_mutants_stand_once_each_and_without_any_the_text_is_as_it_was() {
        let text = "fn f(a: u8) -> bool { if a < 3 && !g(a == 1) { h(a); } true }";
        let found = sites(text).unwrap();
        let numbered: Vec<_> = found.iter().enumerate().collect();
        let (out, places) = rendered(text, &numbered);
        assert_eq!(places.len(), found.len());
        for number in 0..found.len() {
            let here = format!("chosen_mutant({number})");
            assert_eq!(out.matches(&here).count(), 1, "{out}");
        }
        assert!(syn::parse_file(&out).is_ok(), "{out}");
        assert_eq!(rendered(text, &[]).0, text);
    }

    #[test]
    fn tests_constants_and_patterns_have_none() {
        let text = "#[cfg(test)] mod t { fn f() { g(); } } const A: u8 = 1 + 1; \
            fn f(a: u8) -> char { match a { 1 => 'a', 2..=3 => 'b', 4.. => 'c', 0 => 'd' } }";
        assert!(sites(text).unwrap().is_empty());
    }
}
