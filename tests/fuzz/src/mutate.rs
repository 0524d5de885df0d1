//! Inputs that are almost valid.

use fastrand::Rng;

/// The longest input.
const LONGEST: usize = 64 << 10;
/// One input in so many is stretched: a part of it is repeated until it is long, or nested. So deep nesting, long texts
/// and many members are tried for every format.
const STRETCHED: usize = 32;

/// Parts of the formats, and values at the edges of their types.
const TOKENS: [&[u8]; 48] = [
    crate::SECRET.as_bytes(),
    b"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"{}",
    b"[]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e400",
    b"-0.0",
    b"0.1",
    b"9007199254740993",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"9223372036854775807",
    b"\\ud83c",
    b"\\udf55",
    b"\\u0000",
    b"\\u005f_d",
    b"\xf4\x8d\xa0\xbc",
    b"\xff",
    b"\0",
    b"\n",
    b" ",
    b"%",
    b"%2F",
    b"%ff",
    b"/",
    b"?",
    b"&",
    b"=",
    b"@",
    b"#",
    b"\"__d\":",
    b"{\"__larder\":",
    b"\"v\":",
    b"\"e\":1",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
];

/// Makes inputs from a corpus. The same seed makes the same inputs.
#[derive(Debug)]
pub struct Mutator {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// Creates a mutator of a corpus, which must not be empty.
    #[must_use]
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty(), "a mutator needs a corpus");
        Self { rng: Rng::with_seed(seed), corpus }
    }

    /// Returns the next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        // Half of them have one change, so that many remain valid.
        for _ in 0..=self.rng.u8(..8).trailing_zeros() {
            self.change(&mut input);
        }
        if self.rng.usize(..STRETCHED) == 0 {
            self.stretch(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        self.corpus[self.rng.usize(..self.corpus.len())].clone()
    }

    /// Repeats a part until the input is long, or nests it deeply.
    fn stretch(&mut self, input: &mut Vec<u8>) {
        let part = if self.rng.bool() { self.part(input) } else { 0..input.len() };
        let (open, close): (&[u8], &[u8]) =
            [(&input[part.clone()], &b""[..]), (b"[", b"]"), (b"{\"a\":", b"}")][self.rng.usize(..3)];
        let copies = LONGEST.saturating_sub(input.len()) / (open.len() + close.len()).max(1);
        let long = [&open.repeat(copies), &input[part.clone()], &close.repeat(copies)].concat();
        input.splice(part, long);
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let part = self.part(input);
        match self.rng.usize(..9) {
            0 => drop(input.drain(part)),
            1 => input.truncate(part.start),
            2 => drop(input.splice(part.clone(), input[part].repeat(2))),
            3 => drop(input.splice(part.start..part.start, self.token())),
            4 => drop(input.splice(part, self.token())),
            5 => {
                let other = self.seed();
                let taken = self.part(&other);
                input.splice(part, other[taken].iter().copied());
            }
            6 => self.number(input, part.start),
            _ => {
                if let Some(byte) = input.get_mut(part.start) {
                    let value = [
                        *byte ^ 1 << self.rng.u8(..8),
                        0,
                        1,
                        0x7f,
                        0x80,
                        0xff,
                        byte.wrapping_add(1),
                        self.rng.u8(..),
                    ];
                    *byte = value[self.rng.usize(..value.len())];
                }
            }
        }
    }

    fn token(&mut self) -> Vec<u8> {
        TOKENS[self.rng.usize(..TOKENS.len())].to_vec()
    }

    /// Replaces the number in digits that follows.
    fn number(&mut self, input: &mut Vec<u8>, from: usize) {
        let Some(start) = input[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else {
            return;
        };
        let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = match self.rng.usize(..3) {
            0 => self.rng.u64(..) >> self.rng.u8(..64),
            1 => 1 << self.rng.u8(..64),
            _ => (1_u64 << self.rng.u8(..64)).wrapping_sub(1),
        };
        input.splice(start..start + length, number.to_string().into_bytes());
    }

    /// Returns a part of the input: a byte, a few, or up to all.
    fn part(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        if input.is_empty() {
            return 0..0;
        }
        let start = self.rng.usize(..input.len());
        let most = [1, 4, 16, LONGEST][self.rng.usize(..4)].min(input.len() - start);
        start..start + self.rng.usize(1..=most)
    }
}
