//! Patterns over names as the shell has them: `*`, `?`, `[a-z]`, `[!a]`, and `\` before a character that is meant itself.
//! Pure.

const SPECIAL: [char; 5] = ['*', '?', '[', ']', '\\'];

/// A pattern over one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Glob(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Letter(char),
    Any,
    Many,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Every text is a pattern: a `[` without its `]` means itself.
    pub(crate) fn new(text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < letters.len() {
            let part = match letters[at] {
                '\\' if letters.get(at + 1).is_some_and(|next| SPECIAL.contains(next)) => {
                    at += 1;
                    Part::Letter(letters[at])
                }
                '?' => Part::Any,
                '*' => Part::Many,
                '[' => match class(&letters[at..]) {
                    Some((class, length)) => {
                        at += length - 1;
                        class
                    }
                    None => Part::Letter('['),
                },
                letter => Part::Letter(letter),
            };
            if !(part == Part::Many && parts.last() == Some(&Part::Many)) {
                parts.push(part);
            }
            at += 1;
        }
        Self(parts)
    }

    /// The one name that it stands for when it holds no wildcard.
    pub(crate) fn literal(&self) -> Option<String> {
        let letter = |part: &Part| if let Part::Letter(letter) = part { Some(*letter) } else { None };
        self.0.iter().map(letter).collect()
    }

    /// Whether the whole name matches. As in the shell, only a dot in the pattern matches a leading dot if `hide_dots`.
    pub(crate) fn matches(&self, name: &[u8], hide_dots: bool) -> bool {
        let letters: Vec<char> = String::from_utf8_lossy(name).chars().collect();
        if hide_dots && letters.first() == Some(&'.') && self.0.first() != Some(&Part::Letter('.')) {
            return false;
        }
        // Goes back to the last star only, which is enough and keeps it linear in practice.
        let (mut part, mut letter, mut retry) = (0, 0, None);
        while letter < letters.len() {
            match self.0.get(part) {
                Some(Part::Many) => {
                    retry = Some((part, letter));
                    part += 1;
                }
                Some(one) if one.is_letter(letters[letter]) => {
                    part += 1;
                    letter += 1;
                }
                _ => {
                    let Some((star, from)) = retry else { return false };
                    retry = Some((star, from + 1));
                    (part, letter) = (star + 1, from + 1);
                }
            }
        }
        self.0[part..].iter().all(|part| *part == Part::Many)
    }
}

impl Part {
    fn is_letter(&self, letter: char) -> bool {
        match self {
            Part::Letter(own) => *own == letter,
            Part::Any => true,
            Part::Many => false,
            Part::Class { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&letter)) != *negated
            }
        }
    }
}

/// A class and how many letters it took, from its `[` on.
fn class(letters: &[char]) -> Option<(Part, usize)> {
    let negated = matches!(letters.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut ranges) = (first, Vec::new());
    loop {
        let mut from = *letters.get(at)?;
        if from == ']' && at > first {
            return Some((Part::Class { negated, ranges }, at + 1));
        }
        if from == '\\' {
            at += 1;
            from = *letters.get(at)?;
        }
        match (letters.get(at + 1), letters.get(at + 2)) {
            (Some('-'), Some(to)) if *to != ']' => {
                ranges.push((from, *to));
                at += 3;
            }
            _ => {
                ranges.push((from, from));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_shell_matches() {
        let matches = |pattern: &str, name: &str| Glob::new(pattern).matches(name.as_bytes(), true);
        for (pattern, name) in [
            ("*.parquet", "a.parquet"),
            ("a*b*c", "aXbYbZc"),
            ("?", "\u{fc}"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("a\\*", "a*"),
            ("[", "["),
            (".*", ".hidden"),
            ("**", "x"),
            ("back\\slash", "back\\slash"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.parquet", "a.csv"), ("*", ".hidden"), ("a\\*", "ab"), ("[a-c]x", "dx"), ("?", ""), ("a", "aa")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(Glob::new("*").matches(b".hidden", false));
        assert!(Glob::new("*").matches(b"\xff\n", true));
    }

    #[test]
    fn literals() {
        assert_eq!(Glob::new("a\\*b").literal(), Some("a*b".into()));
        assert_eq!(Glob::new("a*b").literal(), None);
        assert_eq!(Glob::new("[x").literal(), Some("[x".into()));
    }
}
