//! Numbered steps from what older versions of a program stored to what this one reads.

use std::{fmt, future::ready};

use futures_util::future::BoxFuture;
use larder_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

type Run = Box<dyn Fn(Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// Steps that bring stored sessions up to date.
///
/// Each has a number; fractions are allowed, so that 10.1 runs between 10 and 11. A session is stored
/// with the number of the last step that it has seen, and every later one runs when it is read. One
/// that was stored before there were migrations has none and sees them all.
///
/// A step takes what the step before it has made, as any type that can be read from it, and makes
/// something else. Steps work in JSON's data model, whatever the codec. Should one fail, what is
/// stored stays as it was. A session that a newer program has stored, with a higher number than any
/// step here, is a [`VersionTooNew`](ErrorKind::VersionTooNew) error and is not overwritten.
///
/// ```
/// use larder_session::Migrations;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Names { #[serde(rename = "petNames")] pet_names: Vec<String> }
///
/// #[derive(Serialize, Deserialize)]
/// struct Pet { name: String, birthday: Option<String> }
///
/// #[derive(Serialize, Deserialize)]
/// struct Pets { pets: Vec<Pet> }
///
/// let migrations = Migrations::new()
///     .step(1, |old: Names| {
///         let pet = |name| Pet { name, birthday: None };
///         Pets { pets: old.pet_names.into_iter().map(pet).collect() }
///     })
///     .try_step(10.1, |mut pets: Pets| {
///         pets.pets.retain(|pet| !pet.name.is_empty());
///         Ok(pets)
///     });
/// assert_eq!(migrations.version(), Some(10.1));
/// ```
#[derive(Default)]
pub struct Migrations {
    steps: Vec<Step>,
}

struct Step {
    number: f64,
    run: Run,
}

impl Migrations {
    /// No steps yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// A step that cannot fail.
    #[must_use]
    pub fn step<Old, New>(
        self,
        number: impl Into<f64>,
        step: impl Fn(Old) -> New + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned,
        New: Serialize,
    {
        self.try_step(number, move |old| Ok(step(old)))
    }

    /// A step that may fail.
    #[must_use]
    pub fn try_step<Old, New>(
        self,
        number: impl Into<f64>,
        step: impl Fn(Old) -> Result<New> + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned,
        New: Serialize,
    {
        let number = number.into();
        let run = move |value| {
            let new = read(number, value).and_then(&step).and_then(|new| write(number, &new));
            Box::pin(ready(new)) as BoxFuture<'static, _>
        };
        self.push(number, Box::new(run))
    }

    /// A step that waits for something: a request to a server, say. It may run more than once for
    /// one session.
    #[must_use]
    pub fn async_step<Old, New, F>(
        self,
        number: impl Into<f64>,
        step: impl Fn(Old) -> F + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned,
        New: Serialize,
        F: Future<Output = Result<New>> + Send + 'static,
    {
        let number = number.into();
        let run = move |value| {
            let step = read(number, value).map(&step);
            Box::pin(async move { write(number, &step?.await?) }) as BoxFuture<'static, _>
        };
        self.push(number, Box::new(run))
    }

    fn push(mut self, number: f64, run: Run) -> Self {
        self.steps.push(Step { number, run });
        self
    }

    /// The highest number: what a session has that is up to date. `None` without steps.
    #[must_use]
    pub fn version(&self) -> Option<f64> {
        self.steps.iter().map(|step| step.number).reduce(f64::max)
    }

    /// Puts the steps in order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if there are none, two have one number, or one has no number.
    pub(crate) fn checked(mut self) -> Result<Self> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if self.steps.is_empty() {
            return wrong("no migrations given: add steps, or leave `migrations` out".to_owned());
        }
        if let Some(step) = self.steps.iter().find(|step| !step.number.is_finite()) {
            return wrong(format!("{} is no number for a migration step", step.number));
        }
        self.steps.sort_by(|one, other| one.number.total_cmp(&other.number));
        if let Some(pair) = self.steps.windows(2).find(|pair| pair[0].number == pair[1].number) {
            return wrong(format!("there are two migration steps {}", pair[0].number));
        }
        Ok(self)
    }

    /// Runs what is newer than `version`, in order.
    ///
    /// # Errors
    ///
    /// That of the step that fails; [`ErrorKind::Codec`] if a step cannot read what it is given.
    pub(crate) async fn run(&self, mut value: Value, version: Option<f64>) -> Result<Value> {
        for step in &self.steps {
            if version.is_none_or(|version| step.number > version) {
                value = (step.run)(value).await?;
            }
        }
        Ok(value)
    }
}

// serde_json's messages may quote the data, so they are left out.

fn read<Old: DeserializeOwned>(number: f64, value: Value) -> Result<Old> {
    serde_json::from_value(value).map_err(|_| {
        Error::new(
            ErrorKind::Codec,
            format!("migration step {number} is given something else than the type that it reads"),
        )
    })
}

fn write<New: Serialize>(number: f64, new: &New) -> Result<Value> {
    serde_json::to_value(new).map_err(|_| {
        Error::new(ErrorKind::Codec, format!("what migration step {number} makes cannot be written as JSON"))
    })
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| step.number)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appending() -> Migrations {
        let append = |number: &'static str| {
            move |mut seen: Vec<String>| {
                seen.push(number.to_owned());
                seen
            }
        };
        Migrations::new()
            .step(11, append("11"))
            .step(2, append("2"))
            .step(10, append("10"))
            .async_step(10.1, move |seen: Vec<String>| async move { Ok(append("10.1")(seen)) })
    }

    async fn run(version: Option<f64>) -> Value {
        appending().checked().unwrap().run(Value::Array(Vec::new()), version).await.unwrap()
    }

    #[tokio::test]
    async fn steps_run_in_the_order_of_their_numbers_fractions_included() {
        assert_eq!(run(None).await, serde_json::json!(["2", "10", "10.1", "11"]));
        assert_eq!(run(Some(10.0)).await, serde_json::json!(["10.1", "11"]));
        assert_eq!(run(Some(10.1)).await, serde_json::json!(["11"]));
        assert_eq!(run(Some(11.0)).await, serde_json::json!([]));
    }

    #[test]
    fn nonsense_is_refused() {
        let one = |number: f64| Migrations::new().step(number, |old: Value| old);
        for wrong in
            [Migrations::new(), one(f64::NAN), one(f64::INFINITY), one(1.0).step(1, |old: Value| old)]
        {
            assert_eq!(wrong.checked().unwrap_err().kind(), ErrorKind::InvalidConfig);
        }
    }

    #[tokio::test]
    async fn an_error_quotes_no_data() {
        let migrations = Migrations::new().step(1, |old: u32| old).checked().unwrap();
        let error = migrations.run("hunter2".into(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
