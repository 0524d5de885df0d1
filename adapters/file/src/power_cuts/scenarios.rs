//! Sequences of operations.

use super::{
    model::{Do, If},
    run::{A, B, C, Files, LONG, Step},
};

/// A sequence of steps, and those before the record starts.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) before: Vec<Step>,
    pub(super) steps: Vec<Step>,
}

fn put(key: &'static str, value: &str, ttl: Option<u64>) -> Do {
    Do::Put(key, value.to_owned(), ttl, If::Any)
}

/// Returns JSON text of this length.
fn long_value(length: usize) -> String {
    format!("\"{}\"", "v".repeat(length - 2))
}

/// Returns the operations of process `process`, without those that the files do not support.
fn by(process: usize, operations: Vec<Do>) -> impl Iterator<Item = Step> {
    operations.into_iter().map(move |operation| Step::Do(process, operation))
}

/// Returns the steps after which the entry under [`A`] exists, or only the directories do.
pub(super) fn before(files: Files, exists: bool) -> Vec<Step> {
    let ttl = (files != Files::Grammy).then_some(7200);
    let mut steps = vec![Step::Open(0)];
    steps.extend(exists.then(|| Step::Do(0, put(A, "[1]", ttl))));
    steps
}

/// Returns all operations that report a change of the entry under [`A`].
pub(super) fn changes(files: Files) -> Vec<Do> {
    let put = |value: &str, ttl, condition| Do::Put(A, value.to_owned(), ttl, condition);
    let mut all = vec![
        put("[2]", None, If::Any),
        put("[2]", Some(0), If::Any),
        put("[3]", Some(600), If::Absent),
        put("[3]", None, If::Absent),
        put("[3]", None, If::Present),
        put("[3]", None, If::Unchanged),
        Do::Delete(A, If::Any),
        Do::Delete(A, If::Unchanged),
        Do::Touch(A, Some(600), If::Any),
        Do::Touch(A, Some(600), If::Present),
        Do::Touch(A, Some(0), If::Any),
        Do::Read(A, Some(600)),
        Do::Apply(vec![put("[4]", None, If::Any), put("[5]", None, If::Unchanged), Do::Delete(B, If::Any)]),
        Do::Apply(vec![Do::Delete(A, If::Any), Do::Put(B, "[4]".to_owned(), None, If::Any)]),
        Do::Clear,
    ];
    if files != Files::Grammy {
        all.push(Do::Apply(vec![Do::Touch(A, Some(600), If::Any)]));
    }
    all.retain(|change| files != Files::Grammy || !change.expires());
    all
}

