//! Answers that DynamoDB gives and the test servers do not: a table that is throttled, and failures of the service.

use larder_core::{Applied, Change, ErrorKind, Expiry, Outcome, ReadOptions};
use larder_testkit::{Fails, Suite};

use crate::{
    place::{Place, key},
    wire::{
        Answer::{Error, Own, Unprocessed},
        Wire, batch,
    },
};

const THROTTLED: crate::wire::Answer = Error(400, "ProvisionedThroughputExceededException");

fn puts(count: usize) -> Vec<Change> {
    (0..count).map(|number| Change::put(key(number), "x", Expiry::Never)).collect()
}

/// The first results are successes. The others fail, and may have been applied.
fn unknown_from(first: usize, results: Vec<Result<Applied, larder_core::Error>>) {
    for (number, result) in results.into_iter().enumerate() {
        if number < first {
            result.unwrap();
        } else {
            let error = result.fails(ErrorKind::Unavailable, "not processed");
            assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        }
    }
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("a_throttled_request_is_sent_again", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            wire.answer([THROTTLED, THROTTLED]);
            store.write(key("k"), "x").await.unwrap();
            assert_eq!(wire.requests().len(), 3);
            wire.answer([Error(400, "ThrottlingException")]);
            assert_eq!(store.read(key("k")).await.unwrap().unwrap().value, "x");
            assert_eq!(wire.requests().len(), 2);
        })
        .case("a_request_that_stays_throttled_is_not_applied", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            wire.answer(vec![THROTTLED; 10]);
            let error = store.write(key("k"), "x").await.fails(ErrorKind::Unavailable, "it is throttled");
            assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
            assert!(error.is_retryable() && error.message().contains("throttled"), "{error}");
            assert_eq!(wire.requests().len(), 10);
        })
        .case("a_change_that_failed_in_the_service_is_not_sent_again", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            for (number, (status, code)) in
                [(500, "InternalServerError"), (503, "ServiceUnavailable"), (504, "none")].iter().enumerate()
            {
                wire.answer([Error(*status, code)]);
                let written = store.write(key(number), "x").if_absent().await;
                let error = written.fails(ErrorKind::Unavailable, code);
                assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
                assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
                assert_eq!(wire.requests().len(), 1, "{code}");
                // It was applied: a second request would have found its own entry, and reported a conflict.
                assert!(store.read(key(number)).await.unwrap().is_some(), "{code}");
                wire.requests();
            }
        })
        .case("puts_that_were_not_processed_are_sent_again", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            wire.answer([Unprocessed(20), Unprocessed(20), Unprocessed(1)]);
            assert!(store.apply(puts(25)).await.iter().all(Result::is_ok));
            let sizes = wire.requests().into_iter().map(|(operation, request)| {
                assert_eq!(operation, "BatchWriteItem");
                batch(&request).len()
            });
            assert_eq!(sizes.collect::<Vec<_>>(), [25, 20, 20, 1]);
        })
        .case("puts_that_are_never_processed_have_an_unknown_outcome", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "timeout=1s").await;
            wire.answer(vec![Unprocessed(5); 200]);
            let results = store.apply(puts(25)).await;
            // DynamoDB returns the rest in any order. Here it is the end of the request.
            unknown_from(20, results);
            wire.answer(vec![Unprocessed(25); 200]);
            unknown_from(0, store.apply(puts(25)).await);
        })
        .case("a_batch_that_fails_after_a_part_of_it_is_unknown_only_for_the_rest", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            wire.answer([Unprocessed(5), Error(500, "InternalServerError")]);
            unknown_from(20, store.apply(puts(25)).await);
            // The rejection of the second request does not prove that the first one did nothing.
            wire.answer([Unprocessed(5), Error(400, "AccessDeniedException")]);
            let results = store.apply(puts(25)).await;
            let error = results[24].clone().fails(ErrorKind::PermissionDenied, "the second request");
            assert!(results[..20].iter().all(Result::is_ok) && error.outcome() == Outcome::Unknown);
            wire.answer([Unprocessed(5)].into_iter().chain(vec![THROTTLED; 10]));
            unknown_from(20, store.apply(puts(25)).await);
        })
        .case("keys_that_were_not_read_are_read_again", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            // More than DynamoDB returns in one answer: 16 MB.
            let value = vec![7; 300_000];
            for change in puts(60) {
                store.write(change.key, value.clone()).await.unwrap();
            }
            wire.requests();
            let keys: Vec<_> = (0..60).map(key).collect();
            for record in store.read_many(&keys, &ReadOptions::new()).await {
                assert_eq!(record.unwrap().unwrap().value.len(), value.len());
            }
            assert!(wire.requests().len() > 1);
        })
        .case("reads_that_progress_are_not_throttled", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "timeout=1s").await;
            // With the pauses, this takes longer than the timeout.
            wire.answer((1..30).rev().map(Unprocessed));
            let keys: Vec<_> = (0..30).map(key).collect();
            assert!(store.read_many(&keys, &ReadOptions::new()).await.iter().all(Result::is_ok));
            let sizes = wire.requests().into_iter().map(|(_, request)| batch(&request).len());
            assert_eq!(sizes.collect::<Vec<_>>(), (1..=30).rev().collect::<Vec<_>>());
        })
        .case("keys_that_are_never_read_are_errors", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "timeout=1s").await;
            wire.answer(vec![Unprocessed(5); 200]);
            let keys: Vec<_> = (0..5).map(key).collect();
            for result in store.read_many(&keys, &ReadOptions::new()).await {
                let error = result.fails(ErrorKind::Unavailable, "never read");
                assert!(error.message().contains("throttled"), "{error}");
            }
        })
        .case("expired_credentials_are_a_missing_permission", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            for code in ["ExpiredTokenException", "UnrecognizedClientException", "AccessDeniedException"] {
                wire.answer([Error(400, code)]);
                let error = store.write(key("k"), "x").await.fails(ErrorKind::PermissionDenied, code);
                assert_eq!((error.outcome(), wire.requests().len()), (Outcome::NotApplied, 1), "{error}");
            }
            wire.answer([Own]);
            store.write(key("k"), "x").await.unwrap();
        })
}
