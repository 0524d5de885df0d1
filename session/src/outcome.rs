//! The results of handlers.

use larder_core::Error;

/// The result of a handler: `()`, or a `Result` whose error can be made from a Larder [`Error`].
///
/// If the handler returns an `Err`, nothing is saved.
///
/// A plain value is not a result. [`ok`] makes it one:
///
/// ```compile_fail,E0277
/// # async fn example(sessions: larder_session::Sessions<u32>) -> larder_session::Result<()> {
/// let pizzas = sessions.update("42", async |pizzas| *pizzas).await?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the handler of a session cannot return `{Self}`",
    label = "this handler returns `{Self}`",
    note = "return `()` or a `Result` whose error implements `From<larder_session::Error>`",
    note = "to return a value, end the handler with `larder_session::ok(value)`"
)]
pub trait Outcome {
    /// The value that the update returns once the session is saved.
    type Value;
    /// The error that the update returns otherwise.
    type Error: From<Error>;

    /// Converts the outcome to a `Result`.
    ///
    /// # Errors
    ///
    /// The error of the handler.
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl Outcome for () {
    type Value = ();
    type Error = Error;

    fn into_result(self) -> Result<(), Error> {
        Ok(())
    }
}

// Otherwise the compiler reports the bound on `E`, and none of the advice above.
#[diagnostic::do_not_recommend]
impl<V, E: From<Error>> Outcome for Result<V, E> {
    type Value = V;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// The future that a handler returns. Every [`Future`] is one.
///
/// The trait exists for the compiler's message about a closure that is not async:
///
/// ```compile_fail,E0277
/// # async fn example(sessions: larder_session::Sessions<u32>) -> larder_session::Result<()> {
/// sessions.update("42", |mut pizzas| *pizzas += 1).await
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "the handler of a session returns `{Self}`, which is not a future",
    label = "this handler is not async",
    note = "make the closure async: `async |mut session| ...`",
    note = "if it awaits nothing, use `Sessions::modify`, which takes a plain closure: `|session| ...`"
)]
pub trait HandlerFuture: Future {}

#[diagnostic::do_not_recommend]
impl<F: Future> HandlerFuture for F {}

/// Returns `Ok(value)` with Larder's [`Error`], for handlers whose error type cannot be inferred.
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
