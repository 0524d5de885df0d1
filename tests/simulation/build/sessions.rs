//! Bugs in the sessions and the index of owners. All are in one copy of the sources: each edit asks at run time whether
//! its bug is planted.

use std::{error::Error, fs, path::Path};

/// The copies: the name of the module, the source, and the name of the crate.
const COPIES: [(&str, &str, &str); 2] =
    [("owners", "../../owners/src", "larder_owners::"), ("session", "../../session/src", "larder_session::")];

/// A bug: its name, and its edits. In a replacement, `PLANTED` is whether the bug is planted.
struct Bug {
    name: &'static str,
    /// The file, the text, and its replacement.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const BUGS: &[Bug] = &[
    Bug {
        name: "SaveWithoutCondition",
        edits: &[(
            "session/state.rs",
            "_ if !store.info().conditions() => Condition::Any,",
            "_ if PLANTED || !store.info().conditions() => Condition::Any,",
        )],
    },
    Bug {
        name: "SaveRepeatedAfterLostReply",
        edits: &[(
            "session/state.rs",
            "Ok(()) => Ok(None),",
            "Ok(()) => Ok(None),
            Err(error) if PLANTED && error.outcome() == larder_core::Outcome::Unknown => {
                self.reload().await?;
                Ok(Some(self))
            }",
        )],
    },
    Bug {
        name: "LostReplyAcknowledged",
        edits: &[(
            "session/state.rs",
            "Ok(()) => Ok(None),",
            "Ok(()) => Ok(None),
            Err(error) if PLANTED && error.outcome() == larder_core::Outcome::Unknown => Ok(None),",
        )],
    },
    Bug {
        name: "ConflictAcknowledged",
        edits: &[(
            "session/state.rs",
            "Ok(()) => Ok(None),",
            "Ok(()) => Ok(None),
            Err(error) if PLANTED && error.kind() == ErrorKind::Conflict => Ok(None),",
        )],
    },
    Bug {
        name: "LostReplyRefused",
        edits: &[(
            "session/state.rs",
            "Ok(()) => Ok(None),",
            "Ok(()) => Ok(None),
            Err(error) if PLANTED && error.outcome() == larder_core::Outcome::Unknown => Err(error.not_applied()),",
        )],
    },
    Bug {
        name: "KeysCutShort",
        edits: &[(
            "session/sessions.rs",
            "key.into().under(&self.shared.prefix)",
            "let key = key.into().under(&self.shared.prefix);
        if PLANTED {
            return key.and_then(|key| Key::new(&key.as_str()[..self.shared.prefix.len() + 1]));
        }
        key",
        )],
    },
    Bug {
        name: "SessionEndsEarly",
        edits: &[(
            "session/state.rs",
            "let options = WriteOptions::new().expiry(expiry).condition(condition);",
            "let half = |millis| Expiry::after_millis(millis / 2);
        let expiry = if PLANTED { expiry.as_millis().map_or(expiry, half) } else { expiry };
        let options = WriteOptions::new().expiry(expiry).condition(condition);",
        )],
    },
    Bug {
        name: "IndexAfterSession",
        edits: &[
            (
                "session/state.rs",
                "let saving = self.shared.before_save(&self.slot.key, &self.indexed, &will).await?;",
                "if PLANTED {
            self.slot.replace(&self.shared, value.clone(), will.owner.as_ref()).await?;
        }
        let saving = self.shared.before_save(&self.slot.key, &self.indexed, &will).await?;",
            ),
            (
                "session/state.rs",
                "        self.slot.replace(&self.shared, value, will.owner.as_ref()).await?;",
                "        if !PLANTED {
            self.slot.replace(&self.shared, value, will.owner.as_ref()).await?;
        }",
            ),
        ],
    },
    Bug {
        name: "IndexAfterTouch",
        edits: &[
            (
                "session/state.rs",
                "self.before_touch(key, indexed, expiry).await?;",
                "if !PLANTED {
                self.before_touch(key, indexed, expiry).await?;
            }",
            ),
            (
                "session/state.rs",
                "if self.resolver.touch(key, version, expiry).await? {",
                "if self.resolver.touch(key, version, expiry).await? {
                if PLANTED {
                    self.before_touch(key, indexed, expiry).await?;
                }",
            ),
        ],
    },
    Bug {
        name: "NotedOnceOnly",
        edits: &[(
            "session/state.rs",
            "if let Some((_, expiry)) = &value {",
            "if let Some((_, expiry)) = value.as_ref().filter(|_| !PLANTED) {",
        )],
    },
    Bug {
        name: "LeaseCountedFromReply",
        edits: &[(
            "session/lease/claim.rs",
            "let written = self.store.write_with(&self.names.held, value, &options).await?;",
            "let written = self.store.write_with(&self.names.held, value, &options).await?;
        let sent = if PLANTED { Instant::now() } else { sent };",
        )],
    },
    Bug {
        name: "LeaseWithoutMargin",
        edits: &[(
            "session/lease/claim.rs",
            "sent + (self.ttl - MARGIN)",
            "sent + if PLANTED { self.ttl } else { self.ttl - MARGIN }",
        )],
    },
    Bug {
        name: "LeaseEntryEndsEarly",
        edits: &[(
            "session/lease/claim.rs",
            "WriteOptions::new().expiry(self.ttl)",
            "WriteOptions::new().expiry(if PLANTED { self.ttl / 2 } else { self.ttl })",
        )],
    },
    Bug {
        name: "TokenWithoutSwap",
        edits: &[(
            "session/lease/claim.rs",
            "let next = |seen: Option<Counter>| {",
            "if PLANTED {
            let seen = self.store.read_as::<Counter>(&self.names.counter).await?;
            let token = seen.map_or(0, |seen| seen.token) + 1;
            self.store.write(&self.names.counter, Json.encode(&Counter { token })?).await?;
            return Ok(token);
        }
        let next = |seen: Option<Counter>| {",
        )],
    },
    Bug {
        name: "TokenUnconfirmed",
        edits: &[(
            "session/lease/acquire.rs",
            "claim.write(Some(token), Condition::At(version)).await",
            "claim.write(Some(token), if PLANTED { Condition::Any } else { Condition::At(version) }).await",
        )],
    },
    Bug {
        name: "ReleaseOfAnyHolder",
        edits: &[(
            "session/lease/claim.rs",
            "self.store.delete(&self.names.held).if_at(version.clone()).await",
            "self.store
            .delete(&self.names.held)
            .condition(if PLANTED { Condition::Any } else { Condition::At(version.clone()) })
            .await",
        )],
    },
    Bug {
        name: "LateRenewalCounts",
        edits: &[(
            "session/lease/hold.rs",
            "let in_time = is_ahead(*until);",
            "let in_time = is_ahead(*until) || PLANTED;",
        )],
    },
    Bug {
        name: "RenewalPanics",
        edits: &[(
            "session/lease/renewal.rs",
            "Err(error) if error.is_retryable() => {",
            "Err(error) if PLANTED => panic!(\"{error}\"),
            Err(error) if error.is_retryable() => {",
        )],
    },
    Bug {
        name: "MoveEndsAfterFirstStep",
        edits: &[(
            "session/moves/resolver.rs",
            "(_, KeyState::Incoming(ours)) if ours.from == old => self.advance(&ours).await?,",
            "(_, KeyState::Incoming(ours)) if PLANTED && ours.from == old && ours.own.is_none() => return Ok(()),
                (_, KeyState::Incoming(ours)) if ours.from == old => self.advance(&ours).await?,",
        )],
    },
    Bug {
        name: "DepartureWithoutCondition",
        edits: &[(
            "session/moves/resolver.rs",
            "self.write_marker(&incoming.from, &moving, Expiry::Never, condition).await",
            "let condition = if PLANTED { Condition::Any } else { condition };
        self.write_marker(&incoming.from, &moving, Expiry::Never, condition).await",
        )],
    },
    Bug {
        name: "RedirectBeforeArrival",
        edits: &[(
            "session/moves/resolver.rs",
            "let arrived = self.arrive(departed, &incoming).await;",
            "if PLANTED {
                    self.leave_redirect(departed).await?;
                }
                let arrived = self.arrive(departed, &incoming).await;",
        )],
    },
    Bug {
        name: "UnwrappedBeforeRedirect",
        edits: &[(
            "session/moves/resolver.rs",
            "KeyState::Departed(departed) if departed.trip == arrived.trip => {",
            "KeyState::Departed(departed) if !PLANTED && departed.trip == arrived.trip => {",
        )],
    },
    Bug {
        name: "RestoredAfterArrival",
        edits: &[(
            "session/moves/resolver.rs",
            "KeyState::Arrived(arrived) if arrived.trip == departed.trip => {",
            "KeyState::Arrived(arrived) if !PLANTED && arrived.trip == departed.trip => {",
        )],
    },
    Bug {
        name: "MarkerExpires",
        edits: &[(
            "session/moves/resolver.rs",
            "self.write_marker(&departed.to, &arrived, Expiry::Never, condition).await",
            "let expiry = if PLANTED { Expiry::after_millis(5) } else { Expiry::Never };
        self.write_marker(&departed.to, &arrived, expiry, condition).await",
        )],
    },
    Bug {
        name: "MarkerNotRemoved",
        edits: &[(
            "session/moves/resolver.rs",
            "self.restore(key, moving.data.as_ref(), moving.at.clone()).await",
            "if PLANTED {
            return Ok(());
        }
        self.restore(key, moving.data.as_ref(), moving.at.clone()).await",
        )],
    },
    Bug {
        name: "MovedWithoutLifetime",
        edits: &[(
            "session/moves/resolver.rs",
            "WriteOptions::new().expiry(left).condition(condition)",
            "WriteOptions::new().expiry(if PLANTED { Expiry::Never } else { left }).condition(condition)",
        )],
    },
    Bug {
        name: "TouchOfAnyVersion",
        edits: &[(
            "session/moves/resolver.rs",
            "at.map_or(Condition::Any, Condition::At)",
            "at.filter(|_| !PLANTED).map_or(Condition::Any, Condition::At)",
        )],
    },
    Bug {
        name: "UndoneWithoutSession",
        edits: &[(
            "session/moves/resolver.rs",
            "self.restore(&incoming.new, incoming.own.as_ref(), incoming.at.clone()).await",
            "self.restore(&incoming.new, incoming.own.as_ref().filter(|_| !PLANTED), incoming.at.clone()).await",
        )],
    },
    Bug {
        name: "IndexEndsEarly",
        edits: &[(
            "owners/deadline.rs",
            "(deadline.div_euclid(step) + 1 + SPARE)",
            "(deadline.div_euclid(step) + 1 + if PLANTED { 0 } else { SPARE })",
        )],
    },
    Bug {
        name: "BucketWithoutCondition",
        edits: &[(
            "owners/owners.rs",
            "Ok(Some(Change::put(key, bytes, expiry).on(condition)))",
            "let condition = if PLANTED { Condition::Any } else { condition };
        Ok(Some(Change::put(key, bytes, expiry).on(condition)))",
        )],
    },
    Bug {
        name: "BucketNeverExpires",
        edits: &[(
            "owners/owners.rs",
            "Ok(Some(Change::put(key, bytes, expiry).on(condition)))",
            "let expiry = if PLANTED { larder_core::Expiry::Never } else { expiry };
        Ok(Some(Change::put(key, bytes, expiry).on(condition)))",
        )],
    },
    Bug {
        name: "RevocationSkipsConflicts",
        edits: &[(
            "owners/sessions.rs",
            "Err(error) if error.kind() == ErrorKind::Conflict => waiting.push(entry.clone()),",
            "Err(error) if PLANTED && error.kind() == ErrorKind::Conflict => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => waiting.push(entry.clone()),",
        )],
    },
    Bug {
        name: "RevocationWithoutVersion",
        edits: &[(
            "owners/sessions.rs",
            "let condition = found.version.map_or(Condition::Present, Condition::At);",
            "let version = found.version.filter(|_| !PLANTED);
                        let condition = version.map_or(Condition::Present, Condition::At);",
        )],
    },
    Bug {
        name: "ListingEndsAtMissing",
        edits: &[(
            "owners/sessions.rs",
            "for (entry, found) in entries.iter().zip(lookup.find(owner, &keys(entries)).await) {",
            "for (entry, found) in entries.iter().zip(lookup.find(owner, &keys(entries)).await) {
                if PLANTED && matches!(found, Ok(None)) {
                    break;
                }",
        )],
    },
    Bug {
        name: "ListingOfAnyOwner",
        edits: &[(
            "session/index.rs",
            "own.is_some_and(|own| own.id == owner)",
            "own.is_some_and(|own| PLANTED || own.id == owner)",
        )],
    },
    Bug {
        name: "LimitOffByOne",
        edits: &[(
            "owners/sessions.rs",
            "sessions.len().saturating_sub(most.max(1))",
            "sessions.len().saturating_sub(most.max(1) + usize::from(PLANTED))",
        )],
    },
];