/// Returns the scenarios for these files.
pub(super) fn of(files: Files) -> Vec<Scenario> {
    let ttl = |seconds| (files != Files::Grammy).then_some(seconds);
    let open = || vec![Step::Open(0)];
    let after = |operations: Vec<Do>| {
        let saved = (files == Files::Snapshot).then_some(Step::Flush(0));
        open().into_iter().chain(by(0, operations)).chain(saved).collect::<Vec<_>>()
    };
    if files == Files::Snapshot {
        let flush = || [Step::Flush(0)];
        let steps = |parts: Vec<Do>| by(0, parts).chain(flush()).collect::<Vec<_>>();
        return vec![
            Scenario {
                name: "first creation",
                before: Vec::new(),
                steps: [
                    open(),
                    steps(vec![put(A, "[1]", None), put(B, "[2]", ttl(600))]),
                    vec![Step::Close(0)],
                ]
                .concat(),
            },
            Scenario {
                name: "flushes",
                before: after(vec![put(A, "[1]", None)]),
                steps: [
                    steps(vec![put(A, "[2]", ttl(600)), put(LONG, &long_value(1500), None)]),
                    steps(vec![Do::Delete(A, If::Any), Do::Touch(LONG, ttl(7200), If::Any)]),
                    steps(vec![Do::Clear]),
                    steps(vec![put(B, "[3]", ttl(0)), put(C, "[4]", None)]),
                ]
                .concat(),
            },
            Scenario {
                name: "processes after each other",
                before: after(vec![put(A, "[1]", None)]),
                steps: [
                    steps(vec![put(B, "[2]", None)]),
                    vec![Step::Close(0), Step::Open(0)],
                    steps(vec![Do::Delete(A, If::Any)]),
                    by(0, vec![put(C, "[3]", None)]).collect(),
                    vec![Step::Drop(0), Step::Open(0)],
                    flush().to_vec(),
                    by(0, vec![put(C, "[4]", None)]).collect(),
                    vec![Step::Close(0)],
                ]
                .concat(),
            },
            Scenario {
                name: "more than one buffer",
                before: after(vec![put(A, "[1]", None)]),
                steps: steps(vec![put(B, &long_value(70_000), None)]),
            },
        ];
    }
    vec![
        Scenario {
            name: "first creation",
            before: Vec::new(),
            steps: [
                open(),
                by(0, vec![put(A, "[1]", None), put(B, "[2]", ttl(600))]).collect(),
                vec![Step::Close(0)],
            ]
            .concat(),
        },
        Scenario {
            name: "conditions",
            before: after(vec![put(A, "[1]", None), put(C, "[1]", ttl(600))]),
            steps: by(
                0,
                vec![
                    Do::Put(A, "[2]".to_owned(), ttl(7200), If::Unchanged),
                    Do::Put(A, "[3]".to_owned(), None, If::Absent),
                    Do::Delete(C, If::Unchanged),
                    Do::Put(C, "[4]".to_owned(), None, If::Absent),
                    Do::Delete(C, If::Any),
                ],
            )
            .collect(),
        },
        Scenario {
            name: "touches",
            before: after(vec![put(A, "[1]", ttl(600)), put(B, "[1]", ttl(7200))]),
            steps: by(
                0,
                vec![
                    Do::Touch(A, Some(7200), If::Any),
                    Do::Read(B, Some(600)),
                    Do::Touch(A, None, If::Unchanged),
                    put(B, "[2]", ttl(600)),
                    Do::Touch(A, Some(0), If::Any),
                    Do::Put(A, "[3]".to_owned(), None, If::Absent),
                ],
            )
            .collect(),
        },
        Scenario {
            name: "batches and a clear",
            before: after(vec![put(A, "[1]", None), put(B, "[1]", None)]),
            steps: by(
                0,
                vec![
                    Do::Apply(vec![
                        put(A, "[2]", None),
                        Do::Delete(B, If::Any),
                        put(C, "[2]", None),
                        put(A, "[3]", None),
                    ]),
                    Do::Clear,
                    Do::Apply(vec![put(B, "[4]", None), put(A, "[4]", ttl(600))]),
                ],
            )
            .collect(),
        },
        Scenario {
            name: "two processes",
            before: [after(vec![put(A, "[1]", None)]), vec![Step::Open(1)]].concat(),
            steps: [
                by(0, vec![put(A, "[2]", ttl(600))]).collect::<Vec<_>>(),
                by(1, vec![Do::Delete(A, If::Any), put(B, "[2]", None)]).collect(),
                by(0, vec![Do::Put(A, "[3]".to_owned(), ttl(600), If::Absent)]).collect(),
                by(1, vec![Do::Touch(A, Some(7200), If::Present)]).collect(),
                vec![Step::Close(0), Step::Close(1), Step::Open(1)],
                by(1, vec![put(A, "[4]", None)]).collect(),
            ]
            .concat(),
        },
        Scenario {
            name: "sweeps",
            before: after(vec![put(A, "[1]", ttl(0)), put(B, "[1]", ttl(600)), put(C, "[1]", ttl(600))]),
            steps: by(
                0,
                vec![
                    Do::Touch(C, Some(0), If::Any),
                    Do::Purge,
                    put(A, "[2]", None),
                    Do::Delete(B, If::Any),
                    Do::Purge,
                    Do::Put(C, "[2]".to_owned(), None, If::Absent),
                ],
            )
            .collect(),
        },
        Scenario {
            name: "long values and keys",
            before: after(vec![put(A, "[1]", None), put(LONG, "[1]", ttl(600))]),
            steps: by(
                0,
                vec![
                    put(A, &long_value(1500), None),
                    put(LONG, &long_value(700), ttl(600)),
                    Do::Touch(LONG, Some(7200), If::Any),
                    put(A, &long_value(70_000), None),
                    Do::Delete(LONG, If::Any),
                ],
            )
            .collect(),
        },
    ]
}
