//! Invalid claims to a session.

use larder_testkit::Context;
use reqwest::Method;
use serde_json::json;

use crate::{
    Stores, start,
    support::{
        MAGIC,
        claims::{forged, malformed},
    },
};

pub(crate) async fn bad_claims_never_reach_the_service(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    for claim in forged(&id).into_iter().chain(malformed(&id)) {
        client.by_query = claim.by_query;
        let answer = client.wx_request(Method::GET, "/open", &claim.names(), None).await;
        assert_eq!(answer.data["error"], "ERR_INVALID_SESSION", "{claim:?}");
        assert_eq!((answer.status, &answer.data[MAGIC]), (200, &json!(1)));
    }
    assert_eq!(service.handled(), 0);
    // The session itself is unchanged.
    client.by_query = false;
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!(client.logins, 1);
}
