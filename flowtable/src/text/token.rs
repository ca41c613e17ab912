//! Cutting flow text into words: `key`, `key=value`, `key:value`, `key(value)`.

/// One word of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word<'a> {
    pub key: &'a str,
    /// Empty if there is none.
    pub value: &'a str,
    /// Whether there is one, be it empty.
    pub given: bool,
}

fn separator(b: u8) -> bool {
    matches!(b, b',' | b' ' | b'\t' | b'\r' | b'\n')
}

/// The words of a text, between commas and white space that stand in no parentheses.
pub(crate) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Words { rest: text }
    }

    fn cut(&mut self, at: usize) -> &'a str {
        // Every cut is at an ASCII byte or the end, hence at a character's boundary.
        let (head, tail) = self.rest.split_at_checked(at).unwrap_or((self.rest, ""));
        self.rest = tail;
        head
    }

    fn first(&self, stop: impl Fn(u8) -> bool) -> usize {
        self.rest.bytes().position(stop).unwrap_or(self.rest.len())
    }

    /// End of a value that runs until a separator outside parentheses or, with `closing`, the parenthesis that closes it.
    fn value_end(&self, closing: bool) -> usize {
        let mut depth = 0usize;
        for (i, b) in self.rest.bytes().enumerate() {
            match b {
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b')' if closing => return i,
                b if depth == 0 && !closing && separator(b) => return i,
                _ => {}
            }
        }
        self.rest.len()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let skip = self.first(|b| !separator(b));
        self.cut(skip);
        if self.rest.is_empty() {
            return None;
        }
        let end = self.first(|b| separator(b) || matches!(b, b':' | b'=' | b'(' | b')'));
        let key = self.cut(end);
        let given = matches!(self.rest.bytes().next(), Some(b':' | b'=' | b'('));
        let value = match self.rest.bytes().next() {
            Some(b':' | b'=') => {
                self.cut(1);
                let end = self.value_end(false);
                self.cut(end)
            }
            Some(b'(') => {
                self.cut(1);
                let mut end = self.value_end(true);
                let arrow = self.rest.get(end..).is_some_and(|tail| tail.starts_with(")->"));
                if arrow {
                    // `check_pkt_larger(LEN)->DST`: the destination belongs to the value.
                    let tail = self.rest.as_bytes().get(end..).unwrap_or_default();
                    end += tail.iter().position(|b| separator(*b)).unwrap_or(tail.len());
                }
                let value = self.cut(end);
                if arrow {
                    return Some(Word { key, value, given });
                }
                let close = usize::from(!self.rest.is_empty());
                self.cut(close);
                value
            }
            Some(b')') => {
                // A stray parenthesis is a word of its own, which nothing knows.
                let stray = self.cut(1);
                return Some(Word { key: if key.is_empty() { stray } else { key }, value: "", given: false });
            }
            _ => self.rest.get(..0).unwrap_or(""),
        };
        Some(Word { key, value, given })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(&str, &str)> {
        Words::new(text).map(|w| (w.key, w.value)).collect()
    }

    #[test]
    fn words_of_all_forms() {
        assert_eq!(
            words(
                " tcp,in_port=1\tdl_src=00:01:02:03:04:05 ,, resubmit(1,2)write(a(b,c),d) load:5->reg0[1..2],x"
            ),
            [
                ("tcp", ""),
                ("in_port", "1"),
                ("dl_src", "00:01:02:03:04:05"),
                ("resubmit", "1,2"),
                ("write", "a(b,c),d"),
                ("load", "5->reg0[1..2]"),
                ("x", "")
            ]
        );
        assert_eq!(words("f:(0,0),g(1"), [("f", "(0,0)"), ("g", "1")]);
        assert_eq!(words("=5"), [("", "5")]);
        assert_eq!(words(" ,"), []);
        assert_eq!(words("é=ü,a)b"), [("é", "ü"), ("a", ""), ("b", "")]);
    }
}
