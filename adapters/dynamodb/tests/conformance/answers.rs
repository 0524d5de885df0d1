//! Answers that DynamoDB gives and the test servers do not: a table that is throttled, and failures of the service.

use larder_core::{Change, ErrorKind, Expiry, Outcome, ReadOptions};
use larder_testkit::{Fails, Suite};

use crate::{
    place::{Place, key},
    wire::{
        Answer::{Error, Own, Unprocessed},
        Wire,
    },
};

const THROTTLED: crate::wire::Answer = Error(400, "ProvisionedThroughputExceededException");

fn puts(count: usize) -> Vec<Change> {
    (0..count).map(|number| Change::put(key(number), "x", Expiry::Never)).collect()
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
                request["RequestItems"]
                    .as_object()
                    .unwrap()
                    .values()
                    .next()
                    .unwrap()
                    .as_array()
                    .unwrap()
                    .len()
            });
            assert_eq!(sizes.collect::<Vec<_>>(), [25, 20, 20, 1]);
        })
        .case("puts_that_are_never_processed_are_not_applied", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "timeout=1s").await;
            wire.answer(vec![Unprocessed(5); 200]);
            let results = store.apply(puts(25)).await;
            // DynamoDB returns the rest in any order. Here it is the end of the request.
            let failed: Vec<_> = results.into_iter().map(Result::err).collect();
            assert!(failed[..20].iter().all(Option::is_none));
            for error in &failed[20..] {
                let error = error.clone().unwrap();
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
            }
        })
        .case("a_batch_that_fails_after_a_part_of_it_is_unknown_only_for_the_rest", |context| async move {
            let wire = Wire::default();
            let store = wire.store(&context.factory, context.target.space(), "").await;
            wire.answer([Unprocessed(5), Error(500, "InternalServerError")]);
            let results = store.apply(puts(25)).await;
            assert!(results[..20].iter().all(Result::is_ok));
            for result in &results[20..] {
                let error = result.clone().fails(ErrorKind::Unavailable, "the service failed");
                assert_eq!(error.outcome(), Outcome::Unknown);
            }
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
