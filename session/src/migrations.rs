//! Numbered migration steps from the data of older programs to the current type.

use std::{fmt, future::ready};

use futures_util::future::BoxFuture;
use larder_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

type Run = Box<dyn Fn(Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// Migration steps for stored sessions.
///
/// Each step has a number. Fractions are allowed: 10.1 runs between 10 and 11. A session is stored with the
/// number of its last step, and all later steps run when it is read. A session without a number, from before
/// there were migrations, runs through all steps.
///
/// A step takes the result of the previous step, as any type that deserializes from it, and returns any
/// serializable type. Steps use JSON's data model with every codec. If a step fails, the stored session stays
/// unchanged. A session from a newer program, with a higher number than the last step, fails with
/// [`VersionTooNew`](ErrorKind::VersionTooNew) and is not overwritten.
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
    /// Returns migrations without steps.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Adds a step that cannot fail.
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

    /// Adds a step that can fail.
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

    /// Adds an asynchronous step, with a request to a server for example. It can run more than once for one
    /// session.
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

    /// Returns the highest number, which is the version of a current session. `None` without steps.
    #[must_use]
    pub fn version(&self) -> Option<f64> {
        self.steps.iter().map(|step| step.number).reduce(f64::max)
    }

    /// Sorts the steps.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] without steps, for duplicate numbers, and for NaN or infinity.
    pub(crate) fn checked(mut self) -> Result<Self> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if self.steps.is_empty() {
            return wrong("no migrations given: add steps, or remove `migrations`".to_owned());
        }
        if let Some(step) = self.steps.iter().find(|step| !step.number.is_finite()) {
            return wrong(format!("{} is not a valid number for a migration step", step.number));
        }
        self.steps.sort_by(|one, other| one.number.total_cmp(&other.number));
        if let Some(pair) = self.steps.windows(2).find(|pair| pair[0].number == pair[1].number) {
            return wrong(format!("two migration steps have the number {}", pair[0].number));
        }
        Ok(self)
    }

    /// Runs the steps after `version`, in order.
    ///
    /// # Errors
    ///
    /// That of the step that fails; [`ErrorKind::Codec`] if a step cannot deserialize its input.
    pub(crate) async fn run(&self, mut value: Value, version: Option<f64>) -> Result<Value> {
        for step in &self.steps {
            if version.is_none_or(|version| step.number > version) {
                value = (step.run)(value).await?;
            }
        }
        Ok(value)
    }
}

// Without serde_json's messages, which can quote the data.

fn read<Old: DeserializeOwned>(number: f64, value: Value) -> Result<Old> {
    serde_json::from_value(value).map_err(|_| {
        Error::new(ErrorKind::Codec, format!("the input of migration step {number} does not match its type"))
    })
}

fn write<New: Serialize>(number: f64, new: &New) -> Result<Value> {
    serde_json::to_value(new).map_err(|_| {
        Error::new(
            ErrorKind::Codec,
            format!("the result of migration step {number} cannot be written as JSON"),
        )
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