/// Writes the copies with the bugs to `out`.
pub(crate) fn plant(out: &Path) -> Result<(), Box<dyn Error>> {
    // The features of the crate `larder-session`.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"cbor\", \"memory\", \"msgpack\"))");
    let mut fitting = 0;
    let mut modules = String::new();
    for (name, source, _) in COPIES {
        println!("cargo::rerun-if-changed={source}");
        let copy = out.join("sessions").join(name);
        fitting += plant_in(Path::new(source), &copy, name)?;
        let path = copy.join("lib.rs");
        modules += &format!(
            "#[allow(warnings, unreachable_pub, clippy::all, clippy::nursery, clippy::pedantic, clippy::restriction)]
            #[path = {path:?}]
            pub(crate) mod {name};\n",
        );
    }
    let edits: usize = BUGS.iter().map(|bug| bug.edits.len()).sum();
    if fitting != edits {
        return Err("a bug of the sessions edits a file that does not exist".into());
    }
    fs::write(out.join("sessions.rs"), modules)?;
    Ok(())
}

/// Copies a folder of sources. Returns the number of edits.
fn plant_in(source: &Path, copy: &Path, name: &str) -> Result<usize, Box<dyn Error>> {
    fs::create_dir_all(copy)?;
    let mut fitting = 0;
    for file in fs::read_dir(source)? {
        let file = file?.path();
        let Some(file_name) = file.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{name}/{file_name}");
        if file.is_dir() {
            fitting += plant_in(&file, &copy.join(file_name), &name)?;
            continue;
        }
        let mut text = fs::read_to_string(&file)?;
        for bug in BUGS {
            for (_, before, after) in bug.edits.iter().filter(|(edited, ..)| *edited == name) {
                if text.matches(before).count() != 1 {
                    return Err(
                        format!("the edit of bug {} no longer fits {name}: {before}", bug.name).into()
                    );
                }
                let planted = format!("crate::sessions::planted::is(crate::sessions::Bug::{})", bug.name);
                // The names of the copies are not rewritten in it.
                text = text.replace(before, &after.replace("PLANTED", &planted.replace("crate::", "ROOT::")));
                fitting += 1;
            }
        }
        fs::write(copy.join(file_name), rewritten(&text, &name))?;
    }
    Ok(fitting)
}

/// Makes the source of a crate that of a module.
fn rewritten(text: &str, name: &str) -> String {
    // Unit tests are at the end.
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let own = name.split('/').next().unwrap_or(name);
    let mut text = text
        .replace("#![doc = include_str!(\"../README.md\")]\n", "")
        .replace("crate::", &format!("crate::sessions::planted::{own}::"));
    for (copy, _, imported) in COPIES {
        text = text.replace(imported, &format!("crate::sessions::planted::{copy}::"));
    }
    text.replace("ROOT::", "crate::")
}
