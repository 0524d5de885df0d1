//! What a handler may return.

use larder_core::Error;

/// What the handler of an update returns: `()`, or a `Result` whose error can hold a Larder
/// [`Error`]. With an `Err` nothing is saved.
pub trait Outcome {
    /// What the update returns when the session has been saved.
    type Value;
    /// What it returns otherwise.
    type Error: From<Error>;

    /// As a result.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl Outcome for () {
    type Value = ();
    type Error = Error;

    fn into_result(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<V, E: From<Error>> Outcome for Result<V, E> {
    type Value = V;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// `Ok(value)` with Larder's [`Error`], for handlers in which nothing else says which error is meant.
///
/// ```
/// # async fn example() -> larder_session::Result<()> {
/// # let sessions = larder_session::Sessions::<u32>::builder().build()?;
/// let pizzas = sessions.update("42", async |mut pizzas| {
///     *pizzas += 1;
///     larder_session::ok(*pizzas)
/// }).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Never.
pub const fn ok<V>(value: V) -> Result<V, Error> {
    Ok(value)
}
