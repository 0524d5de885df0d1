//! The user's identity comes from WeChat's server, not from the user data: they are not signed and the client
//! chooses the IV, so it can change their first block.

use larder_testkit::Context;
use larder_wechat::Protocol;
use serde_json::json;

use crate::{
    Stores, start, storage,
    support::{
        IV, OPEN_ID, UNION_ID,
        cipher::{encrypt, other_iv},
        service::Service,
    },
};

const ANOTHER_USERS: &str = "the user data belong to another user";
/// The user that the client wants to be.
const VICTIM: &str = "oVictimVictimVictimVictim_28";

/// Returns data that WeChat has encrypted and that begin with `"nickName"`, and an IV that changes the
/// beginning to `field` with the victim's id. The client only needs a nickname of its choice.
fn forge(field: &str) -> (String, String) {
    let wanted = format!("{{\"{field}\":\"{VICTIM}");
    let (first, rest) = wanted.split_at(16);
    let data = encrypt(&format!(r#""nickName":"abc{rest}","gender":1"#));
    (data, other_iv(r#"{"nickName":"abc"#, first))
}

pub(crate) async fn a_forged_user_is_refused(context: Context<Stores>) {
    let service = start(&context).await;
    let refused = (200, ANOTHER_USERS.to_owned());
    let (data, iv) = forge("openId");
    assert_eq!(service.refuses("ok-open", &data, &iv).await, refused);
    let (data, iv) = forge("unionId");
    assert_eq!(service.refuses("union-1", &data, &iv).await, refused);
    // Data that WeChat has encrypted for another user.
    for (code, fields) in [
        ("ok-1", format!(r#""openId":"{VICTIM}""#)),
        ("ok-2", r#""openId":null"#.to_owned()),
        ("ok-3", format!(r#""openId":"{OPEN_ID}","openId":"{VICTIM}""#)),
        ("union-2", format!(r#""openId":"{OPEN_ID}","unionId":"{VICTIM}""#)),
    ] {
        assert_eq!(service.refuses(code, &encrypt(&fields), IV).await, refused, "{fields}");
    }
    assert_eq!(service.handled(), 0);
}

pub(crate) async fn a_forged_user_is_refused_by_version_2(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.protocol(Protocol::Wafer2)).await;
    let mut client = service.client();
    (client.data, client.iv) = forge("openId");
    let failed = client.login2(true).await.unwrap_err();
    assert_eq!((failed.kind.as_str(), failed.message.as_str()), ("ERR_IN_DECRYPT_DATA", ANOTHER_USERS));
    assert_eq!(service.storage.clear("").await.unwrap(), 0, "no user is remembered");
}

pub(crate) async fn data_without_ids_get_them_from_the_exchange(context: Context<Stores>) {
    let service = start(&context).await;
    for (code, union_id) in [("ok-1", json!(null)), ("union-1", json!(UNION_ID))] {
        let mut client = service.client();
        client.code = Box::new(|| code.to_owned());
        client.data = encrypt(r#""nickName":"Band""#);
        assert_eq!(client.get("/me").await.unwrap().data["openId"], OPEN_ID);
        let user = &service.stored(&client.id()).await.unwrap()["userInfo"];
        assert_eq!((&user["openId"], &user["unionId"]), (&json!(OPEN_ID), &union_id));
    }
    // The sample names the same user as the exchange.
    let mut client = service.client();
    client.code = Box::new(|| "union-2".to_owned());
    assert_eq!(client.get("/me").await.unwrap().data["openId"], OPEN_ID);
}

pub(crate) async fn an_exchange_without_a_user_is_invalid(context: Context<Stores>) {
    let service = start(&context).await;
    let unreadable = (502, "WeChat's server returned an invalid answer".to_owned());
    for code in ["anonymous-1", "nameless-1"] {
        assert_eq!(service.refuses(code, &encrypt(r#""nickName":"Band""#), IV).await, unreadable, "{code}");
    }
}
