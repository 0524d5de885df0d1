//! What becomes of a state that no longer decodes.

/// What to do with a dialogue whose stored state is no longer one of the program's: a variant was renamed,
/// say, or a field added. What the storage itself finds damaged (the kind
/// [`Corrupt`](larder_core::ErrorKind::Corrupt)) is an error with either policy.
///
/// The best answer is a third one, [`migrations`](crate::LarderStorageBuilder::migrations), which bring it up to
/// date; this is for what they do not cover. A state that a newer version of the program has stored (one with more
/// migrations) is an error with either policy, and stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecodable {
    /// An error of the kind [`Codec`](larder_core::ErrorKind::Codec), each time, and the state stays
    /// as it is until the dialogue is removed. Nothing is lost, and the chat waits for a program that can read it.
    #[default]
    Error,
    /// The dialogue begins anew, and a warning is logged. What was stored is lost as soon as
    /// it has begun.
    Reset,
}
