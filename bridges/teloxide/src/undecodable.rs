//! The policy for a state that no longer decodes.

/// The policy for a dialogue whose stored state no longer decodes, for example because a variant was renamed
/// or a field was added. An entry that the storage itself finds damaged (the kind
/// [`Corrupt`](larder_core::ErrorKind::Corrupt)) is an error with either policy.
///
/// Prefer [`migrations`](crate::LarderStorageBuilder::migrations), which convert old states; this policy is
/// for states that they do not cover. A state that a newer version of the program has stored (with more
/// migrations) is an error with either policy, and is left unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecodable {
    /// Each access fails with the kind [`Codec`](larder_core::ErrorKind::Codec), and the state is left
    /// unchanged until the dialogue is removed. Nothing is lost, and the chat waits for a program that can
    /// read the state.
    #[default]
    Error,
    /// The dialogue starts again, and a warning is logged. The stored state is lost at the next write.
    Reset,
}
