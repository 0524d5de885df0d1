//! Concurrent moves and updates in every order: nothing is lost or duplicated, and every key stays usable.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use futures_util::FutureExt;
use larder_core::{Expiry, Key, Versions};
use larder_session::{ConflictPolicy, ErrorKind, Lifetime, OpenSession, Session, Sessions};

use crate::{
    schedule::{Actor, Director, Drawn, Exhaustive, perform},
    stage::Stage,
};

/// An action of a process.
#[derive(Clone, Copy, Debug)]
enum Act {
    Move(&'static str, &'static str),
    /// Adds a unique item to the session.
    Add(&'static str),
    Clear(&'static str),
    /// Reads the session, which extends it.
    Use(&'static str),
    /// The store expires all sessions with a lifetime.
    Expire,
}

use Act::{Add, Clear, Expire, Move, Use};

#[derive(Clone, Copy, Debug)]
struct Scene {
    /// The keys that have a session at the start.
    sessions: &'static [&'static str],
    merge: bool,
    acts: &'static [&'static [Act]],
}

type Items = Vec<u32>;

/// The results of the actors.
#[derive(Debug, Default)]
struct Ledger {
    begun: BTreeSet<u32>,
    acknowledged: BTreeSet<u32>,
    /// The keys that lead to one session from now on.
    together: Vec<(String, String)>,
}

fn sessions(stage: &Stage, merge: bool) -> Sessions<Items> {
    let builder = Sessions::builder().storage(stage.clone()).conflicts(ConflictPolicy::Fail);
    let lifetime = Lifetime::sliding(Duration::from_secs(1 << 20)).touch_every(Duration::ZERO);
    let builder = builder.lifetime(lifetime);
    if merge { builder.merge(|one: Items, other| [one, other].concat()) } else { builder }.build().unwrap()
}

async fn act(act: Act, item: u32, stage: Stage, merge: bool, ledger: Rc<RefCell<Ledger>>) {
    // A separate process.
    let sessions = sessions(&stage, merge);
    match act {
        Move(old, new) => match sessions.move_key(old, new).await {
            Ok(()) => ledger.borrow_mut().together.push((old.into(), new.into())),
            Err(error) => assert!(!merge && error.kind() == ErrorKind::Conflict, "{error:?}"),
        },
        Add(key) => {
            ledger.borrow_mut().begun.insert(item);
            loop {
                let added = sessions.update(key, async |mut session| {
                    session.push(item);
                    larder_session::Result::Ok(Session::storage_key(&session).as_str().to_owned())
                });
                match added.await as larder_session::Result<String> {
                    Ok(place) => {
                        let mut ledger = ledger.borrow_mut();
                        ledger.acknowledged.insert(item);
                        ledger.together.push((key.into(), place));
                        return;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                }
            }
        }
        Clear(key) => drop(sessions.delete(key).await.unwrap()),
        Use(key) => drop(sessions.get(key).await.unwrap()),
        Expire => {
            stage.turn().await;
            for key in ["a", "b", "c"].map(|key| Key::new(key).unwrap()) {
                if let Some(Expiry::After(_)) = stage.entries().ttl(&key).await.unwrap() {
                    stage.entries().delete(&key).await.unwrap();
                }
            }
        }
    }
}

/// An operation that does not wait.
fn now<T>(work: impl IntoFuture<Output = T>) -> T {
    work.into_future().now_or_never().expect("nothing waits here")
}

impl Scene {
    fn play(&self, versions: Versions, director: &mut dyn Director) {
        let stage = Stage::new(versions);
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        for (item, key) in (0..).zip(self.sessions) {
            now(act(Add(key), item, stage.clone(), self.merge, Rc::clone(&ledger)));
        }
        ledger.borrow_mut().together.clear();
        stage.direct(true);
        let actors = (1..).zip(self.acts).map(|(actor, acts)| {
            let (stage, merge, ledger) = (stage.clone(), self.merge, Rc::clone(&ledger));
            Box::pin(async move {
                for (number, &next) in (0..).zip(*acts) {
                    act(next, actor * 100 + number, stage.clone(), merge, Rc::clone(&ledger)).await;
                }
            }) as Actor
        });
        let actors = actors.collect();
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            perform(actors, director);
            stage.direct(false);
            self.check(&stage, &ledger.borrow());
            // A second call, as after an error, completes the moves.
            for next in self.acts.iter().copied().flatten().filter(|act| matches!(act, Move(..))) {
                now(act(*next, 0, stage.clone(), self.merge, Rc::clone(&ledger)));
                self.check(&stage, &ledger.borrow());
            }
        }));
        if let Err(panic) = played {
            eprintln!("{self:?} with {versions:?}, {ledger:?}");
            for key in ["a", "b", "c"] {
                let record = now(stage.entries().read(Key::new(key).unwrap())).unwrap();
                eprintln!(
                    "{key}: {:?}",
                    record.map(|record| String::from_utf8_lossy(&record.value).into_owned())
                );
            }
            std::panic::resume_unwind(panic);
        }
    }

    fn check(&self, stage: &Stage, ledger: &Ledger) {
        let sessions = sessions(stage, self.merge);
        let keys = ["a", "b", "c"];
        for key in keys {
            let record = now(stage.entries().read(key).with_ttl()).unwrap();
            if let Some(record) = record.filter(|record| record.value.starts_with(b"{\"__larder\"")) {
                assert_eq!(record.expiry, Some(Expiry::Never), "the marker at `{key}` stays");
            }
        }
        let look = |key: &str| {
            let open = now(sessions.open(key)).unwrap();
            (OpenSession::storage_key(&open).as_str().to_owned(), open.clone())
        };
        // Twice, because a read can continue moves.
        for key in keys {
            look(key);
        }
        let seen: BTreeMap<_, _> = keys.iter().map(|key| ((*key).to_owned(), look(key))).collect();
        for (one, other) in &ledger.together {
            assert_eq!(seen[one], seen[other], "`{one}` and `{other}` have met");
        }
        let places: BTreeMap<_, _> = seen.into_values().collect();
        let mut stored: Vec<_> = places.into_values().flatten().collect();
        stored.sort_unstable();
        let distinct: BTreeSet<_> = stored.iter().copied().collect();
        assert_eq!(stored.len(), distinct.len(), "something is there twice: {stored:?}");
        assert!(distinct.is_subset(&ledger.begun), "{distinct:?} of {:?}", ledger.begun);
        let may_lose = |act: &Act| matches!(act, Clear(_) | Expire);
        if !self.acts.iter().copied().flatten().any(may_lose) {
            assert!(
                ledger.acknowledged.is_subset(&distinct),
                "lost: {distinct:?} of {:?}",
                ledger.acknowledged
            );
        }
    }

    fn all(&self, versions: &[Versions], interruptions: usize, deaths: usize) {
        for &versions in versions {
            let mut director = Exhaustive::new(interruptions, deaths);
            loop {
                self.play(versions, &mut director);
                if !director.advance() {
                    break;
                }
            }
        }
    }

    fn draw(&self) {
        // More on request: `LARDER_SCHEDULES=100000`.
        let seeds = std::env::var("LARDER_SCHEDULES").map_or(50, |seeds| seeds.parse().unwrap());
        for &versions in BOTH {
            for seed in 0..seeds {
                let played = std::panic::catch_unwind(|| self.play(versions, &mut Drawn::new(seed)));
                if let Err(panic) = played {
                    eprintln!("the seed was {seed}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

const BOTH: &[Versions] = &[Versions::Unique, Versions::Content];
/// The scenes with many schedules, which detect less.
const CONTENT: &[Versions] = &[Versions::Content];

const SCENES: &[Scene] = &[
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Add("a"), Add("b")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Move("a", "b")], &[Add("b")]] },
    Scene { sessions: &[], merge: false, acts: &[&[Move("a", "b")], &[Add("b")], &[Add("a")]] },
    Scene { sessions: &["b"], merge: false, acts: &[&[Move("a", "b")], &[Add("b")], &[Add("a")]] },
    Scene { sessions: &["a", "b"], merge: false, acts: &[&[Move("a", "b")], &[Add("b")]] },
    Scene { sessions: &["a", "b"], merge: true, acts: &[&[Move("a", "b")], &[Add("a"), Add("b")]] },
    Scene { sessions: &["a", "b"], merge: true, acts: &[&[Move("a", "b")], &[Move("b", "a")], &[Add("b")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Move("b", "a")], &[Add("a")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b"), Move("b", "a")], &[Move("a", "b")]] },
    Scene { sessions: &[], merge: false, acts: &[&[Move("a", "b")], &[Move("b", "a")], &[Add("a")]] },
    Scene { sessions: &["a"], merge: true, acts: &[&[Move("a", "b")], &[Move("b", "c")], &[Add("a")]] },
    Scene { sessions: &["a"], merge: true, acts: &[&[Move("a", "b")], &[Move("a", "c")], &[Add("b")]] },
    Scene { sessions: &["a", "b", "c"], merge: true, acts: &[&[Move("a", "c")], &[Move("b", "c")]] },
    Scene {
        sessions: &["a", "b"],
        merge: true,
        acts: &[&[Move("a", "b")], &[Move("b", "c")], &[Move("c", "a")]],
    },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Clear("a")], &[Add("b")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Clear("b"), Move("b", "a")]] },
    Scene { sessions: &["a", "b"], merge: true, acts: &[&[Move("a", "b")], &[Expire], &[Add("b")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b")], &[Use("a"), Use("b")]] },
    Scene { sessions: &["a", "b"], merge: true, acts: &[&[Move("a", "b")], &[Use("b"), Use("a")]] },
    Scene { sessions: &["a"], merge: false, acts: &[&[Move("a", "b"), Add("a")], &[Use("a")], &[Expire]] },
];

#[test]
fn every_interleaving_keeps_the_laws() {
    for scene in SCENES {
        scene.all(BOTH, 1, 0);
    }
}

#[test]
fn a_crash_at_any_step_keeps_the_laws() {
    for scene in SCENES {
        scene.all(BOTH, 0, 1);
    }
}

#[test]
fn two_interruptions_of_two_processes() {
    for scene in SCENES.iter().filter(|scene| scene.acts.len() == 2) {
        scene.all(CONTENT, 2, 0);
    }
}

#[test]
fn an_interruption_and_a_death() {
    for scene in SCENES.iter().filter(|scene| scene.acts.len() == 2) {
        scene.all(CONTENT, 1, 1);
    }
}

#[test]
fn drawn_schedules() {
    let busy: &[&[Act]] = &[
        &[Move("a", "b"), Move("b", "a"), Move("a", "b")],
        &[Move("b", "a"), Add("a")],
        &[Add("a"), Add("b"), Add("a")],
        &[Move("a", "b"), Add("b")],
    ];
    let circle: &[&[Act]] = &[
        &[Move("a", "b"), Move("b", "c"), Move("c", "a")],
        &[Move("c", "a"), Move("a", "c")],
        &[Add("a"), Add("b"), Add("c")],
        &[Move("b", "c"), Move("a", "b")],
    ];
    let cleared: &[&[Act]] = &[
        &[Move("a", "b"), Move("b", "a"), Move("a", "b")],
        &[Clear("a"), Move("b", "a"), Clear("a")],
        &[Clear("b"), Add("a"), Clear("b")],
        &[Move("a", "b"), Move("b", "c"), Expire],
    ];
    for acts in [busy, circle, cleared] {
        for sessions in [&[][..], &["a"], &["a", "b"]] {
            Scene { sessions, merge: true, acts }.draw();
        }
        Scene { sessions: &["a"], merge: false, acts }.draw();
    }
}
