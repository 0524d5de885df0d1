//! The session of a pet owner, and the steps from its older versions.

use std::{fmt, time::Duration};

use larder_session::{Migrations, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The current session: version 11.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Owner {
    pets: Vec<Pet>,
    language: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pet {
    name: String,
    /// The age in years, if known.
    age: Option<u64>,
    is_favorite: bool,
}

/// The first session: version 0, which has no number in the store.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PetNames {
    pet_names: Vec<String>,
}

/// The sessions between. Their fields depend on the version, so they have no types here.
#[derive(Serialize, Deserialize)]
struct Older {
    pets: Vec<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// All changes in the order of their numbers. A fix between two of them has a fraction.
pub(crate) fn migrations() -> Migrations {
    Migrations::new()
        .step(1, names_become_pets)
        .step(2, pets_can_be_favorites)
        .step(3, settings)
        .async_step(10, ages_from_the_vet)
        .step(10.1, years_not_months)
        .step(11, only_the_language)
}

fn names_become_pets(old: PetNames) -> Value {
    let pets: Vec<_> = old.pet_names.iter().map(|name| json!({ "name": name, "age": null })).collect();
    json!({ "pets": pets })
}

fn pets_can_be_favorites(mut old: Older) -> Older {
    for pet in &mut old.pets {
        pet.insert("isFavorite".to_owned(), false.into());
    }
    old
}

fn settings(mut old: Older) -> Older {
    old.rest.insert("settings".to_owned(), json!({ "language": "en" }));
    old
}

async fn ages_from_the_vet(mut old: Older) -> Result<Older> {
    for pet in &mut old.pets {
        let name = pet.get("name").and_then(Value::as_str).unwrap_or_default();
        let age = ask_the_vet(name).await;
        pet.insert("age".to_owned(), age.into());
    }
    Ok(old)
}

/// A stand-in for a request to another server.
async fn ask_the_vet(name: &str) -> Option<u64> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    match name {
        "Rex" => Some(50),
        "Minka" => Some(27),
        _ => None,
    }
}

/// Step 10 stored the vet's months as years.
fn years_not_months(mut old: Older) -> Older {
    for pet in &mut old.pets {
        let years = pet.get("age").and_then(Value::as_u64).map(|months| months / 12);
        pet.insert("age".to_owned(), years.into());
    }
    old
}

fn only_the_language(mut old: Older) -> Older {
    let settings = old.rest.remove("settings").unwrap_or_default();
    let language = settings.get("language").cloned().unwrap_or_else(|| "en".into());
    old.rest.insert("language".to_owned(), language);
    old
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, pet) in self.pets.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            match pet.age {
                Some(age) => write!(f, "{comma}{} is {age}", pet.name)?,
                None => write!(f, "{comma}{} is of unknown age", pet.name)?,
            }
        }
        Ok(())
    }
}
