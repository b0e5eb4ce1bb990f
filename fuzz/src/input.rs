//! Inputs read as scripts: letters that stand for steps, and numbers behind them.
//!
//! A script is made to be written by hand as well as by an engine: `s0 d1` is a script, and so is
//! every other sequence of bytes.

/// What is left of a script. At its end everything is zero.
#[derive(Clone, Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// The whole input.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next step: a letter of `steps`, or one of them that stands for the byte. Spaces and line
    /// ends separate.
    pub fn step(&mut self, steps: &[u8]) -> Option<u8> {
        while let Some((b' ' | b'\n', rest)) = self.0.split_first() {
            self.0 = rest;
        }
        if self.0.is_empty() {
            return None;
        }
        let byte = self.byte();
        Some(if steps.contains(&byte) { byte } else { steps[usize::from(byte) % steps.len()] })
    }

    /// A number below `bound`: a digit is itself.
    pub fn number(&mut self, bound: usize) -> usize {
        match self.byte() {
            digit @ b'0'..=b'9' => usize::from(digit - b'0') % bound,
            other => usize::from(other) % bound,
        }
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.number(list.len())]
    }

    /// Up to so many bytes as they are.
    pub fn raw(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
